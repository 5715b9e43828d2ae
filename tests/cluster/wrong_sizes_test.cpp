// SPDX-License-Identifier: BSD-3-Clause
// Goal: a message of a wrong size, on a session that is under way, harms nobody: it is told what is wrong
// with it, and what was sent before and comes after it is neither lost nor carried out twice. Method:
// somebody goes on with a node's session at just the right number, and sends messages of each type, right
// but for their sizes; each time the node itself connects again, and its clients write and read.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <string>
#include <vector>

#include "cluster/wire/hello.h"
#include "engine/base/crc32c.h"
#include "engine/base/limits.h"
#include "tests/cluster/bus_kit.h"
#include "tests/cluster/clients.h"
#include "tests/cluster/sim_cluster.h"

namespace braid::sim {
namespace {

using cluster::MessageHeader;
using cluster::MessageHeaderBytes;
using cluster::MessageType;

struct Sizes {
    MessageType type;
    std::uint32_t body{0};
    std::uint32_t payload{0};
    bool too_large{false};  // none of it is sent: the header is enough
};

class WrongSizes : public testing::Test {
  protected:
    WrongSizes() : cluster_(options()), clients_(cluster_), net_(cluster_.network(), "10.0.0.66") {}
    static SimClusterOptions options() {
        SimClusterOptions options;
        options.sessions = true;
        return options;
    }

    /// As node 3, which goes on with its session with node 1.
    MessageHeader header() {
        MessageHeader header;
        header.sender = 3;
        header.boot = SimBus::boot;
        header.received = cluster_.bus(2).bus().session(1).queue().received();
        return header;
    }
    static void add(std::vector<std::byte>* bytes, const MessageHeader& header, ByteView body,
                    ByteView payload) {
        Buffer message(cluster::message_header_size + body.size());
        encode_message(header, body, payload, cluster::PayloadCheck::none, message.span());
        bytes->insert(bytes->end(), message.view().begin(), message.view().end());
        bytes->insert(bytes->end(), payload.begin(), payload.end());
    }
    void say(const Sizes& sizes) {
        std::vector<std::byte> bytes;
        cluster::Hello hello;
        hello.receiver = 1;
        hello.knows = SimBus::boot;
        hello.cluster = "sim";
        MessageHeader as = header();
        as.type = MessageType::hello;
        add(&bytes, as, encode_hello(hello), {});
        as.type = MessageType::received;  // with which the session is under way
        add(&bytes, as, {}, {});
        as.type = sizes.type;
        as.number = cluster_.bus(0).bus().session(3).queue().received() + 1;
        if (sizes.too_large) {
            add(&bytes, as, {}, {});
            set_sizes(bytes.data() + bytes.size() - cluster::message_header_size, sizes);
        } else {
            Buffer body(sizes.body);
            // Numbers that would do: what is wrong is the size alone.
            for (std::size_t i = 0; i < body.size(); i += 8) body.data()[i] = std::byte{1};
            add(&bytes, as, body.view(), Buffer(sizes.payload).view());
        }
        cluster_.loop().run_until_done(
            cluster::say(&net_, cluster::address_of(1), Buffer(ByteView(bytes))));
    }
    static void set_sizes(std::byte* header, const Sizes& sizes) {
        MessageHeaderBytes raw;
        std::memcpy(&raw, header, sizeof raw);
        raw.body_size = sizes.body;
        raw.payload_size = sizes.payload;
        std::memcpy(header, &raw, sizeof raw);
        raw.crc32c =
            crc32c(ByteView(header, sizeof raw).subspan(offsetof(MessageHeaderBytes, version)));
        std::memcpy(header, &raw, sizeof raw);
    }
    /// @param what  of the reason, that node 1 gives
    void check(const Sizes& sizes, const std::string& what) {
        SCOPED_TRACE("type " + std::to_string(static_cast<int>(sizes.type)) + ", " +
                     std::to_string(sizes.body) + " and " + std::to_string(sizes.payload));
        cluster_.loop().run_for(seconds(1));  // nothing is under way any more
        (void)cluster_.bus(0).take_whys();
        const auto& queue = cluster_.bus(0).bus().session(3).queue();
        const std::uint64_t received = queue.received();
        say(sizes);
        EXPECT_EQ(queue.received(), received) << "it has not come";
        cluster_.loop().run_for(seconds(1));
        const std::vector<std::string> whys = cluster_.bus(0).take_whys();
        const auto tells = [&](const std::string& why) {
            return why.find(what) != std::string::npos;
        };
        EXPECT_EQ(std::ranges::count_if(whys, tells), 1) << whys.back();
        cluster_.loop().run_until_done(clients_.write(2, 0, 3 * row_size));
        cluster_.loop().run_until_done(clients_.read(1, 0, 3 * row_size));
    }

    SimCluster cluster_;
    Clients<SimCluster> clients_;
    SimNet net_;
};

TEST_F(WrongSizes, OfEachMessageAreRefusedAndNothingIsLost) {
    cluster_.loop().run_until_done(clients_.write(2, 0, 3 * row_size));
    struct Right {
        MessageType type;
        std::uint32_t body;
    };
    for (const Right right : {Right{MessageType::read, 16}, Right{MessageType::lock, 32},
                              Right{MessageType::lock_read, 48}, Right{MessageType::stage, 40},
                              Right{MessageType::ended, 16}, Right{MessageType::flush, 8},
                              Right{MessageType::progress, 0}, Right{MessageType::settled, 0},
                              Right{MessageType::finished, 0}}) {
        std::vector<std::uint32_t> wrong{right.body + 1, right.body + 8, message_body_size_max - 8};
        if (right.body != 0) wrong.insert(wrong.end(), {0, right.body - 1, right.body / 2});
        for (const std::uint32_t body : wrong) {
            const bool too_many = right.type == MessageType::ended && body > message_ends_max * 16;
            check({right.type, body}, too_many ? "it ends too much" : "its body has another size");
        }
        if (right.type != MessageType::stage)
            check({right.type, right.body, 4096}, "it has a payload");
        check({right.type, message_body_size_max + 1, 0, true}, "a body of 65537 bytes; at most");
        check({right.type, right.body, 4095, true}, "a payload of 4095 bytes; whole rows");
        check({right.type, right.body, message_payload_size_max + 4096, true},
              "a payload of 16781312 bytes; whole rows up to");
        if (HasFailure()) return;
    }
    cluster_.settle();
    clients_.check(3);
    EXPECT_EQ(cluster_.wrong_rows(), 0u);
}

}  // namespace
}  // namespace braid::sim
