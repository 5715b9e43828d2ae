// SPDX-License-Identifier: BSD-3-Clause
// NodeHomes: its drives, and what becomes of what they have asked when one fence ends and the next one
// begins.
#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

#include "cluster/homes/node_homes.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

/// The rows of both sources, one after the other; nothing if all of them are zeroes.
Buffer packed(const StagedRows& staged) {
    const RowMask rows = staged.rows();
    const bool all_zero = std::ranges::all_of(
        staged.sources, [](const auto& from) { return from.rows == 0 || from.content == nullptr; });
    if (all_zero) return Buffer{};
    Buffer bytes = Buffer::unset(static_cast<std::size_t>(std::popcount(rows)) * row_size);
    for (const StagedRows::Source& source : staged.sources) {
        for_each_run(source.rows, [&](std::uint32_t row, std::uint32_t count) {
            for (std::uint32_t at = row; at != row + count; ++at) {
                std::byte* const to = bytes.data() + content_offset(rows, at);
                if (source.content == nullptr) {
                    std::memset(to, 0, row_size);
                } else {
                    std::memcpy(to, source.content + (at - staged.first) * row_size, row_size);
                }
            }
        });
    }
    return bytes;
}

}  // namespace

// ---- drives ------------------------------------------------------------------------------------

class NodeHomes::RemoteDrive final : public Drive {
  public:
    RemoteDrive(NodeHomes& homes, MemberIndex member, DiskInfo info, DataArea area,
                std::unique_ptr<Disk> metadata)
        : homes_(homes),
          member_(member),
          info_(std::move(info)),
          area_(area),
          metadata_(std::move(metadata)) {
        set_disk(metadata_.get());
    }

    const DiskInfo& info() const override { return info_; }
    bool is_open() const override { return open_; }
    /// Others may have written: the home knows.
    bool needs_flush() const override { return true; }
    void abandon() override { records_.abandon(); }

  private:
    struct Reply final : HomeReply {
        RemoteDrive* drive{nullptr};
        DriveOp* op{nullptr};
        std::uint64_t fence{0};
        std::uint32_t home{no_home};  // who was asked; the member may have another one by then
        Credit charged;               // a stage
        void answered(const HomeAnswer& answer) override { drive->answered(*this, answer); }
    };

    friend class NodeHomes;  // asks again

    void start(DriveOp& op) override;
    void answered(Reply& reply, const HomeAnswer& answer);
    MemberIndex member() const { return member_; }
    void refuse(DriveOp& op) { complete(op, {DriveOutcome::fenced, ESHUTDOWN}); }
    std::unique_ptr<Disk> shut() override {
        open_ = false;
        return std::move(metadata_);
    }
    Reply& reply_for(DriveOp& op);
    std::uint32_t home() const { return homes_.home_of_[raw(member_)]; }

    NodeHomes& homes_;
    MemberIndex member_;
    DiskInfo info_;
    DataArea area_;
    std::unique_ptr<Disk> metadata_;
    Flights records_;  // of the write intent
    bool open_{true};
    std::deque<Reply> replies_;  // their addresses stay
    std::vector<Reply*> free_;
};

NodeHomes::RemoteDrive::Reply& NodeHomes::RemoteDrive::reply_for(DriveOp& op) {
    if (free_.empty()) free_.push_back(&replies_.emplace_back());
    Reply& reply = *free_.back();
    free_.pop_back();
    reply.drive = this;
    reply.op = &op;
    return reply;
}

void NodeHomes::RemoteDrive::start(DriveOp& op) {
    if (op.kind == DiskOpKind::write && op.staged == nullptr) {  // a record of the write intent
        BRAID_REQUIRE(metadata_ != nullptr && op.offset() + op.size <= area_.begin);
        return records_.start(*metadata_, disk_op(op));
    }
    if (op.staged != nullptr && !homes_.may_stage(*op.staged)) {
        return complete(op, {DriveOutcome::again, 0});
    }
    HomeCommand command;
    command.member = member_;
    switch (op.kind) {
        case DiskOpKind::read:
            command.kind = HomeCommandKind::read;
            command.first = homes_.geometry_.row_of(area_.in_data(op.offset()));
            command.count = op.size / row_size;
            command.into = op.data;
            break;
        case DiskOpKind::write:
        case DiskOpKind::zero:
            BRAID_REQUIRE(op.staged != nullptr);
            command.kind = HomeCommandKind::stage;
            command.id.sequence = static_cast<std::uint64_t>(op.staged->write);
            command.at.window = homes_.geometry_.window_number(op.staged->place);
            command.at.rows = op.staged->rows();
            command.participants = op.staged->participants;
            command.content = packed(*op.staged);
            command.may_free = op.staged->may_free;
            break;
        case DiskOpKind::flush:
            command.kind = HomeCommandKind::flush;
            break;
    }
    Reply& reply = reply_for(op);
    reply.fence = homes_.fence_;
    reply.home = home();
    reply.charged = op.staged != nullptr ? homes_.charge(*op.staged, reply.home) : Credit{};
    homes_.send(reply.home, std::move(command), &reply);
}

