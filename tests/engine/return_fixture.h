// SPDX-License-Identifier: BSD-3-Clause
// What the tests of members that come back share.
#pragma once

#include <gtest/gtest.h>

#include <string>

#include "tests/engine/loss_fixture.h"

namespace braid::sim {

class Return : public Loss {
  protected:
    /// Members in windows of 16 KiB, marks of 64 KiB of data.
    void begin(Level level, std::uint64_t seed) { start(shape(level, seed)); }
    void write_some(int count, std::uint64_t upto) {
        Rng& rng = sim->loop().rng();
        for (int i = 0; i != count; ++i) {
            Buffer data = random_bytes(rng, row_size * (1 + rng.below(3)));
            ASSERT_TRUE(sim->write(rng.below(upto / row_size - 4) * row_size, data));
        }
    }
    void write_some(int count) { write_some(count, sim->size()); }
    void expect_clean() {
        EXPECT_EQ(sim->array->status().health, Health::clean);
        sim->expect_content();
        sim->expect_parity();
    }
    std::uint64_t written_to(std::uint32_t role) const {
        for (const MemberStatus& member : sim->array->status().members) {
            if (member.record.role == MemberIndex{role}) return member.bytes_written;
        }
        return 0;
    }
    /// Bytes of data of a member.
    std::uint64_t whole() const { return sim->geometry().stripes * strip; }
    std::string how_it_came() const {
        std::string text;
        for (std::size_t i = 0; i != sim->events.size(); ++i) {
            if (sim->events[i] == "rebuild_received") text = sim->texts[i];
        }
        return text;
    }
    void expect_rebuilt_whole(const std::string& why) {
        EXPECT_NE(how_it_came().find("is rebuilt whole: " + why), std::string::npos)
            << how_it_came();
        EXPECT_GE(written_to(1), whole());
        expect_clean();
    }
};

}  // namespace braid::sim
