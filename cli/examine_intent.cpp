// SPDX-License-Identifier: BSD-3-Clause
#include "cli/examine_intent.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

#include "cli/picture.h"
#include "cli/text.h"
#include "engine/base/limits.h"
#include "engine/layout/bad_bytes.h"

namespace braid::cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::size_t lines_shown = 16;  // of a list, to people; programs get all

std::uint64_t stripes_in(const IntentRecord& record) {
    std::uint64_t stripes = 0;
    for (const IntentEntry& entry : record.entries) stripes += entry.count;
    return stripes;
}

std::uint64_t stripes_missed(const IntentRecord& record) {
    std::uint64_t stripes = 0;
    record.missed.for_each([&](StripeIndex first, StripeIndex end) { stripes += end - first; });
    return stripes;
}

std::uint64_t count_known(const IntentRecord& record) {
    return static_cast<std::uint64_t>(std::ranges::count_if(record.absent, &AbsentMember::known));
}

/// "2 marks of 7 stripes; 2 members away, 1 to be rebuilt whole, and up to 12 stripes written to meanwhile".
std::string marks_text(const IntentRecord& record) {
    std::string text =
        record.entries.empty()
            ? std::string("no marks")
            : fmt::format("{} of {}", counted(record.entries.size(), "mark", "marks"),
                          counted(stripes_in(record), "stripe", "stripes"));
    if (record.absent.empty()) return text;
    const std::uint64_t known = count_known(record);
    text += fmt::format("; {} away", counted(record.absent.size(), "member", "members"));
    if (known != record.absent.size()) {
        text += fmt::format(", {} to be rebuilt whole", record.absent.size() - known);
    }
    if (known != 0) {
        text += fmt::format(", and up to {} written to meanwhile",
                            counted(stripes_missed(record), "stripe", "stripes"));
    }
    return text;
}

bool is_newest(const IntentRecord& record, const std::vector<NewestIntent>& newest) {
    return std::ranges::any_of(newest, [&record](const NewestIntent& other) {
        return other.record->node == record.node && other.record->generation == record.generation;
    });
}

std::string node_text(std::uint32_t node) {
    return node == 0 ? std::string{} : fmt::format(" of node {}", node);
}

/// Bytes of a volume, or of the array where no volume is.
struct VolumeBytes {
    std::string volume;
    VolumeOffset offset{};
    std::uint64_t size{0};
};

/// The data of stripes [first, end), cut where the volumes begin and end now.
std::vector<VolumeBytes> bytes_of(const Configuration& c, StripeIndex first, StripeIndex end) {
    const std::uint64_t stripe_size = c.stripe_data_size();
    std::vector<VolumeBytes> pieces;
    const auto add = [&](std::string_view volume, StripeIndex from, StripeIndex to,
                         StripeIndex origin) {
        if (from < to) {
            pieces.push_back(
                {std::string(volume), {(from - origin) * stripe_size}, (to - from) * stripe_size});
        }
    };
    StripeIndex at = first;
    for (const VolumeRecord& volume : c.volumes) {
        add({}, at, std::min(end, volume.first), StripeIndex{});
        at = std::max(at, volume.first);
        add(volume.name, at, std::min(end, volume.end()), volume.first);
        at = std::max(at, volume.end());
    }
    add({}, at, end, StripeIndex{});
    return pieces;
}

std::vector<VolumeBytes> bytes_of(const Configuration& c, const IntentEntry& entry) {
    const StripeIndex end = std::min(StripeIndex{c.stripes}, entry.end());
    return bytes_of(c, std::min(entry.first, end), end);
}

std::string entry_line(const Configuration& c, const IntentEntry& entry) {
    std::string text =
        entry.count == 1 ? fmt::format("stripe {}:", raw(entry.first))
                         : fmt::format("stripes {} to {}:", raw(entry.first), raw(entry.end() - 1));
    const std::vector<VolumeBytes> pieces = bytes_of(c, entry);
    if (pieces.empty()) text += " beyond the array";
    for (const VolumeBytes& piece : pieces) {
        text += fmt::format("{}{}, bytes {} to {}", &piece == &pieces.front() ? " " : "; ",
                            piece.volume.empty() ? "no volume" : piece.volume, piece.offset.value,
                            piece.offset.value + piece.size - 1);
    }
    return text;
}

std::string record_lines(const Configuration& c, const NewestIntent& newest) {
    const IntentRecord& record = *newest.record;
    std::string text = fmt::format("  record    generation {}{} of epoch {}, on ",
                                   record.generation, node_text(record.node), record.epoch);
    for (const std::string& path : newest.held_by) {
        text += (&path == &newest.held_by.front() ? "" : ", ") + path;
    }
    text += fmt::format(": {}\n", marks_text(record));
    const std::size_t shown = std::min(record.entries.size(), lines_shown);
    for (std::size_t i = 0; i != shown; ++i) {
        text += fmt::format("            {}\n", entry_line(c, record.entries[i]));
    }
    if (shown != record.entries.size()) {
        text +=
            fmt::format("            and {} more; --json has all\n", record.entries.size() - shown);
    }
    return text;
}

Json json_of(const BadBytes& bytes) {
    Json json;
    json["volume"] = bytes.volume;
    json["offset"] = bytes.offset.value;
    json["size"] = bytes.size;
    json["member"] = raw(bytes.member);
    return json;
}

std::string bad_rows_lines(const Configuration& c) {
    std::uint64_t total = 0;
    const auto named = bad_bytes_of(c, lines_shown, &total);
    if (c.bad_rows.empty()) return {};
    std::string text = fmt::format(
        "  bad rows  {} cannot be known: reading them is an error until they are "
        "written anew, or can be read again\n",
        size_text(total));
    std::uint64_t told = 0;
    for (const BadBytes& bytes : named) {
        text += fmt::format("            {}\n", bad_line(json_of(bytes)));
        told += bytes.size;
    }
    if (told < total) {
        text += fmt::format("            and {} more; --json has all\n", size_text(total - told));
    }
    return text;
}