void NodeHomes::RemoteDrive::answered(Reply& reply, const HomeAnswer& answer) {
    BRAID_REQUIRE(reply.op != nullptr);
    DriveOp& op = *std::exchange(reply.op, nullptr);
    free_.push_back(&reply);
    // Where the member is lost the home has it in its book all the same.
    const bool taken = answer.result.ok() || answer.result.outcome == DriveOutcome::lost;
    if (op.staged != nullptr && !taken) {
        homes_.writes_.refused(op.staged->write, reply.home, reply.charged);
    }
    const bool stale = homes_.is_stale(reply.home, answer.result, reply.fence);
    homes_.applied(reply.home, answer.applied_upto);
    if (!stale) return complete(op, answer.result);
    if (op.staged != nullptr) return complete(op, {DriveOutcome::again, 0});
    // Of a member that is lost nothing is asked again.
    if (is_suspended()) return complete(op, answer.result);
    if (homes_.frozen_) return homes_.held_ops_.push_back({this, &op});
    start(op);
}

std::unique_ptr<Drive> NodeHomes::drive(MemberIndex member, DiskInfo info, DataArea area,
                                        std::unique_ptr<Disk> metadata) {
    BRAID_REQUIRE(raw(member) < home_of_.size());
    return std::make_unique<RemoteDrive>(*this, member, std::move(info), area, std::move(metadata));
}

// ---- a new fence -------------------------------------------------------------------------------

bool NodeHomes::holds(LockId lock) const {
    if (BRAID_MUTANT(locks_outlive_fence)) return true;
    const Locked& locked = locks_.at(lock);
    return !frozen_ && locked.fence == fence_ && locked.lapses == lapses_;
}

bool NodeHomes::may_stage(const StagedRows& staged) {
    if (fence_ == 0 && !frozen_) return true;
    if (is_over(staged.write)) return false;
    const Locked* const lock = lock_on(staged);
    return lock == nullptr || lock->fence == fence_ || BRAID_MUTANT(locks_outlive_fence);
}

/// A home refused it for the fence: where that is this node's, the home is on its way to the next one.
/// Or a home is gone, and so there will be another fence, or none; of one that this fence has begun
/// without nothing follows.
bool NodeHomes::is_stale(std::uint32_t home, const DriveResult& result, std::uint64_t fence) {
    // Another node's home that has stopped by itself goes the same way as one that is cut off.
    const bool stopped = result.os_error == ESHUTDOWN && home != own_home_;
    const bool refused =
        result.outcome == DriveOutcome::fenced && (result.os_error == ESTALE || stopped);
    if (ended_ || is_gone(home) || (!refused && result.outcome != DriveOutcome::cut)) return false;
    if (fence == fence_) freeze();
    return true;
}

void NodeHomes::freeze() {
    if (ended_ || std::exchange(frozen_, true)) return;
    cancel_credit_waits(EAGAIN);
}

void NodeHomes::cancel_credit_waits(int os_error) {
    for (const auto& [ticket, wait] : std::exchange(credit_waits_, {})) {
        const bool waited = credits_.cancel(wait->home, ticket);
        BRAID_REQUIRE(waited);
        wait->os_error = os_error;
        wait->over.set();
    }
}

void NodeHomes::enter(HomeSet gone, HomeSet back, std::vector<std::uint32_t> locks_at) {
    if (ended_) return;
    BRAID_REQUIRE(frozen_ && (gone & back) == 0);
    ++fence_;
    over_writes_ = writes_.newest();
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((gone & ~gone_) >> home & 1) writes_.home_gone(home);
    }
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((back & gone_) >> home & 1) writes_.home_back(home);
    }
    gone_ = (gone_ | gone) & ~back;
    fix_authorities(std::move(locks_at));
    losing_ = {};
    held_unlocks_.clear();  // no home has them any more
    give_back_freed();
    if (reserved_ != nullptr) reserved_->lock_over();
}

void NodeHomes::thaw() {
    if (!std::exchange(frozen_, false)) return;
    may_go_on_.set();
    for (const HeldOp& held : std::exchange(held_ops_, {})) held.drive->start(*held.op);
    poll();
}

void NodeHomes::end() {
    ended_ = true;
    frozen_ = false;
    cancel_credit_waits(ESHUTDOWN);
    may_go_on_.set();
    for (const HeldOp& held : std::exchange(held_ops_, {})) held.drive->refuse(*held.op);
}

void NodeHomes::refuse_held(MemberIndex member) {
    std::vector<HeldOp> others;
    for (const HeldOp& held : std::exchange(held_ops_, {})) {
        if (held.drive->member() == member) {
            held.drive->refuse(*held.op);
        } else {
            others.push_back(held);
        }
    }
    held_ops_.insert(held_ops_.end(), others.begin(), others.end());
}

bool NodeHomes::may_answer() const {
    return !has_lease_ || has_lease_() || BRAID_MUTANT(read_without_lease);
}

Task<void> NodeHomes::wait_to_answer() {
    while (!ended_ && !may_answer()) co_await may_go_on_.next();
}

bool NodeHomes::asks_to_answer() const {
    return asker_ != nullptr && asker_->asks_after_reads() && !BRAID_MUTANT(strict_reads_by_lease);
}

Task<bool> NodeHomes::ask_to_answer() {
    if (ended_) co_return false;
    BRAID_REQUIRE(asker_ != nullptr);  // asks_to_answer() was true
    const Nanos asked = asker_->ask_fellows_now();
    while (!ended_ && !asker_->have_answered(asked)) co_await may_go_on_.next();
    co_return !ended_;
}

}  // namespace braid::cluster
