// SPDX-License-Identifier: BSD-3-Clause
// How commands and their answers go between simulated nodes without connections: they take a time drawn from
// the seed, or a test says when each comes.
#pragma once

#include <algorithm>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <utility>
#include <vector>

#include "cluster/homes/home.h"
#include "cluster/homes/home_link.h"
#include "tests/cluster/arrival_search.h"
#include "tests/sim/sim_loop.h"

namespace braid::sim {

/// Whether answers come in the order in which they were sent, among what else was sent there: within one
/// connection they do, but nobody relies on it.
enum class Answers : std::uint8_t { in_order, in_any_order };

/// Messages that come one by one, as a test lets them: of each channel in the order in which they were sent.
class HeldMessages {
  public:
    explicit HeldMessages(Answers answers) : answers_(answers) {}

    void send(test::Channel channel, std::function<void()> arrive) {
        std::vector<std::uint32_t> causes;
        if (steps_ != 0) causes.push_back(steps_ - 1);
        send(channel, std::move(arrive), std::move(causes));
    }
    /// @param causes  the steps without which it would not have been sent, if not just the last one
    void send(test::Channel channel, std::function<void()> arrive,
              std::vector<std::uint32_t> causes) {
        held_[channel].push_back({std::move(arrive), std::move(causes)});
    }
    void answer(test::Channel channel, std::function<void()> arrive) {
        // Each has a channel of its own, by a name that it has in every run.
        if (answers_ == Answers::in_any_order) channel.from += own_channel * ++sent_[channel];
        send(channel, std::move(arrive));
    }
    std::vector<test::Arrival> first() const {
        std::vector<test::Arrival> first;
        for (const auto& [channel, messages] : held_) {
            if (!messages.empty()) first.push_back({channel, messages.front().causes});
        }
        return first;
    }
    /// The first one of the channel comes; the next step is what follows.
    void let_come(test::Channel channel) {
        auto& messages = held_.at(channel);
        const auto arrive = std::move(messages.front().arrive);
        messages.pop_front();
        ++steps_;
        arrive();
    }
    std::uint32_t steps() const { return steps_; }

  private:
    struct Message {
        std::function<void()> arrive;
        std::vector<std::uint32_t> causes;
    };
    static constexpr std::uint32_t own_channel = 1'000;

    Answers answers_;
    std::map<test::Channel, std::uint32_t> sent_;  // answers
    std::map<test::Channel, std::deque<Message>> held_;
    std::uint32_t steps_{0};
};

/// Which messages, in the order in which they are sent, are late.
struct SimLate {
    static constexpr std::uint64_t nanos = 1'000'000'000;
    std::vector<std::uint32_t> numbers;
    std::uint32_t sent{0};
    bool is_next() { return std::ranges::count(numbers, sent++) != 0; }
};

/// How long a command, or an answer, is on its way.
struct SimDelay {
    std::uint64_t nanos_min{1'000};
    std::uint64_t nanos_by_chance{2'000'000};
    SimLate* late{nullptr};
    HeldMessages* held{nullptr};
    std::uint64_t draw(Rng& rng) const {
        const std::uint64_t chance = nanos_by_chance == 0 ? 0 : rng.below(nanos_by_chance);
        return nanos_min + chance + (late != nullptr && late->is_next() ? SimLate::nanos : 0);
    }
};

class SimLink final : public cluster::HomeLink {
  public:
    SimLink(SimLoop& loop, cluster::Home& home, const SimDelay& delay, test::Channel channel)
        : loop_(loop), home_(home), delay_(delay), channel_(channel) {}

    void send(cluster::HomeCommand command, cluster::HomeReply* reply) override {
        Answer* answer = nullptr;
        if (reply != nullptr) answer = &answers_.emplace_back(*this, *reply);
        const auto late = std::make_shared<cluster::HomeCommand>(std::move(command));
        auto arrive = [this, late, answer] { home_.take(std::move(*late), answer); };
        if (delay_.held != nullptr) return delay_.held->send(channel_, std::move(arrive));
        const std::uint64_t now = loop_.now().value;
        arrival_ = std::max(arrival_, now + delay_.draw(loop_.rng()));
        loop_.after(arrival_ - now, std::move(arrive));
    }

  private:
    struct Answer final : cluster::HomeReply {
        Answer(SimLink& the_link, cluster::HomeReply& whose) : link(the_link), to(whose) {}
        SimLink& link;
        cluster::HomeReply& to;
        void answered(const cluster::HomeAnswer& told) override {
            auto arrive = [this, told] { to.answered(told); };
            if (link.delay_.held != nullptr) {
                const test::Channel back{link.channel_.to, link.channel_.from};
                return link.delay_.held->answer(back, std::move(arrive));
            }
            link.loop_.after(link.delay_.draw(link.loop_.rng()), std::move(arrive));
        }
    };

    SimLoop& loop_;
    cluster::Home& home_;
    const SimDelay& delay_;
    test::Channel channel_;
    std::uint64_t arrival_{0};  // of the last command: the next one comes no earlier
    std::deque<Answer> answers_;
};

}  // namespace braid::sim
