// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/epochs/told_nodes.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/epochs/window_words.h"
#include "engine/base/limits.h"
#include "engine/metadata/config_check.h"
#include "engine/metadata/config_text.h"

namespace braid::cluster {
namespace {

Words words_of(WindowRange doubtful) {
    return {{"tell", "doubt"}, {"begin", raw(doubtful.begin)}, {"end", raw(doubtful.end)}};
}

Words words_of(Witness expected) {
    return {{"tell", "witness"}, {"answers", expected == Witness::promised}};
}

}  // namespace

std::vector<Words> words_of_marked(const std::vector<IntentEntry>& marked) {
    std::vector<Words> all;
    for (std::size_t at = 0; at < marked.size(); at += marks_told_max) {
        Words words = telling("marked");
        words["entries"] = Words::array();
        for (std::size_t i = at; i != std::min(marked.size(), at + marks_told_max); ++i) {
            words["entries"].push_back({marked[i].volume, marked[i].count, raw(marked[i].first)});
        }
        all.push_back(std::move(words));
    }
    return all;
}

Words words_of(const Configuration& configuration) {
    ConfigSlot slot;
    slot.member = configuration.array;
    slot.configuration = configuration;
    for (MemberRecord& at : slot.configuration.members) at.path = path_to_keep(at.path);
    return Words::parse(to_json_text(slot));
}

Checked<Configuration> configuration_of(const Words& words) {
    BRAID_TRY(ConfigSlot slot, from_json_text(words.dump()));
    return std::move(slot.configuration);
}

void ToldNodes::let_in(std::uint32_t node) {
    BRAID_REQUIRE(told_.has_value() && !setup_.own.members().owes());
    BRAID_REQUIRE(std::ranges::count(setup_.others, node) == 0);
    Talk& talk = setup_.talk;
    talk.tell(node, {{"tell", "adopt"}, {"configuration", words_of(*told_)}});
    talk.tell(node, {{"tell", "in_force"}, {"configuration", words_of(*told_)}});
    talk.tell(node, words_of(setup_.own.members().witness()));
    for (const WindowRange& range : setup_.own.members().doubt().ranges()) {
        talk.tell(node, words_of(range));
    }
    for (const Words& marked : words_of_marked(setup_.own.intent().carried())) {
        talk.tell(node, marked);
    }
    talk.tell(node, {{"tell", "resync_comes"}, {"comes", resync_comes_}});
    setup_.others.push_back(node);
}

void ToldNodes::tell_all(const Words& words) {
    for (const std::uint32_t node : setup_.others) setup_.talk.tell(node, words);
}

Task<Result<void>> ToldNodes::ask_all(const Words& words) {
    return wait_for(setup_.talk.ask_all(setup_.others, words));
}

Task<Result<void>> ToldNodes::wait_for(Asked asked) {
    const std::vector<Checked<Words>> answers = co_await asked;
    const bool all = std::ranges::all_of(answers, &Checked<Words>::has_value);
    if (all) co_return Result<void>{};
    co_return Error{Errc::failed, "node"};
}

void ToldNodes::adopt(const Configuration& wanted) {
    setup_.own.adopt(wanted);
    setup_.adopted_here(wanted);
    if (told_ == wanted) return;
    told_ = wanted;
    tell_all({{"tell", "adopt"}, {"configuration", words_of(wanted)}});
}

Task<Result<void>> ToldNodes::adopted() { return ask_all(asking("adopted")); }

void ToldNodes::member_lost(MemberIndex member, MemberState state) {
    setup_.own.member_lost(member, state);
    tell_all({{"tell", "lost"}, {"member", raw(member)}, {"state", std::string(text_of(state))}});
    setup_.lost_here(member);
}

/// It is older than what was adopted last, perhaps: so it goes as it is.
void ToldNodes::in_force(const Configuration& now, std::uint64_t loss_version) {
    setup_.own.in_force(now, loss_version);
    setup_.in_force_here(now);
    tell_all({{"tell", "in_force"}, {"configuration", words_of(now)}});
}

void ToldNodes::expect_of_witness(Witness expected) {
    setup_.own.expect_of_witness(expected);
    if (std::exchange(told_witness_, expected) != expected) tell_all(words_of(expected));
}

void ToldNodes::set_owing(bool owing) {
    setup_.own.set_owing(owing);
    tell_all({{"tell", "owing"}, {"owing", owing}});
}

void ToldNodes::halt() {
    setup_.own.halt();
    tell_all({{"tell", "halt"}});
}

void ToldNodes::array_failed() {
    setup_.own.array_failed();
    tell_all({{"tell", "failed"}});
}

void ToldNodes::attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) {
    setup_.attach(member, std::move(disk), area);
    const auto& behind = setup_.own.members().slot(member).behind;
    if (!behind) return;
    for (const Words& words : words_of_behind(member, *behind)) tell_all(words);
}

std::unique_ptr<Disk> ToldNodes::detach(MemberIndex member) {
    std::unique_ptr<Disk> disk = setup_.own.detach(member);
    tell_all({{"tell", "detach"}, {"member", raw(member)}});
    return disk;
}

void ToldNodes::add_doubt(WindowRange windows) {
    setup_.own.add_doubt(windows);
    tell_all(words_of(windows));
}

void ToldNodes::trust_all() {
    setup_.own.trust_all();
    tell_all({{"tell", "trust_all"}});
}

void ToldNodes::set_resync_comes(bool comes) {
    setup_.own.set_resync_comes(comes);
    resync_comes_ = comes;
    tell_all({{"tell", "resync_comes"}, {"comes", comes}});
}

void ToldNodes::retire_marks(StripeIndex before) {
    setup_.own.retire_marks(before);
    tell_all({{"tell", "retire_marks"}, {"before", raw(before)}});
}

void ToldNodes::set_region(std::uint64_t region) {
    setup_.own.set_region(region);
    tell_all({{"tell", "region"}, {"bytes", region}});
}

Task<Result<void>> ToldNodes::begin_marks() {
    Result<void> begun = co_await setup_.own.begin_marks();
    if (begun) begun = co_await ask_all(asking("mark"));
    // Marks of some nodes only are none: the configuration says what all do.
    if (!begun) end_marks();
    co_return begun;
}

Task<Result<void>> ToldNodes::write_all_marks() {
    Asked others = setup_.talk.ask_all(setup_.others, asking("write_marks"));
    Result<void> kept = co_await setup_.own.write_marks();
    const Result<void> kept_elsewhere = co_await wait_for(std::move(others));
    // Some member did not take one, or a node is just going: it is tried again.
    if (kept && !kept_elsewhere) kept = Error{Errc::io, "write intent"};
    co_return kept;
}

void ToldNodes::end_marks() {
    setup_.own.end_marks();
    tell_all({{"tell", "end_marks"}});
}

}  // namespace braid::cluster
