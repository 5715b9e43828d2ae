// SPDX-License-Identifier: BSD-3-Clause
// TLS between nodes: the contract of connections holds over it, whoever lacks the key is refused
// with a sentence, and what is changed on the way is noticed.
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "cluster/bus/tls_connection.h"
#include "cluster/bus/tls_session.h"
#include "tests/engine/net_contract.h"
#include "tests/engine/sim_net_world.h"
#include "tests/sim/sim_net.h"

namespace braid::test {
namespace {

using cluster::ClusterKey;
using cluster::TlsRole;
using cluster::TlsSession;
using cluster::TlsStep;

ClusterKey key_of(std::uint8_t first) {
    ClusterKey key{};
    for (std::uint8_t& byte : key) byte = first++;
    return key;
}
const ClusterKey our_key = key_of(1);

// ---- the contract --------------------------------------------------------------------------

/// Whoever comes without the key is not let in, and the next one is waited for.
class TlsListener final : public Listener {
  public:
    explicit TlsListener(std::unique_ptr<Listener> inner) : inner_(std::move(inner)) {}
    Task<Result<std::unique_ptr<Connection>>> accept() override {
        for (;;) {
            auto accepted = co_await inner_->accept();
            if (!accepted) co_return accepted.error();
            coming_ = accepted->get();
            auto let_in = co_await cluster::tls_accept(std::move(*accepted), our_key);
            coming_ = nullptr;
            if (let_in) co_return std::move(*let_in);
        }
    }
    void shut() override {
        inner_->shut();
        if (coming_ != nullptr) coming_->shut();
    }

  private:
    std::unique_ptr<Listener> inner_;
    Connection* coming_{nullptr};
};

class TlsNet final : public Net {
  public:
    explicit TlsNet(Net& inner) : inner_(inner) {}
    Task<Checked<std::unique_ptr<Listener>>> listen(NetAddress address) override {
        BRAID_CO_TRY(auto inner, co_await inner_.listen(address));
        co_return std::make_unique<TlsListener>(std::move(inner));
    }
    Task<Checked<std::unique_ptr<Connection>>> connect(NetAddress address) override {
        BRAID_CO_TRY(auto inner, co_await inner_.connect(address));
        co_return co_await cluster::tls_connect(std::move(inner), our_key);
    }

  private:
    Net& inner_;
};

template <std::uint64_t seed>
class TlsWorld final : public NetWorld {
  public:
    static std::unique_ptr<NetWorld> make() { return std::make_unique<TlsWorld>(); }
    Net& net() override { return net_; }
    ReadyQueue& ready() override { return inner_.ready(); }
    void run(Task<void> task) override { inner_.run(std::move(task)); }
    NetAddress new_address() override { return inner_.new_address(); }
    Nanos now() { return inner_.loop().now(); }

  private:
    SimNetWorld<seed> inner_;
    TlsNet net_{inner_.net()};
};

INSTANTIATE_TEST_SUITE_P(Tls, NetContract,
                         testing::Values(NetWorldKind{"seed_1", TlsWorld<1>::make},
                                         NetWorldKind{"seed_2", TlsWorld<2>::make},
                                         NetWorldKind{"seed_3", TlsWorld<3>::make}),
                         name_of);

template <std::uint64_t seed>
Nanos time_of_much() {
    TlsWorld<seed> world;
    world.run(both_ways(&world));
    return world.now();
}
TEST(TlsConnection, OneSeedIsOneCourseOfThingsThoughKeysAreDrawn) {
    EXPECT_EQ(time_of_much<4>(), time_of_much<4>());
    EXPECT_NE(time_of_much<4>(), time_of_much<5>());
}

// ---- the session, byte by byte -------------------------------------------------------------

std::unique_ptr<TlsSession> session_of(TlsRole role, const ClusterKey& key = our_key) {
    return TlsSession::create(role, key).value();
}
void give(TlsSession& to, ByteView bytes) {
    const ByteSpan room = to.room();
    ASSERT_LE(bytes.size(), room.size());
    std::copy(bytes.begin(), bytes.end(), room.begin());
    to.came(bytes.size());
}

/// Two sides, and what they said.
struct Talk {
    explicit Talk(const ClusterKey& key_asked = our_key, const ClusterKey& key_answers = our_key)
        : asks(session_of(TlsRole::asks, key_asked)),
          answers(session_of(TlsRole::answers, key_answers)) {}

    std::unique_ptr<TlsSession> asks;
    std::unique_ptr<TlsSession> answers;
    TlsStep asks_step{TlsStep::needs_bytes};
    TlsStep answers_step{TlsStep::needs_bytes};
    std::vector<std::byte> asks_said;
    std::vector<std::byte> answers_said;
    std::size_t flip{~std::size_t{0}};  // this byte of what is said, of both in their order

