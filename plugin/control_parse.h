// SPDX-License-Identifier: BSD-3-Clause
// What a request to the control socket asks for. Pure: bytes in, a command or an HTTP error out.
// Strict, so that a misspelt field never means its default.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/base/result.h"

namespace braid::plugin {

inline constexpr std::size_t control_body_size_max = 64u << 10;
inline constexpr std::uint64_t events_wait_seconds_max = 60;

/// As it came in, with %-escapes undone.
struct ControlRequest {
    std::string method;
    std::string path;
    std::vector<std::pair<std::string, std::string>> query;
    std::string body;
};

struct StatusQuery {};
struct VolumesQuery {};
struct ScrubQuery {};
struct EventsQuery {
    std::uint64_t after{0};         // a sequence number
    std::uint64_t wait_seconds{0};  // for the first one
};
struct FailMember {
    std::string name;
};
struct RemoveMember {
    std::string name;
};
struct AddMember {
    std::string path;
    bool force{false};
};
struct ReplaceMember {
    std::string name;
    std::string path;
    bool force{false};
};
struct StartScrub {
    bool repair{false};
};
struct StopScrub {};
using ControlCommand = std::variant<StatusQuery, VolumesQuery, ScrubQuery, EventsQuery, FailMember,
                                    RemoveMember, AddMember, ReplaceMember, StartScrub, StopScrub>;

struct HttpError {
    unsigned status{400};
    std::string text;
    std::string allow;  // 405: the methods that would do
};

Result<ControlCommand, HttpError> parse_control(const ControlRequest& request);

}  // namespace braid::plugin
