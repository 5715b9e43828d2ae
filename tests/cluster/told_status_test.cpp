// SPDX-License-Identifier: BSD-3-Clause
// What the node that decides tells others of walks comes as it was, and nothing else does.
#include "cluster/node/told_status.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

namespace braid::cluster {
namespace {

Geometry geometry() {
    Geometry geometry;
    geometry.member_count = 4;
    return geometry;
}

ToldStatus status() {
    ToldStatus status;
    status.version = {7, 3};
    WalkStatus walk;
    walk.kind = WalkKind::scrubbing;
    walk.position = 7;
    walk.end = 1000;
    walk.rate = 3;
    walk.repair = true;
    walk.mismatches = 2;
    walk.repaired = 1;
    walk.bytes_unknown = 4096;
    walk.throttle = 0.5;
    status.last_scrub = walk;
    walk.kind = WalkKind::rebuilding;
    walk.member = MemberIndex{3};
    walk.seconds_left = 9;
    status.walks.push_back(walk);
    status.waits.push_back({"spare", MemberIndex{1}, true, "rows are listed"});
    for (const std::uint32_t id : {1u, 2u}) {
        NodeStatus node;
        node.id = id;
        node.needed = id == 2;
        status.nodes.push_back(node);
    }
    return status;
}

/// As it is when it has come.
Words sent(const Words& words) { return Words::parse(words.dump()); }

TEST(ToldStatus, ComesAsItWas) {
    const Words words = sent(words_of(status()));
    const auto told = told_status_of(words, geometry());
    ASSERT_TRUE(told) << told.error().text;
    EXPECT_EQ(sent(words_of(*told)), words);
    EXPECT_EQ(told->version, (EpochRevision{7, 3}));
    EXPECT_EQ(told->walks.at(0).member, MemberIndex{3});
    EXPECT_EQ(told->walks.at(0).seconds_left, 9u);
    EXPECT_EQ(told->last_scrub->throttle, 0.5);
    EXPECT_EQ(told->waits.at(0).why, "rows are listed");
    EXPECT_FALSE(told->nodes.at(0).needed);
    EXPECT_TRUE(told->nodes.at(1).needed);
    const auto nothing = told_status_of(sent(words_of(ToldStatus{})), geometry());
    ASSERT_TRUE(nothing);
    EXPECT_TRUE(nothing->walks.empty() && nothing->waits.empty() && !nothing->last_scrub);
}

TEST(ToldStatus, WhatCannotBeIsRefused) {
    const auto refused = [](const char* list, const char* key, const Words& value) {
        Words words = words_of(status());
        words[list][0][key] = value;
        return !told_status_of(sent(words), geometry());
    };
    EXPECT_TRUE(refused("walks", "kind", 3));
    EXPECT_TRUE(refused("walks", "member", 4));
    EXPECT_TRUE(refused("walks", "position", -1));
    EXPECT_TRUE(refused("walks", "throttle", 1001));
    EXPECT_TRUE(refused("waits", "why", 5));
    EXPECT_TRUE(refused("waits", "member", "1"));
    Words words = sent(words_of(status()));
    EXPECT_TRUE(told_status_of(words, geometry()));
    words["walks"] = 1;
    EXPECT_FALSE(told_status_of(words, geometry()));
    words = sent(words_of(status()));
    words["last_scrub"] = "none";
    EXPECT_FALSE(told_status_of(words, geometry()));
}

}  // namespace
}  // namespace braid::cluster
