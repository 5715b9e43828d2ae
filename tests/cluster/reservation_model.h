// SPDX-License-Identifier: BSD-3-Clause
// The model of nodes that reserve and release volumes through their tables, in every order of events:
// reservation_model_test.cpp says what it is for.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/reservations/reservation_table.h"
#include "tests/cluster/state_graph.h"

namespace braid::cluster::reservation_model {

using Message = ReservationMessage;
using Outcome = ReservationEffects::Outcome;
using Verdict = ReservationTable::Verdict;

inline constexpr std::uint32_t nodes_most = 4;
inline constexpr std::uint32_t volumes_most = 2;

/// A wrong protocol.
enum class Fault : std::uint8_t {
    none,
    granted_undrained,    // a node grants while requests are under way there
    released_undrained,   // a holder lets others go on while requests are under way there
    taken_back_here,      // who fails takes its entry out of its own table only
    both_give_way,        // the higher one, too
    asks_once,            // the higher one does not ask again
    begins_early,         // when the first one has granted
    old_grant_counts,     // whichever of its requests it answers
    answerer_compared,    // priority over who answers, not over who is in the way
    third_word_counts,    // what a node has of another one, not what that one says
    released_in_one_step  // without letting commands pass first
};

struct Scenario {
    std::vector<std::uint32_t> attempts;  // RESERVEs of each node, one after the other
    std::uint32_t volumes{1};
    std::uint32_t under_way{0};  // requests at each node at the begin
    std::uint32_t to_come{0};    // and later
    bool releases{false};        // who holds it releases it
    bool releases_early{false};  // also who asks for it
    std::uint32_t deadlines{0};  // may strike at any moment, at these nodes: bit 0 is node 1
    std::uint32_t dies{0};       // this node, at any moment; 0: none
    std::uint32_t repeats{0};    // messages that arrive twice
    Fault fault{Fault::none};
};

struct Client {
    enum class State : std::uint8_t { idle, asks, holds, releases };
    std::uint32_t attempts{0};  // left
    State state{State::idle};
    std::uint64_t request{0};  // the number of the last one
    std::uint32_t met{0};      // a set: who had an entry of its own since it asks
    bool operator==(const Client&) const = default;
};

/// Of a node, to a volume.
struct Requests {
    std::uint32_t shared{0};  // under way
    std::uint32_t alone{0};   // under way, begun by the holder
    std::uint32_t waiting{0};
    std::uint32_t to_come{0};
};

struct World {
    std::vector<ReservationTable> tables;
    std::array<std::array<std::vector<Message>, nodes_most>, nodes_most> sent;  // from, to
    std::array<std::array<Client, volumes_most>, nodes_most> clients{};
    std::array<std::array<Requests, volumes_most>, nodes_most> requests{};
    std::array<std::uint32_t, volumes_most> began{};  // sets: who has asked others
    std::array<std::uint32_t, volumes_most> got{};    // times
    std::uint32_t dead{0};                            // a set
    std::uint32_t heard{0};                           // of the death: a set
    std::uint32_t repeats{0};                         // left
    bool deadline_struck{false};
};

struct Step {
    enum Kind : std::uint8_t {
        reserve,
        release,
        deadline,
        ask_again,
        request,
        end_shared,
        end_alone,
        deliver,
        repeat,
        die,
        hear
    } kind{reserve};
    std::uint8_t node{0};
    std::uint8_t other{0};  // the volume, or who sent the message
};

class Model {
  public:
    explicit Model(Scenario scenario) : scenario_(std::move(scenario)) {}

    /// What went wrong, and the way there; or nothing.
    std::optional<std::string> run() {
        left_.push_back({begin(), graph_.add(image(begin()), 0, {}).first});
        while (!left_.empty() && !wrong_) {
            const auto [world, index] = std::move(left_.front());
            left_.pop_front();
            bool any = false;
            each_step(world, [&](Step step) {
                any = true;
                if (!wrong_) visit(world, index, step);
            });
            if (any) continue;
            graph_.add_end(index);
            check_end(world);
            if (wrong_) *wrong_ += way_to(index);
        }
        if (wrong_) return wrong_;
        // However often somebody asks again there.
        const auto never = graph_.without_end();
        if (never) wrong_ = "somebody asks for ever" + way_to(*never);
        return wrong_;
    }
    std::size_t states() const { return graph_.size(); }

