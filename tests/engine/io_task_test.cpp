// SPDX-License-Identifier: BSD-3-Clause
// Tasks, the ready queue, events and groups: order, lifetime, and no recursion whatever is awaited.
#include <gtest/gtest.h>

#include <atomic>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "engine/io/inbox.h"
#include "engine/io/task.h"

namespace braid {
namespace {

void run_all(ReadyQueue& ready) {
    while (!ready.empty()) ready.take().resume();
}

Task<int> same(int value) { co_return value; }
Task<void> count_to(std::uint64_t end, std::uint64_t* sum) {
    for (std::uint64_t i = 0; i != end; ++i) {
        const int one = co_await same(1);
        *sum += static_cast<std::uint64_t>(one);
    }
}
Task<void> yield_often(std::uint64_t times, std::uint64_t* sum) {
    for (std::uint64_t i = 0; i != times; ++i) {
        Yield yield;
        co_await yield;
        ++*sum;
    }
}
Task<std::uint64_t> nested(std::uint64_t depth) {
    if (depth == 0) co_return 0;
    const std::uint64_t below = co_await nested(depth - 1);
    co_return below + 1;
}
Task<void> keep_depth(std::uint64_t depth, std::uint64_t* result) {
    *result = co_await nested(depth);
}

TEST(Task, AMillionAwaitsNeedNoStack) {
    ReadyQueue ready;
    TaskGroup tasks(ready);
    std::uint64_t sum = 0;
    tasks.spawn(count_to(1'000'000, &sum));
    tasks.spawn(yield_often(1'000'000, &sum));
    run_all(ready);
    EXPECT_EQ(sum, 2'000'000U);
    EXPECT_EQ(tasks.running(), 0U);
}

TEST(Task, TasksNestAsDeepAsMemoryGoes) {
    ReadyQueue ready;
    TaskGroup tasks(ready);
    std::uint64_t depth = 0;
    tasks.spawn(keep_depth(100'000, &depth));
    run_all(ready);
    EXPECT_EQ(depth, 100'000U);
}

Task<void> never_started(std::shared_ptr<int>) { co_return; }
TEST(Task, OneThatIsNeverAwaitedGivesItsArgumentsBack) {
    auto held = std::make_shared<int>(1);
    {
        auto task = never_started(held);
        EXPECT_EQ(held.use_count(), 2);
        auto moved = std::move(task);
        EXPECT_EQ(held.use_count(), 2);
    }
    EXPECT_EQ(held.use_count(), 1);
}

Task<std::string> text() { co_return "a text that is too long for the small string buffer"; }
Task<void> take_text(std::string* into) { *into = co_await text(); }
TEST(Task, AResultIsMovedOut) {
    ReadyQueue ready;
    TaskGroup tasks(ready);
    std::string result;
    tasks.spawn(take_text(&result));
    run_all(ready);
    EXPECT_EQ(result.size(), 51U);
}

Task<void> wait_and_note(Event* event, int id, std::vector<int>* order, std::shared_ptr<int>) {
    auto wait = event->wait();
    co_await wait;
    order->push_back(id);
}

TEST(Event, LetsAllGoOnInTheirOrderAndKeepsASet) {
    ReadyQueue ready;
    TaskGroup tasks(ready);
    Event event;
    std::vector<int> order;
    for (int i = 0; i != 5; ++i) tasks.spawn(wait_and_note(&event, i, &order, nullptr));
    run_all(ready);
    EXPECT_TRUE(order.empty());
    event.set();
    run_all(ready);
    EXPECT_EQ(order, (std::vector<int>{0, 1, 2, 3, 4}));
    tasks.spawn(wait_and_note(&event, 5, &order, nullptr));  // set() is kept
    run_all(ready);
    EXPECT_EQ(order.size(), 6U);
    event.clear();
    tasks.spawn(wait_and_note(&event, 6, &order, nullptr));
    run_all(ready);
    EXPECT_EQ(order.size(), 6U);
    event.set();
    run_all(ready);
    EXPECT_EQ(order.back(), 6);
}

Task<void> wait_for_number(Event* event, const int* number, int wanted, int* looks) {
    while (*number < wanted) {
        ++*looks;
        co_await event->next();
    }
}

TEST(Event, NextWaitsForASetThatIsYetToCome) {
    ReadyQueue ready;
    TaskGroup tasks(ready);
    Event event;
    event.set();  // before anybody looks: does not count
    int number = 0;
    int looks = 0;
    tasks.spawn(wait_for_number(&event, &number, 2, &looks));
    tasks.spawn(wait_for_number(&event, &number, 1, &looks));
    run_all(ready);
    EXPECT_EQ(looks, 2);
    event.set();  // nothing changed: both look again, and wait again
    run_all(ready);
    EXPECT_EQ(looks, 4);
    number = 1;
    event.set();
    run_all(ready);
    EXPECT_EQ(looks, 5);
    EXPECT_EQ(tasks.running(), 1U);
    number = 2;
    event.set();
    run_all(ready);
    EXPECT_EQ(tasks.running(), 0U);
}

Task<void> take_and_count(Event* event, int* taken) {
    for (;;) {
        co_await event->take();
        ++*taken;
    }
}

TEST(Event, TakeForgetsWhatWasSet) {
    ReadyQueue ready;
    Event event;
    int taken = 0;
    TaskGroup tasks(ready);
    event.set();  // before it waits: counts
    tasks.spawn(take_and_count(&event, &taken));
    run_all(ready);
    EXPECT_EQ(taken, 1);
    EXPECT_FALSE(event.is_set());
    event.set();
    event.set();
    run_all(ready);
    EXPECT_EQ(taken, 2);
}

Task<void> join_and_note(TaskGroup* group, bool* joined) {
    auto wait = group->join();
    co_await wait;
    *joined = true;
}

TEST(TaskGroup, JoinWaitsForAll) {
    ReadyQueue ready;
    TaskGroup outer(ready);
    TaskGroup group(ready);
    Event event;
    std::vector<int> order;
    bool joined = false;
    outer.spawn(join_and_note(&group, &joined));
    run_all(ready);
    EXPECT_TRUE(joined);  // nobody to wait for
    joined = false;
    for (int i = 0; i != 3; ++i) group.spawn(wait_and_note(&event, i, &order, nullptr));
    outer.spawn(join_and_note(&group, &joined));
    run_all(ready);
    EXPECT_FALSE(joined);
    EXPECT_EQ(group.running(), 3U);
    event.set();
    run_all(ready);
    EXPECT_TRUE(joined);
    EXPECT_EQ(group.running(), 0U);
}

TEST(TaskGroup, ItsEndDestroysWhatStillWaits) {
    ReadyQueue ready;
    auto held = std::make_shared<int>(1);
    Event event;
    std::vector<int> order;
    {
        TaskGroup group(ready);
        for (int i = 0; i != 10; ++i) group.spawn(wait_and_note(&event, i, &order, held));
        run_all(ready);
        EXPECT_GE(held.use_count(), 11);
    }
    EXPECT_EQ(held.use_count(), 1);
    EXPECT_TRUE(order.empty());
}

TEST(ReadyQueue, KeepsItsOrderAsItGrows) {
    ReadyQueue ready;
    std::vector<int> places(1000);
    const auto handle_of = [&](std::size_t i) {
        return std::coroutine_handle<>::from_address(&places[i]);
    };
    for (std::size_t i = 0; i != 40; ++i) ready.push(handle_of(i));
    for (std::size_t i = 0; i != 40; ++i) ASSERT_EQ(ready.take(), handle_of(i));
    for (std::size_t i = 0; i != 1000; ++i) ready.push(handle_of(i));  // over the ring's end
    for (std::size_t i = 0; i != 1000; ++i) ASSERT_EQ(ready.take(), handle_of(i));
    for (std::size_t i = 0; i != 3; ++i) ready.push(handle_of(i));
    EXPECT_EQ(ready.take(2), handle_of(2));  // drawn
    EXPECT_EQ(ready.size(), 2U);
    ready.clear();
    EXPECT_TRUE(ready.empty());
}

struct Numbered : Message {
    std::uint32_t sender{0};
    std::uint64_t number{0};
    std::vector<std::uint64_t>* seen{nullptr};
};

TEST(Inbox, TakesWhatSeveralThreadsPostInTheOrderOfEach) {
    constexpr std::uint32_t senders = 4;
    constexpr std::uint64_t count = 20'000;
    Inbox inbox;
    std::vector<std::uint64_t> seen(senders);
    std::vector<std::vector<Numbered>> messages(senders, std::vector<Numbered>(count));
    std::vector<std::thread> threads;
    for (std::uint32_t s = 0; s != senders; ++s) {
        threads.emplace_back([&, s] {
            for (std::uint64_t i = 0; i != count; ++i) {
                Numbered& message = messages[s][i];
                message.sender = s;
                message.number = i;
                message.seen = &seen;
                message.run = [](Message& posted) {
                    auto& mine = static_cast<Numbered&>(posted);
                    EXPECT_EQ((*mine.seen)[mine.sender], mine.number);
                    ++(*mine.seen)[mine.sender];
                };
                inbox.post(message);
            }
        });
    }
    std::uint64_t total = 0;
    while (total != senders * count) {
        inbox.run_all();
        total = 0;
        for (const std::uint64_t one : seen) total += one;
    }
    for (std::thread& thread : threads) thread.join();
    EXPECT_TRUE(inbox.empty());
}

}  // namespace
}  // namespace braid
