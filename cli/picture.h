// SPDX-License-Identifier: BSD-3-Clause
// What `braid status` shows: the status, as the control socket tells it in JSON, drawn for people.
// Pure: text out of JSON. Fields that are absent or of another type are left out, not trusted.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

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

/// "rebuilding member 2  [#####-----]  50.0 %  120 MiB/s  1:20 left".
std::string task_line(const nlohmann::json& task, const Style& style);
/// Of the status' `waits`: what ought to run, and why it does not.
std::string wait_line(const nlohmann::json& wait, const Style& style);
std::string event_line(const nlohmann::json& event, const Style& style);
std::string scrub_result(const nlohmann::json& last_scrub);
/// The write intent and the last recovery of `answer`, a status or what GET /v1/intent says: a line
/// or two in a status, more where they were asked for.
std::string intent_lines(const nlohmann::json& answer);
std::string draw_intent(const nlohmann::json& answer);
/// "data   1048576 … 1052671   4 KiB of member 2", for a range of GET /v1/bad.
std::string bad_line(const nlohmann::json& range);
/// `events_shown`: that many of the newest events.
std::string draw_status(const nlohmann::json& status, const Style& style, std::size_t events_shown);

// Fields of JSON, or what stands for them.
std::uint64_t number_in(const nlohmann::json& object, const char* name);
std::string text_in(const nlohmann::json& object, const char* name);
double real_in(const nlohmann::json& object, const char* name);
bool flag_in(const nlohmann::json& object, const char* name);
const nlohmann::json& list_in(const nlohmann::json& object, const char* name);

}  // namespace braid::cli
