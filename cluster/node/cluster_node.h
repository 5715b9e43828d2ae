// SPDX-License-Identifier: BSD-3-Clause
// ClusterNode: one node of a cluster, from its sessions to the array that it serves. The node with
// the highest id decides about the array (LocalArray, with ToldNodes and the homes' drives); all
// others serve it (ServedArray). All nodes have to be there to begin. When one goes afterwards whose
// members the level can do without, the others go on (cluster_node_fence.cpp), under another one that
// decides, if it was he (cluster_node_takeover.cpp), and let it in again when it has begun anew
// (cluster_node_admit.cpp); else the array stops on all, as if the power had gone.
//
// What nodes say to each other is listed in braid-protocol(7), TELL and ASK.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "cluster/bus/bus.h"
#include "cluster/bus/talk.h"
#include "cluster/config/cluster_config.h"
#include "cluster/epochs/told_nodes.h"
#include "cluster/homes/disk_server.h"
#include "cluster/homes/home.h"
#include "cluster/homes/home_server.h"
#include "cluster/homes/node_homes.h"
#include "cluster/homes/remote_disk.h"
#include "cluster/homes/remote_home.h"
#include "cluster/membership/group.h"
#include "cluster/membership/lease.h"
#include "cluster/membership/recovery.h"
#include "cluster/membership/strict_reads.h"
#include "cluster/node/node_commands.h"
#include "cluster/node/start_status.h"
#include "cluster/reservations/reservations.h"
#include "engine/array.h"
#include "engine/assembly/create_order.h"
#include "engine/base/rng.h"
#include "engine/io/pauses.h"
#include "engine/local/nodes.h"
#include "engine/members/answer_watch.h"

