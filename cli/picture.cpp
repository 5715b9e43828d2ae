// SPDX-License-Identifier: BSD-3-Clause
#include "cli/picture.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <vector>

#include "cli/fields.h"
#include "cli/start_picture.h"

namespace braid::cli {
namespace {

using nlohmann::json;

constexpr std::size_t member_width = 12;
constexpr std::size_t task_width = 30;

Colour colour_of_state(const std::string& state) {
    if (state == "in_sync") return Colour::good;
    if (state == "rebuilding") return Colour::warning;
    if (state == "spare" || state == "witness") return Colour::dim;
    return Colour::bad;
}

/// A member as a bar: full when in sync, filling while it is rebuilt, crossed out when faulty.
std::string member_bar(const std::string& state, double rebuilt, const Style& style) {
    if (state == "in_sync") return bar(1, member_width, style);
    if (state == "rebuilding") return bar(rebuilt, member_width, style);
    if (state == "faulty") return repeated(style.utf8 ? "╳" : "x", member_width);
    if (state == "spare" || state == "witness") {
        return repeated(style.utf8 ? "·" : ".", member_width);
    }
    return repeated(" ", member_width);
}

std::string state_words(const std::string& state) { return state == "in_sync" ? "in sync" : state; }

std::string errors_of(const json& member) {
    std::vector<std::string> pieces;
    const auto add = [&](std::uint64_t number, const char* what, const char* when) {
        if (number == 0) return;
        pieces.push_back(fmt::format("{} {}{}{}", number, what, number == 1 ? "" : "s", when));
    };
    const std::uint64_t lately = number_in(member, "errors_read");
    const std::uint64_t before = number_in(member, "read_errors");
    add(lately, "read error", "");
    add(number_in(member, "errors_write"), "write error", "");
    if (before > lately) add(before, "read error", " since it joined");
    return fmt::format("{}", fmt::join(pieces, ", "));
}

double rebuilt_part(const json& status, const json& member) {
    for (const json& task : list_in(status, "tasks")) {
        if (text_in(task, "kind") != "rebuilding") continue;
        if (number_in(task, "member") != number_in(member, "role")) continue;
        const std::uint64_t end = number_in(task, "end");
        if (end != 0) {
            return static_cast<double>(number_in(task, "position")) / static_cast<double>(end);
        }
    }
    return 0;
}

std::string member_line(const json& status, const json& member, const Style& style) {
    const std::string state = text_in(member, "state");
    const bool has_role = member.contains("role") && member["role"].is_number_unsigned();
    const std::string role = has_role ? std::to_string(number_in(member, "role")) : "-";
    const Colour colour = colour_of_state(state);
    std::string path = harmless(text_in(member, "path"));
    if (path.empty()) path = "(no path known)";
    std::string line =
        fmt::format("  {:>2}  {}  {}  {}", role,
                    painted(member_bar(state, rebuilt_part(status, member), style), colour, style),
                    painted(fmt::format("{:<10}", state_words(state)), colour, style), path);
    if (const std::string errors = errors_of(member); !errors.empty()) {
        line += "  " + painted(errors, Colour::warning, style);
    }
    if (const std::string notice = harmless(text_in(member, "notice")); !notice.empty()) {
        line += "\n" + std::string(6, ' ') + painted(notice, Colour::dim, style);
    }
    return line + "\n";
}

Colour colour_of_health(const json& status) {
    const std::string health = text_in(status, "health");
    if (health == "clean") return flag_in(status, "in_doubt") ? Colour::warning : Colour::good;
    return health == "degraded" || health == "damaged" ? Colour::warning : Colour::bad;
}

/// Members with a role that hold nothing for it.
std::size_t lost_members(const json& status) {
    const json& members = list_in(status, "members");
    return static_cast<std::size_t>(std::ranges::count_if(members, [](const json& member) {
        const std::string state = text_in(member, "state");
        const bool has_role = member.contains("role") && member["role"].is_number_unsigned();
        return has_role && (state == "faulty" || state == "missing");  // no spare holds anything
    }));
}

/// What is to be said of parity that is not known to be true; empty: nothing.
std::string doubt_words(const json& status) {
    if (!flag_in(status, "in_doubt")) return {};
    const bool waits = std::ranges::any_of(list_in(status, "waits"), [](const json& wait) {
        return text_in(wait, "what") == "resyncing";
    });
    return fmt::format("; parity of {} of data is in doubt, {}",
                       size_text(number_in(status, "doubt_bytes")),
                       waits ? "and is not made true just now" : "and is being made true");
}

std::string health_words(const json& status, const std::string& health) {
    const std::uint64_t bad = number_in(status, "bad_bytes");
    if (health == "clean") return "clean";
    if (health == "damaged") {
        return fmt::format("DAMAGED: no member is lost, but {} cannot be known", size_text(bad));
    }
    const std::size_t lost = lost_members(status);
    const std::string members =
        lost == 1 ? "1 member is lost" : fmt::format("{} members are lost", lost);
    if (health == "degraded" && lost == 0) return "DEGRADED until the rebuild is done";
    if (health == "degraded") {
        return fmt::format("DEGRADED: {}, what {} held is computed", members,
                           lost == 1 ? "it" : "they");
    }
    if (health == "failed") return "FAILED: " + harmless(text_in(status, "failure"));
    return harmless(health);
}

/// Whose disks a stop waits for.
std::string waits_of(const json& status) {
    std::vector<std::string> names;
    for (const json& member : list_in(status, "members")) {
        if (number_in(member, "in_flight") == 0) continue;
        const bool has_role = member.contains("role") && member["role"].is_number_unsigned();
        const bool is_witness = text_in(member, "state") == "witness";
        names.push_back(has_role     ? fmt::format("member {}", number_in(member, "role"))
                        : is_witness ? "the witness"
                                     : "a spare");
    }
    return names.empty() ? "" : fmt::format(": waits for I/O of {}", fmt::join(names, ", "));
}

std::string head(const json& status, const Style& style) {
    const json& array = status.at("array");
    const std::string name = harmless(text_in(array, "name"));
    std::string line = painted(name.empty() ? "array" : name, Colour::strong, style);
    line += fmt::format(": RAID-{}", number_in(array, "level"));
    const std::string layout = text_in(array, "layout");
    if (!layout.empty() && layout != "left-symmetric") line += " " + layout;
    line += fmt::format(", {} members, strips of {}, {} of data", number_in(array, "member_count"),
                        size_text(number_in(array, "strip_size")),
                        size_text(number_in(array, "data_size")));
    if (flag_in(status, "readonly")) line += ", read only";
    if (flag_in(status, "stopping")) line += ", stopping" + waits_of(status);
    const std::string health = text_in(status, "health");
    return line + "\n" +
           fmt::format("health: {}\n\n", painted(health_words(status, health) + doubt_words(status),
                                                 colour_of_health(status), style));
}

/// Who has a volume of a cluster for himself.
std::string reservation_words(const json& volume) {
    const auto at = volume.find("reservation");
    if (at == volume.end() || !at->is_object()) return {};
    std::string words;
    if (text_in(*at, "mode") == "exclusive") words += ", exclusive";
    const std::uint64_t node = number_in(*at, "node");
    if (node != 0) {
        words +=
            fmt::format(", {} by node {}", flag_in(*at, "holds") ? "reserved" : "asked for", node);
    }
    const std::uint64_t waiting = number_in(*at, "requests_waiting");
    if (waiting != 0) words += fmt::format(", {} requests wait", waiting);
    return words.empty() ? words : " (" + words.substr(2) + ")";
}

/// Who decides about the array, and how long the node that is asked may answer without the others.
std::string cluster_line(const json& status) {
    const auto at = status.find("cluster");
    if (at == status.end() || !at->is_object()) return {};
    const auto left = at->find("lease_ms");
    std::string lease = "none: it waits for others before it answers";
    if (!flag_in(*at, "needs_lease")) {
        lease = "not needed: it has enough members itself";
    } else if (left != at->end() && left->is_number()) {
        lease = fmt::format("{:.1f} s left", real_in(*at, "lease_ms") / 1e3);
    }
    return fmt::format("cluster  {}: node {} decides, {}; lease of this node {}\n",
                       harmless(text_in(*at, "name")), number_in(*at, "decides"),
                       harmless(text_in(*at, "why")), lease);
}

/// What the nodes of a cluster do for each other.
std::string nodes_table(const json& status) {
    std::string text;
    for (const json& node : list_in(status, "nodes")) {
        if (text.empty()) {
            text = fmt::format("{:<6}{:>10}{:>8}{:>13}{:>9}{:>13}{:>10}{:>12}\n", "node", "members",
                               "locks", "handed over", "writes", "round trips", "messages", "sent");
        }
        const auto per_write = [&node](const char* name) {
            const auto at = node.find(name);
            const bool is_known = at != node.end() && at->is_number();
            return is_known ? fmt::format("{:.1f}", real_in(node, name)) : std::string("-");
        };
        text += fmt::format(
            "{:<6}{:>10}{:>8}{:>13}{:>9}{:>13}{:>10}{:>12}{}{}{}\n", number_in(node, "id"),
            list_in(node, "members").size(), number_in(node, "locks_held"),
            number_in(node, "locks_handed_over"), number_in(node, "writes"),
            per_write("round_trips_per_write"), per_write("messages_per_write"),
            size_text(number_in(node, "bytes_sent")), flag_in(node, "this") ? "  this one" : "",
            (flag_in(node, "decides") || flag_in(node, "excluded")
                 ? "  " + harmless(text_in(node, "state"))
                 : "") +
                (flag_in(node, "needed") ? "  needed" : ""),
            flag_in(node, "excluded") || text_in(node, "why").empty()
                ? ""
                : "  " + harmless(text_in(node, "why")));
    }
    return text.empty() ? text : text + "\n";
}

/// The ways to other nodes, as the heartbeats of the one that is asked show them.
std::string channels_table(const json& status) {
    std::string text;
    for (const json& node : list_in(status, "nodes")) {
        for (const json& channel : list_in(node, "channels")) {
            if (text.empty()) {
                text = fmt::format("{:<6}{:>6}{:>13}{:>13}  {}\n", "node", "link", "round trip",
                                   "heard", "channel");
            }
            const auto words = [&channel](const char* name, auto format) {
                const auto at = channel.find(name);
                const bool is_known = at != channel.end() && at->is_number();
                return is_known ? format(real_in(channel, name)) : std::string("never");
            };
            text += fmt::format(
                "{:<6}{:>6}{:>13}{:>13}  {}\n", number_in(node, "id"),
                flag_in(channel, "up") ? "up" : "down",
                words("round_trip_us",
                      [](double us) { return fmt::format("{:.2f} ms", us / 1e3); }),
                words("heard_ms", [](double ms) { return fmt::format("{:.1f} s ago", ms / 1e3); }),
                harmless(text_in(channel, "address")));
        }
    }
    return text.empty() ? text : text + "\n";
}

std::string volumes_line(const json& status) {
    std::vector<std::string> volumes;
    for (const json& volume : list_in(status, "volumes")) {
        volumes.push_back(fmt::format("{} {}{}", harmless(text_in(volume, "name")),
                                      size_text(number_in(volume, "size")),
                                      reservation_words(volume)));
    }
    return fmt::format("volumes  {}\n",
                       volumes.empty() ? "none" : fmt::format("{}", fmt::join(volumes, ", ")));
}

std::string traffic_line(const json& status) {
    if (!status.contains("counters")) return {};
    const json& counters = status["counters"];
    return fmt::format("requests {} reads, {} writes, {} zeroes or trims, {} flushes\n",
                       number_in(counters, "reads") + number_in(counters, "direct_reads"),
                       number_in(counters, "writes"), number_in(counters, "zeroes"),
                       number_in(counters, "flushes"));
}

std::string intent_words(const json& intent, bool readonly) {
    if (readonly) {
        return flag_in(intent, "on") ? "at rest while the array is served for reading only"
                                     : "off, and the array is served for reading only";
    }
    if (!flag_in(intent, "on")) {
        const std::string hindrance = harmless(text_in(intent, "hindrance"));
        return (hindrance.empty() ? std::string("off") : "off: " + hindrance) +
               "; after a crash all parity is computed anew";
    }
    return fmt::format("on, {} marked, {:.1f} records/s, {} waiting",
                       counted(number_in(intent, "stripes_marked"), "stripe", "stripes"),
                       real_in(intent, "records_per_second"),
                       counted(number_in(intent, "waiting"), "write", "writes"));
}

/// What the recovery after the last start found so far, or in all.
std::string recovery_words(const json& recovery, bool readonly) {
    const std::uint64_t left = number_in(recovery, "stripes_left");
    const std::uint64_t stripes = number_in(recovery, "stripes");
    if (readonly && left != 0) {
        return fmt::format("{} in doubt, made true when the array is served for writing",
                           counted(left, "stripe", "stripes"));
    }
    const std::string how_far =
        left == 0 ? fmt::format("done in {:.1f} s: {}", real_in(recovery, "seconds"),
                                counted(stripes, "stripe", "stripes"))
                  : fmt::format("{} of {} left", left, counted(stripes, "stripe", "stripes"));
    std::string found =
        fmt::format("{} read, {} wrong{}", size_text(number_in(recovery, "bytes_read")),
                    counted(number_in(recovery, "rows_wrong"), "row", "rows"),
                    number_in(recovery, "rows_wrong") == 0 ? "" : " and made true");
    if (const std::uint64_t unknown = number_in(recovery, "rows_unknown"); unknown != 0) {
        found += fmt::format(", {} cannot be known", counted(unknown, "row", "rows"));
    }
    return how_far + ", " + found;
}

constexpr std::size_t bad_ranges_shown = 8;

std::string bad_rows(const json& status, const Style& style) {
    const std::uint64_t bytes = number_in(status, "bad_bytes");
    if (bytes == 0) return {};
    std::string text = painted(fmt::format("BAD ROWS: {} cannot be known, and a read of them "
                                           "is an error",
                                           size_text(bytes)),
                               Colour::bad, style) +
                       "\n";
    const json& ranges = list_in(status, "bad");
    const std::size_t shown = std::min(ranges.size(), bad_ranges_shown);
    std::uint64_t told = 0;
    for (std::size_t i = 0; i != shown; ++i) {
        text += "  " + bad_line(ranges[i]) + "\n";
        told += number_in(ranges[i], "size");
    }
    if (told < bytes) text += "  and more: `braid volume bad` lists them\n";
    return text +
           "  Some may be known again when their member is back (`braid member add`), or when it can "
           "be\n  read: each read tries. Write them anew, in whole rows of 4096 bytes, and they are "
           "good\n  again; man braid tells how to find the files that they belong to.\n\n";
}

}  // namespace

std::string task_line(const json& task, const Style& style) {
    const std::string kind = harmless(text_in(task, "kind"));
    std::string what = kind;
    if (kind == "rebuilding") what = fmt::format("rebuilding member {}", number_in(task, "member"));
    if (kind == "scrubbing" && flag_in(task, "repair")) what = "scrubbing, with repair";
    const std::uint64_t end = number_in(task, "end");
    const double done =
        end == 0 ? 0 : static_cast<double>(number_in(task, "position")) / static_cast<double>(end);
    std::string line = fmt::format(
        "{:<22}  {}  {:5.1f} %  {:>9}/s", what, bar(done, task_width, style),
        std::min(done * 100, done < 1 ? 99.9 : 100.0), size_text(number_in(task, "rate")));
    if (task.contains("seconds_left") && task["seconds_left"].is_number_unsigned()) {
        line += fmt::format("  {} left", duration_text(number_in(task, "seconds_left")));
    }
    if (number_in(task, "mismatches") != 0) {
        line += painted(fmt::format("  {} rows wrong", number_in(task, "mismatches")), Colour::bad,
                        style);
    }
    if (number_in(task, "repaired") != 0) {
        line += fmt::format(", {} repaired", number_in(task, "repaired"));
    }
    if (const std::uint64_t unknown = number_in(task, "bytes_unknown"); unknown != 0) {
        line += painted(fmt::format("  {} unknown", size_text(unknown)), Colour::bad, style);
    }
    if (task.contains("throttle") && task["throttle"].is_number() &&
        task["throttle"].get<double>() >= 0.5) {
        line += painted("  (slowed down for the clients)", Colour::dim, style);
    }
    return line;
}

std::string wait_line(const json& wait, const Style& style) {
    const std::string kind = text_in(wait, "what");
    const bool has_member = wait.contains("member") && wait["member"].is_number_unsigned();
    const std::string member =
        has_member ? fmt::format("member {}", number_in(wait, "member")) : std::string("a member");
    const std::string what = kind == "rebuilding"  ? "the rebuild of " + member + " waits"
                             : kind == "resyncing" ? std::string("the resync waits")
                             : kind == "scrubbing" ? std::string("the scrub waits")
                             : kind == "spare"     ? "no spare takes the place of " + member
                                                   : harmless(kind) + " waits";
    return painted(what, Colour::warning, style) + ": " + harmless(text_in(wait, "why"));
}

std::string event_line(const json& event, const Style& style) {
    const std::string severity = text_in(event, "severity");
    const Colour colour = severity == "error"     ? Colour::bad
                          : severity == "warning" ? Colour::warning
                                                  : Colour::plain;
    return fmt::format("{}  {}", time_text(number_in(event, "time")),
                       painted(harmless(text_in(event, "text")), colour, style));
}

std::string scrub_result(const json& last_scrub) {
    const std::uint64_t mismatches = number_in(last_scrub, "mismatches");
    const std::uint64_t position = number_in(last_scrub, "position");
    const std::uint64_t end = number_in(last_scrub, "end");
    const std::uint64_t unknown = number_in(last_scrub, "bytes_unknown");
    std::string text;
    if (mismatches != 0) {
        text = fmt::format("{} rows were wrong, {} of them repaired", mismatches,
                           number_in(last_scrub, "repaired"));
    } else {
        text = unknown == 0 ? "all parity was true" : "all else was true";
    }
    if (unknown != 0) {
        text = fmt::format("{} can neither be read nor computed from the others; {}",
                           size_text(unknown), text);
    }
    if (position < end) {
        text += fmt::format(" up to {:.1f} %, where it was stopped",
                            100 * static_cast<double>(position) / static_cast<double>(end));
    }
    return text;
}

std::string intent_lines(const json& answer) {
    const bool readonly = flag_in(answer, "readonly");
    std::string text;
    if (const json* intent = object_in(answer, "intent")) {
        text += fmt::format("intent   {}\n", intent_words(*intent, readonly));
    }
    if (const json* recovery = object_in(answer, "recovery")) {
        text += fmt::format("recovery {}\n", recovery_words(*recovery, readonly));
    }
    return text;
}

std::string draw_intent(const json& answer) {
    std::string text = intent_lines(answer);
    const json* intent = object_in(answer, "intent");
    if (intent == nullptr) return text;
    text += fmt::format(
        "marks    {} of at most {}, each of {} of data\n"
        "records  {} since the start, the newest has generation {}\n"
        "flushes  {} of the members, only to take marks away\n",
        number_in(*intent, "marks"), number_in(*intent, "marks_max"),
        size_text(number_in(*intent, "region")), number_in(*intent, "records"),
        number_in(*intent, "generation"), number_in(*intent, "flushes"));
    return text;
}

std::string bad_line(const json& range) {
    const std::string volume = text_in(range, "volume");
    const std::uint64_t size = number_in(range, "size");
    const std::uint64_t first = number_in(range, "offset");
    return fmt::format("{:<12}  bytes {} to {}  ({}, of member {})",
                       volume.empty() ? "(no volume)" : harmless(volume), first,
                       first + std::max<std::uint64_t>(size, 1) - 1, size_text(size),
                       number_in(range, "member"));
}

std::string draw_status(const json& status, const Style& style, std::size_t events_shown) {
    if (const json* start = object_in(status, "start")) return draw_start(*start, style);
    std::string text = head(status, style);
    for (const json& member : list_in(status, "members"))
        text += member_line(status, member, style);
    text += "\n";
    const json& tasks = list_in(status, "tasks");
    for (const json& task : tasks) text += task_line(task, style) + "\n";
    const json& waits = list_in(status, "waits");
    for (const json& wait : waits) text += wait_line(wait, style) + "\n";
    if (!tasks.empty() || !waits.empty()) text += "\n";
    text += bad_rows(status, style);
    text += cluster_line(status) + nodes_table(status) + channels_table(status);
    text += volumes_line(status);
    text += traffic_line(status);
    text += intent_lines(status);
    text += fmt::format("memory   {} of at most {}\n", size_text(number_in(status, "memory_bytes")),
                        size_text(number_in(status, "memory_bytes_max")));
    if (status.contains("last_scrub") && status["last_scrub"].is_object()) {
        text += "scrub    the last one: " + scrub_result(status["last_scrub"]) + "\n";
    }
    const json& events = list_in(status, "events");
    if (events_shown != 0 && !events.empty()) {
        text += "\nevents\n";
        const std::size_t first = events.size() - std::min(events.size(), events_shown);
        for (std::size_t i = first; i != events.size(); ++i) {
            text += "  " + event_line(events[i], style) + "\n";
        }
    }
    return text;
}

}  // namespace braid::cli
