// SPDX-License-Identifier: BSD-3-Clause
// WalkOrders: which lost role a spare takes, and for which it waits.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/deciding/member_orders.h"
#include "engine/deciding/walk_orders.h"
#include "parity/require.h"

namespace braid {

/// The lost member alone has rows that it can give back. A rebuild onto another disk would give
/// them up, and nobody has ordered that.
bool WalkOrders::is_awaited(MemberIndex member) const {
    if (!roster_.is_lost_role(member) || given_up_.has(member)) return false;
    return std::ranges::any_of(configuration_.bad_rows, [member](const BadRange& range) {
        return range.member == member && range.kind == BadKind::retry;
    });
}

std::string WalkOrders::why_spare_waits(MemberIndex member) const {
    const std::string& path = configuration_.member(member)->path;
    const std::string spare =
        roster_.spares().empty() ? std::string("SPARE") : roster_.spares().back().disk->info().path;
    return fmt::format(
        "{} bytes are known to {} alone, and a rebuild onto a spare would give them up. Give that "
        "member back ({}). If it is gone for good: braid member remove {}, then "
        "braid member replace {} {} --force. The spare takes its place by itself when all of these "
        "bytes were written anew (braid volume bad)",
        unknown_.bytes_to_retry(member), roster_.text_of_role(member),
        order_text("braid member add " + (path.empty() ? std::string("PATH") : path)), spare,
        raw(member), spare);
}

/// Until when its member may be back before a spare takes the role; none: nobody waits for that.
std::optional<Nanos> WalkOrders::awaited_until(MemberIndex member) const {
    const auto away = away_.find(member);
    const MemberRecord& at = record(member);
    if (away == away_.end() || at.state != MemberState::missing) return std::nullopt;
    const Nanos until{away->second.since.value + options_.rebuild_delay.value};
    if (away->second.uuid != at.uuid || clock_.now() >= until) return std::nullopt;
    return until;
}

/// A member that did not fail is back soon, mostly, as after a reboot of its node: then it needs less
/// than a spare. One that an operator removed is not waited for.
bool WalkOrders::is_only_away(MemberIndex member) {
    const MemberRecord& at = record(member);
    if (options_.rebuild_delay.value == 0) return false;
    if (at.state != MemberState::missing || at.path.empty()) {
        away_.erase(member);
        return false;
    }
    Away& away = away_[member];
    if (away.uuid != at.uuid) {
        away = {at.uuid, clock_.now()};
        tell(Severity::info, "spare_held",
             fmt::format("no spare takes the place of {} yet: {}", roster_.text_of_role(member),
                         why_spare_is_held(member)));
    }
    const std::optional<Nanos> until = awaited_until(member);
    if (!until) return false;
    if (!std::exchange(looks_again_, true)) tasks_.spawn(look_again_at(*until));
    return true;
}

std::string WalkOrders::why_spare_is_held(MemberIndex member) const {
    return fmt::format(
        "it may be back within {} s (rebuild_delay), and then needs less than a spare ({}). If it is "
        "gone for good: {}",
        options_.rebuild_delay.value / 1'000'000'000,
        order_text("braid member add " + record(member).path),
        order_text(fmt::format("braid member remove {}", raw(member))));
}

Task<void> WalkOrders::look_again_at(Nanos time) {
    if (stage_.quiescing) co_return;  // it had not begun as that was told
    Timer timer(clock_, time);
    spare_waiting_ = &timer;
    co_await timer;
    spare_waiting_ = nullptr;
    looks_again_ = false;
    work_.set();
}

/// What was under way on another disk of its node ends soon, or never.
Task<void> WalkOrders::pass_over(Uuid spare, MemberIndex member) {
    BRAID_REQUIRE(spares_passed_over_.contains(spare));
    const Spare* const passed = roster_.find_spare(spare);
    if (passed != nullptr && spares_refused_.insert(spare).second) {
        tell(
            Severity::info, "spare_refused",
            fmt::format(
                "{} cannot take the place of {} yet: its node has writes under way on a disk that was "
                "lost, or does not answer. It is tried again by itself; another spare comes before it",
                passed->disk->info().path, roster_.text_of_role(member)));
    }
    if (!stage_.quiescing) {
        Pause pause(spare_pauses_, Nanos{pause_first});
        co_await pause;
    }
    spares_passed_over_.erase(spare);
    work_.set();
}

/// The newest whose node is there, and could give it a role.
std::optional<Uuid> WalkOrders::next_spare() const {
    const std::vector<Spare>& spares = roster_.spares();
    for (auto at = spares.rbegin(); at != spares.rend(); ++at) {
        const Uuid& uuid = at->metadata.uuid;
        if (spares_passed_over_.contains(uuid)) continue;
        if (!at->silent && serving_.is_there(*at->disk)) return uuid;
    }
    return std::nullopt;
}

/// Gives a spare the first lost role whose member nobody has to wait for; the member that had it is
/// closed.
Task<void> WalkOrders::use_spare() {
    if (!losses_are_recorded()) co_return;
    if (orders_.busy() || roster_.spares().empty() || members_.failed()) co_return;
    if (options_.readonly) co_return;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const MemberIndex member{i};
        if (!roster_.is_lost_role(member)) continue;
        if (is_awaited(member)) {
            if (spare_told_.has(MemberIndex{i})) continue;
            spare_told_.add(MemberIndex{i});
            tell(Severity::warning, "spare_waits",
                 fmt::format("no spare takes the place of member {}: {}", i,
                             why_spare_waits(member)));
            continue;
        }
        if (is_only_away(member)) continue;
        const std::optional<Uuid> next = next_spare();
        if (!next) co_return;
        const MemberOrders::Busy guard(orders_);
        co_await roster_.close_slot(member);
        const Spare* chosen = roster_.find_spare(*next);
        if (chosen == nullptr || chosen->silent) co_return;
        const DataArea area = configuration_.member(*next)->area();
        if (!co_await serving_.prepare(member, *chosen->disk, area)) {
            spares_passed_over_.insert(*next);
            tasks_.spawn(pass_over(*next, member));
            co_return;
        }
        spares_refused_.erase(*next);
        while (!writer_.is_written()) {
            if (!co_await writer_.wait_durable(writer_.changes())) co_return;
        }
        if (members_.failed()) co_return;
        if (is_awaited(member)) co_return;  // another loss has listed rows of it
        // Its node may have gone meanwhile: then who decides about that rings.
        chosen = roster_.find_spare(*next);
        if (!losses_are_recorded() || chosen == nullptr || chosen->silent) co_return;
        if (!serving_.is_there(*chosen->disk)) co_return;
        Spare spare = roster_.take_spare(*chosen);
        orders_.fill_role(member, std::move(spare));
        writer_.changed();
        co_return;
    }
}

}  // namespace braid
