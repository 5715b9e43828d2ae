// SPDX-License-Identifier: BSD-3-Clause
// Rows that are listed as void are taken for zeros, and parity is made true for that. Goal: not
// before the list is durable; else a crash would leave zeros where nothing says that they are
// unknown. Method: a decider that makes the list durable when the test says so, members in memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <optional>
#include <vector>

#include "engine/serving/serving.h"
#include "parity/parity.h"
#include "tests/engine/plain_decider.h"
#include "tests/sim/sim_disk.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t data_offset = 4u << 20;
constexpr MemberIndex lost{1};  // it had the first data strip of stripe 0

class SlowList final : public Decider {
  public:
    void read_failed(MemberIndex, int) override {}
    void flush_failed(MemberIndex, int) override {}
    void strip_write_failed(MemberIndex, int) override {}
    void not_answering(MemberIndex) override {}
    Task<Result<void>> losses_durable() override { co_return Result<void>{}; }
    Task<Result<void>> rows_doubtful(std::vector<BadRange>) override { co_return Result<void>{}; }
    Task<Result<void>> rows_unknown(std::vector<BadRange> rows) override {
        EXPECT_TRUE(rows.empty() || may_list) << "all of it is listed";
        listed.insert(listed.end(), rows.begin(), rows.end());
        asked = true;
        co_await durable.wait();
        co_return Result<void>{};
    }
    Task<Result<void>> rows_known(std::vector<BadRange>) override { co_return Result<void>{}; }
    void walk_begun(const WalkOrder&) override {}
    void walk_passed() override {}
    Task<Result<void>> walk_at(WalkPosition) override { co_return Result<void>{}; }
    void walk_ended(WalkPosition, Result<void> result) override { walked = result; }
    void rows_wrong(WindowPlace, RowMask, RoleSet, std::string) override {}
    void write_refused(WindowPlace, RowMask, RoleSet) override {}

    bool asked{false};
    bool may_list{false};
    std::vector<BadRange> listed;
    Event durable;
    std::optional<Result<void>> walked;
};

class VoidRows : public testing::Test {
  protected:
    VoidRows() : tasks(loop.ready()), configuration(make_configuration()) {
        geometry = Geometry::of(configuration);
        serving = std::make_unique<Serving>(
            Serving::Setup{loop.ready(), loop, geometry, configuration, tasks, decider, 16u << 20});
    }
    ~VoidRows() override {
        loop.crash([this] {
            serving->abandon();
            tasks.clear();
        });
    }
    void start() {
        for (std::uint32_t i = 0; i != geometry.member_count; ++i) {
            platters.push_back(
                std::make_shared<SimPlatter>(data_offset + geometry.stripes * geometry.strip_size));
            // The first row of each; where all is zeros parity is true.
            std::memset(platters[i]->content.data() + data_offset, 0x11 + static_cast<int>(i),
                        row_size);
            if (MemberIndex{i} == lost) continue;
            serving->attach(MemberIndex{i}, std::make_unique<SimDisk>(loop, platters[i], "m"),
                            DataArea{{data_offset}});
        }
        serving->adopt(configuration);
        serving->members().set_loss_version_durable(serving->members().loss_version());
        for (const auto& platter : platters) platter->notes_touched = true;
    }
    bool wrote_strips() const {
        return std::ranges::any_of(platters,
                                   [](const auto& platter) { return !platter->touched.empty(); });
    }
    void until_nothing_goes_on() {
        while (loop.step()) {
        }
    }
    /// Writes into the first row of the strip beside the one that is void.
    void write_when_durable(std::uint64_t size) {
        Buffer data(size);
        std::ranges::fill(data.span(), std::byte{0x5a});
        IoRequest request;
        request.kind = IoKind::write;
        request.offset = {geometry.strip_size};
        request.size = data.size();
        request.data = data.data();
        bool done = false;
        request.user = &done;
        request.done = [](IoRequest& of) { *static_cast<bool*>(of.user) = true; };
        serving->submit(request);
        until_nothing_goes_on();
        EXPECT_TRUE(decider.asked);
        EXPECT_FALSE(wrote_strips());
        EXPECT_FALSE(done);
        decider.durable.set();
        until_nothing_goes_on();
        ASSERT_TRUE(done);
        EXPECT_TRUE(request.ok) << request.error.text();
    }
    /// Of the first row of stripe 0, by role.
    const std::byte* row(std::uint32_t role) const {
        const MemberIndex member = geometry.member_of(StripeIndex{0}, Role{role});
        return platters[raw(member)]->content.data() + data_offset;
    }
    static Configuration make_configuration() {
        Configuration made;
        made.level = Level::raid6;
        made.strip_size = 16u << 10;
        made.member_count = 5;
        made.stripes = 4;
        for (std::uint32_t i = 0; i != made.member_count; ++i) {
            MemberRecord record;
            record.role = MemberIndex{i};
            record.state = MemberIndex{i} == lost ? MemberState::missing : MemberState::in_sync;
            record.uuid.bytes[0] = static_cast<std::uint8_t>(i + 1);
            record.data_offset = data_offset;
            made.members.push_back(record);
        }
        made.volumes.push_back({"0", StripeIndex{0}, made.stripes});
        made.bad_rows.push_back({lost, RowIndex{0}, 1, BadKind::voided});
        return made;
    }

