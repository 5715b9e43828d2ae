// SPDX-License-Identifier: BSD-3-Clause
#include "control/control_parse.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <initializer_list>
#include <nlohmann/json.hpp>
#include <optional>

namespace braid::control {
namespace {

using nlohmann::json;
using Parsed = Result<ControlCommand, HttpError>;

HttpError bad(std::string text) { return {400, std::move(text), ""}; }

/// What comes from outside is quoted in part only, and without what a terminal would obey.
std::string in_quotes(std::string_view text) {
    std::string safe;
    for (const char one : text.substr(0, 100)) {
        const auto code = static_cast<unsigned char>(one);
        safe += code < 0x20 || code == 0x7f ? '?' : one;
    }
    return "\"" + safe + (text.size() > 100 ? "...\"" : "\"");
}

std::optional<std::uint64_t> number_of(std::string_view text) {
    std::uint64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc{} || end != text.data() + text.size() || text.empty()) return {};
    return value;
}

std::optional<std::string> unescaped(std::string_view text) {
    std::string plain;
    for (std::size_t at = 0; at < text.size(); ++at) {
        if (text[at] != '%') {
            plain += text[at];
            continue;
        }
        const std::string_view digits = text.substr(at + 1, 2);
        unsigned code = 0;
        const auto [end, error] =
            std::from_chars(digits.data(), digits.data() + digits.size(), code, 16);
        if (digits.size() != 2 || error != std::errc{} || end != digits.data() + 2) return {};
        plain += static_cast<char>(code);
        at += 2;
    }
    return plain;
}

/// The fields of a body: each asked for once, and none left over at the end.
class Fields {
  public:
    static Result<Fields, HttpError> parse(const std::string& body) {
        Fields fields;
        if (body.empty()) return fields;
        fields.object_ = json::parse(body, nullptr, false);
        if (fields.object_.is_discarded()) return bad("the body is no JSON");
        if (!fields.object_.is_object()) return bad("the body must be a JSON object: {...}");
        return fields;
    }
    Result<std::optional<bool>, HttpError> optional_flag(const char* name) {
        const auto found = object_.find(name);
        if (found == object_.end()) return std::optional<bool>{};
        if (!found->is_boolean()) return bad(fmt::format("\"{}\" must be true or false", name));
        const std::optional<bool> value = found->get<bool>();
        object_.erase(found);
        return value;
    }
    Result<bool, HttpError> flag(const char* name) {
        BRAID_TRY(const std::optional<bool> value, optional_flag(name));
        return value.value_or(false);
    }
    Result<std::optional<std::uint64_t>, HttpError> optional_bytes(const char* name) {
        const auto found = object_.find(name);
        if (found == object_.end()) return std::optional<std::uint64_t>{};
        if (!found->is_number_unsigned()) {
            return bad(fmt::format("\"{}\" must be a whole number of bytes", name));
        }
        const std::optional<std::uint64_t> value = found->get<std::uint64_t>();
        object_.erase(found);
        return value;
    }
    /// "path", or "path_escaped" with %-escapes where it is no UTF-8, which JSON has to be.
    Result<std::string, HttpError> path() {
        const bool escaped = object_.contains("path_escaped");
        if (escaped && object_.contains("path"))
            return bad("give one of \"path\", \"path_escaped\"");
        const char* name = escaped ? "path_escaped" : "path";
        const auto found = object_.find(name);
        if (found == object_.end()) return bad("\"path\" is missing: {\"path\": \"/dev/...\"}");
        if (!found->is_string()) return bad(fmt::format("\"{}\" must be a string", name));
        std::string value = found->get<std::string>();
        if (escaped) {
            auto plain = unescaped(value);
            if (!plain)
                return bad("\"path_escaped\": after each % come two digits, 0 to 9, A to F");
            value = std::move(*plain);
        }
        if (value.empty() || value[0] != '/' || value.find('\0') != std::string::npos) {
            return bad(fmt::format("\"{}\" must be an absolute path", name));
        }
        object_.erase(found);
        return value;
    }
    Result<void, HttpError> finish() const {
        if (object_.empty()) return {};
        return bad(fmt::format("unknown field {}", in_quotes(object_.begin().key())));
    }

