// SPDX-License-Identifier: BSD-3-Clause
// Little-endian fields of on-disk and wire structures: bytes, so no padding and no alignment.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>

namespace braid {

template <class T>
class LittleEndian {
  public:
    constexpr LittleEndian() = default;
    constexpr LittleEndian(T value) { *this = value; }  // NOLINT: a field reads as its value
    constexpr LittleEndian& operator=(T value) {
        using Unsigned = std::make_unsigned_t<T>;
        auto rest = static_cast<Unsigned>(value);
        for (auto& byte : bytes_) {
            byte = static_cast<std::uint8_t>(rest & 0xff);
            if constexpr (sizeof(T) > 1) rest = static_cast<Unsigned>(rest >> 8);
        }
        return *this;
    }
    constexpr operator T() const {  // NOLINT
        using Unsigned = std::make_unsigned_t<T>;
        Unsigned value{};
        for (std::size_t i = sizeof(T); i-- > 0;) {
            value = static_cast<Unsigned>(static_cast<Unsigned>(value << 8) | bytes_[i]);
        }
        return static_cast<T>(value);
    }
    constexpr bool operator==(const LittleEndian&) const = default;

  private:
    std::array<std::uint8_t, sizeof(T)> bytes_{};
};
using Le16 = LittleEndian<std::uint16_t>;
using Le32 = LittleEndian<std::uint32_t>;
using Le64 = LittleEndian<std::uint64_t>;
using LeS32 = LittleEndian<std::int32_t>;

/// True of a structure that may be copied to and from bytes as it stands: no pointers that a
/// compiler knows of, no padding, no alignment. Sizes are fixed by static_asserts beside it.
template <class T>
inline constexpr bool is_packed_v =
    std::conjunction_v<std::is_trivially_copyable<T>, std::is_standard_layout<T>> &&
    alignof(T) == 1;

}  // namespace braid
