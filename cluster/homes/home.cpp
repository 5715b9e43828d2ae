// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/home.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "engine/stripes/stripe_io.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

DriveResult failed(int os_error) { return {DriveOutcome::failed, os_error}; }
DriveResult lost() { return {DriveOutcome::lost, ENODEV}; }
/// Not carried out, and no fault of the member's.
DriveResult refused(int os_error) { return {DriveOutcome::fenced, os_error}; }

/// What is built on locks, or decides about what is staged.
bool ends_with_fence(HomeCommandKind kind) {
    switch (kind) {
        case HomeCommandKind::lock:
        case HomeCommandKind::stage:
        case HomeCommandKind::decide:
        case HomeCommandKind::drop:
        case HomeCommandKind::unlock:
            return true;
        default:
            return false;
    }
}

}  // namespace

void Home::attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) {
    BRAID_REQUIRE(disk != nullptr && is_row_aligned(area.begin));
    BRAID_REQUIRE(raw(member) < geometry_.member_count);
    if (auto before = members_.extract(member)) {
        BRAID_REQUIRE(before.mapped().suspended);
        former_.push_back(std::move(before));
    }
    Member& at = members_[member];
    at.disk = std::move(disk);
    at.area = area;
    at.changes = 1;  // of whoever had it before
}

DeviceOffset Home::offset_of(const Member& member, WindowIndex window, std::uint32_t row) const {
    return member.area.on_device(geometry_.row_offset(geometry_.window_place(window), row));
}

/// A home that has stopped says of no member that it is lost: nobody has decided that.
void Home::answer(NodeBoot whom, HomeReply* reply, DriveResult result) {
    BRAID_REQUIRE(reply != nullptr);
    HomeAnswer told;
    told.result = result;
    if (stopped_ && result.outcome == DriveOutcome::lost) told.result = refused(ESHUTDOWN);
    told.applied_upto = book_.applied_upto(whom);
    reply->answered(told);
}

void Home::granted(CommandId claim, const Locking& lock) {
    if (lock.with.rows == 0) return grant(claim, lock.reply, false);
    tasks_.spawn(read_with_lock(claim, lock));
}

/// Where they cannot be read nothing comes with the lock: who has it reads them, and hears why not.
Task<void> Home::read_with_lock(CommandId claim, Locking lock) {
    bool is_read = members_.contains(lock.member);
    std::byte* into = lock.into;
    for (RowMask left = lock.with.rows; left != 0 && is_read;) {
        const auto first = static_cast<std::uint32_t>(std::countr_zero(left));
        const auto count = static_cast<std::uint32_t>(std::countr_one(left >> first));
        WindowRows run;
        run.window = lock.with.window;
        run.rows = row_range(first, count);
        const DriveResult result = co_await read_window(lock.member, run, book_.next_entry(), into);
        is_read = result.ok();
        into += count * row_size;
        left &= ~run.rows;
    }
    if (stopped_) co_return answer(claim.from, lock.reply, refused(ESHUTDOWN));
    if (lock.fence != fence_) co_return answer(claim.from, lock.reply, refused(ESTALE));
    grant(claim, lock.reply, is_read);
}

void Home::grant(CommandId claim, HomeReply* reply, bool has_bytes) {
    HomeAnswer told;
    told.has_bytes = has_bytes;
    told.applied_upto = book_.applied_upto(claim.from);
    if (!BRAID_MUTANT(grant_without_position)) {
        for (const auto& [member, upto] : rebuilt_) told.rebuilt.push_back({member, upto});
    }
    reply->answered(told);
}

void Home::adopt(const Configuration& wanted) {
    std::erase_if(rebuilt_, [&](const auto& one) {
        const MemberRecord* record = wanted.member(one.first);
        if (BRAID_MUTANT(position_forgotten_early) && record->state == MemberState::in_sync) {
            return true;
        }
        return record == nullptr || !takes_part(record->state);
    });
}

void Home::in_force(const Configuration& wanted) {
    std::erase_if(rebuilt_, [&](const auto& one) {
        const MemberRecord* record = wanted.member(one.first);
        return record == nullptr || record->state != MemberState::rebuilding;
    });
}

