// SPDX-License-Identifier: BSD-3-Clause
// What everybody relies on of a Net, its listeners and connections, asked of each kind of it: a file
// of tests includes this and names its worlds with INSTANTIATE_TEST_SUITE_P. Nothing here sleeps:
// that something does not happen is looked at after round trips of another connection.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/rng.h"
#include "engine/io/clock.h"
#include "engine/io/net.h"
#include "engine/io/task.h"

namespace braid::test {

/// A loop and a Net on it.
class NetWorld {
  public:
    virtual ~NetWorld() = default;
    virtual Net& net() = 0;
    virtual ReadyQueue& ready() = 0;
    virtual void run(Task<void> task) = 0;
    /// One at which nobody listens yet; each time another one.
    virtual NetAddress new_address() = 0;
};

struct NetWorldKind {
    const char* name;
    std::unique_ptr<NetWorld> (*make)();  // null: not to be had here
};
inline std::string name_of(const testing::TestParamInfo<NetWorldKind>& info) {
    return info.param.name;
}

class NetContract : public testing::TestWithParam<NetWorldKind> {
  protected:
    void SetUp() override {
        world = GetParam().make();
        if (!world) GTEST_SKIP() << GetParam().name << " is not to be had here";
    }
    void run(Task<void> (*body)(NetWorld*)) { world->run(body(world.get())); }
    std::unique_ptr<NetWorld> world;
};

using Parts = std::vector<ByteView>;
using Rooms = std::vector<ByteSpan>;

template <class T>
void expect_fault(const Result<T>& result, int os_error) {
    ASSERT_FALSE(result);
    EXPECT_EQ(result.error().code, Errc::io);
    EXPECT_EQ(result.error().os_error, os_error);
}
/// The other side broke the connection: which of these it is, is a matter of time.
inline void expect_broken(const Error& error) {
    EXPECT_EQ(error.code, Errc::io);
    EXPECT_TRUE(error.os_error == EPIPE || error.os_error == ECONNRESET) << error.os_error;
}

inline Buffer random_bytes(std::size_t size, std::uint64_t seed) {
    Rng rng(seed);
    Buffer bytes(size);
    for (std::size_t i = 0; i < size; i += 8) {
        const std::uint64_t word = rng.next();
        std::memcpy(bytes.data() + i, &word, std::min<std::size_t>(8, size - i));
    }
    return bytes;
}

/// A listener, and two connections of it with both of their ends.
struct Link {
    std::unique_ptr<Connection> asker;
    std::unique_ptr<Connection> asked;
};

inline Task<void> accept_into(Listener* listener, std::unique_ptr<Connection>* into) {
    auto accepted = co_await listener->accept();
    EXPECT_TRUE(accepted);
    if (accepted) *into = std::move(*accepted);
}
inline Task<Link> make_link(NetWorld* world, Listener* listener, NetAddress address) {
    Link link;
    TaskGroup group(world->ready());
    group.spawn(accept_into(listener, &link.asked));
    auto connected = co_await world->net().connect(address);
    BRAID_REQUIRE(connected.has_value());
    link.asker = std::move(*connected);
    co_await group.join();
    BRAID_REQUIRE(link.asked != nullptr);
    co_return link;
}
inline Task<std::unique_ptr<Listener>> make_listener(NetWorld* world, NetAddress address) {
    auto listener = co_await world->net().listen(address);
    if (!listener) ADD_FAILURE() << listener.error().text;
    co_return std::move(listener).value();
}
inline Task<Link> make_link(NetWorld* world) {
    const NetAddress address = world->new_address();
    const auto listener = co_await make_listener(world, address);
    co_return co_await make_link(world, listener.get(), address);
}

inline Task<Result<void>> send(Connection* to, ByteView bytes) {
    const ByteView part = bytes;
    co_return co_await to->send(std::span(&part, 1));
}
inline Task<Result<std::size_t>> receive(Connection* from, ByteSpan into, std::size_t at_least) {
    const ByteSpan part = into;
    co_return co_await from->receive(std::span(&part, 1), at_least);
}
inline Task<void> send_into(Connection* to, ByteView bytes, std::optional<Result<void>>* result) {
    *result = co_await send(to, bytes);
}
inline Task<void> receive_into(Connection* from, ByteSpan into, std::size_t at_least,
                               std::optional<Result<std::size_t>>* result) {
    *result = co_await receive(from, into, at_least);
}

/// There and back, so often that whatever could happen beside it has.
inline Task<void> let_pass(Link* link) {
    Buffer ball(64);
    for (int i = 0; i != 100; ++i) {
        const auto there = co_await send(link->asker.get(), ball.span());
        const auto come = co_await receive(link->asked.get(), ball.span(), ball.size());
        const auto back = co_await send(link->asked.get(), ball.span());
        const auto gone = co_await receive(link->asker.get(), ball.span(), ball.size());
        EXPECT_TRUE(there && come && back && gone);
    }
}

/// Cuts `size` bytes into parts, mostly small ones, and some of none.
inline std::vector<std::size_t> draw_sizes(Rng& rng, std::size_t size) {
    std::vector<std::size_t> sizes;
    while (size != 0) {
        const std::size_t one =
            std::min(size, static_cast<std::size_t>(rng.below(rng.chance(8) ? 100'000 : 300)));
        sizes.push_back(one);
        size -= one;
    }
    return sizes;
}

inline Task<void> send_in_parts(Connection* to, ByteView bytes, std::uint64_t seed) {
    Rng rng(seed);
    while (!bytes.empty()) {
        const std::size_t size = std::min(
            bytes.size(), static_cast<std::size_t>(rng.below(rng.chance(4) ? 400'000 : 5000)));
        Parts parts;
        for (const std::size_t one : draw_sizes(rng, size)) {
            parts.push_back(bytes.first(one));
            bytes = bytes.subspan(one);
        }
        const auto sent = co_await to->send(parts);
        EXPECT_TRUE(sent);
        if (!sent) co_return;
    }
}
inline Task<void> receive_in_parts(Connection* from, ByteSpan into, std::uint64_t seed) {
    Rng rng(seed);
    while (!into.empty()) {
        const std::size_t size = std::min(
            into.size(), static_cast<std::size_t>(1 + rng.below(rng.chance(4) ? 400'000 : 5000)));
        Rooms rooms;
        std::size_t placed = 0;
        for (const std::size_t one : draw_sizes(rng, size)) {
            rooms.push_back(into.subspan(placed, one));
            placed += one;
        }
        const auto at_least = static_cast<std::size_t>(1 + rng.below(size));
        const auto count = co_await from->receive(rooms, at_least);
        EXPECT_TRUE(count);
        if (!count) co_return;
        EXPECT_GE(*count, at_least);
        EXPECT_LE(*count, size);
        into = into.subspan(*count);
    }
}

inline Task<void> both_ways(NetWorld* world) {
    Link link = co_await make_link(world);
    const Buffer there = random_bytes(3'000'001, 1);
    const Buffer back = random_bytes(2'000'003, 2);
    Buffer come(there.size());
    Buffer gone(back.size());
    TaskGroup group(world->ready());
    group.spawn(send_in_parts(link.asker.get(), there.view(), 3));
    group.spawn(send_in_parts(link.asked.get(), back.view(), 4));
    group.spawn(receive_in_parts(link.asked.get(), come.span(), 5));
    group.spawn(receive_in_parts(link.asker.get(), gone.span(), 6));
    co_await group.join();
    EXPECT_EQ(come, there);
    EXPECT_EQ(gone, back);
}
TEST_P(NetContract, BytesGoBothWaysInPartsOfAnySize) { run(both_ways); }

inline Task<void> nothing_to_send(NetWorld* world) {
    Link link = co_await make_link(world);
    const Parts none;
    const Parts empty(3);
    const auto sent_none = co_await link.asker->send(none);
    const auto sent_empty = co_await link.asker->send(empty);
    EXPECT_TRUE(sent_none);
    EXPECT_TRUE(sent_empty);
    co_await let_pass(&link);
}
TEST_P(NetContract, NoBytesAreSentAtOnce) { run(nothing_to_send); }

inline Task<void> what_is_there(NetWorld* world) {
    Link link = co_await make_link(world);
    const Buffer sent = random_bytes(1000, 1);
    Buffer got(4096);
    TaskGroup group(world->ready());
    std::optional<Result<std::size_t>> first;
    group.spawn(receive_into(link.asked.get(), got.span(), 10, &first));
    const auto few = co_await send(link.asker.get(), sent.view().first(9));
    Link other = co_await make_link(world);
    co_await let_pass(&other);
    EXPECT_TRUE(few);
    EXPECT_FALSE(first.has_value()) << "nine bytes are not ten";
    const auto rest = co_await send(link.asker.get(), sent.view().subspan(9));
    EXPECT_TRUE(rest);
    co_await group.join();
    EXPECT_TRUE(first->has_value());
    if (!*first) co_return;
    std::size_t done = **first;
    EXPECT_GE(done, 10U);
    while (done < sent.size()) {
        const auto more = co_await receive(link.asked.get(), got.span().subspan(done), 1);
        EXPECT_TRUE(more);
        if (!more) co_return;
        done += *more;
    }
    EXPECT_EQ(done, sent.size());
    EXPECT_EQ(std::memcmp(got.data(), sent.data(), sent.size()), 0);
}
TEST_P(NetContract, AReceiveEndsWithWhatIsThereIfThatIsEnough) { run(what_is_there); }

constexpr std::size_t much_part = 1u << 20;
constexpr std::size_t much_parts = 64;  // more than any kernel keeps for a socket

inline Task<void> send_much(Connection* to, ByteView part, std::optional<Result<void>>* result) {
    const Parts parts(much_parts, part);
    *result = co_await to->send(parts);
}

inline Task<void> slow_receiver(NetWorld* world) {
    Link link = co_await make_link(world);
    Link other = co_await make_link(world);
    const Buffer part = random_bytes(much_part, 1);
    Buffer got(much_part);
    std::optional<Result<void>> sent;
    TaskGroup group(world->ready());
    group.spawn(send_much(link.asker.get(), part.view(), &sent));
    co_await let_pass(&other);
    EXPECT_FALSE(sent.has_value()) << "nobody has received anything";
    for (std::size_t i = 0; i != much_parts; ++i) {
        const auto count = co_await receive(link.asked.get(), got.span(), got.size());
        EXPECT_TRUE(count);
        if (!count) break;
        EXPECT_EQ(got, part) << i;
        if (i != much_parts / 4) continue;
        co_await let_pass(&other);
        EXPECT_FALSE(sent.has_value()) << "most was not received";
    }
    co_await group.join();
    EXPECT_TRUE(sent->has_value());
}
TEST_P(NetContract, ASenderWaitsForTheReceiver) { run(slow_receiver); }

inline Task<void> last_byte(NetWorld* world) {
    Link link = co_await make_link(world);
    const Buffer sent = random_bytes(100'000, 1);
    Buffer got(sent.size());
    TaskGroup group(world->ready());
    std::optional<Result<void>> result;
    group.spawn(send_into(link.asker.get(), sent.view(), &result));
    const auto most = co_await receive(link.asked.get(), got.span().first(90'000), 90'000);
    co_await group.join();
    EXPECT_TRUE(most);
    link.asker.reset();
    const auto rest = co_await receive(link.asked.get(), got.span().subspan(90'000), 10'000);
    EXPECT_TRUE(rest) << "what was sent before the end comes";
    EXPECT_EQ(got, sent);
    for (int i = 0; i != 2; ++i) {
        const auto end = co_await receive(link.asked.get(), got.span(), 1);
        expect_fault(end, 0);
    }
    const auto answer = co_await send(link.asked.get(), sent.view());
    expect_fault(answer, 0);
}
TEST_P(NetContract, TheEndComesBehindTheLastByteAndStays) { run(last_byte); }

inline Task<void> end_too_early(NetWorld* world) {
    Link link = co_await make_link(world);
    const Buffer sent = random_bytes(1000, 1);
    Buffer got(2000);
    TaskGroup group(world->ready());
    std::optional<Result<std::size_t>> result;
    group.spawn(receive_into(link.asked.get(), got.span(), 1001, &result));
    const auto some = co_await send(link.asker.get(), sent.view());
    EXPECT_TRUE(some);
    link.asker.reset();
    co_await group.join();
    expect_fault(*result, 0);
}
TEST_P(NetContract, AnEndInTheMiddleOfAReceiveIsAnEnd) { run(end_too_early); }

/// A receive and a send are under way at the one end, and shut() ends both.
inline Task<void> shut_both(NetWorld* world) {
    Link link = co_await make_link(world);
    Link other = co_await make_link(world);
    const Buffer part = random_bytes(much_part, 1);
    Buffer got(100);
    std::optional<Result<void>> sent;
    std::optional<Result<std::size_t>> received;
    TaskGroup group(world->ready());
    group.spawn(send_much(link.asker.get(), part.view(), &sent));
    group.spawn(receive_into(link.asker.get(), got.span(), 1, &received));
    co_await let_pass(&other);
    EXPECT_FALSE(sent.has_value());
    EXPECT_FALSE(received.has_value());
    link.asker->shut();
    co_await group.join();
    expect_fault(*sent, ECANCELED);
    expect_fault(*received, ECANCELED);
    link.asker->shut();  // again: nothing
    const auto more = co_await receive(link.asker.get(), got.span(), 1);
    const auto again = co_await send(link.asker.get(), got.view());
    expect_fault(more, ECANCELED);
    expect_fault(again, ECANCELED);
}
TEST_P(NetContract, ShutEndsWhatIsUnderWayAndWhatFollows) { run(shut_both); }

/// shut() before what it ends has got as far as it does alone.
inline Task<void> shut_at_once(NetWorld* world) {
    for (int turns = 0; turns != 4; ++turns) {
        Link link = co_await make_link(world);
        Buffer got(100);
        std::optional<Result<std::size_t>> received;
        TaskGroup group(world->ready());
        group.spawn(receive_into(link.asker.get(), got.span(), 1, &received));
        for (int i = 0; i != turns; ++i) {
            Yield yield;
            co_await yield;
        }
        link.asker->shut();
        co_await group.join();
        expect_fault(*received, ECANCELED);
    }
}
TEST_P(NetContract, ShutEndsWhatHasJustBegun) { run(shut_at_once); }

inline Task<void> shut_is_heard(NetWorld* world) {
    Link link = co_await make_link(world);
    Buffer got(100);
    const auto sent = co_await send(link.asker.get(), got.view());
    EXPECT_TRUE(sent);
    const auto come = co_await receive(link.asked.get(), got.span(), got.size());
    EXPECT_TRUE(come);
    link.asker->shut();
    const auto end = co_await receive(link.asked.get(), got.span(), 1);
    expect_fault(end, 0);
    link.asked->shut();
    const auto after = co_await receive(link.asked.get(), got.span(), 1);
    expect_fault(after, ECANCELED);
}
TEST_P(NetContract, TheOtherSideHearsOfAShut) { run(shut_is_heard); }

inline Task<void> gone_while_sending(NetWorld* world) {
    Link link = co_await make_link(world);
    const Buffer part = random_bytes(much_part, 1);
    Buffer got(1000);
    std::optional<Result<void>> sent;
    TaskGroup group(world->ready());
    group.spawn(send_much(link.asker.get(), part.view(), &sent));
    const auto some = co_await receive(link.asked.get(), got.span(), got.size());
    EXPECT_TRUE(some);
    link.asked.reset();
    co_await group.join();
    EXPECT_FALSE(sent->has_value());
    if (*sent) co_return;
    const Error first = sent->error();
    expect_broken(first);
    const auto again = co_await send(link.asker.get(), got.view());
    const auto received = co_await receive(link.asker.get(), got.span(), 1);
    expect_fault(again, first.os_error);
    expect_fault(received, first.os_error);
    link.asker->shut();
    const auto last = co_await send(link.asker.get(), got.view());
    expect_fault(last, ECANCELED);
}
TEST_P(NetContract, ASenderHearsThatTheOtherSideHasGoneAndThatStays) { run(gone_while_sending); }

/// The end is heard by whoever receives; it ends a send that nobody will take any more.
inline Task<void> end_while_sending(NetWorld* world) {
    Link link = co_await make_link(world);
    const Buffer part = random_bytes(much_part, 1);
    Buffer got(1000);
    std::optional<Result<void>> sent;
    std::optional<Result<std::size_t>> received;
    TaskGroup group(world->ready());
    group.spawn(send_much(link.asker.get(), part.view(), &sent));
    group.spawn(receive_into(link.asker.get(), got.span(), 1, &received));
    const auto some = co_await receive(link.asked.get(), got.span(), got.size());
    EXPECT_TRUE(some);
    link.asked->shut();  // and stays: there is no close(2) yet
    co_await group.join();
    EXPECT_FALSE(received->has_value());
    EXPECT_FALSE(sent->has_value());
}
TEST_P(NetContract, AnEndEndsASendToo) { run(end_while_sending); }

inline Task<void> accept_result(Listener* listener, std::optional<int>* os_error) {
    const auto accepted = co_await listener->accept();
    *os_error = accepted ? 0 : accepted.error().os_error;
}

inline Task<void> listener_shut(NetWorld* world) {
    const NetAddress address = world->new_address();
    auto listener = co_await make_listener(world, address);
    Link other = co_await make_link(world);
    std::optional<int> os_error;
    TaskGroup group(world->ready());
    group.spawn(accept_result(listener.get(), &os_error));
    co_await let_pass(&other);
    EXPECT_FALSE(os_error.has_value());
    listener->shut();
    co_await group.join();
    EXPECT_EQ(os_error, ECANCELED);
    listener->shut();
    os_error.reset();
    co_await accept_result(listener.get(), &os_error);
    EXPECT_EQ(os_error, ECANCELED);
    const auto late = co_await world->net().connect(address);
    EXPECT_FALSE(late) << "nobody is let in any more";
    auto second = co_await make_listener(world, address);  // before the first one is destroyed
    const Link link = co_await make_link(world, second.get(), address);
    EXPECT_NE(link.asker, nullptr);
}
TEST_P(NetContract, AListenerThatIsShutLetsNobodyIn) { run(listener_shut); }

inline Task<void> listener_shut_at_once(NetWorld* world) {
    for (int turns = 0; turns != 4; ++turns) {
        const auto listener = co_await make_listener(world, world->new_address());
        std::optional<int> os_error;
        TaskGroup group(world->ready());
        group.spawn(accept_result(listener.get(), &os_error));
        for (int i = 0; i != turns; ++i) {
            Yield yield;
            co_await yield;
        }
        listener->shut();
        co_await group.join();
        EXPECT_EQ(os_error, ECANCELED);
    }
}
TEST_P(NetContract, ShutEndsAnAcceptThatHasJustBegun) { run(listener_shut_at_once); }

inline Task<void> nobody_listens(NetWorld* world) {
    const NetAddress address = world->new_address();
    const auto refused = co_await world->net().connect(address);
    EXPECT_FALSE(refused);
    if (refused) co_return;
    const std::string& text = refused.error().text;
    EXPECT_TRUE(text.starts_with(text_of(address) + ": ")) << text;
    EXPECT_NE(text.find("nobody listens there"), text.npos) << text;
    const auto listener = co_await make_listener(world, address);
    const Link link = co_await make_link(world, listener.get(), address);
    EXPECT_NE(link.asker, nullptr);
}
TEST_P(NetContract, WhereNobodyListensConnectIsRefused) { run(nobody_listens); }

inline Task<void> serve_one(std::unique_ptr<Connection> connection, std::size_t size) {
    Buffer bytes(size);
    const auto come = co_await receive(connection.get(), bytes.span(), size);
    EXPECT_TRUE(come);
    const auto sent = co_await send(connection.get(), bytes.view());
    EXPECT_TRUE(sent);
    const auto end = co_await receive(connection.get(), bytes.span(), 1);
    expect_fault(end, 0);
}
/// Some come only to see whether somebody listens.
inline Task<void> serve_who_speaks(Listener* listener, std::size_t size) {
    Buffer bytes(size);
    for (;;) {
        auto accepted = co_await listener->accept();
        EXPECT_TRUE(accepted);
        if (!accepted) co_return;
        const auto come = co_await receive(accepted->get(), bytes.span(), size);
        if (!come) continue;
        const auto sent = co_await send(accepted->get(), bytes.view());
        EXPECT_TRUE(sent);
        co_return;
    }
}
inline Task<void> serve(NetWorld* world, Listener* listener, int count, std::size_t size) {
    TaskGroup group(world->ready());
    for (int i = 0; i != count; ++i) {
        auto accepted = co_await listener->accept();
        EXPECT_TRUE(accepted);
        if (accepted) group.spawn(serve_one(std::move(*accepted), size));
    }
    co_await group.join();
}
inline Task<void> ask(NetWorld* world, NetAddress address, std::uint64_t number, std::size_t size) {
    auto connected = co_await world->net().connect(address);
    EXPECT_TRUE(connected);
    if (!connected) co_return;
    const Buffer mine = random_bytes(size, number);
    Buffer echo(size);
    TaskGroup group(world->ready());
    std::optional<Result<void>> sent;
    group.spawn(send_into(connected->get(), mine.view(), &sent));
    const auto back = co_await receive(connected->get(), echo.span(), size);
    co_await group.join();
    EXPECT_TRUE(back);
    EXPECT_EQ(echo, mine);
}
inline Task<void> listens_twice(NetWorld* world) {
    const NetAddress address = world->new_address();
    auto listener = co_await make_listener(world, address);
    const auto second = co_await world->net().listen(address);
    EXPECT_FALSE(second);
    if (second) co_return;
    const std::string& text = second.error().text;
    EXPECT_TRUE(text.starts_with(text_of(address) + ": ")) << text;
    EXPECT_NE(text.find("stop "), text.npos) << text << ": it does not say what helps";
    TaskGroup group(world->ready());  // the first one is as it was
    group.spawn(serve_who_speaks(listener.get(), 1000));
    co_await ask(world, address, 1, 1000);
    co_await group.join();
}
TEST_P(NetContract, AnAddressInUseIsRefused) { run(listens_twice); }

inline Task<void> listens_again(NetWorld* world) {
    const NetAddress address = world->new_address();
    auto listener = co_await make_listener(world, address);
    Link link = co_await make_link(world, listener.get(), address);
    listener.reset();
    const auto second = co_await make_listener(world, address);
    Link other = co_await make_link(world, second.get(), address);
    co_await let_pass(&link);
    co_await let_pass(&other);
}
TEST_P(NetContract, AnAddressIsFreeAgainThoughItsConnectionsLive) { run(listens_again); }

inline Task<void> many_at_once(NetWorld* world) {
    constexpr int count = 40;
    constexpr std::size_t size = 200'000;
    const NetAddress address = world->new_address();
    const auto listener = co_await make_listener(world, address);
    TaskGroup group(world->ready());
    group.spawn(serve(world, listener.get(), count, size));
    for (int i = 0; i != count; ++i) {
        group.spawn(ask(world, address, static_cast<std::uint64_t>(i), size));
    }
    co_await group.join();
}
TEST_P(NetContract, ManyConnectAtOnce) { run(many_at_once); }

inline Task<void> who_is_there(NetWorld* world) {
    const NetAddress address = world->new_address();
    const auto listener = co_await make_listener(world, address);
    const Link link = co_await make_link(world, listener.get(), address);
    const Link second = co_await make_link(world, listener.get(), address);
    if (address.kind == AddressKind::unix_socket) {
        EXPECT_EQ(link.asker->peer(), "a unix socket");
        EXPECT_EQ(link.asked->peer(), "a unix socket");
        co_return;
    }
    EXPECT_EQ(link.asker->peer(), text_of(address));
    const std::string& asker = link.asked->peer();
    NetAddress host = address;
    host.port = 0;
    std::string begin = text_of(host);
    begin.pop_back();  // the port
    EXPECT_TRUE(asker.starts_with(begin)) << asker << " is not of " << begin;
    EXPECT_GT(asker.size(), begin.size());
    EXPECT_NE(asker, second.asked->peer());
}
TEST_P(NetContract, EachSideIsToldWhoTheOtherIs) { run(who_is_there); }

}  // namespace braid::test
