// SPDX-License-Identifier: BSD-3-Clause
// The model of nodes that write to one array and go from fence to fence, with the project's own
// barrier, books and verdicts: recovery_model_test.cpp says what it is for.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/homes/row_book.h"
#include "cluster/membership/barrier.h"
#include "cluster/membership/recovery.h"
#include "tests/cluster/state_graph.h"

namespace braid::cluster::recovery_model {

inline constexpr std::size_t nodes_most = 4;
inline constexpr std::size_t requests_most = 3;

/// A wrong protocol.
enum class Fault : std::uint8_t {
    none,
    applied_when_staged,     // a home does not wait for the decision
    any_staged_happens,      // if one participant has it staged
    absent_count,            // also the participants whose homes are gone must have it staged
    takes_of_excluded,       // a home takes stages after it has prepared
    decides_frozen,          // a writer takes answers after it has prepared
    living_judged_by_books,  // what a living node has not decided happens
    judged_again,            // each barrier judges anew
    verdict_with_adopt,      // others hear the verdict when they adopt, not before
    adopts_one_by_one,       // a node serves as soon as it knows, whatever the others know
    returned_counts,         // who was excluded and does not know answers as if it were there
    no_wait,                 // for the lease of who is excluded
};

struct Request {
    std::uint32_t writer{0};        // a node, from 0 on
    std::uint64_t participants{0};  // roles
};

struct Scenario {
    std::uint32_t nodes{3};
    std::vector<std::uint32_t> homes;  // of each role
    std::uint32_t parities{1};
    std::vector<Request> requests;  // those of a writer one after the other
    std::uint32_t may_die{0};       // sets of nodes
    std::uint32_t may_be_cut{0};
    std::uint32_t gone_most{1};  // deaths and cuts
    bool heals{false};           // who is cut is heard again, in the same life
    bool restarts{false};        // who has died begins a new life
    bool rivals{false};          // anybody proposes, not only the highest
    std::uint32_t proposals{2};
    Fault fault{Fault::none};
};

/// What the newest configuration says; the roles in use.
struct Config {
    std::uint64_t epoch{0};
    std::uint64_t in_use{0};
};

struct Message {
    enum Kind : std::uint8_t {
        stage,
        staged,
        decided,
        prepare,
        prepared,
        refused,
        store,
        stored,
        announce,
        announced,
        adopt,
        adopted,
        settled,
        all_settled,
        out,
    } kind{stage};
    std::uint64_t epoch{0};  // or the fence
    CommandId write{};
    std::uint64_t role{0};
    std::uint64_t participants{0};
    std::uint64_t in_use{0};
    Prepare proposal{};
    PrepareAnswer answer{};
    WriteVerdict verdict{};
    KnownFence fence{};
};

/// The request that a node is working on.
struct Writer {
    std::size_t request{requests_most};  // none
    std::uint64_t sequence{0};           // of the newest attempt
    std::uint64_t waits_for{0};          // roles
    std::vector<std::uint64_t> decided;  // in this life
};

struct Node {
    bool alive{true};
    bool cut{false};
    bool lease_over{false};
    std::uint32_t life{1};
    NodeBarrier barrier{{}, 0};
    RowBook book;
    std::array<std::uint32_t, nodes_most> disk{};  // of each role: requests that are applied
    Config config;
    Writer writer;
    std::optional<MasterBarrier> master;
    Config proposes;  // the configuration of that barrier
};

enum class Fate : std::uint8_t { open, happens, dropped };

struct World {
    std::vector<Node> nodes;
    std::array<std::array<std::vector<Message>, nodes_most>, nodes_most> sent;  // from, to
    std::map<CommandId, std::size_t> attempts;                                  // at which request
    std::map<CommandId, Fate> fates;  // as the first that served under a verdict had it
    std::uint32_t begun{0};           // sets of requests
    std::uint32_t acknowledged{0};
    std::uint32_t seen{0};
    std::uint32_t gone{0};  // deaths and cuts so far
    std::uint32_t proposals{0};
};

struct Step {
    enum Kind : std::uint8_t {
        write,
        deliver,
        die,
        cut,
        lease_ends,
        heal,
        restart,
        propose,
        notice,
        wait_ends
    } kind{write};
    std::uint8_t node{0};
    std::uint8_t other{0};
};

class Model {
  public:
    explicit Model(Scenario scenario) : scenario_(std::move(scenario)) {}

