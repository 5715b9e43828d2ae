// SPDX-License-Identifier: BSD-3-Clause
#include "tests/cluster/register_watch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/metadata/config_slot.h"
#include "engine/metadata/promise_slot.h"

namespace braid::test {
namespace {

template <std::size_t N>
bool has_changed(std::array<std::byte, N>& head, ByteView bytes) {
    const bool same = std::memcmp(head.data(), bytes.data(), N) == 0;
    std::memcpy(head.data(), bytes.data(), N);
    return !same;
}

}  // namespace

std::string RegisterWatch::look_at(const std::shared_ptr<sim::SimPlatter>& platter) {
    Member& member = members_[platter.get()];
    if (!member.platter) member.platter = platter;
    if (member.changes == platter->changes) return {};
    member.changes = platter->changes;
    // Slots first: what was stored since the last look may be of the epoch promised then, and the
    // member has promised a newer one after it.
    std::string why = look_at_slots(member);
    return why.empty() ? look_at_promises(member) : why;
}

std::string RegisterWatch::look_at_slots(Member& member) {
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        const ByteView bytes = member.platter->content.view().subspan(slot_offset(slot), slot_size);
        if (!has_changed(member.slots[slot], bytes)) continue;
        const Result<ConfigSlot, Finding> found = decode_slot(bytes, slot);
        if (!found) continue;  // torn, or wiped
        const Configuration& stored = found->configuration;
        const bool is_new = found->sequence > member.sequence;
        member.sequence = std::max(member.sequence, found->sequence);
        if (is_new && stored.version.epoch < member.promise) {
            return fmt::format("a member stores {} though it has promised {}",
                               stored.version.text(), member.promise);
        }
        if (stored.version < stored.in_force) {
            return fmt::format("{} says that {} was in force before it", stored.version.text(),
                               stored.in_force.text());
        }
        if (std::string why = note(stored); !why.empty()) return why;
        if (std::string why = look_at_chain(stored); !why.empty()) return why;
    }
    return {};
}

std::string RegisterWatch::look_at_promises(Member& member) {
    std::uint64_t highest = 0;
    std::uint64_t durable = 0;
    for (std::uint32_t slot = 0; slot != promise_slot_count; ++slot) {
        const std::uint64_t at = promise_slot_offset(slot);
        const ByteView bytes = member.platter->content.view().subspan(at, promise_slot_size);
        const Result<Promise, Finding> found = decode_promise(bytes, slot);
        if (!found) continue;
        highest = std::max(highest, found->epoch);
        // A process that was killed as it promised has left that in a cache, and nobody has an answer.
        const bool is_cached =
            std::ranges::any_of(member.platter->unflushed, [at](const auto& write) {
                return write.offset < at + promise_slot_size &&
                       at < write.offset + write.after.size();
            });
        if (!is_cached) durable = std::max(durable, found->epoch);
    }
    // What was promised before it held anything binds nobody: the next one who takes it in, after the
    // first was cut short, wipes it, and makes it another member.
    const bool was_member = member.sequence != 0;
    if (highest < member.promise && was_member) {
        return fmt::format("a member had promised {}, and now {}", member.promise, highest);
    }
    member.promise = was_member ? std::max(member.promise, durable) : durable;
    return {};
}

EpochRevision RegisterWatch::Chain::known_before(EpochRevision version) const {
    EpochRevision known;
    for (const auto& [at, says] : in_force) {
        if (at < version) known = std::max(known, says);
    }
    return known;
}

/// Those that were in force form one chain: what is in force is on enough members, and so whatever is newer
/// knows what it knew. Two that came into force beside each other would not.
std::string RegisterWatch::look_at_chain(const Configuration& configuration) {
    Chain& chain = chains_[configuration.lineage];
    chain.stored.emplace(configuration.version, configuration.in_force);
    const auto of = chain.stored.find(configuration.in_force);
    const bool is_news = of != chain.stored.end() && chain.in_force.insert(*of).second;
    const auto why = [&](const auto& stored) {
        const EpochRevision known = chain.known_before(stored.first);
        if (stored.second >= known) return std::string();
        return fmt::format("{} says that {} was in force, and before it {} was known to be",
                           stored.first.text(), stored.second.text(), known.text());
    };
    if (!is_news) return why(*chain.stored.find(configuration.version));
    for (auto at = chain.stored.upper_bound(of->first); at != chain.stored.end(); ++at) {
        if (std::string is_wrong = why(*at); !is_wrong.empty()) return is_wrong;
    }
    return {};
}

std::string RegisterWatch::note(const Configuration& configuration) {
    const auto [at, is_new] = contents_.try_emplace(configuration.version, configuration);
    if (is_new || at->second == configuration) return {};
    const std::string before = to_json_text({0, {}, {}, at->second});
    const std::string now = to_json_text({0, {}, {}, configuration});
    const auto differs = std::ranges::mismatch(before, now).in1 - before.begin();
    const auto from = static_cast<std::size_t>(std::max<std::ptrdiff_t>(0, differs - 60));
    return fmt::format("{} is another one than it was before: {}, then {}",
                       configuration.version.text(), before.substr(from, 160),
                       now.substr(from, 160));
}

}  // namespace braid::test
