// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: a member comes back, and is made true only where it missed something (AbsenceMap). All
// nodes have to agree on where that is before any of them counts the member in elsewhere: who writes
// without it, and who reads it, may be two. So it gets its role in a fence: when all nodes have prepared,
// and nothing is being written, the one who decides asks each of them what it has written since the
// member left; tells all of them the whole; and brings the configuration into force in which the member
// has its role. Then the fence begins.
#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <utility>

#include "cluster/epochs/window_words.h"
#include "cluster/node/cluster_node.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/forming.h"
#include "engine/base/mutation.h"

namespace braid::cluster {
namespace {

Refusal not_now() {
    return {"nodes are just agreeing on who serves; try again in a moment", RefusalCode::busy};
}

/// @param node  who is asked
Words asking_for(const char* what, const ReturningMember& back, std::uint32_t node) {
    const auto record = back.records.find(node);
    Words words = asking(what);
    words["member"] = raw(back.member);
    words["record"] = record == back.records.end() ? 0 : record->second;
    if (back.displaced) words["displaced"] = back.displaced->text();
    return words;
}

}  // namespace

Task<Checked<std::uint64_t>> ClusterNode::begin_return(ReturningMember back) {
    // Before others stop for nothing.
    BRAID_CO_CHECK(serving_->missed_by(back));
    // What a node had marked that is gone is noted first.
    if (!may_let_in() || !retiring_.empty()) co_return not_now();
    if (BRAID_MUTANT(return_unfenced)) {
        const Forming none;
        BRAID_CO_TRY(WindowSet missed, co_await gather_missed(none, back));
        const std::uint64_t count = missed.count();
        serving_->set_returning(back.member, std::move(missed));
        co_return count;
    }
    BRAID_REQUIRE(is_master());
    BRAID_REQUIRE(return_ == nullptr);
    const auto coming = std::make_shared<Return>(Return{std::move(back)});
    return_ = coming;
    forms_fence_ = true;
    tasks_.spawn(form_fence());
    while (!coming->answer) co_await fence_changed_.next();
    co_return std::move(*coming->answer);
}

void ClusterNode::end_return() {
    if (!return_) return;
    return_->over = true;
    if (!return_->answer) return_->answer = not_now();
    return_.reset();
    fence_changed_.set();
}

/// Where a member is to get its role in this fence, or in one that did not begin: until it has it. False:
/// somebody else is to be excluded.
Task<bool> ClusterNode::let_return(Forming* forming) {
    const std::shared_ptr<Return> coming = return_;
    if (!coming) co_return true;
    if (!coming->answer) {
        Checked<std::uint64_t> answer = not_now();
        if (forming->gone.empty() && forming->joined.empty()) {
            Checked<WindowSet> missed = co_await gather_missed(*forming, coming->back);
            if (missed && !is_over(*forming)) {
                answer = missed->count();
                serving_->set_returning(coming->back.member, std::move(*missed));
            } else if (!missed) {
                answer = missed.error();
            }
        }
        coming->answer = std::move(answer);
        if (!*coming->answer) end_return();
        fence_changed_.set();
    }
    while (!coming->over && !is_over(*forming)) co_await fence_changed_.next();
    co_return !is_over(*forming);
}

/// By all nodes together.
Task<Checked<WindowSet>> ClusterNode::gather_missed(const Forming& forming, ReturningMember back) {
    BRAID_CO_TRY(WindowSet missed, missed_here(back));
    if (BRAID_MUTANT(return_unasked)) co_return std::move(missed);
    for (const std::uint32_t node : fellows()) {
        for (std::optional<std::uint64_t> from = 0; from;) {
            Words words = asking_for(fence_words::missed, back, node);
            words["fence"] = forming.fence;
            words["from"] = *from;
            const Checked<Words> answer = co_await talk_.ask(node, words);
            if (is_over(forming)) co_return not_now();
            if (!answer) {
                co_return Refusal{fmt::format("{}: {}", name_of(node), answer.error().text),
                                  answer.error().code};
            }
            WordFields fields(*answer);
            from.reset();
            if (answer->contains("next")) from = fields.number("next");
            BRAID_CO_CHECK(take_windows(fields, rows_->geometry, &missed));
        }
    }
    co_return std::move(missed);
}

Checked<ReturningMember> ClusterNode::member_back_of(const Words& words) const {
    WordFields fields(words);
    ReturningMember back;
    if (!rows_) return Refusal{"no array is open", RefusalCode::conflict};
    back.member = fields.member(rows_->geometry);
    back.records[setup_.self] = fields.number("record");
    if (words.contains("displaced")) {
        const Result<Uuid> uuid = Uuid::parse(fields.text("displaced"));
        if (!uuid || *uuid == Uuid{}) fields.is_wrong("displaced", "a member's uuid");
        if (uuid) back.displaced = *uuid;
    }
    BRAID_CHECK(fields.check());
    return back;
}

/// As far as it has come, and with what several nodes have written for each of them: more than it is.
Task<Checked<std::uint64_t>> ClusterNode::windows_missed(ReturningMember back) {
    if (!may_let_in() || !retiring_.empty()) co_return not_now();
    BRAID_CO_TRY(const WindowSet here, serving_->missed_by(back));
    std::uint64_t count = here.count();
    for (const std::uint32_t node : fellows()) {
        const Words words = asking_for(fence_words::missed_now, back, node);
        const Checked<Words> answer = co_await talk_.ask(node, words);
        if (!goes_on()) co_return not_now();
        if (!answer) co_return answer.error();
        WordFields fields(*answer);
        count += fields.number("windows", raw(rows_->geometry.window_end()));
        BRAID_CO_CHECK(fields.check());
    }
    co_return count;
}

Checked<Words> ClusterNode::asked_how_much_is_missed(const Words& words) {
    BRAID_TRY(const ReturningMember back, member_back_of(words));
    BRAID_TRY(const WindowSet missed, serving_->missed_by(back));
    Words answer = Words::object();
    answer["windows"] = missed.count();
    return answer;
}

/// While it has prepared for a fence: nothing of it is being written but what happens under the next one
/// as well.
Checked<Words> ClusterNode::asked_what_is_missed(const Words& words) {
    WordFields fields(words);
    const std::uint64_t fence = fields.number("fence");
    const std::uint64_t from = fields.number("from");
    BRAID_CHECK(fields.check());
    BRAID_TRY(const ReturningMember back, member_back_of(words));
    const bool has_prepared = passing_ && passing_->fence == fence;
    if (!has_prepared && !BRAID_MUTANT(return_unfenced)) return not_now();
    if (from == 0) {
        BRAID_TRY(told_missed_, missed_here(back));
    }
    Words answer = Words::object();
    if (const auto next = put_windows(&answer, told_missed_, from)) {
        answer["next"] = *next;
    } else {
        told_missed_.clear();
    }
    return answer;
}

/// Of what this node has written, and has as the home of members.
Checked<WindowSet> ClusterNode::missed_here(const ReturningMember& back) const {
    // Its former disk is still being closed here: what is told of it would wait for that.
    if (serving_->members().slot(back.member).is_open()) return not_now();
    if (rows_->home.gives_to_suspended()) {
        return Refusal{"a disk is still being given what was written before its member was lost",
                       RefusalCode::conflict};
    }
    return serving_->missed_by(back);
}

}  // namespace braid::cluster
