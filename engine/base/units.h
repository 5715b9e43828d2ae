// SPDX-License-Identifier: BSD-3-Clause
// Quantities and indexes as types, so that a member is never taken for a stripe nor bytes for
// sectors. Conversions live here and in engine/layout/geometry.h only.
#pragma once

#include <compare>
#include <concepts>
#include <cstdint>
#include <type_traits>

#include "parity/require.h"

namespace braid {

template <class Tag>
struct Quantity {
    std::uint64_t value{};
    constexpr auto operator<=>(const Quantity&) const = default;
};
using Bytes = Quantity<struct BytesTag>;
using Sectors = Quantity<struct SectorsTag>;  // 512 bytes, where the kernel counts so
using Nanos = Quantity<struct NanosTag>;      // a point in time or a duration

// Where a byte is, from the begin of different things: in a volume, as its clients count; in the array's
// data, of which each volume is a piece; in the data area of a member, where its strips lie one behind
// the other; on the member's device, which has metadata in front of that area.
struct OffsetTag {};
struct VolumeOffsetTag : OffsetTag {};
struct ArrayOffsetTag : OffsetTag {};
struct MemberOffsetTag : OffsetTag {};
struct DeviceOffsetTag : OffsetTag {};
using VolumeOffset = Quantity<VolumeOffsetTag>;
using ArrayOffset = Quantity<ArrayOffsetTag>;
using MemberOffset = Quantity<MemberOffsetTag>;
using DeviceOffset = Quantity<DeviceOffsetTag>;

inline constexpr std::uint64_t sector_size = 512;
inline constexpr std::uint64_t row_size = 4096;

constexpr Bytes to_bytes(Sectors sectors) { return {sectors.value * sector_size}; }
constexpr Sectors to_sectors(Bytes bytes) { return {bytes.value / sector_size}; }
constexpr Nanos millis(std::uint64_t count) { return {count * 1'000'000}; }
constexpr Nanos seconds(std::uint64_t count) { return {count * 1'000'000'000}; }

// Some bytes further on, and how many lie between. One kind of offset is made of another by VolumeArea
// and DataArea below and by Geometry alone.
template <class Tag>
concept TagOfOffset = std::derived_from<Tag, OffsetTag>;
template <TagOfOffset Tag>
constexpr Quantity<Tag> operator+(Quantity<Tag> at, std::uint64_t bytes) {
    return {at.value + bytes};
}
template <TagOfOffset Tag>
constexpr std::uint64_t operator-(Quantity<Tag> end, Quantity<Tag> begin) {
    return end.value - begin.value;
}
template <TagOfOffset Tag>
constexpr Quantity<Tag>& operator+=(Quantity<Tag>& at, std::uint64_t bytes) {
    return at = at + bytes;
}

/// A volume in the array: in one piece.
struct VolumeArea {
    ArrayOffset begin{};
    std::uint64_t size{0};  // bytes
    constexpr ArrayOffset end() const { return begin + size; }
    constexpr ArrayOffset in_array(VolumeOffset at) const { return begin + at.value; }
    constexpr VolumeOffset in_volume(ArrayOffset at) const {
        BRAID_REQUIRE(at >= begin);
        return {at - begin};
    }
};

/// A member's data on its device: in one piece, behind its metadata.
struct DataArea {
    DeviceOffset begin{};
    constexpr DeviceOffset on_device(MemberOffset at) const { return begin + at.value; }
    constexpr MemberOffset in_data(DeviceOffset at) const {
        BRAID_REQUIRE(at >= begin);
        return {at - begin};
    }
};

enum class MemberIndex : std::uint32_t {};  // the role of a member in the array, from 0

// Along the members, from 0, in the order in which they are walked. A row is that many `row_size`
// bytes from the begin of each member's data; a window is some rows of a stripe
// (engine/layout/rows.h). engine/layout/geometry.h converts between them.
enum class StripeIndex : std::uint64_t {};
enum class WindowIndex : std::uint64_t {};
enum class RowIndex : std::uint64_t {};

constexpr std::uint32_t raw(MemberIndex index) { return static_cast<std::uint32_t>(index); }
constexpr std::uint64_t raw(StripeIndex index) { return static_cast<std::uint64_t>(index); }
constexpr std::uint64_t raw(WindowIndex index) { return static_cast<std::uint64_t>(index); }
constexpr std::uint64_t raw(RowIndex index) { return static_cast<std::uint64_t>(index); }

template <class Index>
concept IndexAlongMembers = std::same_as<Index, StripeIndex> || std::same_as<Index, WindowIndex> ||
    std::same_as<Index, RowIndex>;
/// What an index goes on by. No constraint: clang 19 looks at those too late, and takes two numbers
/// for an operator of its own.
template <class Index>
using CountOf = std::enable_if_t<IndexAlongMembers<Index>, std::uint64_t>;

// Some further on, how many lie between, the next one. More is not done with an index.
template <class Index>
constexpr Index operator+(Index index, CountOf<Index> count) {
    return Index{raw(index) + count};
}
template <class Index>
constexpr Index operator-(Index index, CountOf<Index> count) {
    return Index{raw(index) - count};
}
template <IndexAlongMembers Index>
constexpr std::uint64_t operator-(Index end, Index begin) {
    return raw(end) - raw(begin);
}
template <class Index>
constexpr Index& operator+=(Index& index, CountOf<Index> count) {
    return index = index + count;
}
template <IndexAlongMembers Index>
constexpr Index& operator++(Index& index) {
    return index += 1;
}

constexpr bool is_row_aligned(std::uint64_t value) { return value % row_size == 0; }
template <TagOfOffset Tag>
constexpr bool is_row_aligned(Quantity<Tag> at) {
    return is_row_aligned(at.value);
}
constexpr std::uint64_t round_down(std::uint64_t value, std::uint64_t unit) {
    return value - value % unit;
}
constexpr std::uint64_t round_up(std::uint64_t value, std::uint64_t unit) {
    return round_down(value + unit - 1, unit);
}
template <TagOfOffset Tag>
constexpr Quantity<Tag> round_down(Quantity<Tag> at, std::uint64_t unit) {
    return {round_down(at.value, unit)};
}
template <TagOfOffset Tag>
constexpr Quantity<Tag> round_up(Quantity<Tag> at, std::uint64_t unit) {
    return {round_up(at.value, unit)};
}

}  // namespace braid
