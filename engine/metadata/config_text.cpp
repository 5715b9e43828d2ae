// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/config_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include "engine/base/json_text.h"
#include "engine/base/limits.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/config_bad_rows.h"
#include "engine/metadata/config_check.h"

namespace braid {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint32_t kept_path_short = 100;  // when the text would not fit: then it does

// --- to text ---

/// Of whatever a JSON value can be made from.
std::string line_of(const Json& value) { return one_line(value); }

Json json_of(const std::optional<StripeIndex>& stripe) {
    return stripe ? Json(raw(*stripe)) : Json(nullptr);
}

bool has_left(const MemberRecord& m) {
    const bool is_lost = m.state == MemberState::faulty || m.state == MemberState::missing;
    return is_lost && m.left != EpochRevision{};
}

Json json_of(const MemberRecord& m, std::size_t path_length) {
    Json json;
    json["uuid"] = m.uuid.text();
    json["role"] = m.role ? Json(raw(*m.role)) : Json(nullptr);
    json["state"] = std::string(text_of(m.state));
    json["home"] = m.home;
    json["data_offset"] = m.data_offset;
    json["size"] = m.size;
    json["rebuilt"] = raw(m.rebuilt);
    json["dev_number"] = m.dev_number;
    json["read_errors"] = m.read_errors;
    if (has_left(m)) json["left"] = Json::array({m.left.epoch, m.left.revision});
    json["path"] = m.path.size() <= path_length ? m.path : std::string{};
    return json;
}
Json json_of(const VolumeRecord& v) {
    Json json;
    json["name"] = v.name;
    json["first"] = raw(v.first);
    json["stripes"] = v.stripes;
    return json;
}
Json json_of(const std::optional<ScrubRecord>& scrub) {
    if (!scrub) return nullptr;
    Json json;
    json["position"] = raw(scrub->position);
    json["repair"] = scrub->repair;
    json["mismatches"] = scrub->mismatches;
    json["repaired"] = scrub->repaired;
    if (scrub->bytes_unknown != 0) json["bytes_unknown"] = scrub->bytes_unknown;
    return json;
}

Json json_of(const IntentSettings& intent) {
    Json json;
    json["on"] = intent.on;
    json["region"] = intent.region;
    return json;
}
Json json_of(const Area& area) {
    Json json;
    json["name"] = std::string(area.name);
    json["offset"] = area.offset;
    json["size"] = area.size;
    return json;
}

/// One member or volume a line, so that strings(1) shows something that can be read.
template <class List, class Convert>
std::string lines_of(const List& list, Convert convert) {
    std::string text = "[";
    for (const auto& item : list) {
        text += text.size() == 1 ? "\n  " : ",\n  ";
        text += line_of(convert(item));
    }
    return text + "]";
}

std::string text_with_paths(const ConfigSlot& slot, std::size_t path_length) {
    const Configuration& c = slot.configuration;
    Json on;
    on["member"] = slot.member.text();
    on["checksum"] = slot.tie.checksum;
    on["checksum_before"] = slot.tie.checksum_before;
    std::string text = "{\n";
    const auto add = [&text](std::string_view key, const std::string& value) {
        text += fmt::format(" \"{}\": {},\n", key, value);
    };
    add("array", line_of(c.array.text()));
    add("name", line_of(c.name));
    add("epoch", std::to_string(c.version.epoch));
    add("revision", std::to_string(c.version.revision));
    add("in_force", fmt::format("[{}, {}]", c.in_force.epoch, c.in_force.revision));
    if (c.lineage != Uuid{}) {
        add("lineage", line_of(c.lineage.text()));
        add("tie_breaker", std::to_string(raw(c.tie_breaker)));
    }
    add("events", std::to_string(c.events));
    add("created", std::to_string(c.created));
    add("level", std::to_string(static_cast<unsigned>(c.level)));
    add("layout", c.level == Level::raid4 ? "null" : line_of(std::string(text_of(c.layout))));
    add("strip_size", std::to_string(c.strip_size));
    add("member_count", std::to_string(c.member_count));
    add("stripes", std::to_string(c.stripes));
    add("in_use", c.in_use ? "true" : "false");
    add("resynced", line_of(json_of(c.resynced)));
    add("scrub", line_of(json_of(c.scrub)));
    add("intent", line_of(json_of(c.intent)));
    add("bad_rows", json_text_of(c.bad_rows));
    add("members", lines_of(c.members, [path_length](const MemberRecord& m) {
            return json_of(m, path_length);
        }));
    add("volumes", lines_of(c.volumes, [](const VolumeRecord& v) { return json_of(v); }));
    add("areas", lines_of(areas_of(c), [](const Area& area) { return json_of(area); }));
    text += fmt::format(" \"on\": {}\n}}\n", line_of(on));
    return text;
}

// --- from text ---

/// Reads the keys of one object in any order; remembers the first thing that is wrong.
class Reader {
  public:
    Reader(const Json& object, std::string where) : where_(std::move(where)) {
        if (object.is_object()) {
            object_ = &object;
        } else {
            fail("is not an object");
        }
    }
    const Json* take(std::string_view key) {
        if (object_ == nullptr) return nullptr;
        ++taken_;
        const auto found = object_->find(std::string(key));
        if (found == object_->end()) {
            fail(fmt::format("has no \"{}\"", key));
            return nullptr;
        }
        return &*found;
    }
    std::uint64_t number(std::string_view key, std::uint64_t max = ~std::uint64_t{0}) {
        const Json* value = take(key);
        if (value == nullptr) return 0;
        if (!value->is_number_unsigned() || value->get<std::uint64_t>() > max) {
            fail(fmt::format("\"{}\" is not a whole number from 0 to {}", key, max));
            return 0;
        }
        return value->get<std::uint64_t>();
    }
    std::uint32_t number32(std::string_view key) {
        return static_cast<std::uint32_t>(number(key, 0xffffffff));
    }
    bool truth(std::string_view key) {
        const Json* value = take(key);
        if (value == nullptr) return false;
        if (!value->is_boolean()) fail(fmt::format("\"{}\" is neither true nor false", key));
        return value->is_boolean() && value->get<bool>();
    }
    std::string string(std::string_view key) {
        const Json* value = take(key);
        if (value == nullptr) return {};
        if (!value->is_string()) {
            fail(fmt::format("\"{}\" is not a string", key));
            return {};
        }
        return value->get<std::string>();
    }
    Uuid uuid(std::string_view key) {
        const auto parsed = Uuid::parse(string(key));
        if (!parsed) fail(fmt::format("\"{}\" is not a uuid", key));
        return parsed ? *parsed : Uuid{};
    }
    const Json* array(std::string_view key) {
        const Json* value = take(key);
        if (value == nullptr || value->is_array()) return value;
        fail(fmt::format("\"{}\" is not a list", key));
        return nullptr;
    }
    std::optional<std::uint64_t> number_or_null(std::string_view key) {
        if (object_ != nullptr) {
            if (const auto found = object_->find(std::string(key));
                found != object_->end() && found->is_null()) {
                ++taken_;
                return std::nullopt;
            }
        }
        return number(key);
    }
    void fail(std::string text) {
        if (error_.empty()) error_ = where_ + " " + std::move(text);
    }
    /// After the last key: nothing may be left over.
    Checked<Unit> done() {
        if (object_ != nullptr && object_->size() != taken_)
            fail("has keys that braid does not know");
        if (!error_.empty()) return Refusal{error_};
        return Unit{};
    }