Json json_of(const IntentEntry& entry) {
    Json json;
    json["first"] = raw(entry.first);
    json["count"] = entry.count;
    return json;
}

Json absent_json(const IntentRecord& record) {
    Json json = Json::array();
    for (const AbsentMember& away : record.absent) {
        Json item;
        item["uuid"] = away.uuid.text();
        item["known"] = away.known;
        item["generation"] = away.generation;
        json.push_back(std::move(item));
    }
    return json;
}

}  // namespace

std::vector<NewestIntent> newest_intents(const std::vector<IntentHolder>& holders) {
    std::map<std::uint32_t, NewestIntent> by_node;
    for (const IntentHolder& holder : holders) {
        for (const FoundIntent& found : holder.findings->intent) {
            if (!found.record) continue;
            NewestIntent& best = by_node[found.record->node];
            if (best.record == nullptr || best.record->generation < found.record->generation) {
                best = {&*found.record, {}};
            }
            if (best.record->generation == found.record->generation) {
                best.held_by.push_back(holder.path);
            }
        }
    }
    std::vector<NewestIntent> newest;
    for (auto& [node, best] : by_node) newest.push_back(std::move(best));
    return newest;
}

std::string intent_lines_of(const MemberFindings& findings,
                            const std::vector<NewestIntent>& newest) {
    std::string text;
    for (const FoundIntent& found : findings.intent) {
        if (!found.record) {
            text += fmt::format("  intent    {}\n", found.record.error().text);
            continue;
        }
        const IntentRecord& record = *found.record;
        text += fmt::format("  intent    generation {}{}, epoch {}, {}{}\n", record.generation,
                            node_text(record.node), record.epoch, marks_text(record),
                            is_newest(record, newest) ? "  (newest)" : "");
    }
    const bool listed = std::ranges::any_of(findings.intent, [&](const FoundIntent& found) {
        return !found.record && findings.intent_hindrance &&
               found.record.error().text == findings.intent_hindrance->text;
    });
    if (findings.intent_hindrance && !listed) {
        text += fmt::format("  intent    {}\n", findings.intent_hindrance->text);
    }
    return text;
}

std::string intent_lines_of(const Configuration& c, bool unclean,
                            const std::vector<NewestIntent>& newest) {
    std::string text = fmt::format("  intent    {}, regions of {}\n", c.intent.on ? "on" : "off",
                                   size_text(c.intent.region));
    if (unclean && c.intent.on) {
        for (const NewestIntent& record : newest) text += record_lines(c, record);
        if (newest.empty()) text += "            no record\n";
    }
    return text + bad_rows_lines(c);
}

Json intent_json(const MemberFindings& findings, const std::vector<NewestIntent>& newest) {
    Json json;
    json["hindrance"] =
        findings.intent_hindrance ? Json(findings.intent_hindrance->text) : Json(nullptr);
    json["slots"] = Json::array();
    for (const FoundIntent& found : findings.intent) {
        Json item;
        item["slot"] = found.slot;
        item["valid"] = found.record.has_value();
        if (!found.record) {
            item["finding"] = found.record.error().text;
            json["slots"].push_back(std::move(item));
            continue;
        }
        const IntentRecord& record = *found.record;
        item["newest"] = is_newest(record, newest);
        item["node"] = record.node;
        item["generation"] = record.generation;
        item["epoch"] = record.epoch;
        item["entries"] = Json::array();
        for (const IntentEntry& entry : record.entries) item["entries"].push_back(json_of(entry));
        item["absent"] = absent_json(record);
        json["slots"].push_back(std::move(item));
    }
    return json;
}

Json intent_json(const Configuration& c, const std::vector<NewestIntent>& newest) {
    Json json;
    json["on"] = c.intent.on;
    json["region"] = c.intent.region;
    json["records"] = Json::array();
    for (const NewestIntent& each : newest) {
        Json item;
        item["node"] = each.record->node;
        item["generation"] = each.record->generation;
        item["epoch"] = each.record->epoch;
        item["held_by"] = each.held_by;
        item["stripes"] = stripes_in(*each.record);
        item["absent"] = absent_json(*each.record);
        item["stripes_missed"] = stripes_missed(*each.record);
        item["marks"] = Json::array();
        for (const IntentEntry& entry : each.record->entries) {
            Json mark = json_of(entry);
            mark["bytes"] = Json::array();
            for (const VolumeBytes& piece : bytes_of(c, entry)) {
                Json bytes;
                bytes["volume"] = piece.volume;
                bytes["offset"] = piece.offset.value;
                bytes["size"] = piece.size;
                mark["bytes"].push_back(std::move(bytes));
            }
            item["marks"].push_back(std::move(mark));
        }
        json["records"].push_back(std::move(item));
    }
    return json;
}

Json bad_rows_json(const Configuration& c) {
    std::uint64_t total = 0;
    Json json;
    json["ranges"] = Json::array();
    for (const BadRange& range : c.bad_rows) {
        Json item;
        item["member"] = raw(range.member);
        item["first"] = range.first;
        item["count"] = range.count;
        item["kind"] = text_of(range.kind);
        json["ranges"].push_back(std::move(item));
    }
    json["bytes"] = Json::array();
    for (const BadBytes& bytes : bad_bytes_of(c, bad_bytes_listed_max, &total)) {
        json["bytes"].push_back(json_of(bytes));
    }
    json["size"] = total;
    return json;
}

}  // namespace braid::cli
