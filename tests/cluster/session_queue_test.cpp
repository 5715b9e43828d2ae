// SPDX-License-Identifier: BSD-3-Clause
// SessionQueue: two nodes that send to each other over connections that break at any moment, every
// interleaving of it: each message comes once, in its order, and all of them in the end.
#include "cluster/bus/session_queue.h"

#include <gtest/gtest.h>

#include <array>
#include <deque>
#include <string>

#include "engine/base/limits.h"
#include "tests/cluster/state_graph.h"

namespace braid::cluster {
namespace {

QueuedMessage message(std::uint8_t content) {
    QueuedMessage queued;
    queued.header.type = MessageType::flush;
    queued.body.assign(1, std::byte{content});
    return queued;
}

/// Side 0 dials, side 1 accepts. A connection that only one of them believes in is one, too.
struct World {
    static constexpr std::uint8_t messages = 2;  // of each side
    static constexpr int dials_max = 3;

    struct Wire {  // what is on its way to one side
        std::uint64_t number{0};
        std::uint64_t received{0};
        std::uint8_t content{0};
        bool hello{false};
    };
    struct Dial {
        std::uint64_t received{0};
        bool waits{true};  // side 0 has not given it up
    };
    struct Side {
        SessionQueue queue;
        std::uint8_t added{0};
        std::uint8_t came{0};
        bool open{false};
        std::deque<Wire> incoming;
    };
    std::array<Side, 2> sides;
    std::deque<Dial> dials;
    bool dialling{false};
    int dialled{0};

    enum class Step : std::uint8_t { add, send, word, deliver, dial, accept, give_up, notice };

    bool joined() const { return sides[0].open && sides[1].open; }
    /// There is a connection, or becomes one, and the last dial was for it.
    bool is_last() const {
        const auto& to_dialler = sides[0].incoming;
        return joined() || (!to_dialler.empty() && to_dialler.front().hello);
    }
    void cut(int side) {
        sides[side].open = false;
        for (Side& at : sides) at.incoming.clear();
    }

    /// False: it is not possible now.
    bool step(Step what, int side) {
        Side& here = sides[side];
        Side& there = sides[1 - side];
        switch (what) {
            case Step::add:
                if (here.added == messages) return false;
                here.queue.add(message(here.added++));
                return true;
            case Step::send: {
                const QueuedMessage* next = here.open ? here.queue.next() : nullptr;
                if (next == nullptr) return false;
                const Wire sent{next->header.number, here.queue.received(),
                                static_cast<std::uint8_t>(next->body[0]), false};
                if (there.open || dialling) there.incoming.push_back(sent);
                here.queue.word_sent();
                here.queue.end_sending();
                return true;
            }
            case Step::word:
                if (!joined() || !there.incoming.empty()) return false;
                there.incoming.push_back({0, here.queue.received(), 0, false});
                return true;
            case Step::deliver:
                return deliver(here);
            case Step::dial:
                if (side != 0 || here.open || dialling || dialled == dials_max) return false;
                ++dialled;
                dialling = true;
                dials.push_back({here.queue.received(), true});
                return true;
            case Step::accept:
                return side == 1 && accept();
            case Step::give_up:  // the dialler, of a connection that is not open yet
                if (side != 0 || !dialling || dialled == dials_max) return false;
                dialling = false;
                here.incoming.clear();
                for (Dial& dial : dials) dial.waits = false;
                return true;
            case Step::notice:  // that the connection is over, or it breaks now
                if (!here.open || (dialled == dials_max && is_last())) return false;
                cut(side);
                return true;
        }
        return false;
    }

    bool accept() {
        if (dials.empty()) return false;
        const Dial dial = dials.front();
        dials.pop_front();
        Side& here = sides[1];
        if (!here.queue.may_go_on_at(dial.received)) {
            EXPECT_FALSE(dial.waits) << "a good connection is refused";
            return true;
        }
        here.incoming.clear();
        sides[0].incoming.clear();
        here.queue.begin(dial.received);
        here.open = true;
        sides[0].open = false;
        if (dial.waits) sides[0].incoming.push_back({0, here.queue.received(), 0, true});
        return true;
    }

    bool deliver(Side& here) {
        if (here.incoming.empty() || (!here.open && !here.incoming.front().hello)) return false;
        const Wire wire = here.incoming.front();
        here.incoming.pop_front();
        if (wire.hello) {
            EXPECT_TRUE(here.queue.may_go_on_at(wire.received));
            here.queue.begin(wire.received);
            here.open = true;
            dialling = false;
            return true;
        }
        EXPECT_TRUE(here.queue.acknowledge(wire.received));
        if (wire.number == 0) return true;
        EXPECT_TRUE(here.queue.is_next(wire.number));
        EXPECT_EQ(wire.content, here.came);
        ++here.came;
        here.queue.take(0);
        return true;
    }

