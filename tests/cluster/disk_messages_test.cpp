// SPDX-License-Identifier: BSD-3-Clause
// Operations on disks of other nodes and what became of them as messages: their bytes, that they
// come back, and that whatever else arrives is refused.
#include "cluster/homes/disk_messages.h"

#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "engine/base/limits.h"
#include "tests/cluster/message_kit.h"
#include "tests/engine/hex.h"

namespace braid::cluster {
namespace {

constexpr DiskOpKind kinds[] = {DiskOpKind::read, DiskOpKind::write, DiskOpKind::zero,
                                DiskOpKind::flush};

DiskCommand command_of(DiskOpKind kind) {
    DiskCommand command;
    command.kind = kind;
    command.disk = 5;
    if (kind == DiskOpKind::flush) return command;
    command.offset = 143360;
    command.size = 2 * row_size;
    command.may_free = kind == DiskOpKind::zero;
    if (kind != DiskOpKind::write) return command;
    command.fua = true;
    command.content = Buffer(command.size);
    for (std::size_t i = 0; i != command.content.size(); ++i) {
        command.content.data()[i] = static_cast<std::byte>(i * 7);
    }
    return command;
}

Checked<DiskCommand> decoded(const QueuedMessage& sent) {
    return decode_disk_command(arrived(sent), sent.payload);
}

TEST(DiskMessages, GoldenBytes) {
    const auto body = [](DiskOpKind kind) {
        const QueuedMessage sent = encode_disk_command(command_of(kind));
        return test::hex(ByteView(sent.body));
    };
    EXPECT_EQ(body(DiskOpKind::read),
              "05000000"            //  0 disk
              "00000000"            //  4 flags
              "0030020000000000"    //  8 offset
              "0020000000000000");  // 16 size
    EXPECT_EQ(body(DiskOpKind::write), "050000000000000000300200000000000020000000000000");
    EXPECT_EQ(body(DiskOpKind::zero),
              "05000000"            //  0 disk
              "01000000"            //  4 flags: may be freed
              "0030020000000000"    //  8 offset
              "0020000000000000");  // 16 size
    EXPECT_EQ(body(DiskOpKind::flush),
              "05000000"    //  0 disk
              "00000000");  //  4 reserved
    for (const DiskOpKind kind : kinds) {
        const QueuedMessage told = encode_disk_answer(kind, 6, ENODEV, Buffer(row_size));
        EXPECT_EQ(test::hex(ByteView(told.body)), "1300000000000000");
        EXPECT_EQ(told.header.answers, 6U);
        EXPECT_EQ(told.header.type, type_of_disk_op(kind));
        EXPECT_EQ(told.payload.size(), 0U) << "bytes that were not read are not sent";
    }
    EXPECT_EQ(static_cast<int>(type_of_disk_op(DiskOpKind::read)), 32);
    EXPECT_EQ(static_cast<int>(type_of_disk_op(DiskOpKind::write)), 33);
    EXPECT_EQ(static_cast<int>(type_of_disk_op(DiskOpKind::zero)), 34);
    EXPECT_EQ(static_cast<int>(type_of_disk_op(DiskOpKind::flush)), 35);
}

TEST(DiskMessages, EveryCommandComesBack) {
    for (const DiskOpKind kind : kinds) {
        for (const bool durable : {false, true}) {
            DiskCommand command = command_of(kind);
            command.fua = command.fua && durable;
            command.may_free = command.may_free && durable;
            const DiskCommand before = command;
            const QueuedMessage sent = encode_disk_command(std::move(command));
            EXPECT_EQ(sent.header.flags, before.fua ? message_flags::fua : 0);
            const auto after = decoded(sent);
            ASSERT_TRUE(after) << after.error().text;
            EXPECT_EQ(after->kind, kind);
            EXPECT_EQ(after->fua, before.fua);
            EXPECT_EQ(after->may_free, before.may_free);
            EXPECT_EQ(after->disk, before.disk);
            EXPECT_EQ(after->offset, before.offset);
            EXPECT_EQ(after->size, before.size);
            EXPECT_EQ(after->content, before.content);
        }
    }
}

TEST(DiskMessages, TheLastByteOfTheLargestMemberCanBeAsked) {
    EXPECT_TRUE(can_be_asked(member_size_max - row_size, row_size));
    EXPECT_TRUE(can_be_asked(0, member_size_max));
    EXPECT_FALSE(can_be_asked(member_size_max, row_size));
    EXPECT_FALSE(can_be_asked(row_size, member_size_max));
    EXPECT_FALSE(can_be_asked(~std::uint64_t{0} - (row_size - 1), row_size));
    EXPECT_FALSE(can_be_asked(0, 0));
    EXPECT_FALSE(can_be_asked(512, row_size));
    EXPECT_FALSE(can_be_asked(0, 512));
    DiskCommand command = command_of(DiskOpKind::read);
    command.size = message_payload_size_max;
    command.offset = member_size_max - command.size;
    EXPECT_TRUE(decoded(encode_disk_command(std::move(command))));
}

TEST(DiskMessages, WhatIsWrongWithACommandIsNamed) {
    using Wrong = WrongByte<DiskOpKind>;
    const std::vector<Wrong> wrongs{
        {DiskOpKind::read, 4, 1, "DISK_READ is refused: flags 0x1"},
        {DiskOpKind::read, 7, 0x80, "flags 0x80000000"},
        {DiskOpKind::read, 8, 1, "offset 143361"},
        {DiskOpKind::read, 9, 0x32, "offset 143872"},
        {DiskOpKind::read, 15, 0x10, "end behind the largest member"},
        {DiskOpKind::read, 15, 0xff, "end behind the largest member"},
        {DiskOpKind::read, 17, 0, "size 0 is not whole rows"},
        {DiskOpKind::read, 16, 1, "size 8193 is not whole rows"},
        {DiskOpKind::read, 19, 1, "size 16785408 is not whole rows, from one to 16777216 bytes"},
        {DiskOpKind::read, 23, 0x80, "is not whole rows"},
        {DiskOpKind::write, 4, 1, "DISK_WRITE is refused: flags 0x1"},
        {DiskOpKind::write, 8, 1, "offset 143361"},
        {DiskOpKind::write, 17, 0x30, "a payload of 8192 bytes, which should be 12288"},
        {DiskOpKind::write, 17, 0x10, "a payload of 8192 bytes, which should be 4096"},
        {DiskOpKind::write, 17, 0, "size 0 is not whole rows"},
        {DiskOpKind::zero, 4, 2, "DISK_ZERO is refused: flags 0x2"},
        {DiskOpKind::zero, 4, 3, "flags 0x3"},
        {DiskOpKind::zero, 8, 1, "offset 143361"},
        {DiskOpKind::zero, 19, 1, "size 16785408"},
        {DiskOpKind::flush, 4, 1, "DISK_FLUSH is refused: reserved"},
        {DiskOpKind::flush, 7, 1, "reserved"},
    };
    for (const Wrong& wrong : wrongs) {
        QueuedMessage sent = encode_disk_command(command_of(wrong.kind));
        sent.body.at(wrong.at) = std::byte{wrong.value};
        const auto back = decoded(sent);
        ASSERT_FALSE(back) << wrong.what;
        EXPECT_NE(back.error().text.find(wrong.what), std::string::npos) << back.error().text;
    }
}

TEST(DiskMessages, AnotherSizeFlagOrTypeIsRefused) {
    for (const DiskOpKind kind : kinds) {
        const QueuedMessage sent = encode_disk_command(command_of(kind));
        for (std::size_t size = 0; size <= sent.body.size() + 1; ++size) {
            if (size == sent.body.size()) continue;
            QueuedMessage other = sent;
            other.body.resize(size);
            const auto back = decoded(other);
            ASSERT_FALSE(back) << size;
            EXPECT_NE(back.error().text.find("its body has"), std::string::npos);
        }
        for (const std::uint64_t rows : {0U, 1U, 3U}) {
            QueuedMessage other = sent;
            other.payload = Buffer(rows * row_size);
            EXPECT_EQ(decoded(other).has_value(), kind != DiskOpKind::write && rows == 0);
        }
        if (kind == DiskOpKind::write) continue;
        QueuedMessage durable = sent;
        durable.header.flags = message_flags::fua;
        const auto back = decoded(durable);
        ASSERT_FALSE(back);
        EXPECT_NE(back.error().text.find("FUA"), std::string::npos) << back.error().text;
    }
    for (std::uint16_t type = 0; type != 100; ++type) {
        QueuedMessage sent = encode_disk_command(command_of(DiskOpKind::flush));
        sent.header.type = MessageType{type};
        const bool is_ours = type >= 32 && type <= 35;
        EXPECT_EQ(disk_op_of(MessageType{type}).has_value(), is_ours) << type;
        EXPECT_EQ(decoded(sent).has_value(), type == 35) << type;
    }
}

TEST(DiskMessages, AnswersComeBackAndOthersAreRefused) {
    for (const DiskOpKind kind : kinds) {
        for (const int os_error : {0, EIO, static_cast<int>(os_error_max)}) {
            QueuedMessage sent = encode_disk_answer(kind, 8, os_error, Buffer(2 * row_size));
            EXPECT_EQ(sent.payload.size(),
                      kind == DiskOpKind::read && os_error == 0 ? 2 * row_size : 0);
            const auto back = decode_disk_answer(kind, 2 * row_size, arrived(sent));
            ASSERT_TRUE(back) << back.error().text;
            EXPECT_EQ(*back, os_error);
            const std::size_t wrong_rows = sent.payload.size() == 0 ? 1 : 3;
            QueuedMessage other = sent;
            other.payload = Buffer(wrong_rows * row_size);
            EXPECT_FALSE(decode_disk_answer(kind, 2 * row_size, arrived(other)));
            other = sent;
            other.header.flags = message_flags::fua;
            EXPECT_FALSE(decode_disk_answer(kind, 2 * row_size, arrived(other)));
            for (const DiskOpKind another : kinds) {
                if (another == kind) continue;
                EXPECT_FALSE(decode_disk_answer(another, 2 * row_size, arrived(sent)));
            }
            for (const std::size_t at : {2U, 4U, 7U}) {  // an error beyond any; reserved
                other = sent;
                other.body[at] = std::byte{1};
                EXPECT_FALSE(decode_disk_answer(kind, 2 * row_size, arrived(other))) << at;
            }
            for (const std::size_t size : {0U, 7U, 9U}) {
                other = sent;
                other.body.resize(size);
                EXPECT_FALSE(decode_disk_answer(kind, 2 * row_size, arrived(other))) << size;
            }
        }
    }
}

}  // namespace
}  // namespace braid::cluster
