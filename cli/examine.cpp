// SPDX-License-Identifier: BSD-3-Clause
// braid examine: what the members say of themselves, and what array they would make. Reads only,
// and takes no lock, so that it may look at members that are being served.
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/file.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cstring>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "cli/examine_intent.h"
#include "cli/fields.h"
#include "cli/offline.h"
#include "cli/online_tools.h"
#include "cli/slot_text.h"
#include "cli/text.h"
#include "engine/assembly/assembly.h"
#include "engine/base/os_error.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "engine/probe/probe.h"

namespace braid::cli {
namespace {

using Json = nlohmann::ordered_json;

struct ExamineArguments {
    std::vector<std::string> paths;
    bool as_json{false};
};

struct Examined {
    std::string path;
    std::string trouble;  // why it could not be read
    bool busy{false};     // somebody holds it: it may change under us
    MemberImage image;
    MemberFindings findings;
    std::vector<std::string> other_content;
    bool has_superblock() const { return trouble.empty() && findings.superblock.has_value(); }
};

/// The members of one array, and what comes of them.
struct Group {
    Uuid array;
    std::vector<const Examined*> members;
    Checked<Assembly> assembly{Refusal{}};
    std::vector<NewestIntent> newest;

    /// Of the assembly; if there is none, the newest that was found. Null: there is none.
    const Configuration* configuration() const {
        if (assembly) return &assembly->configuration;
        const Configuration* best = nullptr;
        for (const Examined* member : members) {
            const ConfigSlot* slot = member->findings.slot();
            if (slot == nullptr) continue;
            if (best == nullptr || slot->configuration.version > best->version) {
                best = &slot->configuration;
            }
        }
        return best;
    }
    bool unclean() const {
        if (assembly) return assembly->unclean;
        const Configuration* found = configuration();
        return found != nullptr && found->in_use;
    }
};
const std::vector<NewestIntent> nothing_newest;

// --- looking ---

bool is_locked(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    return fd.get() >= 0 && flock(fd.get(), LOCK_SH | LOCK_NB) != 0;
}

/// What can be made of a member once its metadata was read, or could not be.
void look_at(Examined& examined) {
    if (examined.image.os_error != 0) {
        examined.trouble = fmt::format("{}: cannot be read: {}", examined.path,
                                       os_error_text(examined.image.os_error));
        return;
    }
    examined.findings = inspect(examined.image);
    if (!examined.has_superblock()) {
        if (const auto found = probe_content(examined.path)) examined.other_content = *found;
    }
}

std::vector<Examined> examine_all(UringLoop& loop, const std::vector<std::string>& paths) {
    std::vector<Examined> all(paths.size());
    std::vector<std::unique_ptr<UringDisk>> disks;
    std::vector<Disk*> readable;
    for (std::size_t at = 0; at != paths.size(); ++at) {
        all[at].path = paths[at];
        auto disk = open_disk(loop, paths[at], {.readonly = true, .lock = false});
        if (!disk) {
            all[at].trouble = disk.error().text;
            continue;
        }
        all[at].busy = is_locked(paths[at]);
        readable.push_back(disk->get());
        disks.push_back(std::move(disk).value());
    }
    auto images = loop.run_until_done(read_member_images(loop.ready(), loop, std::move(readable)));
    auto image = images.begin();
    for (Examined& examined : all) {
        if (!examined.trouble.empty()) continue;
        examined.image = std::move(*image++);
        look_at(examined);
    }
    return all;
}

Uuid array_of(const Examined& examined) {
    if (examined.has_superblock()) return examined.findings.superblock->set_uuid;
    const ConfigSlot* slot = examined.findings.slot();
    return slot == nullptr ? Uuid{} : slot->configuration.array;
}

std::vector<Group> assemble_groups(const std::vector<Examined>& all) {
    std::map<Uuid, Group> groups;
    for (const Examined& examined : all) {
        const Uuid array = array_of(examined);
        if (!examined.trouble.empty() || array == Uuid{}) continue;
        groups[array].array = array;
        groups[array].members.push_back(&examined);
    }
    std::vector<Group> result;
    for (auto& [array, group] : groups) {
        std::vector<MemberImage> images;
        for (const Examined* member : group.members) images.push_back(member->image);
        group.assembly = assemble(images, {.purpose = Purpose::look});
        std::vector<IntentHolder> holders;
        for (const Examined* member : group.members) {
            holders.push_back({member->path, &member->findings});
        }
        group.newest = newest_intents(holders);
        result.push_back(std::move(group));
    }
    return result;
}

const std::vector<NewestIntent>& newest_of(const Examined& examined,
                                           const std::vector<Group>& groups) {
    for (const Group& group : groups) {
        if (std::ranges::find(group.members, &examined) != group.members.end()) return group.newest;
    }
    return nothing_newest;
}

// --- for people ---

std::string state_of(const MdSuperblock& sb, const ConfigSlot* slot) {
    if (is_in_use(sb) && slot != nullptr && !slot->configuration.in_use) {
        return "clean, and kept from md for the sake of bad rows";
    }
    if (is_in_use(sb)) return "in use by braid, or not stopped cleanly";
    if (plain(sb.resync_offset) == md_never) return "clean";
    if (plain(sb.resync_offset) == 0) return "dirty";
    return fmt::format("to be resynced from stripe {}",
                       plain(sb.resync_offset) / plain(sb.chunksize));
}

std::string role_text(std::uint16_t role) {
    if (role == md_role::spare) return "spare";
    if (role == md_role::faulty) return "faulty";
    return fmt::format("member {}", role);
}

void print_superblock(const MdSuperblock& sb, const ConfigSlot* slot) {
    const std::string name = name_of(sb);
    fmt::print("  array     {}{}{}\n", sb.set_uuid.text(), name.empty() ? "" : "  ", name);
    fmt::print("            RAID-{} of {} members, strips of {}{}{}\n", plain(sb.level),
               plain(sb.raid_disks), size_text(strip_size_of(sb)), plain(sb.level) == 5 ? ", " : "",
               plain(sb.level) == 5 ? text_of(layout_of(sb)) : "");
    fmt::print("  role      {}, uuid {}\n", role_text(role_of(sb)), sb.device_uuid.text());
    fmt::print("  data      {} from byte {} on\n", size_text(to_bytes({plain(sb.size)}).value),
               to_bytes({plain(sb.data_offset)}).value);
    fmt::print("  md        events {}, {}{}\n", plain(sb.events), state_of(sb, slot),
               (sb.feature_map & md_feature::bitmap) != 0 ? ", with a bitmap" : "");
}

void print_slots(const MemberFindings& findings) {
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        const auto& found = findings.slots[slot];
        const char* mark = findings.newest == slot ? "  (newest)" : "";
        if (found) {
            fmt::print("  slot {}    {}, number {}{}\n", slot, found->configuration.version.text(),
                       found->sequence, mark);
        } else if (found.error().kind != FindingKind::none) {
            fmt::print("  slot {}    {}\n", slot, found.error().text);
        }
    }
    if (findings.promise.epoch != 0) {
        fmt::print("  promise   epoch {}, number {}\n", findings.promise.epoch,
                   findings.promise.sequence);
    } else if (findings.promise_hindrance) {
        fmt::print("  promise   {}\n", findings.promise_hindrance->text);
    }
    if (findings.slot() != nullptr && findings.superblock && !findings.is_tied()) {
        fmt::print("            md has written the superblock since\n");
    }
}

void print_member(const Examined& examined, const std::vector<Group>& groups) {
    if (!examined.trouble.empty()) {
        fmt::print("{}\n\n", examined.trouble);
        return;
    }
    fmt::print("{}  {}{}\n", examined.path, size_text(examined.image.device_size),
               examined.busy ? "  (in use by another process: what is shown may change)" : "");
    if (examined.has_superblock()) {
        print_superblock(*examined.findings.superblock, examined.findings.slot());
    } else if (!examined.image.elsewhere.empty()) {
        fmt::print("  holds {}; braid reads version 1.2 only\n", examined.image.elsewhere);
    } else {
        fmt::print("  {}\n", examined.findings.superblock.error().text);
    }
    for (const std::string& content : examined.other_content) fmt::print("  holds {}\n", content);
    print_slots(examined.findings);
    if (!examined.has_superblock() && examined.findings.slot() != nullptr) {
        fmt::print("{}", slot_lines(*examined.findings.slot()));
        fmt::print(
            "            braid restore puts the superblock back, if nothing else is wrong\n");
    }
    fmt::print("{}", intent_lines_of(examined.findings, newest_of(examined, groups)));
    if (examined.findings.hindrance) fmt::print("  {}\n", examined.findings.hindrance->text);
    fmt::print("\n");
}

void print_assembly(const Assembly& assembly, const std::vector<NewestIntent>& newest) {
    const Configuration& c = assembly.configuration;
    const std::uint32_t lost = c.lost_count();
    fmt::print("array {}{}{}: {}\n", c.name, c.name.empty() ? "" : " ", c.array.text(),
               lost == 0 ? "would start" : "would start degraded");
    fmt::print("  RAID-{} of {}, {} for data, {}\n", static_cast<int>(c.level), c.member_count,
               size_text(c.data_size()), c.version.epoch == 0 ? "as md left it" : c.version.text());
    fmt::print("{}", parts_lines(c));
    fmt::print("{}", intent_lines_of(c, assembly.unclean, newest));
    for (const std::string& notice : assembly.notices) fmt::print("  note      {}\n", notice);
}

void print_group(const Group& group) {
    if (group.assembly) return print_assembly(*group.assembly, group.newest);
    fmt::print("array {}: would not start\n", group.array.text());
    std::string text = group.assembly.error().text;
    for (std::size_t at = 0; (at = text.find('\n', at)) != std::string::npos; at += 3) {
        text.replace(at, 1, "\n  ");
    }
    fmt::print("  {}\n", text);
    if (const Configuration* c = group.configuration()) {
        fmt::print("{}", intent_lines_of(*c, group.unclean(), group.newest));
    }
}

// --- for programs ---

Json json_of(const MdSuperblock& sb) {
    Json json;
    json["array"] = sb.set_uuid.text();
    json["name"] = name_of(sb);
    json["uuid"] = sb.device_uuid.text();
    json["level"] = plain(sb.level);
    json["layout"] = plain(sb.layout);
    json["strip_size"] = strip_size_of(sb);
    json["member_count"] = plain(sb.raid_disks);
    json["stripes"] = stripes_of(sb);
    const std::uint16_t role = role_of(sb);
    json["role"] = role < md_role::special_first ? Json(role) : Json(nullptr);
    json["role_text"] = role_text(role);
    json["dev_number"] = plain(sb.dev_number);
    json["data_offset"] = to_bytes({plain(sb.data_offset)}).value;
    json["size"] = to_bytes({plain(sb.size)}).value;
    json["events"] = plain(sb.events);
    json["features"] = plain(sb.feature_map);
    json["in_use"] = is_in_use(sb);
    json["clean"] = !is_in_use(sb) && plain(sb.resync_offset) == md_never;
    json["volumes_in_slots"] = has_volumes(sb);
    json["logical_block_size"] = plain(sb.logical_block_size);
    return json;
}

Json json_of_slot(const Result<ConfigSlot, Finding>& found, bool newest) {
    Json json;
    json["valid"] = found.has_value();
    json["newest"] = newest;
    if (found) {
        json["epoch"] = found->configuration.version.epoch;
        json["revision"] = found->configuration.version.revision;
        json["sequence"] = found->sequence;
        json["configuration"] = Json::parse(to_json_text(*found), nullptr, false);
    } else {
        json["finding"] = found.error().text;
    }
    return json;
}

Json json_of(const Examined& examined, const std::vector<Group>& groups) {
    Json json;
    json["path"] = examined.path;
    if (!examined.trouble.empty()) {
        json["error"] = examined.trouble;
        return json;
    }
    const MemberFindings& findings = examined.findings;
    json["size"] = examined.image.device_size;
    json["busy"] = examined.busy;
    if (findings.superblock) {
        json["superblock"] = json_of(*findings.superblock);
    } else {
        json["superblock"] = nullptr;
        json["finding"] = examined.image.elsewhere.empty() ? findings.superblock.error().text
                                                           : examined.image.elsewhere;
        json["content"] = examined.other_content;
    }
    if (findings.hindrance) json["hindrance"] = findings.hindrance->text;
    json["slots"] = Json::array();
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        json["slots"].push_back(json_of_slot(findings.slots[slot], findings.newest == slot));
    }
    json["promise"] = findings.promise.epoch != 0 ? Json{{"epoch", findings.promise.epoch},
                                                         {"sequence", findings.promise.sequence}}
                                                  : Json(nullptr);
    json["slot_says"] = nullptr;
    if (findings.slot() != nullptr) json["slot_says"] = slot_json(*findings.slot());
    json["intent"] = intent_json(findings, newest_of(examined, groups));
    json["changed_by_md"] =
        findings.slot() != nullptr && findings.superblock && !findings.is_tied();
    return json;
}