    std::string image() const {
        std::string image;
        const auto put = [&](std::uint64_t value) { image += std::to_string(value) + ' '; };
        for (const Side& side : sides) {
            put(side.added), put(side.came), put(side.open);
            put(side.queue.kept()), put(side.queue.has_more()), put(side.queue.received());
            for (std::uint64_t upto = 0; upto <= messages; ++upto) {
                put(side.queue.may_go_on_at(upto));
            }
            for (const Wire& wire : side.incoming) {
                put(wire.number), put(wire.received), put(wire.hello);
            }
            image += '/';
        }
        for (const Dial& dial : dials) put(dial.received), put(dial.waits);
        put(dialling), put(static_cast<std::uint64_t>(dialled));
        return image;
    }
    bool all_came() const { return sides[0].came == messages && sides[1].came == messages; }
};

TEST(SessionQueue, EveryMessageComesOnceWhateverBreaks) {
    using Move = std::pair<World::Step, int>;
    StateGraph<Move> graph;
    std::deque<std::pair<StateGraph<Move>::Index, World>> open;
    open.push_back({graph.add(World().image(), 0, {}).first, World()});
    while (!open.empty()) {
        const auto [from, world] = open.front();
        open.pop_front();
        if (world.all_came()) {
            graph.add_end(from);
            continue;
        }
        for (int step = 0; step <= static_cast<int>(World::Step::notice); ++step) {
            for (const int side : {0, 1}) {
                World next = world;
                if (!next.step(World::Step{static_cast<std::uint8_t>(step)}, side)) continue;
                for (const World::Side& at : next.sides) ASSERT_TRUE(at.queue.holds_together());
                ASSERT_FALSE(testing::Test::HasFailure());
                const auto [to, is_new] = graph.add(
                    next.image(), from, {World::Step{static_cast<std::uint8_t>(step)}, side});
                if (is_new) open.push_back({to, std::move(next)});
            }
        }
    }
    EXPECT_FALSE(graph.without_end()) << "from somewhere they never come";
    EXPECT_GT(graph.size(), 10'000U);
}

TEST(SessionQueue, WhatIsOnItsWayStaysWhereItIs) {
    SessionQueue queue;
    queue.add(message(1));
    queue.add(message(2));
    queue.begin(0);
    const QueuedMessage* first = queue.next();
    const QueuedMessage* second = queue.next();
    EXPECT_TRUE(queue.acknowledge(1));  // the other side is fast
    queue.add(message(3));
    EXPECT_EQ(queue.kept(), 3U);
    EXPECT_EQ(first->body[0], std::byte{1});
    EXPECT_EQ(second->header.number, 2U);
    EXPECT_TRUE(queue.has_more());
    queue.end_sending();
    EXPECT_EQ(queue.kept(), 2U);
    EXPECT_EQ(queue.next()->header.number, 3U);
    EXPECT_EQ(queue.next(), nullptr);
    queue.end_sending();
}

TEST(SessionQueue, WhatNeverWentOutCannotHaveCome) {
    SessionQueue queue;
    queue.add(message(1));
    queue.add(message(2));
    EXPECT_FALSE(queue.may_go_on_at(1));
    queue.begin(0);
    ASSERT_NE(queue.next(), nullptr);
    queue.end_sending();
    EXPECT_FALSE(queue.acknowledge(2));
    EXPECT_TRUE(queue.acknowledge(1));
    EXPECT_FALSE(queue.may_go_on_at(0)) << "the first is forgotten";
    EXPECT_TRUE(queue.may_go_on_at(1));
    EXPECT_FALSE(queue.may_go_on_at(2));
    EXPECT_FALSE(queue.is_next(2));
}

TEST(SessionQueue, WhatDidNotGoOutOnThisConnectionCannotHaveComeByIt) {
    SessionQueue queue;
    for (std::uint8_t i = 0; i != 5; ++i) queue.add(message(i));
    queue.begin(0);
    while (queue.next() != nullptr) {
    }
    queue.end_sending();
    queue.begin(2);  // the connection broke, and only these had come
    EXPECT_FALSE(queue.acknowledge(5)) << "the other side has just said that it has two";
    EXPECT_TRUE(queue.holds_together());
    ASSERT_NE(queue.next(), nullptr);
    EXPECT_TRUE(queue.acknowledge(3));
    EXPECT_FALSE(queue.acknowledge(4));
    queue.end_sending();
    EXPECT_TRUE(queue.holds_together());
}

TEST(SessionQueue, WordIsOwedAfterManyMessagesOrBytes) {
    SessionQueue queue;
    for (std::uint32_t i = 0; i + 1 != unanswered_messages_max; ++i) queue.take(0);
    EXPECT_FALSE(queue.owes_word());
    queue.take(0);
    EXPECT_TRUE(queue.owes_word());
    queue.word_sent();
    EXPECT_FALSE(queue.owes_word());
    queue.take(unanswered_bytes_max);
    EXPECT_TRUE(queue.owes_word());
}

}  // namespace
}  // namespace braid::cluster