  private:
    json object_ = json::object();
};

Result<void, HttpError> no_query(const ControlRequest& request) {
    if (request.query.empty()) return {};
    return bad(fmt::format("unknown parameter {}", in_quotes(request.query.front().first)));
}
Result<void, HttpError> no_body(const ControlRequest& request) {
    BRAID_TRY(const Fields fields, Fields::parse(request.body));
    return fields.finish();
}

HttpError no_such_path(const ControlRequest& request) {
    return {404,
            fmt::format("there is no {}; try GET /v1/status, /v1/volumes, /v1/events, /v1/scrub, "
                        "/v1/intent, /v1/bad, or POST /v1/members, "
                        "/v1/members/NAME/fail|remove|replace, /v1/scrub, /v1/intent, /v1/array, "
                        "/v1/volumes/NAME/reserve|release",
                        in_quotes(request.path)),
            ""};
}
HttpError wrong_method(const ControlRequest& request, std::string allow) {
    return {405,
            fmt::format("{} does not take {}, only {}", in_quotes(request.path),
                        in_quotes(request.method), allow),
            allow};
}

/// The query's parameters, all numbers: those that may be there, and where they go.
Result<void, HttpError> take_numbers(
    const ControlRequest& request,
    std::initializer_list<std::pair<std::string_view, std::uint64_t*>> known) {
    for (const auto& [key, value] : request.query) {
        const auto* place =
            std::ranges::find(known, key, [](const auto& one) { return one.first; });
        if (place == known.end()) {
            std::vector<std::string_view> names;
            for (const auto& one : known) names.push_back(one.first);
            return bad(fmt::format("unknown parameter {}; there are {}", in_quotes(key),
                                   fmt::join(names, " and ")));
        }
        const auto number = number_of(value);
        if (!number) return bad(fmt::format("{}={} is no number", key, in_quotes(value)));
        *place->second = *number;
    }
    return {};
}

Parsed parse_events(const ControlRequest& request) {
    EventsQuery query;
    BRAID_CHECK(take_numbers(request, {{"after", &query.after}, {"wait", &query.wait_seconds}}));
    if (query.wait_seconds > events_wait_seconds_max) {
        return bad(fmt::format("wait is at most {} seconds", events_wait_seconds_max));
    }
    return ControlCommand{query};
}

Parsed parse_bad(const ControlRequest& request) {
    BadQuery query;
    BRAID_CHECK(take_numbers(request, {{"first", &query.first}, {"count", &query.count}}));
    if (query.count == 0 || query.count > bad_page_max) {
        return bad(fmt::format("count is 1 to {}", bad_page_max));
    }
    if (query.first > bad_first_max) return bad(fmt::format("first is at most {}", bad_first_max));
    return ControlCommand{query};
}

Parsed parse_intent(const ControlRequest& request) {
    BRAID_CHECK(no_query(request));
    if (request.method == "POST") {
        BRAID_TRY(Fields fields, Fields::parse(request.body));
        ChangeIntent command;
        BRAID_TRY(command.change.on, fields.optional_flag("on"));
        BRAID_TRY(command.change.region, fields.optional_bytes("region"));
        BRAID_CHECK(fields.finish());
        if (!command.change.on && !command.change.region) {
            return bad(
                "nothing to change: say {\"on\": true} or {\"on\": false}, "
                "{\"region\": BYTES}, or both");
        }
        if (command.change.region) {
            const auto fits = check_intent_region(*command.change.region);
            if (!fits) return bad(fmt::format("\"region\": {}", fits.error().text));
        }
        return ControlCommand{command};
    }
    BRAID_CHECK(no_body(request));
    if (request.method == "GET") return ControlCommand{IntentQuery{}};
    return wrong_method(request, "GET, POST");
}

Parsed parse_member_command(const ControlRequest& request, std::string name,
                            std::string_view verb) {
    if (request.method != "POST") return wrong_method(request, "POST");
    BRAID_CHECK(no_query(request));
    if (name.empty()) return bad("which member? Name it by its role, path or uuid");
    BRAID_TRY(Fields fields, Fields::parse(request.body));
    if (verb == "replace") {
        ReplaceMember command{.name = std::move(name)};
        BRAID_TRY(command.path, fields.path());
        BRAID_TRY(command.force, fields.flag("force"));
        BRAID_CHECK(fields.finish());
        return ControlCommand{std::move(command)};
    }
    if (verb == "fail") {
        FailMember command{.name = std::move(name)};
        BRAID_TRY(command.force, fields.flag("force"));
        BRAID_CHECK(fields.finish());
        return ControlCommand{std::move(command)};
    }
    BRAID_CHECK(fields.finish());
    return ControlCommand{RemoveMember{std::move(name)}};
}

Parsed parse_add(const ControlRequest& request) {
    if (request.method != "POST") return wrong_method(request, "POST");
    BRAID_CHECK(no_query(request));
    BRAID_TRY(Fields fields, Fields::parse(request.body));
    AddMember command;
    BRAID_TRY(command.path, fields.path());
    BRAID_TRY(command.force, fields.flag("force"));
    BRAID_CHECK(fields.finish());
    return ControlCommand{std::move(command)};
}

Parsed parse_volume_command(const ControlRequest& request, std::string name, bool reserves) {
    if (request.method != "POST") return wrong_method(request, "POST");
    BRAID_CHECK(no_query(request));
    BRAID_CHECK(no_body(request));
    if (name.empty()) return bad("which volume? GET /v1/volumes lists them");
    if (reserves) return ControlCommand{ReserveVolume{std::move(name)}};
    return ControlCommand{ReleaseVolume{std::move(name)}};
}

std::optional<NodeOrder> node_order_of(std::string_view verb) {
    if (verb == "kill") return NodeOrder::kill;
    if (verb == "resume") return NodeOrder::resume;
    if (verb == "stop") return NodeOrder::stop;
    if (verb == "add") return NodeOrder::add;
    if (verb == "remove") return NodeOrder::remove;
    return std::nullopt;
}

Parsed parse_node_command(const ControlRequest& request, std::string_view node,
                          std::string_view verb) {
    const std::optional<NodeOrder> what = node_order_of(verb);
    if (!what) return no_such_path(request);
    if (request.method != "POST") return wrong_method(request, "POST");
    BRAID_CHECK(no_query(request));
    BRAID_CHECK(no_body(request));
    std::uint32_t id = 0;
    const auto read = std::from_chars(node.data(), node.data() + node.size(), id);
    if (read.ec != std::errc{} || read.ptr != node.data() + node.size() || id == 0 ||
        id >= nodes_max) {
        return bad(fmt::format("which node? The nodes of a cluster are 1 to {}", nodes_max - 1));
    }
    return ControlCommand{OrderNode{*what, id}};
}

Parsed parse_scrub(const ControlRequest& request) {
    BRAID_CHECK(no_query(request));
    if (request.method == "POST") {
        BRAID_TRY(Fields fields, Fields::parse(request.body));
        StartScrub command;
        BRAID_TRY(command.repair, fields.flag("repair"));
        BRAID_CHECK(fields.finish());
        return ControlCommand{command};
    }
    BRAID_CHECK(no_body(request));
    if (request.method == "GET") return ControlCommand{ScrubQuery{}};
    if (request.method == "DELETE") return ControlCommand{StopScrub{}};
    return wrong_method(request, "GET, POST, DELETE");
}

Parsed parse_start(const ControlRequest& request) {
    if (request.method != "POST") return wrong_method(request, "POST");
    BRAID_CHECK(no_query(request));
    const json body = json::parse(request.body, nullptr, false);
    const bool is_order = body.is_object() && body.size() == 1 && body.contains("without") &&
                          body["without"].is_array() && !body["without"].empty() &&
                          body["without"].size() < nodes_max;
    if (!is_order) return bad("the body has to be {\"without\": [ID, ...]}");
    StartWithout command;
    for (const json& node : body["without"]) {
        const bool is_id = node.is_number_unsigned() && node.get<std::uint64_t>() != 0 &&
                           node.get<std::uint64_t>() < nodes_max;
        if (!is_id) return bad(fmt::format("the nodes of a cluster are 1 to {}", nodes_max - 1));
        command.nodes.push_back(node.get<std::uint32_t>());
    }
    return ControlCommand{std::move(command)};
}

Parsed parse_create(const ControlRequest& request) {
    if (request.method != "POST") return wrong_method(request, "POST");
    BRAID_CHECK(no_query(request));
    const json body = json::parse(request.body, nullptr, false);
    if (body.is_discarded()) return bad("the body is no JSON");
    auto order = create_order_of(body);
    if (!order) return bad(order.error().text);
    return ControlCommand{CreateArray{std::move(order).value()}};
}

struct NameAndVerb {
    std::string_view name;
    std::string_view verb;  // empty: there is none
};
/// "NAME/VERB". A member's name may be a path, so the last slash counts.
NameAndVerb name_and_verb(std::string_view rest) {
    const std::size_t slash = rest.rfind('/');
    if (slash == rest.npos) return {rest, {}};
    return {rest.substr(0, slash), rest.substr(slash + 1)};
}

}  // namespace