    void move(TlsSession& from, TlsSession& to, std::vector<std::byte>& said) {
        std::vector<std::byte> bytes = from.taken();
        const std::size_t before = asks_said.size() + answers_said.size();
        if (flip >= before && flip - before < bytes.size()) bytes[flip - before] ^= std::byte{16};
        said.insert(said.end(), bytes.begin(), bytes.end());
        give(to, bytes);
    }
    /// Until neither has more to say.
    void shake_hands() {
        for (int round = 0; round != 10; ++round) {
            if (asks_step == TlsStep::needs_bytes) asks_step = asks->handshake();
            move(*asks, *answers, asks_said);
            if (answers_step == TlsStep::needs_bytes) answers_step = answers->handshake();
            move(*answers, *asks, answers_said);
        }
    }
};

std::string open_text(TlsSession& session) {
    Buffer into(1000);
    const auto count = session.open(into.span());
    if (!count) return "error " + std::to_string(count.error().os_error);
    return {reinterpret_cast<const char*>(into.data()), *count};
}
ByteView bytes_of(const std::string& text) { return std::as_bytes(std::span(text)); }
bool contains(const std::vector<std::byte>& all, const std::string& text) {
    const ByteView some = bytes_of(text);
    return !std::ranges::search(all, some).empty();
}

TEST(TlsSession, BothSidesHaveTheKey) {
    Talk talk;
    talk.shake_hands();
    EXPECT_EQ(talk.asks_step, TlsStep::done) << talk.asks->wrong();
    EXPECT_EQ(talk.answers_step, TlsStep::done) << talk.answers->wrong();
    const std::string secret = "what only these two may know";
    ASSERT_TRUE(talk.asks->seal(bytes_of(secret)));
    talk.move(*talk.asks, *talk.answers, talk.asks_said);
    EXPECT_EQ(open_text(*talk.answers), secret);
    EXPECT_EQ(open_text(*talk.answers), "") << "there is nothing more";
    EXPECT_FALSE(contains(talk.asks_said, secret));
    EXPECT_TRUE(contains(talk.asks_said, "braid")) << "the key's name is no secret";
}

TEST(TlsSession, NothingIsLeftUnreadBehindAHandshake) {
    Talk talk;
    talk.shake_hands();
    EXPECT_EQ(open_text(*talk.asks), "");
    EXPECT_EQ(open_text(*talk.answers), "");
    EXPECT_EQ(talk.asks->sealed_size() + talk.answers->sealed_size(), 0U);
    EXPECT_EQ(talk.asks->room().size(), 128U << 10) << "no ticket was sent";
}

TEST(TlsSession, AnotherKeyIsRefusedByBoth) {
    ClusterKey other = our_key;
    other.back() ^= 1;
    Talk talk(our_key, other);
    talk.shake_hands();
    EXPECT_EQ(talk.answers_step, TlsStep::failed);
    EXPECT_EQ(talk.answers->wrong(), "has another key");
    EXPECT_EQ(talk.asks_step, TlsStep::failed);
    EXPECT_NE(talk.asks->wrong().find("refuses our key"), std::string::npos) << talk.asks->wrong();
}

TEST(TlsSession, AChangedByteOfTheHandshakeIsNoticed) {
    Talk whole;
    whole.shake_hands();
    const std::size_t size = whole.asks_said.size() + whole.answers_said.size();
    ASSERT_GT(size, 300U);
    std::size_t harmless = 0;
    for (std::size_t at = 0; at != size; ++at) {
        Talk talk;
        talk.flip = at;
        talk.shake_hands();
        if (talk.asks_step != TlsStep::done || talk.answers_step != TlsStep::done) continue;
        // Versions of records are not looked at (RFC 8446, 5.1), and mean nothing.
        ++harmless;
        ASSERT_TRUE(talk.asks->seal(bytes_of("text")));
        talk.flip = ~std::size_t{0};
        talk.move(*talk.asks, *talk.answers, talk.asks_said);
        EXPECT_EQ(open_text(*talk.answers), "text") << at;
    }
    EXPECT_LT(harmless, 20U);
}

TEST(TlsSession, AChangedByteOfARecordIsNoticed) {
    const std::string text(100, 'x');
    std::size_t size = 1;
    for (std::size_t at = 0; at != size; ++at) {
        Talk talk;
        talk.shake_hands();
        ASSERT_TRUE(talk.answers->seal(bytes_of(text)));
        size = talk.answers->sealed_size();
        talk.flip = talk.asks_said.size() + talk.answers_said.size() + at;
        talk.move(*talk.answers, *talk.asks, talk.answers_said);
        const std::string got = open_text(*talk.asks);
        if (at == 1 || at == 2) continue;  // the version: see above
        if (at == 3) {
            EXPECT_NE(got, text);  // the size: it waits for more, or it is too much
        } else {
            EXPECT_EQ(got, "error " + std::to_string(EBADMSG)) << at;
        }
    }
    EXPECT_GT(size, text.size());
}

TEST(TlsSession, ARecordThatComesAgainIsNoticed) {
    Talk talk;
    talk.shake_hands();
    ASSERT_TRUE(talk.asks->seal(bytes_of("pay")));
    const std::vector<std::byte> record = talk.asks->taken();
    give(*talk.answers, record);
    EXPECT_EQ(open_text(*talk.answers), "pay");
    give(*talk.answers, record);
    EXPECT_EQ(open_text(*talk.answers), "error " + std::to_string(EBADMSG));
}

TEST(TlsSession, AnySequenceOfBytesIsRefused) {
    for (std::uint64_t seed = 1; seed != 300; ++seed) {
        for (const TlsRole role : {TlsRole::asks, TlsRole::answers}) {
            const auto session = session_of(role);
            EXPECT_EQ(session->handshake(), TlsStep::needs_bytes);
            Buffer bytes = random_bytes(1 + seed * 37 % 3000, seed);
            if (seed % 3 == 0) {  // as if it were the beginning of a handshake
                bytes.data()[0] = std::byte{22};
                bytes.data()[1 % bytes.size()] = std::byte{3};
                bytes.data()[2 % bytes.size()] = std::byte{1};
            }
            give(*session, bytes.view());
            EXPECT_NE(session->handshake(), TlsStep::done) << seed;
        }
    }
}

// ---- refusals ------------------------------------------------------------------------------

class TlsRefusals : public testing::Test {
  protected:
    using Outcome = std::optional<Checked<std::unique_ptr<Connection>>>;
    static Task<void> make(NetWorld* world, Link* link) { *link = co_await make_link(world); }
    static Task<void> ask(std::unique_ptr<Connection> inner, ClusterKey key, Outcome* outcome) {
        outcome->emplace(co_await cluster::tls_connect(std::move(inner), key));
    }
    static Task<void> answer(std::unique_ptr<Connection> inner, ClusterKey key, Outcome* outcome) {
        outcome->emplace(co_await cluster::tls_accept(std::move(inner), key));
    }
    static Task<void> shake(NetWorld* world, Link* link, ClusterKey asks, ClusterKey answers,
                            Outcome* asked, Outcome* answered) {
        TaskGroup group(world->ready());
        group.spawn(ask(std::move(link->asker), asks, asked));
        group.spawn(answer(std::move(link->asked), answers, answered));
        co_await group.join();
    }
    enum class Says { at_once, when_it_has_heard_something };
    /// Says this and goes.
    static Task<void> say(std::unique_ptr<Connection> connection, std::string text, Says when) {
        Buffer heard(10'000);
        if (when == Says::when_it_has_heard_something) {
            const auto count = co_await receive(connection.get(), heard.span(), 1);
            EXPECT_TRUE(count);
        }
        const auto sent = co_await send(connection.get(), bytes_of(text));
        EXPECT_TRUE(sent);
    }
    void loop_spawn(Task<void> task) { world_.loop().tasks().spawn(std::move(task)); }
    /// Who is at the other end whoever asked says.
    void expect_refused(const Outcome& outcome, const std::string& why) {
        ASSERT_TRUE(outcome);
        ASSERT_FALSE(*outcome);
        const std::string& text = outcome->error().text;
        EXPECT_TRUE(text.starts_with(why)) << text;
        EXPECT_NE(text.find("same key file"), text.npos) << text;
    }
    void SetUp() override { world_.run(make(&world_, &link_)); }

    SimNetWorld<1> world_;
    Link link_;
    Outcome outcome_;
    Outcome other_;
};

TEST_F(TlsRefusals, AnotherKeyIsRefusedOnBothSides) {
    world_.run(shake(&world_, &link_, our_key, key_of(2), &outcome_, &other_));
    expect_refused(other_, "has another key");
    expect_refused(outcome_, "refuses our key");
}

TEST_F(TlsRefusals, PlainTextIsRefused) {
    loop_spawn(say(std::move(link_.asker), "GET / HTTP/1.1\r\n\r\n", Says::at_once));
    world_.run(answer(std::move(link_.asked), our_key, &outcome_));
    expect_refused(outcome_, "does not talk as the nodes of a cluster do");
}

TEST_F(TlsRefusals, APlainTextAnswerIsRefused) {
    loop_spawn(say(std::move(link_.asked), "HTTP/1.1 400 Bad Request\r\n\r\n",
                   Says::when_it_has_heard_something));
    world_.run(ask(std::move(link_.asker), our_key, &outcome_));
    expect_refused(outcome_, "does not talk as the nodes of a cluster do");
}

TEST_F(TlsRefusals, WhoSaysNothingAndGoesIsRefused) {
    link_.asker.reset();
    world_.run(answer(std::move(link_.asked), our_key, &outcome_));
    expect_refused(outcome_, "went away");
}

TEST_F(TlsRefusals, AnEndInTheMiddleIsRefused) {
    const auto session = session_of(TlsRole::asks);
    ASSERT_EQ(session->handshake(), TlsStep::needs_bytes);
    const std::vector<std::byte> hello = session->taken();
    for (const std::size_t size :
         {std::size_t{1}, std::size_t{5}, hello.size() / 2, hello.size()}) {
        SetUp();
        const std::string begin(reinterpret_cast<const char*>(hello.data()), size);
        loop_spawn(say(std::move(link_.asker), begin, Says::at_once));
        world_.run(answer(std::move(link_.asked), our_key, &outcome_));
        ASSERT_TRUE(outcome_);
        ASSERT_FALSE(*outcome_) << size;
        EXPECT_NE(outcome_->error().text.find("same key file"), std::string::npos);
    }
    SetUp();
    loop_spawn(say(std::move(link_.asked), std::string("\x16\x03\x03", 3),
                   Says::when_it_has_heard_something));
    world_.run(ask(std::move(link_.asker), our_key, &outcome_));
    ASSERT_FALSE(*outcome_);
    EXPECT_NE(outcome_->error().text.find("same key file"), std::string::npos);
}

/// As whoever bounds the time does it.
Task<void> shut_later(Connection* connection) {
    for (int i = 0; i != 10; ++i) {
        Yield yield;
        co_await yield;
    }
    connection->shut();
}
TEST_F(TlsRefusals, AHandshakeThatIsShutEnds) {
    loop_spawn(shut_later(link_.asked.get()));
    world_.run(answer(std::move(link_.asked), our_key, &outcome_));
    expect_refused(outcome_, "the connection broke");
    loop_spawn(shut_later(link_.asker.get()));
    world_.run(ask(std::move(link_.asker), our_key, &outcome_));
    expect_refused(outcome_, "the connection broke");
}

/// Changes the first byte behind the head of what is sent, from some time on.
class ChangingConnection final : public Connection {
  public:
    ChangingConnection(std::unique_ptr<Connection> inner, const bool* changes)
        : inner_(std::move(inner)), changes_(changes) {}
    const std::string& peer() const override { return inner_->peer(); }
    Task<Result<void>> send(std::span<const ByteView> parts) override {
        std::vector<std::byte> bytes;
        for (const ByteView part : parts) bytes.insert(bytes.end(), part.begin(), part.end());
        if (*changes_ && bytes.size() > 5) bytes[5] ^= std::byte{1};
        const ByteView part(bytes);
        co_return co_await inner_->send(std::span(&part, 1));
    }
    Task<Result<std::size_t>> receive(std::span<const ByteSpan> parts,
                                      std::size_t at_least) override {
        return inner_->receive(parts, at_least);
    }
    void shut() override { inner_->shut(); }