    /// What went wrong, and a way there; or nothing.
    std::optional<std::string> run() {
        World start = begin();
        std::vector<std::pair<World, std::uint32_t>> left;
        const std::uint32_t first = graph_.add(image(start), 0, {}).first;
        left.push_back({std::move(start), first});
        while (!left.empty() && !wrong_) {
            const auto [world, index] = std::move(left.back());
            left.pop_back();
            bool any = false;
            each_step(world, [&](Step step) {
                any = true;
                if (wrong_) return;
                World next = world;
                take(next, step);
                hear_own(next);
                check(next);
                const auto [at, is_new] = graph_.add(image(next), index, step);
                if (wrong_) *wrong_ += way_to(at);
                if (is_new) left.push_back({std::move(next), at});
            });
            if (!any) check_end(world);
            if (!any && wrong_) *wrong_ += way_to(index);
        }
        return wrong_;
    }
    std::size_t states() const { return graph_.size(); }
    /// Of requests whose writer went: how many ends there were with each.
    std::size_t happened() const { return happened_; }
    std::size_t dropped() const { return dropped_; }

  private:
    static std::uint32_t bit(std::size_t at) { return 1U << at; }
    static NodeId id(std::size_t node) { return NodeId{static_cast<std::uint32_t>(node + 1)}; }
    static std::size_t index_of(NodeId node) { return raw(node) - 1; }
    static NodeBoot boot(const World& world, std::size_t node) {
        return {raw(id(node)), world.nodes[node].life};
    }
    bool is(Fault fault) const { return scenario_.fault == fault; }
    void fail(const std::string& what) {
        if (!wrong_) wrong_ = what;
    }
    std::uint64_t roles_of(std::size_t node) const {
        std::uint64_t roles = 0;
        for (std::size_t role = 0; role != scenario_.homes.size(); ++role)
            if (scenario_.homes[role] == node) roles |= bit(role);
        return roles;
    }
    static bool serves(const Node& node) {
        return node.alive && !node.lease_over && node.barrier.serves();
    }

    World begin() const {
        World world;
        world.nodes.resize(scenario_.nodes);
        KnownFence fence{8, {}};
        for (std::size_t n = 0; n != scenario_.nodes; ++n) fence.nodes.insert({raw(id(n)), 1});
        for (std::size_t n = 0; n != scenario_.nodes; ++n) {
            Node& node = world.nodes[n];
            node.config = {8, bit(scenario_.homes.size()) - 1U};
            node.barrier = NodeBarrier({raw(id(n)), 1}, 0);
            node.barrier.prepare({8, id(0), fence.nodes}, false);
            node.barrier.promised(8);
            node.barrier.store(8);
            node.barrier.announce({8, {}});
            node.barrier.adopt(8);
            node.barrier.all_settled(8);
        }
        return world;
    }

    // ---- what may happen
    std::size_t next_request(const World& world, std::size_t n) const {
        for (std::size_t r = 0; r != scenario_.requests.size(); ++r) {
            if (scenario_.requests[r].writer == n && (world.acknowledged & bit(r)) == 0 &&
                ((world.begun & bit(r)) == 0 || world.nodes[n].life == 1))
                return r;
        }
        return requests_most;
    }
    bool waits_over(const World& world, std::size_t n) const {
        if (is(Fault::no_wait)) return true;
        for (std::size_t other = 0; other != scenario_.nodes; ++other) {
            const Node& node = world.nodes[other];
            const bool kept = world.nodes[n].master->proposal().kept.contains(boot(world, other));
            // Also if it is frozen: it may be about to adopt an older fence.
            if (!kept && node.alive && !node.lease_over) return false;
        }
        return true;
    }
    /// Somebody who is kept by the node's proposal, and is not there any more.
    std::optional<std::size_t> lost_by(const World& world, std::size_t n) const {
        for (std::size_t other = 0; other != scenario_.nodes; ++other) {
            const Node& node = world.nodes[other];
            const MasterBarrier& master = *world.nodes[n].master;
            for (const NodeBoot kept : master.proposal().kept) {
                if (kept.node != raw(id(other)) || master.without().has(id(other))) continue;
                if (!node.alive || node.cut || kept.boot != node.life) return other;
            }
        }
        return std::nullopt;
    }
    bool may_propose(const World& world, std::size_t n) const {
        const Node& node = world.nodes[n];
        if (!node.alive || node.cut || world.gone == 0) return false;
        if (world.proposals == scenario_.proposals) return false;
        if (node.master) {
            const auto step = node.master->step();
            const bool ended =
                step == MasterBarrier::Step::failed ||
                (node.master->is_in_force() && !node.master->without().empty()) ||
                (step == MasterBarrier::Step::over && node.master->proposal().kept != there(world));
            if (!ended && !scenario_.rivals) return false;
        } else if (node.barrier.phase() == NodeBarrier::Phase::serving &&
                   node.barrier.newest().nodes == there(world)) {
            return false;
        }
        if (scenario_.rivals) return true;
        for (std::size_t other = n + 1; other != scenario_.nodes; ++other)
            if (world.nodes[other].alive && !world.nodes[other].cut) return false;
        return true;
    }
    std::set<NodeBoot> there(const World& world) const {
        std::set<NodeBoot> nodes;
        for (std::size_t n = 0; n != scenario_.nodes; ++n)
            if (world.nodes[n].alive && !world.nodes[n].cut) nodes.insert(boot(world, n));
        return nodes;
    }

