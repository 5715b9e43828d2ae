// SPDX-License-Identifier: BSD-3-Clause
// NodeHomes: RowHomes for one node of a cluster. It knows which node is home of which member, sends
// the commands there, and finds the authority of a row: the home of the member that has the row's P.
//
// When the nodes agree anew on who serves, one fence ends and the next one begins. freeze(): from
// then on nothing of this node is decided; locks are no more given up than taken: those that there
// are count no more, and who asks for one waits. Reads and flushes wait, or go on where they are.
// enter(): what was staged has been decided or dropped, and who is gone is no home any more. thaw(): all
// that waited goes on, under the new fence.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "cluster/homes/credits.h"
#include "cluster/homes/home_link.h"
#include "cluster/homes/own_writes.h"
#include "engine/base/limits.h"
#include "engine/layout/geometry.h"
#include "engine/members/drive.h"
#include "engine/members/members.h"
#include "engine/members/row_homes.h"

namespace braid::cluster {

/// What this node knows of volumes that one node has for itself. Homes are by their number here.
class ReservedRows {
  public:
    virtual ~ReservedRows() = default;
    /// This node has the stripe for itself: its clients' rows are locked nowhere else.
    virtual bool holds(StripeIndex stripe) const = 0;
    /// Another node has the stripe for itself, or asks for it.
    virtual std::optional<std::uint32_t> entered(StripeIndex stripe) const = 0;
    /// A lock is over: what waits for that may look whether it was the last.
    virtual void lock_over() = 0;
};

/// Who can ask the other nodes whether they have gone on without this one.
class FellowsAsker {
  public:
    virtual ~FellowsAsker() = default;
    /// That is to be done after each read. False: a lease is enough, or nobody could go on.
    virtual bool asks_after_reads() const = 0;
    /// What has been read up to now may be told once have_answered() this; look_at_lease() says when
    /// to look again.
    virtual Nanos ask_fellows_now() = 0;
    virtual bool have_answered(Nanos asked) const = 0;
};

class NodeHomes final : public RowHomes {
  public:
    struct Setup {
        const Geometry& geometry;
        NodeBoot self;
        std::vector<HomeLink*> links;                   // by home; one of them is not remote
        std::vector<std::uint32_t> home_of;             // by member; no_home: it was never here
        Credit book{book_bytes_max, book_entries_max};  // of this node, at each home
        bool locks_bring{true};                         // false: to measure what that saves
        std::function<bool()> has_lease{};              // none: it always has
        FellowsAsker* asker{nullptr};                   // none: nobody is asked
    };
    struct Counts {
        std::uint64_t waits_for_credit{0};
        std::uint64_t locks_waiting{0};  // just now
        /// By HomeCommandKind: commands to other nodes. Each that is answered is two messages.
        std::array<std::uint64_t, home_command_kinds> sent{};
    };

    explicit NodeHomes(Setup setup);
    NodeHomes(const NodeHomes&) = delete;
    NodeHomes& operator=(const NodeHomes&) = delete;
    ~NodeHomes() override;

