// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/node_homes.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <deque>
#include <utility>

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

NodeHomes::NodeHomes(Setup setup)
    : geometry_(setup.geometry),
      self_(setup.self),
      links_(std::move(setup.links)),
      home_of_(std::move(setup.home_of)),
      locks_bring_(setup.locks_bring),
      credits_(links_.size(), setup.book),
      has_lease_(std::move(setup.has_lease)) {
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        polls_.push_back(std::make_unique<Poll>(*this, home));
    }
    while (own_home_ != links_.size() && links_[own_home_]->is_remote()) ++own_home_;
    BRAID_REQUIRE(home_of_.size() == geometry_.member_count);
    BRAID_REQUIRE(links_.size() <= nodes_max);
    for (const std::uint32_t home : home_of_) {
        BRAID_REQUIRE(home < links_.size() || home == no_home);
    }
    fix_authorities();
}

void NodeHomes::set_home(MemberIndex member, std::uint32_t home) {
    BRAID_REQUIRE(raw(member) < home_of_.size() && home < links_.size());
    home_of_[raw(member)] = home;
}

void NodeHomes::fix_authorities() {
    authority_of_ = home_of_;
    for (std::uint32_t& home : authority_of_) {
        if (home != no_home && is_gone(home)) home = no_home;
    }
}

/// P's, else Q's, else that of the lowest data role which has one.
std::uint32_t NodeHomes::authority_of(WindowPlace place) const {
    const std::uint32_t data = geometry_.data_count();
    const std::uint32_t parities = geometry_.parities();
    for (std::uint32_t i = 0; i != geometry_.member_count; ++i) {
        const Role role{i < parities ? data + i : i - parities};
        const std::uint32_t home = authority_of_[raw(geometry_.member_of(place.stripe, role))];
        if (home != no_home) return home;
    }
    BRAID_REQUIRE(false && "an array without any member");
    return 0;
}

/// What is over everywhere travels along.
void NodeHomes::send(std::uint32_t home, HomeCommand command, HomeReply* reply) {
    command.id.from = self_;
    command.finished = writes_.finished_upto();
    if (links_[home]->is_remote()) ++counts_.sent[static_cast<std::size_t>(command.kind)];
    links_[home]->send(std::move(command), reply);
}

std::uint64_t NodeHomes::messages() const {
    std::uint64_t all = 0;
    for (const HomeLink* link : links_) all += link->messages();
    for (std::size_t i = 0; i != counts_.sent.size(); ++i) {
        if (is_answered(static_cast<HomeCommandKind>(i))) all += counts_.sent[i];
    }
    return all;
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

Task<HomeAnswer> NodeHomes::ask(std::uint32_t home, HomeCommand command) {
    Waiting waiting;
    send(home, std::move(command), &waiting);
    co_await waiting.come.wait();
    applied(home, waiting.answer.applied_upto);
    co_return std::move(waiting.answer);
}

Task<void> NodeHomes::catch_up() {
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        HomeCommand command;
        command.kind = HomeCommandKind::progress;
        (void)co_await ask(home, command);
    }
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        HomeCommand command;
        command.kind = HomeCommandKind::finished;
        send(home, command, nullptr);
    }
}

// ---- locks -------------------------------------------------------------------------------------

/// In a home's book; what the home knows of rebuilds is noted.
Task<Result<void>> NodeHomes::claim_rows(Claimed* claimed, std::uint32_t home, WindowRows at,
                                         LockMode mode, RowsWithLock* with) {
    HomeCommand command;
    command.kind = HomeCommandKind::lock;
    command.id.sequence = ++last_claim_;
    command.at = at;
    command.mode = mode;
    if (with != nullptr) {
        command.member = with->member;
        command.with_lock = with->rows & at.rows;
        command.into = with->into;
    }
    *claimed = {home, command.id.sequence};
    ++counts_.locks_waiting;
    const std::uint64_t fence = fence_;
    const HomeAnswer answer = co_await ask(home, command);
    --counts_.locks_waiting;
    (void)is_stale(home, answer.result, fence);  // lock() looks
    if (!answer.result.ok()) co_return Error{Errc::io, "lock", answer.result.os_error};
    note(answer.rebuilt);
    if (with != nullptr) with->have_come = answer.has_bytes;
    co_return Result<void>{};
}

