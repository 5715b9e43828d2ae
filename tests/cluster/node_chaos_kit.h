// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: whole nodes, clients on all of them, and whatever can happen to nodes, their net and
// their disks, in an order that a seed draws. A driver does what operators and systemd would: it starts
// servers anew that have ended, replaces disks that failed, and starts all again when nobody serves.
//
// A run is `within` what the level can do without: then no request of a node to which nothing happens
// may fail, or take for ever. Or it goes `beyond`: then only what clients saw counts, and that all comes
// back when everything heals.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "tests/cluster/chaos_history.h"
#include "tests/cluster/register_watch.h"
#include "tests/cluster/sim_nodes.h"

namespace braid::sim {

struct ChaosOptions {
    std::uint64_t seed{1};
    Level level{Level::raid5};
    std::uint32_t members{3};
    std::uint32_t nodes{3};
    std::uint32_t homes{0};
    std::optional<std::uint32_t> witness{};  // the node that has it
    std::uint64_t stripes{8};
    std::uint64_t region{0};
    std::uint64_t drift_ppm{0};
    std::uint64_t seconds{60};
    bool beyond{false};
    bool strict{false};            // reads; then clocks stand while their node does
    std::uint32_t kinds{0};        // a bit for each ChaosKind that happens
    std::uint64_t pause_ms{2000};  // between two of them, at most
    std::uint64_t think_ms{60};    // of a client, between two requests, at most
    cluster::NoQuorum no_quorum{cluster::NoQuorum::error};
    std::uint32_t channels{1};
    std::uint32_t lease_ms{lease_ms_default};
    std::uint32_t heartbeat_ms{heartbeat_ms_default};
    std::uint64_t machine_after{0};  // seconds: one more node is added then; 0: none is
    // Then no disk fails: what is lost are nodes, and spares take the roles of their members.
    std::uint32_t spares{0};
    std::uint64_t rebuild_delay_ms{0};
};
enum class ChaosKind : std::uint32_t {
    kill,
    freeze,
    isolate,
    part,
    flap,
    cut,
    slow,
    disk,
    power,
    stop,
    orders,
    count
};
constexpr std::uint32_t bit(ChaosKind kind) { return 1U << static_cast<std::uint32_t>(kind); }
constexpr std::uint32_t all_kinds = (1U << static_cast<std::uint32_t>(ChaosKind::count)) - 1;

/// Where there may be: some, or as drawn.
enum class Spares : std::uint8_t { drawn, some };
ChaosOptions draw_chaos(std::uint64_t seed, Spares spares = Spares::drawn);
std::string text_of(const ChaosOptions& options);

struct ChaosFigures {
    std::uint64_t requests{0};
    std::uint64_t failed{0};  // requests
    std::uint64_t happened{0};
    std::uint64_t starts{0};  // of nodes
    std::uint64_t starts_of_all{0};
    std::uint64_t virtual_seconds{0};
};

class Chaos {
  public:
    /// @param tell  each thing that happens, as it happens; may be empty
    Chaos(ChaosOptions options, std::function<void(const std::string&)> tell);
    /// Empty, or what was wrong.
    std::string run();
    std::vector<std::string> trace() const { return trace_; }
    std::string logs() const { return nodes_.logs(); }
    const ChaosFigures& figures() const { return figures_; }

  private:
    /// What the driver knows of a node.
    struct Seat {
        std::uint64_t start{0};   // its server is started then; 0: it is
        std::uint32_t starts{0};  // counts
        bool was_told{false};     // in the trace that it serves
        std::uint32_t faults{0};  // under way, that are its own
        std::uint64_t excused_until{0};
        std::uint64_t ends_since{0};
    };
    /// A disk that is to be replaced.
    struct Failed {
        std::uint64_t look{0};  // then
        /// The order to fail it has no answer yet: the node that has it, and which start of that.
        std::optional<std::pair<std::uint32_t, std::uint32_t>> asked;
        std::uint64_t late{0};              // until then it may be lost for what was asked before
        std::shared_ptr<SimPlatter> fresh;  // that was ordered to
        std::string path;
    };
    struct Spare {
        std::uint32_t node;
        std::shared_ptr<SimPlatter> platter;
        std::string path;
        std::uint64_t look{0};  // whether it is the array's yet, then
    };
    struct Pending {
        std::uint32_t node;
        std::uint64_t since;
        bool is_flush;
    };

    SimLoop& loop() { return nodes_.loop(); }
    std::uint64_t now() { return loop().now().value; }
    std::uint64_t below(std::uint64_t bound) { return rng_.below(bound); }
    /// After what happened to a node is over others may still exclude it, or it may hear that they did.
    std::uint64_t aftermath() const {
        constexpr std::uint64_t usual = seconds(8).value;
        return usual +
               millis(options_.lease_ms - std::min(options_.lease_ms, lease_ms_default)).value;
    }
    void say(const std::string& text);
    void fail(const std::string& why);
    bool has_failed() const { return !history_.fault().empty(); }
    std::uint32_t parities() const { return options_.level == Level::raid6 ? 2 : 1; }

