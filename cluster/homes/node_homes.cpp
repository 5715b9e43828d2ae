// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/node_homes.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <utility>

#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {

NodeHomes::NodeHomes(Setup setup)
    : geometry_(setup.geometry),
      self_(setup.self),
      links_(std::move(setup.links)),
      home_of_(std::move(setup.home_of)),
      locks_bring_(setup.locks_bring),
      credits_(links_.size(), setup.book),
      has_lease_(std::move(setup.has_lease)),
      asker_(setup.asker) {
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        polls_.push_back(std::make_unique<Poll>(*this, home));
    }
    while (own_home_ != links_.size() && links_[own_home_]->is_remote()) ++own_home_;
    BRAID_REQUIRE(home_of_.size() == geometry_.member_count);
    BRAID_REQUIRE(links_.size() <= nodes_max);
    BRAID_REQUIRE(own_home_ != links_.size());
    for (const std::uint32_t home : home_of_) {
        BRAID_REQUIRE(home < links_.size() || home == no_home);
    }
    fix_authorities();
}

void NodeHomes::set_home(MemberIndex member, std::uint32_t home) {
    BRAID_REQUIRE(raw(member) < home_of_.size() && home < links_.size());
    home_of_[raw(member)] = home;
}

void NodeHomes::add_home(HomeLink& link) {
    BRAID_REQUIRE(links_.size() < nodes_max && link.is_remote());
    const auto home = static_cast<std::uint32_t>(links_.size());
    links_.push_back(&link);
    polls_.push_back(std::make_unique<Poll>(*this, home));
    credits_.add_home();
    gone_ |= HomeSet{1} << home;
}

void NodeHomes::fix_authorities(std::vector<std::uint32_t> locks_at) {
    BRAID_REQUIRE(locks_at.size() == geometry_.member_count);
    authority_of_ = std::move(locks_at);
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
        const MemberIndex member = geometry_.member_of(place.stripe, role);
        const std::uint32_t home = authority_of_[raw(member)];
        if (BRAID_MUTANT(authority_by_state) && !takes_part(members_->slot(member).state)) continue;
        if (home != no_home) return home;
    }
    BRAID_REQUIRE(false && "an array without any member");
    return 0;
}

/// What is over everywhere travels along.
void NodeHomes::send(std::uint32_t home, HomeCommand command, HomeReply* reply) {
    BRAID_REQUIRE(home < links_.size());
    BRAID_REQUIRE((reply != nullptr) == is_answered(command.kind));
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
    const std::uint64_t losses = losses_known();
    const HomeAnswer answer = co_await ask(home, command);
    --counts_.locks_waiting;
    (void)is_stale(home, answer.result, fence);  // lock() looks
    if (!answer.result.ok()) co_return Error{Errc::io, "lock", answer.result.os_error};
    // Else it is of another life of a role, perhaps: lock() asks again, or it is told with the fence.
    if (!frozen_ && fence == fence_ && losses == losses_known()) note(answer.rebuilt);
    if (with != nullptr) with->have_come = answer.has_bytes;
    co_return Result<void>{};
}

bool NodeHomes::lock_brings(WindowPlace place, MemberIndex member) const {
    const std::uint32_t home = authority_of(place);
    if (!locks_bring_ || !links_[home]->is_remote() || home_of_[raw(member)] != home) return false;
    return reserved_ == nullptr || !reserved_->holds(place.stripe);
}

/// A home has room for so many claims of a node, and what is held back are claims there.
bool NodeHomes::may_lock() const {
    if (frozen_ || ended_) return ended_;
    return may_answer() && held_unlocks_.size() < unlocks_held_max;
}

/// Whoever has been lost since a lock was asked for may have had a role that another disk has now.
std::uint64_t NodeHomes::losses_known() const {
    return members_ == nullptr || BRAID_MUTANT(position_of_former_life) ? 0
                                                                        : members_->loss_version();
}