bool NodeHomes::lock_brings(WindowPlace place, MemberIndex member) const {
    const std::uint32_t home = authority_of(place);
    if (!locks_bring_ || !links_[home]->is_remote() || home_of_[raw(member)] != home) return false;
    return reserved_ == nullptr || !reserved_->holds(place.stripe);
}

/// What came of it while the fence changed counts no more: it is asked for anew.
Task<Result<LockId>> NodeHomes::lock(WindowPlace place, RowMask rows, LockMode mode, LockFor whom,
                                     RowsWithLock* with) {
    for (;;) {
        while (frozen_) co_await may_go_on_.next();
        Locked locked;
        locked.whom = whom;
        locked.stripe = place.stripe;
        locked.fence = fence_;
        locked.credit = credit_for(place, rows);
        locked.at.window = geometry_.window_number(place);
        locked.at.rows = BRAID_MUTANT(wrong_rows_locked) ? rows & (~rows + 1) : rows;
        const std::uint64_t fence = fence_;
        const Result<LockId> lock = co_await lock_now(std::move(locked), mode, with);
        if (!frozen_ && fence == fence_) co_return lock;
        if (lock) unlock(*lock);
    }
}

Task<Result<LockId>> NodeHomes::lock_now(Locked locked, LockMode mode, RowsWithLock* with) {
    BRAID_CO_CHECK(co_await take_credits(&locked.credit));
    const StripeIndex stripe = locked.stripe;
    const LockFor whom = locked.whom;
    const bool is_own = whom == LockFor::client && reserved_ != nullptr && reserved_->holds(stripe);
    const std::uint32_t home =
        is_own ? own_home_ : authority_of(geometry_.window_place(locked.at.window));
    // What was to come with a lock elsewhere is read from its home.
    if (with != nullptr && home != home_of_[raw(with->member)]) with = nullptr;
    const Result<void> first = co_await claim_rows(&locked.first, home, locked.at, mode, with);
    if (!first) {
        give_back(locked.credit);
        co_return first.error();
    }
    const LockId lock{locked.first.claim};
    // Looked up when all others' are over with these rows: from now on they count as locked here.
    std::optional<std::uint32_t> holder;
    if (whom == LockFor::array && reserved_ != nullptr) holder = reserved_->entered(stripe);
    if (holder == locked.first.home || BRAID_MUTANT(walk_passes_holder)) holder.reset();
    Locked& known = locks_.emplace(lock, std::move(locked)).first->second;  // its address stays
    if (!holder) co_return lock;
    known.second = Claimed{*holder, 0};
    const Result<void> second =
        co_await claim_rows(&*known.second, *holder, known.at, mode, nullptr);
    if (!second) {
        known.second.reset();
        unlock(lock);
        co_return second.error();
    }
    co_return lock;
}

void NodeHomes::unlock(LockId lock) {
    const auto at = locks_.find(lock);
    BRAID_REQUIRE(at != locks_.end());
    HeldUnlock over{std::move(at->second), {}};
    locks_.erase(at);
    const std::vector<Credit> credit = std::exchange(over.locked.credit, {});
    const auto add = [&](const Claimed& claimed) {
        HomeCommand command;
        command.kind = HomeCommandKind::unlock;
        command.id.sequence = claimed.claim;
        command.rebuilt = rebuilds();
        over.commands.emplace_back(claimed.home, std::move(command));
    };
    add(over.locked.first);
    if (over.locked.second) add(*over.locked.second);
    if (frozen_ || over.locked.fence != fence_) {
        // Homes have forgotten it, or are just about to.
    } else if (losing_.empty()) {
        for (auto& [home, command] : over.commands) send(home, std::move(command), nullptr);
    } else {
        held_unlocks_.push_back(std::move(over));
    }
    give_back(credit);
    if (reserved_ != nullptr) reserved_->lock_over();
}

void NodeHomes::loss_is_known(MemberIndex member) {
    losing_.remove(member);
    if (!losing_.empty()) return;
    for (HeldUnlock& over : std::exchange(held_unlocks_, {})) {
        for (auto& [home, command] : over.commands) send(home, std::move(command), nullptr);
    }
    if (reserved_ != nullptr) reserved_->lock_over();
}