    // clients
    Task<void> client(std::uint32_t node);
    Task<void> write(std::uint32_t node, std::uint64_t first, std::uint64_t count, Fua fua);
    Task<void> read(std::uint32_t node, std::uint64_t first, std::uint64_t count);
    Task<void> flush(std::uint32_t node);
    void note_answer(std::uint32_t node, std::uint64_t since, const Result<void>& done,
                     const char* what);
    void begin_clients(std::uint32_t node);
    void look_at_requests();
    bool sweep(std::uint32_t node);

    // the driver
    void tick();
    void pass(std::uint64_t nanos);
    bool wait(const std::function<bool()>& condition, std::uint64_t seconds, const char* what);
    void look_after(std::uint32_t node);
    void see_to_machine();
    void see_to_spares();
    void put_blank_spares_away();
    void put_spares_in_place();
    void look_after_disks();
    void give_back();
    void start_later(std::uint32_t node, std::uint64_t nanos);
    bool serves(std::uint32_t node) const;
    bool is_well(std::uint32_t node);
    bool all_serve();
    bool is_whole();
    std::string why_not_whole();
    const Spare* spare_with(std::uint32_t role, std::uint32_t node);
    std::uint32_t home_of(std::uint32_t role);
    std::set<std::uint32_t> roles_of(std::uint32_t node);
    std::set<std::uint32_t> roles_out();
    std::set<std::uint32_t> roles_at_risk();
    bool may_lose(const std::set<std::uint32_t>& nodes, std::uint32_t member = ~0U);
    bool answers_witness();
    bool who_decides_is_well();
    bool may_yet_be_lost(Failed& failed);
    Task<Checked<Unit>> fail_member(std::uint32_t node, std::uint32_t member);
    void note_memory_lost();
    void start_all_again(bool power, bool clean);
    void make_disks_ready();
    void disturb_start();
    void start_without_one();
    void look_at_rows();
    void look_at_register();
    void look_at_fences();
    void look_at_reservations();
    void expect_one_of_all();
    void expect_one_fence();
    bool is_nothing_staged();
    void mend_all();
    void finish();
    void later(std::uint64_t nanos, std::function<void()> what);
    void order(std::uint32_t node, std::string what, Task<Checked<Unit>> task);
    Task<void> carry_out(std::uint32_t node, std::string what, Task<Checked<Unit>> task);

    // what happens
    void happen();
    bool happens(ChaosKind kind);
    std::uint32_t any_node() { return static_cast<std::uint32_t>(below(options_.nodes)); }
    std::uint64_t some_time();
    void begin_fault(std::uint32_t node);
    void end_fault(std::uint32_t node);
    bool kill();
    bool freeze();
    bool isolate();
    bool part();
    bool flap();
    bool cut();
    bool unplug();
    bool slow();
    bool fail_disk();
    bool lose_power();
    bool stop();
    bool give_order();
    void resume(std::uint32_t victim);
    void resume_all();

    ChaosOptions options_;
    std::function<void(const std::string&)> tell_;
    Rng rng_;
    std::vector<Seat> seats_;
    std::multimap<std::uint64_t, std::function<void()>> plan_;
    std::map<std::uint64_t, Pending> pending_;
    std::uint64_t requests_{0};
    std::vector<std::string> trace_;
    ChaosFigures figures_;
    bool heals_{false};
    bool stops_{false};           // all are told to stop
    std::uint64_t all_again_{0};  // all are started then
    std::uint64_t resumes_next_{0};
    std::optional<std::uint32_t> machine_;  // that was added
    std::uint64_t machine_next_{0};
    bool load_{false};
    bool lost_{false};      // more memory at once than the level can: until all begin anew
    bool unknown_{false};   // rows may be, since a loss of power
    bool may_doubt_{true};  // rows may be in doubt, for that reason
    std::uint64_t rows_next_{0};
    bool is_unplugged_{false};  // one of somebody's cables
    struct InFence {
        std::uint32_t starts{0};  // of the node
        std::uint64_t fence{0};
    };
    std::vector<InFence> fences_;  // by node, as it was last looked
    std::map<std::uint32_t, std::uint32_t>
        without_;                            // nodes, and their starts that others went on without
    std::map<std::uint32_t, Failed> disks_;  // by member
    std::map<std::uint32_t, std::uint64_t> away_since_;  // members that may have to be given back
    std::vector<Spare> spares_;
    std::map<std::uint32_t, std::uint32_t> at_spares_;  // roles, and nodes of spares that have them
    std::uint32_t fresh_{0};
    std::map<std::string, std::shared_ptr<SimPlatter>> fresh_made_;  // by path
    ChaosHistory history_{0};
    test::RegisterWatch register_;
    SimNodes nodes_;  // ends first: clients run there
};

}  // namespace braid::sim