    /// The node's members, whose rebuilds travel with locks; once, before anything is asked.
    void bind(Members& members) { members_ = &members; }
    /// Once, before anything is asked; without it no volume is ever anybody's.
    void set_reserved(ReservedRows& reserved) { reserved_ = &reserved; }
    /// From now on this is the member's home. Nothing of the member is under way.
    void set_home(MemberIndex member, std::uint32_t home);
    /// The node that was it is none any more, and comes in no fence again.
    void forget_home(MemberIndex member) {
        BRAID_REQUIRE(raw(member) < home_of_.size());
        home_of_[raw(member)] = no_home;
    }
    /// One more, which is gone until a fence has it back. It gets the next number.
    void add_home(HomeLink& link);
    /// Locks are taken where the members are at home now, and nowhere else until the next fence;
    /// before the first lock.
    void fix_authorities() { fix_authorities(home_of_); }
    /// The same at a start; where others have gone on before, the fence in which it was let in has.
    void begin_authorities() {
        if (fence_ == 0) fix_authorities();
    }
    /// This node begins where others have gone on without these homes; before anything is asked.
    void begin_without(HomeSet gone) { gone_ |= gone; }
    /// This node works without the member, and its home may still work with it: what is unlocked from
    /// now on nobody else gets before the home has heard. Else the home's own node could go by what
    /// the member has of a row that was written without it.
    void loss_begins(MemberIndex member) { losing_.add(member); }
    /// The home has heard, or is gone.
    void loss_is_known(MemberIndex member);
    /// The member is lost: what waits for the next fence to ask something of it waits no more.
    void refuse_held(MemberIndex member);
    /// A drive for Members that sends what is wanted to the member's home.
    /// @param info      of the device behind it
    /// @param metadata  where what lies in front of the data is read and written; none: nobody does
    std::unique_ptr<Drive> drive(MemberIndex member, DiskInfo info, DataArea area,
                                 std::unique_ptr<Disk> metadata = nullptr);
    const std::vector<std::uint32_t>& homes() const { return home_of_; }
    std::uint32_t home_of(MemberIndex member) const {
        BRAID_REQUIRE(raw(member) < home_of_.size());
        return home_of_[raw(member)];
    }

    // ---- a new fence, in this order
    /// Also again; by itself where a home says that it has gone before.
    void freeze();
    /// This node's writes, frozen: up to newest() those of decided() happen, and no others.
    const OwnWrites& writes() const { return writes_; }
    /// @param gone  who are no homes any more, with those that were so before
    /// @param back  of those that were so before: who is a home again, and knows nothing
    /// @param locks_at  by member, as home_of() is: where its role's locks are, on all nodes alike
    void enter(HomeSet gone, HomeSet back, std::vector<std::uint32_t> locks_at);
    void thaw();
    /// The array has ended: what waits for a fence, or for the lease, is refused.
    void end();
    /// Whether has_lease() or have_answered() has perhaps changed.
    void look_at_lease() { may_go_on_.set(); }

    static constexpr std::uint32_t no_home = ~std::uint32_t{0};

    /// A client's rows of a volume that this node has for itself are locked in its own book. The
    /// array's own work locks them where everybody does, and then in the book of whoever has the
    /// volume, or asks for it: nothing else that has rows waits for a second lock.
    Task<Result<LockId>> lock(WindowPlace place, RowMask rows, LockMode mode, LockFor whom,
                              RowsWithLock* with) override;
    /// Where the rows are locked by a message, and at the member's home.
    bool lock_brings(WindowPlace place, MemberIndex member) const override;
    void unlock(LockId lock) override;
    WriteId begin_write(MemberSet participants) override;
    bool decide(WriteId write) override;
    void drop(WriteId write) override;
    bool holds(LockId lock) const override;
    bool may_answer() const override;
    Task<void> wait_to_answer() override;
    bool asks_to_answer() const override;
    Task<bool> ask_to_answer() override;

    /// Nobody here has locked a row of these stripes, but for the array's own work, where that is
    /// locked in this home's book, too (none: the array's own does not count).
    bool is_quiet(StripeIndex first, StripeIndex end, std::optional<std::uint32_t> home) const;
    /// How far the rebuilds are that this node knows of, and what another has told of them: only the
    /// node where they run may.
    std::vector<Rebuilt> rebuilds() const;
    void note(const std::vector<Rebuilt>& rebuilds);

    /// Asks every home how far it is, and tells it what is over everywhere, so that it can forget it:
    /// for when there is nothing else to be sent.
    Task<void> catch_up();

    const Credits& credits() const { return credits_; }
    const Counts& counts() const { return counts_; }
    std::size_t locks_held() const { return locks_.size(); }
    /// Messages of commands and of their answers.
    std::uint64_t messages() const;

