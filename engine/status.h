// SPDX-License-Identifier: BSD-3-Clause
// What the array tells of itself: a snapshot of plain values, taken on the loop's thread, from
// which the control socket makes JSON and `braid status` its picture.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/disk_identity.h"
#include "engine/layout/bad_bytes.h"
#include "engine/layout/configuration.h"

namespace braid {

/// Damaged: no member is lost, and there are bytes that cannot be known.
enum class Health : std::uint8_t { clean, damaged, degraded, failed };
std::string_view text_of(Health health);

enum class WalkKind : std::uint8_t { rebuilding, resyncing, scrubbing };
std::string_view text_of(WalkKind kind);

struct WalkStatus {
    WalkKind kind{WalkKind::rebuilding};
    std::optional<MemberIndex> member;  // that is rebuilt
    std::uint64_t position{0};          // bytes of each member done
    std::uint64_t end{0};               // bytes of each member in all
    std::uint64_t rate{0};              // bytes of a member per second, lately
    std::optional<std::uint64_t> seconds_left;
    bool repair{false};              // scrubbing
    std::uint64_t mismatches{0};     // rows found wrong
    std::uint64_t repaired{0};       // rows rewritten
    std::uint64_t bytes_unknown{0};  // of data, that a scrub could not read, nor compute
    double throttle{0};              // 0 full speed … 1 stopped, for the clients' sake
};

struct MemberStatus {
    MemberRecord record;
    bool open{false};
    DiskIdentity identity;   // of what is open
    std::string notice;      // why it is faulty or missing, or refuses its metadata; else empty
    std::uint64_t reads{0};  // operations
    std::uint64_t writes{0};
    std::uint64_t bytes_read{0};
    std::uint64_t bytes_written{0};
    std::uint64_t errors_read{0};  // answered with an error, since the start
    std::uint64_t errors_write{0};
    std::uint32_t in_flight{0};  // operations that its disk has not answered
};

enum class Severity : std::uint8_t { info, warning, error };
struct ArrayEvent {
    std::uint64_t sequence{0};  // from 1, without gaps
    std::uint64_t wall_seconds{0};
    Severity severity{Severity::info};
    std::string kind;       // "member_failed", "degraded", "rebuild_started", …
    std::string text;       // a sentence for people
    EpochRevision version;  // of the configuration that was in force then; 0.0: none yet
};

/// What is to be done, and is not being done.
struct WaitStatus {
    std::string what;                   // as text_of(WalkKind), or "spare"
    std::optional<MemberIndex> member;  // that is to be rebuilt, or whose role the spare is to take
    bool by_itself{false};              // it may go on soon without anybody: it is tried again
    std::string why;                    // a sentence for people, with what to do
};

struct Counters {
    std::uint64_t reads{0};  // client requests that went through the loop
    std::uint64_t writes{0};
    std::uint64_t zeroes{0};
    std::uint64_t flushes{0};
    std::uint64_t direct_reads{0};  // served by the client's own thread
    std::uint64_t jobs{0};          // stripe jobs
    std::uint64_t jobs_full_stripe{0};
    std::uint64_t jobs_rmw{0};
    std::uint64_t jobs_rcw{0};
    std::uint64_t parts_merged{0};  // parts that shared a job with another
    std::uint64_t rounds{0};        // of commands to homes, for jobs
    std::uint64_t degraded_reads{0};
    std::uint64_t reads_corrected{0};  // rows rewritten after a read error
};

struct IntentStatus {
    bool on{false};
    std::string hindrance;            // why it cannot be on, or empty
    std::uint64_t region{0};          // bytes of data that one mark covers
    std::uint64_t stripes_marked{0};  // in the newest record, or on their way into it
    std::uint32_t marks{0};           // regions; marks_max of them fit
    std::uint32_t marks_max{0};
    std::uint64_t generation{0};   // of the newest record
    std::uint64_t records{0};      // written since the start
    double records_per_second{0};  // lately
    std::uint32_t waiting{0};      // writers that wait for a record, or for room in one
    std::uint64_t flushes{0};      // of the members, only to make marks clean
};

/// The resync of what was marked when the array stopped uncleanly.
struct RecoveryStatus {
    std::uint64_t stripes{0};       // that were marked
    std::uint64_t stripes_left{0};  // of them, still to be made true
    std::uint64_t bytes_read{0};    // from members, for it
    std::uint64_t rows_wrong{0};    // whose parity was not true, and was rewritten
    std::uint64_t rows_unknown{0};  // that went on the bad-row list
    double seconds{0};              // since it began, or that it took
};

/// One way between two nodes: an address of the one with the lower id, at which the other one
/// connects to it. As the heartbeats over it show it to one of the two.
struct ChannelStatus {
    std::string address;
    bool up{false};  // this node's own heartbeats come back, the last one a moment ago
    std::optional<Nanos> round_trip;   // of the last that came back
    std::optional<Nanos> heard_since;  // the other one's last has come so long ago
    std::uint64_t sent{0};
    std::uint64_t received{0};
};

/// What a node of a cluster has done since its start, and has in hand.
struct NodeStatus {
    std::uint32_t id{0};
    bool decides{false};   // about the array
    bool is_self{false};   // the one that tells
    bool excluded{false};  // the others go on without it
    bool killed{false};    // and do not let it in again
    bool needed{false};    // the array cannot go on without it, as things are now
    std::string why;       // it is excluded, for people
    std::uint64_t locks_held{0};
    std::uint64_t locks_waiting{0};      // asked for
    std::uint64_t locks_handed_over{0};  // at this home, to one who had to wait
    std::uint64_t writes{0};             // stripe jobs of its clients
    std::uint64_t strips_staged{0};      // at this home, and not on a disk yet
    std::uint64_t rounds{0};      // of commands for these writes, each to all homes concerned
    std::uint64_t messages{0};    // to homes, and their answers, for whatever work
    std::uint64_t bytes_sent{0};  // to other nodes, of whatever kind
    std::vector<ChannelStatus> channels;  // to it, as the one that tells sees them
};

/// A cluster as one of its nodes knows it.
struct ClusterStatus {
    std::string name;
    std::uint32_t decides{0};    // the node that decides about the array
    std::string why_decides;     // that one, for people
    std::uint64_t fence{0};      // that this node is in; 0: none yet
    bool needs_lease{true};      // else it is the home of enough members by itself
    std::optional<Nanos> lease;  // that it has left; none: it has none, and answers nobody
};

/// Of a volume in a cluster, as this node knows it.
struct ReservationStatus {
    std::uint32_t node{0};     // that has it for itself, or asks for it; 0: none
    bool holds{false};         // it has it
    bool exclusive{false};     // the first client connection reserves it
    std::uint64_t waiting{0};  // clients' requests here, until that is known
};

struct ArrayStatus {
    Configuration configuration;
    std::vector<ReservationStatus> reservations;  // by volume; none: the node is alone
    std::optional<ClusterStatus> cluster;         // none: the node is alone
    std::vector<NodeStatus> nodes;                // by id; none: the node is alone
    IntentStatus intent;
    std::optional<RecoveryStatus> recovery;  // since the start, if there was anything to recover
    std::vector<BadBytes> bad;               // in order, at most bad_bytes_listed_max
    std::uint64_t bad_bytes{0};              // in all
    Health health{Health::clean};
    std::string failure;  // why it has failed, for people; else empty
    bool readonly{false};
    bool stopping{false};
    bool in_doubt{false};               // parity somewhere is not known to be true
    std::uint64_t doubt_bytes{0};       // of data, at most, whose parity that is
    bool resync_stuck{false};           // and the resync could not go on
    std::vector<WaitStatus> waits;      // what ought to run, and why it does not
    std::vector<MemberStatus> members;  // roles in order, then the spares
    std::vector<WalkStatus> walks;      // what runs now; at most one
    std::optional<WalkStatus> last_scrub;
    Counters counters;
    std::uint64_t memory_bytes{0};  // buffers and tables that the array holds
    std::uint64_t memory_bytes_max{0};
    std::vector<ArrayEvent> events;  // the newest events_kept_max
};

}  // namespace braid
