// SPDX-License-Identifier: BSD-3-Clause
#include "engine/base/crc32c.h"

#include <array>
#include <cstddef>
#include <cstring>

namespace braid {
namespace {

constexpr std::uint32_t polynomial_reflected = 0x82f63b78;

constexpr std::array<std::uint32_t, 256> make_table() {
    std::array<std::uint32_t, 256> table{};
    for (std::uint32_t i = 0; i != 256; ++i) {
        std::uint32_t value = i;
        for (int bit = 0; bit != 8; ++bit) {
            value = (value & 1) != 0 ? (value >> 1) ^ polynomial_reflected : value >> 1;
        }
        table[i] = value;
    }
    return table;
}
constexpr auto table = make_table();

std::uint32_t update_scalar(std::uint32_t state, ByteView bytes) {
    for (const std::byte byte : bytes) {
        state = (state >> 8) ^ table[(state ^ std::to_integer<std::uint32_t>(byte)) & 0xff];
    }
    return state;
}

#if defined(__x86_64__)
[[gnu::target("sse4.2")]] std::uint32_t update_sse42(std::uint32_t state, ByteView bytes) {
    std::uint64_t wide = state;
    while (bytes.size() >= 8) {
        std::uint64_t word;
        std::memcpy(&word, bytes.data(), 8);
        wide = __builtin_ia32_crc32di(wide, word);
        bytes = bytes.subspan(8);
    }
    return update_scalar(static_cast<std::uint32_t>(wide), bytes);
}
const bool has_sse42 = __builtin_cpu_supports("sse4.2") != 0;
#endif

}  // namespace

std::uint32_t crc32c(ByteView bytes, std::uint32_t before) {
    const std::uint32_t state = ~before;
#if defined(__x86_64__)
    if (has_sse42) return ~update_sse42(state, bytes);
#endif
    return ~update_scalar(state, bytes);
}

}  // namespace braid
