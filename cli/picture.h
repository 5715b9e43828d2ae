// SPDX-License-Identifier: BSD-3-Clause
// What `braid status` shows: the status, as the control socket tells it in JSON, drawn for people.
// Pure: text out of JSON. Fields that are absent or of another type are left out, not trusted.
#pragma once

#include <cstddef>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/text.h"

namespace braid::cli {

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

}  // namespace braid::cli
