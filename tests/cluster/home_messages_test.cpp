// SPDX-License-Identifier: BSD-3-Clause
// Commands to a home and its answers as messages: their bytes, that they come back, and that
// whatever else arrives is refused.
#include "cluster/homes/home_messages.h"

#include <gtest/gtest.h>

#include <functional>
#include <string>
#include <tuple>
#include <vector>

#include "engine/layout/configuration.h"
#include "tests/cluster/message_kit.h"
#include "tests/engine/hex.h"

namespace braid::cluster {
namespace {

constexpr NodeBoot sender{2, 77};

/// RAID-6 of six members: 100 stripes of 64 KiB strips, so 100 windows of 16 rows.
Geometry geometry() {
    Configuration configuration;
    configuration.level = Level::raid6;
    configuration.member_count = 6;
    configuration.strip_size = 64u << 10;
    configuration.stripes = 100;
    return Geometry::of(configuration);
}

HomeCommand command_of(HomeCommandKind kind) {
    HomeCommand command;
    command.kind = kind;
    command.id = {sender, 0};
    command.finished = 3;
    switch (kind) {
        case HomeCommandKind::read:
            command.member = MemberIndex{5};
            command.first = RowIndex{1599};
            command.count = 1;
            break;
        case HomeCommandKind::lock:
            command.id.sequence = 9;
            command.at = {WindowIndex{99}, 0x8001};
            command.mode = LockMode::shared;
            break;
        case HomeCommandKind::stage:
            command.id.sequence = 10;
            command.at = {WindowIndex{7}, 0x30};
            command.member = MemberIndex{1};
            command.participants.add(MemberIndex{1});
            command.participants.add(MemberIndex{5});
            command.content = Buffer(2 * row_size);
            break;
        case HomeCommandKind::flush:
            command.member = MemberIndex{4};
            break;
        case HomeCommandKind::decide:
        case HomeCommandKind::drop:
            command.id.sequence = 11;
            break;
        case HomeCommandKind::unlock:
            command.id.sequence = 9;
            command.rebuilt = {{MemberIndex{3}, WindowIndex{100}}};
            break;
        case HomeCommandKind::progress:
        case HomeCommandKind::settled:
        case HomeCommandKind::finished:
            break;
    }
    return command;
}

constexpr HomeCommandKind kinds[] = {HomeCommandKind::read,     HomeCommandKind::lock,
                                     HomeCommandKind::stage,    HomeCommandKind::flush,
                                     HomeCommandKind::progress, HomeCommandKind::settled,
                                     HomeCommandKind::decide,   HomeCommandKind::drop,
                                     HomeCommandKind::unlock,   HomeCommandKind::finished};

TEST(HomeMessages, GoldenBytes) {
    const auto body = [](HomeCommandKind kind) {
        const QueuedMessage sent = encode_command(command_of(kind));
        return test::hex(ByteView(sent.body));
    };
    EXPECT_EQ(body(HomeCommandKind::read),
              "05000000"            //  0 member
              "01000000"            //  4 count
              "3f06000000000000");  //  8 first
    EXPECT_EQ(body(HomeCommandKind::lock),
              "0900000000000000"  //  0 claim
              "6300000000000000"  //  8 window
              "0180000000000000"  // 16 rows
              "01000000"          // 24 mode
              "00000000");        // 28 reserved
    EXPECT_EQ(body(HomeCommandKind::stage),
              "0a00000000000000"  //  0 write
              "0700000000000000"  //  8 window
              "3000000000000000"  // 16 rows
              "2200000000000000"  // 24 participants
              "01000000"          // 32 member
              "00000000");        // 36 flags
    EXPECT_EQ(body(HomeCommandKind::flush), "0400000000000000");
    EXPECT_EQ(body(HomeCommandKind::decide),
              "01000000"            //  0 what
              "00000000"            //  4 member
              "0b00000000000000");  //  8 value
    EXPECT_EQ(body(HomeCommandKind::drop), "02000000000000000b00000000000000");
    EXPECT_EQ(body(HomeCommandKind::unlock),
              "03000000030000006400000000000000"
              "04000000000000000900000000000000");
    HomeCommand lock_read = command_of(HomeCommandKind::lock);
    lock_read.member = MemberIndex{4};
    lock_read.with_lock = 1;
    const QueuedMessage both = encode_command(std::move(lock_read));
    EXPECT_EQ(both.header.type, MessageType::lock_read);
    EXPECT_EQ(test::hex(ByteView(both.body).subspan(24)),
              "01000000"            // 24 mode
              "00000000"            // 28 reserved
              "04000000"            // 32 member
              "00000000"            // 36 reserved
              "0100000000000000");  // 40 read
    EXPECT_EQ(body(HomeCommandKind::progress), "");
    EXPECT_EQ(body(HomeCommandKind::settled), "");
    EXPECT_EQ(body(HomeCommandKind::finished), "");
    HomeCommand zeroes = command_of(HomeCommandKind::stage);
    zeroes.content = Buffer();
    zeroes.may_free = true;
    const QueuedMessage sent = encode_command(std::move(zeroes));
    EXPECT_EQ(test::hex(ByteView(sent.body).subspan(36)), "03000000") << "zeroes, may be freed";

    HomeAnswer answer;
    answer.result = {DriveOutcome::lost, ENODEV};
    answer.applied_upto = 5;
    const QueuedMessage told = encode_answer(HomeCommandKind::flush, 6, answer, Buffer());
    EXPECT_EQ(test::hex(ByteView(told.body)), "0200000013000000");
    EXPECT_EQ(told.header.type, MessageType::flush);
    EXPECT_EQ(told.header.answers, 6U);
    EXPECT_EQ(told.header.applied_upto, 5U);
    HomeAnswer granted;
    granted.rebuilt = {{MemberIndex{2}, WindowIndex{1}}};
    const QueuedMessage grant = encode_answer(HomeCommandKind::lock, 6, granted, Buffer());
    EXPECT_EQ(test::hex(ByteView(grant.body)), "000000000000000002000000000000000100000000000000");
}

TEST(HomeMessages, EveryCommandComesBack) {
    const Geometry shape = geometry();
    for (const HomeCommandKind kind : kinds) {
        HomeCommand command = command_of(kind);
        for (std::size_t i = 0; i != command.content.size(); ++i) {
            command.content.data()[i] = static_cast<std::byte>(i);
        }
        const HomeCommand before = command;
        const QueuedMessage sent = encode_command(std::move(command));
        const auto back = decode_command(arrived(sent), sent.payload, sender, shape);
        ASSERT_TRUE(back) << back.error().text;
        ASSERT_EQ(back->size(), 1U);
        const HomeCommand& after = back->front();
        EXPECT_EQ(after.kind, kind);
        EXPECT_EQ(after.id, before.id);
        EXPECT_EQ(after.finished, before.finished);
        EXPECT_EQ(after.member, before.member);
        EXPECT_EQ(after.first, before.first);
        EXPECT_EQ(after.count, before.count);
        EXPECT_EQ(after.at, before.at);
        EXPECT_EQ(after.mode, before.mode);
        EXPECT_EQ(after.participants, before.participants);
        EXPECT_EQ(after.content, before.content);
        ASSERT_EQ(after.rebuilt.size(), before.rebuilt.size());
        for (std::size_t i = 0; i != after.rebuilt.size(); ++i) {
            EXPECT_EQ(after.rebuilt[i].member, before.rebuilt[i].member);
            EXPECT_EQ(after.rebuilt[i].upto, before.rebuilt[i].upto);
        }
    }
}

TEST(HomeMessages, WhatEndsTogetherIsOneMessage) {
    QueuedMessage sent = encode_command(command_of(HomeCommandKind::decide));
    sent.header.finished = 2;
    EXPECT_FALSE(add_to(nullptr, command_of(HomeCommandKind::drop)));
    EXPECT_FALSE(add_to(&sent, command_of(HomeCommandKind::read))) << "it is answered";
    EXPECT_TRUE(add_to(&sent, command_of(HomeCommandKind::unlock)));
    EXPECT_TRUE(add_to(&sent, command_of(HomeCommandKind::drop)));
    HomeCommand finished = command_of(HomeCommandKind::finished);
    finished.finished = 5;
    EXPECT_TRUE(add_to(&sent, finished));
    const auto back = decode_command(arrived(sent), Buffer(), sender, geometry());
    ASSERT_TRUE(back) << back.error().text;
    ASSERT_EQ(back->size(), 3U);
    EXPECT_EQ((*back)[0].kind, HomeCommandKind::decide);
    EXPECT_EQ((*back)[1].kind, HomeCommandKind::unlock);
    EXPECT_EQ((*back)[1].rebuilt.size(), 1U);
    EXPECT_EQ((*back)[2].kind, HomeCommandKind::drop);
    for (const HomeCommand& one : *back) EXPECT_EQ(one.finished, 5U);
    QueuedMessage other = encode_command(command_of(HomeCommandKind::stage));
    EXPECT_FALSE(add_to(&other, command_of(HomeCommandKind::drop))) << "that ends nothing";
}

TEST(HomeMessages, AMessageEndsNoMoreThanItMay) {
    QueuedMessage sent = encode_command(command_of(HomeCommandKind::decide));
    for (std::size_t ends = 1; ends != message_ends_max; ++ends) {
        ASSERT_TRUE(add_to(&sent, command_of(HomeCommandKind::decide))) << ends;
    }
    EXPECT_FALSE(add_to(&sent, command_of(HomeCommandKind::decide)));
    EXPECT_TRUE(decode_command(arrived(sent), Buffer(), sender, geometry()));
    const std::vector<std::byte> one(sent.body.begin(), sent.body.begin() + sizeof(EndBytes));
    sent.body.insert(sent.body.end(), one.begin(), one.end());
    EXPECT_FALSE(decode_command(arrived(sent), Buffer(), sender, geometry()));
}

TEST(HomeMessages, ALockBringsRowsOrDoesNot) {
    HomeCommand command = command_of(HomeCommandKind::lock);
    command.member = MemberIndex{4};
    command.with_lock = 0x8000;
    const QueuedMessage sent = encode_command(std::move(command));
    const auto back = decode_command(arrived(sent), Buffer(), sender, geometry());
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(back->front().kind, HomeCommandKind::lock);
    EXPECT_EQ(back->front().member, MemberIndex{4});
    EXPECT_EQ(back->front().with_lock, 0x8000U);
    for (const auto& [at, value, what] : {std::tuple{32, 6, "there is no member 6"},
                                          {36, 1, "reserved"},
                                          {40, 2, "rows 0x8002 with a lock of 0x8001"},
                                          {41, 0, "rows 0x0 with a lock"}}) {
        QueuedMessage wrong = sent;
        wrong.body[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
        const auto refused = decode_command(arrived(wrong), Buffer(), sender, geometry());
        ASSERT_FALSE(refused) << what;
        EXPECT_NE(refused.error().text.find(what), std::string::npos) << refused.error().text;
    }
    HomeAnswer granted;
    granted.has_bytes = true;
    const QueuedMessage with = encode_answer(HomeCommandKind::lock, 6, granted, Buffer(row_size));
    const auto come = decode_answer(HomeCommandKind::lock, row_size, arrived(with), geometry());
    ASSERT_TRUE(come) << come.error().text;
    EXPECT_TRUE(come->has_bytes);
    EXPECT_FALSE(decode_answer(HomeCommandKind::lock, 0, arrived(with), geometry()))
        << "nobody asked for them";
    EXPECT_FALSE(decode_answer(HomeCommandKind::lock, 2 * row_size, arrived(with), geometry()));
    granted.has_bytes = false;
    const QueuedMessage without =
        encode_answer(HomeCommandKind::lock, 6, granted, Buffer(row_size));
    EXPECT_EQ(without.payload.size(), 0U) << "what was not read is not sent";
    const auto bare = decode_answer(HomeCommandKind::lock, row_size, arrived(without), geometry());
    ASSERT_TRUE(bare) << bare.error().text;
    EXPECT_FALSE(bare->has_bytes);
}

TEST(HomeMessages, WhatIsWrongWithACommandIsNamed) {
    using Wrong = WrongByte<HomeCommandKind>;
    const std::vector<Wrong> wrongs{
        {HomeCommandKind::read, 0, 6, "READ is refused: there is no member 6"},
        {HomeCommandKind::read, 4, 2, "rows 1599 and 2 on of a member of 1600"},
        {HomeCommandKind::read, 4, 0, "rows 1599 and 0 on"},
        {HomeCommandKind::read, 15, 0x80, "of a member of 1600"},
        {HomeCommandKind::lock, 0, 0, "its id is 0"},
        {HomeCommandKind::lock, 8, 100, "there is no window 100"},
        {HomeCommandKind::lock, 18, 1, "rows 0x18001 of a window of 16"},
        {HomeCommandKind::lock, 24, 2, "mode 2"},
        {HomeCommandKind::lock, 28, 1, "reserved"},
        {HomeCommandKind::stage, 0, 0, "its id is 0"},
        {HomeCommandKind::stage, 8, 200, "there is no window 200"},
        {HomeCommandKind::stage, 16, 0x31, "8192 bytes for 3 rows"},
        {HomeCommandKind::stage, 16, 0, "rows 0x0"},
        {HomeCommandKind::stage, 24, 0x20, "not one of the participants"},
        {HomeCommandKind::stage, 24, 0x62, "there is no member 6"},
        {HomeCommandKind::stage, 32, 7, "there is no member 7"},
        {HomeCommandKind::stage, 36, 1, "8192 bytes for 2 rows"},
        {HomeCommandKind::stage, 36, 2, "cannot be given back"},
        {HomeCommandKind::stage, 36, 4, "flags 0x4"},
        {HomeCommandKind::flush, 0, 6, "there is no member 6"},
        {HomeCommandKind::flush, 4, 1, "reserved"},
        {HomeCommandKind::decide, 0, 0, "an end of kind 0"},
        {HomeCommandKind::decide, 0, 5, "an end of kind 5"},
        {HomeCommandKind::decide, 0, 3, "nothing is unlocked"},
        {HomeCommandKind::decide, 4, 1, "reserved"},
        {HomeCommandKind::decide, 8, 0, "its id is 0"},
        {HomeCommandKind::unlock, 4, 6, "there is no member 6"},
        {HomeCommandKind::unlock, 8, 101, "window 101 is behind the last"},
        {HomeCommandKind::unlock, 24, 0, "its id is 0"},
    };
    for (const Wrong& wrong : wrongs) {
        QueuedMessage sent = encode_command(command_of(wrong.kind));
        sent.body.at(wrong.at) = std::byte{wrong.value};
        const auto back = decode_command(arrived(sent), sent.payload, sender, geometry());
        ASSERT_FALSE(back) << wrong.what;
        EXPECT_NE(back.error().text.find(wrong.what), std::string::npos) << back.error().text;
    }
}

TEST(HomeMessages, AnotherSizeIsRefused) {
    for (const HomeCommandKind kind : kinds) {
        const QueuedMessage sent = encode_command(command_of(kind));
        for (std::size_t size = 0; size <= sent.body.size() + 1; ++size) {
            if (size == sent.body.size()) continue;
            QueuedMessage other = sent;
            other.body.resize(size);
            EXPECT_FALSE(decode_command(arrived(other), other.payload, sender, geometry()))
                << name_of(type_of(kind)) << " with " << size;
        }
        if (kind == HomeCommandKind::stage) continue;
        EXPECT_FALSE(decode_command(arrived(sent), Buffer(row_size), sender, geometry()));
    }
    QueuedMessage hello;
    hello.header.type = MessageType::hello;
    EXPECT_FALSE(decode_command(arrived(hello), Buffer(), sender, geometry()));
}

TEST(HomeMessages, AnswersComeBackAndOthersAreRefused) {
    HomeAnswer done;
    done.applied_upto = 4;
    const QueuedMessage sent = encode_answer(HomeCommandKind::read, 8, done, Buffer(row_size));
    const auto back = decode_answer(HomeCommandKind::read, row_size, arrived(sent), geometry());
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_TRUE(back->result.ok());
    EXPECT_EQ(back->applied_upto, 4U);
    EXPECT_FALSE(decode_answer(HomeCommandKind::read, 2 * row_size, arrived(sent), geometry()));
    EXPECT_FALSE(decode_answer(HomeCommandKind::flush, 0, arrived(sent), geometry()));
    HomeAnswer failed;
    failed.result = {DriveOutcome::failed, EIO};
    const QueuedMessage bad = encode_answer(HomeCommandKind::read, 8, failed, Buffer(row_size));
    EXPECT_EQ(bad.payload.size(), 0U) << "bytes that were not read are not sent";
    const auto told = decode_answer(HomeCommandKind::read, row_size, arrived(bad), geometry());
    ASSERT_TRUE(told) << told.error().text;
    EXPECT_EQ(told->result.outcome, DriveOutcome::failed);
    EXPECT_EQ(told->result.os_error, EIO);
    for (const auto& [at, value] : {std::pair{0, 4}, {0, 0}, {5, 0x10}, {4, 0}}) {
        QueuedMessage wrong = bad;
        wrong.body[static_cast<std::size_t>(at)] = static_cast<std::byte>(value);
        EXPECT_FALSE(decode_answer(HomeCommandKind::read, row_size, arrived(wrong), geometry()))
            << at << ' ' << value;
    }
}

}  // namespace
}  // namespace braid::cluster
