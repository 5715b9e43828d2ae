// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: what other nodes tell it and ask of it (braid-protocol(7), TELL and ASK).
#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/epochs/remote_decider.h"
#include "cluster/epochs/window_words.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/deciding_array.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/own_disk.h"
#include "cluster/node/served_array.h"
#include "cluster/node/told_status.h"
#include "engine/base/limits.h"
#include "engine/metadata/intent_record.h"

namespace braid::cluster {

// ---- what others say ---------------------------------------------------------------------------

Task<Checked<Unit>> ClusterNode::told(std::uint32_t from, const Words& words) {
    const bool is_out = rows_ && left_out_.contains(from);
    if (is_out || is_another_start(from)) co_return Unit{};  // not of the array's
    WordFields fields(words);
    if (fields.text("tell") == "gone") {
        const std::uint32_t node = fields.number32("node", nodes_max - 1);
        const std::string why = fields.text("why");
        BRAID_CO_CHECK(fields.check());
        // Before an array is open nothing is lost with a node.
        const bool known = node != setup_.self && setup_.config.find(node) != nullptr;
        // Who is excluded may call others gone, and so may one who has just begun: nobody but the one
        // who decides knows.
        const bool believed = from == master_;
        if (!known || !rows_) co_return Unit{};
        if (believed) {
            gone(node, why);
        } else if (is_master()) {
            lose_node(from, fmt::format("has stopped, for {} {}", name_of(node), why));
        }
        co_return Unit{};
    }
    BRAID_CO_CHECK(fields.check());
    if (fields.text("tell") == fence_words::left) {
        told_left(from);
        co_return Unit{};
    }
    if (fields.text("tell") == "without") co_return told_without(from, words);
    if (fields.text("tell") == fence_words::waits) co_return told_why_it_waits(words);
    // Another one decides than this node thinks, who has only begun: it waits to be let in.
    const std::string what = fields.text("tell");
    const bool serves_already =
        what == "open" || (what == "start" && fields.text("phase") == text_of(StartPhase::joining));
    if (!rows_ && left_out_.contains(from)) {
        if (!serves_already) co_return Unit{};
        left_out_.clear();  // a start without it has come to nothing
    }
    if (serves_already && from != master_ && !rows_ && opening_) joins_ = from;
    if (serves_already && from != master_ && !rows_ && !opening_) follow(from);
    if (fields.text("tell") == "reservation") {
        // Whoever says that serves, and so all have an array.
        // Or it is meant for another start of this one.
        if (!reservations_) co_return Unit{};
        co_return reservations_->told(from, words);
    }
    if (is_master()) co_return told_by_slave(from, words);
    if (from != master_) {
        co_return Refusal{fmt::format("{} does not decide about the array", name_of(from))};
    }
    co_return co_await told_by_master(words);
}

/// It is not the start of the node that this one serves the array with.
bool ClusterNode::is_another_start(std::uint32_t node) const {
    const auto known = boots_.find(node);
    return serves_ && known != boots_.end() && bus_->session(node).peer_boot() != known->second;
}

/// What a node does before it prepares may wait for what only that ends.
bool ClusterNode::is_urgent(const Words& words) const { return serves_ && is_prepare(words); }

Task<Checked<Words>> ClusterNode::asked(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("ask");
    BRAID_CO_CHECK(fields.check());
    if (what == "without") co_return asked_without(from, words);
    if (left_out_.contains(from) && what == "inventory") {
        Words goes_on = Words::object();
        goes_on["without"] = true;
        co_return goes_on;
    }
    if (left_out_.contains(from) && (!NodeCommands::has(what) || what == node_words::kill)) {
        co_return Refusal{"the array goes on without it, until it is let in again",
                          RefusalCode::conflict};
    }
    if (is_another_start(from) && !NodeCommands::has(what)) {
        co_return Refusal{"serves an array already, with another start of the node",
                          RefusalCode::conflict};
    }
    const bool leads = !is_master() && (from == master_ || has_voice(from));
    if (what == node_words::negotiate && leads) {
        co_return co_await asked_to_negotiate(from, words);
    }
    if (what == fence_words::voice) co_return asked_for_voice(from, words);
    if (NodeCommands::has(what)) co_return commands_.answer(from, what, words);
    if (is_master()) co_return co_await asked_by_slave(from, words);
    if (from != master_) {
        // Before there is an array: it is only just to hear who decides, or the other one is.
        co_return Refusal{fmt::format("{} does not decide about the array", name_of(from)),
                          rows_ ? RefusalCode::conflict : RefusalCode::busy};
    }
    co_return co_await asked_by_master(from, words);
}

Checked<Unit> ClusterNode::told_by_slave(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("tell");
    if (what == fence_words::decided || what == fence_words::known || what == fence_words::judged ||
        what == fence_words::prepared) {
        return told_prepared(from, words);
    }
    if (listener_ == nullptr || decider_ == nullptr) return Unit{};
    if (what == "leave") {
        log(Severity::info,
            fmt::format("{} leaves, and so the array stops on all nodes", name_of(from)));
        leave_asked_ = true;
        if (array_ != nullptr) tasks_.spawn(stop_array());
        return Unit{};
    }
    if (what == "unreachable") return told_unreachable(from, words);
    if (what == "node") {
        BRAID_TRY(const NodeStatus node, node_status_of(words));
        if (node.id != from) return Refusal{"it tells of another node", RefusalCode::invalid};
        told_of_[from] = node;
        return Unit{};
    }
    if (what == "latency") {
        const LatencySample sample{fields.number("count", latency_told_max),
                                   fields.number("squares", latency_told_max)};
        BRAID_CHECK(fields.check());
        serving_->latency().add(sample);
        return Unit{};
    }
    if (what != "failing") {
        return carry_out_told(*decider_, rows_->geometry, words);
    }
    const MemberIndex member = fields.member(rows_->geometry);
    const std::string at = fields.text("at");
    if (at != "write" && at != "flush") fields.is_wrong("at", "write or flush");
    const auto os_error = static_cast<int>(fields.number32("errno", os_error_max));
    if (os_error == 0) fields.is_wrong("errno", "an error");
    BRAID_CHECK(fields.check());
    // Its role may be another home's by now.
    if (rows_->homes->home_of(member) != index_of(from)) return Unit{};
    const HomeFault fault = at == "write" ? HomeFault::write : HomeFault::flush;
    if (listener_->member_failing(member, fault, os_error)) {
        talk_.tell(from, {{"tell", "kept"}, {"member", raw(member)}});
    }
    return Unit{};
}

/// Its result is for who stops this node's server.
Task<void> ClusterNode::stop_array() { (void)co_await array_->stop(); }

Task<Checked<Words>> ClusterNode::asked_by_slave(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("ask");
    BRAID_CO_CHECK(fields.check());
    if (what == "create") {
        const Words* about = fields.object("order");
        BRAID_CO_CHECK(fields.check());
        BRAID_CO_TRY(CreateOrder order, create_order_of(*about));
        co_return co_await create(std::move(order));
    }
    // Also where this node is only just coming to decide, and who asks is ahead of it.
    if (decider_ == nullptr) co_return Refusal{"there is no array yet", RefusalCode::busy};
    if (what == "true") {
        co_return take_true_rows(serving_->members(), rows_->geometry, words);
    }
    if (what == "rows") {
        if (fields.text("are") == "doubtful") {
            // Nodes stage all of a write or nothing: parity cannot come to be in doubt there, and
            // if it did, no other node would know of it.
            listener_->node_gone(
                fmt::format("{} has rows whose parity is not known to be true", name_of(from)));
            co_return Refusal{"the array stops"};
        }
        co_return co_await carry_out_asked(*decider_, rows_->geometry, words);
    }
    if (array_ == nullptr) co_return Refusal{"the array is only just starting", RefusalCode::busy};
    if (what == "order" || what == node_words::rebuild_ordered)
        co_return co_await order(from, words);
    co_return Refusal{"nothing is known by the name of " + what};
}

Task<Checked<Words>> ClusterNode::order(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("order");
    BRAID_CO_CHECK(fields.check());
    if (is_rebuild_order(what) != (words["ask"] == node_words::rebuild_ordered)) {
        co_return Refusal{fmt::format("\"{}\" is not ordered by this name", what),
                          RefusalCode::invalid};
    }
    Checked<Unit> done = Refusal{"there is no such order as " + what};
    if (what == "fail") {
        const std::string member = fields.text("member");
        const Force force{fields.flag("force")};
        BRAID_CO_CHECK(fields.check());
        done = co_await array_->fail_member(member, force);
    } else if (what == "remove") {
        const std::string member = fields.text("member");
        BRAID_CO_CHECK(fields.check());
        done = co_await array_->remove_member(member);
    } else if (what == "add" || what == "replace") {
        const std::string member = what == "add" ? std::string() : fields.text("member");
        const Force force{fields.flag("force")};
        const Words* about = fields.object("disk");
        BRAID_CO_CHECK(fields.check());
        BRAID_CO_TRY(std::unique_ptr<Disk> disk, remote_disk(from, *about));
        // Past the wrapper, which is for this node's own disks.
        Array& inner = array_->inner();
        if (what == "add") done = co_await inner.add_member(std::move(disk), force);
        if (what == "replace") {
            done = co_await inner.replace_member(member, std::move(disk), force);
        }
    } else if (what == "scrub") {
        const ScrubMode mode{fields.flag("repair")};
        BRAID_CO_CHECK(fields.check());
        done = co_await array_->start_scrub(mode);
    } else if (what == "kill" || what == "resume" || what == "stop") {
        const std::uint32_t node = fields.number32("node", nodes_max - 1);
        BRAID_CO_CHECK(fields.check());
        BRAID_CO_CHECK(check_node(node));
        if (what == "resume") done = carry_out_resume(node);
        if (what == "kill") done = co_await carry_out_kill(node);
        if (what == "stop") done = co_await carry_out_stop(node);
    } else if (what == "intent") {
        IntentChange change;
        if (words.contains("on")) change.on = fields.flag("on");
        if (words.contains("region")) change.region = fields.number("region");
        BRAID_CO_CHECK(fields.check());
        done = co_await array_->change_intent(change);
    }
    if (!done) co_return done.error();
    if (left_here_) co_return Words::object();  // it decides nothing any more
    tell_status();  // before the answer: who ordered it may look at once
    co_return Words::object();
}

Task<Checked<Words>> ClusterNode::asked_by_master(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("ask");
    BRAID_CO_CHECK(fields.check());
    if (what == "meets") co_return co_await asked_to_meet(words);
    if (what == fence_words::stop) co_return co_await asked_to_stop(from, words);
    if (what == fence_words::missed) co_return asked_what_is_missed(words);
    if (what == "inventory") {
        if (ended_ || !gone_.empty()) {
            co_return Refusal{"serves an array that has stopped; start its server anew",
                              RefusalCode::stopping};
        }
        Words inventory;
        inventory["disks"] = own_inventory();
        co_return inventory;
    }
    if (what == "look") {
        const bool force = fields.flag("force");
        BRAID_CO_CHECK(fields.check());
        co_return co_await look_here(force);
    }
    if (what == "refuse") {
        const bool again = fields.flag("again");
        refused_ = Refusal{fmt::format("{}: {}", name_of(master_), fields.text("why")),
                           again ? RefusalCode::busy : RefusalCode::conflict};
        BRAID_CO_CHECK(fields.check());
        ended_ = true;
        begun_.set();
        co_return Words::object();
    }
    if (!served_) co_return Refusal{"no array is open"};
    Serving& serving = served_->serving();
    if (what == "adopted") co_return Words::object();
    if (what == node_words::rebuild) {
        const MemberIndex member = fields.member(rows_->geometry);
        const std::uint32_t number = fields.number32("number");
        const DataArea area{{fields.number("begin")}};
        BRAID_CO_CHECK(fields.check());
        const Result<void> ready = prepare_own_home(member, number, area);
        if (!ready && ready.error().code == Errc::io) {
            co_return Refusal{
                "a disk is still being given what was written before its member was lost",
                RefusalCode::busy};
        }
        if (!ready) co_return Refusal{"there is no such disk here"};
        co_return Words::object();
    }
    if (what == "begin_marks") {
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
    if (what == "serve") {
        co_await hear_of_all();
        if (ended_ || !gone_.empty()) co_return Refusal{"the array has ended"};
        reservations_->has_heard_all();
        served_->log().tell(
            Severity::info, "started",
            fmt::format("serves the array that {} decides about", name_of(master_)));
        serves_ = true;
        begun_.set();
        tasks_.spawn(watch_links());
        tasks_.spawn(answers_.run());
        tasks_.spawn(tell_status_now_and_then());
        tasks_.spawn(tell_latency_now_and_then());
        co_return Words::object();
    }
    if (what == "write_marks") {
        if (!serves_) co_return Words::object();  // it has none, or is just writing them
        const Result<void> kept = co_await serving.write_marks();
        if (!kept) co_return Refusal{std::string(kept.error().text())};
        co_return Words::object();
    }
    if (what == "mark" && !marks_begun_) {
        marks_wanted_ = true;
        co_return Words::object();
    }
    if (what == "mark") {
        if (serving.marks()) co_return Words::object();
        const Result<void> begun = co_await serving.begin_marks();
        if (!begun) co_return Refusal{std::string(begun.error().text())};
        co_return Words::object();
    }
    if (what == "drain") {
        served_->set_stopping();
        co_await serving.drain();
        co_return Words::object();
    }
    if (what == "end") {
        const bool clean = fields.flag("clean");
        BRAID_CO_CHECK(fields.check());
        ending_ = true;
        rows_->homes->thaw();  // if a fence was to begin: nothing waits for it any more
        while (marks_beginning_) co_await begun_.next();
        // While the homes are still there: what it does by itself may be on its way to them.
        co_await served_->end_tasks();
        ended_ = true;
        if (!serves_ && !refused_) {
            refused_ =
                Refusal{"the array has stopped before this node was let in", RefusalCode::busy};
            begun_.set();
        }
        served_->log().tell(clean ? Severity::info : Severity::error, "stopped",
                            clean ? "the array has stopped on all nodes, cleanly"
                                  : "the array has stopped on all nodes, and not cleanly");
        ended_event_.set();
        co_return Words::object();
    }
    co_return Refusal{"nothing is known by the name of " + what};
}

Task<Checked<Unit>> ClusterNode::told_by_master(const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("tell");
    BRAID_CO_CHECK(fields.check());
    if (what == "open") {
        const Words* about = fields.object("configuration");
        const std::uint64_t fence = fields.number("fence", epoch_max);
        const std::uint64_t lease = fields.number("lease_ms", lease_ms_max);
        if (lease < lease_ms_min) fields.is_wrong("lease_ms", "a lease's");
        BRAID_CO_CHECK(fields.check());
        BRAID_CO_TRY(Configuration configuration, configuration_of(*about));
        if (rows_) co_return Refusal{"an array is open already"};
        fence_.pass(fence);
        lease_length_ = millis(lease);
        lease_ = own_lease();
        bus_->set_heartbeat_interval(heartbeat_interval());
        epoch_in_force_ = configuration.version.epoch;
        make_rows(Geometry::of(configuration));
        BRAID_CO_CHECK(take_open_places(words));
        served_owned_ = std::make_unique<ServedArray>(*this, std::move(configuration), setup_.array,
                                                      *rows_->homes);
        served_ = served_owned_.get();
        serving_ = &served_->serving();
        rows_->homes->bind(serving_->members());
        make_reservations(served_->configuration());
        for (const MemberRecord& at : served_->configuration().members) {
            if (at.role && !takes_part(at.state)) serving_->members().note_absent(*at.role, {});
        }
        for (const auto& [node, start] : left_out_) reservations_->node_gone(node);
        for (const std::uint32_t node : fellows()) watch_if_away(node);
        if (setup_.array.force) {
            log(Severity::warning,
                fmt::format(
                    "force=true counts at the node that decides about the start ({}), and not "
                    "here",
                    name_of(master_)));
        }
        co_return Unit{};
    }
    if (what == "start") {
        const std::string phase = fields.text("phase");
        BRAID_CO_CHECK(fields.check());
        for (const StartPhase one :
             {StartPhase::looking, StartPhase::array, StartPhase::creating, StartPhase::joining}) {
            if (!rows_ && phase == text_of(one)) set_phase(one);
        }
        co_return Unit{};
    }
    if (what == "dismissed") {
        dismissed_ = true;
        here_changed_.set();
        co_return Unit{};
    }
    if (what == "close" || what == "free") {
        const std::uint32_t number = fields.number32("disk");
        BRAID_CO_CHECK(fields.check());
        if (number >= shelf_.size()) co_return Refusal{"there is no such disk here"};
        if (what == "free") {
            if (rows_ && shelf_[number]) free_disk(number);
            co_return Unit{};
        }
        // Before there is an array it is of a start that came to nothing: the next one needs it.
        if (rows_) close_disk(number);
        co_return Unit{};
    }
    if (!served_) {
        // What is only shown does no harm where there is nothing to show it.
        if (is_event(what) || what == node_words::rebuild_status) co_return Unit{};
        co_return Unit{};  // it is meant for another start of this node
    }
    Serving& serving = *serving_;
    const Geometry& geometry = rows_->geometry;
    if (what == "adopt") {
        const Words* about = fields.object("configuration");
        BRAID_CO_CHECK(fields.check());
        BRAID_CO_TRY(const Configuration wanted, configuration_of(*about));
        BRAID_CO_CHECK(served_->check_same(wanted));
        rows_->home.adopt(wanted);
        served_->adopt(wanted);
        enter_lease();
        co_return Unit{};
    }
    if (is_event(what)) {
        const auto severity =
            fields.number("severity", static_cast<std::uint64_t>(Severity::error));
        std::string kind = fields.text("kind");
        std::string text = fields.text("text");
        BRAID_CO_CHECK(fields.check());
        served_->log().tell(static_cast<Severity>(severity), std::move(kind), std::move(text));
        co_return Unit{};
    }
    if (what == "status" || what == node_words::rebuild_status) {
        BRAID_CO_TRY(ToldStatus told, told_status_of(words, geometry));
        for (const NodeStatus& node : told.nodes) told_of_[node.id] = node;
        served_->set_told(std::move(told));
        co_return Unit{};
    }
    if (what == "attach") {
        const MemberIndex which = fields.member(geometry);
        const std::uint32_t node = fields.number32("node", nodes_max - 1);
        const DataArea area{{fields.number("begin")}};
        const Words* about = fields.object("disk");
        BRAID_CO_CHECK(fields.check());
        if (setup_.config.find(node) == nullptr) co_return Refusal{"there is no such node"};
        if (!is_row_aligned(area.begin)) co_return Refusal{"\"begin\" is not a row's"};
        const auto& slot = serving.members().slot(which);
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
    if (what == "behind") {
        const MemberIndex which = fields.member(geometry);
        const bool is_first = fields.flag("first");
        WindowSet windows;
        BRAID_CO_CHECK(take_windows(fields, geometry, &windows));
        Members& members = serving.members();
        if (takes_part(members.slot(which).state)) co_return Refusal{"the member has a role"};
        if (is_first) members.set_behind(which, {});
        if (!members.add_behind(which, windows)) co_return Refusal{"there is no room for it"};
        co_return Unit{};
    }
    if (what == "detach") {
        const MemberIndex which = fields.member(geometry);
        BRAID_CO_CHECK(fields.check());
        // What else is told is not held back by what a disk does not answer.
        if (!serving.members().slot(which).is_open()) co_return Unit{};
        if (!detaching_.has(which)) tasks_.spawn(detach_when_quiet(which));
        detaching_.add(which);
        co_return Unit{};
    }
    if (what == fence_words::verdict) {
        const std::uint64_t fence = fields.number("fence", epoch_max);
        BRAID_CO_CHECK(fields.check());
        if (!passing_ || passing_->fence != fence) co_return Unit{};  // of one that has failed
        co_return take_verdict(words, &passing_->verdict);
    }
    if (what == fence_words::go_on) {
        const std::uint64_t fence = fields.number("fence", epoch_max);
        BRAID_CO_CHECK(fields.check());
        if (fence != fence_.epoch || passing_) co_return Unit{};
        verdict_ = {};
        rows_->homes->thaw();
        co_return Unit{};
    }
    if (what == "killed") co_return told_killed(words);
    if (what == "lost") {
        const MemberIndex which = fields.member(geometry);
        const auto state = member_state_of(fields.text("state"));
        if (!state || takes_part(*state)) fields.is_wrong("state", "a lost member's");
        BRAID_CO_CHECK(fields.check());
        serving.member_lost(which, *state);
        lost_here(which);
        co_return Unit{};
    }
    if (what == "kept") {
        const MemberIndex which = fields.member(geometry);
        BRAID_CO_CHECK(fields.check());
        rows_->home.keep(which);
        co_return Unit{};
    }
    if (what == "unusable") {
        const MemberIndex which = fields.member(geometry);
        BRAID_CO_CHECK(fields.check());
        rows_->homes->loss_is_known(which);
        co_return Unit{};
    }
    if (what == "in_force") {
        const Words* about = fields.object("configuration");
        BRAID_CO_CHECK(fields.check());
        BRAID_CO_TRY(const Configuration now, configuration_of(*about));
        BRAID_CO_CHECK(served_->check_same(now));
        epoch_in_force_ = now.version.epoch;
        rows_->home.in_force(now);
        served_->in_force(now);
        co_return Unit{};
    }
    if (what == "marked") {
        for (const Words& one : fields.list("entries", marks_told_max)) {
            const auto* entry = one.get_ptr<const Words::array_t*>();
            IntentEntry mark;
            const bool is_entry = entry != nullptr && entry->size() == 3 &&
                                  std::ranges::all_of(*entry, [](const Words& value) {
                                      return value.is_number_unsigned();
                                  });
            if (!is_entry) co_return Refusal{"\"entries\" has what is no mark"};
            mark.volume = static_cast<std::uint32_t>((*entry)[0].get<std::uint64_t>());
            mark.count = static_cast<std::uint32_t>((*entry)[1].get<std::uint64_t>());
            mark.first = StripeIndex{(*entry)[2].get<std::uint64_t>()};
            if (mark.count == 0 || raw(mark.first) >= geometry.stripes ||
                mark.count > geometry.stripes - raw(mark.first)) {
                co_return Refusal{"a mark is beyond the array"};
            }
            marked_.push_back(mark);
        }
        BRAID_CO_CHECK(fields.check());
        co_return Unit{};
    }
    if (what == "doubt") {
        const WindowIndex begin{fields.number("begin", raw(geometry.window_end()))};
        const WindowIndex end{fields.number("end", raw(geometry.window_end()))};
        if (!(begin < end)) fields.is_wrong("end", "behind \"begin\"");
        BRAID_CO_CHECK(fields.check());
        serving.add_doubt({begin, end});
        co_return Unit{};
    }
    if (what == "retire_marks") {
        const StripeIndex before{fields.number("before", geometry.stripes)};
        BRAID_CO_CHECK(fields.check());
        if (!marks_begun_) cut_before(&marked_, before);
        serving.doubt_passed(raw(before) == geometry.stripes ? geometry.window_end()
                                                             : geometry.first_window(before));
        serving.retire_marks(before);
        co_return Unit{};
    }
    if (what == "region") {
        const std::uint64_t bytes = fields.number("bytes", intent_region_max);
        if (bytes < intent_region_min) fields.is_wrong("bytes", "a region's");
        BRAID_CO_CHECK(fields.check());
        serving.set_region(bytes);
    } else if (what == "owing") {
        serving.set_owing(fields.flag("owing"));
    } else if (what == "resync_comes") {
        serving.set_resync_comes(fields.flag("comes"));
    } else if (what == "trust_all") {
        serving.trust_all();
    } else if (what == "end_marks") {
        marks_wanted_ = false;
        serving.end_marks();
    } else if (what == "halt") {
        serving.halt();
    } else if (what == "failed") {
        serving.array_failed();
        served_->decider().look_again();
    } else {
        co_return Refusal{"nothing is known by this name"};
    }
    BRAID_CO_CHECK(fields.check());
    co_return Unit{};
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
