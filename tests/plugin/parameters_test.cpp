// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/parameters.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <fstream>

#include "engine/base/limits.h"
#include "plugin/errors.h"

namespace braid::plugin {
namespace {

class ParametersTest : public testing::Test {
  protected:
    ParametersTest() {
        char name[] = "/tmp/braid-parameters-XXXXXX";
        folder_ = mkdtemp(name);
        for (const char* file : {"a", "b"}) std::ofstream(folder_ / file) << "x";
    }
    ~ParametersTest() override { std::filesystem::remove_all(folder_); }
    std::string path(const char* name) const { return (folder_ / name).string(); }
    std::string refusal(std::string_view key, std::string_view value) {
        const auto taken = parser_.take(key, value);
        EXPECT_FALSE(taken.has_value()) << key << "=" << value;
        return taken ? "" : taken.error().text;
    }
    void accept(std::string_view key, std::string_view value) {
        const auto taken = parser_.take(key, value);
        EXPECT_TRUE(taken.has_value()) << (taken ? "" : taken.error().text);
    }
    std::filesystem::path folder_;
    ParameterParser parser_;
};

#define EXPECT_SAYS(text, word) EXPECT_NE((text).find(word), std::string::npos) << (text)

TEST_F(ParametersTest, AllTogether) {
    accept("member", path("a"));
    accept("member", path("b"));
    accept("socket", path("s"));
    accept("volume", "data");
    accept("readonly", "true");
    accept("force", "off");
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_EQ(parameters->members, (std::vector{path("a"), path("b")}));
    EXPECT_EQ(parameters->socket, path("s"));
    EXPECT_EQ(parameters->volume, "data");
    EXPECT_TRUE(parameters->readonly);
    EXPECT_FALSE(parameters->force);
    EXPECT_FALSE(parameters->help);
}

TEST_F(ParametersTest, RelativePathsAreMadeAbsolute) {
    const auto before = std::filesystem::current_path();
    std::filesystem::current_path(folder_);
    accept("member", "a");
    accept("socket", "./s");
    std::filesystem::current_path(before);
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_EQ(parameters->members[0], path("a"));
    EXPECT_EQ(parameters->socket, path("s"));
}

TEST_F(ParametersTest, ANodeOfACluster) {
    EXPECT_SAYS(refusal("node", "0"), "the nodes of a cluster are 1 to 31");
    ParameterParser wrong;
    EXPECT_FALSE(wrong.take("node", "32"));
    ParameterParser word;
    EXPECT_FALSE(word.take("node", "two"));
    accept("config", path("cluster.toml"));
    EXPECT_SAYS(refusal("config", "other"), "given twice");
    const auto parameters = std::move(parser_).complete();
    ASSERT_FALSE(parameters);
    EXPECT_SAYS(parameters.error().text, "config= needs node=");
}

TEST_F(ParametersTest, WhatANodeOfAClusterIsNotTold) {
    const auto completed = [](std::vector<std::pair<const char*, std::string>> given) {
        ParameterParser parser;
        for (const auto& [key, value] : given) EXPECT_TRUE(parser.take(key, value)) << key;
        const auto parameters = std::move(parser).complete();
        return parameters ? std::string("node " + std::to_string(parameters->node))
                          : parameters.error().text;
    };
    EXPECT_EQ(completed({{"config", "c"}, {"node", "31"}}), "node 31");
    EXPECT_SAYS(completed({{"node", "2"}}), "node= needs config=");
    EXPECT_SAYS(completed({{"config", "c"}, {"node", "2"}, {"member", path("a")}}),
                "stand in its file");
    EXPECT_SAYS(completed({{"config", "c"}, {"node", "2"}, {"readonly", "true"}}), "a node alone");
    EXPECT_EQ(completed({{"config", "c"}, {"node", "2"}, {"force", "true"}}), "node 2");
    EXPECT_SAYS(completed({{"config", "c"}, {"node", "2"}, {"intent", "off"}}), "braid intent");
}

TEST_F(ParametersTest, BareWords) {
    accept("member", "readonly");
    accept("member", path("a"));
    EXPECT_SAYS(refusal("readonly", "true"), "twice");
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_TRUE(parameters->readonly);
    EXPECT_EQ(parameters->members.size(), 1u);
}

TEST_F(ParametersTest, UnknownOnesTeach) {
    EXPECT_SAYS(refusal("sokcet", "x"), "did you mean \"socket\"");
    EXPECT_SAYS(refusal("read-only", "x"), "did you mean \"readonly\"");
    const std::string other = refusal("colour", "x");
    EXPECT_SAYS(other, "\"colour\"");
    EXPECT_SAYS(other, "volume");
    EXPECT_EQ(other.find("did you mean"), std::string::npos);
    EXPECT_LT(refusal(std::string(100'000, 'k'), "x").size(), 500u);
}

TEST_F(ParametersTest, NothingTwice) {
    for (const char* key : {"socket", "volume"}) {
        accept(key, path("s").substr(0, 20));
        EXPECT_SAYS(refusal(key, "t"), "twice");
    }
    accept("intent_region", "1M");
    EXPECT_SAYS(refusal("intent_region", "1M"), "twice");
    for (const char* key : {"readonly", "force", "help", "intent"}) {
        accept(key, "false");
        EXPECT_SAYS(refusal(key, "true"), "twice");
    }
}

TEST_F(ParametersTest, OneFileIsOneMember) {
    accept("member", path("a"));
    EXPECT_SAYS(refusal("member", path("a")), "given twice");
    EXPECT_SAYS(refusal("member", folder_.string() + "/./a"), "given twice");
    std::filesystem::create_symlink(path("a"), path("link"));
    EXPECT_SAYS(refusal("member", path("link")), "one and the same");
    std::filesystem::create_hard_link(path("a"), path("hard"));
    EXPECT_SAYS(refusal("member", path("hard")), "one and the same");
    accept("member", path("b"));
}

TEST_F(ParametersTest, BadValues) {
    EXPECT_SAYS(refusal("readonly", "perhaps"), "perhaps");
    EXPECT_SAYS(refusal("member", path("absent")), "No such file");
    EXPECT_SAYS(refusal("member", ""), "needs a path");
    EXPECT_SAYS(refusal("volume", ""), "name");
    EXPECT_SAYS(refusal("socket", "/tmp/" + std::string(200, 'x')), "107");
}

TEST_F(ParametersTest, WriteIntent) {
    accept("member", path("a"));
    EXPECT_SAYS(refusal("intent_regoin", "1M"), "did you mean \"intent_region\"");
    for (const char* value : {"1", "65535", "1025G", "0"}) {
        EXPECT_SAYS(ParameterParser().take("intent_region", value).error().text, "64K to 1T");
    }
    EXPECT_SAYS(ParameterParser().take("intent_region", "lots").error().text, "for instance 64K");
    EXPECT_SAYS(ParameterParser().take("intent_region", "").error().text, "is not a size");
    EXPECT_SAYS(ParameterParser().take("intent", "maybe").error().text, "intent=on or intent=off");
    accept("intent", "off");
    accept("intent_region", "256M");
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_EQ(parameters->intent.on, false);
    EXPECT_EQ(parameters->intent.region, 256u << 20);
}

TEST_F(ParametersTest, RebuildDelay) {
    accept("member", path("a"));
    for (const char* value : {"", "-1", "10m", "1.5", "604801", "99999999999"}) {
        EXPECT_SAYS(ParameterParser().take("rebuild_delay", value).error().text,
                    "a number of seconds, 0 to 604800");
    }
    EXPECT_SAYS(refusal("rebuild_dealy", "1"), "did you mean \"rebuild_delay\"");
    EXPECT_EQ(Parameters().rebuild_delay, 600u);
    accept("rebuild_delay", "0");
    EXPECT_SAYS(refusal("rebuild_delay", "5"), "twice");
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_EQ(parameters->rebuild_delay, 0u);
}

TEST_F(ParametersTest, MemberTimeout) {
    accept("member", path("a"));
    for (const char* value : {"", "-1", "10s", "3601"}) {
        EXPECT_SAYS(ParameterParser().take("member_timeout", value).error().text,
                    "a number of seconds, 0 to 3600; 0: whatever it takes is waited for");
    }
    EXPECT_EQ(Parameters().member_timeout, 10u);
    accept("member_timeout", "3");
    EXPECT_SAYS(refusal("member_timeout", "3"), "twice");
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_EQ(parameters->member_timeout, 3u);
}

TEST_F(ParametersTest, ARegionIsAPowerOfTwo) {
    for (const char* value : {"100K", "96K", "65537", "3M"}) {
        const auto taken = ParameterParser().take("intent_region", value);
        ASSERT_FALSE(taken) << value;
        EXPECT_SAYS(taken.error().text, "power of two");
    }
    EXPECT_SAYS(ParameterParser().take("intent_region", "100K").error().text, "65536 and 131072");
    for (const char* value : {"64K", "128K", "1T", "65536"}) {
        EXPECT_TRUE(ParameterParser().take("intent_region", value)) << value;
    }
}

TEST_F(ParametersTest, PathsAreTheKernels) {
    // folder/link leads to folder/far/deep, so that link/.. is folder/far.
    std::filesystem::create_directories(folder_ / "far" / "deep");
    std::filesystem::create_directory_symlink(folder_ / "far" / "deep", folder_ / "link");
    std::ofstream(folder_ / "far" / "a") << "y";
    accept("member", (folder_ / "link" / ".." / "a").string());
    accept("member", path("a"));
    accept("socket", (folder_ / "link" / ".." / "s").string());
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_EQ(parameters->members, (std::vector{path("far/a"), path("a")}));
    EXPECT_EQ(parameters->socket, path("far/s"));
}

TEST_F(ParametersTest, AShortWayToADeepFolderIsASocketsPath) {
    const auto deep = folder_ / std::string(60, 'd') / std::string(60, 'e');
    std::filesystem::create_directories(deep);
    std::filesystem::create_directory_symlink(deep, folder_ / "short");
    accept("socket", path("short/s"));
    accept("member", path("a"));
    EXPECT_EQ(std::move(parser_).complete()->socket, path("short/s"));
}

TEST_F(ParametersTest, WhatIsNotSaidOfTheWriteIntentStays) {
    accept("member", path("a"));
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_FALSE(parameters->intent.on);
    EXPECT_FALSE(parameters->intent.region);
}

TEST_F(ParametersTest, MembersAreNeeded) {
    const auto parameters = std::move(parser_).complete();
    ASSERT_FALSE(parameters);
    EXPECT_SAYS(parameters.error().text, "no members");
}

TEST_F(ParametersTest, HelpNeedsNoMembers) {
    accept("member", "help");
    const auto parameters = std::move(parser_).complete();
    ASSERT_TRUE(parameters);
    EXPECT_TRUE(parameters->help);
}

TEST_F(ParametersTest, HelpNamesEachParameter) {
    for (const char* key : {"[member=]PATH", "socket=", "volume=", "intent=", "intent_region=",
                            "readonly=", "force=", "help"}) {
        EXPECT_SAYS(std::string(parameters_help), key);
    }
}

TEST(Errors, AreThoseThatNbdKnows) {
    EXPECT_EQ(to_errno({Errc::io}, IoKind::read), EIO);
    EXPECT_EQ(to_errno({Errc::failed}, IoKind::write), EIO);
    EXPECT_EQ(to_errno({Errc::unknown}, IoKind::read), EIO);
    EXPECT_EQ(to_errno({Errc::fenced}, IoKind::write), ESHUTDOWN);
    EXPECT_EQ(to_errno({Errc::readonly}, IoKind::zero), EROFS);
    EXPECT_EQ(to_errno({Errc::range}, IoKind::read), EINVAL);
    EXPECT_EQ(to_errno({Errc::range}, IoKind::write), ENOSPC);
    EXPECT_EQ(to_errno({Errc::full}, IoKind::write), ENOSPC);
    EXPECT_EQ(to_errno({Errc::full}, IoKind::zero), ENOSPC);
    EXPECT_EQ(to_errno({Errc::full}, IoKind::flush), ENOSPC);
    EXPECT_EQ(to_errno({Errc::unsupported}, IoKind::zero), EOPNOTSUPP);
}

}  // namespace
}  // namespace braid::plugin
