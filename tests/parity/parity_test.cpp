// SPDX-License-Identifier: BSD-3-Clause
// XOR, P, Q and small-write updates, with every kernel, against the definition.
#include "parity/parity.h"

#include "tests/parity/strips.h"

namespace braid::parity::test {
namespace {

constexpr Store stores[] = {Store::cached, Store::streamed};

class Parity : public EveryKernel {};
BRAID_EVERY_KERNEL(Parity);

TEST_P(Parity, IsThatOfTheDefinitionForEveryCountOfStrips) {
    for (std::size_t count = 1; count <= data_strips_max; count += count < 20 ? 1 : 47) {
        const Stripe stripe(count, 64 * 21, count);
        for (const Store store : stores) {
            Bytes p(stripe.p.size());
            Bytes q(stripe.q.size());
            compute_pq(p, q, stripe.sources(), store);
            ASSERT_EQ(p, stripe.p) << count;
            ASSERT_EQ(q, stripe.q) << count;
            p = q = random_bytes(p.size(), 1);
            compute_p(p, stripe.sources(), store);
            compute_q(q, stripe.sources(), store);
            ASSERT_EQ(p, stripe.p) << count;
            ASSERT_EQ(q, stripe.q) << count;
        }
    }
}

TEST_P(Parity, WorksForEverySizeAndEveryAlignmentOfSources) {
    for (std::size_t blocks = 0; blocks != 40; ++blocks) {
        const Stripe stripe(5, blocks * 64, blocks, blocks * 3 + 1);
        Bytes p(blocks * 64);
        Bytes q(blocks * 64);
        compute_pq(p, q, stripe.sources());
        ASSERT_EQ(p, stripe.p) << blocks;
        ASSERT_EQ(q, stripe.q) << blocks;
    }
}

TEST_P(Parity, OfLargeStripsStreams) {
    const Stripe stripe(3, std::size_t{2} << 20, 1);
    Bytes p(stripe.p.size());
    Bytes q(stripe.q.size());
    compute_pq(p, q, stripe.sources());
    EXPECT_EQ(p, stripe.p);
    EXPECT_EQ(q, stripe.q);
}

TEST_P(Parity, CountsNullAsZeros) {
    for (unsigned mask = 0; mask != 64; ++mask) {
        Stripe stripe(6, 64 * 9, mask);
        auto sources = stripe.sources();
        for (std::size_t i = 0; i != 6; ++i) {
            if ((mask >> i & 1U) == 0) continue;
            stripe.data[i].clear();
            sources[i] = nullptr;
        }
        stripe.define_pq();
        Bytes p(stripe.p.size());
        Bytes q(stripe.q.size());
        compute_pq(p, q, sources);
        ASSERT_EQ(p, stripe.p) << mask;
        ASSERT_EQ(q, stripe.q) << mask;
    }
}

TEST_P(Parity, XorMayReadItsTarget) {
    for (std::size_t count = 1; count != 8; ++count) {
        const Stripe stripe(count, 64 * 13, count);
        auto sources = stripe.sources();
        Bytes target = stripe.data[count / 2];
        sources[count / 2] = target.data();
        xor_into(target, sources);
        ASSERT_EQ(target, stripe.p) << count;
    }
}

TEST_P(Parity, CopiesWhileItComputes) {
    for (std::size_t count = 1; count != 18; ++count) {
        const Stripe stripe(count, 64 * 19, count, 16);
        for (const Store store : stores) {
            std::vector<Bytes> copies(count, Bytes(64 * 19));
            std::vector<std::byte*> destinations;
            for (Bytes& copy : copies) destinations.push_back(copy.data());
            Bytes p(stripe.p.size());
            Bytes q(stripe.q.size());
            compute_pq_copy(p, q, stripe.sources(), destinations, store);
            ASSERT_EQ(p, stripe.p);
            ASSERT_EQ(q, stripe.q);
            ASSERT_EQ(copies, stripe.data);
            for (Bytes& copy : copies) copy = random_bytes(copy.size(), 3);
            p = q;
            compute_p_copy(p, stripe.sources(), destinations, store);
            ASSERT_EQ(p, stripe.p);
            ASSERT_EQ(copies, stripe.data);
        }
    }
}

TEST_P(Parity, CopySkipsNullDestinationsAndZeroesThoseOfNullSources) {
    Stripe stripe(3, 64 * 5, 1);
    auto sources = stripe.sources();
    std::vector<Bytes> copies(3, random_bytes(64 * 5, 2));
    const Bytes before = copies[0];
    sources[1] = nullptr;
    compute_pq_copy(stripe.p, stripe.q, sources,
                    std::vector<std::byte*>{nullptr, copies[1].data(), copies[2].data()});
    EXPECT_EQ(copies[0], before);
    EXPECT_EQ(copies[1], Bytes(64 * 5));
    EXPECT_EQ(copies[2], stripe.data[2]);
    stripe.data[1].clear();
    const Bytes p = stripe.p;
    const Bytes q = stripe.q;
    stripe.define_pq();
    EXPECT_EQ(p, stripe.p);
    EXPECT_EQ(q, stripe.q);
}

TEST_P(Parity, UpdateEqualsComputingAgain) {
    for (const std::size_t index : {0U, 1U, 2U, 7U, 8U, 100U, 253U, 254U}) {
        for (std::size_t blocks = 1; blocks != 12; ++blocks) {
            Stripe stripe(index + 1, blocks * 64, index + blocks, 5);
            Stripe p_only = stripe;
            Stripe q_only = stripe;
            const Bytes old_data = stripe.data[index];
            const Bytes new_data = random_bytes(blocks * 64, blocks, 48);
            update_pq(stripe.p, stripe.q, index, old_data.data(), new_data.data());
            update_p(p_only.p, old_data.data(), new_data.data());
            update_q(q_only.q, index, old_data.data(), new_data.data());
            const Bytes p = stripe.p;
            const Bytes q = stripe.q;
            stripe.data[index] = new_data;
            stripe.define_pq();
            ASSERT_EQ(p, stripe.p) << index;
            ASSERT_EQ(q, stripe.q) << index;
            ASSERT_EQ(p_only.p, stripe.p) << index;
            ASSERT_EQ(q_only.q, stripe.q) << index;
        }
    }
}

TEST_P(Parity, UpdateTakesNullForZeros) {
    Stripe stripe(4, 64 * 7, 1);
    const Stripe whole = stripe;
    update_pq(stripe.p, stripe.q, 2, stripe.data[2].data(), nullptr);
    const Bytes p = stripe.p;
    const Bytes q = stripe.q;
    stripe.data[2].clear();
    stripe.define_pq();
    EXPECT_EQ(p, stripe.p);
    EXPECT_EQ(q, stripe.q);
    update_pq(stripe.p, stripe.q, 2, nullptr, whole.data[2].data());
    EXPECT_EQ(stripe.p, whole.p);
    EXPECT_EQ(stripe.q, whole.q);
}

/// A published answer, repeated to fill 64 bytes.
template <std::size_t size>
Bytes repeated(const std::uint8_t (&published)[size]) {
    Bytes made(64);
    for (std::size_t n = 0; n != 64; ++n) made.data()[n] = std::byte{published[n % size]};
    return made;
}

// What Linux 6.1 md wrote: the first bytes of the first stripe of tests/fixtures/md/raid6-64k,
// whose members 1 to 4 hold the data, 5 holds P and 0 holds Q.
TEST_P(Parity, IsThatOfLinuxMd) {
    constexpr std::uint8_t written[6][8] = {
        {0xe2, 0x48, 0xe1, 0x92, 0x73, 0x55, 0xc2, 0x87},
        {0x36, 0x36, 0x95, 0xef, 0xb0, 0x51, 0x56, 0x9e},
        {0x0d, 0xf3, 0xc4, 0x2d, 0xf7, 0x28, 0xee, 0x00},
        {0x4b, 0x5b, 0x7c, 0x70, 0x1c, 0x51, 0xca, 0x1f},
        {0x7b, 0x90, 0x8f, 0x58, 0x08, 0x22, 0x4c, 0x2f},
        {0x0b, 0x0e, 0xa2, 0xea, 0x53, 0x0a, 0x3e, 0xae},
    };
    std::vector<Bytes> members;
    for (const auto& member : written) members.push_back(repeated(member));
    Bytes p(64);
    Bytes q(64);
    compute_pq(p, q,
               std::vector<const std::byte*>{members[1].data(), members[2].data(),
                                             members[3].data(), members[4].data()});
    EXPECT_EQ(p, members[5]);
    EXPECT_EQ(q, members[0]);
}

// Fourteen data bytes with their P and Q, and what recovery must say of two of them, as the test of
// another implementation has them: github.com/MaxGsomGsom/DSS_ex, DSS_Ex2/main.cpp.
TEST_P(Parity, IsThatOfAPublishedExample) {
    std::vector<Bytes> data;
    std::vector<std::byte*> strips;
    for (unsigned i = 1; i != 15; ++i) {
        data.push_back(repeated({static_cast<std::uint8_t>(0x11 * i)}));
    }
    for (Bytes& strip : data) strips.push_back(strip.data());
    Bytes p(64);
    Bytes q(64);
    compute_pq(p, q, std::vector<const std::byte*>(strips.begin(), strips.end()));
    EXPECT_EQ(p, repeated({0xff}));
    EXPECT_EQ(q, repeated({0x1b}));
    data[2] = data[6] = Bytes(64);
    recover({.data = strips, .p = p.data(), .q = q.data(), .size = 64}, {.first = 2, .second = 6});
    EXPECT_EQ(data[2], repeated({0x33}));
    EXPECT_EQ(data[6], repeated({0x77}));
}

TEST(ParityDeathTest, RefusesBadArguments) {
    Stripe stripe(2, 128, 1);
    const auto sources = stripe.sources();
    const Bytes& other = stripe.data[0];
    Bytes shifted(128, 16);
    EXPECT_DEATH(compute_p(shifted, sources), "broken promise.*is_aligned");
    EXPECT_DEATH(compute_q(shifted, sources), "broken promise.*is_aligned");
    EXPECT_DEATH(compute_pq(stripe.p, shifted, sources), "broken promise.*is_aligned");
    EXPECT_DEATH(compute_p_copy(stripe.p, sources, std::vector{stripe.q.data(), shifted.data()}),
                 "broken promise.*is_aligned");
    EXPECT_DEATH(compute_p_copy(stripe.p, sources, std::vector{stripe.q.data()}),
                 "broken promise.*destinations");
    EXPECT_DEATH(update_p(shifted, other.data(), nullptr), "broken promise.*is_aligned");
    EXPECT_DEATH(update_pq(stripe.p, stripe.q, 255, other.data(), nullptr), "broken promise");
    EXPECT_DEATH(compute_p(ByteSpan(stripe.p.data(), 100), sources), "broken promise.*size %");
    EXPECT_DEATH(compute_p(stripe.p, {}), "broken promise.*count >= 1");
    EXPECT_DEATH(compute_p(stripe.p, std::vector<const std::byte*>(256)), "broken promise.*count");
    EXPECT_DEATH(compute_pq(stripe.p, ByteSpan(stripe.q).first(64), sources), "broken promise");
    EXPECT_DEATH(compute_p(ByteSpan(static_cast<std::byte*>(nullptr), 64), sources),
                 "broken promise");
}

}  // namespace
}  // namespace braid::parity::test
