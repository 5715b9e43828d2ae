// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/node_homes.h"

#include <algorithm>
#include <deque>
#include <utility>

#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {

NodeHomes::NodeHomes(Setup setup)
    : geometry_(setup.geometry),
      self_(setup.self),
      links_(std::move(setup.links)),
      home_of_(std::move(setup.home_of)) {
    BRAID_REQUIRE(home_of_.size() == geometry_.member_count);
    BRAID_REQUIRE(links_.size() <= nodes_max);
    for (const std::uint32_t home : home_of_) BRAID_REQUIRE(home < links_.size());
}

std::uint32_t NodeHomes::authority_of(WindowPlace place) const {
    return home_of_[raw(geometry_.member_of(place.stripe, geometry_.p()))];
}

/// What is over everywhere travels along.
void NodeHomes::send(std::uint32_t home, HomeCommand command, HomeReply* reply) {
    command.id.from = self_;
    command.finished = writes_.finished_upto();
    ++counts_.commands;
    links_[home]->send(command, reply);
}

/// An answer to somebody who waits on the loop.
struct NodeHomes::Waiting final : HomeReply {
    HomeAnswer answer;
    Event come;
    void answered(const HomeAnswer& told) override {
        answer = told;
        come.set();
    }
};

Task<void> NodeHomes::catch_up() {
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        Waiting waiting;
        HomeCommand command;
        command.kind = HomeCommandKind::progress;
        send(home, command, &waiting);
        co_await waiting.come.wait();
        writes_.applied(home, waiting.answer.applied_upto);
    }
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        HomeCommand command;
        command.kind = HomeCommandKind::finished;
        send(home, command, nullptr);
    }
}

// ---- locks -------------------------------------------------------------------------------------

Task<Result<LockId>> NodeHomes::lock(WindowPlace place, RowMask rows, RowLockMode mode) {
    const std::uint32_t home = authority_of(place);
    HomeCommand command;
    command.kind = HomeCommandKind::lock;
    command.id.sequence = ++last_claim_;
    command.at.window = geometry_.window_number(place);
    command.at.rows = BRAID_MUTANT(wrong_rows_locked) ? rows & (~rows + 1) : rows;
    command.mode = mode == RowLockMode::shared ? LockMode::shared : LockMode::exclusive;
    Waiting waiting;
    send(home, command, &waiting);
    co_await waiting.come.wait();
    writes_.applied(home, waiting.answer.applied_upto);
    if (!waiting.answer.result.ok()) {
        co_return Error{Errc::io, "lock", waiting.answer.result.os_error};
    }
    ++counts_.locks;
    note(waiting.answer.rebuilt);
    const LockId lock{command.id.sequence};
    locks_.emplace(lock, home);
    co_return lock;
}

void NodeHomes::unlock(LockId lock) {
    const auto at = locks_.find(lock);
    BRAID_REQUIRE(at != locks_.end());
    HomeCommand command;
    command.kind = HomeCommandKind::unlock;
    command.id.sequence = static_cast<std::uint64_t>(lock);
    const std::uint32_t home = at->second;
    locks_.erase(at);
    command.rebuilt = rebuilds();
    send(home, command, nullptr);
}

std::vector<Rebuilt> NodeHomes::rebuilds() const {
    std::vector<Rebuilt> known;
    for (std::uint32_t i = 0; i != members_->count(); ++i) {
        const auto& slot = members_->slot(MemberIndex{i});
        if (slot.state == MemberState::rebuilding) known.push_back({MemberIndex{i}, slot.rebuilt});
    }
    return known;
}

void NodeHomes::note(const std::vector<Rebuilt>& rebuilds) {
    for (const Rebuilt& at : rebuilds) {
        auto& slot = members_->slot(at.member);
        if (slot.state == MemberState::rebuilding) slot.rebuilt = std::max(slot.rebuilt, at.upto);
    }
}

// ---- writes ------------------------------------------------------------------------------------

WriteId NodeHomes::begin_write(MemberSet participants) {
    HomeSet homes = 0;
    for (const MemberIndex member : participants) homes |= HomeSet{1} << home_of_[raw(member)];
    ++counts_.writes;
    return writes_.begin(homes);
}

void NodeHomes::settle(WriteId write, HomeCommandKind kind) {
    const HomeSet homes = writes_.homes_of(write);
    writes_.settle(write);
    if (kind == HomeCommandKind::drop) ++counts_.writes_dropped;
    HomeCommand command;
    command.kind = kind;
    command.id.sequence = static_cast<std::uint64_t>(write);
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((homes >> home & 1) != 0) send(home, command, nullptr);
    }
}

// ---- drives ------------------------------------------------------------------------------------

class NodeHomes::RemoteDrive final : public Drive {
  public:
    RemoteDrive(NodeHomes& homes, MemberIndex member, DiskInfo info, std::uint64_t data_offset)
        : homes_(homes), member_(member), info_(std::move(info)), data_offset_(data_offset) {}

    const DiskInfo& info() const override { return info_; }
    bool is_open() const override { return open_; }
    /// Others may have written: the home knows.
    bool needs_flush() const override { return true; }

  private:
    struct Reply final : HomeReply {
        RemoteDrive* drive{nullptr};
        DriveOp* op{nullptr};
        void answered(const HomeAnswer& answer) override { drive->answered(*this, answer); }
    };

    void start(DriveOp& op) override;
    void answered(Reply& reply, const HomeAnswer& answer);
    void shut() override { open_ = false; }
    Reply& reply_for(DriveOp& op);
    std::uint32_t home() const { return homes_.home_of_[raw(member_)]; }

    NodeHomes& homes_;
    MemberIndex member_;
    DiskInfo info_;
    std::uint64_t data_offset_;
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
    HomeCommand command;
    command.member = member_;
    switch (op.kind) {
        case DiskOpKind::read:
            BRAID_REQUIRE(op.offset >= data_offset_);
            command.kind = HomeCommandKind::read;
            command.first = RowIndex{(op.offset - data_offset_) / row_size};
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
            command.staged = op.staged;
            break;
        case DiskOpKind::flush:
            command.kind = HomeCommandKind::flush;
            break;
    }
    homes_.send(home(), command, &reply_for(op));
}

void NodeHomes::RemoteDrive::answered(Reply& reply, const HomeAnswer& answer) {
    DriveOp& op = *reply.op;
    free_.push_back(&reply);
    OwnWrites& writes = homes_.writes_;
    // Where the member is lost the home has it in its book all the same.
    const bool taken = answer.result.ok() || answer.result.outcome == DriveOutcome::lost;
    if (op.staged != nullptr && !taken) writes.refused(op.staged->write, home());
    writes.applied(home(), answer.applied_upto);
    complete(op, answer.result);
}

std::unique_ptr<Drive> NodeHomes::drive(MemberIndex member, DiskInfo info,
                                        std::uint64_t data_offset) {
    return std::make_unique<RemoteDrive>(*this, member, std::move(info), data_offset);
}

}  // namespace braid::cluster