    template <class Visit>
    void each_step(const World& world, Visit visit) const {
        for (std::size_t n = 0; n != scenario_.nodes; ++n) {
            const Node& node = world.nodes[n];
            const auto at = static_cast<std::uint8_t>(n);
            if (!node.alive) {
                if (scenario_.restarts && node.life == 1) visit({Step::restart, at});
                continue;
            }
            if (serves(node) && node.writer.request == requests_most &&
                next_request(world, n) != requests_most)
                visit({Step::write, at});
            for (std::size_t from = 0; from != scenario_.nodes; ++from)
                if (!world.sent[from][n].empty())
                    visit({Step::deliver, at, static_cast<std::uint8_t>(from)});
            if (world.gone != scenario_.gone_most) {
                if ((scenario_.may_die & bit(n)) != 0) visit({Step::die, at});
                if ((scenario_.may_be_cut & bit(n)) != 0 && !node.cut) visit({Step::cut, at});
            }
            if (node.cut && !node.lease_over) visit({Step::lease_ends, at});
            if (node.cut && node.lease_over && scenario_.heals) visit({Step::heal, at});
            if (may_propose(world, n)) visit({Step::propose, at});
            if (!node.master) continue;
            const auto step = node.master->step();
            if (step != MasterBarrier::Step::failed && step != MasterBarrier::Step::over &&
                lost_by(world, n))
                visit({Step::notice, at});
            if (step == MasterBarrier::Step::wait && waits_over(world, n))
                visit({Step::wait_ends, at});
        }
    }

    void take(World& world, Step step) {
        const std::size_t n = step.node;
        Node& node = world.nodes[n];
        switch (step.kind) {
            case Step::write:
                return write(world, n);
            case Step::deliver: {
                const Message message = world.sent[step.other][n].front();
                world.sent[step.other][n].erase(world.sent[step.other][n].begin());
                return receive(world, n, step.other, message);
            }
            case Step::die:
                ++world.gone;
                node.alive = false;
                node.master.reset();
                for (auto& queues : world.sent) queues[n].clear();
                return;
            case Step::cut:
                ++world.gone;
                node.cut = true;
                return;
            case Step::lease_ends:
                node.lease_over = true;
                return;
            case Step::heal:
                node.cut = false;
                return extend(world, n);
            case Step::restart:
                return new_life(world, n);
            case Step::propose:
                return propose(world, n);
            case Step::notice:
                node.master->gone(id(*lost_by(world, n)));
                return;
            case Step::wait_ends:
                node.master->time_is(seconds(9));
                return go_on(world, n);
        }
    }

    /// Its lease, if those that it reaches have promised nothing newer, and are enough.
    void extend(World& world, std::size_t n) const {
        Node& node = world.nodes[n];
        if (node.cut) return;
        std::uint64_t roles = roles_of(n);
        for (std::size_t other = 0; other != scenario_.nodes; ++other) {
            const Node& one = world.nodes[other];
            if (one.alive && !one.cut && one.barrier.promise() == node.barrier.fence())
                roles |= roles_of(other);
        }
        const auto size = static_cast<std::uint32_t>(scenario_.homes.size());
        const auto count = static_cast<std::uint32_t>(std::popcount(roles));
        if (count >= size - scenario_.parities) node.lease_over = false;
    }

