// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: what the node that decides tells the others and asks of them (braid-protocol(7), TELL
// and ASK). What comes before there is an array, or is meant for another start of this node, does
// nothing.
#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/epochs/remote_decider.h"
#include "cluster/epochs/window_words.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/served_array.h"
#include "cluster/node/told_status.h"
#include "engine/base/limits.h"
#include "engine/metadata/intent_record.h"

namespace braid::cluster {

// ---- what is asked -----------------------------------------------------------------------------

Task<Checked<Words>> ClusterNode::asked_by_master(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("ask");
    BRAID_CO_CHECK(fields.check());
    if (what == "meets") co_return co_await asked_to_meet(words);
    if (what == fence_words::stop) co_return co_await asked_to_stop(from, words);
    if (what == fence_words::missed) co_return asked_what_is_missed(words);
    if (what == fence_words::missed_now) co_return asked_how_much_is_missed(words);
    if (what == "inventory") co_return asked_for_inventory();
    if (what == "look") co_return co_await asked_to_look(words);
    if (what == "refuse") co_return asked_to_give_up(words);
    if (!served_) co_return Refusal{"no array is open"};
    if (what == "adopted") co_return Words::object();
    if (what == "closed") co_return asked_whether_closed(words);
    if (what == node_words::rebuild) co_return asked_to_rebuild(words);
    if (what == "begin_marks") co_return co_await asked_to_begin_marks(words);
    if (what == "serve") co_return co_await asked_to_serve();
    if (what == "write_marks") co_return co_await asked_to_write_marks();
    if (what == "mark") co_return co_await asked_to_mark();
    if (what == "drain") co_return co_await asked_to_drain();
    if (what == "end") co_return co_await asked_to_end(words);
    co_return Refusal{"nothing is known by the name of " + what};
}

Checked<Words> ClusterNode::asked_for_inventory() {
    if (ended_ || !gone_.empty()) {
        return Refusal{"serves an array that has stopped; start its server anew",
                       RefusalCode::stopping};
    }
    Words inventory;
    inventory["disks"] = own_inventory();
    return inventory;
}

Task<Checked<Words>> ClusterNode::asked_to_look(const Words& words) {
    WordFields fields(words);
    const bool force = fields.flag("force");
    BRAID_CO_CHECK(fields.check());
    co_return co_await look_here(force);
}

Checked<Words> ClusterNode::asked_to_give_up(const Words& words) {
    WordFields fields(words);
    const bool again = fields.flag("again");
    refused_ = Refusal{fmt::format("{}: {}", name_of(master_), fields.text("why")),
                       again ? RefusalCode::busy : RefusalCode::conflict};
    BRAID_CHECK(fields.check());
    ended_ = true;
    begun_.set();
    return Words::object();
}

/// Whether another disk may have the role: what is told of that waits for the former one to be closed.
Checked<Words> ClusterNode::asked_whether_closed(const Words& words) {
    WordFields fields(words);
    const MemberIndex member = fields.member(rows_->geometry);
    BRAID_CHECK(fields.check());
    if (serving_->members().slot(member).is_open()) {
        return Refusal{"the disk that had the role before has yet to answer", RefusalCode::busy};
    }
    return Words::object();
}

Checked<Words> ClusterNode::asked_to_rebuild(const Words& words) {
    WordFields fields(words);
    const MemberIndex member = fields.member(rows_->geometry);
    const std::uint32_t number = fields.number32("number");
    const DataArea area{{fields.number("begin")}};
    BRAID_CHECK(fields.check());
    const Result<void> ready = prepare_own_home(member, number, area);
    if (!ready && ready.error().code == Errc::io) {
        return Refusal{"a disk is still being given what was written before its member was lost",
                       RefusalCode::busy};
    }
    if (!ready) return Refusal{"there is no such disk here"};
    return Words::object();
}

Task<Checked<Words>> ClusterNode::asked_to_begin_marks(const Words& words) {
    WordFields fields(words);
    Serving& serving = served_->serving();
    if (std::exchange(marks_begun_, true)) co_return Refusal{"marks have begun already"};
    IntentSettings settings;
    settings.on = fields.flag("on") || marks_wanted_;
    settings.region = fields.number("region");
    const Words* generations = fields.object("generations");
    BRAID_CO_CHECK(fields.check());
    WordFields by_node(*generations);
    const std::uint64_t generation = by_node.number(std::to_string(setup_.self).c_str());
    BRAID_CO_CHECK(by_node.check());
    if (ended_ || ending_) co_return Refusal{"the array has ended"};
    rows_->homes->begin_authorities();
    serving.intent().start({settings, generation, std::move(marked_)}, served_->tasks());
    serving.set_gates();
    marks_beginning_ = true;
    const Result<void> kept = co_await serving.write_marks();
    marks_beginning_ = false;
    begun_.set();
    if (!kept) co_return Refusal{std::string(kept.error().text())};
    co_return Words::object();
}

Task<Checked<Words>> ClusterNode::asked_to_serve() {
    co_await hear_of_all();
    if (ended_ || !gone_.empty()) co_return Refusal{"the array has ended"};
    reservations_->has_heard_all();
    served_->log().tell(Severity::info, "started",
                        fmt::format("serves the array that {} decides about", name_of(master_)));
    serves_ = true;
    begun_.set();
    tasks_.spawn(watch_links());
    tasks_.spawn(answers_.run());
    tasks_.spawn(tell_status_now_and_then());
    tasks_.spawn(tell_latency_now_and_then());
    co_return Words::object();
}

Task<Checked<Words>> ClusterNode::asked_to_write_marks() {
    if (!serves_) co_return Words::object();  // it has none, or is just writing them
    const Result<void> kept = co_await served_->serving().write_marks();
    if (!kept) co_return Refusal{std::string(kept.error().text())};
    co_return Words::object();
}

Task<Checked<Words>> ClusterNode::asked_to_mark() {
    if (!marks_begun_) {
        marks_wanted_ = true;
        co_return Words::object();
    }
    Serving& serving = served_->serving();
    if (serving.marks()) co_return Words::object();
    const Result<void> begun = co_await serving.begin_marks();
    if (!begun) co_return Refusal{std::string(begun.error().text())};
    co_return Words::object();
}

/// What clients ask from now on waits until all has ended. If another one comes to decide before that,
/// who has this node's voice already, the array goes on, and nothing has happened to them.
Task<Checked<Words>> ClusterNode::asked_to_drain() {
    served_->set_stopping(true);
    standing_.reset();  // all has ended when all have drained: nobody comes to decide after that
    served_->serving().hold();
    co_await served_->serving().wait_until_quiet();
    co_return Words::object();
}

/// With all, and all have not yet.
bool ClusterNode::is_told_to_end() const { return served_ != nullptr && served_->is_stopping(); }

void ClusterNode::go_on_after_all() {
    if (!is_told_to_end()) return;
    served_->set_stopping(false);
    served_->serving().let_go();
}

Task<Checked<Words>> ClusterNode::asked_to_end(const Words& words) {
    WordFields fields(words);
    const bool clean = fields.flag("clean");
    BRAID_CO_CHECK(fields.check());
    ending_ = true;
    served_->serving().refuse_all();
    rows_->homes->thaw();  // if a fence was to begin: nothing waits for it any more
    while (marks_beginning_) co_await begun_.next();
    // While the homes are still there: what it does by itself may be on its way to them.
    co_await served_->end_tasks();
    ended_ = true;
    if (!serves_ && !refused_) {
        refused_ = Refusal{"the array has stopped before this node was let in", RefusalCode::busy};
        begun_.set();
    }
    served_->log().tell(clean ? Severity::info : Severity::error, "stopped",
                        clean ? "the array has stopped on all nodes, cleanly"
                              : "the array has stopped on all nodes, and not cleanly");
    ended_event_.set();
    co_return Words::object();
}

// ---- what is told ------------------------------------------------------------------------------

/// What is told before an array is open, or whether it is or not.
ClusterNode::Told ClusterNode::told_at_any_time(const std::string& what) {
    static const std::map<std::string, Told> words{
        {"open", &ClusterNode::told_open},           {"start", &ClusterNode::told_phase},
        {"dismissed", &ClusterNode::told_dismissed}, {"close", &ClusterNode::told_to_close},
        {"free", &ClusterNode::told_to_free},
    };
    const auto found = words.find(what);
    return found == words.end() ? nullptr : found->second;
}

ClusterNode::Told ClusterNode::told_of_array(const std::string& what) {
    static const std::map<std::string, Told> words{
        {"adopt", &ClusterNode::told_configuration},
        {"status", &ClusterNode::told_status},
        {node_words::rebuild_status, &ClusterNode::told_status},
        {"behind", &ClusterNode::told_behind},
        {"detach", &ClusterNode::told_to_detach},
        {fence_words::verdict, &ClusterNode::told_verdict},
        {fence_words::go_on, &ClusterNode::told_to_go_on},
        {"killed", &ClusterNode::told_killed},
        {"lost", &ClusterNode::told_lost},
        {"kept", &ClusterNode::told_kept},
        {"unusable", &ClusterNode::told_unusable},
        {"in_force", &ClusterNode::told_in_force},
        {"witness", &ClusterNode::told_of_witness},
        {"marked", &ClusterNode::told_marked},
        {"doubt", &ClusterNode::told_doubt},
        {"retire_marks", &ClusterNode::told_to_retire_marks},
        {"region", &ClusterNode::told_region},
        {"owing", &ClusterNode::told_owing},
        {"resync_comes", &ClusterNode::told_resync_comes},
        {"trust_all", &ClusterNode::told_to_trust_all},
        {"end_marks", &ClusterNode::told_to_end_marks},
        {"halt", &ClusterNode::told_to_halt},
        {"failed", &ClusterNode::told_failed},
    };
    if (is_event(what)) return &ClusterNode::told_event;
    const auto found = words.find(what);
    return found == words.end() ? nullptr : found->second;
}

Task<Checked<Unit>> ClusterNode::told_by_master(const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("tell");
    BRAID_CO_CHECK(fields.check());
    if (const Told heed = told_at_any_time(what)) co_return (this->*heed)(words);
    if (!served_) co_return Unit{};  // it is meant for another start of this node
    if (what == "attach") co_return co_await told_to_attach(words);
    if (const Told heed = told_of_array(what)) co_return (this->*heed)(words);
    co_return Refusal{"nothing is known by this name"};
}

Checked<Unit> ClusterNode::told_open(const Words& words) {
    WordFields fields(words);
    const Words* about = fields.object("configuration");
    const std::uint64_t fence = fields.number("fence", epoch_max);
    const std::uint64_t lease = fields.number("lease_ms", lease_ms_max);
    if (lease < lease_ms_min) fields.is_wrong("lease_ms", "a lease's");
    BRAID_CHECK(fields.check());
    BRAID_TRY(Configuration configuration, configuration_of(*about));
    if (rows_) return Refusal{"an array is open already"};
    fence_.pass(fence);
    lease_length_ = millis(lease);
    lease_ = own_lease();
    bus_->set_heartbeat_interval(heartbeat_interval());
    epoch_in_force_ = configuration.version.epoch;
    make_rows(Geometry::of(configuration));
    BRAID_CHECK(take_open_places(words));
    served_owned_ =
        std::make_unique<ServedArray>(*this, std::move(configuration), setup_.array, *rows_->homes);
    served_ = served_owned_.get();
    serving_ = &served_->serving();
    note_witness(served_->configuration());
    rows_->homes->bind(serving_->members());
    make_reservations(served_->configuration());
    for (const MemberRecord& at : served_->configuration().members) {
        if (!at.role) continue;
        const bool is_displaced = at.state == MemberState::rebuilding;
        if (is_displaced || !takes_part(at.state))
            serving_->members().begin_absence(*at.role, is_displaced);
    }
    for (const auto& [node, start] : left_out_) reservations_->node_gone(node);
    for (const std::uint32_t node : fellows()) watch_if_away(node);
    if (setup_.array.force) {
        log(Severity::warning,
            fmt::format("force=true counts at the node that decides about the start ({}), and not "
                        "here",
                        name_of(master_)));
    }
    return Unit{};
}

Checked<Unit> ClusterNode::told_phase(const Words& words) {
    WordFields fields(words);
    const std::string phase = fields.text("phase");
    BRAID_CHECK(fields.check());
    for (const StartPhase one :
         {StartPhase::looking, StartPhase::array, StartPhase::creating, StartPhase::joining}) {
        if (!rows_ && phase == text_of(one)) set_phase(one);
    }
    return Unit{};
}

Checked<Unit> ClusterNode::told_dismissed(const Words&) {
    dismissed_ = true;
    here_changed_.set();
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_close(const Words& words) {
    WordFields fields(words);
    const std::uint32_t number = fields.number32("disk");
    BRAID_CHECK(fields.check());
    if (number >= shelf_.size()) return Refusal{"there is no such disk here"};
    // Before there is an array it is of a start that came to nothing: the next one needs it.
    if (rows_) close_disk(number);
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_free(const Words& words) {
    WordFields fields(words);
    const std::uint32_t number = fields.number32("disk");
    BRAID_CHECK(fields.check());
    if (number >= shelf_.size()) return Refusal{"there is no such disk here"};
    if (rows_ && shelf_[number]) free_disk(number);
    return Unit{};
}

Checked<Unit> ClusterNode::told_configuration(const Words& words) {
    WordFields fields(words);
    const Words* about = fields.object("configuration");
    BRAID_CHECK(fields.check());
    BRAID_TRY(const Configuration wanted, configuration_of(*about));
    BRAID_CHECK(served_->check_same(wanted));
    rows_->home.adopt(wanted);
    served_->adopt(wanted);
    note_witness(wanted);
    enter_lease();
    return Unit{};
}

Checked<Unit> ClusterNode::told_event(const Words& words) {
    WordFields fields(words);
    const auto severity = fields.number("severity", static_cast<std::uint64_t>(Severity::error));
    std::string kind = fields.text("kind");
    std::string text = fields.text("text");
    BRAID_CHECK(fields.check());
    served_->log().tell(static_cast<Severity>(severity), std::move(kind), std::move(text));
    return Unit{};
}

Checked<Unit> ClusterNode::told_status(const Words& words) {
    BRAID_TRY(ToldStatus told, told_status_of(words, rows_->geometry));
    for (const NodeStatus& node : told.nodes) told_of_[node.id] = node;
    served_->set_told(std::move(told));
    return Unit{};
}

Task<Checked<Unit>> ClusterNode::told_to_attach(const Words& words) {
    WordFields fields(words);
    const MemberIndex which = fields.member(rows_->geometry);
    const std::uint32_t node = fields.number32("node", nodes_max - 1);
    const DataArea area{{fields.number("begin")}};
    const Words* about = fields.object("disk");
    BRAID_CO_CHECK(fields.check());
    if (setup_.config.find(node) == nullptr) co_return Refusal{"there is no such node"};
    if (!is_row_aligned(area.begin)) co_return Refusal{"\"begin\" is not a row's"};
    const auto& slot = serving_->members().slot(which);
    const std::uint32_t from = master_;
    while (slot.is_open() && detaching_.has(which)) co_await detached_.next();
    if (from != master_) co_return Unit{};  // it is gone, and another one says what there is
    if (slot.is_open()) co_return Refusal{"the role is taken"};
    std::unique_ptr<Disk> disk;
    if (node == setup_.self) {
        WordFields at(*about);
        const std::uint32_t number = at.number32("number");
        BRAID_CO_CHECK(at.check());
        if (!attach_home(which, number, area)) co_return Refusal{"there is no such disk"};
        disk = give(shelf_[number], {setup_.self, setup_.boot, number});
    } else {
        BRAID_CO_TRY(disk, remote_disk(node, *about));
    }
    attach_here(which, node, area, std::move(disk));
    co_return Unit{};
}

Checked<Unit> ClusterNode::told_behind(const Words& words) {
    WordFields fields(words);
    const Geometry& geometry = rows_->geometry;
    const MemberIndex which = fields.member(geometry);
    const bool is_first = fields.flag("first");
    WindowSet windows;
    BRAID_CHECK(take_windows(fields, geometry, &windows));
    Members& members = serving_->members();
    if (takes_part(members.slot(which).state)) return Refusal{"the member has a role"};
    if (is_first) members.set_behind(which, {});
    if (!members.add_behind(which, windows)) return Refusal{"there is no room for it"};
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_detach(const Words& words) {
    WordFields fields(words);
    const MemberIndex which = fields.member(rows_->geometry);
    BRAID_CHECK(fields.check());
    // What else is told is not held back by what a disk does not answer.
    if (!serving_->members().slot(which).is_open()) return Unit{};
    if (!detaching_.has(which)) tasks_.spawn(detach_when_quiet(which));
    detaching_.add(which);
    return Unit{};
}

Checked<Unit> ClusterNode::told_verdict(const Words& words) {
    WordFields fields(words);
    const std::uint64_t fence = fields.number("fence", epoch_max);
    BRAID_CHECK(fields.check());
    if (!passing_ || passing_->fence != fence) return Unit{};  // of one that has failed
    return take_verdict(words, &passing_->verdict);
}

Checked<Unit> ClusterNode::told_to_go_on(const Words& words) {
    WordFields fields(words);
    const std::uint64_t fence = fields.number("fence", epoch_max);
    BRAID_CHECK(fields.check());
    if (fence != fence_.epoch || passing_) return Unit{};
    verdict_ = {};
    rows_->homes->thaw();
    return Unit{};
}

Checked<Unit> ClusterNode::told_lost(const Words& words) {
    WordFields fields(words);
    const MemberIndex which = fields.member(rows_->geometry);
    const auto state = member_state_of(fields.text("state"));
    if (!state || takes_part(*state)) fields.is_wrong("state", "a lost member's");
    BRAID_CHECK(fields.check());
    serving_->member_lost(which, *state);
    lost_here(which);
    return Unit{};
}

Checked<Unit> ClusterNode::told_kept(const Words& words) {
    WordFields fields(words);
    const MemberIndex which = fields.member(rows_->geometry);
    BRAID_CHECK(fields.check());
    rows_->home.keep(which);
    return Unit{};
}

Checked<Unit> ClusterNode::told_unusable(const Words& words) {
    WordFields fields(words);
    const MemberIndex which = fields.member(rows_->geometry);
    BRAID_CHECK(fields.check());
    rows_->homes->loss_is_known(which);
    return Unit{};
}

Checked<Unit> ClusterNode::told_of_witness(const Words& words) {
    WordFields fields(words);
    const bool answers = fields.flag("answers");
    BRAID_CHECK(fields.check());
    serving_->expect_of_witness(answers ? Witness::promised : Witness::silent);
    return Unit{};
}

Checked<Unit> ClusterNode::told_in_force(const Words& words) {
    WordFields fields(words);
    const Words* about = fields.object("configuration");
    BRAID_CHECK(fields.check());
    BRAID_TRY(const Configuration now, configuration_of(*about));
    BRAID_CHECK(served_->check_same(now));
    epoch_in_force_ = now.version.epoch;
    rows_->home.in_force(now);
    served_->in_force(now);
    if (has_witness()) enter_lease();
    return Unit{};
}

Checked<Unit> ClusterNode::told_marked(const Words& words) {
    WordFields fields(words);
    const Geometry& geometry = rows_->geometry;
    for (const Words& one : fields.list("entries", marks_told_max)) {
        const auto* entry = one.get_ptr<const Words::array_t*>();
        IntentEntry mark;
        const bool is_entry = entry != nullptr && entry->size() == 3 &&
                              std::ranges::all_of(*entry, [](const Words& value) {
                                  return value.is_number_unsigned();
                              });
        if (!is_entry) return Refusal{"\"entries\" has what is no mark"};
        mark.volume = static_cast<std::uint32_t>((*entry)[0].get<std::uint64_t>());
        mark.count = static_cast<std::uint32_t>((*entry)[1].get<std::uint64_t>());
        mark.first = StripeIndex{(*entry)[2].get<std::uint64_t>()};
        if (mark.count == 0 || raw(mark.first) >= geometry.stripes ||
            mark.count > geometry.stripes - raw(mark.first)) {
            return Refusal{"a mark is beyond the array"};
        }
        marked_.push_back(mark);
    }
    BRAID_CHECK(fields.check());
    return Unit{};
}

Checked<Unit> ClusterNode::told_doubt(const Words& words) {
    WordFields fields(words);
    const Geometry& geometry = rows_->geometry;
    const WindowIndex begin{fields.number("begin", raw(geometry.window_end()))};
    const WindowIndex end{fields.number("end", raw(geometry.window_end()))};
    if (!(begin < end)) fields.is_wrong("end", "behind \"begin\"");
    BRAID_CHECK(fields.check());
    serving_->add_doubt({begin, end});
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_retire_marks(const Words& words) {
    WordFields fields(words);
    const Geometry& geometry = rows_->geometry;
    const StripeIndex before{fields.number("before", geometry.stripes)};
    BRAID_CHECK(fields.check());
    if (!marks_begun_) cut_before(&marked_, before);
    serving_->doubt_passed(raw(before) == geometry.stripes ? geometry.window_end()
                                                           : geometry.first_window(before));
    serving_->retire_marks(before);
    return Unit{};
}

Checked<Unit> ClusterNode::told_region(const Words& words) {
    WordFields fields(words);
    const std::uint64_t bytes = fields.number("bytes", intent_region_max);
    if (bytes < intent_region_min) fields.is_wrong("bytes", "a region's");
    BRAID_CHECK(fields.check());
    serving_->set_region(bytes);
    return Unit{};
}

Checked<Unit> ClusterNode::told_owing(const Words& words) {
    WordFields fields(words);
    const bool owing = fields.flag("owing");
    BRAID_CHECK(fields.check());
    serving_->set_owing(owing);
    return Unit{};
}

Checked<Unit> ClusterNode::told_resync_comes(const Words& words) {
    WordFields fields(words);
    const bool comes = fields.flag("comes");
    BRAID_CHECK(fields.check());
    serving_->set_resync_comes(comes);
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_trust_all(const Words&) {
    serving_->trust_all();
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_end_marks(const Words&) {
    marks_wanted_ = false;
    serving_->end_marks();
    return Unit{};
}

Checked<Unit> ClusterNode::told_to_halt(const Words&) {
    serving_->halt();
    return Unit{};
}

Checked<Unit> ClusterNode::told_failed(const Words&) {
    serving_->array_failed();
    served_->decider().look_again();
    return Unit{};
}

Task<void> ClusterNode::detach_when_quiet(MemberIndex member) {
    Members& members = serving_->members();
    const Drive* const drive = members.slot(member).drive.get();
    while (members.slot(member).in_flight() != 0) co_await members.quiet().next();
    // Else this node has come to decide meanwhile, and has put another one there.
    if (members.slot(member).drive.get() == drive) serving_->detach(member);
    detaching_.remove(member);
    detached_.set();
}

}  // namespace braid::cluster
