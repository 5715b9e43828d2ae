// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/config_slot.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "engine/base/crc32c.h"
#include "engine/base/limits.h"

namespace braid {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::uint64_t seconds_max = std::uint64_t{1} << 40;
constexpr std::uint32_t kept_path_short = 100;  // when the text would not fit: then it does

Refusal refuse(std::string text) { return Refusal{std::move(text)}; }

bool is_alphanumeric(char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

// --- checks ---

Checked<Unit> check_shape(const Configuration& c) {
    if (c.array == Uuid{}) return refuse("array: no uuid");
    if (!is_array_name(c.name)) return refuse("name: not up to 63 printable ASCII characters");
    if (c.version.epoch > epoch_max || c.version.revision > epoch_max) {
        return refuse("epoch, revision: beyond any that can come");
    }
    const bool stored = c.version.epoch != 0;  // else it is only being made, of what md left
    if (stored ? c.in_force >= c.version : c.in_force != EpochRevision{}) {
        return refuse("in_force: not before the configuration itself");
    }
    if (c.created >= seconds_max) return refuse("created: beyond any date");
    if (c.level != Level::raid5 && c.layout != Layout::left_symmetric) {
        return refuse("layout: only RAID-5 has a choice of layouts");
    }
    if (!std::has_single_bit(c.strip_size) || c.strip_size < strip_size_min ||
        c.strip_size > strip_size_max) {
        return refuse(
            fmt::format("strip_size: {} is not a power of two from 4 KiB to 16 MiB", c.strip_size));
    }
    const std::uint32_t members_min = parities_of(c.level) + 2;
    if (c.member_count < members_min || c.member_count > members_max) {
        return refuse(fmt::format("member_count: {}, not {} to {}", c.member_count, members_min,
                                  members_max));
    }
    if (c.stripes == 0 || c.stripes > member_size_max / c.strip_size) {
        return refuse(fmt::format("stripes: {} of {} bytes", c.stripes, c.strip_size));
    }
    if (c.resynced && raw(*c.resynced) > c.stripes) return refuse("resynced: beyond the array");
    if (c.scrub && raw(c.scrub->position) > c.stripes) return refuse("scrub: beyond the array");
    return Unit{};
}

Checked<Unit> check_member(const Configuration& c, const MemberRecord& m) {
    const bool live = takes_part(m.state);
    if (live && !m.role) return refuse("state: in the array, but without a role");
    if (m.role && m.state == MemberState::spare) return refuse("state: a spare with a role");
    if (m.uuid == Uuid{} && m.state != MemberState::missing) return refuse("uuid: none");
    if (m.home >= nodes_max) return refuse("home: no such node");
    if (m.dev_number >= md_devices_max) return refuse("dev_number: beyond md's table");
    if (m.path != path_to_keep(m.path)) return refuse("path: too long or not printable");
    if (raw(m.rebuilt) > c.stripes) return refuse("rebuilt: beyond the array");
    if (!is_row_aligned(m.data_offset) || m.data_offset > member_size_max ||
        m.size > 2 * member_size_max) {
        return refuse("data_offset, size: beyond any device, or not on a row");
    }
    if (m.state == MemberState::missing || m.state == MemberState::faulty) return Unit{};
    if (m.data_offset < slots_end) return refuse("data_offset: over the configuration");
    if (m.size < m.data_offset + c.stripes * c.strip_size) {
        return refuse("size: less than the array uses of it");
    }
    return Unit{};
}

Checked<Unit> check_members(const Configuration& c) {
    if (c.members.size() < c.member_count || c.members.size() > c.member_count + spares_max) {
        return refuse(fmt::format("members: {} records for {} members and at most {} spares",
                                  c.members.size(), c.member_count, spares_max));
    }
    std::set<Uuid> uuids;
    std::set<std::uint32_t> numbers;
    for (std::size_t at = 0; at != c.members.size(); ++at) {
        const MemberRecord& m = c.members[at];
        const bool in_place = at < c.member_count ? m.role && raw(*m.role) == at : !m.role;
        if (!in_place) {
            return refuse(
                fmt::format("members: record {} has not the role of its place; each role "
                            "comes once, in order, then the spares",
                            at));
        }
        if (auto checked = check_member(c, m); !checked) {
            return refuse(fmt::format("members: record {}: {}", at, checked.error().text));
        }
        if (m.uuid != Uuid{} && !uuids.insert(m.uuid).second) {
            return refuse(fmt::format("members: {} comes twice", m.uuid.text()));
        }
        if (!numbers.insert(m.dev_number).second) {
            return refuse(fmt::format("members: dev_number {} comes twice", m.dev_number));
        }
    }
    return Unit{};
}

Checked<Unit> check_volumes(const Configuration& c) {
    if (c.volumes.size() > volumes_max) {
        return refuse(fmt::format("volumes: {}, more than {}", c.volumes.size(), volumes_max));
    }
    std::set<std::string_view> names;
    std::uint64_t free_from = 0;
    for (const VolumeRecord& v : c.volumes) {
        if (!is_volume_name(v.name)) {
            return refuse(
                "volumes: a name is not 1 to 63 letters, digits, '.', '_', '-', a letter "
                "or digit first");
        }
        if (!names.insert(v.name).second) {
            return refuse(fmt::format("volumes: {} comes twice", v.name));
        }
        if (raw(v.first) < free_from) {
            return refuse(fmt::format("volumes: {} overlaps the one before it", v.name));
        }
        if (v.stripes == 0 || raw(v.first) > c.stripes || v.stripes > c.stripes - raw(v.first)) {
            return refuse(fmt::format("volumes: {} is empty or reaches beyond the array", v.name));
        }
        free_from = raw(v.first) + v.stripes;
    }
    return Unit{};
}

Checked<Unit> check_intent(const Configuration& c) {
    const std::uint64_t region = c.intent.region;
    if (!check_intent_region(region)) {
        return refuse(
            fmt::format("intent: a region of {} bytes is not a power of two from {} to {}", region,
                        intent_region_min, intent_region_max));
    }
    if (!fit_slot(c.bad_rows)) {
        return refuse(fmt::format("bad_rows: {} ranges, too many for a configuration slot",
                                  c.bad_rows.size()));
    }
    const std::uint64_t rows = c.stripes * (c.strip_size / row_size);
    const BadRange* before = nullptr;
    for (const BadRange& range : c.bad_rows) {
        if (raw(range.member) >= c.member_count) return refuse("bad_rows: no such member");
        if (range.count == 0 || range.first > rows || range.count > rows - range.first) {
            return refuse("bad_rows: a range is empty or reaches beyond the member");
        }
        const bool in_order =
            before == nullptr || before->member < range.member ||
            (before->member == range.member &&
             (before->first + before->count < range.first ||
              (before->first + before->count == range.first && before->kind != range.kind)));
        if (!in_order) return refuse("bad_rows: not in order, or two ranges of a kind touch");
        before = &range;
    }
    return Unit{};
}

// --- to text ---

std::string line_of(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

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
    return json;
}

Json json_of(const IntentSettings& intent) {
    Json json;
    json["on"] = intent.on;
    json["region"] = intent.region;
    return json;
}
Json json_of(std::span<const BadRange> ranges) {
    Json list = Json::array();  // short: there may be many
    for (const BadRange& range : ranges) {
        list.push_back(Json::array(
            {raw(range.member), range.first, range.count, std::string(text_of(range.kind))}));
    }
    return list;
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
    add("bad_rows", line_of(json_of(std::span<const BadRange>(c.bad_rows))));
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
        if (!error_.empty()) return refuse(error_);
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
    BRAID_CHECK(read.done());
    return scrub;
}

/// There are no areas yet but those that follow from the members.
Checked<Unit> check_areas(const Json& json, const Configuration& c, std::uint32_t format) {
    Json expected = Json::array();
    for (const Area& area : areas_of(c, format)) expected.push_back(json_of(area));
    if (line_of(json) != line_of(expected)) {
        return refuse("areas: not those that follow from the members' data_offset");
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
    BadRange range{MemberIndex{json[0].get<std::uint32_t>()}, json[1].get<std::uint64_t>(),
                   json[2].get<std::uint64_t>(), BadKind::voided};
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
                return refuse(format < 3 ? "bad_rows: a range is not [member, first, count]"
                                         : "bad_rows: a range is not [member, first, count, "
                                           "\"retry\" or \"void\"]");
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
    if (json.is_discarded()) return refuse("is not JSON");
    if (doubled) return refuse("has a key twice");
    return json;
}

std::uint32_t crc_of(const SlotHeader& header, ByteView text) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&header);
    constexpr std::size_t start = offsetof(SlotHeader, format);
    return crc32c(text, crc32c({bytes + start, sizeof header - start}));
}

Result<void, Finding> check_header(const SlotHeader& header, std::uint32_t slot) {
    if (plain(header.format) < slot_format_oldest || plain(header.format) > slot_format) {
        return Finding{FindingKind::unsupported,
                       fmt::format("configuration slot {} has format {}; this braid knows formats "
                                   "{} to {}: use a newer one",
                                   slot, plain(header.format), slot_format_oldest, slot_format)};
    }
    if (!std::ranges::all_of(header.reserved, [](auto byte) { return byte == 0; })) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: reserved bytes are not zero", slot));
    }
    if (header.sequence % slot_count != slot) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: it holds number {}, which "
                        "belongs into the other",
                        slot, plain(header.sequence)));
    }
    return {};
}

}  // namespace

