// SPDX-License-Identifier: BSD-3-Clause
// Serving: what every node does for clients, put together: members, row locks, memory, the write
// intent, requests, and the walker that an order sets going. It decides nothing: what a member did,
// and what it cannot know, it tells the Decider.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/array.h"
#include "engine/decider.h"
#include "engine/intent/write_intent.h"
#include "engine/members/bad_rows.h"
#include "engine/members/members.h"
#include "engine/serving/direct_reads.h"
#include "engine/serving/requests.h"
#include "engine/serving_node.h"
#include "engine/stripes/buffer_pool.h"
#include "engine/stripes/row_claims.h"
#include "engine/walks/latency.h"
#include "engine/walks/walker.h"
#include "parity/require.h"

namespace braid {

class Serving final : public ServingNode, private WalkProgress {
  public:
    struct Setup {
        ReadyQueue& ready;
        Clock& clock;
        const Geometry& geometry;
        const Configuration& configuration;  // for the array's name and its volumes
        TaskGroup& tasks;
        Decider& decider;
        std::uint64_t buffer_size{0};  // bytes of the pool for all stripe I/O
        bool readonly{false};
        RowHomes* homes{nullptr};  // none: the node is alone
        std::uint32_t node{0};     // whose write intent it is
    };
    explicit Serving(const Setup& setup);
    Serving(const Serving&) = delete;
    Serving& operator=(const Serving&) = delete;

    // ---- clients
    void submit(IoRequest& request) {
        members_.note_quiet();  // perhaps of one who could not read past the loop
        requests_.submit(request);
    }
    /// Once, before the first request.
    void set_gate(RequestGate& gate) { requests_.set_gate(gate); }
    /// Any thread: see Array.
    bool read_direct(ArrayOffset offset, ByteSpan into) { return direct_reads_.read(offset, into); }
    void note_latency(Nanos latency) { latency_.note(latency); }
    /// Of clients of this node; and, where walks run, of other nodes' clients.
    LatencyMeter& latency() { return latency_; }

    // ---- from the start to the stop
    Members& members() { return members_; }
    const Members& members() const { return members_; }
    WriteIntent& intent() { return intent_; }
    const WriteIntent& intent() const { return intent_; }
    ByteSpan buffer() const { return pool_.region(); }
    const Counters& counters() const { return counters_; }
    /// The drive of a role, wherever its disk is; none was open there.
    void attach_drive(MemberIndex member, std::unique_ptr<Drive> drive, DataArea area);
    /// Parity before this window was made true, by whoever walks.
    void doubt_passed(WindowIndex upto);
    /// What may be read past the loop is looked at again: all disks are there, and what is marked.
    void set_gates();
    // The node is to leave, and the array to go on without it: Requests::hold().
    void hold() { requests_.hold(); }
    bool is_held() const { return requests_.is_held(); }
    bool is_quiet() const { return requests_.is_quiet(); }
    Task<void> wait_until_quiet() { return requests_.wait_until_quiet(); }
    void let_go() { requests_.let_go(); }
    void refuse_all() { requests_.refuse_all(); }
    // The node leaves, in this order; whether the array goes on does not matter.
    /// No request is taken any more; waits until none is left.
    Task<void> drain() { return requests_.drain(); }
    /// After drain(): no thread reads past the loop any more.
    Task<void> close_gates();
    /// Nothing is under way any more on disks of lost members, also what nobody waits for.
    Task<void> wait_for_disks();
    /// The next disk that is attached for this role misses these windows, and nothing else.
    void set_returning(MemberIndex member, WindowSet missed) {
        returning_ = ComingBack{member, std::move(missed)};
    }
    /// Who was coming back is made true from its checkpoint on; while nobody writes, on any node.
    void forget_behind() {
        for (std::uint32_t i = 0; i != members_.count(); ++i) {
            members_.forget_behind(MemberIndex{i});
        }
    }
    /// What a lost member misses of what this node has written, and is writing. Refused: it does not
    /// know that; `back` says what the member's disk holds.
    Checked<WindowSet> missed_by(const ReturningMember& back) const;
    /// As the array starts, before anything is written: the member is away, and misses this, and what is
    /// in doubt.
    void note_absent(MemberIndex member, AbsenceMap::Left left);
    /// Ends what runs by itself.
    void stop();
    /// Destroys what waits, where it stands.
    void abandon();

