// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/epochs/remote_decider.h"

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"

namespace braid::cluster {
namespace {

Words words_of(const std::vector<BadRange>& rows) {
    Words list = Words::array();
    for (const BadRange& range : rows) {
        list.push_back({{"member", raw(range.member)},
                        {"first", raw(range.first)},
                        {"count", range.count},
                        {"kind", std::string(text_of(range.kind))}});
    }
    return list;
}

Checked<std::vector<BadRange>> rows_of(const Words& words, const Geometry& geometry) {
    const std::uint64_t end = geometry.stripes * geometry.rows_per_strip();
    WordFields fields(words);
    std::vector<BadRange> rows;
    for (const Words& one : fields.list("rows", ranges_told_max)) {
        if (!one.is_object()) return Refusal{"\"rows\" has what is no object"};
        WordFields at(one);
        BadRange range;
        range.member = at.member(geometry);
        range.first = RowIndex{at.number("first", end - 1)};
        range.count = at.number("count", end - raw(range.first));
        const auto kind = bad_kind_of(at.text("kind"));
        if (!kind || range.count == 0) at.is_wrong("kind", "known, or no row is meant");
        BRAID_CHECK(at.check());
        range.kind = *kind;
        rows.push_back(range);
    }
    BRAID_CHECK(fields.check());
    return rows;
}

}  // namespace

void RemoteDecider::tell_failed(const char* what, MemberIndex member, int os_error) {
    talk_.tell(
        master_,
        {{"tell", "member_failed"}, {"at", what}, {"member", raw(member)}, {"errno", os_error}});
}

void RemoteDecider::follow(std::uint32_t master) {
    master_ = master;
    ++masters_;
    changed_.set();
}

void RemoteDecider::pass_on_to(Decider& own) {
    own_ = &own;
    ++masters_;
    changed_.set();
}

/// Whether it is to be: the one who was asked is gone, and there is another one by now.
Task<bool> RemoteDecider::is_asked_again(std::uint64_t masters, RefusalCode refused) {
    BRAID_REQUIRE(members_ != nullptr && masters <= masters_);
    if (refused != RefusalCode::busy || BRAID_MUTANT(decider_not_asked_again)) co_return false;
    while (masters == masters_ && !members_->failed() && !ended_) co_await changed_.next();
    co_return masters != masters_ && !members_->failed() && !ended_;
}

Task<Result<void>> RemoteDecider::losses_durable() {
    BRAID_REQUIRE(members_ != nullptr);
    while (members_->owes()) {
        if (own_ != nullptr) co_return co_await own_->losses_durable();
        if (members_->failed()) co_return Error{Errc::failed, "array"};
        if (ended_) co_return Error{Errc::fenced, "array"};
        co_await changed_.next();
    }
    co_return Result<void>{};
}

/// As many as a message holds at a time.
Task<Result<void>> RemoteDecider::ask_rows(const char* are, std::vector<BadRange> rows) {
    if (rows.empty() && std::string_view(are) == "known") co_return Result<void>{};
    if (own_ != nullptr) co_return co_await pass_on(are, std::move(rows));
    for (std::size_t at = 0; at == 0 || at < rows.size(); at += ranges_told_max) {
        const std::size_t end = std::min(rows.size(), at + ranges_told_max);
        std::vector<BadRange> some(rows.data() + at, rows.data() + end);
        BRAID_CO_CHECK(co_await ask_some(are, std::move(some)));
    }
    co_return Result<void>{};
}

Task<Result<void>> RemoteDecider::ask_some(const char* are, std::vector<BadRange> rows) {
    BRAID_REQUIRE(rows.size() <= ranges_told_max);
    Words words = asking("rows");
    words["are"] = are;
    words["rows"] = words_of(rows);
    Checked<Words> answer = Refusal{};
    for (bool again = true; again;) {
        if (own_ != nullptr) co_return co_await pass_on(are, std::move(rows));
        const std::uint64_t masters = masters_;
        answer = co_await talk_.ask(master_, words);
        again = false;
        if (!answer) again = co_await is_asked_again(masters, answer.error().code);
    }
    if (!answer) co_return Error{Errc::failed, "decider"};
    WordFields fields(*answer);
    const auto code = fields.number("error", static_cast<std::uint64_t>(Errc::cancelled));
    const auto os_error = static_cast<int>(fields.number32("errno", os_error_max));
    if (!fields.check()) co_return Error{Errc::failed, "decider"};
    if (fields.flag("done")) co_return Result<void>{};
    co_return Error{static_cast<Errc>(code), "decider", os_error};
}

Task<Result<void>> RemoteDecider::pass_on(std::string_view are, std::vector<BadRange> rows) {
    BRAID_REQUIRE(own_ != nullptr);
    if (are == "doubtful") return own_->rows_doubtful(std::move(rows));
    if (are == "known") return own_->rows_known(std::move(rows));
    return own_->rows_unknown(std::move(rows));
}

Task<Result<void>> RemoteDecider::rows_true(WindowPlace place, RowMask rows) {
    BRAID_REQUIRE(rows != 0);
    Words words = asking("true");
    words["stripe"] = raw(place.stripe);
    words["window"] = place.window;
    words["rows"] = rows;
    for (;;) {
        if (own_ != nullptr) co_return co_await own_->rows_true(place, rows);
        const std::uint64_t masters = masters_;
        const Checked<Words> taken = co_await talk_.ask(master_, words);
        if (taken) co_return Result<void>{};
        const bool again = co_await is_asked_again(masters, taken.error().code);
        if (!again) co_return Error{Errc::failed, "decider"};
    }
}

void RemoteDecider::write_refused(WindowPlace place, RowMask rows, RoleSet together) {
    if (own_ != nullptr) return own_->write_refused(place, rows, together);
    talk_.tell(master_, {{"tell", "write_refused"},
                         {"stripe", raw(place.stripe)},
                         {"window", place.window},
                         {"rows", rows},
                         {"together", together.bits()}});
}

Checked<Unit> carry_out_told(Decider& decider, const Geometry& geometry, const Words& words) {
    WordFields fields(words);
    const std::string what = fields.text("tell");
    if (what == "member_failed") {
        const std::string at = fields.text("at");
        const MemberIndex member = fields.member(geometry);
        const auto os_error = static_cast<int>(fields.number32("errno", os_error_max));
        if (os_error == 0) fields.is_wrong("errno", "an error");
        BRAID_CHECK(fields.check());
        if (at == "read") decider.read_failed(member, os_error);
        if (at == "flush") decider.flush_failed(member, os_error);
        if (at == "write") decider.strip_write_failed(member, os_error);
        if (at == "answer") decider.not_answering(member);
        return Unit{};
    }
    if (what == "write_refused") {
        const WindowPlace place = fields.place(geometry);
        const RowMask rows = fields.rows(geometry);
        const std::uint64_t bits =
            fields.number("together", RoleSet::first(geometry.member_count).bits());
        BRAID_CHECK(fields.check());
        decider.write_refused(place, rows, RoleSet{bits});
        return Unit{};
    }
    BRAID_CHECK(fields.check());
    return Refusal{"nothing is known by this name"};
}

/// A row that was listed meanwhile, with a member that was lost, is not known any more.
Checked<Words> take_true_rows(Members& members, const Geometry& geometry, const Words& words) {
    WordFields fields(words);
    const WindowPlace place = fields.place(geometry);
    const RowMask rows = fields.rows(geometry);
    BRAID_CHECK(fields.check());
    members.rows_true(place, rows);
    return Words::object();
}

Task<Checked<Words>> carry_out_asked(Decider& decider, const Geometry& geometry,
                                     const Words& words) {
    WordFields fields(words);
    const std::string are = fields.text("are");
    BRAID_CO_CHECK(fields.check());
    BRAID_CO_TRY(std::vector<BadRange> rows, rows_of(words, geometry));
    if (rows.empty() && are == "known") co_return Refusal{"no row is known"};
    Result<void> result = Error{Errc::unsupported, "decider"};
    if (are == "doubtful") result = co_await decider.rows_doubtful(std::move(rows));
    if (are == "unknown") result = co_await decider.rows_unknown(std::move(rows));
    if (are == "known") result = co_await decider.rows_known(std::move(rows));
    const Error error = result ? Error{} : result.error();
    Words answer;
    answer["done"] = result.has_value();
    answer["error"] = static_cast<std::uint64_t>(error.code);
    answer["errno"] = static_cast<std::uint64_t>(error.os_error);
    co_return answer;
}

}  // namespace braid::cluster