  private:
    const Json* object_{nullptr};
    std::string where_;
    std::size_t taken_{0};
    std::string error_;
};

EpochRevision version_from(Reader& read, std::string_view key) {
    const Json* pair = read.array(key);
    if (pair == nullptr) return {};
    const bool sound =
        pair->size() == 2 && (*pair)[0].is_number_unsigned() && (*pair)[1].is_number_unsigned();
    if (sound) return {(*pair)[0].get<std::uint64_t>(), (*pair)[1].get<std::uint64_t>()};
    read.fail(fmt::format("\"{}\" is not [epoch, revision]", key));
    return {};
}

Checked<MemberRecord> member_from(const Json& json) {
    Reader read(json, "members: a record");
    MemberRecord m;
    m.uuid = read.uuid("uuid");
    if (const auto role = read.number_or_null("role")) {
        if (*role >= members_max) read.fail("has a role that is too high");
        m.role =
            MemberIndex{static_cast<std::uint32_t>(std::min<std::uint64_t>(*role, members_max))};
    }
    const auto state = member_state_of(read.string("state"));
    if (!state) read.fail("has an unknown state");
    m.state = state.value_or(MemberState::missing);
    m.home = read.number32("home");
    m.data_offset = read.number("data_offset");
    m.size = read.number("size");
    m.rebuilt = StripeIndex{read.number("rebuilt")};
    m.dev_number = read.number32("dev_number");
    m.read_errors = read.number("read_errors");
    if (json.is_object() && json.contains("left")) m.left = version_from(read, "left");
    m.path = read.string("path");
    BRAID_CHECK(read.done());
    return m;
}

Checked<VolumeRecord> volume_from(const Json& json) {
    Reader read(json, "volumes: a record");
    VolumeRecord v;
    v.name = read.string("name");
    v.first = StripeIndex{read.number("first")};
    v.stripes = read.number("stripes");
    BRAID_CHECK(read.done());
    return v;
}

Checked<std::optional<ScrubRecord>> scrub_from(const Json& json) {
    std::optional<ScrubRecord> scrub;
    if (json.is_null()) return scrub;
    Reader read(json, "scrub");
    scrub.emplace();
    scrub->position = StripeIndex{read.number("position")};
    scrub->repair = read.truth("repair");
    scrub->mismatches = read.number("mismatches");
    scrub->repaired = read.number("repaired");
    if (json.is_object() && json.contains("bytes_unknown")) {
        scrub->bytes_unknown = read.number("bytes_unknown");
    }
    BRAID_CHECK(read.done());
    return scrub;
}

/// There are no areas yet but those that follow from the members.
Checked<Unit> check_areas(const Json& json, const Configuration& c, std::uint32_t format) {
    Json expected = Json::array();
    for (const Area& area : areas_of(c, format)) expected.push_back(json_of(area));
    if (line_of(json) != line_of(expected)) {
        return Refusal{"areas: not those that follow from the members' data_offset"};
    }
    return Unit{};
}

Level level_from(Reader& read) {
    const std::uint64_t level = read.number("level");
    if (level < 4 || level > 6) read.fail("\"level\" is not 4, 5 or 6");
    return level == 4 ? Level::raid4 : level == 6 ? Level::raid6 : Level::raid5;
}

Layout layout_from(Reader& read, Level level) {
    const Json* value = read.take("layout");
    if (value == nullptr) return Layout::left_symmetric;
    if (level == Level::raid4) {
        if (!value->is_null()) read.fail("\"layout\" is not null, but RAID-4 has none");
        return Layout::left_symmetric;
    }
    const auto layout = value->is_string() ? layout_of(value->get_ref<const std::string&>())
                                           : std::optional<Layout>{};
    if (!layout) read.fail("\"layout\" is unknown");
    return layout.value_or(Layout::left_symmetric);
}

Checked<Unit> read_lists(Reader& read, Configuration& c) {
    if (const Json* members = read.array("members")) {
        for (const Json& json : *members) {
            BRAID_TRY(MemberRecord member, member_from(json));
            c.members.push_back(std::move(member));
        }
    }
    if (const Json* volumes = read.array("volumes")) {
        for (const Json& json : *volumes) {
            BRAID_TRY(VolumeRecord volume, volume_from(json));
            c.volumes.push_back(std::move(volume));
        }
    }
    return Unit{};
}

/// Before format 3 there were epochs only, 1 more each time, and "settled" named the one that every
/// member had held at least before this configuration was written to any: the same as in_force.
void read_version(Reader& read, Configuration& c, std::uint32_t format) {
    c.version.epoch = read.number("epoch");
    if (format < 3) {
        c.in_force.epoch = read.number("settled");
        return;
    }
    c.version.revision = read.number("revision");
    c.in_force = version_from(read, "in_force");
}

/// [member, first, count, "retry" or "void"]; before format 3 [member, first, count], which is
/// void.
std::optional<BadRange> bad_range_of(const Json& json, std::uint32_t format) {
    const std::size_t size = format < 3 ? 3 : 4;
    if (!json.is_array() || json.size() != size) return std::nullopt;
    for (std::size_t i = 0; i != 3; ++i) {
        if (!json[i].is_number_unsigned()) return std::nullopt;
    }
    if (json[0].get<std::uint64_t>() >= members_max) return std::nullopt;
    BadRange range{MemberIndex{json[0].get<std::uint32_t>()},
                   RowIndex{json[1].get<std::uint64_t>()}, json[2].get<std::uint64_t>(),
                   BadKind::voided};
    if (format < 3) return range;
    if (!json[3].is_string()) return std::nullopt;
    const auto kind = bad_kind_of(json[3].get<std::string>());
    if (!kind) return std::nullopt;
    range.kind = *kind;
    return range;
}

/// Since format 2.
Checked<Unit> read_intent(Reader& read, Configuration& c, std::uint32_t format) {
    if (const Json* json = read.take("intent")) {
        Reader intent(*json, "intent");
        c.intent.on = intent.truth("on");
        c.intent.region = intent.number("region");
        BRAID_CHECK(intent.done());
    }
    if (const Json* rows = read.array("bad_rows")) {
        for (const Json& json : *rows) {
            const std::optional<BadRange> range = bad_range_of(json, format);
            if (!range) {
                return Refusal{format < 3 ? "bad_rows: a range is not [member, first, count]"
                                          : "bad_rows: a range is not [member, first, count, "
                                            "\"retry\" or \"void\"]"};
            }
            c.bad_rows.push_back(*range);
        }
        // Older formats took less room for each.
        if (format < 3 && c.bad_rows.size() <= bad_ranges_max) merge_to_fit(c.bad_rows);
    }
    return Unit{};
}

/// Parses without exceptions, and refuses a key that an object has twice: which would count?
Checked<Json> parse(std::string_view text) {
    std::vector<std::set<std::string>> keys;
    bool doubled = false;
    const auto watch = [&keys, &doubled](int, Json::parse_event_t event, Json& parsed) {
        if (event == Json::parse_event_t::object_start) {
            keys.emplace_back();
        } else if (event == Json::parse_event_t::object_end) {
            keys.pop_back();
        } else if (event == Json::parse_event_t::key) {
            doubled |= !keys.back().insert(parsed.get<std::string>()).second;
        }
        return true;
    };
    Json json = Json::parse(text, watch, false);
    if (json.is_discarded()) return Refusal{"is not JSON"};
    if (doubled) return Refusal{"has a key twice"};
    return json;
}

}  // namespace

