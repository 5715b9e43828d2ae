// SPDX-License-Identifier: BSD-3-Clause
// The header of messages between nodes: its bytes, and that whatever else arrives is refused.
#include <gtest/gtest.h>

#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "cluster/wire/heartbeat.h"
#include "cluster/wire/hello.h"
#include "cluster/wire/message_header.h"
#include "engine/base/crc32c.h"
#include "engine/layout/register.h"
#include "tests/engine/hex.h"

namespace braid::cluster {
namespace {

MessageHeader sample() {
    MessageHeader header;
    header.type = MessageType::stage;
    header.flags = message_flags::fua;
    header.sender = 31;
    header.boot = 0x1122334455667788;
    header.fence = 435200000007;
    header.number = 9;
    header.answers = 6;
    header.received = 5;
    header.finished = 8;
    header.applied_upto = 7;
    return header;
}

Buffer filled(std::size_t size) {
    Buffer bytes(size);
    for (std::size_t i = 0; i != size; ++i) bytes.data()[i] = static_cast<std::byte>(i * 7 + 1);
    return bytes;
}

Buffer changed(const Buffer& good, const std::function<void(MessageHeaderBytes&)>& change) {
    MessageHeaderBytes raw;
    Buffer bytes(good.size());
    std::memcpy(bytes.data(), good.data(), good.size());
    std::memcpy(&raw, bytes.data(), sizeof raw);
    change(raw);
    std::memcpy(bytes.data(), &raw, sizeof raw);
    raw.crc32c = crc32c(bytes.view().subspan(8));
    std::memcpy(bytes.data(), &raw, sizeof raw);
    return bytes;
}

Buffer encoded(const MessageHeader& header, const Buffer& body, const Buffer& payload,
               PayloadCheck check) {
    Buffer bytes(message_header_size + body.size());
    encode_message(header, body.view(), payload.view(), check, bytes.span());
    return bytes;
}

/// Header, body and payload, or the first reason why they are refused.
Checked<Message> decoded(ByteView bytes, ByteView payload) {
    BRAID_TRY(Message message, decode_message(bytes));
    BRAID_CHECK(check_payload(message, payload));
    return message;
}

TEST(MessageHeader, GoldenBytes) {
    const Buffer body = filled(4);
    const Buffer payload = filled(4096);
    const Buffer bytes = encoded(sample(), body, payload, PayloadCheck::crc);
    EXPECT_EQ(test::hex(bytes.view()),
              "4252444d"          //  0 "BRDM"
              "46c3de4b"          //  4 crc32c
              "0300"              //  8 version
              "0400"              // 10 type
              "0300"              // 12 flags
              "1f00"              // 14 sender
              "8877665544332211"  // 16 boot
              "0700f15365000000"  // 24 fence
              "0900000000000000"  // 32 number
              "0600000000000000"  // 40 answers
              "0500000000000000"  // 48 received
              "0800000000000000"  // 56 finished
              "0700000000000000"  // 64 applied_upto
              "04000000"          // 72 body_size
              "00100000"          // 76 payload_size
              "1b914f90"          // 80 payload_crc32c
              "00000000"          // 84 reserved
              "01080f16");        // 88 the body
}

TEST(MessageHeader, EveryTypeComesBack) {
    unsigned known = 0;
    for (std::uint16_t type = 0; type != 100; ++type) {
        if (!is_known(MessageType{type})) continue;
        ++known;
        for (const std::size_t rows : {0U, 1U, 3U}) {
            for (const PayloadCheck check : {PayloadCheck::none, PayloadCheck::crc}) {
                MessageHeader header = sample();
                header.type = MessageType{type};
                if (!is_numbered(header.type)) {
                    header.number = header.answers = header.applied_upto = 0;
                }
                const Buffer body = filled(type);
                const Buffer payload = filled(rows * 4096);
                const Buffer bytes = encoded(header, body, payload, check);
                const auto sizes = message_sizes(bytes.view().first(message_header_size));
                ASSERT_TRUE(sizes) << sizes.error().text;
                EXPECT_EQ(*sizes, (MessageSizes{type, static_cast<std::uint32_t>(rows * 4096)}));
                const auto back = decoded(bytes.view(), payload.view());
                ASSERT_TRUE(back) << back.error().text;
                EXPECT_EQ(back->header, header);
                EXPECT_EQ(test::hex(back->body), test::hex(body.view()));
            }
        }
    }
    EXPECT_EQ(known, 19U);
    for (const auto kept :
         {MessageType{5}, MessageType{6}, MessageType{7}, MessageType{8}, MessageType{10}}) {
        EXPECT_FALSE(is_known(kept));
    }
}

TEST(MessageHeader, AnyOtherLengthAndAnyOtherByteIsRefused) {
    const Buffer body = filled(12);
    const Buffer payload = filled(4096);
    const Buffer good = encoded(sample(), body, payload, PayloadCheck::crc);
    for (std::size_t size = 0; size != good.size(); ++size) {
        EXPECT_FALSE(decoded(good.view().first(size), payload.view())) << size;
        EXPECT_EQ(message_sizes(good.view().first(size)).has_value(), size >= message_header_size);
    }
    for (const std::size_t size : {0U, 1U, 4095U}) {
        EXPECT_FALSE(decoded(good.view(), payload.view().first(size))) << size;
    }
    for (std::size_t at = 0; at != good.size(); ++at) {
        for (const unsigned flip : {0x01U, 0x80U, 0xffU}) {
            Buffer bytes = changed(good, [](MessageHeaderBytes&) {});
            bytes.data()[at] ^= static_cast<std::byte>(flip);
            EXPECT_FALSE(decoded(bytes.view(), payload.view())) << at;
        }
    }
    Buffer other = filled(4096);
    other.data()[4095] ^= std::byte{1};
    EXPECT_FALSE(decoded(good.view(), other.view()));
}

TEST(MessageHeader, WhatIsWrongIsNamed) {
    struct Wrong {
        const char* what;
        std::function<void(MessageHeaderBytes&)> change;
    };
    const std::vector<Wrong> wrongs{
        {"BRDM", [](MessageHeaderBytes& h) { h.magic[3] = 'm'; }},
        {"version 4; this braid knows version 3", [](MessageHeaderBytes& h) { h.version = 4; }},
        {"type 5 ", [](MessageHeaderBytes& h) { h.type = 5; }},
        {"type 0 ", [](MessageHeaderBytes& h) { h.type = 0; }},
        {"flags 0x4 ", [](MessageHeaderBytes& h) { h.flags = 4; }},
        {"node 0;", [](MessageHeaderBytes& h) { h.sender = 0; }},
        {"node 32;", [](MessageHeaderBytes& h) { h.sender = nodes_max; }},
        {"fence", [](MessageHeaderBytes& h) { h.fence = epoch_max + 1; }},
        {"no boot", [](MessageHeaderBytes& h) { h.boot = 0; }},
        {"no number", [](MessageHeaderBytes& h) { h.number = 0; }},
        {"no answer", [](MessageHeaderBytes& h) { h.answers = 0; }},
        {"number 9 of", [](MessageHeaderBytes& h) { h.type = 16; }},
        {"cannot be an answer", [](MessageHeaderBytes& h) { h.type = 18, h.number = 0; }},
        {"without its flag", [](MessageHeaderBytes& h) { h.flags = 2; }},
        {"payload's CRC-32C is wrong", [](MessageHeaderBytes& h) { h.payload_crc32c = 1; }},
        {"reserved", [](MessageHeaderBytes& h) { h.reserved = 1; }},
        {"should have 93", [](MessageHeaderBytes& h) { h.body_size = 5; }},
        {"a body of 65537", [](MessageHeaderBytes& h) { h.body_size = 65537; }},
        {"a payload of 4097", [](MessageHeaderBytes& h) { h.payload_size = 4097; }},
        {"a payload of 16781312", [](MessageHeaderBytes& h) { h.payload_size = 16781312; }},
        {"should have 8192", [](MessageHeaderBytes& h) { h.payload_size = 8192; }},
    };
    const Buffer body = filled(4);
    const Buffer payload = filled(4096);
    const Buffer good = encoded(sample(), body, payload, PayloadCheck::crc);
    for (const Wrong& wrong : wrongs) {
        const Buffer bytes = changed(good, wrong.change);
        const auto result = decoded(bytes.view(), payload.view());
        ASSERT_FALSE(result) << wrong.what;
        EXPECT_NE(result.error().text.find(wrong.what), std::string::npos) << result.error().text;
    }
    const Buffer alone = encoded(sample(), body, Buffer(), PayloadCheck::crc);
    const Buffer flagged = changed(alone, [](MessageHeaderBytes& h) { h.flags = 3; });
    const auto result = decoded(flagged.view(), {});
    ASSERT_FALSE(result);
    EXPECT_NE(result.error().text.find("without a payload"), std::string::npos);
}

TEST(Hello, GoldenBytes) {
    Hello hello;
    hello.receiver = 3;
    hello.knows = 0x1122334455667788;
    hello.cluster = "lab";
    const std::vector<std::byte> bytes = encode_hello(hello);
    EXPECT_EQ(test::hex(ByteView(bytes)),
              "0300"              //  0 oldest
              "0300"              //  2 newest
              "0300"              //  4 receiver
              "0000"              //  6 kind
              "8877665544332211"  //  8 knows
              "6c6162");          // 16 the cluster's name
    const auto back = decode_hello(bytes);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(*back, hello);
}

TEST(Hello, WhatIsWrongIsNamed) {
    Hello hello;
    hello.cluster = "lab";
    const std::vector<std::byte> good = encode_hello(hello);
    const auto refused = [&](std::size_t at, int value) {
        std::vector<std::byte> bytes = good;
        bytes[at] = static_cast<std::byte>(value);
        const auto result = decode_hello(bytes);
        return result ? std::string() : result.error().text;
    };
    EXPECT_NE(refused(0, 4).find("versions 4 to 3"), std::string::npos);
    EXPECT_EQ(refused(6, 1), "") << "a heartbeat's";
    EXPECT_NE(refused(6, 2).find("of kind 2 are not known"), std::string::npos);
    EXPECT_NE(refused(7, 1).find("of kind 256 are not known"), std::string::npos);
    hello.kind = ConnectionKind::heartbeat;
    EXPECT_EQ(*decode_hello(encode_hello(hello)), hello);
    hello.knows = 1;
    EXPECT_FALSE(decode_hello(encode_hello(hello))) << "it has no session";
    EXPECT_NE(refused(16, 10).find("cannot be printed"), std::string::npos);
    for (std::size_t size = 0; size <= 16 + name_length_max + 1; ++size) {
        std::vector<std::byte> bytes = good;
        bytes.resize(size, std::byte{'x'});
        EXPECT_EQ(decode_hello(bytes).has_value(), size > 16 && size <= 16 + name_length_max);
    }
}

Heartbeat sample_heartbeat() {
    Heartbeat heartbeat;
    heartbeat.stamp = 0x1122334455667788;
    heartbeat.echo = 5;
    heartbeat.held = 6;
    heartbeat.hears = 0x80000006;
    heartbeat.flags = heartbeat_flags::extends | heartbeat_flags::asks | heartbeat_flags::leased;
    heartbeat.epoch = 8;
    heartbeat.promise = 9;
    return heartbeat;
}

TEST(Heartbeat, GoldenBytes) {
    const std::vector<std::byte> bytes = encode_heartbeat(sample_heartbeat());
    EXPECT_EQ(test::hex(ByteView(bytes)),
              "8877665544332211"    //  0 stamp
              "0500000000000000"    //  8 echo
              "0600000000000000"    // 16 held
              "06000080"            // 24 hears
              "07000000"            // 28 flags
              "0800000000000000"    // 32 epoch
              "0900000000000000");  // 40 promise
    const auto back = decode_heartbeat(bytes);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(*back, sample_heartbeat());
}

TEST(Heartbeat, WhatIsWrongIsNamed) {
    const std::vector<std::byte> good = encode_heartbeat(sample_heartbeat());
    const auto refused = [&](std::function<void(HeartbeatBytes&)> change) {
        HeartbeatBytes raw;
        std::memcpy(&raw, good.data(), sizeof raw);
        change(raw);
        std::vector<std::byte> bytes(sizeof raw);
        std::memcpy(bytes.data(), &raw, sizeof raw);
        const auto result = decode_heartbeat(bytes);
        return result ? std::string() : result.error().text;
    };
    const auto names = [&](std::function<void(HeartbeatBytes&)> change, const char* what) {
        const std::string why = refused(std::move(change));
        EXPECT_NE(why.find(what), std::string::npos) << why;
    };
    names([](HeartbeatBytes& h) { h.stamp = 0; }, "HEARTBEAT is refused: it has no stamp");
    names([](HeartbeatBytes& h) { h.echo = 0; }, "nothing was held");
    names([](HeartbeatBytes& h) { h.hears = 1; }, "no node 0");
    names([](HeartbeatBytes& h) { h.flags = 13; }, "flags 0x8 are not known");
    names([](HeartbeatBytes& h) { h.epoch = epoch_max + 1; }, "an epoch beyond any");
    names([](HeartbeatBytes& h) { h.promise = epoch_max + 1; }, "an epoch beyond any");
    for (std::size_t size = 0; size != 60; ++size) {
        std::vector<std::byte> bytes = good;
        bytes.resize(size);
        EXPECT_EQ(decode_heartbeat(bytes).has_value(), size == 48);
    }
}

TEST(Refused, GoldenBytes) {
    const std::vector<std::byte> bytes = encode_refused({RefusedCode::gone, "away"});
    EXPECT_EQ(test::hex(ByteView(bytes)),
              "0100"        //  0 code
              "0000"        //  2 reserved
              "61776179");  //  4 the reason
    const Refused gone{RefusedCode::gone, "away"};
    EXPECT_EQ(decode_refused(bytes), gone);
}

TEST(Refused, TheReasonIsShortAndPrintable) {
    const std::vector<std::byte> bytes =
        encode_refused({RefusedCode::other, "no \x1b[2J\n" + std::string(5000, 'x')});
    EXPECT_EQ(bytes.size(), 4 + refused_text_max);
    EXPECT_EQ(decode_refused(bytes).why.substr(0, 12), "no ?[2J?xxxx");
}

TEST(Refused, WhatIsNotKnownIsShownAndMeansNothingElse) {
    std::vector<std::byte> bytes = encode_refused({RefusedCode::gone, "away"});
    for (std::size_t size = 0; size != bytes.size(); ++size) {
        const Refused cut = decode_refused(ByteView(bytes).first(size));
        EXPECT_EQ(cut.code, size < 4 ? RefusedCode::other : RefusedCode::gone);
        EXPECT_EQ(cut.why.size(), size < 4 ? 0 : size - 4);
    }
    bytes[0] = std::byte{2};
    EXPECT_EQ(decode_refused(bytes), (Refused{RefusedCode::excluded, "away"}));
    bytes[0] = std::byte{3};
    EXPECT_EQ(decode_refused(bytes), (Refused{RefusedCode::other, "away"}));
    bytes[0] = std::byte{1};
    bytes[3] = std::byte{1};
    EXPECT_EQ(decode_refused(bytes), (Refused{RefusedCode::other, "away"}));
}

}  // namespace
}  // namespace braid::cluster