void Home::stop() {
    if (std::exchange(stopped_, true)) return;
    for (const auto& [member, at] : members_) suspend(member);
    for (const auto& [claim, lock] : std::exchange(locking_, {})) {
        answer(claim.from, lock.reply, refused(ESHUTDOWN));
    }
    wake_all();
}

void Home::take(HomeCommand command, HomeReply* reply) {
    BRAID_REQUIRE((reply != nullptr) == is_answered(command.kind));
    if (stopped_) {
        if (reply != nullptr) answer(command.id.from, reply, refused(ESHUTDOWN));
        return;
    }
    if (command.finished != 0) book_.finished(command.id.from, command.finished);
    if (frozen_ && ends_with_fence(command.kind)) {
        if (reply != nullptr) answer(command.id.from, reply, refused(ESTALE));
        return;
    }
    Effects effects;
    switch (command.kind) {
        case HomeCommandKind::read:
            return tasks_.spawn(read(std::move(command), reply));
        case HomeCommandKind::flush:
            return tasks_.spawn(flush(std::move(command), reply));
        case HomeCommandKind::stage:
            return stage(std::move(command), reply);
        case HomeCommandKind::lock: {
            Locking lock{reply, command.member, fence_, {}, command.into};
            lock.with = {command.at.window, command.with_lock};
            if (!book_.has_room_for(command.id)) {
                return answer(command.id.from, reply, refused(EBUSY));
            }
            if (book_.lock(command.id, command.at, command.mode)) {
                return granted(command.id, lock);
            }
            if (const auto before = locking_.find(command.id); before != locking_.end()) {
                answer(command.id.from, before->second.reply, refused(EALREADY));
            }
            locking_.insert_or_assign(command.id, lock);
            return;
        }
        case HomeCommandKind::unlock:
            if (walker_ && *walker_ != command.id.from.node) command.rebuilt.clear();
            for (const Rebuilt& at : command.rebuilt) {
                rebuilt_[at.member] = std::max(rebuilt_[at.member], at.upto);
            }
            book_.unlock(command.id, effects);
            break;
        case HomeCommandKind::decide:
            book_.decide(command.id, effects);
            break;
        case HomeCommandKind::drop:
            book_.drop(command.id, effects);
            break;
        case HomeCommandKind::progress:
            return answer(command.id.from, reply, {});
        case HomeCommandKind::settled:
            return tasks_.spawn(settle(std::move(command), reply));
        case HomeCommandKind::finished:
            break;
    }
    carry_out(effects);
}

/// What follows of a change of the book.
void Home::carry_out(const Effects& effects) {
    for (const CommandId& claim : effects.granted) {
        const auto found = locking_.find(claim);
        if (found == locking_.end() && stopped_) continue;
        BRAID_REQUIRE(found != locking_.end());
        const Locking lock = found->second;
        locking_.erase(found);
        ++handed_over_;
        granted(claim, lock);
    }
    for (const EntryNumber entry : effects.dropped) forget_content(entry);
    for (const EntryNumber entry : effects.apply) {
        tasks_.spawn(apply(entry, book_.stage_of(entry)));
    }
    for (const auto& told : {effects.readable, effects.flushable}) {
        for (const WaiterNumber number : told) {
            const auto found = waiting_.find(number);
            BRAID_REQUIRE(found != waiting_.end());
            found->second->set();
            waiting_.erase(found);
        }
    }
}

// ---- a new fence -------------------------------------------------------------------------------

void Home::freeze() {
    if (stopped_ || std::exchange(frozen_, true)) return;
    ++fence_;
    book_.clear_locks();
    for (const auto& [claim, lock] : std::exchange(locking_, {})) {
        answer(claim.from, lock.reply, refused(ESTALE));
    }
}