    SimLoop loop{1};
    TaskGroup tasks;
    SlowList decider;
    Configuration configuration;
    Geometry geometry;
    std::vector<std::shared_ptr<SimPlatter>> platters;
    std::unique_ptr<Serving> serving;
};

TEST_F(VoidRows, AResyncMakesTheirParityTrueWhenTheListIsDurable) {
    start();
    ASSERT_EQ(geometry.member_of(StripeIndex{0}, Role{0}), lost);
    serving->add_doubt({WindowIndex{0}, WindowIndex{1}});
    WalkOrder order;
    order.kind = WalkKind::resyncing;
    order.ranges = {{WindowIndex{0}, WindowIndex{1}}};
    order.loss_version = serving->members().loss_version();
    serving->walk(order);
    until_nothing_goes_on();
    EXPECT_TRUE(decider.asked);
    EXPECT_FALSE(wrote_strips());
    decider.durable.set();
    until_nothing_goes_on();
    ASSERT_TRUE(decider.walked && *decider.walked);
    const std::byte zero_and_others = row(1)[0] ^ row(2)[0];
    EXPECT_EQ(row(raw(geometry.p()))[0], zero_and_others);
}

TEST_F(VoidRows, AWriteTakesThemForZerosWhenTheListIsDurable) {
    const MemberIndex other = geometry.member_of(StripeIndex{0}, Role{1});
    configuration.bad_rows.push_back({other, RowIndex{0}, 1, BadKind::retry});
    start();
    write_when_durable(row_size);
    EXPECT_EQ(row(raw(geometry.p()))[0], row(2)[0] ^ std::byte{0x5a});
}

// The last row that was to be tried again becomes void with the rebuild of its member, and so parity
// is trusted again: what else is lost of that row is void, too, and parity is true for both.
TEST_F(VoidRows, ARebuildOfTheLastToBeTriedAgainMakesParityTrue) {
    const MemberIndex other = geometry.member_of(StripeIndex{0}, Role{1});
    configuration.bad_rows = {{other, RowIndex{0}, 1, BadKind::retry}};
    configuration.member(other)->state = MemberState::rebuilding;
    start();
    decider.may_list = true;
    decider.durable.set();
    WalkOrder order;
    order.kind = WalkKind::rebuilding;
    order.member = other;
    order.ranges = {{WindowIndex{0}, geometry.window_end()}};
    order.loss_version = serving->members().loss_version();
    serving->walk(order);
    until_nothing_goes_on();
    ASSERT_TRUE(decider.walked && *decider.walked);
    const BadRange of_lost{lost, RowIndex{0}, 1, BadKind::voided};
    const BadRange of_other{other, RowIndex{0}, 1, BadKind::voided};
    EXPECT_EQ(decider.listed, (std::vector<BadRange>{of_lost, of_other}));
    EXPECT_EQ(row(1)[0], std::byte{0});
    Buffer zero(row_size);
    Buffer two(row_size);
    std::memcpy(two.data(), row(2), row_size);
    const std::byte* const strips[] = {zero.data(), zero.data(), two.data()};
    Buffer p(row_size);
    Buffer q(row_size);
    parity::compute_p(p.span(), strips);
    parity::compute_q(q.span(), strips);
    EXPECT_EQ(std::memcmp(row(raw(geometry.p())), p.data(), row_size), 0);
    EXPECT_EQ(std::memcmp(row(raw(geometry.q())), q.data(), row_size), 0);
}

// A resync may have to wait, for room or for reads: until it comes by nothing but the rows
// themselves is an error.
TEST_F(VoidRows, AWriteBesideThemWaitsForNoResync) {
    start();
    const WindowPlace place{StripeIndex{0}, 0};
    serving->add_doubt({WindowIndex{0}, WindowIndex{1}});
    write_when_durable(row_size / 2);
    const std::byte* p = row(raw(geometry.p()));
    EXPECT_EQ(p[0], row(2)[0] ^ std::byte{0x5a});
    EXPECT_EQ(p[row_size - 1], row(1)[row_size - 1] ^ row(2)[row_size - 1]);
    EXPECT_EQ(serving->members().rows_in_doubt(place, row_range(0, 1)), 0U) << "parity is true";
}

}  // namespace
}  // namespace braid::sim