    /// Memory is gone; disks, promise and what they say of the newest fence are not.
    void new_life(World& world, std::size_t n) {
        Node& node = world.nodes[n];
        for (auto& queues : world.sent) queues[n].clear();
        for (auto& queue : world.sent[n]) queue.clear();
        ++node.life;
        node.alive = true;
        node.cut = false;
        node.lease_over = false;
        node.barrier = NodeBarrier(boot(world, n), node.barrier.promise(), node.barrier.newest());
        node.book = {};
        node.writer = {};
        node.master.reset();
    }

    // ---- writers and homes
    void send(World& world, std::size_t from, std::size_t to, Message message) const {
        if (world.nodes[to].alive) world.sent[from][to].push_back(std::move(message));
    }
    /// What a node tells itself comes at once.
    void hear_own(World& world) {
        for (bool any = true; any;) {
            any = false;
            for (std::size_t n = 0; n != scenario_.nodes; ++n) {
                if (world.sent[n][n].empty()) continue;
                const Message message = world.sent[n][n].front();
                world.sent[n][n].erase(world.sent[n][n].begin());
                receive(world, n, n, message);
                any = true;
            }
        }
    }

    void write(World& world, std::size_t n) {
        Node& node = world.nodes[n];
        Writer& writer = node.writer;
        writer.request = next_request(world, n);
        world.begun |= bit(writer.request);
        const CommandId write{boot(world, n), ++writer.sequence};
        world.attempts[write] = writer.request;
        const std::uint64_t roles =
            scenario_.requests[writer.request].participants & node.config.in_use;
        writer.waits_for = roles;
        for (const MemberIndex role : MemberSet{roles}) {
            Message message;
            message.kind = Message::stage;
            message.epoch = node.barrier.fence();
            message.write = write;
            message.role = raw(role);
            message.participants = roles;
            send(world, n, scenario_.homes[raw(role)], message);
        }
    }

    void take_staged(World& world, std::size_t n, const Message& message) {
        Node& node = world.nodes[n];
        Writer& writer = node.writer;
        const bool frozen = !serves(node) || message.epoch != node.barrier.fence();
        if (frozen && !(is(Fault::decides_frozen) && node.alive)) return;
        if (writer.request == requests_most || message.write.sequence != writer.sequence) return;
        writer.waits_for &= ~(std::uint64_t{1} << message.role);
        if (writer.waits_for != 0) return;
        world.acknowledged |= bit(writer.request);
        writer.decided.push_back(writer.sequence);
        const std::uint64_t roles =
            scenario_.requests[writer.request].participants & node.config.in_use;
        writer.request = requests_most;
        std::set<std::size_t> homes;
        for (const MemberIndex role : MemberSet{roles}) homes.insert(scenario_.homes[raw(role)]);
        for (const std::size_t home : homes) {
            Message decided = message;
            decided.kind = Message::decided;
            send(world, n, home, decided);
        }
    }

    void apply(World& world, std::size_t n, Effects& effects) {
        while (!effects.apply.empty()) {
            const EntryNumber entry = effects.apply.back();
            effects.apply.pop_back();
            const Stage stage = world.nodes[n].book.stage_of(entry);
            put(world, n, stage.member, stage.write);
            world.nodes[n].book.applied(entry, effects);
        }
    }
    void put(World& world, std::size_t n, MemberIndex role, CommandId write) {
        const std::uint32_t request = bit(world.attempts.at(write));
        std::uint32_t& disk = world.nodes[n].disk[raw(role)];
        if ((disk & request) != 0) fail("a request is applied twice");
        disk |= request;
    }

    void take_stage(World& world, std::size_t n, std::size_t from, const Message& message) {
        Node& node = world.nodes[n];
        const bool taken = node.barrier.takes(message.write.from, message.epoch) && serves(node);
        if (!taken && !(is(Fault::takes_of_excluded) && message.epoch == node.barrier.fence()))
            return;
        Stage stage;
        stage.write = message.write;
        stage.member = MemberIndex{static_cast<std::uint32_t>(message.role)};
        stage.participants = message.participants;
        stage.at = {WindowIndex{0}, RowMask{1} << world.attempts.at(message.write)};
        if (node.book.stage(stage) != StageAnswer::staged) fail("not staged");
        if (is(Fault::applied_when_staged)) {
            Effects effects;
            node.book.decide(message.write, effects);
            apply(world, n, effects);
        }
        Message answer = message;
        answer.kind = Message::staged;
        send(world, n, from, answer);
    }