    /// What this node can tell of the array: all but its configuration, which is there already, and
    /// what only the one who decides knows.
    void fill(ArrayStatus& status) const;
    /// Of a member with a role, as it is here.
    MemberStatus member_status(const MemberRecord& at) const;

    // ---- ServingNode
    void adopt(const Configuration& wanted) override;
    Task<Result<void>> adopted() override { co_return Result<void>{}; }
    void member_lost(MemberIndex member, MemberState state) override {
        BRAID_REQUIRE(!takes_part(state));
        members_.set_state(member, state);
    }
    void in_force(const Configuration& now, std::uint64_t loss_version) override {
        intent_.set_epoch(now.version.epoch);
        marks_in_force_ = now.intent.on;
        members_.set_loss_version_durable(loss_version);
        members_.set_in_force(now.in_sync());
    }
    void expect_of_witness(Witness expected) override { members_.set_witness(expected); }
    void set_owing(bool owing) override { members_.set_owing(owing); }
    void halt() override { members_.halt(); }
    void array_failed() override;
    bool is_there(const Disk&) const override { return true; }
    std::uint32_t home_of(const Disk&) const override { return node_; }
    Task<Result<void>> prepare(MemberIndex, const Disk&, DataArea) override {
        co_return Result<void>{};
    }
    void attach(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area) override;
    std::unique_ptr<Disk> detach(MemberIndex member) override;
    Task<Checked<std::uint64_t>> begin_return(ReturningMember back) override;
    Task<Checked<std::uint64_t>> windows_missed(ReturningMember back) override;
    void end_return() override { returning_.reset(); }
    void add_doubt(WindowRange windows) override { members_.doubt().add(windows); }
    void trust_all() override { members_.doubt().remove_before(geometry_.window_end()); }
    Task<Result<void>> flush() override { return intent_.flush(); }
    void walk(const WalkOrder& order) override {
        BRAID_REQUIRE(!walker_.running());
        tasks_.spawn(run_walk(order));
    }
    void cancel_walk() override { walker_.cancel(); }
    std::optional<WalkPosition> walking() const override;
    void set_resync_comes(bool comes) override;
    bool marks() const override { return intent_.on(); }
    MarksLeft marks_left() const override;
    Task<Result<void>> write_marks() override { return intent_.rewrite(); }
    Task<Result<void>> write_all_marks() override { return write_marks(); }
    void retire_marks(StripeIndex before) override;
    void set_region(std::uint64_t region) override { intent_.set_region(region); }
    Task<Result<void>> begin_marks() override;
    void end_marks() override;
    void keep_marks_in_doubt(StripeIndex listed) override;
    Task<Result<std::uint64_t>> take_back(ReturningDisk from) override;

  private:
    struct ComingBack {
        MemberIndex member{};
        WindowSet missed;
    };
    struct Adopted {  // of a role
        Uuid uuid;
        MemberState state{MemberState::missing};
        EpochRevision left;
        bool removed{false};
    };

    // WalkProgress
    void walk_passed(const WalkOrder& order, WindowRange passed) override;
    Task<Result<void>> walk_checkpoint() override { return decider_.walk_at(position()); }
    LatencySample take_latency() override { return latency_.take(); }

    std::optional<AbsenceMap::Left> on_leaving(MemberIndex member);
    bool add_maybe_missed(WindowSet* seed) const;
    bool fits_records(const Configuration& wanted) const;
    Task<void> run_walk(WalkOrder order);
    WalkPosition position() const;
    Task<Result<std::uint64_t>> take_batch(ReturningDisk from, RowIndex* at, RowIndex end);

    Clock& clock_;
    const Geometry& geometry_;
    const std::uint32_t node_;
    TaskGroup& tasks_;
    Decider& decider_;
    Members members_;
    std::vector<Adopted> adopted_;         // by role
    std::optional<StripeIndex> resynced_;  // as the newest configuration has it
    bool marks_in_force_{false};           // on every node what is written is marked
    std::optional<ComingBack> returning_;
    BadRows bad_;
    RowClaims claims_;
    BufferPool pool_;
    WriteIntent intent_;
    Counters counters_;
    StripeContext context_;
    Requests requests_;
    Walker walker_;
    DirectReads direct_reads_;
    LatencyMeter latency_;
};

}  // namespace braid
