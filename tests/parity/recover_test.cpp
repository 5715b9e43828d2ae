// SPDX-License-Identifier: BSD-3-Clause
// Every way to lose one or two strips, with every kernel.
#include "tests/parity/strips.h"

namespace braid::parity::test {
namespace {

constexpr std::size_t no_q = ~std::size_t{0};

/// Spoils the strips named in `lost` and checks that recover() brings all of them back.
void check(const Stripe& whole, const Lost& lost, bool with_q = true,
           Store store = Store::automatic) {
    SCOPED_TRACE(testing::Message()
                 << whole.data.size() << " strips, first " << lost.first.value_or(no_q)
                 << " second " << lost.second.value_or(no_q) << " p " << lost.p << " q " << lost.q
                 << " store " << static_cast<int>(store));
    Stripe stripe = whole;
    const Bytes garbage = random_bytes(whole.p.size(), 99);
    if (lost.first) stripe.data[*lost.first] = garbage;
    if (lost.second) stripe.data[*lost.second] = garbage;
    if (lost.p) stripe.p = garbage;
    if (lost.q || !with_q) stripe.q = garbage;
    const auto data = stripe.targets();
    recover({.data = data,
             .p = stripe.p.data(),
             .q = with_q ? stripe.q.data() : nullptr,
             .size = stripe.p.size()},
            lost, store);
    ASSERT_EQ(stripe.data, whole.data);
    ASSERT_EQ(stripe.p, whole.p);
    ASSERT_EQ(stripe.q, with_q ? whole.q : garbage);
}

/// Each loss that is possible with `count` data strips; `step` thins the pairs out.
void check_all(const Stripe& whole, std::size_t step, Store store) {
    const std::size_t count = whole.data.size();
    check(whole, {.p = true}, true, store);
    check(whole, {.p = true}, false, store);
    check(whole, {.q = true}, true, store);
    check(whole, {.p = true, .q = true}, true, store);
    for (std::size_t x = 0; x < count; x += step) {
        check(whole, {.first = x}, true, store);
        check(whole, {.first = x}, false, store);
        check(whole, {.first = x, .p = true}, true, store);
        check(whole, {.first = x, .q = true}, true, store);
        for (std::size_t y = 0; y < count; y += step) {
            if (x != y) check(whole, {.first = x, .second = y}, true, store);
        }
    }
}

class Recover : public EveryKernel {};
BRAID_EVERY_KERNEL(Recover);

TEST_P(Recover, BringsBackEveryLostPair) {
    for (const std::size_t count : {1U, 2U, 3U, 4U, 5U, 8U, 13U, 16U}) {
        const Stripe whole(count, 64 * 11, count);
        check_all(whole, 1, Store::cached);
        if (HasFatalFailure()) return;
    }
}

TEST_P(Recover, BringsBackEveryLostPairStreamed) {
    check_all(Stripe(6, 64 * 11, 6), 1, Store::streamed);
}

TEST_P(Recover, Works255Wide) { check_all(Stripe(255, 64 * 5, 1), 127, Store::automatic); }

TEST_P(Recover, WorksForEverySize) {
    for (std::size_t blocks = 0; blocks != 24; ++blocks) {
        check_all(Stripe(3, blocks * 64, blocks), 1, Store::automatic);
    }
}

TEST_P(Recover, ReadsSourcesOfAnyAlignment) {
    Stripe stripe(5, 64 * 9, 1, 13);
    auto data = stripe.targets();
    Bytes first(64 * 9);
    Bytes second(64 * 9);
    const Bytes p_shifted = [&] {
        Bytes made(64 * 9, 7);
        made = stripe.p;
        return made;
    }();
    data[1] = first.data();
    data[4] = second.data();
    recover({.data = data,
             .p = const_cast<std::byte*>(p_shifted.data()),
             .q = stripe.q.data(),
             .size = 64 * 9},
            {.first = 1, .second = 4});
    EXPECT_EQ(first, stripe.data[1]);
    EXPECT_EQ(second, stripe.data[4]);
}

// A degraded read gives room only for what it wants.
TEST_P(Recover, DoesNotWriteWhatIsNotWanted) {
    const Stripe whole(4, 64 * 6, 1);
    Stripe stripe = whole;
    Bytes wanted(64 * 6);
    auto data = stripe.targets();
    data[1] = nullptr;
    data[3] = wanted.data();
    const std::size_t size = 64 * 6;
    recover({.data = data, .p = stripe.p.data(), .q = stripe.q.data(), .size = size},
            {.first = 1, .second = 3});
    EXPECT_EQ(wanted, whole.data[3]);
    wanted = stripe.p;
    recover({.data = data, .p = stripe.p.data(), .q = stripe.q.data(), .size = size},
            {.first = 3, .second = 1});
    EXPECT_EQ(wanted, whole.data[3]);

    data = stripe.targets();
    data[3] = wanted.data();
    wanted = stripe.p;
    recover({.data = data, .q = stripe.q.data(), .size = size}, {.first = 3, .p = true});
    EXPECT_EQ(wanted, whole.data[3]);
    wanted = stripe.p;
    recover({.data = data, .p = stripe.p.data(), .size = size}, {.first = 3, .q = true});
    EXPECT_EQ(wanted, whole.data[3]);

    data[3] = nullptr;
    Bytes parity(size);
    recover({.data = data, .p = parity.data(), .q = stripe.q.data(), .size = size},
            {.first = 3, .p = true});
    EXPECT_EQ(parity, whole.p);
    recover({.data = data, .p = stripe.p.data(), .q = parity.data(), .size = size},
            {.first = 3, .q = true});
    EXPECT_EQ(parity, whole.q);
    EXPECT_EQ(stripe.data, whole.data);
}

// Strips that are zeros and not lost may be nullptr: their weights still count.
TEST_P(Recover, TakesNullForZeros) {
    Stripe stripe(5, 64 * 4, 1);
    stripe.data[2].clear();
    stripe.define_pq();
    Stripe spoiled = stripe;
    spoiled.data[0] = spoiled.data[4] = stripe.p;
    auto data = spoiled.targets();
    data[2] = nullptr;
    recover({.data = data, .p = spoiled.p.data(), .q = spoiled.q.data(), .size = 64 * 4},
            {.first = 0, .second = 4});
    EXPECT_EQ(spoiled.data, stripe.data);
}

TEST(RecoverDeathTest, RefusesWhatCannotBe) {
    Stripe stripe(3, 128, 1);
    auto data = stripe.targets();
    const Strips strips{
        .data = data, .p = stripe.p.data(), .q = stripe.q.data(), .size = stripe.p.size()};
    Strips without_q = strips;
    without_q.q = nullptr;
    EXPECT_DEATH(recover(strips, {}), "broken promise.*count >= 1");
    EXPECT_DEATH(recover(strips, {.first = 0, .second = 1, .p = true}),
                 "broken promise.*count <= 2");
    EXPECT_DEATH(recover(strips, {.first = 1, .second = 1}), "broken promise");
    EXPECT_DEATH(recover(strips, {.first = 3}), "broken promise");
    EXPECT_DEATH(recover(strips, {.second = 1}), "broken promise");
    EXPECT_DEATH(recover(without_q, {.first = 0, .second = 1}), "broken promise.*needs_q");
    EXPECT_DEATH(recover(without_q, {.first = 0, .p = true}), "broken promise.*needs_q");
    Bytes shifted(128, 8);
    data[2] = shifted.data();
    EXPECT_DEATH(recover(strips, {.first = 2}), "broken promise.*is_aligned");
}

}  // namespace
}  // namespace braid::parity::test