    // ---- the barrier: its nodes
    void receive(World& world, std::size_t n, std::size_t from, const Message& message) {
        Node& node = world.nodes[n];
        Effects effects;
        switch (message.kind) {
            case Message::stage:
                return take_stage(world, n, from, message);
            case Message::staged:
                return take_staged(world, n, message);
            case Message::decided:
                if (!node.barrier.takes(message.write.from, message.epoch)) return;
                node.book.decide(message.write, effects);
                return apply(world, n, effects);
            case Message::prepare:
                return prepare(world, n, from, message);
            case Message::store:
                if (!node.barrier.store(message.epoch)) return;
                node.config = {message.epoch, message.in_use};
                return answer(world, n, from, message, Message::stored);
            case Message::announce:
                if (!is(Fault::verdict_with_adopt) && !node.barrier.announce(message.verdict))
                    return;
                answer(world, n, from, message, Message::announced);
                if (is(Fault::adopts_one_by_one)) adopt(world, n, message);
                return;
            case Message::adopt:
                if (is(Fault::verdict_with_adopt)) node.barrier.announce(message.verdict);
                if (!adopt(world, n, message)) return;
                answer(world, n, from, message, Message::adopted);
                return answer(world, n, from, message, Message::settled);
            case Message::all_settled:
                return forget(world, n, message.epoch);
            case Message::out:
                if (node.barrier.heard_of(message.fence)) new_life(world, n);
                return;
            case Message::prepared:
            case Message::refused:
            case Message::stored:
            case Message::announced:
            case Message::adopted:
            case Message::settled:
                return take_answer(world, n, from, message);
        }
    }
    void answer(World& world, std::size_t n, std::size_t to, const Message& message,
                Message::Kind kind) const {
        Message answer;
        answer.kind = kind;
        answer.epoch = message.epoch;
        send(world, n, to, answer);
    }

    void prepare(World& world, std::size_t n, std::size_t from, const Message& message) {
        Node& node = world.nodes[n];
        const std::uint64_t epoch = message.proposal.epoch;
        if (node.barrier.prepare(message.proposal, false) != NodeBarrier::Prepared::freezes) {
            Message refused;
            refused.kind = Message::refused;
            refused.epoch = epoch;
            refused.answer.sequence = node.barrier.promise();
            return send(world, n, from, refused);
        }
        node.barrier.promised(epoch);
        Message answer;
        answer.kind = Message::prepared;
        answer.epoch = epoch;
        answer.in_use = node.config.in_use;
        answer.fence.epoch = node.config.epoch;
        PrepareAnswer& all = answer.answer;
        all.from = boot(world, n);
        all.fence = node.barrier.fence();
        all.newest = node.barrier.newest();
        all.members = MemberSet{roles_of(n)};
        all.sequence = node.writer.sequence;
        all.decided = node.writer.decided;
        for (const NodeBoot gone : node.barrier.gone()) all.books[gone] = node.book.known_of(gone);
        all.verdict = node.barrier.verdict();
        send(world, n, from, answer);
    }

    bool adopt(World& world, std::size_t n, const Message& message) {
        Node& node = world.nodes[n];
        if (!node.barrier.adopt(message.epoch)) return false;
        extend(world, n);
        const WriteVerdict& verdict = message.verdict;
        for (const auto& [write, request] : world.attempts) {
            if (verdict.fate(write) == WriteVerdict::Fate::open) continue;
            const bool happens = verdict.fate(write) == WriteVerdict::Fate::happens;
            const Fate fate = happens ? Fate::happens : Fate::dropped;
            Fate& known = world.fates.emplace(write, fate).first->second;
            if (known != fate) fail("a write is judged twice, and not alike");
            const auto judged = verdict.writers.find(write.from);
            const bool living = judged->second.upto != Judged::all;
            Effects effects;
            if (happens || (living && is(Fault::living_judged_by_books))) {
                node.book.decide(write, effects);
            } else {
                node.book.drop(write, effects);
            }
            apply(world, n, effects);
        }
        node.writer.request = requests_most;  // begun again, under a new number
        return true;
    }
    void forget(World& world, std::size_t n, std::uint64_t epoch) const {
        Node& node = world.nodes[n];
        if (node.barrier.phase() != NodeBarrier::Phase::serving || node.barrier.fence() != epoch)
            return;
        for (const NodeBoot gone : node.barrier.gone()) {
            Effects effects;
            node.book.forget(gone, effects);
        }
        node.barrier.all_settled(epoch);
    }