bool NodeHomes::is_quiet(StripeIndex first, StripeIndex end,
                         std::optional<std::uint32_t> home) const {
    const auto counts = [&](const Locked& locked) {
        if (locked.stripe < first || locked.stripe >= end) return false;
        if (locked.whom == LockFor::client) return true;
        if (!home) return false;
        return locked.first.home != *home && (!locked.second || locked.second->home != *home);
    };
    return std::ranges::none_of(locks_, [&](const auto& one) { return counts(one.second); }) &&
           std::ranges::none_of(held_unlocks_, [&](const auto& one) { return counts(one.locked); });
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

// ---- credits -----------------------------------------------------------------------------------

/// More than any write of these rows stages, by home.
std::vector<Credit> NodeHomes::credit_for(WindowPlace place, RowMask rows) const {
    std::vector<Credit> credit(links_.size());
    const Credit of_member{static_cast<std::uint64_t>(std::popcount(rows)) * row_size,
                           entries_per_lock};
    for (const Role role : RoleSet::first(geometry_.member_count)) {
        const std::uint32_t home = home_of_[raw(geometry_.member_of(place.stripe, role))];
        if (home != no_home && !is_gone(home)) credit[home] += of_member;
    }
    return credit;
}

/// Asks a home to answer when what is staged there is applied: while all wait for credit, or have
/// nothing to do with that home, nothing else is answered by which it would be known.
struct NodeHomes::Poll final : HomeReply {
    Poll(NodeHomes& whose, std::uint32_t which) : homes(whose), home(which) {}
    NodeHomes& homes;
    std::uint32_t home;
    std::uint64_t fence{0};
    bool under_way{false};
    void answered(const HomeAnswer& told) override {
        if (homes.is_stale(home, told.result, fence)) {
            under_way = false;
            return homes.poll();
        }
        // While it is dealt with it is not asked again: where it is answered at once, as of a home
        // that has stopped, that would not end.
        homes.polled(home, told);
        homes.poll();
        under_way = false;
        if (told.result.ok()) homes.poll();
    }
};

NodeHomes::~NodeHomes() = default;

/// In the order of the homes. An error: none is taken.
Task<Result<void>> NodeHomes::take_credits(std::vector<Credit>* credit) {
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((*credit)[home].empty()) continue;
        const Result<void> taken = co_await take_credit(home, (*credit)[home]);
        if (taken) continue;
        std::fill(credit->begin() + home, credit->end(), Credit{});
        give_back(*credit);
        co_return taken.error();
    }
    co_return Result<void>{};
}

Task<Result<void>> NodeHomes::take_credit(std::uint32_t home, Credit credit) {
    if (frozen_) co_return Error{Errc::again, "home"};
    if (ended_) co_return Error{Errc::io, "home", ESHUTDOWN};
    const CreditTicket ticket{++last_ticket_};
    if (credits_.take(home, credit, ticket)) co_return Result<void>{};
    ++counts_.waits_for_credit;
    CreditWait wait;
    wait.home = home;
    credit_waits_.emplace(ticket, &wait);
    poll();
    co_await wait.over.wait();
    if (wait.os_error == 0) co_return Result<void>{};
    co_return Error{wait.os_error == ENOSPC ? Errc::full : Errc::io, "home", wait.os_error};
}

/// Somebody waits for what the home has not applied: its bytes, or the entries of all homes, which
/// the oldest write keeps from being forgotten.
bool NodeHomes::holds_back(std::uint32_t home) const {
    if (!writes_.is_open_at(home)) return false;  // what is not staged comes back by unlock
    const bool oldest = (writes_.held_back_by() >> home & 1) != 0;
    return credits_.is_waited_for(home) || (oldest && !BRAID_MUTANT(silent_home_not_asked));
}

void NodeHomes::poll() {
    if (credit_waits_.empty() || frozen_ || ended_) return;
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if (polls_[home]->under_way || is_gone(home) || !holds_back(home)) continue;
        polls_[home]->under_way = true;
        polls_[home]->fence = fence_;
        HomeCommand command;
        command.kind = HomeCommandKind::settled;
        send(home, command, polls_[home].get());
    }
}