Json json_of(const MemberRecord& record) {
    Json json;
    json["role"] = record.role ? Json(raw(*record.role)) : Json(nullptr);
    json["state"] = std::string(text_of(record.state));
    json["uuid"] = record.uuid.text();
    json["path"] = record.path;
    return json;
}

Json json_of(const Assembly& assembly) {
    const Configuration& c = assembly.configuration;
    Json json;
    json["array"] = c.array.text();
    json["starts"] = true;
    json["name"] = c.name;
    json["level"] = static_cast<int>(c.level);
    json["layout"] = c.level == Level::raid4 ? Json(nullptr) : Json(std::string(text_of(c.layout)));
    json["strip_size"] = c.strip_size;
    json["data_size"] = c.data_size();
    json["epoch"] = c.version.epoch;
    json["revision"] = c.version.revision;
    json["degraded"] = c.lost_count() != 0;
    json["unclean"] = assembly.unclean;
    json["adopted"] = assembly.adopted;
    json["resynced"] = c.resynced ? Json(raw(*c.resynced)) : Json(nullptr);
    json["members"] = Json::array();
    for (const MemberRecord& record : c.members) json["members"].push_back(json_of(record));
    json["volumes"] = Json::array();
    for (const VolumeRecord& volume : c.volumes) {
        Json item;
        item["name"] = volume.name;
        item["offset"] = c.area_of(volume).begin.value;
        item["size"] = c.area_of(volume).size;
        json["volumes"].push_back(std::move(item));
    }
    json["given"] = Json::array();
    for (const MemberPlace& place : assembly.places) {
        Json item;
        item["path"] = place.path;
        item["place"] = std::string(text_of(place.place));
        if (!place.why.empty()) item["why"] = place.why;
        json["given"].push_back(std::move(item));
    }
    json["notices"] = assembly.notices;
    return json;
}