    // ---- the barrier: who proposes
    void propose(World& world, std::size_t n) {
        Node& node = world.nodes[n];
        ++world.proposals;
        const std::uint64_t epoch = 8 * (1 + world.proposals) + n;
        Prepare proposal{epoch, id(n), there(world)};
        NodeSet excluded;
        for (std::size_t other = 0; other != scenario_.nodes; ++other)
            if (!world.nodes[other].alive || world.nodes[other].cut) excluded.add(id(other));
        node.master.emplace(MasterBarrier::Setup{
            .prepare = proposal, .excluded = excluded, .lease = lease_default});
        node.proposes = {};
        Message message;
        message.kind = Message::prepare;
        message.epoch = epoch;
        message.proposal = proposal;
        tell(world, n, message);
    }
    void tell(World& world, std::size_t n, const Message& message) const {
        for (const NodeBoot kept : world.nodes[n].master->proposal().kept)
            send(world, n, index_of(NodeId{kept.node}), message);
    }

    void take_answer(World& world, std::size_t n, std::size_t from, Message message) {
        Node& node = world.nodes[n];
        if (!node.master || node.master->epoch() != message.epoch) return;
        MasterBarrier& master = *node.master;
        const auto before = master.step();
        switch (message.kind) {
            case Message::prepared:
                if (message.fence.epoch > node.proposes.epoch)
                    node.proposes = {message.fence.epoch, message.in_use};
                if (is(Fault::returned_counts))
                    message.answer.newest = {message.answer.fence, master.proposal().kept};
                if (is(Fault::judged_again)) message.answer.verdict = {};
                master.prepared(message.answer, Nanos{0});
                break;
            case Message::refused:
                master.refused(id(from), message.answer.sequence);
                break;
            case Message::stored:
                master.stored(id(from));
                break;
            case Message::announced:
                master.announced(id(from));
                break;
            case Message::adopted:
                master.adopted(id(from));
                break;
            default:
                master.settled(id(from));
        }
        if (master.step() == MasterBarrier::Step::failed && before == MasterBarrier::Step::prepare)
            tell_expelled(world, n);
        if (master.step() != before) go_on(world, n);
    }
    void tell_expelled(World& world, std::size_t n) const {
        Message message;
        message.kind = Message::out;
        message.fence = newest_fence(world.nodes[n].master->answers());
        for (const NodeId node : world.nodes[n].master->without())
            send(world, n, index_of(node), message);
    }

    /// The first thing to do in a step.
    void go_on(World& world, std::size_t n) {
        Node& node = world.nodes[n];
        MasterBarrier& master = *node.master;
        Message message;
        message.epoch = master.epoch();
        switch (master.step()) {
            case MasterBarrier::Step::judge: {
                for (const PrepareAnswer& answer : master.answers())
                    message.in_use |= use_of(answer);
                node.proposes.in_use &= message.in_use;
                node.proposes.epoch = master.epoch();
                const auto size = static_cast<std::uint32_t>(scenario_.homes.size());
                const auto used = static_cast<std::uint32_t>(std::popcount(node.proposes.in_use));
                if (used < size - scenario_.parities) return master.abandon();
                master.judged(judge_all(node));
                message.kind = Message::store;
                message.in_use = node.proposes.in_use;
                return tell(world, n, message);
            }
            case MasterBarrier::Step::announce:
                message.kind = Message::announce;
                message.verdict = master.verdict();
                return tell(world, n, message);
            case MasterBarrier::Step::adopt:
                message.kind = Message::adopt;
                message.verdict = master.verdict();
                return tell(world, n, message);
            case MasterBarrier::Step::over:
                message.kind = Message::all_settled;
                return tell(world, n, message);
            default:
                return;
        }
    }
    /// Roles of a node that has kept its book. (There is no resync here.)
    static std::uint64_t use_of(const PrepareAnswer& answer) {
        return answer.fence == 0 ? 0 : answer.members.bits();
    }
    WriteVerdict judge_all(const Node& node) const {
        std::vector<PrepareAnswer> answers = node.master->answers();
        for (PrepareAnswer& answer : answers) {
            for (auto& [writer, book] : answer.books) {
                for (RowBook::Known& known : book)
                    if (is(Fault::any_staged_happens)) known.decided = true;
            }
        }
        WriteVerdict verdict =
            judge(node.master->epoch(), answers, MemberSet{node.proposes.in_use});
        if (is(Fault::absent_count)) {
            for (const PrepareAnswer& answer : answers) {
                for (const auto& [writer, book] : answer.books) {
                    for (const RowBook::Known& known : book) {
                        std::uint64_t staged = 0;
                        for (const PrepareAnswer& other : answers)
                            for (const auto& one : other.books.at(writer))
                                if (one.write == known.write) staged |= one.members;
                        if (staged != known.participants && !known.decided)
                            verdict.writers[writer].happen.erase(known.write.sequence);
                    }
                }
            }
        }
        return verdict;
    }

