// SPDX-License-Identifier: BSD-3-Clause
// A small array, and what the tests of losses, outages and full disks do with it.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tests/engine/array_fixture.h"

namespace braid::sim {

inline constexpr std::uint64_t strip = 16u << 10;
inline constexpr std::uint64_t first_row = SimArray::data_offset / row_size;

class Loss : public testing::Test {
  protected:
    SimArrayOptions shape(Level level, std::uint64_t seed) {
        SimArrayOptions options;
        options.seed = seed;
        options.level = level;
        options.members = level == Level::raid6 ? 5 : 3;
        options.strip_size = strip;
        options.stripes = 200;
        return options;
    }
    void create(SimArrayOptions options) {
        sim = std::make_unique<SimArray>(options);
        sim->create();
        sim->intent.region = 64u << 10;
        ASSERT_TRUE(sim->open());
    }
    void fill() {
        for (std::uint64_t at = 0; at < sim->size(); at += 1u << 20) {
            Buffer data = random_bytes(sim->loop().rng(),
                                       std::min<std::uint64_t>(sim->size() - at, 1u << 20));
            ASSERT_TRUE(sim->write(at, data));
        }
        flush();
    }
    /// Created, true, filled and flushed, no stripe marked.
    void start(SimArrayOptions options) {
        create(options);
        sim->come_to_rest();
        fill();
        sim->loop().run_for(seconds(20));
        ASSERT_EQ(sim->array->status().intent.stripes_marked, 0U);
    }
    void flush() { ASSERT_TRUE(sim->flush()); }
    Checked<Unit> fail(std::uint32_t member, Force force) {
        return sim->loop().run_until_done(sim->array->fail_member(std::to_string(member), force));
    }
    Checked<Unit> replace(std::uint32_t member, Force force) {
        auto platter = sim->make_platter();
        const auto done = sim->loop().run_until_done(
            sim->array->replace_member(std::to_string(member), sim->disk(platter, "new"), force));
        if (done) sim->platters[member] = platter;
        return done;
    }
    Checked<Unit> add_back(std::uint32_t member) {
        return sim->loop().run_until_done(sim->array->add_member(
            sim->disk(sim->platters[member], SimArray::path_of(member)), Force::no));
    }
    std::vector<std::size_t> all_but(std::size_t lost) const {
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i != sim->platters.size(); ++i) {
            if (i != lost) left.push_back(i);
        }
        return left;
    }
    /// A slow resync of everything: the write intent was off, and the node was killed.
    void start_whole_resync(SimArrayOptions options) {
        start(options);
        sim->stop().value();
        sim->intent.on = false;
        ASSERT_TRUE(sim->open());
        sim->kill();
        slow(20'000'000);
        ASSERT_TRUE(sim->open());
        ASSERT_TRUE(sim->array->status().configuration.resynced);
    }
    void slow(std::uint64_t nanos) {
        for (auto& platter : sim->platters) platter->delay_nanos = nanos;
    }
    /// Rows of the volume that cannot be read, of every `each`th.
    std::uint64_t errors(std::uint64_t each = 1) {
        std::uint64_t count = 0;
        for (std::uint64_t at = 0; at < sim->size(); at += each * row_size) {
            Buffer row(row_size);
            if (!sim->read(at, row)) {
                ++count;
            } else {
                EXPECT_EQ(std::memcmp(row.data(), sim->model.data() + at, row_size), 0) << at;
            }
        }
        return count;
    }
    /// The first of what ought to run, and does not, within a while.
    std::optional<WaitStatus> next_wait() {
        for (int i = 0; i != 200; ++i) {
            const ArrayStatus status = sim->array->status();
            if (!status.waits.empty()) return status.waits.front();
            sim->loop().run_for(millis(50));
        }
        return std::nullopt;
    }
    Checked<Unit> remove(const std::string& name) {
        return sim->loop().run_until_done(sim->array->remove_member(name));
    }
    std::string text_of_event(const std::string& kind) const {
        const auto at = std::ranges::find(sim->events, kind);
        return at == sim->events.end()
                   ? ""
                   : sim->texts[static_cast<std::size_t>(at - sim->events.begin())];
    }
    std::uint64_t count_events(const std::string& kind) const {
        return static_cast<std::uint64_t>(std::ranges::count(sim->events, kind));
    }
    std::unique_ptr<SimArray> sim;
};

}  // namespace braid::sim
