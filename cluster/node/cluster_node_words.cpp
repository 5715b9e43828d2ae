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
bool ClusterNode::is_urgent(const Words& words) const {
    if (!serves_) return false;
    const auto asks = words.find("ask");
    return is_prepare(words) || (asks != words.end() && *asks == fence_words::held);
}

Task<Checked<Words>> ClusterNode::asked(std::uint32_t from, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("ask");
    BRAID_CO_CHECK(fields.check());
    if (what == "without") co_return asked_without(from, words);
    // Who waits to be let in has yet to hear who decides.
    if (what == fence_words::nodes && (!rows_ || from == master_)) {
        co_return co_await asked_to_know(from, words);
    }
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
    if (what == fence_words::held) co_return co_await asked_what_is_held();
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
    } else if (what == "add_node" || what == "remove_node") {
        const std::uint32_t node = fields.number32("node", nodes_max - 1);
        if (node == 0) fields.is_wrong("node", "a node's");
        BRAID_CO_CHECK(fields.check());
        if (what == "add_node") done = co_await carry_out_add(node);
        if (what == "remove_node") done = co_await carry_out_remove(node);
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

}  // namespace braid::cluster
