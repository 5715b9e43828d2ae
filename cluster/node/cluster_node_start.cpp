// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: who is waited for at the start. All nodes are; or an operator says without which the array
// is to start; or those that are there have waited for long enough, and what the others hold is not
// needed to tell what any row holds: then they start without them by themselves.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/homes/remote_disk.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "engine/assembly/assembly.h"
#include "engine/assembly/content.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"

namespace braid::cluster {

/// At this node: those are not here, and it waits for them.
Checked<Unit> ClusterNode::may_start_without(const std::set<std::uint32_t>& nodes) const {
    for (const std::uint32_t node : nodes) {
        BRAID_CHECK(check_node(node));
        const bool is_self = node == setup_.self;
        if (!is_self && !here_.contains(node)) continue;
        return Refusal{fmt::format("node {} is {}: the start needs nobody's leave to go on with it",
                                   node, is_self ? "this one" : "connected"),
                       RefusalCode::conflict};
    }
    const bool waits = !rows_ && !opening_ && !cancelled_ && !stopping_;
    if (waits && phase_ != StartPhase::joining && !nodes.empty()) return Unit{};
    return Refusal{"the start does not wait for a node", RefusalCode::conflict};
}

/// All that are connected have to agree that those are not there.
/// @return  what each of them has as disks
Task<Checked<std::map<std::uint32_t, Words>>> ClusterNode::agree_on_start_without(
    std::set<std::uint32_t> without, Agree what) {
    BRAID_CO_CHECK(may_start_without(without));
    if (all_are_here()) {
        co_return Refusal{"the start does not wait for a node", RefusalCode::conflict};
    }
    Words words = asking("without");
    words["nodes"] = without;
    words["begin"] = what == Agree::to_start;
    std::map<std::uint32_t, Words> agreed;
    for (const std::uint32_t node : fellows()) {
        if (!here_.contains(node) || without.contains(node)) continue;
        Checked<Words> agrees = co_await ask_while_here(node, words);
        if (!agrees) {
            co_return Refusal{fmt::format("{}: {}", name_of(node), agrees.error().text),
                              agrees.error().code};
        }
        agreed.emplace(node, std::move(agrees).value());
    }
    BRAID_CO_CHECK(may_start_without(without));
    co_return agreed;
}

Task<Checked<Unit>> ClusterNode::start_without(std::vector<std::uint32_t> nodes) {
    std::set<std::uint32_t> without(nodes.begin(), nodes.end());
    const auto agreed = co_await agree_on_start_without(without, Agree::to_look);
    if (!agreed) co_return agreed.error();
    take_without(without, std::nullopt);
    tell_those_here(words_of_without());
    co_return Unit{};
}

// ---- by itself ---------------------------------------------------------------------------------

namespace {

/// Members that the newest configuration counts are not among `images`.
bool lacks_members(std::span<const MemberImage> images, const Assembly& assembly) {
    const Configuration& now = assembly.configuration;
    if (!members_away(images, now.array).empty()) return true;
    // One that was being rebuilt, and is not there, is missing in what was assembled.
    return std::ranges::any_of(
        now.members, [&](const MemberRecord& at) { return at.role && !takes_part(at.state); });
}

/// What the members that are away hold is not needed to tell what any row holds.
Checked<Unit> check_nothing_is_open(const Assembly& assembly) {
    const Configuration& now = assembly.configuration;
    const bool in_doubt = now.resynced || !assembly.marked.empty();
    if (in_doubt && !BRAID_MUTANT(starts_in_doubt)) {
        return Refusal{
            "stripes were being written as the array stopped, and whether their parity is true its "
            "other members may tell"};
    }
    const bool tries_again = std::ranges::any_of(
        now.bad_rows, [](const BadRange& at) { return at.kind == BadKind::retry; });
    if (tries_again) {
        return Refusal{"rows that could not be read are to be tried again, and need all members"};
    }
    return Unit{};
}

Checked<Unit> check_can_start(const std::vector<MemberImage>& images,
                              std::vector<std::uint32_t> homes) {
    if (std::ranges::all_of(images, is_blank)) {
        return Refusal{"no member that is here holds an array"};
    }
    AssemblyOptions how;
    how.purpose = Purpose::look;
    how.homes = std::move(homes);
    BRAID_TRY(const Assembly assembly, assemble(images, how));
    if (assembly.adopted) return Refusal{"md has had the array, and braid takes it over"};
    if (!lacks_members(images, assembly)) return Unit{};
    return check_nothing_is_open(assembly);
}

}  // namespace

/// A look at members, which goes on by itself: a disk may leave it unanswered.
struct ClusterNode::StartLook {
    std::vector<std::shared_ptr<Disk>> own;  // some may be closed meanwhile
    std::vector<std::unique_ptr<RemoteDisk>> remote;
    std::vector<std::uint32_t> homes;  // node of each that is looked at, own ones first
    std::optional<Checked<Unit>> result;
};

/// It reads what is in front of the data, and promises nothing.
Task<void> ClusterNode::run_look(std::shared_ptr<StartLook> look) {
    std::vector<Disk*> disks;
    for (const auto& disk : look->own) {
        if (disk) disks.push_back(disk.get());
    }
    for (const auto& disk : look->remote) disks.push_back(disk.get());
    const std::vector<MemberImage> images =
        co_await read_member_images(setup_.ready, setup_.clock, std::move(disks));
    look->result = check_can_start(images, look->homes);
    here_changed_.set();
}

/// At the disks of this node, and of all that are connected.
Task<Checked<Unit>> ClusterNode::look_without(std::map<std::uint32_t, Words> agreed) {
    const auto look = std::make_shared<StartLook>();
    look->own = shelf_;
    for (const auto& disk : look->own) {
        if (disk) look->homes.push_back(setup_.self);
    }
    for (const auto& [node, words] : agreed) {
        WordFields fields(words);
        const std::vector<Words> list = fields.list("disks", members_max + spares_max);
        BRAID_CO_CHECK(fields.check());
        for (const Words& about : list) {
            BRAID_CO_TRY(std::unique_ptr<RemoteDisk> disk, look_at_disk(node, about));
            look->remote.push_back(std::move(disk));
            look->homes.push_back(node);
        }
    }
    const Nanos alike = alike_since_;
    tasks_.spawn(run_look(look));
    while (!look->result && alike_since_ == alike && waits_for_start()) {
        co_await here_changed_.next();
    }
    if (look->result) co_return *look->result;
    co_return came_or_left();
}

Refusal ClusterNode::came_or_left() {
    return {"a node came, or left, as the members were looked at", RefusalCode::busy};
}

/// All that are connected take it, one after the other, and this node last; or none does in the end.
Task<Checked<Unit>> ClusterNode::start_without_the_absent() {
    const std::set<std::uint32_t> absent = absent_nodes();
    const Nanos alike = alike_since_;
    auto agreed = co_await agree_on_start_without(absent, Agree::to_look);
    if (!agreed) co_return agreed.error();
    BRAID_CO_CHECK(co_await look_without(std::move(agreed).value()));
    const auto taken = co_await agree_on_start_without(absent, Agree::to_start);
    const bool is_alike = alike_since_ == alike;
    if (!taken || !is_alike) tell_those_here(words_of_without({}, true));
    if (!taken) co_return taken.error();
    if (!is_alike) co_return came_or_left();
    take_without(absent, setup_.self);
    co_return Unit{};
}

/// Of those that are connected the one with the highest id sees to it.
bool ClusterNode::leads_those_here() const {
    return std::ranges::all_of(fellows(), [this](std::uint32_t node) {
        return node < setup_.self || !here_.contains(node);
    });
}

bool ClusterNode::waits_for_start() const {
    return !cancelled_ && !stopping_ && !ended_ && !rows_ && !refused_;
}

/// Who was cut off serves nobody any more by then.
Nanos ClusterNode::start_wait() const {
    return millis(std::max(setup_.config.start_wait_ms, 2 * setup_.config.lease_ms));
}

Task<void> ClusterNode::start_by_itself() {
    if (setup_.config.start_wait_ms == 0) co_return;
    alike_since_ = setup_.clock.now();
    while (waits_for_start()) {
        Nanos pause = start_wait();
        const Nanos due{alike_since_.value + pause.value};
        const Nanos now = setup_.clock.now();
        const bool lacks_some = !all_are_here() && phase_ != StartPhase::joining;
        if (now < due) {
            pause = {due.value - now.value};
        } else if (lacks_some && leads_those_here()) {
            const Checked<Unit> begun = co_await start_without_the_absent();
            if (!waits_for_start()) break;  // nobody cuts short what begins to pause now
            if (!begun) say_why_it_waits(begun.error());
        }
        Pause until_it_is_due(pauses_, pause);
        co_await until_it_is_due;
    }
}

void ClusterNode::say_why_it_waits(const Refusal& why) {
    if (why.code == RefusalCode::busy || why.text == why_it_waits_) return;
    why_it_waits_ = why.text;
    log(Severity::info,
        fmt::format("does not start by itself without {}: {}", missing_nodes(), why_it_waits_));
    Words words = telling(fence_words::waits);
    words["why"] = why.text;
    tell_those_here(words);
}

/// For this one's status: it has not looked itself.
Checked<Unit> ClusterNode::told_why_it_waits(const Words& words) {
    WordFields fields(words);
    std::string why = fields.text("why");
    BRAID_CHECK(fields.check());
    if (!rows_) why_it_waits_ = std::move(why);
    return Unit{};
}

/// Those that are left out, too.
void ClusterNode::tell_those_here(const Words& words) {
    for (const std::uint32_t node : others()) {
        if (here_.contains(node)) talk_.tell(node, words);
    }
}

/// A start without some has come to nothing before there was an array: all are waited for again. Who was
/// left out, and asked here meanwhile, asks again.
void ClusterNode::wait_for_all_again() {
    if (rows_ || left_out_.empty()) return;
    without_led_by_.reset();
    left_out_.clear();
    tell_those_here(words_of_without({}, true));
    lead_by_id();
    alike_since_ = setup_.clock.now();
    log(Severity::info, "waits for all nodes again: the start without some has come to nothing");
}

/// The node follows this one no more, which has begun already, and does not say so again.
void ClusterNode::begun_for_nothing(std::uint32_t node) {
    if (gathers_) {
        comes_to_nothing_ = true;  // gather_all() looks at that before anything is opened
    } else {
        lose_node(node, "waits for all nodes again");
    }
}

/// Of those that are not left out the highest.
void ClusterNode::lead_by_id() {
    std::uint32_t highest = setup_.self;
    for (const std::uint32_t node : fellows()) highest = std::max(highest, node);
    if (highest != master_) follow(highest);
    why_master_ = comes_first;
    here_changed_.set();
    begun_.set();
}

// ---- orders, and what other nodes say ----------------------------------------------------------

Checked<Words> ClusterNode::asked_without(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    BRAID_TRY(const std::set<std::uint32_t> nodes, nodes_in(fields, "nodes"));
    const bool begins = fields.flag("begin");
    BRAID_CHECK(fields.check());
    BRAID_CHECK(may_start_without(nodes));
    if (begins) take_without(nodes, from);
    Words disks;
    disks["disks"] = own_inventory();
    return disks;
}

/// No nodes, by itself: all are waited for again.
Words ClusterNode::words_of_without(const std::set<std::uint32_t>& nodes, bool by_itself) const {
    Words words = telling("without");
    words["nodes"] = nodes;
    words["by_itself"] = by_itself;
    return words;
}

Words ClusterNode::words_of_without() const {
    std::set<std::uint32_t> nodes;
    for (const auto& [node, boot] : left_out_) nodes.insert(node);
    return words_of_without(nodes, without_led_by_.has_value());
}

/// It serves already, or is about to: then those that are not there are waited for no more.
Checked<Unit> ClusterNode::told_without(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    BRAID_TRY(const std::set<std::uint32_t> nodes, nodes_in(fields, "nodes"));
    const bool by_itself = fields.flag("by_itself");
    BRAID_CHECK(fields.check());
    if (nodes.empty()) {
        if (!opening_) wait_for_all_again();
        const bool decides = is_master() && !serves_ && !left_out_.empty();
        if (opening_ && decides && !left_out_.contains(from)) begun_for_nothing(from);
        here_changed_.set();
        return Unit{};
    }
    const Checked<Unit> may = may_start_without(nodes);
    if (may) take_without(nodes, by_itself ? std::optional(from) : std::nullopt);
    if (!may && !rows_) {
        log(Severity::warning, "does not start without some nodes: " + may.error().text);
        // Who is here waits for who says so, and that one would wait for this node.
        const bool are_here =
            std::ranges::any_of(nodes, [this](std::uint32_t node) { return here_.contains(node); });
        if (are_here) talk_.tell(from, words_of_without({}, true));
    }
    return Unit{};
}

/// @param led_by  none: an operator has said so
void ClusterNode::take_without(const std::set<std::uint32_t>& nodes,
                               std::optional<std::uint32_t> led_by) {
    without_led_by_ = led_by;
    const char* const why =
        led_by ? ": it has not come, and nothing in the array depends on its members"
               : ", says an operator: what its members alone know is missing until it is back";
    for (const std::uint32_t node : nodes) {
        if (!left_out_.emplace(node, never_here).second) continue;
        log(Severity::warning, fmt::format("starts without {}{}", name_of(node), why));
    }
    lead_by_id();
}

std::set<std::uint32_t> ClusterNode::absent_nodes() const {
    std::set<std::uint32_t> absent;
    for (const std::uint32_t node : fellows()) {
        if (!here_.contains(node)) absent.insert(node);
    }
    return absent;
}

std::string ClusterNode::missing_nodes() const {
    std::vector<std::string> missing;
    for (const std::uint32_t node : absent_nodes()) {
        std::vector<std::string> addresses;
        for (const NetAddress& at : setup_.config.find(node)->addresses) {
            addresses.push_back(text_of(at));
        }
        missing.push_back(fmt::format("{} ({})", name_of(node), fmt::join(addresses, ", ")));
    }
    return fmt::format("{}", fmt::join(missing, ", "));
}

Task<void> ClusterNode::say_who_is_missing() {
    if (std::exchange(saying_, true)) co_return;
    for (Nanos pause = seconds(10); !cancelled_ && !stopping_ && !rows_ && !missing_nodes().empty();
         pause = seconds(60)) {
        log(Severity::info, "waits for " + missing_nodes());
        Pause until_said_again(pauses_, pause);
        co_await until_said_again;
    }
    saying_ = false;
}

bool ClusterNode::all_are_here() const { return absent_nodes().empty(); }

Task<Checked<Unit>> ClusterNode::wait_for_nodes() {
    while (!all_are_here() && !cancelled_ && is_master()) {
        if (without_led_by_) wait_for_all_again();  // it is another question now
        if (!is_master()) break;
        co_await here_changed_.next();
    }
    if (!cancelled_) co_return Unit{};
    const std::string missing = missing_nodes();
    co_return Refusal{missing.empty() ? std::string("told to stop before it began")
                                      : "told to stop while it waited for " + missing};
}

}  // namespace braid::cluster
