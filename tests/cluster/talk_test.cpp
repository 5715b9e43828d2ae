// SPDX-License-Identifier: BSD-3-Clause
// What nodes say to each other: in order, answered, and only what can be said.
#include "cluster/bus/talk.h"

#include <gtest/gtest.h>

#include <array>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "tests/sim/sim_net.h"

namespace braid::cluster {
namespace {

using sim::SimLoop;
using sim::SimNet;
using sim::SimNetwork;

/// Two of these talk to each other.
class Speaker final : private BusListener, private TalkListener {
  public:
    Speaker(SimNetwork& network, std::uint32_t id)
        : net_(network, host(id)), talk_(network.loop().ready(), *this) {
        Bus::Setup setup{network.loop().ready(),
                         network.loop(),
                         net_,
                         {id, id + 100},
                         "talk",
                         {address(id)},
                         {{3 - id, {address(3 - id)}}},
                         id,
                         std::nullopt,
                         talk_,
                         *this};
        bus_ = std::make_unique<Bus>(std::move(setup));
        talk_.bind(*bus_);
    }
    ~Speaker() override {
        talk_.abandon();
        bus_->abandon();
    }
    Bus& bus() { return *bus_; }
    Talk& talk() { return talk_; }
    std::vector<std::string> heard;
    std::vector<std::string> misheard;
    Event answer_now;

  private:
    static std::string host(std::uint32_t id) { return "10.0.0." + std::to_string(id); }
    static NetAddress address(std::uint32_t id) { return {AddressKind::ip4, host(id), 10810}; }
    void connected(std::uint32_t) override {}
    void disconnected(std::uint32_t, const std::string&) override {}
    void restarted(std::uint32_t) override {}
    void taken_for_gone(std::uint32_t, Goes) override {}
    void refused(const std::string&) override {}
    Task<Checked<Unit>> told(std::uint32_t, const Words& words) override {
        WordFields fields(words);
        const std::string what = fields.text("tell");
        BRAID_CO_CHECK(fields.check());
        if (what == "nonsense") co_return Refusal{"nothing is known by this name"};
        if (what == "slow") co_await answer_now.wait();
        heard.push_back(what);
        co_return Unit{};
    }
    Task<Checked<Words>> asked(std::uint32_t, const Words& words) override {
        WordFields fields(words);
        const std::string what = fields.text("ask");
        BRAID_CO_CHECK(fields.check());
        if (what == "late") co_await answer_now.wait();
        if (what == "no") co_return Refusal{"not today", RefusalCode::not_found};
        heard.push_back(what);
        co_return words;
    }
    void misunderstood(std::uint32_t, const std::string& why) override { misheard.push_back(why); }

    SimNet net_;
    Talk talk_;
    std::unique_ptr<Bus> bus_;
};

class TalkTest : public testing::Test {
  protected:
    TalkTest() {
        for (Speaker* speaker : {&one_, &two_}) {
            EXPECT_TRUE(loop_.run_until_done(speaker->bus().start()));
        }
        loop_.run_for(seconds(1));
    }
    ~TalkTest() override {
        loop_.crash([this] {
            for (auto& speaker : speakers_) speaker.reset();
        });
    }
    Checked<Words> ask(const char* what) {
        return loop_.run_until_done(one_.talk().ask(2, asking(what)));
    }
    void send(const std::string& text) {
        QueuedMessage message;
        message.header.type = MessageType::tell;
        const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
        message.body.assign(bytes, bytes + text.size());
        one_.bus().session(2).send(std::move(message));
        loop_.run_for(seconds(1));
    }