  private:
    static NodeId id(std::size_t node) { return NodeId{static_cast<std::uint32_t>(node + 1)}; }
    static std::size_t index_of(NodeId node) { return static_cast<std::size_t>(node) - 1; }
    static VolumeIndex volume(std::size_t index) {
        return VolumeIndex{static_cast<std::uint32_t>(index)};
    }
    static std::uint32_t bit(std::size_t node) { return 1U << node; }
    std::size_t nodes() const { return scenario_.attempts.size(); }
    bool is(Fault fault) const { return scenario_.fault == fault; }
    static bool lives(const World& world, std::size_t node) {
        return (world.dead & bit(node)) == 0;
    }
    void fail(const std::string& what) {
        if (!wrong_) wrong_ = what;
    }

    World begin() const {
        World world;
        for (std::size_t n = 0; n != nodes(); ++n) {
            std::set<NodeId> others;
            for (std::size_t other = 0; other != nodes(); ++other) {
                if (other != n) others.insert(id(other));
            }
            world.tables.emplace_back(id(n), others);
            for (std::size_t v = 0; v != scenario_.volumes; ++v) {
                world.clients[n][v].attempts = scenario_.attempts[n];
                world.requests[n][v] = {scenario_.under_way, 0, 0, scenario_.to_come};
            }
        }
        world.repeats = scenario_.repeats;
        return world;
    }

    void visit(const World& world, std::uint32_t from, Step step) {
        World next = world;
        take(next, step);
        check(next);
        const auto [index, is_new] = graph_.add(image(next), from, step);
        if (wrong_) {
            *wrong_ += way_to(from) + text(step);
        } else if (is_new) {
            left_.push_back({std::move(next), index});
        }
    }
    std::string way_to(std::uint32_t index) const {
        std::string way;
        for (const Step step : graph_.way_to(index)) way += text(step);
        return way;
    }
    static std::string text(Step step) {
        static constexpr std::array<const char*, 11> words{"reserves",
                                                           "releases",
                                                           "gives up",
                                                           "asks again",
                                                           "has a new request",
                                                           "ends a request",
                                                           "ends a request of the holder",
                                                           "receives of",
                                                           "receives twice of",
                                                           "dies",
                                                           "hears of the death"};
        std::string all = "\n    node " + std::to_string(step.node + 1) + " " + words[step.kind];
        if (step.kind == Step::deliver || step.kind == Step::repeat) {
            all += " node " + std::to_string(step.other + 1);
        } else if (step.other != 0) {
            all += ", volume " + std::to_string(step.other);
        }
        return all;
    }

    // ---- what can happen
    template <class Visit>
    void each_step(const World& world, Visit visit) const {
        for (std::uint8_t n = 0; n != nodes(); ++n) {
            if (!lives(world, n)) continue;
            if (n + 1U == scenario_.dies) visit(Step{Step::die, n, 0});
            if (world.dead != 0 && (world.heard & bit(n)) == 0) visit(Step{Step::hear, n, 0});
            if (world.tables[n].has_to_ask_again()) visit(Step{Step::ask_again, n, 0});
            for (std::uint8_t v = 0; v != scenario_.volumes; ++v) each_of(world, n, v, visit);
            for (std::uint8_t from = 0; from != nodes(); ++from) {
                if (world.sent[from][n].empty()) continue;
                visit(Step{Step::deliver, n, from});
                if (world.repeats != 0) visit(Step{Step::repeat, n, from});
            }
        }
    }
    template <class Visit>
    void each_of(const World& world, std::uint8_t n, std::uint8_t v, Visit& visit) const {
        using State = Client::State;
        const Client& client = world.clients[n][v];
        const Requests& requests = world.requests[n][v];
        if (client.state == State::idle && client.attempts != 0) visit(Step{Step::reserve, n, v});
        if ((client.state == State::holds && scenario_.releases) ||
            (client.state == State::asks && scenario_.releases_early)) {
            visit(Step{Step::release, n, v});
        }
        if (client.state == State::asks && (scenario_.deadlines & bit(n)) != 0)
            visit(Step{Step::deadline, n, v});
        if (requests.to_come != 0) visit(Step{Step::request, n, v});
        if (requests.shared != 0) visit(Step{Step::end_shared, n, v});
        if (requests.alone != 0) visit(Step{Step::end_alone, n, v});
    }

