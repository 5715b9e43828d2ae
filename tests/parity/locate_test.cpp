// SPDX-License-Identifier: BSD-3-Clause
// From P and Q to the strip that is wrong.
#include "tests/parity/strips.h"

namespace braid::parity::test {
namespace {

using What = Located::What;
constexpr std::size_t row = 4096;

class Locate : public EveryKernel {};
BRAID_EVERY_KERNEL(Locate);

void spoil(Bytes& strip, std::size_t at) { strip.data()[at] ^= std::byte{0x40}; }

TEST_P(Locate, FindsNothingWhereNothingIsWrong) {
    const Stripe stripe(7, row * 2 + 64, 1);
    EXPECT_EQ(locate(stripe.p, stripe.q, stripe.sources()), Located{});
    EXPECT_TRUE(matches_p(stripe.p, stripe.sources()));
    EXPECT_TRUE(matches_pq(stripe.p, stripe.q, stripe.sources()));
}

TEST_P(Locate, NamesEachStrip) {
    for (const std::size_t count : {1U, 2U, 9U, 254U, 255U}) {
        Stripe stripe(count, row, count);
        for (std::size_t i = 0; i<count; i += count> 20 ? 23 : 1) {
            const Bytes before = stripe.data[i];
            stripe.data[i] = random_bytes(row, i);
            const Located right{What::data, i};
            ASSERT_EQ(locate(stripe.p, stripe.q, stripe.sources()), right) << count;
            ASSERT_FALSE(matches_p(stripe.p, stripe.sources()));
            ASSERT_FALSE(matches_pq(stripe.p, stripe.q, stripe.sources()));
            stripe.data[i] = before;
            spoil(stripe.data[i], row - 1);  // a single byte is enough
            ASSERT_EQ(locate(stripe.p, stripe.q, stripe.sources()), right) << count;
            stripe.data[i] = before;
        }
    }
}

TEST_P(Locate, NamesPAndQ) {
    const Stripe whole(5, row * 2, 1);
    Stripe stripe = whole;
    spoil(stripe.p, row + 5);
    EXPECT_EQ(locate(stripe.p, stripe.q, stripe.sources()), Located{What::p});
    EXPECT_FALSE(matches_p(stripe.p, stripe.sources()));
    EXPECT_FALSE(matches_pq(stripe.p, stripe.q, stripe.sources()));
    stripe = whole;
    spoil(stripe.q, 0);
    EXPECT_EQ(locate(stripe.p, stripe.q, stripe.sources()), Located{What::q});
    EXPECT_TRUE(matches_p(stripe.p, stripe.sources()));
    EXPECT_FALSE(matches_pq(stripe.p, stripe.q, stripe.sources()));
}

TEST_P(Locate, AccusesNobodyWhenTwoAreWrong) {
    const Stripe whole(6, row * 2, 1);
    for (std::size_t x = 0; x != 8; ++x) {
        for (std::size_t y = 0; y != x; ++y) {
            Stripe stripe = whole;
            const auto strip = [&](std::size_t i) -> Bytes& {
                return i < 6 ? stripe.data[i] : i == 6 ? stripe.p : stripe.q;
            };
            strip(x) = random_bytes(row * 2, x);
            strip(y) = random_bytes(row * 2, y);
            ASSERT_EQ(locate(stripe.p, stripe.q, stripe.sources()), Located{What::several});
            stripe = whole;  // each wrong in a byte of its own
            spoil(strip(x), 10);
            spoil(strip(y), row + 20);
            ASSERT_EQ(locate(stripe.p, stripe.q, stripe.sources()), Located{What::several});
        }
    }
}

// Two wrong strips may look like one that does not exist.
TEST_P(Locate, NamesNoStripBeyondTheLast) {
    Stripe stripe(3, 64, 1);
    Bytes beyond(64);
    beyond.data()[0] = std::byte{1};
    update_pq(stripe.p, stripe.q, 3, nullptr, beyond.data());
    EXPECT_EQ(locate(stripe.p, stripe.q, stripe.sources()), Located{What::several});
}

TEST_P(Locate, ReadsParityOfAnyAlignment) {
    Stripe stripe(4, row, 1, 3);
    Bytes p(row, 1);
    Bytes q(row, 2);
    p = stripe.p;
    q = stripe.q;
    spoil(stripe.data[2], 77);
    const Located right{What::data, 2};
    EXPECT_EQ(locate(p, q, stripe.sources()), right);
}

}  // namespace
}  // namespace braid::parity::test
