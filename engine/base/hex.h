// SPDX-License-Identifier: BSD-3-Clause
// Bytes as hexadecimal digits, two each.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace braid {

inline constexpr std::string_view hex_digits = "0123456789abcdef";

inline void append_hex(std::string& text, std::uint8_t byte) {
    text += hex_digits[std::size_t{byte} >> 4];
    text += hex_digits[byte & 15U];
}

/// Of a digit, of either case; none: it is no digit.
constexpr std::optional<std::uint8_t> value_of_hex(char digit) {
    if (digit >= 'A' && digit <= 'F') digit = static_cast<char>(digit - 'A' + 'a');
    const std::size_t value = hex_digits.find(digit);
    if (value == std::string_view::npos) return std::nullopt;
    return static_cast<std::uint8_t>(value);
}

}  // namespace braid