/// What came of it while the fence changed, or a member was lost, counts no more: it is asked for anew.
Task<Result<LockId>> NodeHomes::lock(WindowPlace place, RowMask rows, LockMode mode, LockFor whom,
                                     RowsWithLock* with) {
    BRAID_REQUIRE(raw(place.stripe) < geometry_.stripes);
    BRAID_REQUIRE(place.window < geometry_.windows_per_stripe());
    BRAID_REQUIRE(rows != 0 && (rows & ~row_range(0, geometry_.window_rows)) == 0);
    for (;;) {
        while (!may_lock()) co_await may_go_on_.next();
        Locked locked;
        locked.whom = whom;
        locked.stripe = place.stripe;
        locked.fence = fence_;
        locked.lapses = lapses_;
        locked.credit = credit_for(place, rows);
        locked.at.window = geometry_.window_number(place);
        locked.at.rows = BRAID_MUTANT(wrong_rows_locked) ? rows & (~rows + 1) : rows;
        const std::uint64_t fence = locked.fence;
        const std::uint64_t losses = losses_known();
        const Result<LockId> lock = co_await lock_now(std::move(locked), mode, with);
        if (!frozen_ && fence == fence_ && (!lock || losses == losses_known())) co_return lock;
        if (lock) unlock(*lock);
    }
}

Task<Result<LockId>> NodeHomes::lock_now(Locked locked, LockMode mode, RowsWithLock* with) {
    if (!BRAID_MUTANT(credits_after_lock)) {
        BRAID_CO_CHECK(co_await take_credits(&locked.credit));
    }
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
    if (BRAID_MUTANT(credits_after_lock)) {
        const Result<void> taken = co_await take_credits(&known.credit);
        if (!taken) {
            unlock(lock);
            co_return taken.error();
        }
    }
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
    } else if (losing_.empty() || BRAID_MUTANT(unlocked_before_loss)) {
        for (auto& [home, command] : over.commands) send(home, std::move(command), nullptr);
    } else {
        held_unlocks_.push_back(std::move(over));
    }
    give_back(credit);
    if (reserved_ != nullptr) reserved_->lock_over();
}

void NodeHomes::loss_is_known(MemberIndex member) {
    BRAID_REQUIRE(!losing_.empty() || held_unlocks_.empty());
    losing_.remove(member);
    if (!losing_.empty()) return;
    for (HeldUnlock& over : std::exchange(held_unlocks_, {})) {
        for (auto& [home, command] : over.commands) send(home, std::move(command), nullptr);
    }
    may_go_on_.set();
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
    BRAID_REQUIRE(members_ != nullptr);
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
    for (std::uint32_t home = 0; home != credit->size(); ++home) {  // a home may come meanwhile
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

/// nullptr: nobody has locked all of these rows.
NodeHomes::Locked* NodeHomes::lock_on(const StagedRows& staged) {
    const WindowIndex window = geometry_.window_number(staged.place);
    const auto found = std::ranges::find_if(locks_, [&](const auto& one) {
        const WindowRows& at = one.second.at;
        return at.window == window && (staged.rows() & ~at.rows) == 0;
    });
    return found == locks_.end() ? nullptr : &found->second;
}

/// What is staged comes out of what its lock has taken. Whoever stages has the rows locked.
Credit NodeHomes::charge(const StagedRows& staged, std::uint32_t home) {
    const auto rows = static_cast<std::uint64_t>(std::popcount(staged.rows()));
    Locked* const lock = lock_on(staged);
    BRAID_AUDIT(lock != nullptr || BRAID_MUTANT(rows_not_locked) ||
                BRAID_MUTANT(wrong_rows_locked) || BRAID_MUTANT(unlocked_early));
    Credit credit;
    if (lock != nullptr) {
        Credit& left = lock->credit[home];
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

/// Without the lease others may have stopped, or gone on, with what they know: it is made again when
/// there is one.
bool NodeHomes::decide(WriteId write) {
    const bool is_open = !is_over(write) && !ended_;
    const bool happens = is_open && may_answer();
    if (is_open && !happens) ++lapses_;
    end_with(write, happens ? HomeCommandKind::decide : HomeCommandKind::drop);
    return happens;
}

void NodeHomes::drop(WriteId write) { end_with(write, HomeCommandKind::drop); }

void NodeHomes::end_with(WriteId write, HomeCommandKind kind) {
    const HomeSet homes = is_over(write) ? 0 : writes_.homes_of(write);
    using Fate = OwnWrites::Fate;
    writes_.end_with(write, kind == HomeCommandKind::decide ? Fate::decided : Fate::dropped);
    HomeCommand command;
    command.kind = kind;
    command.id.sequence = static_cast<std::uint64_t>(write);
    for (std::uint32_t home = 0; home != links_.size(); ++home) {
        if ((homes >> home & 1) != 0) send(home, command, nullptr);
    }
    give_back_freed();  // and from now on it can be applied
}

}  // namespace braid::cluster