  private:
    std::unique_ptr<Connection> inner_;
    const bool* changes_;
};

Task<void> expect_change_noticed(NetWorld* world, Link link, bool* changes) {
    const Buffer part = random_bytes(much_part, 1);
    Buffer got(100);
    std::optional<Result<void>> sent;
    const auto good = co_await send(link.asker.get(), part.view().first(100));
    EXPECT_TRUE(good);
    const auto come = co_await receive(link.asked.get(), got.span(), got.size());
    EXPECT_TRUE(come);
    *changes = true;
    TaskGroup group(world->ready());
    group.spawn(send_much(link.asker.get(), part.view(), &sent));
    const auto changed = co_await receive(link.asked.get(), got.span(), 1);
    expect_fault(changed, EBADMSG);
    const auto more = co_await receive(link.asked.get(), got.span(), 1);
    expect_fault(more, EBADMSG);
    const auto answer = co_await send(link.asked.get(), got.view());
    expect_fault(answer, EBADMSG);
    co_await group.join();  // it is broken for the sender, too
    EXPECT_FALSE(sent->has_value());
}
TEST_F(TlsRefusals, WhatIsChangedOnTheWayBreaksTheConnection) {
    bool changes = false;
    link_.asker = std::make_unique<ChangingConnection>(std::move(link_.asker), &changes);
    world_.run(shake(&world_, &link_, our_key, our_key, &outcome_, &other_));
    ASSERT_TRUE(*outcome_ && *other_);
    Link link{std::move(**outcome_), std::move(**other_)};
    world_.run(expect_change_noticed(&world_, std::move(link), &changes));
}

}  // namespace
}  // namespace braid::test