std::string to_json_text(const ConfigSlot& slot) {
    std::string text = text_with_paths(slot, member_path_max);
    if (text.size() > slot_text_max) text = text_with_paths(slot, kept_path_short);
    if (text.size() > slot_text_max) text = text_with_paths(slot, 0);
    BRAID_REQUIRE(text.size() <= slot_text_max);
    return text;
}

Checked<ConfigSlot> from_json_text(std::string_view text, std::uint32_t format) {
    BRAID_TRY(const Json json, parse(text));
    Reader read(json, "the configuration");
    ConfigSlot slot;
    Configuration& c = slot.configuration;
    c.array = read.uuid("array");
    c.name = read.string("name");
    read_version(read, c, format);
    if (json.is_object() && json.contains("lineage")) {
        c.lineage = read.uuid("lineage");
        if (c.lineage == Uuid{}) read.fail("\"lineage\" is nil");
        c.tie_breaker =
            MemberIndex{static_cast<std::uint32_t>(read.number("tie_breaker", members_max - 1))};
    }
    c.events = read.number("events");
    c.created = read.number("created");
    c.level = level_from(read);
    c.layout = layout_from(read, c.level);
    c.strip_size = read.number("strip_size");
    c.member_count = read.number32("member_count");
    c.stripes = read.number("stripes");
    c.in_use = read.truth("in_use");
    if (const auto stripe = read.number_or_null("resynced")) c.resynced = StripeIndex{*stripe};
    if (const Json* scrub = read.take("scrub")) {
        BRAID_TRY(c.scrub, scrub_from(*scrub));
    }
    BRAID_CHECK(read_lists(read, c));
    if (format >= 2) BRAID_CHECK(read_intent(read, c, format));
    if (const Json* on = read.take("on")) {
        Reader tie(*on, "on");
        slot.member = tie.uuid("member");
        slot.tie.checksum = tie.number32("checksum");
        slot.tie.checksum_before = tie.number32("checksum_before");
        BRAID_CHECK(tie.done());
    }
    const Json* areas = read.array("areas");
    BRAID_CHECK(read.done());
    BRAID_CHECK(check_configuration(c));
    BRAID_CHECK(check_areas(*areas, c, format));
    return slot;
}

}  // namespace braid
