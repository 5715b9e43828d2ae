// SPDX-License-Identifier: BSD-3-Clause
// LocalArray: an array on the node that decides about it. Serving and deciding, joined by calls; here
// are its start, its stop, and what it tells of itself. Where another node has decided until now what
// serves is there already, and goes on: take_over() instead of start().
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/array.h"
#include "engine/assembly/assembly.h"
#include "engine/deciding/deciding.h"
#include "engine/deciding/event_log.h"
#include "engine/local/nodes.h"
#include "engine/members/answer_watch.h"
#include "engine/serving/serving.h"

namespace braid {

class LocalArray final : public Array, private NodesListener {
  public:
    /// @param serving  none: it has its own; else by an older configuration, perhaps, and it outlives
    ///                 the array
    LocalArray(ReadyQueue& ready, Clock& clock, Configuration configuration, ArrayOptions options,
               Serving* serving = nullptr);
    ~LocalArray() override;

    /// What assembly knows of the last stop; before start().
    struct Before {
        std::vector<IntentEntry> marked;
        std::map<std::uint32_t, std::uint64_t> intent_generations;  // by node
        std::string intent_hindrance;
        std::uint64_t epoch_seen{0};
        std::vector<Uuid> away;  // in sync, and not among the disks that were given
        bool overruled{false};   // by force: Assembly::overruled
        /// What is stored says that nothing is in doubt that it does not name.
        bool clean{false};
        /// Of members that are away since earlier: Assembly::absent, and Assembly::missed.
        std::map<MemberIndex, std::map<std::uint32_t, std::uint64_t>> absent;
        std::vector<IntentEntry> missed;
        bool ties_broken{false};  // Assembly::ties_broken
    };
    void set_before(Before before);
    /// Why a member that was given takes no part; before start().
    void note_left_out(const MemberImage& image, const std::string& why);
    /// Puts a disk where the configuration has its record; before start().
    void put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata);
    /// Marks the array as in use and begins what is to run in the background.
    Task<Checked<Unit>> start();
    /// What a node finds that is to decide from now on.
    struct Found {
        std::uint64_t epoch_seen{0};           // the highest, of promises, too
        std::vector<MemberMetadata> metadata;  // by role
        std::vector<Spare> spares{};
        std::optional<Spare> witness{};             // that is here
        bool ties_broken{false};                    // break_ties()
        std::map<MemberIndex, std::string> lost{};  // that were not, by the newest configuration
        MemberSet away{};                           // of them, those whose node left by order
    };
    /// Instead of start(): the configuration is the newest that members hold, without those that are
    /// lost. Whoever serves works by it from now on; lose() brings it into force. Refused: it would
    /// cost rows that only those that are lost can tell.
    Checked<Unit> take_over(Found found);
    /// After take_over(), and when all nodes go on: what is to run in the background begins.
    void go_on();
    /// The disk of a lost member is closed, when nobody uses it any more.
    Task<void> close_role(MemberIndex member) {
        if (!deciding_.roster.is_lost_role(member)) co_return;
        co_await deciding_.roster.close_slot(member);
    }
    /// Ends what runs by itself; nothing is written any more.
    Task<void> end_tasks();
    EventLog& log() { return log_; }

    const Configuration& configuration() const override { return configuration_; }
    void submit(IoRequest& request) override { serving_.submit(request); }
    Task<Result<void>> stop() override;
    ArrayStatus status() const override;
    Task<Checked<Unit>> fail_member(MemberName name, Force force) override {
        return deciding_.orders.fail(std::move(name), force);
    }
    Task<Checked<Unit>> remove_member(MemberName name) override {
        return deciding_.orders.remove(std::move(name));
    }
    Task<Checked<Unit>> add_member(std::unique_ptr<Disk> disk, Force force) override {
        return deciding_.orders.add(std::move(disk), force);
    }
    Task<Checked<Unit>> replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                       Force force) override {
        return deciding_.orders.replace(std::move(name), std::move(disk), force);
    }
    Task<Checked<Unit>> start_scrub(ScrubMode mode) override {
        return deciding_.walks.start_scrub(mode);
    }
    Checked<Unit> stop_scrub() override { return deciding_.walks.stop_scrub(); }
    Task<Checked<Unit>> change_intent(IntentChange change) override {
        return deciding_.orders.change_intent(change);
    }
    Task<Checked<Unit>> reserve(std::string volume) override;
    Task<Checked<Unit>> release(std::string volume) override;
    Task<Checked<Unit>> open_volume(std::string) override { co_return Unit{}; }
    void close_volume(const std::string&) override {}
    Task<Checked<Unit>> order_node(NodeOrder what, std::uint32_t node) override;
    bool read_direct(ArrayOffset offset, ByteSpan into) override {
        return serving_.read_direct(offset, into);
    }
    void note_latency(Nanos latency) override { serving_.note_latency(latency); }

  private:
    // NodesListener
    bool member_failing(MemberIndex member, HomeFault what, int os_error) override;
    void node_gone(const std::string& why) override;
    void node_left(const std::string& why) override;
    bool can_lose(MemberSet members, Witness expected) const override;
    Task<Result<void>> lose(MemberSet members, std::string why, Fault fault) override;
    Task<Result<std::uint64_t>> forget_node(std::uint32_t node) override;
    bool is_in_force_as_wanted() const override;

    RowHomes* homes() const;
    ServingNode& join();
    Task<Checked<Unit>> begin_nodes();
    void note_absent(MemberSet away);
    void take_over_absences(const IntentRecord& record);
    Task<Checked<Unit>> write_first_record(MemberSet away);
    void begin_lineage();
    Task<Checked<Unit>> store_in_use();
    void start_readonly();
    Task<void> watch_stop();
    std::string why_stop_waits() const;
    MemberSet late_members();
    MemberState shown_state(const MemberRecord& at) const;
    MemberStatus member_status(const MemberRecord& at) const;
    void note_away();

    Clock& clock_;
    const ArrayOptions options_;
    Configuration configuration_;  // what is wanted; the configuration writer changes it
    const Geometry geometry_;
    TaskGroup tasks_;
    EventLog log_;
    ArrayStage stage_;
    Event work_;
    std::unique_ptr<Serving> own_serving_;  // none: it was there before
    Serving& serving_;
    ServingNode& nodes_;  // all that serve it, this one among them
    Deciding deciding_;
    AnswerWatch watch_;
    Before before_;
    std::vector<change::Seen> seen_;  // disks that were put
    Timer* stop_timer_{nullptr};      // of watch_stop()
};

}  // namespace braid
