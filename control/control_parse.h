// SPDX-License-Identifier: BSD-3-Clause
// What a request to the control socket asks for. Pure: bytes in, a command or an HTTP error out.
// Strict, so that a misspelt field never means its default.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <variant>
#include <vector>

#include "engine/array.h"
#include "engine/assembly/create_order.h"
#include "engine/base/limits.h"
#include "engine/base/result.h"

namespace braid::control {

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
/// The rows that cannot be known, as byte ranges, `count` of them from number `first` on.
struct BadQuery {
    std::uint64_t first{0};
    std::uint64_t count{bad_page_default};
};
struct IntentQuery {};
struct ChangeIntent {
    IntentChange change;
};
struct FailMember {
    std::string name;
    bool force{false};  // although rows in doubt cannot be known without it
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
    std::string path{};
    bool force{false};
};
struct StartScrub {
    bool repair{false};
};
struct StopScrub {};
struct ReserveVolume {
    std::string name;
};
struct ReleaseVolume {
    std::string name;
};
struct OrderNode {
    NodeOrder what{};
    std::uint32_t node{0};
};
/// For a cluster that waits for nodes.
struct StartWithout {
    std::vector<std::uint32_t> nodes;
};
/// For a cluster that waits for an array.
struct CreateArray {
    CreateOrder order;
};
using ControlCommand =
    std::variant<StatusQuery, VolumesQuery, ScrubQuery, EventsQuery, BadQuery, IntentQuery,
                 ChangeIntent, FailMember, RemoveMember, AddMember, ReplaceMember, StartScrub,
                 StopScrub, ReserveVolume, ReleaseVolume, OrderNode, StartWithout, CreateArray>;

struct HttpError {
    unsigned status{400};
    std::string text;
    std::string allow;  // 405: the methods that would do
};

Result<ControlCommand, HttpError> parse_control(const ControlRequest& request);

}  // namespace braid::control
