// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a message between nodes, as they are and with the checksum made right: refused with
// a reason, or decoded to a header that keeps every rule and that re-encodes to the same bytes. The
// same for the bodies: commands to a home and to a disk, their answers, HELLO, HEARTBEAT.
#include <algorithm>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/link.h"
#include "cluster/homes/disk_messages.h"
#include "cluster/homes/home_messages.h"
#include "cluster/wire/heartbeat.h"
#include "cluster/wire/hello.h"
#include "cluster/wire/message_header.h"
#include "engine/base/crc32c.h"
#include "engine/layout/configuration.h"
#include "engine/layout/register.h"

using namespace braid;
using namespace braid::cluster;

namespace {

/// RAID-6 of six members, two windows in each of 100 stripes.
const Geometry& geometry() {
    static const Geometry shape = [] {
        Configuration configuration;
        configuration.level = Level::raid6;
        configuration.member_count = 6;
        configuration.strip_size = 512u << 10;
        configuration.stripes = 100;
        return Geometry::of(configuration);
    }();
    return shape;
}

void check_command(const Message& message, ByteView payload) {
    const auto commands =
        decode_command(message, Buffer(payload), {message.header.sender, 1}, geometry());
    if (!commands) {
        BRAID_REQUIRE(!commands.error().text.empty());
        return;
    }
    std::vector<std::byte> body;
    for (const HomeCommand& command : *commands) {
        HomeCommand copy = command;
        const QueuedMessage again = encode_command(std::move(copy));
        BRAID_REQUIRE(again.header.type == message.header.type);
        BRAID_REQUIRE(again.payload.size() == payload.size());
        body.insert(body.end(), again.body.begin(), again.body.end());
    }
    BRAID_REQUIRE(std::ranges::equal(body, message.body));
}

void check_answer(const Message& message, ByteView payload) {
    for (const HomeCommandKind kind : {HomeCommandKind::read, HomeCommandKind::lock,
                                       HomeCommandKind::stage, HomeCommandKind::settled}) {
        const auto answer = decode_answer(kind, payload.size(), message, geometry());
        if (!answer) {
            BRAID_REQUIRE(!answer.error().text.empty());
            continue;
        }
        const QueuedMessage again =
            encode_answer(kind, message.header.answers, *answer, Buffer(payload));
        BRAID_REQUIRE(std::ranges::equal(again.body, message.body));
    }
}

void check_disk_command(const Message& message, ByteView payload) {
    auto command = decode_disk_command(message, Buffer(payload));
    if (!command) {
        BRAID_REQUIRE(!command.error().text.empty());
        return;
    }
    const QueuedMessage again = encode_disk_command(*command);
    BRAID_REQUIRE(again.header.type == message.header.type);
    BRAID_REQUIRE(again.header.flags == message.header.flags);
    BRAID_REQUIRE(again.payload.size() == payload.size());
    BRAID_REQUIRE(std::ranges::equal(again.body, message.body));
}

void check_disk_answer(const Message& message, ByteView payload) {
    for (const DiskOpKind kind :
         {DiskOpKind::read, DiskOpKind::write, DiskOpKind::zero, DiskOpKind::flush}) {
        const auto os_error = decode_disk_answer(kind, payload.size(), message);
        if (!os_error) {
            BRAID_REQUIRE(!os_error.error().text.empty());
            continue;
        }
        const QueuedMessage again =
            encode_disk_answer(kind, message.header.answers, *os_error, Buffer(payload));
        BRAID_REQUIRE(std::ranges::equal(again.body, message.body));
    }
}

void check_hello(const Message& message) {
    const Refused refused = decode_refused(message.body);
    BRAID_REQUIRE(refused.why.size() <= refused_text_max);
    BRAID_REQUIRE(decode_refused(encode_refused(refused)) == refused);
    const auto hello = decode_hello(message.body);
    if (!hello) {
        BRAID_REQUIRE(!hello.error().text.empty());
        return;
    }
    BRAID_REQUIRE(std::ranges::equal(encode_hello(*hello), message.body));
}

void check_heartbeat(const Message& message) {
    const auto heartbeat = decode_heartbeat(message.body);
    if (!heartbeat) {
        BRAID_REQUIRE(!heartbeat.error().text.empty());
        return;
    }
    BRAID_REQUIRE(std::ranges::equal(encode_heartbeat(*heartbeat), message.body));
    // Whatever it says, a link takes it only if it fits what went out.
    Link link;
    link.begin(Nanos{1});
    const Heartbeat sent = link.next(Nanos{heartbeat->held % 1000 + 1});
    Heartbeat comes = *heartbeat;
    const bool fits = comes.echo <= sent.stamp;
    BRAID_REQUIRE(link.heard(comes, Nanos{heartbeat->stamp % 100'000}).has_value() == fits);
    if (link.round_trip()) BRAID_REQUIRE(link.round_trip()->value < 100'000);
}

void check_message(ByteView bytes, ByteView payload) {
    const auto sizes = message_sizes(bytes);
    const auto message = decode_message(bytes);
    if (!message) {
        BRAID_REQUIRE(!message.error().text.empty());
        return;
    }
    if (const auto fits = check_payload(*message, payload); !fits) {
        BRAID_REQUIRE(!fits.error().text.empty());
        return;
    }
    BRAID_REQUIRE(sizes.has_value());
    BRAID_REQUIRE(sizes->body == message->body.size());
    BRAID_REQUIRE(sizes->payload == payload.size());
    const MessageHeader& header = message->header;
    BRAID_REQUIRE(is_known(header.type));
    BRAID_REQUIRE(header.sender != 0 && header.sender < nodes_max);
    BRAID_REQUIRE(header.fence <= epoch_max);
    Buffer again(bytes.size());
    encode_message(header, message->body, payload, message->check, again.span());
    BRAID_REQUIRE(std::ranges::equal(again.view(), bytes));
    if (header.answers == 0) {
        check_command(*message, payload);
        check_disk_command(*message, payload);
    } else {
        check_answer(*message, payload);
        check_disk_answer(*message, payload);
    }
    check_hello(*message);
    check_heartbeat(*message);
}

}  // namespace

/// A message, and a payload of zeroes of as many rows as it asks for, up to three.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView input{reinterpret_cast<const std::byte*>(data), size};
    const auto sizes = message_sizes(input);
    const Buffer payload(sizes && sizes->payload <= 3 * 4096 ? sizes->payload : 0);
    check_message(input, payload.view());
    if (size < message_header_size) return 0;
    Buffer sealed(size);
    std::memcpy(sealed.data(), data, size);
    MessageHeaderBytes raw;
    std::memcpy(&raw, sealed.data(), sizeof raw);
    raw.magic = message_magic;
    raw.version = message_version;
    raw.body_size = static_cast<std::uint32_t>(size - sizeof raw);
    std::memcpy(sealed.data(), &raw, sizeof raw);
    raw.crc32c = crc32c(sealed.view().subspan(offsetof(MessageHeaderBytes, version)));
    std::memcpy(sealed.data(), &raw, sizeof raw);
    check_message(sealed.view(), payload.view());
    return 0;
}

/// Commands to a disk, and what answers them.
void add_disk_samples(std::vector<std::string>& samples) {
    for (const DiskOpKind kind :
         {DiskOpKind::read, DiskOpKind::write, DiskOpKind::zero, DiskOpKind::flush}) {
        DiskCommand command;
        command.kind = kind;
        if (kind != DiskOpKind::flush) command.size = 4096;
        if (kind == DiskOpKind::write) command.content = Buffer(4096);
        for (QueuedMessage message : {encode_disk_command(std::move(command)),
                                      encode_disk_answer(kind, 3, 0, Buffer(4096))}) {
            message.header.sender = 2;
            message.header.boot = 1;
            message.header.number = 1;
            Buffer bytes(message_header_size + message.body.size());
            encode_message(message.header, message.body, message.payload.view(), PayloadCheck::crc,
                           bytes.span());
            samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        }
    }
}

std::vector<std::string> fuzz_samples() {
    std::vector<std::string> samples;
    for (const std::size_t rows : {0U, 1U, 3U}) {
        for (const PayloadCheck check : {PayloadCheck::none, PayloadCheck::crc}) {
            MessageHeader header;
            header.type = MessageType::stage;
            header.sender = 31;
            header.boot = 77;
            header.fence = 435200000007;
            header.number = 9;
            header.received = 8;
            const Buffer body(16 * rows);
            const Buffer payload(4096 * rows);
            Buffer bytes(message_header_size + body.size());
            encode_message(header, body.view(), payload.view(), check, bytes.span());
            samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
        }
    }
    for (int type = 1; type != 19; ++type) {
        MessageHeader header;
        header.type = MessageType{static_cast<std::uint16_t>(type)};
        header.sender = 2;
        header.boot = 1;
        header.number = is_numbered(header.type) ? 1 : 0;
        if (!is_known(header.type)) continue;
        Buffer body(type == 4 ? 40 : type == 2 ? 32 : type == 16 ? 20 : 16);
        for (std::size_t i = 0; i < body.size(); i += 8) body.data()[i] = std::byte{1};
        Buffer bytes(message_header_size + body.size());
        encode_message(header, body.view(), {}, PayloadCheck::crc, bytes.span());
        samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    }
    add_disk_samples(samples);
    Heartbeat heartbeat;
    heartbeat.stamp = 7;
    heartbeat.echo = 3;
    heartbeat.held = 2;
    heartbeat.hears = 6;
    MessageHeader header;
    header.type = MessageType::heartbeat;
    header.sender = 2;
    header.boot = 1;
    const std::vector<std::byte> body = encode_heartbeat(heartbeat);
    Buffer bytes(message_header_size + body.size());
    encode_message(header, body, {}, PayloadCheck::crc, bytes.span());
    samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    return samples;
}
