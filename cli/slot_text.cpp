// SPDX-License-Identifier: BSD-3-Clause
#include "cli/slot_text.h"

#include <fmt/format.h>

#include <algorithm>

#include "cli/text.h"

namespace braid::cli {
namespace {

const MemberRecord* own_record(const ConfigSlot& slot) {
    const auto& members = slot.configuration.members;
    const auto found = std::ranges::find(members, slot.member, &MemberRecord::uuid);
    return found == members.end() ? nullptr : &*found;
}

std::string state_words(const Configuration& c) {
    std::string text = c.in_use ? "in use by braid, or not stopped cleanly" : "cleanly stopped";
    if (c.resynced) text += fmt::format(", parity true before stripe {}", raw(*c.resynced));
    if (!c.bad_rows.empty()) text += fmt::format(", {} ranges of bad rows", c.bad_rows.size());
    return text;
}

std::string rebuilt_words(const MemberRecord& record) {
    if (record.state != MemberState::rebuilding) return {};
    return fmt::format(" up to stripe {}", raw(record.rebuilt));
}

}  // namespace

std::string slot_lines(const ConfigSlot& slot) {
    const Configuration& c = slot.configuration;
    std::string text = fmt::format("  says      array {}{}{}\n", c.array.text(),
                                   c.name.empty() ? "" : "  ", c.name);
    text += fmt::format("            RAID-{} of {} members, {} stripes, strips of {}{}{}\n",
                        static_cast<int>(c.level), c.member_count, c.stripes,
                        size_text(c.strip_size), c.level == Level::raid5 ? ", " : "",
                        c.level == Level::raid5 ? text_of(c.layout) : "");
    text +=
        fmt::format("            {}, events {}, {}\n", c.version.text(), c.events, state_words(c));
    if (c.lineage != Uuid{}) {
        text += fmt::format("            started by force once (lineage {})\n", c.lineage.text());
    }
    if (const MemberRecord* own = own_record(slot)) {
        text += fmt::format("  role      {}, {}{}, uuid {}\n", text_of_part(*own),
                            text_of(own->state), rebuilt_words(*own), slot.member.text());
        if (own->state != MemberState::witness) {
            text += fmt::format("  data      {} from byte {} on\n", size_text(c.member_data_size()),
                                own->data_offset);
        }
    }
    for (const MemberRecord& record : c.members) {
        if (record.uuid == slot.member) continue;
        text += fmt::format("  beside    {}, {}, {}\n", text_of_part(record), text_of(record.state),
                            record.path);
    }
    for (const VolumeRecord& volume : c.volumes) {
        text += fmt::format("  volume    {}  {}, stripes {} to {}\n", volume.name,
                            size_text(c.area_of(volume).size), raw(volume.first),
                            raw(volume.end() - 1));
    }
    return text;
}

std::string parts_lines(const Configuration& c) {
    std::string text;
    for (const MemberRecord& member : c.members) {
        text += fmt::format("  {:<9} {:<10}  {}\n", text_of_part(member), text_of(member.state),
                            member.path);
    }
    for (const VolumeRecord& volume : c.volumes) {
        text +=
            fmt::format("  volume    {:<10}  {}\n", volume.name, size_text(c.area_of(volume).size));
    }
    return text;
}

nlohmann::ordered_json slot_json(const ConfigSlot& slot) {
    const Configuration& c = slot.configuration;
    nlohmann::ordered_json json;
    json["array"] = c.array.text();
    json["name"] = c.name;
    json["uuid"] = slot.member.text();
    json["epoch"] = c.version.epoch;
    json["revision"] = c.version.revision;
    if (c.lineage != Uuid{}) json["lineage"] = c.lineage.text();
    json["events"] = c.events;
    json["level"] = static_cast<int>(c.level);
    json["layout"] = std::string(text_of(c.layout));
    if (c.level == Level::raid4) json["layout"] = nullptr;
    json["strip_size"] = c.strip_size;
    json["member_count"] = c.member_count;
    json["stripes"] = c.stripes;
    json["in_use"] = c.in_use;
    json["clean"] = !c.in_use && !c.resynced;
    if (const MemberRecord* own = own_record(slot)) {
        json["role"] = nullptr;
        if (own->role) json["role"] = raw(*own->role);
        json["state"] = std::string(text_of(own->state));
        json["data_offset"] = own->data_offset;
        json["size"] = c.member_data_size();
    }
    json["volumes"] = nlohmann::ordered_json::array();
    for (const VolumeRecord& volume : c.volumes) {
        nlohmann::ordered_json item;
        item["name"] = volume.name;
        item["offset"] = c.area_of(volume).begin.value;
        item["size"] = c.area_of(volume).size;
        json["volumes"].push_back(std::move(item));
    }
    return json;
}

}  // namespace braid::cli