void Home::enter(const WriteVerdict& verdict, const std::vector<NodeBoot>& gone,
                 const std::vector<Rebuilt>& rebuilt) {
    if (stopped_) return;
    BRAID_REQUIRE(frozen_);
    for (const Rebuilt& at : rebuilt) {
        if (BRAID_MUTANT(positions_not_told)) break;
        rebuilt_[at.member] = std::max(rebuilt_[at.member], at.upto);
    }
    for (const auto& [writer, judged] : verdict.writers) {
        const bool is_gone = std::ranges::find(gone, writer) != gone.end();
        for (const RowBook::Known& known : book_.known_of(writer)) {
            if (known.decided) continue;
            Effects effects;
            const bool happens = verdict.fate(known.write) == WriteVerdict::Fate::happens ||
                                 (BRAID_MUTANT(undecided_happen) && !is_gone);
            if (happens && !BRAID_MUTANT(verdict_ignored)) {
                book_.decide(known.write, effects);
            } else {
                book_.drop(known.write, effects);
            }
            carry_out(effects);
        }
    }
    for (const NodeBoot& writer : gone) {
        Effects effects;
        book_.forget(writer, effects);
        carry_out(effects);
    }
    frozen_ = false;
}

// ---- staged writes -----------------------------------------------------------------------------

void Home::stage(HomeCommand command, HomeReply* reply) {
    if (frozen_) return answer(command.id.from, reply, refused(ESTALE));
    const auto at = members_.find(command.member);
    if (at == members_.end()) return answer(command.id.from, reply, refused(ENODEV));
    if (at->second.failing) {
        return tasks_.spawn(stage_after_verdict(std::move(command), reply, fence_));
    }
    if (const int error = unapplied_error(command.member); error != 0) {
        return answer(command.id.from, reply, failed(error));
    }
    if (!has_room(command.id.from, command.content.size())) {
        return answer(command.id.from, reply, refused(EBUSY));
    }
    Stage wanted;
    wanted.write = command.id;
    wanted.member = command.member;
    wanted.at = command.at;
    wanted.participants = command.participants.bits();
    wanted.has_bytes = !is_suspended(command.member);
    std::optional<EntryNumber> entry;
    const StageAnswer told = book_.stage(wanted, &entry);
    if (told != StageAnswer::staged) {
        return answer(command.id.from, reply, refused(told == StageAnswer::full ? EBUSY : EINVAL));
    }
    if (!wanted.has_bytes) return answer(command.id.from, reply, lost());
    if (entry) {
        keep(*entry, Content{std::move(command.content), command.may_free, command.id.from});
    }
    answer(command.id.from, reply, {});
    if (BRAID_MUTANT(applied_before_all)) {
        Effects effects;
        book_.decide(command.id, effects);
        carry_out(effects);
    }
}

/// Its writer says nothing of the write before he is answered. It may fail again meanwhile.
Task<void> Home::stage_after_verdict(HomeCommand command, HomeReply* reply, std::uint64_t fence) {
    co_await verdict(&members_.at(command.member));
    if (stopped_) co_return answer(command.id.from, reply, refused(ESHUTDOWN));
    if (fence != fence_) co_return answer(command.id.from, reply, refused(ESTALE));
    stage(std::move(command), reply);
}

/// Of the member as it was given: its role may have another disk when this one has been given up.
Task<void> Home::verdict(Member* member) {  // its address stays
    while (member->failing) co_await member->verdict.next();
}

/// Of a write that was decided and could not be carried out: the member takes no further ones.
/// Without a member: of any.
int Home::unapplied_error(std::optional<MemberIndex> member) const {
    for (const auto& [entry, error] : unapplied_) {
        if (!member || book_.stage_of(entry).member == *member) return error;
    }
    return 0;
}

/// Of the member as it was then: its role may have another disk when this one has answered.
Task<void> Home::apply(EntryNumber entry, Stage stage) {
    Member& member = members_.at(stage.member);  // its address stays
    int error = 0;
    // The content stays where it is, also as an orphan.
    if (const auto content = contents_.find(entry); content != contents_.end()) {
        error = co_await write_content(member, stage, content->second);
    }
    if (error != 0 && error != ENOSPC && !member.suspended) {
        ask_verdict(stage.member, HomeFault::write, error);
    }
    if (member.suspended) {  // the book does not wait for it any more
        if (const auto orphan = orphans_.find(entry); orphan != orphans_.end()) {
            free_memory(orphan->second);
            orphans_.erase(orphan);
        }
        co_return;
    }
    if (error == 0) {
        ++member.changes;
        forget_content(entry);
        unapplied_.erase(entry);
        Effects effects;
        book_.applied(entry, effects);
        carry_out(effects);
        co_return;
    }
    unapplied_[entry] = error;
    book_.apply_failed(entry);
    wake_all();  // a flush would wait for it: it looks again, and tells of the error
}