void add_intent(Json& json, const Group& group) {
    const Configuration* c = group.configuration();
    if (c == nullptr) return;
    json["intent"] = intent_json(*c, group.newest);
    json["bad_rows"] = bad_rows_json(*c);
}

void print_json(const std::vector<Examined>& all, const std::vector<Group>& groups) {
    Json json;
    json["members"] = Json::array();
    for (const Examined& examined : all) {
        json["members"].push_back(json_of(examined, groups));
    }
    json["arrays"] = Json::array();
    for (const Group& group : groups) {
        if (group.assembly) {
            Json starts = json_of(*group.assembly);
            add_intent(starts, group);
            json["arrays"].push_back(std::move(starts));
            continue;
        }
        Json refused;
        refused["array"] = group.array.text();
        refused["starts"] = false;
        refused["refusal"] = group.assembly.error().text;
        add_intent(refused, group);
        json["arrays"].push_back(std::move(refused));
    }
    fmt::print("{}\n", readable(json));
}

/// 0: every path belongs to an array that would start.
int run(const ExamineArguments& arguments) {
    const auto loop = UringLoop::create();
    if (!loop) return refuse(loop.error().text);
    const std::vector<Examined> all = examine_all(**loop, arguments.paths);
    const std::vector<Group> groups = assemble_groups(all);
    if (arguments.as_json) {
        print_json(all, groups);
    } else {
        for (const Examined& examined : all) print_member(examined, groups);
        for (const Group& group : groups) print_group(group);
    }
    bool good = true;
    for (const Examined& examined : all) {
        good = good && examined.trouble.empty() && array_of(examined) != Uuid{};
    }
    for (const Group& group : groups) good = good && group.assembly.has_value();
    return good ? 0 : 1;
}

}  // namespace

void add_examine_command(CLI::App& app, int* exit_status) {
    auto arguments = std::make_shared<ExamineArguments>();
    CLI::App* command = app.add_subcommand(
        "examine", "show what members say of themselves, and what array they would make");
    command->add_option("members", arguments->paths, "members, of one array or of several")
        ->required()
        ->type_name("PATH...");
    command->add_flag("--json", arguments->as_json, "as JSON, for programs");
    command->callback([arguments, exit_status] { *exit_status = run(*arguments); });
}

}  // namespace braid::cli
