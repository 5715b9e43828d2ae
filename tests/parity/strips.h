// SPDX-License-Identifier: BSD-3-Clause
// Random strips for the tests of parity/, and P and Q of them by the definition: byte by byte,
// with a multiplication that shares nothing with the code under test.
#pragma once

#include <gtest/gtest.h>

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <random>
#include <string>
#include <vector>

#include "parity/kernels.h"
#include "parity/parity.h"

namespace braid::parity::test {

/// Multiplies polynomials over GF(2) the long way, then divides by 0x11d.
inline std::uint8_t slow_mul(unsigned a, unsigned b) {
    unsigned product = 0;
    for (unsigned bit = 0; bit != 8; ++bit) {
        if ((b >> bit & 1U) != 0) product ^= a << bit;
    }
    for (unsigned bit = 15; bit != 7; --bit) {
        if ((product >> bit & 1U) != 0) product ^= 0x11dU << (bit - 8);
    }
    return static_cast<std::uint8_t>(product);
}

/// Bytes at a chosen distance from an alignment of 64, with guards that notice a stray write.
class Bytes {
  public:
    explicit Bytes(std::size_t size, std::size_t shift = 0)
        : size_{size}, shift_{shift}, room_(size + guard * 2 + alignment + shift, guard_byte) {
        const auto address = reinterpret_cast<std::uintptr_t>(room_.data()) + guard;
        start_ = guard + (alignment - address % alignment) % alignment + shift;
        clear();
    }
    Bytes(const Bytes& other) : Bytes(other.size_, other.shift_) {
        std::memcpy(data(), other.data(), size_);
    }
    Bytes& operator=(const Bytes& other) {
        std::memcpy(data(), other.data(), size_);
        return *this;
    }
    ~Bytes() {
        for (std::size_t n = 1; n <= guard; ++n) {
            EXPECT_EQ(room_[start_ - n], guard_byte);
            EXPECT_EQ(room_[start_ + size_ + n - 1], guard_byte);
        }
    }
    void clear() {
        for (std::size_t n = 0; n != size_; ++n) data()[n] = std::byte{};
    }
    std::byte* data() { return room_.data() + start_; }
    const std::byte* data() const { return room_.data() + start_; }
    std::size_t size() const { return size_; }
    operator ByteSpan() { return {data(), size_}; }
    operator ByteView() const { return {data(), size_}; }
    bool operator==(const Bytes& other) const {
        return size_ == other.size_ && std::memcmp(data(), other.data(), size_) == 0;
    }
    std::uint8_t at(std::size_t n) const { return std::to_integer<std::uint8_t>(data()[n]); }

  private:
    static constexpr std::size_t guard = 64;
    static constexpr std::byte guard_byte{0xa5};
    std::size_t size_;
    std::size_t shift_;
    std::size_t start_ = 0;
    std::vector<std::byte> room_;
};

inline void PrintTo(const Bytes& bytes, std::ostream* out) { *out << bytes.size() << " bytes"; }

inline Bytes random_bytes(std::size_t size, std::uint64_t seed, std::size_t shift = 0) {
    Bytes made(size, shift);
    std::mt19937_64 random(seed);
    for (std::size_t n = 0; n != size; ++n) made.data()[n] = static_cast<std::byte>(random());
    return made;
}

/// Data strips with their P and Q. `shift` displaces the data strips, each a little more.
struct Stripe {
    std::vector<Bytes> data;
    Bytes p;
    Bytes q;

    Stripe(std::size_t count, std::size_t size, std::uint64_t seed, std::size_t shift = 0)
        : p(size), q(size) {
        for (std::size_t i = 0; i != count; ++i) {
            data.push_back(random_bytes(size, seed * 1000 + i, shift * (i + 1) % 64));
        }
        define_pq();
    }

    /// P and Q by their definition.
    void define_pq() {
        p.clear();
        q.clear();
        std::uint8_t weight = 1;
        for (const Bytes& strip : data) {
            std::uint8_t product[256];
            for (unsigned x = 0; x != 256; ++x) product[x] = slow_mul(weight, x);
            for (std::size_t n = 0; n != strip.size(); ++n) {
                p.data()[n] ^= strip.data()[n];
                q.data()[n] ^= std::byte{product[strip.at(n)]};
            }
            weight = slow_mul(weight, 2);
        }
    }

    std::vector<const std::byte*> sources() const {
        std::vector<const std::byte*> made;
        for (const Bytes& strip : data) made.push_back(strip.data());
        return made;
    }
    std::vector<std::byte*> targets() {
        std::vector<std::byte*> made;
        for (Bytes& strip : data) made.push_back(strip.data());
        return made;
    }
};

/// A test that runs once with each kernel that this processor can run.
class EveryKernel : public testing::TestWithParam<const Kernel*> {
  protected:
    EveryKernel() : before_{&kernel()} {
        if (GetParam()->usable()) use_kernel(*GetParam());
    }
    ~EveryKernel() override { use_kernel(*before_); }
    void SetUp() override {
        if (!GetParam()->usable()) GTEST_SKIP() << "this processor lacks the instructions";
    }

  private:
    const Kernel* before_;
};

inline std::vector<const Kernel*> every_kernel() {
    std::vector<const Kernel*> made;
    for (const Kernel& entry : kernels()) made.push_back(&entry);
    return made;
}

inline std::string kernel_test_name(const testing::TestParamInfo<const Kernel*>& info) {
    std::string name = info.param->name;
    std::erase(name, '-');
    return name;
}

#define BRAID_EVERY_KERNEL(suite) \
    INSTANTIATE_TEST_SUITE_P(Kernels, suite, testing::ValuesIn(every_kernel()), kernel_test_name)

}  // namespace braid::parity::test
