// SPDX-License-Identifier: BSD-3-Clause
// Simulation: one run of an array on simulated members. Clients read, write, zero and flush;
// operators fail, replace and add members, scrub, change the write intent; members fail in all
// their ways; the node crashes at any await, or loses its power, and starts again. The oracle
// checks what clients are told. At the end everything heals, and the array must come to rest.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <deque>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/array.h"
#include "tests/sim/oracle.h"
#include "tests/sim/sim_disk.h"
#include "tests/sim/sim_loop.h"
#include "tests/sim/sim_options.h"

namespace braid::sim {

/// What happened, for people: the last lines, or all of them as they come.
class Trace {
  public:
    explicit Trace(bool prints_all) : prints_all_(prints_all) {}
    void note(std::uint64_t nanos, const std::string& text);
    void print() const;
    bool prints_all() const { return prints_all_; }

  private:
    static constexpr std::size_t kept_max = 60;
    bool prints_all_;
    std::deque<std::string> last_;
};

enum class Outcome : int { fine = 0, wrong_data = 2, not_at_rest = 3 };

struct Figures {
    std::uint64_t requests{0};
    std::uint64_t crashes{0};
    std::uint64_t starts{0};
    std::uint64_t refused{0};  // starts, where that is allowed
    std::uint64_t losses{0};   // members that the array did without
    std::uint64_t rows_listed{0};
    std::uint64_t sectors_checked{0};
    std::uint64_t virtual_seconds{0};
};

class Simulation {
  public:
    Simulation(SimOptions options, Trace& trace);
    ~Simulation();
    Outcome run();
    /// Which promise broke, or what did not come to rest.
    const std::string& failure() const { return failure_; }
    const Figures& figures() const { return figures_; }

  private:
    struct Flight {
        Simulation* simulation{nullptr};
        std::uint64_t number{0};
        IoRequest request;
        Buffer memory;
        WriteNumber write{0};
        std::uint64_t began{0};  // of a read or flush, in the oracle's time
        std::uint64_t since{0};  // nanoseconds
        bool done{false};
    };
    struct Command {
        std::string name;
        std::optional<Checked<Unit>> result;
    };
    struct Unforced {
        std::shared_ptr<Command> command;
        std::uint32_t role{0};
        std::uint64_t listed{0};  // rows, before
    };
    struct Snapshot {
        std::string path;
        Buffer content;
        EpochRevision version;  // of the newest configuration in it
        bool used{false};
        bool at_rest{false};  // the array was stopped
        bool due{false};      // it is put back at the next start
    };
    enum class Started : std::uint8_t { yes, refused, crashed };
    using Names = std::vector<std::string>;

    // The parts of a run.
    void create();
    void act();
    void finish();

    // Time.
    bool failed() const { return outcome_ != Outcome::fine; }
    void fail(Outcome outcome, std::string text);
    void check(const std::optional<Broken>& broken);
    void note(const std::string& text);
    void pump(std::uint64_t steps);
    /// False: nothing was left to do.
    bool step();
    void look();
    void run_for(std::uint64_t nanos);
    /// False: `until()` was not true within the time, or something else failed. A question that is
    /// dear to answer is asked each `pause` only.
    template <class Until>
    bool run_until(Until until, std::uint64_t nanos, const std::string& what,
                   std::uint64_t pause = 0);
    void watch();

    // Clients, simulation_clients.cpp.
    void start_request();
    void choose_range(std::uint64_t& offset, std::uint64_t& size);
    struct Extent {
        std::uint64_t offset{0};
        std::uint64_t size{0};
    };
    Extent trimmed(const IoRequest& request) const;
    void begin(Flight& flight);
    void read_direct(std::uint64_t offset, std::uint64_t size);
    void landed(Flight& flight);
    void land();
    /// Reads all, in pieces of `piece` bytes.
    void read_all(std::uint64_t piece);
    void flush();
    Flight& begin(IoKind kind, std::uint64_t offset, std::uint64_t size, bool fua);
    /// One request, waited for. False: it failed.
    bool ask(IoKind kind, std::uint64_t offset, std::uint64_t size, bool fua);

    // What goes wrong, and what operators do, simulation_events.cpp.
    std::shared_ptr<SimPlatter> platter_of(const std::string& path) const;
    const Configuration& configuration() const;
    /// Roles that do not count: lost, or with a platter that is not well.
    std::set<std::uint32_t> weak_roles() const;
    /// As many may be lost. Of RAID-6 of four just one: two may be its tie-breaker and another.
    std::uint32_t losses_max() const {
        const std::uint32_t parities = parities_of(options_.level);
        return options_.members == 2 * parities ? parities - 1 : parities;
    }
    void note_states();
    bool are_states_as_seen() const;
    bool is_stable() const;
    bool may_lose(std::uint32_t more) const;
    bool is_within() const { return options_.plan == FaultPlan::within; }
    std::string fresh_platter();
    std::shared_ptr<SimPlatter> make_platter(bool junk);
    void inject_fault();
    bool is_healed_just_now(const std::string& path) const;
    void heal(const std::string& path);
    void heal_one();
    void note_mended(bool all);
    void begin_outage();
    void end_outage();
    std::size_t lost_roles() const;
    bool met_outage(std::uint64_t since) const;
    void operate();
    void fail_by_order(std::uint32_t role);
    void spawn(std::string name, Task<Checked<Unit>> task);
    void add_any();
    void replace(std::uint32_t role, Force force);
    bool was_full() const;
    bool is_needed_alone() const;
    void make_holes(SimPlatter& platter);
    std::uint64_t listed_of(std::uint32_t role) const;
    void check_unforced();
    void change_intent();
    void intent_answered(bool done);
    void look_at_intent();
    void note_intent();
    void corrupt();
    bool start_scrub(ScrubMode mode);
    void finish_scrub(std::uint64_t repaired);
    void take_snapshot();
    Snapshot snapshot_of(const std::string& path, bool at_rest) const;

