// SPDX-License-Identifier: BSD-3-Clause
// Commands about nodes themselves: as they travel, and that whatever else comes is answered with
// what is wrong. The table of the sixteen in braid-protocol(7) names the words that there are.
#include "cluster/node/node_commands.h"

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace braid::cluster {
namespace {

constexpr std::uint64_t boot = 0xfedcba9876543210;

class NodeCommandsTest : public testing::Test {
  protected:
    Checked<Words> ask(std::uint32_t from, const Words& words) {
        return commands_.answer(from, words["ask"].get<std::string>(), words);
    }
    std::string refusal(const Words& words) {
        const Checked<Words> answer = ask(3, words);
        return answer ? "answered: " + answer->dump() : answer.error().text;
    }
    void is_refused(const Words& words, const char* why) {
        const std::string text = refusal(words);
        EXPECT_NE(text.find(why), std::string::npos) << words.dump() << ": " << text;
    }

    bool connected_{true};
    int killed_{0};
    NodeCommands commands_{{[this](std::uint32_t node) -> std::optional<CableCheckAnswer> {
                                if (!connected_) return std::nullopt;
                                return CableCheckAnswer{node, "10.0.0.1:10810"};
                            },
                            [] {
                                InquiryAnswer answer;
                                answer.node = 2;
                                answer.boot = boot;
                                answer.epoch = 9;
                                answer.nodes = {1, 2, 31};
                                return answer;
                            },
                            [this](std::uint32_t, const Kill& kill) -> Checked<Unit> {
                                if (kill.why.empty()) return Refusal{"there is no array"};
                                ++killed_;
                                return Unit{};
                            }}};
};

TEST_F(NodeCommandsTest, AsTheyTravel) {
    EXPECT_EQ(words_of(BlockRead{5, 6}),
              Words::parse(R"({"ask":"node_read","offset":5,"count":6})"));
    const BlockWrite write{7, {std::byte{0x0a}, std::byte{0xff}}};
    EXPECT_EQ(words_of(write), Words::parse(R"({"ask":"node_write","offset":7,"data":"0aff"})"));
    EXPECT_EQ(words_of(Negotiate{NegotiateStep::store, 8}),
              Words::parse(R"({"ask":"negotiate","step":"store","fence":8})"));
    EXPECT_EQ(words_of(Kill{9, "so"}), Words::parse(R"({"ask":"kill","boot":9,"why":"so"})"));
    EXPECT_EQ(*block_read_of(words_of(BlockRead{5, 6})), (BlockRead{5, 6}));
    EXPECT_EQ(*block_write_of(words_of(write)), write);
    for (const auto step : {NegotiateStep::prepare, NegotiateStep::store, NegotiateStep::adopt}) {
        EXPECT_EQ(*negotiate_of(words_of(Negotiate{step, 1})), (Negotiate{step, 1}));
    }
    EXPECT_EQ(*kill_of(words_of(Kill{boot, "so"})), (Kill{boot, "so"}));
}

TEST_F(NodeCommandsTest, TheAnswers) {
    EXPECT_EQ(*ask(3, asking("cable_check")),
              Words::parse(R"({"channel":3,"address":"10.0.0.1:10810"})"));
    const Checked<Words> about = ask(3, asking("inquiry"));
    EXPECT_EQ(*about,
              Words::parse(R"({"node":2,"boot":18364758544493064720,"booting":true,)"
                           R"("stopped":false,"decides":false,"epoch":9,"nodes":[1,2,31]})"));
    EXPECT_EQ(inquiry_answer_of(*about)->boot, boot);
    connected_ = false;
    is_refused(asking("cable_check"), "the session is over");
}

/// Each node has a block of its own, and what it writes comes back as it was.
TEST_F(NodeCommandsTest, BytesComeBack) {
    BlockWrite whole{0, std::vector<std::byte>(echo_block_size)};
    for (std::size_t i = 0; i != echo_block_size; ++i) {
        whole.data[i] = static_cast<std::byte>(i * 7 + i / 256);
    }
    ASSERT_TRUE(ask(3, words_of(whole)));
    EXPECT_EQ(*block_of(*ask(3, words_of(BlockRead{0, echo_block_size}))), whole.data);
    EXPECT_EQ(*block_of(*ask(1, words_of(BlockRead{0, echo_block_size}))),
              std::vector<std::byte>(echo_block_size));
    ASSERT_TRUE(ask(3, words_of(BlockWrite{4095, {std::byte{1}}})));
    whole.data[4095] = std::byte{1};
    EXPECT_EQ(*block_of(*ask(3, words_of(BlockRead{0, echo_block_size}))), whole.data);
    commands_.forget(3);
    EXPECT_EQ(*block_of(*ask(3, words_of(BlockRead{4095, 1}))), std::vector<std::byte>(1));
}

TEST_F(NodeCommandsTest, WhatIsWrongIsNamed) {
    const auto wrong = [&](const char* text, const char* why) {
        is_refused(Words::parse(text), why);
    };
    wrong(R"({"ask":"node_read","count":1})", "\"offset\" is missing");
    wrong(R"({"ask":"node_read","offset":4096,"count":1})",
          "\"offset\" is not a number of 0 to 4095");
    wrong(R"({"ask":"node_read","offset":0,"count":0})", "\"count\" is not at least one");
    wrong(R"({"ask":"node_read","offset":0,"count":4097})",
          "\"count\" is not a number of 0 to 4096");
    wrong(R"({"ask":"node_read","offset":4095,"count":2})",
          "bytes 4095 to 4097 are beyond a block");
    wrong(R"({"ask":"node_write","offset":0})", "\"data\" is missing");
    for (const char* data : {"", "0", "0g", "0 ", "+1"}) {
        Words words = words_of(BlockWrite{0, {std::byte{1}}});
        words["data"] = data;
        is_refused(words, "1 to 4096 bytes in hexadecimal");
    }
    is_refused(words_of(BlockWrite{0, std::vector<std::byte>(4097)}), "in hexadecimal");
    is_refused(words_of(BlockWrite{4095, std::vector<std::byte>(2)}), "beyond a block");
    wrong(R"({"ask":"negotiate","step":"jump","fence":1})",
          "\"step\" is not a step of the barrier");
    wrong(R"({"ask":"negotiate","step":"adopt","fence":-1})", "\"fence\" is not a number");
    is_refused(words_of(Negotiate{NegotiateStep::adopt, 8}), "fence 8 cannot begin");
    wrong(R"({"ask":"kill","boot":1})", "\"why\" is missing");
    is_refused(words_of(Kill{boot - 1, "so"}), "for another start of this node");
    is_refused(words_of(Kill{boot, ""}), "there is no array");
    EXPECT_EQ(killed_, 0);
    EXPECT_TRUE(ask(3, words_of(Kill{boot, "so"})));
    EXPECT_EQ(killed_, 1);
}

TEST(RebuildNotices, HaveTheirNames) {
    EXPECT_STREQ(word_of_event("rebuild_received", false), "inform_rebuild_received");
    EXPECT_STREQ(word_of_event("rebuild_started", false), "inform_rebuild_started");
    EXPECT_STREQ(word_of_event("rebuild_done", false), "inform_rebuild_completed");
    EXPECT_STREQ(word_of_event("clean", true), "inform_rebuilt_all");
    EXPECT_STREQ(word_of_event("damaged", true), "inform_rebuilt_all");
    EXPECT_STREQ(word_of_event("clean", false), "event") << "after a resync";
    EXPECT_STREQ(word_of_event("degraded", true), "event");
    for (const char* word : {"event", "inform_rebuild_received", "inform_rebuild_started",
                             "inform_rebuild_completed", "inform_rebuilt_all"}) {
        EXPECT_TRUE(is_event(word));
    }
    EXPECT_FALSE(is_event("inform_rebuild_status") || is_event("status") || is_event(""));
}

/// One row for each command, whose word is that of the code.
TEST(NodeCommandTable, ThePageHasAllSixteen) {
    std::ifstream file(std::string(BRAID_SOURCE_DIR) + "/man/braid-protocol.pod");
    std::stringstream text;
    text << file.rdbuf();
    const std::string page = text.str();
    const std::size_t begin = page.find("=head1 NODE COMMANDS");
    ASSERT_NE(begin, std::string::npos);
    const std::string part = page.substr(begin, page.find("=head1", begin + 1) - begin);
    const std::vector<std::pair<std::string, std::string>> rows{
        {"cable check", node_words::cable_check},
        {"node read", node_words::node_read},
        {"node write", node_words::node_write},
        {"negotiate", node_words::negotiate},
        {"kill", node_words::kill},
        {"reserve", node_words::reservation},
        {"release", node_words::reservation},
        {"inform rebuild received", node_words::rebuild_received},
        {"inform master rebuild received", node_words::rebuild_ordered},
        {"rebuild", node_words::rebuild},
        {"inform rebuild started", node_words::rebuild_started},
        {"inform status", node_words::rebuild_status},
        {"inform rebuild completed", node_words::rebuild_completed},
        {"inform rebuilt all", node_words::rebuilt_all},
        {"heartbeat", "HEARTBEAT"},
        {"inquiry", node_words::inquiry},
    };
    EXPECT_EQ(rows.size(), 16u);
    for (const auto& [name, word] : rows) {
        const std::size_t at = part.find("\n " + name + "  ");
        ASSERT_NE(at, std::string::npos) << name;
        const std::string line = part.substr(at + 1, part.find('\n', at + 1) - at - 1);
        EXPECT_NE(line.find(word), std::string::npos) << line;
    }
}

}  // namespace
}  // namespace braid::cluster
