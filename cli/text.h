// SPDX-License-Identifier: BSD-3-Clause
// Pieces of what is shown to people: colours, bars, sizes, times and counts in words.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

namespace braid::cli {

struct Style {
    bool colours{false};
    bool utf8{false};
    /// Of standard output: colours on a terminal, unless NO_COLOR is set; the locale's letters.
    static Style of_stdout();
};

enum class Colour : std::uint8_t { plain, good, warning, bad, dim, strong };
std::string painted(const std::string& text, Colour colour, const Style& style);

std::string size_text(std::uint64_t bytes);         // "1.5 GiB"
std::string duration_text(std::uint64_t seconds);   // "1:02:03", "2:03" or "2 d 3 h"
std::string time_text(std::uint64_t wall_seconds);  // "14:02:11" today, else with the date
/// A bar of `width` characters of which `done` (0 to 1) are full.
std::string bar(double done, std::size_t width, const Style& style);

std::string repeated(const char* piece, std::size_t count);
std::string counted(std::uint64_t count, const char* one, const char* many);  // "2 stripes"
/// What comes from members and servers is not to command the terminal.
std::string harmless(std::string text);

}  // namespace braid::cli