    void take(World& world, Step step) {
        const std::size_t n = step.node;
        const std::size_t v = step.other;
        ReservationTable& table = world.tables[n];
        ReservationEffects effects;
        switch (step.kind) {
            case Step::reserve:
                return reserve(world, n, v);
            case Step::release:
                world.clients[n][v].state = Client::State::releases;
                if (table.release(volume(v), effects)) fail("there was something to release");
                break;
            case Step::deadline:
                world.deadline_struck = true;
                table.give_up(volume(v), effects);
                break;
            case Step::ask_again:
                if (is(Fault::asks_once)) {
                    for (std::size_t of = 0; of != scenario_.volumes; ++of)
                        table.give_up(volume(of), effects);
                } else {
                    table.ask_again(effects);
                }
                break;
            case Step::request:
                --world.requests[n][v].to_come;
                admit(world, n, v);
                break;
            case Step::end_shared:
                --world.requests[n][v].shared;
                tell_drained(world, n, v, effects);
                break;
            case Step::end_alone:
                --world.requests[n][v].alone;
                tell_drained(world, n, v, effects);
                break;
            case Step::deliver:
            case Step::repeat:
                return deliver(world, n, step.other, step.kind == Step::repeat);
            case Step::die:
                world.dead |= bit(n);
                world.heard |= bit(n);
                for (auto& queues : world.sent) queues[n].clear();
                world.clients[n] = {};
                world.requests[n] = {};
                break;
            case Step::hear:
                world.heard |= bit(n);
                for (std::size_t gone = 0; gone != nodes(); ++gone) {
                    if (lives(world, gone)) continue;
                    world.sent[gone][n].clear();
                    table.node_gone(id(gone), effects);
                }
                break;
        }
        follow(world, n, std::move(effects));
    }

    // ---- a node
    void reserve(World& world, std::size_t n, std::size_t v) {
        Client& client = world.clients[n][v];
        --client.attempts;
        ReservationEffects effects;
        if (world.tables[n].reserve(volume(v), effects)) return;
        client.state = Client::State::asks;
        client.met = 0;
        world.began[v] |= bit(n);
        if (!effects.send.empty()) client.request = effects.send.front().message.request;
        follow(world, n, std::move(effects));
    }
    void admit(World& world, std::size_t n, std::size_t v) {
        Requests& requests = world.requests[n][v];
        switch (world.tables[n].admission(volume(v)).verdict) {
            case Verdict::serve:
                ++(world.tables[n].holds(volume(v)) ? requests.alone : requests.shared);
                break;
            case Verdict::wait:
                ++requests.waiting;
                break;
            case Verdict::refuse:
                break;
        }
    }
    void tell_drained(World& world, std::size_t n, std::size_t v, ReservationEffects& effects) {
        const Requests& requests = world.requests[n][v];
        const Fault hasty =
            world.tables[n].holds(volume(v)) ? Fault::released_undrained : Fault::granted_undrained;
        if (requests.shared + requests.alone != 0 && !is(hasty)) return;
        world.tables[n].drained(volume(v), effects);
    }

    void deliver(World& world, std::size_t n, std::size_t sender, bool twice) {
        Message message = world.sent[sender][n].front();
        if (twice) {
            --world.repeats;
        } else {
            world.sent[sender][n].erase(world.sent[sender][n].begin());
        }
        std::optional<NodeId> named;
        if (message.kind == Message::Kind::refused) {
            const bool itself = message.holder == id(sender);
            if (is(Fault::both_give_way) && itself) message.standing = Message::Standing::holds;
            if (is(Fault::answerer_compared)) message.holder = id(sender);
            if (is(Fault::third_word_counts) && !itself && message.holder > id(n)) {
                named = std::exchange(message.holder, id(sender));
                message.standing = Message::Standing::holds;
            }
        }
        const bool granted = message.kind == Message::Kind::granted;
        if (granted && is(Fault::old_grant_counts)) message.request = world.clients[n][0].request;
        ReservationEffects effects;
        for (std::size_t from = 0; from != nodes(); ++from) {
            if (from == n || (from != sender && !(granted && is(Fault::begins_early)))) continue;
            if (!world.tables[n].receive(id(from), message, effects) && from == sender)
                fail("a message makes no sense");
        }
        for (auto& ended : effects.ended) {
            if (named) ended.node = named;
        }
        follow(world, n, std::move(effects));
    }