/// The verdict may be there before this returns. Of a flush it is another one than of a write: that
/// is told also while one of a write is on its way.
void Home::ask_verdict(MemberIndex member, HomeFault what, int os_error) {
    BRAID_REQUIRE(os_error != 0);
    Member& at = members_.at(member);
    if (at.suspended) return;
    const bool is_asked = std::exchange(at.failing, true);
    if (is_asked && what == HomeFault::write) return;
    at.fault = what;
    at.os_error = os_error;
    listener_.member_failing(member, what, os_error);
}

void Home::ask_verdicts_again() {
    std::vector<MemberIndex> failing;
    for (const auto& [member, at] : members_) {
        if (at.failing && !at.suspended) failing.push_back(member);
    }
    for (const MemberIndex member : failing) {
        const Member& at = members_.at(member);
        listener_.member_failing(member, at.fault, at.os_error);
    }
}

void Home::keep(MemberIndex member) {
    const auto at = members_.find(member);
    if (at == members_.end() || !std::exchange(at->second.failing, false)) return;
    at->second.verdict.set();
}

/// Who has waited is told by the book, and it has forgotten him; or something else has happened, so
/// that he has to ask again. He entered himself before he asked: the book may tell him at any moment.
bool Home::is_told(WaiterNumber number) {
    if (waiting_.erase(number) == 0) return true;
    book_.cancel(number);
    return false;
}

void Home::wake_all() {
    for (const auto& [number, told] : waiting_) told->set();
}

std::uint64_t Home::memory_bytes() const {
    std::uint64_t all = 0;
    for (const auto& [from, bytes] : memory_of_) all += bytes;
    return all;
}

/// Whoever keeps to his credits always has it.
bool Home::has_room(NodeBoot from, std::uint64_t size) const {
    const auto taken = memory_of_.find(from);
    return taken == memory_of_.end() || taken->second + size <= book_bytes_max;
}

void Home::keep(EntryNumber entry, Content content) {
    const std::uint64_t size = content.bytes.size();
    if (size != 0) memory_of_[content.from] += size;
    const bool is_new = contents_.emplace(entry, std::move(content)).second;
    BRAID_REQUIRE(is_new);
}

void Home::free_memory(const Content& content) {
    const std::uint64_t size = content.bytes.size();
    if (size == 0) return;
    const auto taken = memory_of_.find(content.from);
    BRAID_REQUIRE(taken != memory_of_.end() && taken->second >= size);
    if ((taken->second -= size) == 0) memory_of_.erase(taken);
}

void Home::forget_content(EntryNumber entry) {
    const auto content = contents_.find(entry);
    if (content == contents_.end()) return;
    free_memory(content->second);
    contents_.erase(content);
}

void Home::suspend(MemberIndex member) {
    Member& at = members_.at(member);
    if (at.suspended) return;
    at.suspended = true;
    at.failing = false;
    at.verdict.set();
    if (!BRAID_MUTANT(suspended_member_read)) at.disk.reset();
    std::vector<EntryNumber> over;
    for (const auto& [entry, content] : contents_) {
        if (book_.stage_of(entry).member == member) over.push_back(entry);
    }
    for (const EntryNumber entry : over) {
        if (book_.is_applying(entry) || retrying_.contains(entry)) {
            orphans_.insert(contents_.extract(entry));
        } else {
            forget_content(entry);
        }
    }
    std::erase_if(unapplied_,
                  [&](const auto& one) { return book_.stage_of(one.first).member == member; });
    Effects effects;
    book_.member_lost(member, effects);
    carry_out(effects);
    at.flush_over.set();
    wake_all();
}

