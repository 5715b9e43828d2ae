// SPDX-License-Identifier: BSD-3-Clause
#include "cli/text.h"

#include <fmt/format.h>
#include <langinfo.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <ctime>

namespace braid::cli {

Style Style::of_stdout() {
    Style style;
    std::setlocale(LC_CTYPE, "");
    const char* letters = nl_langinfo(CODESET);
    style.utf8 = letters != nullptr && std::strcmp(letters, "UTF-8") == 0;
    const char* no_colour = std::getenv("NO_COLOR");
    style.colours = isatty(STDOUT_FILENO) != 0 && (no_colour == nullptr || *no_colour == '\0');
    return style;
}

std::string painted(const std::string& text, Colour colour, const Style& style) {
    if (!style.colours || colour == Colour::plain) return text;
    const char* code = colour == Colour::good      ? "32"
                       : colour == Colour::warning ? "33"
                       : colour == Colour::bad     ? "31;1"
                       : colour == Colour::dim     ? "2"
                                                   : "1";
    return fmt::format("\x1b[{}m{}\x1b[0m", code, text);
}

std::string size_text(std::uint64_t bytes) {
    constexpr std::array units{"bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"};
    if (bytes < 1024) return fmt::format("{} bytes", bytes);
    auto value = static_cast<double>(bytes);
    std::size_t unit = 0;
    while (value >= 1023.95 && unit + 1 != units.size()) {
        value /= 1024;
        ++unit;
    }
    std::string number = fmt::format("{:.1f}", value);
    if (number.ends_with(".0")) number.resize(number.size() - 2);
    return number + " " + units[unit];
}

std::string duration_text(std::uint64_t seconds) {
    if (seconds >= 86400) return fmt::format("{} d {} h", seconds / 86400, seconds % 86400 / 3600);
    if (seconds >= 3600) {
        return fmt::format("{}:{:02}:{:02}", seconds / 3600, seconds % 3600 / 60, seconds % 60);
    }
    return fmt::format("{}:{:02}", seconds / 60, seconds % 60);
}

std::string time_text(std::uint64_t wall_seconds) {
    const auto then = static_cast<std::time_t>(wall_seconds);
    const std::time_t now = std::time(nullptr);
    std::tm then_parts{};
    std::tm now_parts{};
    localtime_r(&then, &then_parts);
    localtime_r(&now, &now_parts);
    const bool today =
        then_parts.tm_yday == now_parts.tm_yday && then_parts.tm_year == now_parts.tm_year;
    std::array<char, 32> text{};
    std::strftime(text.data(), text.size(), today ? "%H:%M:%S" : "%Y-%m-%d %H:%M:%S", &then_parts);
    return text.data();
}

std::string bar(double done, std::size_t width, const Style& style) {
    const double part = std::clamp(done, 0.0, 1.0);
    // The bar is full when all is done, and not before.
    const auto full = static_cast<std::size_t>(part * static_cast<double>(width));
    return repeated(style.utf8 ? "█" : "#", full) + repeated(style.utf8 ? "░" : "-", width - full);
}

std::string repeated(const char* piece, std::size_t count) {
    std::string text;
    for (std::size_t i = 0; i != count; ++i) text += piece;
    return text;
}

std::string counted(std::uint64_t count, const char* one, const char* many) {
    return fmt::format("{} {}", count, count == 1 ? one : many);
}

std::string harmless(std::string text) {
    for (char& one : text) {
        const auto code = static_cast<unsigned char>(one);
        if (code < 0x20 || code == 0x7f) one = '?';
    }
    return text;
}

}  // namespace braid::cli