    /// What a table has told is done at once.
    void follow(World& world, std::size_t n, ReservationEffects effects) {
        bool failed = false;
        for (const auto& ended : effects.ended) failed |= end(world, n, ended);
        for (const VolumeIndex at : effects.released) {
            world.clients[n][static_cast<std::size_t>(at)].state = Client::State::idle;
            for (std::size_t other = 0; other != nodes(); ++other) {
                const auto entry = world.tables[other].holder(at);
                if (!lives(world, other) || !entry || entry->node != id(n)) continue;
                if (other != n) fail("an entry is left of what was released");
            }
        }
        bool lifts = false;
        for (const auto& [to, message] : effects.send) {
            const bool back = message.kind == Message::Kind::release;
            if (back && failed && is(Fault::taken_back_here)) continue;
            if (lives(world, index_of(to))) world.sent[n][index_of(to)].push_back(message);
            lifts |= message.kind == Message::Kind::lift;
        }
        for (const VolumeIndex at : effects.changed) {
            const auto v = static_cast<std::size_t>(at);
            const auto waiting = std::exchange(world.requests[n][v].waiting, 0);
            for (std::uint32_t i = 0; i != waiting; ++i) admit(world, n, v);
        }
        ReservationEffects more;
        for (const VolumeIndex at : effects.drain) {
            tell_drained(world, n, static_cast<std::size_t>(at), more);
        }
        if (lifts && is(Fault::released_in_one_step)) {
            Message lifted = effects.send.front().message;
            lifted.kind = Message::Kind::lifted;
            for (std::size_t from = 0; from != nodes(); ++from) {
                if (from != n) world.tables[n].receive(id(from), lifted, more);
            }
        }
        const bool none = more.send.empty() && more.ended.empty() && more.released.empty() &&
                          more.drain.empty() && more.changed.empty();
        if (!none) follow(world, n, std::move(more));
    }

    /// Whether it failed.
    bool end(World& world, std::size_t n, const ReservationEffects::Ended& ended) {
        const auto v = static_cast<std::size_t>(ended.volume);
        Client& client = world.clients[n][v];
        switch (ended.outcome) {
            case Outcome::reserved:
                if (client.state != Client::State::asks) fail("held without having asked");
                client.state = Client::State::holds;
                ++world.got[v];
                return false;
            case Outcome::conflict:
                client.state = Client::State::idle;
                if (!ended.node || (client.met & bit(index_of(*ended.node))) == 0) {
                    fail("a conflict with somebody who was not there");
                }
                return true;
            case Outcome::gave_up:
                client.state = Client::State::idle;
                return true;
            case Outcome::released:
                return true;
        }
        return true;
    }

    // ---- what must hold
    void check(World& world) {
        for (std::size_t v = 0; v != scenario_.volumes; ++v) {
            std::uint32_t own = 0;
            std::uint32_t holders = 0;
            std::uint32_t served = 0;
            std::uint32_t alone = 0;
            for (std::size_t n = 0; n != nodes(); ++n) {
                if (!lives(world, n)) continue;
                const ReservationTable& table = world.tables[n];
                if (!table.holds_together()) fail("a table does not hold together");
                const auto entry = table.holder(volume(v));
                if (entry && entry->node == id(n)) own |= bit(n);
                if (table.holds(volume(v))) holders |= bit(n);
                if (world.requests[n][v].shared + world.requests[n][v].alone != 0) served |= bit(n);
                if (world.requests[n][v].alone != 0) alone |= bit(n);
            }
            for (std::size_t n = 0; n != nodes(); ++n) {
                if (world.clients[n][v].state == Client::State::asks)
                    world.clients[n][v].met |= own;
            }
            if ((holders & (holders - 1)) != 0) fail("two hold the volume");
            if (holders != 0 && (served & ~holders) != 0) fail("served beside the holder");
            if (alone != 0 && (served & ~alone) != 0) fail("served beside requests of the holder");
            check_entries(world, v, holders);
            check_commands(world, v, served);
        }
    }
    /// All others know of who holds, and serve nothing.
    void check_entries(const World& world, std::size_t v, std::uint32_t holders) {
        for (std::size_t n = 0; n != nodes() && holders != 0; ++n) {
            if (!lives(world, n) || (holders & bit(n)) != 0) continue;
            const auto entry = world.tables[n].holder(volume(v));
            if (!entry || holders != bit(index_of(entry->node))) fail("a holder is not entered");
            if (world.tables[n].admission(volume(v)).verdict == Verdict::serve) {
                fail("would be served beside the holder");
            }
        }
    }
    /// Commands of a request go to all homes while it is under way. Of a home that has not heard of
    /// its holder's death nothing is known: it is of another fence.
    void check_commands(const World& world, std::size_t v, std::uint32_t served) {
        for (std::size_t home = 0; home != nodes(); ++home) {
            if (!lives(world, home)) continue;
            const auto entry = world.tables[home].holder(volume(v));
            if (entry && !lives(world, index_of(entry->node))) continue;
            for (std::size_t n = 0; n != nodes(); ++n) {
                if ((served & bit(n)) == 0) continue;
                if (world.tables[home].refuses_commands(volume(v), id(n))) {
                    fail("a home refuses a command of a request that is served");
                }
            }
        }
    }