/// @return 0, or an errno
Task<int> Home::write_content(const Member& member, const Stage& stage, const Content& content) {
    const bool is_zero = content.bytes.size() == 0;
    const std::shared_ptr<Disk> disk = member.disk;
    if (!disk) co_return ENODEV;
    std::array<DiskOp, window_rows_max> ops;
    bool zero = is_zero;
    for (;;) {
        DiskGroup group;
        std::uint32_t used = 0;
        for_each_run(stage.at.rows, [&](std::uint32_t row, std::uint32_t count) {
            DiskOp& op = ops[used++] = DiskOp{};
            op.kind = zero ? DiskOpKind::zero : DiskOpKind::write;
            op.may_free = content.may_free;
            op.offset = offset_of(member, stage.at.window, row).value;
            op.size = count * row_size;
            const std::byte* from = is_zero
                                        ? zero_window().data()
                                        : content.bytes.data() + content_offset(stage.at.rows, row);
            op.data = zero ? nullptr : const_cast<std::byte*>(from);  // NOLINT: it only reads it
            submit(*disk, group, op);
        });
        co_await group;
        int error = 0;
        for (std::uint32_t i = 0; i != used; ++i) {
            if (ops[i].os_error != 0) error = ops[i].os_error;
        }
        if (!zero || error != EOPNOTSUPP || member.suspended) co_return error;
        zero = false;  // the disk cannot: zeros are written
    }
}

// ---- reads and flushes -------------------------------------------------------------------------

Task<void> Home::read(HomeCommand command, HomeReply* reply) {
    DriveResult result;
    if (!members_.contains(command.member)) result = refused(ENODEV);
    RowIndex row = command.first;
    const RowIndex end = command.first + command.count;
    std::byte* into = command.into;
    const EntryNumber before = book_.next_entry();
    while (row < end && result.ok()) {
        const WindowIndex window = geometry_.window_of(row);
        const std::uint64_t skip = row - geometry_.first_row(window);
        const std::uint64_t count = std::min(end - row, geometry_.window_rows - skip);
        WindowRows at;
        at.window = window;
        at.rows = row_range(static_cast<std::uint32_t>(skip), static_cast<std::uint32_t>(count));
        result = co_await read_window(command.member, at, before, into);
        into += count * row_size;
        row += count;
    }
    answer(command.id.from, reply, result);
}

/// Rows in one piece.
Task<DriveResult> Home::read_window(MemberIndex member, WindowRows at, EntryNumber before,
                                    std::byte* into) {
    BRAID_REQUIRE(at.rows != 0);
    const Member& was = members_.at(member);  // its role may have another disk later
    std::optional<std::vector<RowBook::Source>> sources;
    for (;;) {
        if (was.suspended && !BRAID_MUTANT(suspended_member_read)) co_return lost();
        const WaiterNumber number{next_waiter_++};
        Event told;
        waiting_.emplace(number, &told);
        sources = book_.read(member, at, before, number);
        if (!sources && BRAID_MUTANT(undecided_not_awaited)) {
            book_.cancel(number);
            sources.emplace();
        }
        if (sources) {
            waiting_.erase(number);
            break;
        }
        co_await told.wait();
        (void)is_told(number);
    }
    if (BRAID_MUTANT(memory_not_read)) sources->clear();
    const auto first = static_cast<std::uint32_t>(std::countr_zero(at.rows));
    RowMask on_disk = at.rows;
    for (const RowBook::Source& source : *sources) {
        const Content& content = contents_.at(source.entry);
        const RowMask all = book_.stage_of(source.entry).at.rows;
        on_disk &= ~source.rows;
        for (RowMask left = source.rows; left != 0; left &= left - 1) {
            const auto row = static_cast<std::uint32_t>(std::countr_zero(left));
            std::byte* to = into + (row - first) * row_size;
            if (content.bytes.size() == 0) {
                std::memset(to, 0, row_size);
            } else {
                std::memcpy(to, content.bytes.data() + content_offset(all, row), row_size);
            }
        }
    }
    std::array<DiskOp, window_rows_max> ops;
    std::uint32_t used = 0;
    const std::shared_ptr<Disk> disk = was.disk;
    DiskGroup group;
    for_each_run(on_disk, [&](std::uint32_t row, std::uint32_t count) {
        DiskOp& op = ops[used++];
        op.offset = offset_of(was, at.window, row).value;
        op.size = count * row_size;
        op.data = into + (row - first) * row_size;
        submit(*disk, group, op);
    });
    co_await group;
    if (was.suspended && !BRAID_MUTANT(suspended_member_read)) co_return lost();
    for (std::uint32_t i = 0; i != used; ++i) {
        if (ops[i].os_error != 0) co_return failed(ops[i].os_error);
    }
    co_return DriveResult{};
}

