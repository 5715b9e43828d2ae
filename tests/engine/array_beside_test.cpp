// SPDX-License-Identifier: BSD-3-Clause
// Rows of a stripe beside one that is to be tried again: parity of them is not trusted, so what a
// member under rebuild, or one that comes back, has of them nothing else would give.
#include <algorithm>
#include <cstring>

#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

class BesideRetry : public Loss {
  protected:
    /// Of the volume: where the member's strip of the stripe begins.
    std::uint64_t place_of(std::uint64_t stripe, std::uint32_t member) const {
        const Geometry& at = sim->geometry();
        const Role role = at.role_of(StripeIndex{stripe}, MemberIndex{member});
        return stripe * at.stripe_data_size() + raw(role) * at.strip_size;
    }
    /// The first stripe from `stripe` on in which all of them have data.
    std::uint64_t data_of(std::initializer_list<std::uint32_t> members,
                          std::uint64_t stripe) const {
        const Geometry& at = sim->geometry();
        const auto is_data = [&](std::uint32_t member) {
            return raw(at.role_of(StripeIndex{stripe}, MemberIndex{member})) < at.data_count();
        };
        while (!std::ranges::all_of(members, is_data)) ++stripe;
        return stripe;
    }
    /// On the platters: the first row of each strip of the stripe.
    std::uint64_t row_of(std::uint64_t stripe) const {
        return first_row + stripe * sim->geometry().rows_per_strip();
    }
    /// Of the rebuild, in the configuration.
    StripeIndex checkpoint() const {
        for (const MemberRecord& at : sim->array->status().configuration.members) {
            if (at.state == MemberState::rebuilding) return at.rebuilt;
        }
        ADD_FAILURE() << "nothing is rebuilt";
        return {};
    }
    std::uint64_t bad_bytes() const { return sim->array->status().bad_bytes; }
    /// Bytes of each member that the rebuild has passed.
    std::uint64_t passed() const {
        const ArrayStatus now = sim->array->status();
        return now.walks.empty() ? 0 : now.walks.front().position;
    }
    /// The rebuild is somewhere for which `there(passed)` holds, and has no checkpoint.
    template <class There>
    bool rebuild_gets(There there) {
        for (int i = 0; i != 20'000; ++i) {
            if (there(passed())) return true;
            sim->loop().run_for(Nanos{500'000});
        }
        return false;
    }
    bool reads_as_model(std::uint64_t offset) {
        Buffer row(row_size);
        return sim->read(offset, row) &&
               std::memcmp(row.data(), sim->model.data() + offset, row_size) == 0;
    }
    void cut_power() {
        flush();
        sim->crash();
        slow(0);
        ASSERT_TRUE(sim->open());
    }
};

// It lies on the disk that is being rebuilt, past the last checkpoint, and nowhere else.
TEST_F(BesideRetry, ARowWrittenBehindARebuildIsThereAfterThePowerWasCut) {
    for (const Level level : {Level::raid5, Level::raid6}) {
        for (std::uint64_t seed = 1; seed != 3; ++seed) {
            SCOPED_TRACE(seed);
            start(shape(level, seed));
            const bool two = level == Level::raid6;
            const std::uint64_t stripe = two ? data_of({1, 2, 3}, 20) : data_of({1, 2}, 20);
            sim->platters[1]->bad_rows.insert(row_of(stripe));
            if (two) sim->platters[3]->bad_rows.insert(row_of(stripe));
            slow(20'000'000);
            ASSERT_TRUE(replace(2, Force::no));
            ASSERT_TRUE(rebuild_gets([&](std::uint64_t at) { return at > (stripe + 1) * strip; }));
            slow(0);
            const std::uint64_t tried = (two ? 2 : 1) * row_size;
            ASSERT_EQ(bad_bytes(), tried + row_size);
            ASSERT_EQ(checkpoint(), StripeIndex{0});
            Buffer row = random_bytes(sim->loop().rng(), row_size);
            ASSERT_TRUE(sim->write(place_of(stripe, 2), row));
            ASSERT_EQ(bad_bytes(), tried);
            cut_power();
            EXPECT_TRUE(reads_as_model(place_of(stripe, 2)));
            sim->come_to_rest();
            EXPECT_EQ(bad_bytes(), tried);
            EXPECT_TRUE(reads_as_model(place_of(stripe, 2)));
            for (const std::uint32_t member : {1U, 3U}) {
                if (member < sim->platters.size()) sim->platters[member]->bad_rows.clear();
            }
            sim->expect_content();
            EXPECT_EQ(bad_bytes(), 0U);
            sim->expect_parity();
        }
    }
}

// Checkpoints count stripes: in the one that the rebuild is in the middle of nothing counts yet.
TEST_F(BesideRetry, ARowIsRefusedUntilTheRebuildHasPassedItsStripe) {
    SimArrayOptions options = shape(Level::raid5, 6);
    options.strip_size = 512u << 10;
    options.stripes = 24;
    start(options);
    const std::uint64_t window = sim->geometry().window_size();
    ASSERT_EQ(sim->geometry().windows_per_stripe(), 2U);
    for (std::uint64_t stripe = 0; stripe != options.stripes; ++stripe) {
        // One in each window: the second takes as long as the first.
        for (const std::uint64_t row :
             {row_of(stripe) + 1, row_of(stripe) + 1 + window / row_size}) {
            sim->platters[1]->bad_rows.insert(row);
        }
    }
    // Marked beforehand: the rebuild does not wait for a mark of what is written beside it.
    Buffer row = random_bytes(sim->loop().rng(), row_size);
    for (std::uint64_t stripe = 0; stripe != options.stripes; ++stripe) {
        ASSERT_TRUE(sim->write(place_of(stripe, 2) + 3 * row_size, row));
    }
    for (auto& platter : sim->platters) platter->latency_nanos = 20'000'000;
    ASSERT_TRUE(replace(2, Force::no));
    std::uint64_t stripe = 0;
    ASSERT_TRUE(rebuild_gets([&](std::uint64_t at) {
        stripe = at / options.strip_size;
        return at % options.strip_size == window && data_of({1, 2}, stripe) == stripe;
    }));
    ASSERT_EQ(checkpoint(), StripeIndex{0});
    const std::uint64_t place = place_of(stripe, 2) + row_size;
    const std::uint64_t listed = bad_bytes();
    const auto refused = sim->write(place, row);
    if (refused) {
        cut_power();
        EXPECT_TRUE(reads_as_model(place)) << "it was flushed";
    }
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Errc::unknown);
    EXPECT_GE(bad_bytes(), listed);
    EXPECT_TRUE(sim->has_event("write_refused"));
    // Others of the stripe, and this one when it is passed, are written.
    ASSERT_TRUE(sim->write(place + row_size, row));
    ASSERT_TRUE(
        rebuild_gets([&](std::uint64_t at) { return at >= (stripe + 1) * options.strip_size; }));
    ASSERT_TRUE(sim->write(place, row));
    cut_power();
    EXPECT_TRUE(reads_as_model(place));
    EXPECT_TRUE(reads_as_model(place + row_size));
    sim->come_to_rest();
    EXPECT_TRUE(reads_as_model(place));
    sim->platters[1]->bad_rows.clear();
    (void)errors();  // what it reads is what was written
}

// What it brings is in parity, which has to be trusted before the rebuild comes by.
TEST_F(BesideRetry, AMemberThatComesBackBringsItsRowBesideOneThatCanBeReadAgain) {
    start_whole_resync(shape(Level::raid5, 7));
    const std::uint64_t stripe = data_of({1, 2}, 100);
    sim->platters[2]->bad_rows.insert(row_of(stripe));
    sim->platters[1]->dead = true;
    Buffer first = random_bytes(sim->loop().rng(), row_size);
    ASSERT_TRUE(sim->write(sim->size() - row_size, first));
    slow(0);
    sim->come_to_rest();
    const auto is_tried = [&](std::uint32_t member) {
        const auto listed = sim->array->status().configuration.bad_rows;
        const RowIndex row{row_of(stripe) - first_row};
        return std::ranges::any_of(listed, [&](const BadRange& at) {
            return at.member == MemberIndex{member} && at.kind == BadKind::retry &&
                   at.first <= row && row < at.end();
        });
    };
    ASSERT_TRUE(is_tried(1));
    ASSERT_TRUE(is_tried(2));
    sim->platters[2]->bad_rows.clear();
    sim->platters[1]->dead = false;
    const auto back = add_back(1);
    ASSERT_TRUE(back) << back.error().text;
    EXPECT_EQ(bad_bytes(), 0U);
    sim->come_to_rest();
    EXPECT_EQ(sim->array->status().health, Health::clean);
    sim->expect_content();
    sim->expect_parity();
}

}  // namespace
}  // namespace braid::sim
