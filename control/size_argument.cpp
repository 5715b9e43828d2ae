// SPDX-License-Identifier: BSD-3-Clause
#include "control/size_argument.h"

#include <fmt/format.h>

#include <charconv>
#include <limits>

namespace braid::control {

Checked<std::uint64_t> parse_size(std::string_view text) {
    const Refusal unreadable{fmt::format(
        "\"{}\" is not a size: that is a number and K, M, G, T or P, for instance 64K", text)};
    std::uint64_t number = 0;
    const char* end = text.data() + text.size();
    const auto [rest, error] = std::from_chars(text.data(), end, number);
    if (error == std::errc::result_out_of_range) {
        return Refusal{fmt::format("\"{}\" is more bytes than there are", text)};
    }
    if (error != std::errc{}) return unreadable;
    std::string_view unit(rest, static_cast<std::size_t>(end - rest));
    if (unit.empty()) return number;
    constexpr std::string_view units = "kmgtp";
    const char letter = static_cast<char>(unit[0] | 0x20);
    const auto power = units.find(letter);
    unit.remove_prefix(1);
    if (power == std::string_view::npos || !(unit.empty() || unit == "iB")) return unreadable;
    const auto shift = 10 * (static_cast<unsigned>(power) + 1);
    if (number > std::numeric_limits<std::uint64_t>::max() >> shift) {
        return Refusal{fmt::format("\"{}\" is more bytes than there are", text)};
    }
    return number << shift;
}

}  // namespace braid::control