    // ---- what must hold
    void check(World& world) {
        std::optional<std::uint64_t> fence;
        std::set<NodeBoot> members;
        for (const Node& node : world.nodes) {
            if (!serves(node)) continue;
            if (!node.book.holds_together()) fail("a book does not hold together");
            if (fence && *fence != node.barrier.fence()) fail("two fences are served");
            fence = node.barrier.fence();
        }
        if (!fence) return;
        for (std::size_t r = 0; r != scenario_.requests.size(); ++r) check_request(world, r);
    }
    /// Of a request whose every attempt has a fate, what is on the disks of those that serve is all
    /// of it or nothing; nothing that was acknowledged, or seen, is missing.
    void check_request(World& world, std::size_t r) {
        bool on_some = false;
        bool missing = false;
        for (std::size_t n = 0; n != scenario_.nodes; ++n) {
            const Node& node = world.nodes[n];
            if (!serves(node)) continue;
            const std::uint64_t roles =
                scenario_.requests[r].participants & roles_of(n) & node.config.in_use;
            for (const MemberIndex role : MemberSet{roles}) {
                const bool on = (node.disk[raw(role)] & bit(r)) != 0;
                on_some |= on;
                missing |= !on && !has_entry(world, node, role, r);
            }
        }
        if (on_some && missing) fail("a write is applied in part");
        if (on_some) world.seen |= bit(r);
        if (missing && (world.acknowledged & bit(r)) != 0) fail("an acknowledged write is lost");
        if (missing && (world.seen & bit(r)) != 0) fail("what was read is not there any more");
        for (const auto& [write, fate] : world.fates) {
            if (world.attempts.at(write) != r || fate != Fate::dropped) continue;
            const bool again = std::ranges::any_of(world.attempts, [&](const auto& one) {
                return one.second == r && one.first != write;
            });
            if (!again && on_some) fail("a write that was dropped is on a disk");
            if (!again && (world.acknowledged & bit(r)) != 0) fail("acknowledged, and dropped");
        }
    }
    static bool has_entry(const World& world, const Node& node, MemberIndex role, std::size_t r) {
        for (const auto& [write, request] : world.attempts) {
            if (request != r) continue;
            for (const RowBook::Known& known : node.book.known_of(write.from)) {
                if (known.write == write && MemberSet{known.members}.has(role)) return true;
            }
        }
        return false;
    }

    void check_end(const World& world) {
        for (const auto& [write, fate] : world.fates) {
            if (fate == Fate::happens) ++happened_;
            if (fate == Fate::dropped) ++dropped_;
        }
        for (std::size_t n = 0; n != scenario_.nodes; ++n) {
            const Node& node = world.nodes[n];
            if (!serves(node)) continue;
            // All is over here: nothing is left of those that are gone.
            const bool over = node.master && node.master->step() == MasterBarrier::Step::over;
            if (over && !node.barrier.gone().empty()) fail("somebody who is gone is remembered");
            if (over && !node.master->without().empty()) continue;
            if (over && node.writer.request != requests_most) fail("a request waits for ever");
        }
    }

    std::string way_to(std::uint32_t state) const {
        static constexpr std::array names{"write", "deliver", "die",     "cut",    "lease-ends",
                                          "heal",  "restart", "propose", "notice", "wait-ends"};
        std::string text;
        for (const Step& step : graph_.way_to(state)) {
            text += std::string("\n  ") + names[step.kind] + " " + std::to_string(step.node + 1);
            if (step.kind == Step::deliver) text += " from " + std::to_string(step.other + 1);
        }
        return text;
    }