  private:
    void fix_authorities(std::vector<std::uint32_t> locks_at);
    class RemoteDrive;
    struct Waiting;
    struct Poll;
    struct Claimed {  // in a home's book
        std::uint32_t home{0};
        std::uint64_t claim{0};
    };
    struct Locked {
        LockFor whom{LockFor::client};
        StripeIndex stripe{};
        Claimed first;
        std::optional<Claimed> second;
        WindowRows at;
        std::uint64_t fence{0};
        std::uint64_t lapses{0};     // of the lease, that had kept writes from being decided
        std::vector<Credit> credit;  // by home: what is not staged yet
    };
    struct CreditWait {
        std::uint32_t home{0};
        Event over;
        int os_error{0};
    };

    struct HeldOp {  // a read or a flush, to be asked again under the next fence
        RemoteDrive* drive{nullptr};
        DriveOp* op{nullptr};
    };
    struct HeldUnlock {
        Locked locked;
        std::vector<std::pair<std::uint32_t, HomeCommand>> commands;  // by home
    };

    std::uint32_t authority_of(WindowPlace place) const;
    std::uint64_t losses_known() const;
    void send(std::uint32_t home, HomeCommand command, HomeReply* reply);
    Task<HomeAnswer> ask(std::uint32_t home, HomeCommand command);
    void end_with(WriteId write, HomeCommandKind kind);
    bool is_over(WriteId write) const;
    bool may_lock() const;
    bool may_stage(const StagedRows& staged);
    bool is_gone(std::uint32_t home) const { return (gone_ >> home & 1) != 0; }
    bool is_stale(std::uint32_t home, const DriveResult& result, std::uint64_t fence);
    void cancel_credit_waits(int os_error);
    Task<Result<LockId>> lock_now(Locked locked, LockMode mode, RowsWithLock* with);
    Locked* lock_on(const StagedRows& staged);
    std::vector<Credit> credit_for(WindowPlace place, RowMask rows) const;
    Task<Result<void>> take_credits(std::vector<Credit>* credit);
    Task<Result<void>> take_credit(std::uint32_t home, Credit credit);
    void give_back(std::uint32_t home, Credit credit);
    void give_back(const std::vector<Credit>& credit);
    void give_back_freed();
    void applied(std::uint32_t home, std::uint64_t upto);
    Credit charge(const StagedRows& staged, std::uint32_t home);
    bool holds_back(std::uint32_t home) const;
    void poll();
    void polled(std::uint32_t home, const HomeAnswer& answer);
    Task<Result<void>> claim_rows(Claimed* claimed, std::uint32_t home, WindowRows at,
                                  LockMode mode, RowsWithLock* with);

    const Geometry& geometry_;
    NodeBoot self_;
    Members* members_{nullptr};
    std::vector<HomeLink*> links_;
    std::vector<std::uint32_t> home_of_;
    std::vector<std::uint32_t> authority_of_;  // by member whose role's locks those are
    bool locks_bring_;
    OwnWrites writes_;
    std::map<LockId, Locked> locks_;
    MemberSet losing_;
    std::vector<HeldUnlock> held_unlocks_;
    ReservedRows* reserved_{nullptr};
    std::uint32_t own_home_{0};
    std::uint64_t last_claim_{0};
    Credits credits_;
    std::map<CreditTicket, CreditWait*> credit_waits_;
    std::uint64_t last_ticket_{0};
    std::vector<std::unique_ptr<Poll>> polls_;  // by home
    Counts counts_;

    std::function<bool()> has_lease_;
    FellowsAsker* asker_;
    std::uint64_t fence_{0};        // how many have been entered
    std::uint64_t over_writes_{0};  // those up to this one are of earlier fences
    std::uint64_t lapses_{0};
    HomeSet gone_{0};
    bool frozen_{false};
    bool ended_{false};
    Event may_go_on_;
    std::vector<HeldOp> held_ops_;
};

}  // namespace braid::cluster