Result<ControlCommand, HttpError> parse_control(const ControlRequest& request) {
    if (request.body.size() > control_body_size_max) {
        return HttpError{413, fmt::format("a body has at most {} bytes", control_body_size_max),
                         ""};
    }
    const std::string_view path = request.path;
    if (path == "/v1/scrub") return parse_scrub(request);
    if (path == "/v1/intent") return parse_intent(request);
    if (path == "/v1/members") return parse_add(request);
    if (path == "/v1/array") return parse_create(request);
    if (path == "/v1/start") return parse_start(request);
    constexpr std::string_view members = "/v1/members/";
    if (path.starts_with(members)) {
        const auto [name, verb] = name_and_verb(path.substr(members.size()));
        if (verb == "fail" || verb == "remove" || verb == "replace") {
            return parse_member_command(request, std::string(name), verb);
        }
        return no_such_path(request);
    }
    constexpr std::string_view volumes = "/v1/volumes/";
    if (path.starts_with(volumes)) {
        const auto [name, verb] = name_and_verb(path.substr(volumes.size()));
        if (verb != "reserve" && verb != "release") return no_such_path(request);
        return parse_volume_command(request, std::string(name), verb == "reserve");
    }
    constexpr std::string_view nodes = "/v1/nodes/";
    if (path.starts_with(nodes)) {
        const auto [name, verb] = name_and_verb(path.substr(nodes.size()));
        return parse_node_command(request, name, verb);
    }
    if (path != "/v1/status" && path != "/v1/volumes" && path != "/v1/events" &&
        path != "/v1/bad") {
        return no_such_path(request);
    }
    if (request.method != "GET") return wrong_method(request, "GET");
    BRAID_CHECK(no_body(request));
    if (path == "/v1/events") return parse_events(request);
    if (path == "/v1/bad") return parse_bad(request);
    BRAID_CHECK(no_query(request));
    if (path == "/v1/status") return ControlCommand{StatusQuery{}};
    return ControlCommand{VolumesQuery{}};
}

}  // namespace braid::control