namespace braid::cluster {

class NodeArray;
class ServedArray;
/// Why a start of a node is of no use any more.
enum class NodeEnds : std::uint8_t {
    excluded,  // the others go on without it
    left,      // the same, as an operator has ordered
    stopped,   // the array has stopped, on all nodes or, cut off, on this one: too few are left
};
struct PrepareWords;
struct RoleSeen;

class ClusterNode final : private BusListener,
                          private CommandTaker,
                          private TalkListener,
                          private HomeListener,
                          private LeaseKeeper,
                          private FellowsAsker,
                          private Nodes {
  public:
    struct Setup {
        ReadyQueue& ready;
        Clock& clock;
        Net& net;
        ClusterConfig config;
        std::uint32_t self{0};  // its id
        std::optional<ClusterKey> key;
        std::uint64_t boot{0};  // random, not zero
        std::uint64_t seed{0};
        ArrayOptions array;  // of the array; node and nodes are filled in
        std::function<void(Severity, std::string)> log;  // before there is an array, and beside it
        /// What is on one of this node's disks, as far as their own bytes do not tell Disk's users:
        /// engine/probe/probe.h. None: nothing.
        std::function<Task<Checked<std::vector<std::string>>>(std::string path)> probe{};
        /// The cluster's file as it is now, for orders that change which nodes there are. None: it
        /// cannot change.
        std::function<Task<Checked<ClusterConfig>>()> read_config{};
        /// This start of the node, which served, is of no use any more: its server is to end. Once.
        std::function<void(NodeEnds why)> ends{};
    };
    /// How long others may take for what is asked of them, at least.
    static constexpr Nanos patience = seconds(10);
    static constexpr Nanos disk_patience =
        seconds(3);                                   // for what who is gone has under way on disks
    static constexpr Nanos looks_again = seconds(1);  // whether it is to be waited for
    /// After a standstill connections do not come back all at once: each is tried again in its turn.
    static constexpr Nanos all_come_back = millis(net_connect_ms + hello_ms_max);
    static constexpr Nanos status_pause = seconds(1);  // others are told of walks so often
    static constexpr Nanos walk_pause = millis(50);    // that one begins they hear so soon
    static constexpr Nanos latency_pause = millis(5);  // and who walks, how long clients wait

    explicit ClusterNode(Setup setup);
    ClusterNode(const ClusterNode&) = delete;
    ClusterNode& operator=(const ClusterNode&) = delete;
    ~ClusterNode() override;

    /// The members that this node has opened; before start().
    void put_disk(std::shared_ptr<Disk> disk);
    /// Waits for all nodes, and until the array is served on all of them. Refused: an address that
    /// cannot be listened at, or there is no such array; or told to stop by cancel_start(). With
    /// RefusalCode::busy what other nodes did is in the way of this start alone: another one may do.
    Task<Checked<std::unique_ptr<Array>>> start();
    /// start() gives up, with Refusal; nothing has begun. False: it has.
    bool cancel_start();
    /// What start() waits for.
    StartStatus start_status() const;
    /// While start() waits for nodes: it goes on without these, and so do all others that wait. They are
    /// let in when they come, as nodes that were excluded. Refused: one of them is here, or it does not
    /// wait.
    Task<Checked<Unit>> start_without(std::vector<std::uint32_t> nodes);
    /// While start() waits for an array: makes it of all nodes' members. Refused: it does not wait
    /// for that, a member holds something, or what plan_create() and create_array() refuse.
    /// @return  "made", "plan" (json_of(CreatePlan)), "nodes": what the death of each means
    Task<Checked<Words>> create(CreateOrder order);
    /// After the array's stop() and its end, or a start that was refused.
    Task<void> stop();
    /// A crash in the simulator: everything ends where it stands. The array goes next, and this.
    void abandon();

    /// On the master: a disk of this node's for an order. The array is given what is returned.
    std::unique_ptr<Disk> own_disk(std::unique_ptr<Disk> disk);
    /// Its array is told to stop: from now on nobody is waited for.
    void note_stop() { leaving_ = true; }
    bool is_master() const { return setup_.self == master_; }
    std::uint32_t master() const { return master_; }
    /// For whoever looks into it: the fence that it is in, whom it goes on without, and whether it may
    /// answer just now.
    std::uint64_t fence() const { return fence_.epoch; }
    bool is_without(std::uint32_t node) const { return left_out_.contains(node); }
    bool may_answer_now() const { return rows_ && !ended_ && gone_.empty() && has_lease(); }
    bool needs_lease() const { return !needs_no_lease_; }
    /// Who has which volume for himself; once it serves.
    Reservations& reservations() { return *reservations_; }
    const Reservations& reservations() const { return *reservations_; }
    /// What it has asked of homes; once it serves.
    const NodeHomes::Counts& asked_homes() const { return rows_->homes->counts(); }
    std::uint64_t home_messages() const { return rows_->homes->messages(); }
    /// What it says to other nodes: their commands (node_commands.h), for whoever looks into one.
    Talk& talk() { return talk_; }
    // As Array has them.
    Task<Checked<Unit>> order_node(NodeOrder what, std::uint32_t node);
    /// This node and all others, as far as it has heard.
    std::vector<NodeStatus> node_statuses(const Counters& counters) const;
    ClusterStatus cluster_status() const;

  private:
    friend class ServedArray;
    /// What this node has of the array's rows.
    struct Rows {
        Rows(ClusterNode& node, const Geometry& the_geometry);
        Geometry geometry;
        TaskGroup tasks;
        Home home;
        HomeServer server;
        HomeCall own{home};
        std::deque<RemoteHome> remotes;
        std::unique_ptr<NodeHomes> homes;
    };
    struct DiskPlace {
        std::uint32_t node{0};
        std::uint64_t boot{0};  // of the node: its next start has others
        std::uint32_t number{0};
        auto operator<=>(const DiskPlace&) const = default;
    };

    // BusListener
    void connected(std::uint32_t node) override;
    void disconnected(std::uint32_t node, const std::string& why) override;
    void restarted(std::uint32_t node) override;
    void taken_for_gone(std::uint32_t by, Goes its_array) override;
    void refused(const std::string& why) override;
    void unknown_came(std::uint32_t node) override;
    // CommandTaker
    Checked<Unit> take(std::uint32_t from, const Message& command, Buffer payload) override;
    void forgotten(std::uint32_t node) override;
    // TalkListener
    Task<Checked<Unit>> told(std::uint32_t from, const Words& words) override;
    Task<Checked<Words>> asked(std::uint32_t from, const Words& words) override;
    bool is_urgent(const Words& words) const override;
    void misunderstood(std::uint32_t from, const std::string& why) override;
    // HomeListener
    void member_failing(MemberIndex member, HomeFault what, int os_error) override;
    // LeaseKeeper
    bool extends(std::uint32_t node, std::uint64_t promised, Nanos received) override;
    void stamp_sent(Nanos stamp) override;
    void stamp_came_back(std::uint32_t node, Nanos stamp, bool extends) override;
    bool has_lease() const override;
    // FellowsAsker: reads = "strict"
    bool asks_after_reads() const override;
    Nanos ask_fellows_now() override;
    bool have_answered(Nanos asked) const override;
    // Nodes, on the master
    RowHomes& homes(const Geometry& geometry) override;
    ServingNode& join(Serving& own, Decider& decider, NodesListener& listener,
                      const Configuration& configuration) override;
    Task<Result<void>> begin_marks(IntentSettings settings,
                                   std::map<std::uint32_t, std::uint64_t> generations,
                                   std::vector<IntentEntry> marked) override;
    Task<Result<void>> begin_serving() override;
    Task<void> drain() override;
    Task<void> end(bool clean) override;

    void log(Severity severity, std::string text) { setup_.log(severity, std::move(text)); }
    std::string name_of(std::uint32_t node) const;
    /// Its number as a home.
    std::size_t index_of(std::uint32_t node) const;
    HomeSet homes_at(const std::vector<NodeBoot>& nodes) const;
    std::vector<std::uint32_t> others() const;
    /// Of them, those that are not left out.
    std::vector<std::uint32_t> fellows() const;
    std::set<std::uint32_t> absent_nodes() const;
    std::string missing_nodes() const;
    /// All that are not left out are connected.
    bool all_are_here() const;
    /// A start of a node that there never was: of one that the array is started without.
    static constexpr std::uint64_t never_here = 1;
    // cluster_node_start.cpp
    Checked<Unit> may_start_without(const std::set<std::uint32_t>& nodes) const;
    enum class Agree : bool { to_look, to_start };
    Task<Checked<std::map<std::uint32_t, Words>>> agree_on_start_without(
        std::set<std::uint32_t> without, Agree what);
    struct StartLook;
    Task<void> run_look(std::shared_ptr<StartLook> look);
    Task<Checked<Unit>> look_without(std::map<std::uint32_t, Words> agreed);
    static Refusal came_or_left();
    Task<Checked<Unit>> start_without_the_absent();
    bool leads_those_here() const;
    bool waits_for_start() const;
    Nanos start_wait() const;
    Task<void> start_by_itself();
    void say_why_it_waits(const Refusal& why);
    Checked<Unit> told_why_it_waits(const Words& words);
    void tell_those_here(const Words& words);
    void wait_for_all_again();
    void begun_for_nothing(std::uint32_t node);
    void lead_by_id();
    void take_without(const std::set<std::uint32_t>& nodes, std::optional<std::uint32_t> led_by);
    Words words_of_without(const std::set<std::uint32_t>& nodes, bool by_itself) const;
    Words words_of_without() const;
    Checked<Unit> told_without(std::uint32_t from, const Words& words);
    Checked<Words> asked_without(std::uint32_t from, const Words& words);
    void make_rows(const Geometry& geometry);
    void make_reservations(const Configuration& configuration);

    // cluster_node_lease.cpp
    std::uint64_t promised_fence() const;
    Nanos away_for_long() const;
    Lease own_lease() const;
    Nanos heartbeat_interval() const;
    void enter_lease();
    void look_at_lease();

    // cluster_node_links.cpp
    void watch_if_away(std::uint32_t node);
    Task<void> watch_links();
    Nanos about_to_be_silent() const;
    bool is_heard_beside(const std::set<std::uint32_t>& silent, Nanos then) const;
    std::set<std::uint32_t> silent_nodes(Nanos time) const;
    Checked<Unit> told_unreachable(std::uint32_t from, const Words& words);
    GroupView group_view() const;

    // cluster_node_fence.cpp
    struct Forming;
    struct Passing {  // a barrier that this node has prepared for
        std::uint64_t fence{0};
        std::vector<NodeBoot> gone;
        std::vector<NodeBoot> joined;
        WriteVerdict verdict;
    };
    bool is_needed(std::uint32_t node) const;
    MemberSet late_members();
    Decider& decider();
    void freeze();
    MemberSet members_of(std::uint32_t node) const;
    bool has_witness() const;
    void note_witness(const Configuration& now);
    Witness witness_without(const std::set<std::uint32_t>& nodes) const;
    bool can_do_without(const std::set<std::uint32_t>& nodes) const;
    bool enough_are_left(MemberSet lost) const;
    bool enough_are_left(MemberSet lost, Witness expected) const;
    void lose_node(std::uint32_t node, const std::string& why);
    void exclude(std::uint32_t node, const std::string& why);
    void leave_out(const NodeBoot& node);
    void give_up_start(const NodeBoot& node);
    void take_back(const NodeBoot& node);
    PrepareAnswer prepare(const PrepareWords& wanted);
    void adopt_fence(const std::vector<Rebuilt>& rebuilt, std::vector<std::uint32_t> locks_at);
    bool reads_on();
    void end_those_who_are_late();
    Task<void> forget(std::vector<NodeBoot> gone);
    Task<Checked<Words>> asked_to_negotiate(std::uint32_t from, const Words& words);
    Checked<Unit> check_prepare(std::uint32_t from, const PrepareWords& wanted) const;
    Checked<Unit> told_prepared(std::uint32_t from, const Words& words);
    bool is_over(const Forming& forming) const;
    Task<void> form_fence();
    Task<bool> begin_fence(Forming* forming);
    Task<void> wait_for_next_try(const Forming& forming);
    Task<bool> ask_fellows(Forming* forming, std::vector<std::uint32_t> nodes, Words words);
    WriteVerdict judge_writes(const Forming& forming) const;
    Task<bool> lose_with_nodes(Forming* forming);
    Task<void> lose_members(std::shared_ptr<std::optional<Result<void>>> lost);
    std::uint64_t boot_of(std::uint32_t node) const;
    Task<void> wait_for_leases(const Forming& forming);

    // cluster_node_takeover.cpp
    struct Standing {  // this node asks whether it may decide
        NodeBoot master;
        std::string why;                  // it is to be without that one
        std::set<std::uint32_t> without;  // the master, and all others that take no part
        std::set<std::uint32_t> pending;  // who has not answered
        std::uint64_t fence{0};           // the highest that anybody has heard of
        Nanos began{};
    };
    struct Voice {  // this node follows him if he prepares
        NodeBoot to;
        NodeBoot master;
        Nanos given{};
    };
    struct FoundDisks;
    struct Quiet {  // something is waited for, but not for long
        bool over{false};
        Timer* waiting{nullptr};
        void cut_short() const {
            if (waiting != nullptr) waiting->cancel();
        }
        void end() {
            over = true;
            cut_short();
        }
    };
    Task<void> wait_for(std::shared_ptr<Quiet> quiet, Nanos time);
    void follow(std::uint32_t node);
    void look_at_master(const std::set<std::uint32_t>& silent);
    bool end_if_nobody_decides();
    void stand(std::set<std::uint32_t> without, std::string why);
    void take_voice(const std::shared_ptr<Standing>& standing, std::uint32_t node,
                    const Checked<Words>& answer);
    bool has_ended(std::uint32_t node) const;
    const char* why_without(std::uint32_t node) const;
    bool is_master_lost() const;
    bool is_without_master() const;
    bool may_stand_without(const std::set<std::uint32_t>& nodes) const;
    bool is_cut_off(std::uint32_t node) const;
    Task<void> wait_until_over(std::vector<NodeBoot> nodes);
    void give_up_member(MemberIndex member);
    static Task<void> note_over(DiskServer* disks, std::vector<NodeBoot> nodes,
                                std::shared_ptr<Quiet> quiet);
    Task<void> ask_for_voice(std::shared_ptr<Standing> standing, std::uint32_t node);
    Checked<Words> asked_for_voice(std::uint32_t from, const Words& words);
    bool has_voice(std::uint32_t node) const;
    void take_over(const Standing& standing);
    std::vector<RoleSeen> roles_seen() const;
    std::string why_not_there(MemberIndex member, const Forming& forming) const;
    Task<bool> begin_deciding(Forming* forming);
    bool begin_deciding_with(const Forming& forming, FoundDisks* found);
    Task<Checked<Unit>> find_disks(const Forming& forming, FoundDisks* found);
    Task<std::optional<std::vector<Words>>> inventory_within(const Forming& forming,
                                                             std::uint32_t node);
    struct Look;
    std::unique_ptr<Disk> another_handle(const Disk& disk);
    Task<void> look_at_disk(std::shared_ptr<Look> look);
    Task<void> look_at_disks(FoundDisks* found);
    Task<Checked<std::vector<Words>>> inventory_of(std::uint32_t node);
    Checked<std::unique_ptr<Disk>> disk_of(std::uint32_t node, const Words& words);
    void go_on_deciding();
    Task<void> take_all_back();

    // cluster_node_held.cpp
    struct HeldRead;
    struct HeldFound {  // what those hold that would go on
        NodeBoot master;
        std::set<std::uint32_t> without;
        Nanos at{};
        bool in_force{false};  // it is enough, by what is known to be in force
        bool newest{false};    // by what whoever comes to decide takes over
    };
    Task<void> read_held(std::shared_ptr<HeldRead> read);
    Task<Checked<Words>> asked_what_is_held();
    void look_what_is_held(const std::set<std::uint32_t>& without);
    Task<void> gather_held(std::set<std::uint32_t> without);
    bool holds_enough_without(const std::set<std::uint32_t>& nodes) const;

    // cluster_node_operators.cpp
    Checked<Unit> check_node(std::uint32_t node) const;
    Checked<Unit> check_not_needed(std::uint32_t node) const;
    Checked<Unit> check_not_alone(std::uint32_t node) const;
    Task<Checked<Unit>> kill_node(std::uint32_t node);
    Task<Checked<Unit>> resume_node(std::uint32_t node);
    Task<Checked<Unit>> stop_node(std::uint32_t node);
    Task<Checked<Unit>> pass_on_order(const char* what, std::uint32_t node);
    Checked<Unit> may_order_nodes() const;
    Checked<Unit> may_begin_order() const;
    Task<Checked<Unit>> carry_out_kill(std::uint32_t node);
    Checked<Unit> carry_out_resume(std::uint32_t node);
    Task<void> tell_to_die(NodeBoot node, std::shared_ptr<Quiet> answered);
    Task<void> die_by_order();
    Words words_of_killed() const;
    void tell_killed();
    Checked<Unit> told_killed(const Words& words);

    // cluster_node_nodes.cpp
    enum class Know : std::uint8_t { if_asked, from_now_on };
    struct Knowing;
    std::set<std::uint32_t> known_nodes() const;
    bool is_known(std::uint32_t node) const;
    Task<Checked<Unit>> add_node(std::uint32_t node);
    Task<Checked<Unit>> remove_node(std::uint32_t node);
    Checked<Unit> may_change_nodes() const;
    Task<Checked<Unit>> wait_until_quiet_for(std::function<Checked<Unit>()> order);
    Task<Checked<Unit>> carry_out_add(std::uint32_t node);
    Task<Checked<Unit>> carry_out_remove(std::uint32_t node);
    Checked<Unit> may_add(std::uint32_t node) const;
    Checked<Unit> may_remove(std::uint32_t node) const;
    Checked<Unit> may_take_out(std::uint32_t node) const;
    Task<Checked<Unit>> have_known(std::set<std::uint32_t> nodes, Know when,
                                   std::optional<std::uint32_t> joins);
    Task<void> ask_to_know(std::shared_ptr<Knowing> round);
    Task<Checked<Words>> asked_to_know(std::uint32_t by, const Words& words);
    Task<Checked<Unit>> know_nodes(std::uint32_t by, std::set<std::uint32_t> nodes, Know when);
    Checked<Unit> may_know(std::uint32_t by, const std::set<std::uint32_t>& nodes,
                           const ClusterConfig& file) const;
    Checked<Unit> know_before_array(const std::set<std::uint32_t>& nodes,
                                    const ClusterConfig& file);
    void add_plan(const NodePlan& plan);
    Task<void> look_at_file_again();
    Refusal unlike_nodes(std::uint32_t node, const std::set<std::uint32_t>& theirs) const;
    void take_node(const NodePlan& plan);
    void drop_node(std::uint32_t node);
    void forget_plan(std::uint32_t node);

    // cluster_node_leave.cpp
    static constexpr const char* left_by_order = "left by order";
    Task<void> order_own_stop(std::shared_ptr<std::optional<Checked<Unit>>> ordered);
    Checked<Unit> may_stop(std::uint32_t node) const;
    Checked<Unit> may_do_without(std::uint32_t node) const;
    Task<Checked<Unit>> carry_out_stop(std::uint32_t node);
    Task<Checked<Unit>> have_it_leave(NodeBoot node);
    Checked<Unit> may_leave(std::uint32_t by) const;
    Task<Checked<Words>> asked_to_stop(std::uint32_t from, const Words& words);
    Task<void> leave_later(std::uint32_t by);
    static Task<void> note_quiet(Serving* serving, std::shared_ptr<Quiet> quiet);
    Nanos quiet_by() const;
    Task<bool> wait_until_quiet();
    Task<Checked<Unit>> leave(std::uint32_t by);
    Task<void> end_soon(NodeEnds why);
    void end_server(NodeEnds why);
    void note_left(std::uint32_t node);
    void told_left(std::uint32_t node);

    // cluster_node_return.cpp
    struct Return {  // of a member to its role, in a fence that begins with it
        ReturningMember back;
        std::optional<Checked<std::uint64_t>> answer{};
        bool over{false};  // it has its role, or does not get it
    };
    Task<Checked<std::uint64_t>> begin_return(ReturningMember back);
    Task<Checked<std::uint64_t>> windows_missed(ReturningMember back);
    void end_return();
    Task<bool> let_return(Forming* forming);
    Task<Checked<WindowSet>> gather_missed(const Forming& forming, ReturningMember back);
    Checked<Words> asked_what_is_missed(const Words& words);
    Checked<Words> asked_how_much_is_missed(const Words& words);
    Checked<ReturningMember> member_back_of(const Words& words) const;
    Checked<WindowSet> missed_here(const ReturningMember& back) const;

    // cluster_node_admit.cpp
    struct Joining {
        NodeBoot node;
        std::uint64_t generation{0};  // of its newest record, which is empty
    };
    struct Hindrance {  // of one who waits to be let in
        Nanos since{};
        std::string told{};
    };
    static constexpr Nanos hindrance_told_after = seconds(3);
    struct Flap {  // a node that goes again soon after it was let in
        Nanos let_in{};
        Nanos not_before{};
        std::uint32_t times{0};
    };
    static constexpr Nanos flap_time = seconds(60);  // this is soon, and nobody waits for longer
    std::optional<NodeBoot> who_waits() const;
    bool goes_on() const;
    bool may_let_in() const;
    void look_who_waits();
    Task<void> let_in(NodeBoot node);
    void note_hindrance(NodeBoot node, std::string why);
    void note_flap(std::uint32_t node);
    Task<std::string> why_not_yet(NodeBoot node);
    Task<Checked<Unit>> meet(NodeBoot node);
    Task<Checked<Words>> asked_to_meet(const Words& words);
    Words words_of_open(const Configuration& configuration) const;
    void put_homes(Words* words) const;
    Checked<std::vector<std::uint32_t>> homes_of(const Words& words) const;
    std::vector<std::uint32_t> indices_of(const std::vector<std::uint32_t>& homes) const;
    void take_homes(const std::vector<std::uint32_t>& homes);
    bool is_attached(MemberIndex member) const;
    Checked<Unit> take_open_places(const Words& words);
    void open_for(const Joining& joining);
    Task<void> begin_at(Joining joining);
    static Words begin_marks_words(IntentSettings settings,
                                   const std::map<std::uint32_t, std::uint64_t>& generations);
    Task<void> hear_of_all();
    Task<void> take_members_back(NodeBoot node);
    Task<Checked<Unit>> take_disk_back(NodeBoot node, std::unique_ptr<Disk> disk);
    bool is_in(NodeBoot node) const;
    bool is_another_start(std::uint32_t node) const;
    Task<Checked<Unit>> take_member_back(NodeBoot node, Words words);
    const MemberRecord* missing_at(const std::string& path, std::uint32_t node) const;
    Task<Uuid> member_on(Disk* disk);

    Task<Checked<Unit>> wait_for_nodes();
    Task<void> say_who_is_missing();
    Task<Checked<std::unique_ptr<Array>>> begin_master();
    Task<Checked<std::unique_ptr<Array>>> begin_slave();
    Task<Checked<bool>> gather_disks(std::vector<std::unique_ptr<Disk>>* disks);

    // cluster_node_create.cpp: before there is an array
    struct Pending;
    struct NewMembers;
    Task<Checked<std::unique_ptr<Array>>> open_array(std::vector<std::unique_ptr<Disk>> disks);
    static Refusal left_as_it_began();
    Task<Checked<Unit>> gather_all(std::vector<std::unique_ptr<Disk>>* disks);
    Task<Checked<Unit>> wait_for_array();
    Task<void> carry_out_create();
    Task<Checked<Words>> ask_while_here(std::uint32_t node, Words words);
    Task<void> keep_answer(std::uint32_t node, Words words,
                           std::shared_ptr<std::optional<Checked<Words>>> answer);
    Task<Checked<Words>> create_on(NewMembers* members, const CreateOrder* order);
    Task<Checked<Unit>> look_at_members(NewMembers* members, bool force);
    Task<Checked<Words>> look_here(bool force);
    Task<std::string> why_not_usable(std::shared_ptr<Disk> disk, bool force);
    Checked<Words> words_of_places(const NewMembers& members, const CreatePlan& plan,
                                   bool force) const;
    std::string text_of_phase(StartPhase phase) const;
    void begin_phase(StartPhase phase);
    void tell_phase(std::uint32_t node);
    void set_phase(StartPhase phase);
    Refusal does_not_wait_for_array() const;

    std::uint32_t shelve(std::shared_ptr<Disk> disk);
    void close_disk(std::uint32_t number);
    void free_disk(std::uint32_t number);
    void give_no_role(std::uint32_t number);
    /// On the master, for the array.
    std::unique_ptr<Disk> give(std::shared_ptr<Disk> disk, DiskPlace place);
    void given_back(const Disk& disk);
    /// Its node takes part, and it is that start which has the disk.
    bool is_there(const Disk& disk) const;
    std::uint32_t home_of(const Disk& disk) const { return places_.at(&disk).node; }
    Words words_of_disk(std::uint32_t number) const;
    std::vector<Words> own_inventory() const;
    /// Of a disk that the array was given.
    Words words_of_attach(MemberIndex member, const Disk& disk, DataArea area) const;
    Checked<std::unique_ptr<RemoteDisk>> look_at_disk(std::uint32_t node, const Words& words);
    Checked<std::unique_ptr<Disk>> remote_disk(std::uint32_t node, const Words& words);
    /// The disk is this node's, and the member's home is here.
    Result<void> attach_home(MemberIndex member, std::uint32_t number, DataArea area);
    Result<void> prepare_own_home(MemberIndex member, std::uint32_t number, DataArea area);
    Task<Result<void>> prepare_home(MemberIndex member, const Disk& disk, DataArea area);
    Task<bool> is_closed_everywhere(MemberIndex member);
    void attach_from_array(MemberIndex member, std::unique_ptr<Disk> disk, DataArea area);
    void attach_here(MemberIndex member, std::uint32_t node, DataArea area,
                     std::unique_ptr<Disk> disk);
    void lost_here(MemberIndex member);
    Task<void> tell_home_of_loss(MemberIndex member);

    /// Whether the node's session is cut at once, or may still have what was answered.
    enum class Cut : std::uint8_t { now, later };
    /// Of whom the array stops: of all, or of this node, without which the others go on.
    enum class Stops : std::uint8_t { everywhere, here };
    void gone(std::uint32_t node, const std::string& why, Cut cut = Cut::now,
              Stops stops = Stops::everywhere);
    NodeCommands::Setup node_commands();
    std::optional<CableCheckAnswer> channel_of(std::uint32_t node) const;
    InquiryAnswer about_this_node() const;
    Checked<Unit> killed(std::uint32_t by, const Kill& kill);
    void die(std::uint32_t by, const std::string& why);
    Task<void> end_as_killed(std::uint32_t by, std::string why);
    bool waits_for(const std::set<std::uint32_t>& nodes) const;
    std::set<std::uint32_t> away() const;
    Task<void> watch(std::uint32_t node);
    void stop_homes();

    Task<Checked<Words>> asked_by_slave(std::uint32_t from, const Words& words);
    Task<Checked<Words>> asked_by_master(std::uint32_t from, const Words& words);
    Checked<Words> asked_for_inventory();
    Task<Checked<Words>> asked_to_look(const Words& words);
    Checked<Words> asked_to_give_up(const Words& words);
    Checked<Words> asked_whether_closed(const Words& words);
    Checked<Words> asked_to_rebuild(const Words& words);
    Task<Checked<Words>> asked_to_begin_marks(const Words& words);
    Task<Checked<Words>> asked_to_serve();
    Task<Checked<Words>> asked_to_write_marks();
    Task<Checked<Words>> asked_to_mark();
    Task<Checked<Words>> asked_to_drain();
    void go_on_after_all();
    bool is_told_to_end() const;
    Task<Checked<Words>> asked_to_end(const Words& words);
    Checked<Unit> told_by_slave(std::uint32_t from, const Words& words);
    Task<void> stop_array();
    ArrayOptions options_of_deciding();
    void tell_event(const ArrayEvent& event);
    void tell_status();
    void tell_node();
    Task<void> tell_status_now_and_then();
    Task<void> tell_latency_now_and_then();
    Heartbeats::Facts facts() const { return {epoch_in_force_, promised_fence()}; }
    NodeStatus own_status(const Counters& counters) const;
    Task<void> stop_what_lacks_a_node();
    Task<Checked<Unit>> told_by_master(const Words& words);
    using Told = Checked<Unit> (ClusterNode::*)(const Words& words);
    static Told told_at_any_time(const std::string& what);  // null: there is no such word
    static Told told_of_array(const std::string& what);
    Checked<Unit> told_open(const Words& words);
    Checked<Unit> told_phase(const Words& words);
    Checked<Unit> told_dismissed(const Words& words);
    Checked<Unit> told_to_close(const Words& words);
    Checked<Unit> told_to_free(const Words& words);
    Checked<Unit> told_configuration(const Words& words);
    Checked<Unit> told_event(const Words& words);
    Checked<Unit> told_status(const Words& words);
    Task<Checked<Unit>> told_to_attach(const Words& words);
    Checked<Unit> told_behind(const Words& words);
    Checked<Unit> told_to_detach(const Words& words);
    Checked<Unit> told_verdict(const Words& words);
    Checked<Unit> told_to_go_on(const Words& words);
    Checked<Unit> told_lost(const Words& words);
    Checked<Unit> told_kept(const Words& words);
    Checked<Unit> told_unusable(const Words& words);
    Checked<Unit> told_in_force(const Words& words);
    Checked<Unit> told_of_witness(const Words& words);
    Checked<Unit> told_marked(const Words& words);
    Checked<Unit> told_doubt(const Words& words);
    Checked<Unit> told_to_retire_marks(const Words& words);
    Checked<Unit> told_region(const Words& words);
    Checked<Unit> told_owing(const Words& words);
    Checked<Unit> told_resync_comes(const Words& words);
    Checked<Unit> told_to_trust_all(const Words& words);
    Checked<Unit> told_to_end_marks(const Words& words);
    Checked<Unit> told_to_halt(const Words& words);
    Checked<Unit> told_failed(const Words& words);
    Task<void> detach_when_quiet(MemberIndex member);
    Task<Checked<Words>> order(std::uint32_t from, const Words& words);

    Setup setup_;
    std::uint32_t master_{0};
    static constexpr const char* comes_first = "which comes first of those that began together";
    std::string why_master_{comes_first};
    Pauses pauses_;
    TaskGroup tasks_;
    Fence fence_;
    std::uint64_t epoch_in_force_{0};  // 0: there is no array
    Talk talk_;
    NodeCommands commands_;
    DiskServer disks_;
    std::unique_ptr<Bus> bus_;
    std::vector<std::shared_ptr<Disk>> shelf_;       // by number; none: it is closed
    std::map<const Disk*, DiskPlace> places_;        // of what the array was given, and has
    std::map<MemberIndex, std::uint32_t> attached_;  // of members at home here, the disk's number
    std::optional<std::uint32_t> witness_node_;      // by the configuration that this node works by

    std::set<std::uint32_t> here_;               // connected
    std::map<std::uint32_t, Nanos> here_since_;  // as they last became so
    Event here_changed_;
    Nanos alike_since_{};  // they are the same nodes since then
    bool saying_{false};   // who is missing
    /// Who has begun the start without those that are left out, by itself. None: an operator has.
    std::optional<std::uint32_t> without_led_by_;
    std::string why_it_waits_;  // and does not start by itself; empty: it has not looked
    std::map<std::uint32_t, Nanos> away_since_;
    std::map<std::uint32_t, std::uint64_t> changed_at_;  // connected, or not: wall seconds
    StartPhase phase_{StartPhase::looking};              // when all are here, as the master says
    Pending* pending_{nullptr};                          // the order to make the array
    std::uint64_t restarts_{0};                          // of other nodes, that this one saw
    std::uint64_t zeroed_{0};                            // bytes, by that order
    std::uint64_t to_zero_{0};
    Rng new_uuids_;
    std::map<std::uint32_t, Timer*> watching_;
    std::set<std::uint32_t> gone_;
    std::string why_stopped_;  // of the first that was gone
    std::string looks_at_;     // who comes to decide: what it waits for
    bool cancelled_{false};
    bool opening_{false};           // the master reads the nodes' disks
    bool gathers_{false};           // it asks for them only just
    bool comes_to_nothing_{false};  // meanwhile: a start without some, for another one
    bool stopping_{false};
    bool leaving_{false};    // this node's server has been told to stop
    bool leaves_{false};     // an operator has ordered it: what clients ask waits
    bool left_here_{false};  // it has left by that order
    bool end_told_{false};   // its server knows that it is of no use any more
    Event leave_changed_;
    bool ending_{false};  // the master says that the array has ended
    bool ended_{false};   // the array, everywhere
    bool dismissed_{false};
    Event ended_event_;
    MemberSet detaching_;  // roles whose drives here are still busy
    Event detached_;       // one of them

    // who serves together
    Nanos lease_length_;  // as the one who decides has it, once there is an array
    Lease lease_;
    EchoLog echoes_;
    AnswerWatch answers_;
    Nanos stamp_sent_{};
    Nanos serves_since_{};
    Nanos lease_until_{};
    bool needs_no_lease_{false};  // it is the home of enough by itself
    StrictReads strict_reads_;
    std::map<std::uint32_t, std::uint64_t> left_out_;  // excluded, as far as this node knows: boots
    MemberSet left_members_;                           // that went with them
    std::map<std::uint32_t, std::string> suspicions_;  // of nodes that the one who decides looks at
    std::unique_ptr<Passing> passing_;
    std::shared_ptr<Standing> standing_;  // none: it does not stand
    std::optional<Nanos> in_vain_since_;  // it stands again and again
    std::optional<HeldFound> held_found_;
    bool looks_at_held_{false};
    std::optional<Voice> voice_;
    std::optional<std::uint32_t>
        joins_;  // who has said that it decides, while this one looked at disks
    std::optional<Nanos> master_lost_;             // since then
    std::optional<std::uint32_t> took_over_from_;  // in a fence that has not begun
    std::vector<MemberIndex> coming_back_;         // roles that were just being filled then

    std::unique_ptr<Rows> rows_;
    std::vector<std::uint32_t> home_ids_;  // of nodes, by their numbers as homes; with rows_
    std::unique_ptr<Reservations> reservations_;
    Serving* serving_{nullptr};  // of whichever array it is
    // the master's
    std::unique_ptr<ToldNodes> told_nodes_;
    Decider* decider_{nullptr};
    NodesListener* listener_{nullptr};
    NodeArray* array_{nullptr};                      // once it decides
    std::map<std::uint32_t, std::uint64_t> boots_;   // of the others, as they serve, or served last
    std::map<std::uint32_t, std::string> excluded_;  // since the last fence, and why
    std::set<std::uint32_t> began_anew_;             // of all that were excluded
    std::set<std::uint32_t> killed_;                 // by operators, and not resumed
    std::map<std::uint32_t, std::string> why_out_;   // of those that are left out
    std::set<std::uint32_t> has_stopped_;            // as they say themselves
    std::set<std::uint32_t> left_;                   // of them, those that left by order
    std::optional<std::uint32_t> leaving_node_;      // who is just told to
    bool changes_nodes_{false};                      // which there are
    bool reads_file_{false};                         // of the cluster
    std::set<std::uint32_t> removed_;                // since the array is served here
    std::optional<Joining> joining_;    // who is told of the array, and in no fence yet
    std::set<std::uint32_t> retiring_;  // of the excluded, whose records are not empty yet
    std::uint32_t looked_at_{0};        // of those that wait to be let in, last
    bool lets_in_{false};
    std::map<NodeBoot, Hindrance> hindrances_;
    std::map<std::uint32_t, Flap> flaps_;
    std::set<DiskPlace> returning_;   // disks that the array looks at
    std::shared_ptr<Return> return_;  // none: no member is just coming back
    WindowSet told_missed_;           // of one, at another node: what is told of it piece by piece
    bool forms_fence_{false};
    std::shared_ptr<Quiet> next_fence_{};  // who has refused is asked again then
    Forming* forming_{nullptr};
    Event fence_changed_;
    std::uint64_t newest_fence_{0};
    WriteVerdict verdict_;  // of a fence that has not begun everywhere, as far as this node knows
    bool leave_asked_{false};                      // by another node
    std::string told_status_;                      // as it was told last
    bool rebuilt_{false};                          // since it was told that all are
    std::map<std::uint32_t, NodeStatus> told_of_;  // of other nodes, by id
    // the others'
    std::unique_ptr<ServedArray> served_owned_;  // until start() gives it away
    ServedArray* served_{nullptr};
    std::optional<Refusal> refused_;
    bool serves_{false};
    bool marks_begun_{false};
    bool marks_wanted_{false};  // before they have begun
    bool marks_beginning_{false};
    std::vector<IntentEntry> marked_;
    Event begun_;
};

}  // namespace braid::cluster