    // ---- states told apart
    using Numbers = std::vector<std::uint64_t>;
    static void add(Numbers& all, NodeBoot node) { all.insert(all.end(), {node.node, node.boot}); }
    static void add(Numbers& all, const KnownFence& fence) {
        all.insert(all.end(), {fence.epoch, fence.nodes.size()});
        for (const NodeBoot node : fence.nodes) add(all, node);
    }
    static void add(Numbers& all, const WriteVerdict& verdict) {
        all.insert(all.end(), {verdict.epoch, verdict.writers.size()});
        for (const auto& [writer, judged] : verdict.writers) {
            add(all, writer);
            all.insert(all.end(), {judged.upto, judged.happen.size()});
            all.insert(all.end(), judged.happen.begin(), judged.happen.end());
        }
    }
    static void add(Numbers& all, const PrepareAnswer& answer) {
        add(all, answer.from);
        add(all, answer.newest);
        add(all, answer.verdict);
        all.insert(all.end(), {answer.fence, answer.members.bits(), answer.sequence,
                               answer.decided.size(), answer.books.size()});
        all.insert(all.end(), answer.decided.begin(), answer.decided.end());
        for (const auto& [writer, book] : answer.books) {
            add(all, writer);
            all.push_back(book.size());
            for (const RowBook::Known& known : book)
                all.insert(all.end(), {known.write.sequence, known.members, known.participants,
                                       known.decided ? 1U : 0U});
        }
    }
    static void add(Numbers& all, const Message& message) {
        all.insert(all.end(), {message.kind, message.epoch, message.write.sequence, message.role,
                               message.participants, message.in_use});
        add(all, message.write.from);
        if (message.kind == Message::prepare) {
            for (const NodeBoot node : message.proposal.kept) add(all, node);
        }
        add(all, message.fence);
        add(all, message.verdict);
        if (message.kind == Message::prepared) add(all, message.answer);
    }
    std::string image(const World& world) const {
        Numbers all{world.begun, world.acknowledged, world.seen, world.gone, world.proposals};
        for (const auto& [write, request] : world.attempts) {
            add(all, write.from);
            all.insert(all.end(), {write.sequence, request});
        }
        all.push_back(world.fates.size());
        for (const auto& [write, fate] : world.fates) {
            add(all, write.from);
            all.insert(all.end(), {write.sequence, static_cast<std::uint64_t>(fate)});
        }
        for (std::size_t n = 0; n != scenario_.nodes; ++n) {
            const Node& node = world.nodes[n];
            all.insert(all.end(), {node.alive, node.cut, node.lease_over, node.life,
                                   node.config.epoch, node.config.in_use, node.proposes.epoch,
                                   node.proposes.in_use, node.writer.request, node.writer.sequence,
                                   node.writer.waits_for, node.writer.decided.size()});
            for (const std::uint64_t sequence : node.writer.decided) all.push_back(sequence);
            for (const std::uint32_t disk : node.disk) all.push_back(disk);
            for (const Numbers& numbers : {node.barrier.image(), node.book.image()}) {
                all.push_back(numbers.size());
                all.insert(all.end(), numbers.begin(), numbers.end());
            }
            all.push_back(node.master ? 1 : 0);
            if (node.master) {
                const MasterBarrier& master = *node.master;
                all.insert(all.end(), {static_cast<std::uint64_t>(master.step()), master.epoch(),
                                       master.pending().bits(), master.without().bits(),
                                       master.answers().size()});
                for (const PrepareAnswer& answer : master.answers()) add(all, answer);
                add(all, master.verdict());
            }
            for (std::size_t to = 0; to != scenario_.nodes; ++to) {
                all.push_back(world.sent[n][to].size());
                for (const Message& message : world.sent[n][to]) add(all, message);
            }
        }
        // 128 bits of it are enough to tell a few million apart.
        std::array<std::uint64_t, 2> hash{0x9e3779b97f4a7c15, 0xc2b2ae3d27d4eb4f};
        for (const std::uint64_t value : all) {
            hash[0] = (hash[0] ^ value) * 0xff51afd7ed558ccd;
            hash[0] ^= hash[0] >> 32;
            hash[1] = (hash[1] + value) * 0x9fb21c651e98df25;
            hash[1] ^= hash[1] >> 29;
        }
        std::string text;
        for (const std::uint64_t half : hash)
            for (int shift = 0; shift != 64; shift += 8)
                text.push_back(static_cast<char>((half >> shift) & 255));
        return text;
    }

    Scenario scenario_;
    StateGraph<Step> graph_;
    std::optional<std::string> wrong_;
    std::size_t happened_{0};
    std::size_t dropped_{0};
};

}  // namespace braid::cluster::recovery_model