    // What random events seldom bring together, simulation_crossings.cpp.
    void die_with_one_written();
    Started open_until_written(const std::string& lone);
    bool copy_and_end();
    void note_cut_off();
    void ask_again(IoKind kind, Extent extent);
    void begin_tensely();
    MemberIndex member_of(Extent extent) const;
    bool may_lose_now(Extent extent) const;
    void lose_now(Extent extent);
    void note_changes();
    bool crash_at_change();
    bool rewrite_some_row();
    std::unique_ptr<SimDisk> second_path(const std::string& path, bool second_cable);
    void order_with_second_path();
    std::uint64_t count_sick() const;
    void start_with_second_path(const Names& given);

    // Ends and starts, simulation_restarts.cpp.
    /// Whether the plan lets the node start again if it crashed now, without `absent` roles.
    bool may_crash(std::size_t absent = 0) const;
    void crash(bool power);
    /// False: it crashed on the way.
    bool stop(bool may_crash);
    void restart();
    bool may_be_absent() const;
    Names choose_members(std::set<std::uint32_t>& absent);
    void copy_at_rest();
    void roll_back(std::set<std::uint32_t>& absent);
    struct Start {
        bool readonly{false};
        bool force{false};
        bool may_crash{false};
    };
    Started open(const Names& given, Start start);
    void check_extent();
    void look_readonly(const Names& given);
    /// The start was refused: may it be?
    void check_refusal(const Names& given);
    void restart_with_all();
    Names all_members() const;
    void heal_all();

    // The end, simulation_end.cpp.
    void mend_members();
    bool is_at_rest() const;
    void come_to_rest(const std::string& when);
    void check_retried();
    void rewrite_listed_rows();
    void check_scrub();
    void check_marks();
    void check_parity();
    void check_metadata(const Names& open);
    void check_degraded_reads();

    SimOptions options_;
    Trace& trace_;
    Rng rng_;  // of what is done; the loop has its own
    SimLoop loop_;
    std::uint64_t data_offset_;
    std::map<std::string, std::shared_ptr<SimPlatter>> disks_;
    std::uint32_t disks_made_{0};
    std::map<std::string, std::uint64_t> healed_;  // nanoseconds, by path
    std::unique_ptr<Array> array_;
    std::optional<Checked<std::unique_ptr<Array>>> opened_;
    std::optional<Result<void>> stopped_;
    std::unique_ptr<Oracle> oracle_;
    Configuration last_;  // as of the end of the last time it was served
    bool last_stable_{true};
    bool clean_{true};        // how that ended
    std::string refusal_;     // of the last start
    std::string failed_why_;  // of the last stop
    std::list<Flight> flights_;
    std::uint64_t flying_{0};
    std::uint64_t requests_{0};
    std::list<std::shared_ptr<Command>> commands_;
    std::optional<Unforced> unforced_;
    struct Outage {
        std::string path;
        std::uint64_t since{0};  // nanoseconds
        std::uint64_t until{0};
        bool refuses{false};  // it takes no metadata; else it answers no reads
    };
    std::optional<Outage> outage_;
    std::uint64_t outage_ended_{0};
    bool stopping_{false};
    bool doubt_{false};
    bool intent_sure_{false};                     // it is on, durably
    std::optional<std::uint64_t> intent_failed_;  // nanoseconds: when an order was refused
    bool opened_before_{false};
    EpochRevision epoch_seen_;
    std::vector<MemberState> states_seen_;
    std::uint64_t epoch_changed_{0};  // nanoseconds
    // When a resync of all of it was to be done last: nanoseconds.
    std::optional<std::uint64_t> resync_seen_;
    // Starts that died since it was last served or stopped: in what state that left it, and without
    // whom they were, who may be missing by them.
    bool starts_died_{false};
    bool stable_before_{true};
    std::set<std::uint32_t> without_;
    std::function<bool()> dies_when_;     // a start; may be empty
    std::vector<Extent> cut_off_;         // what was written as the node died last
    std::optional<std::uint64_t> parts_;  // who takes part, and how much is listed
    std::uint64_t steps_to_crash_{0};     // 0: none is meant
    std::uint64_t looks_{0};
    std::uint64_t stepped_at_{0};  // nanoseconds, and how many steps were in them
    std::uint64_t steps_at_{0};
    bool gone_for_good_{false};  // beyond the plan: no start is possible any more
    std::optional<Snapshot> snapshot_;
    std::set<std::pair<std::string, std::uint64_t>>
        mended_;  // rows that could not be read, by path
    Outcome outcome_{Outcome::fine};
    std::string failure_;
    Figures figures_;
};

template <class Until>
bool Simulation::run_until(Until until, std::uint64_t nanos, const std::string& what,
                           std::uint64_t pause) {
    const std::uint64_t end = loop_.now().value + nanos;
    while (!until()) {
        if (failed()) return false;
        if (loop_.now().value > end) {
            fail(Outcome::not_at_rest,
                 fmt::format("{}: not within {} s", what, nanos / 1'000'000'000));
            return false;
        }
        if (pause == 0) {
            if (!step() && !until()) {
                fail(Outcome::not_at_rest, what + ": nothing will ever happen");
            }
        } else {
            run_for(pause);
        }
    }
    return true;
}

}  // namespace braid::sim
