// SPDX-License-Identifier: BSD-3-Clause
// Quantities and indexes as types, so that a member is never taken for a stripe nor bytes for
// sectors. Conversions live here and in engine/layout/geometry.h only.
#pragma once

#include <compare>
#include <cstdint>

namespace braid {

template <class Tag>
struct Quantity {
    std::uint64_t value{};
    constexpr auto operator<=>(const Quantity&) const = default;
};
using Bytes = Quantity<struct BytesTag>;
using Sectors = Quantity<struct SectorsTag>;  // 512 bytes, where the kernel counts so
using Nanos = Quantity<struct NanosTag>;      // a point in time or a duration

inline constexpr std::uint64_t sector_size = 512;
inline constexpr std::uint64_t row_size = 4096;

constexpr Bytes to_bytes(Sectors sectors) { return {sectors.value * sector_size}; }
constexpr Sectors to_sectors(Bytes bytes) { return {bytes.value / sector_size}; }
constexpr Nanos millis(std::uint64_t count) { return {count * 1'000'000}; }
constexpr Nanos seconds(std::uint64_t count) { return {count * 1'000'000'000}; }

enum class MemberIndex : std::uint32_t {};  // the role of a member in the array, from 0
enum class StripeIndex : std::uint64_t {};  // strips of equal number on every member, from 0

constexpr std::uint32_t raw(MemberIndex index) { return static_cast<std::uint32_t>(index); }
constexpr std::uint64_t raw(StripeIndex index) { return static_cast<std::uint64_t>(index); }

constexpr bool is_row_aligned(std::uint64_t value) { return value % row_size == 0; }
constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) {
    return value - value % unit;
}
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
    return round_down(value + unit - 1, unit);
}

}  // namespace braid