/// Where a home cannot write what it has, nobody waits for that: he is told.
void NodeHomes::polled(std::uint32_t home, const HomeAnswer& answer) {
    applied(home, answer.applied_upto);
    if (!answer.result.ok()) {
        const bool all = (writes_.held_back_by() >> home & 1) != 0;
        const auto waits = std::exchange(credit_waits_, {});
        for (const auto& [ticket, wait] : waits) {
            if ((!all && wait->home != home) || !credits_.cancel(wait->home, ticket)) {
                credit_waits_.emplace(ticket, wait);
                continue;
            }
            wait->os_error = answer.result.os_error;
            wait->over.set();
        }
    }
}

void NodeHomes::give_back(std::uint32_t home, Credit credit) {
    credits_.give_back(home, credit);
    while (const auto ticket = credits_.next_granted(home)) {
        const auto wait = credit_waits_.find(*ticket);
        BRAID_REQUIRE(wait != credit_waits_.end());
        wait->second->over.set();
        credit_waits_.erase(wait);
    }
}

void NodeHomes::give_back(const std::vector<Credit>& credit) {
    for (std::uint32_t home = 0; home != credit.size(); ++home) give_back(home, credit[home]);
    poll();
}

void NodeHomes::give_back_freed() {
    const OwnWrites::Freed freed = writes_.take_freed();
    for (std::uint32_t home = 0; home != links_.size(); ++home) give_back(home, freed[home]);
    poll();
}

void NodeHomes::applied(std::uint32_t home, std::uint64_t upto) {
    writes_.applied(home, upto);
    give_back_freed();
}

NodeHomes::Locks::const_iterator NodeHomes::lock_on(const StagedRows& staged) const {
    const WindowIndex window = geometry_.window_number(staged.place);
    return std::ranges::find_if(locks_, [&](const auto& one) {
        const WindowRows& at = one.second.at;
        return at.window == window && (staged.rows() & ~at.rows) == 0;
    });
}

/// What is staged comes out of what its lock has taken. Whoever stages has the rows locked.
Credit NodeHomes::charge(const StagedRows& staged, std::uint32_t home) {
    const auto rows = static_cast<std::uint64_t>(std::popcount(staged.rows()));
    const auto at = lock_on(staged);
    const auto lock = at == locks_.end() ? locks_.end() : locks_.find(at->first);
    BRAID_AUDIT(lock != locks_.end() || BRAID_MUTANT(rows_not_locked) ||
                BRAID_MUTANT(wrong_rows_locked) || BRAID_MUTANT(unlocked_early));
    Credit credit;
    if (lock != locks_.end()) {
        Credit& left = lock->second.credit[home];
        BRAID_AUDIT(left.entries != 0);
        credit.bytes = std::min(left.bytes, rows * row_size);
        credit.entries = std::min<std::uint64_t>(left.entries, 1);
        left -= credit;
    }
    writes_.charge(staged.write, home, credit);
    return credit;
}

// ---- writes ------------------------------------------------------------------------------------

WriteId NodeHomes::begin_write(MemberSet participants) {
    HomeSet homes = 0;
    for (const MemberIndex member : participants) {
        BRAID_REQUIRE(home_of_[raw(member)] != no_home);
        homes |= HomeSet{1} << home_of_[raw(member)];
    }
    return writes_.begin(homes);
}

/// It was begun under a fence that is over, or is just ending: homes hear what becomes of it when the
/// next one begins.
bool NodeHomes::is_over(WriteId write) const {
    if (BRAID_MUTANT(decided_while_frozen)) return false;
    return frozen_ || static_cast<std::uint64_t>(write) <= over_writes_;
}

bool NodeHomes::decide(WriteId write) {
    const bool happens = !is_over(write);
    settle(write, happens ? HomeCommandKind::decide : HomeCommandKind::drop);
    return happens;
}

void NodeHomes::drop(WriteId write) { settle(write, HomeCommandKind::drop); }