bool is_array_name(std::string_view name) {
    return name.size() <= name_length_max &&
           std::ranges::all_of(name, [](char c) { return c >= ' ' && c <= '~'; });
}

bool is_volume_name(std::string_view name) {
    return !name.empty() && name.size() <= name_length_max && is_alphanumeric(name[0]) &&
           std::ranges::all_of(
               name, [](char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

std::string path_to_keep(std::string_view path) {
    std::string kept;
    for (const char c :
         path.size() > member_path_max ? path.substr(path.size() - member_path_max) : path) {
        kept += c >= ' ' && c <= '~' ? c : '?';
    }
    return kept;
}

std::vector<Area> areas_of(const Configuration& configuration, std::uint32_t format) {
    std::uint64_t end = member_size_max;
    for (const MemberRecord& member : configuration.members) {
        if (member.data_offset >= slots_end) end = std::min(end, member.data_offset - row_size);
    }
    std::vector<Area> areas{{"configuration", slots_offset, slots_end - slots_offset}};
    if (end == member_size_max || end < slots_end + write_intent_size) return areas;
    areas.push_back({"write_intent", slots_end, write_intent_size});
    std::uint64_t reserved = slots_end + write_intent_size;
    if (format >= 3 && end >= promises_end) {
        areas.push_back({"promises", promises_offset, promises_end - promises_offset});
        reserved = promises_end;
    }
    if (end > reserved) areas.push_back({"reserved", reserved, end - reserved});
    return areas;
}

Checked<Unit> check_configuration(const Configuration& configuration) {
    BRAID_CHECK(check_shape(configuration));
    BRAID_CHECK(check_members(configuration));
    BRAID_CHECK(check_intent(configuration));
    BRAID_CHECK(check_volumes(configuration));
    return Unit{};
}

bool fit_slot(std::span<const BadRange> ranges) {
    return ranges.size() <= bad_ranges_max && line_of(json_of(ranges)).size() <= bad_rows_text_max;
}

namespace {

/// What it costs to list along what lies between a range and the next one; none: it cannot be.
std::optional<std::uint64_t> gap_cost(const BadRange& range, const BadRange& next,
                                      MemberSet written_since) {
    if (range.member != next.member || range.kind != next.kind) return std::nullopt;
    if (range.kind == BadKind::retry && written_since.has(raw(range.member))) return std::nullopt;
    const std::uint64_t end = range.first + range.count;
    if (next.first < end) return std::nullopt;  // not in order: refused elsewhere
    constexpr std::uint64_t void_weight = 8;    // what is void is lost, what is tried again is not
    const std::uint64_t gap = next.first - end;
    return range.kind == BadKind::voided ? gap * void_weight : gap;
}

}  // namespace

bool merge_to_fit(std::vector<BadRange>& ranges, MemberSet written_since) {
    while (!fit_slot(ranges)) {
        std::vector<std::uint64_t> costs;
        for (std::size_t i = 0; i + 1 < ranges.size(); ++i) {
            const auto cost = gap_cost(ranges[i], ranges[i + 1], written_since);
            if (cost) costs.push_back(*cost);
        }
        if (costs.empty()) return false;
        // Some at once, the cheapest first, so that a long list is not looked at for each.
        const std::size_t some = std::min(costs.size() - 1, ranges.size() / 16);
        std::ranges::nth_element(costs, costs.begin() + static_cast<std::ptrdiff_t>(some));
        std::vector<BadRange> merged;
        std::size_t left = some + 1;  // many may cost the same
        for (const BadRange& next : ranges) {
            const auto cost =
                merged.empty() ? std::nullopt : gap_cost(merged.back(), next, written_since);
            if (cost && *cost <= costs[some] && left != 0) {
                --left;
                merged.back().count = next.first + next.count - merged.back().first;
            } else {
                merged.push_back(next);
            }
        }
        ranges = std::move(merged);
    }
    return true;
}

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

Buffer encode_slot(const ConfigSlot& slot) {
    const std::string text = to_json_text(slot);
    SlotHeader header{};
    header.magic = slot_magic;
    header.format = slot_format;
    header.array = slot.configuration.array;
    header.sequence = slot.sequence;
    header.epoch = slot.configuration.version.epoch;
    header.revision = slot.configuration.version.revision;
    header.text_size = static_cast<std::uint32_t>(text.size());
    header.crc32c = crc_of(header, std::as_bytes(std::span(text)));
    Buffer bytes(slot_size);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, text.data(), text.size());
    return bytes;
}

Result<ConfigSlot, Finding> decode_slot(ByteView bytes, std::uint32_t slot) {
    SlotHeader header;
    if (bytes.size() < slot_size) return Finding{FindingKind::none, "beyond the member's end"};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.magic != slot_magic) return Finding{FindingKind::none, "holds no configuration"};
    const std::uint32_t size = header.text_size;
    if (size == 0 || size > slot_text_max) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: {} bytes of text", slot, size));
    }
    const ByteView text = bytes.subspan(sizeof header, size);
    if (const std::uint32_t sum = crc_of(header, text); plain(header.crc32c) != sum) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: its CRC-32C is {:08x}, but "
                        "it says {:08x}",
                        slot, sum, plain(header.crc32c)));
    }
    BRAID_CHECK(check_header(header, slot));
    auto parsed =
        from_json_text({reinterpret_cast<const char*>(text.data()), text.size()}, header.format);
    if (!parsed) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: {}", slot, parsed.error().text));
    }
    if (parsed->configuration.array != header.array ||
        plain(header.epoch) != parsed->configuration.version.epoch ||
        plain(header.revision) != parsed->configuration.version.revision) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: header and text disagree", slot));
    }
    parsed->sequence = header.sequence;
    return std::move(parsed).value();
}

}  // namespace braid