    SimLoop loop_{1};
    SimNetwork network_{loop_};
    std::array<std::unique_ptr<Speaker>, 2> speakers_{std::make_unique<Speaker>(network_, 1),
                                                      std::make_unique<Speaker>(network_, 2)};
    Speaker& one_{*speakers_[0]};
    Speaker& two_{*speakers_[1]};
};

TEST_F(TalkTest, WhatIsToldComesInOrderAndWhatIsAskedIsAnswered) {
    one_.talk().tell(2, telling("first"));
    one_.talk().tell(2, telling("second"));
    const Checked<Words> answer = ask("third");
    ASSERT_TRUE(answer) << answer.error().text;
    EXPECT_EQ(*answer, asking("third"));
    EXPECT_EQ(two_.heard, (std::vector<std::string>{"first", "second", "third"}));
    const Checked<Words> refused = ask("no");
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().text, "not today");
    EXPECT_EQ(refused.error().code, RefusalCode::not_found);
}

TEST_F(TalkTest, WhatIsToldSlowlyKeepsTheRestWaitingAndWhatIsAskedDoesNot) {
    one_.talk().tell(2, telling("slow"));
    one_.talk().tell(2, telling("behind"));
    loop_.run_for(seconds(1));
    EXPECT_TRUE(two_.heard.empty());
    two_.answer_now.set();
    loop_.run_for(seconds(1));
    EXPECT_EQ(two_.heard, (std::vector<std::string>{"slow", "behind"}));
    two_.answer_now.clear();
    auto late = one_.talk().ask(2, asking("late"));
    EXPECT_TRUE(ask("soon")) << "beside it";
    two_.answer_now.set();
    EXPECT_TRUE(loop_.run_until_done(std::move(late)));
}

TEST_F(TalkTest, WhoIsGivenUpAnswersNothingAnyMore) {
    auto cut = one_.talk().ask(2, asking("late"));
    loop_.run_for(seconds(1));
    one_.bus().give_up(2, GivenUp::gone);
    const Checked<Words> answer = loop_.run_until_done(std::move(cut));
    ASSERT_FALSE(answer);
    EXPECT_EQ(answer.error().code, RefusalCode::busy);
    EXPECT_FALSE(ask("soon")) << "nor is anything asked of it";
    loop_.run_for(seconds(20));
    EXPECT_FALSE(one_.bus().session(2).is_connected());
}

TEST_F(TalkTest, NonsenseIsNoticed) {
    send("no JSON");
    send("[1]");
    send("{}");
    send(R"({"tell":1})");
    send(R"({"tell":"nonsense"})");
    send(R"({"tell":)" + std::string(30'000, '[') + std::string(30'000, ']') + "}");
    ASSERT_EQ(two_.misheard.size(), 6u);
    EXPECT_NE(two_.misheard[2].find("\"tell\" is missing"), std::string::npos);
    EXPECT_NE(two_.misheard[3].find("\"tell\" is not a text"), std::string::npos);
    EXPECT_TRUE(two_.heard.empty());
    EXPECT_TRUE(ask("afterwards"));
}

TEST(WordFields, TheFirstThatIsWrongIsNamed) {
    const Words words = Words::parse(
        R"({"n":5,"big":18446744073709551615,"minus":-1,"t":"x","f":true,"o":{},"l":[1,2]})");
    WordFields good(words);
    EXPECT_EQ(good.number("n", 5), 5u);
    EXPECT_EQ(good.number("big"), ~std::uint64_t{0});
    EXPECT_EQ(good.text("t"), "x");
    EXPECT_TRUE(good.flag("f"));
    EXPECT_NE(good.object("o"), nullptr);
    EXPECT_EQ(good.list("l", 2).size(), 2u);
    EXPECT_TRUE(good.check());
    const auto wrong = [&](auto&& take, const char* says) {
        WordFields fields(words);
        take(fields);
        const auto checked = fields.check();
        ASSERT_FALSE(checked) << says;
        EXPECT_NE(checked.error().text.find(says), std::string::npos) << checked.error().text;
    };
    wrong([](WordFields& f) { f.number("n", 4); }, "\"n\" is not a number of 0 to 4");
    wrong([](WordFields& f) { f.number("minus"); }, "\"minus\" is not a number");
    wrong([](WordFields& f) { f.number("t"); }, "\"t\" is not a number");
    wrong([](WordFields& f) { f.text("n"); }, "\"n\" is not a text");
    wrong([](WordFields& f) { f.flag("n"); }, "\"n\" is not true or false");
    wrong([](WordFields& f) { f.object("l"); }, "\"l\" is not an object");
    wrong([](WordFields& f) { f.list("l", 1); }, "\"l\" is not a list of at most 1");
    wrong([](WordFields& f) { f.list("o", 1); }, "\"o\" is not a list");
    wrong(
        [](WordFields& f) {
            f.text("gone");
            f.text("n");
        },
        "\"gone\" is missing");
}

}  // namespace
}  // namespace braid::cluster
