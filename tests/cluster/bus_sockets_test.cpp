// SPDX-License-Identifier: BSD-3-Clause
// Buses over real sockets: TCP and unix sockets, with the cluster's key and without.
#include <arpa/inet.h>
#include <sys/socket.h>

#include <filesystem>

#include "engine/base/unique_fd.h"
#include "engine/io/uring_loop.h"
#include "engine/io/uring_net.h"
#include "tests/cluster/bus_node.h"

namespace braid::cluster {
namespace {

/// A port that the kernel finds free.
std::uint16_t free_port() {
    const UniqueFd fd(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in place{};
    place.sin_family = AF_INET;
    place.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof place;
    BRAID_REQUIRE(bind(fd.get(), reinterpret_cast<sockaddr*>(&place), size) == 0);
    BRAID_REQUIRE(getsockname(fd.get(), reinterpret_cast<sockaddr*>(&place), &size) == 0);
    return ntohs(place.sin_port);
}

struct Way {
    bool tcp;
    bool key;
    const char* name;
};

class BusSockets : public ::testing::TestWithParam<Way> {
  protected:
    void SetUp() override { ASSERT_NE(mkdtemp(folder_.data()), nullptr); }
    void TearDown() override { std::filesystem::remove_all(folder_); }
    NetAddress new_address() {
        if (GetParam().tcp) return {AddressKind::ip4, "127.0.0.1", free_port()};
        return {AddressKind::unix_socket, folder_ + "/" + std::to_string(++sockets_), 0};
    }

  private:
    std::string folder_ = std::filesystem::temp_directory_path() / "braid.XXXXXX";
    int sockets_{0};
};

Task<void> wait_for(const std::vector<std::unique_ptr<BusNode>>* nodes, Event* answer,
                    std::size_t answers) {
    while ((*nodes)[0]->answered() + (*nodes)[1]->answered() != answers) co_await answer->next();
}

TEST_P(BusSockets, CarryEverythingOverConnectionsThatEnd) {
    const auto loop = UringLoop::create().value();
    const NetAddress places[] = {new_address(), new_address()};
    std::vector<std::unique_ptr<BusNode>> nodes;
    for (const std::uint32_t id : {1U, 2U}) {
        std::optional<ClusterKey> key;
        if (GetParam().key) key = key_of(9);
        nodes.push_back(std::make_unique<BusNode>(
            BusNode::World{loop->ready(), *loop, std::make_unique<UringNet>(*loop),
                           [&](Task<void> task) { loop->run_until_done(std::move(task)); }},
            NodeBoot{id, 100 + id}, std::vector<NetAddress>{places[id - 1]},
            std::vector<Bus::Peer>{{3 - id, {places[2 - id]}}}, "lab", key));
    }
    Event answer;
    for (const auto& node : nodes) {
        node->on_answer = [&answer] { answer.set(); };
        node->start();
    }
    std::size_t asked = 0;
    for (std::size_t turn = 0; turn != 4; ++turn) {
        for (std::size_t i = 0; i != 200; ++i) {
            nodes[0]->ask(2, i % 5 == 0 ? i : i % 3);
            nodes[1]->ask(1, i % 7 == 0 ? i : i % 3);
            asked += 2;
        }
        const std::size_t side = turn % 2;
        loop->run_until_done(wait_for(&nodes, &answer, asked));
        nodes[side]->ask(side == 0 ? 2 : 1, 100);  // and a connection ends in the middle of it
        ++asked;
        nodes[side]->bus().session(side == 0 ? 2 : 1).shut();
    }
    loop->run_until_done(wait_for(&nodes, &answer, asked));
    for (const auto& node : nodes) {
        EXPECT_GT(node->connections, 2);
        EXPECT_EQ(node->restarts, 0);
        node->stop();
    }
}

INSTANTIATE_TEST_SUITE_P(Ways, BusSockets,
                         ::testing::Values(Way{false, false, "Unix"}, Way{true, false, "Tcp"},
                                           Way{false, true, "UnixWithKey"},
                                           Way{true, true, "TcpWithKey"}),
                         [](const auto& one) { return std::string(one.param.name); });

}  // namespace
}  // namespace braid::cluster