    /// Nothing happens any more.
    void check_end(const World& world) {
        for (std::size_t v = 0; v != scenario_.volumes; ++v) {
            std::optional<NodeId> holder;
            for (std::size_t n = 0; n != nodes(); ++n) {
                const Client& client = world.clients[n][v];
                if (client.state == Client::State::holds) holder = id(n);
                if (client.state == Client::State::asks) fail("a RESERVE does not end");
                if (client.state == Client::State::releases) fail("a RELEASE does not end");
                if (world.requests[n][v].waiting != 0) fail("a request waits for ever");
            }
            for (std::size_t n = 0; n != nodes(); ++n) {
                if (!lives(world, n)) continue;
                const auto entry = world.tables[n].holder(volume(v));
                if (entry.has_value() != holder.has_value()) fail("an entry is left, or missing");
                if (entry && (entry->node != *holder || !entry->holds))
                    fail("a wrong entry is left");
            }
            if (wrong_ || world.deadline_struck || world.dead != 0 || scenario_.releases_early)
                continue;
            if (world.began[v] != 0 && world.got[v] == 0) return fail("nobody got it");
            const bool once = std::ranges::all_of(scenario_.attempts,
                                                  [](std::uint32_t count) { return count <= 1; });
            if (world.began[v] == 0 || !once || scenario_.releases) continue;
            if (world.got[v] != 1) return fail("more than one got it");
            if (world.began[v] >> (index_of(*holder) + 1) != 0) fail("a higher one did not get it");
        }
    }

    std::string image(const World& world) const {
        std::string all;
        const auto add = [&](std::uint64_t value) {
            for (; value > 127; value >>= 7) all.push_back(static_cast<char>(128 | (value & 127)));
            all.push_back(static_cast<char>(value));
        };
        add(world.dead);
        for (std::size_t n = 0; n != nodes(); ++n) {
            if (!lives(world, n)) continue;
            for (const std::uint64_t value : world.tables[n].image()) add(value);
            for (std::size_t to = 0; to != nodes(); ++to) {
                add(world.sent[n][to].size());
                for (const Message& message : world.sent[n][to]) add_message(message, add);
            }
            for (std::size_t v = 0; v != scenario_.volumes; ++v) {
                const Client& client = world.clients[n][v];
                add(client.attempts * 4 + static_cast<std::uint64_t>(client.state));
                add(client.request);
                add(client.state == Client::State::asks ? client.met : 0);
                const Requests& requests = world.requests[n][v];
                add(requests.shared * 64U + requests.alone * 16U + requests.waiting * 4U +
                    requests.to_come);
            }
        }
        // What a dead node has sent may still arrive.
        for (std::size_t n = 0; n != nodes(); ++n) {
            for (std::size_t to = 0; to != nodes() && !lives(world, n); ++to) {
                add(world.sent[n][to].size());
                for (const Message& message : world.sent[n][to]) add_message(message, add);
            }
        }
        for (std::size_t v = 0; v != scenario_.volumes; ++v) {
            add(world.began[v]);
            add(std::min(world.got[v], 2U));
        }
        add(world.heard);
        add(world.repeats * 2 + (world.deadline_struck ? 1 : 0));
        return all;
    }
    template <class Add>
    static void add_message(const Message& message, const Add& add) {
        add(static_cast<std::uint64_t>(message.kind) * 16 +
            static_cast<std::uint64_t>(message.standing) * 4 +
            static_cast<std::uint64_t>(message.volume));
        add(message.request);
        add(static_cast<std::uint64_t>(message.holder));
    }

    Scenario scenario_;
    std::deque<std::pair<World, std::uint32_t>> left_;
    StateGraph<Step> graph_;
    std::optional<std::string> wrong_;
};

}  // namespace braid::cluster::reservation_model