void NodeHomes::settle(WriteId write, HomeCommandKind kind) {
    const HomeSet homes = is_over(write) ? 0 : writes_.homes_of(write);
    using Fate = OwnWrites::Fate;
    writes_.settle(write, kind == HomeCommandKind::decide ? Fate::decided : Fate::dropped);
    HomeCommand command;
    command.kind = kind;
    command.id.sequence = static_cast<std::uint64_t>(write);
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((homes >> home & 1) != 0) send(home, command, nullptr);
    }
    give_back_freed();  // and from now on it can be applied
}

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

  private:
    struct Reply final : HomeReply {
        RemoteDrive* drive{nullptr};
        DriveOp* op{nullptr};
        std::uint64_t fence{0};
        Credit charged;  // a stage
        void answered(const HomeAnswer& answer) override { drive->answered(*this, answer); }
    };

    friend class NodeHomes;  // asks again

    void start(DriveOp& op) override;
    void answered(Reply& reply, const HomeAnswer& answer);
    MemberIndex member() const { return member_; }
    void refuse(DriveOp& op) { complete(op, {DriveOutcome::fenced, ESHUTDOWN}); }
    void shut() override {
        open_ = false;
        metadata_.reset();
    }
    Reply& reply_for(DriveOp& op);
    std::uint32_t home() const { return homes_.home_of_[raw(member_)]; }

    NodeHomes& homes_;
    MemberIndex member_;
    DiskInfo info_;
    DataArea area_;
    std::unique_ptr<Disk> metadata_;
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
        return start_counted(*metadata_, disk_op(op));
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
    reply.charged = op.staged != nullptr ? homes_.charge(*op.staged, home()) : Credit{};
    homes_.send(home(), std::move(command), &reply);
}

void NodeHomes::RemoteDrive::answered(Reply& reply, const HomeAnswer& answer) {
    DriveOp& op = *reply.op;
    free_.push_back(&reply);
    // Where the member is lost the home has it in its book all the same.
    const bool taken = answer.result.ok() || answer.result.outcome == DriveOutcome::lost;
    if (op.staged != nullptr && !taken) {
        homes_.writes_.refused(op.staged->write, home(), reply.charged);
    }
    const bool stale = homes_.is_stale(home(), answer.result, reply.fence);
    homes_.applied(home(), answer.applied_upto);
    if (!stale) return complete(op, answer.result);
    if (op.staged != nullptr) return complete(op, {DriveOutcome::again, 0});
    // Of a member that is lost nothing is asked again.
    if (is_suspended()) return complete(op, answer.result);
    if (homes_.frozen_) return homes_.held_ops_.push_back({this, &op});
    start(op);
}

std::unique_ptr<Drive> NodeHomes::drive(MemberIndex member, DiskInfo info, DataArea area,
                                        std::unique_ptr<Disk> metadata) {
    return std::make_unique<RemoteDrive>(*this, member, std::move(info), area, std::move(metadata));
}

// ---- a new fence -------------------------------------------------------------------------------

bool NodeHomes::holds(LockId lock) const {
    if (BRAID_MUTANT(locks_outlive_fence)) return true;
    return !frozen_ && locks_.at(lock).fence == fence_;
}

bool NodeHomes::may_stage(const StagedRows& staged) const {
    if (fence_ == 0 && !frozen_) return true;
    if (is_over(staged.write)) return false;
    const auto lock = lock_on(staged);
    return lock == locks_.end() || lock->second.fence == fence_ ||
           BRAID_MUTANT(locks_outlive_fence);
}

/// A home refused it for the fence: where that is this node's, the home is on its way to the next one.
/// Or a home is gone, and so there will be another fence, or none; of one that this fence has begun
/// without nothing follows.
bool NodeHomes::is_stale(std::uint32_t home, const DriveResult& result, std::uint64_t fence) {
    const bool refused = result.outcome == DriveOutcome::fenced && result.os_error == ESTALE;
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

void NodeHomes::enter(HomeSet gone) {
    if (ended_) return;
    BRAID_REQUIRE(frozen_);
    ++fence_;
    over_writes_ = writes_.newest();
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((gone & ~gone_) >> home & 1) writes_.home_gone(home);
    }
    gone_ |= gone;
    fix_authorities();
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

}  // namespace braid::cluster
