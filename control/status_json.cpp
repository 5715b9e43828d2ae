// SPDX-License-Identifier: BSD-3-Clause
#include "control/status_json.h"

#include <algorithm>
#include <span>

#include "engine/base/json_text.h"
#include "engine/layout/bad_bytes.h"

namespace braid::control {
namespace {

using nlohmann::json;

json json_of(const MemberStatus& member, std::uint64_t strip_size) {
    const MemberRecord& record = member.record;
    json value;
    value["role"] = record.role ? json(raw(*record.role)) : json(nullptr);
    value["path"] = record.path;
    value["uuid"] = record.uuid.text();
    value["state"] = braid::text_of(record.state);
    value["open"] = member.open;
    value["notice"] = member.notice;
    value["size"] = record.size;
    value["home"] = record.home;
    value["data_offset"] = record.data_offset;
    value["rebuilt"] = record.state == MemberState::rebuilding
                           ? json(raw(record.rebuilt) * strip_size)
                           : json(nullptr);
    value["reads"] = member.reads;
    value["writes"] = member.writes;
    value["bytes_read"] = member.bytes_read;
    value["bytes_written"] = member.bytes_written;
    value["errors_read"] = member.errors_read;
    value["errors_write"] = member.errors_write;
    value["read_errors"] = record.read_errors;
    value["in_flight"] = member.in_flight;
    return value;
}

json json_of(const Counters& counters) {
    return {
        {"reads", counters.reads},
        {"direct_reads", counters.direct_reads},
        {"degraded_reads", counters.degraded_reads},
        {"reads_corrected", counters.reads_corrected},
        {"writes", counters.writes},
        {"zeroes", counters.zeroes},
        {"flushes", counters.flushes},
        {"jobs", counters.jobs},
        {"jobs_full_stripe", counters.jobs_full_stripe},
        {"jobs_rmw", counters.jobs_rmw},
        {"jobs_rcw", counters.jobs_rcw},
        {"parts_merged", counters.parts_merged},
    };
}

json array_json(const Configuration& configuration) {
    return {
        {"uuid", configuration.array.text()},
        {"name", configuration.name},
        {"level", static_cast<int>(configuration.level)},
        {"layout",
         configuration.level == Level::raid4 ? json(nullptr) : json(text_of(configuration.layout))},
        {"strip_size", configuration.strip_size},
        {"member_count", configuration.member_count},
        {"data_size", configuration.data_size()},
        {"stripes", configuration.stripes},
        {"epoch", configuration.version.epoch},
        {"revision", configuration.version.revision},
        {"created", configuration.created},
    };
}

json json_of(const IntentStatus& intent) {
    return {
        {"on", intent.on},
        {"hindrance", intent.hindrance},
        {"region", intent.region},
        {"stripes_marked", intent.stripes_marked},
        {"marks", intent.marks},
        {"marks_max", intent.marks_max},
        {"generation", intent.generation},
        {"records", intent.records},
        {"records_per_second", intent.records_per_second},
        {"waiting", intent.waiting},
        {"flushes", intent.flushes},
    };
}

/// One was ordered, or was under way when the array stopped, and does not run just now.
bool scrub_waits(const ArrayStatus& status) {
    return status.configuration.scrub && std::ranges::none_of(status.walks, [](const auto& walk) {
               return walk.kind == WalkKind::scrubbing;
           });
}

json json_of(const std::optional<RecoveryStatus>& recovery) {
    if (!recovery) return nullptr;
    return {
        {"stripes", recovery->stripes},           {"stripes_left", recovery->stripes_left},
        {"bytes_read", recovery->bytes_read},     {"rows_wrong", recovery->rows_wrong},
        {"rows_unknown", recovery->rows_unknown}, {"seconds", recovery->seconds},
    };
}

json bad_list(std::span<const BadBytes> ranges) {
    json list = json::array();
    for (const BadBytes& range : ranges) {
        list.push_back({{"volume", range.volume.empty() ? json(nullptr) : json(range.volume)},
                        {"offset", range.offset.value},
                        {"size", range.size},
                        {"member", raw(range.member)}});
    }
    return list;
}

}  // namespace

std::string_view text_of(Severity severity) {
    switch (severity) {
        case Severity::info:
            return "info";
        case Severity::warning:
            return "warning";
        case Severity::error:
            return "error";
    }
    return "unknown";
}

json json_of(const WaitStatus& wait) {
    return {
        {"what", wait.what},
        {"member", wait.member ? json(raw(*wait.member)) : json(nullptr)},
        {"by_itself", wait.by_itself},
        {"why", wait.why},
    };
}

json json_of(const WalkStatus& walk) {
    json value;
    value["kind"] = braid::text_of(walk.kind);
    value["member"] = walk.member ? json(raw(*walk.member)) : json(nullptr);
    value["position"] = walk.position;
    value["end"] = walk.end;
    value["rate"] = walk.rate;
    value["seconds_left"] = walk.seconds_left ? json(*walk.seconds_left) : json(nullptr);
    value["throttle"] = walk.throttle;
    value["repair"] = walk.repair;
    value["mismatches"] = walk.mismatches;
    value["repaired"] = walk.repaired;
    value["bytes_unknown"] = walk.bytes_unknown;
    return value;
}

json json_of(const ArrayEvent& event) {
    return {
        {"sequence", event.sequence},
        {"time", event.wall_seconds},
        {"severity", text_of(event.severity)},
        {"kind", event.kind},
        {"text", event.text},
        {"epoch", event.version.epoch},
        {"revision", event.version.revision},
    };
}

json json_of(const std::vector<ArrayEvent>& events) {
    json list = json::array();
    for (const ArrayEvent& event : events) list.push_back(json_of(event));
    return list;
}

namespace {

json json_of(const ReservationStatus& reservation) {
    return {{"node", reservation.node != 0 ? json(reservation.node) : json(nullptr)},
            {"holds", reservation.holds},
            {"mode", reservation.exclusive ? "exclusive" : "shared"},
            {"requests_waiting", reservation.waiting}};
}

}  // namespace

json volumes_json(const ArrayStatus& status) {
    const Configuration& configuration = status.configuration;
    json list = json::array();
    for (const VolumeRecord& volume : configuration.volumes) {
        const std::size_t index = list.size();
        json value{{"index", index},
                   {"name", volume.name},
                   {"offset", configuration.area_of(volume).begin.value},
                   {"size", configuration.area_of(volume).size}};
        if (index < status.reservations.size()) {
            value["reservation"] = json_of(status.reservations[index]);
        }
        list.push_back(std::move(value));
    }
    return list;
}

json scrub_json(const ArrayStatus& status) {
    json value;
    value["running"] = nullptr;
    for (const WalkStatus& walk : status.walks) {
        if (walk.kind == WalkKind::scrubbing) value["running"] = json_of(walk);
    }
    value["last"] = status.last_scrub ? json_of(*status.last_scrub) : json(nullptr);
    return value;
}

json intent_json(const ArrayStatus& status) {
    return {{"intent", json_of(status.intent)},
            {"recovery", json_of(status.recovery)},
            {"readonly", status.readonly}};
}

json bad_json(const Configuration& configuration, std::uint64_t first, std::uint64_t count) {
    const std::uint64_t end = first + count;
    std::uint64_t bytes = 0;
    // One more than this page has tells whether there is a next one.
    const std::vector<BadBytes> all = bad_bytes_of(configuration, end + 1, &bytes);
    const std::span<const BadBytes> ranges(all.data(), std::min<std::size_t>(all.size(), end));
    json value;
    value["bad"] = bad_list(ranges.subspan(std::min<std::size_t>(first, ranges.size())));
    value["bad_bytes"] = bytes;
    value["next"] = all.size() > end ? json(end) : json(nullptr);
    return value;
}

namespace {

json json_of(const ChannelStatus& channel) {
    json value{{"address", channel.address}, {"up", channel.up},
               {"round_trip_us", nullptr},   {"heard_ms", nullptr},
               {"sent", channel.sent},       {"received", channel.received}};
    if (channel.round_trip) {
        value["round_trip_us"] = static_cast<double>(channel.round_trip->value) / 1e3;
    }
    if (channel.heard_since) value["heard_ms"] = channel.heard_since->value / 1'000'000;
    return value;
}

/// What is for each write: null before the first.
json json_of(const NodeStatus& node, const Configuration& configuration) {
    json members = json::array();
    for (const MemberRecord& member : configuration.members) {
        if (member.role && member.home == node.id) members.push_back(raw(*member.role));
    }
    const auto per_write = [&node](std::uint64_t count) {
        if (node.writes == 0) return json(nullptr);
        return json(static_cast<double>(count) / static_cast<double>(node.writes));
    };
    json channels = json::array();
    for (const ChannelStatus& channel : node.channels) channels.push_back(json_of(channel));
    return {{"id", node.id},
            {"channels", std::move(channels)},
            {"decides", node.decides},
            {"this", node.is_self},
            {"excluded", node.excluded},
            {"state", node.killed     ? "killed"
                      : node.excluded ? "excluded"
                      : node.decides  ? "decides"
                                      : "serves"},
            {"needed", node.needed},
            {"why", node.why},
            {"members", std::move(members)},
            {"locks_held", node.locks_held},
            {"locks_waiting", node.locks_waiting},
            {"locks_handed_over", node.locks_handed_over},
            {"writes", node.writes},
            {"strips_staged", node.strips_staged},
            {"round_trips_per_write", per_write(node.rounds)},
            {"messages_per_write", per_write(node.messages)},
            {"bytes_sent", node.bytes_sent}};
}

json json_of(const ClusterStatus& cluster) {
    return {{"name", cluster.name},
            {"decides", cluster.decides},
            {"why", cluster.why_decides},
            {"fence", cluster.fence},
            {"needs_lease", cluster.needs_lease},
            {"lease_ms", cluster.lease ? json(cluster.lease->value / 1'000'000) : json(nullptr)}};
}

}  // namespace

json json_of(const ArrayStatus& status) {
    json value;
    value["version"] = BRAID_VERSION;
    value["start"] = nullptr;
    value["array"] = array_json(status.configuration);
    value["health"] = braid::text_of(status.health);
    value["failure"] = status.failure;
    value["readonly"] = status.readonly;
    value["stopping"] = status.stopping;
    value["in_doubt"] = status.in_doubt;
    value["doubt_bytes"] = status.doubt_bytes;
    value["members"] = json::array();
    for (const MemberStatus& member : status.members) {
        value["members"].push_back(json_of(member, status.configuration.strip_size));
    }
    value["tasks"] = json::array();
    for (const WalkStatus& walk : status.walks) value["tasks"].push_back(json_of(walk));
    value["waits"] = json::array();
    for (const WaitStatus& wait : status.waits) value["waits"].push_back(json_of(wait));
    value["scrub_waits"] = scrub_waits(status);
    value["last_scrub"] = status.last_scrub ? json_of(*status.last_scrub) : json(nullptr);
    value["volumes"] = volumes_json(status);
    value["cluster"] = status.cluster ? json_of(*status.cluster) : json(nullptr);
    if (!status.nodes.empty()) {
        value["nodes"] = json::array();
        for (const NodeStatus& node : status.nodes) {
            value["nodes"].push_back(json_of(node, status.configuration));
        }
    }
    value["intent"] = json_of(status.intent);
    value["recovery"] = json_of(status.recovery);
    value["bad"] =
        bad_list(std::span(status.bad).first(std::min(status.bad.size(), bad_in_status_max)));
    value["bad_bytes"] = status.bad_bytes;
    value["counters"] = json_of(status.counters);
    value["memory_bytes"] = status.memory_bytes;
    value["memory_bytes_max"] = status.memory_bytes_max;
    value["events"] = json_of(status.events);
    return value;
}

json json_of(const cluster::StartStatus& status) {
    json start;
    start["cluster"] = status.cluster;
    start["node"] = status.self;
    start["master"] = status.master;
    start["phase"] = cluster::text_of(status.phase);
    start["why"] = status.why;
    start["nodes"] = json::array();
    for (const cluster::StartStatus::Node& node : status.nodes) {
        start["nodes"].push_back({{"id", node.id},
                                  {"addresses", node.addresses},
                                  {"connected", node.connected},
                                  {"since", node.since == 0 ? json(nullptr) : json(node.since)}});
    }
    json value;
    value["version"] = BRAID_VERSION;
    value["start"] = std::move(start);
    value["array"] = nullptr;
    value["health"] = nullptr;
    for (const char* list : {"members", "tasks", "waits", "volumes", "events"}) {
        value[list] = json::array();
    }
    return value;
}

std::string dump(const json& value) { return readable(value) + "\n"; }

}  // namespace braid::control