Task<void> Home::flush(HomeCommand command, HomeReply* reply) {
    DriveResult result = refused(ENODEV);
    if (members_.contains(command.member)) result = co_await flush_member(command.member);
    answer(command.id.from, reply, result);
}

Task<void> Home::settle(HomeCommand command, HomeReply* reply) {
    int error = co_await wait_applied({});
    if (error != 0) {
        // What a member that is lost did not take need not be applied.
        std::vector<Member*> all;
        for (auto& [member, at] : members_) all.push_back(&at);
        for (Member* at : all) co_await verdict(at);
        error = co_await wait_applied({});
    }
    answer(command.id.from, reply, error == 0 ? DriveResult{} : refused(error));
}

/// What is staged now for the member, or for any, is on the devices, as far as they are there.
/// @return 0, or the errno of an entry that could not be written, and stays
Task<int> Home::wait_applied(std::optional<MemberIndex> member) {
    for (;;) {
        if (stopped_) co_return ESHUTDOWN;
        if (const int error = unapplied_error(member); error != 0) co_return error;
        const WaiterNumber number{next_waiter_++};
        Event told;
        waiting_.emplace(number, &told);
        if (book_.flush(member, number)) {
            waiting_.erase(number);
            co_return 0;
        }
        co_await told.wait();
        if (is_told(number)) co_return 0;
    }
}

/// What could not be written.
Task<void> Home::try_again(MemberIndex member) {
    for (const EntryNumber entry : book_.failed()) {
        if (is_suspended(member)) co_return;
        if (!unapplied_.contains(entry) || book_.stage_of(entry).member != member) continue;
        if (!retrying_.insert(entry).second) continue;
        co_await apply(entry, book_.stage_of(entry));
        retrying_.erase(entry);
    }
}

Task<DriveResult> Home::flush_member(MemberIndex member) {
    Member& at = members_.at(member);
    co_await try_again(member);
    if (!BRAID_MUTANT(flush_passes_staged)) {
        const int error = co_await wait_applied(member);
        co_await verdict(&at);
        if (at.suspended) co_return lost();
        if (error != 0) co_return refused(error);
    }
    const std::uint64_t wanted = at.changes;
    while (!at.suspended && at.flushed < wanted) {
        if (at.failing) {
            co_await verdict(&at);
            continue;
        }
        if (at.flush_error != 0) co_return refused(at.flush_error);
        // One at a time: what came since the one that is under way has the next one together.
        if (!at.flushing) {
            at.flushing = true;
            tasks_.spawn(flush_device(member));
        }
        if (at.flushing) co_await at.flush_over.next();
    }
    co_return at.suspended ? lost() : DriveResult{};
}

Task<void> Home::flush_device(MemberIndex member) {
    Member& at = members_.at(member);
    BRAID_REQUIRE(at.flushing && at.flushed <= at.changes);
    const std::uint64_t covered = at.changes;
    const std::shared_ptr<Disk> disk = at.disk;
    DiskOp op;
    op.kind = DiskOpKind::flush;
    op.os_error = ENODEV;  // unless there is a disk: it may be suspended since it was asked
    if (disk) {
        DiskGroup group;
        submit(*disk, group, op);
        co_await group;
    }
    at.flushing = false;
    if (op.ok()) {
        at.flushed = std::max(at.flushed, covered);
    } else {
        at.flush_error = op.os_error;
        if (!at.suspended) ask_verdict(member, HomeFault::flush, op.os_error);
    }
    at.flush_over.set();
}

}  // namespace braid::cluster
