// SPDX-License-Identifier: BSD-3-Clause
// The bounds: how large an array, a request and their lists may be, how much of a kind may be under
// way at once, and what a client of the control socket may ask for. What is beyond a bound waits,
// or is refused with a reason. static_asserts tie them to each other; those of a format that
// follow from its layout (how many entries fit in a slot) stand with the format. How long something
// takes before it is tried again, or how often, stands where it is used, as does what only makes
// something fast or slow, and how much of a list or of a text a message for people names, or how
// often one is told: no table and no other bound depends on that.
#pragma once

#include <cstddef>
#include <cstdint>

namespace braid {

// The array. Sets of members are 64-bit masks (engine/layout/roles.h).
inline constexpr std::uint32_t members_max = 64;  // with a role; spares come on top
inline constexpr std::uint32_t spares_max = 16;
inline constexpr std::uint32_t volumes_max = 64;
inline constexpr std::uint32_t nodes_max = 32;
inline constexpr std::uint64_t strip_size_min = 4096;
inline constexpr std::uint64_t strip_size_max = 16u << 20;
inline constexpr std::uint64_t strip_size_default = 64u << 10;
inline constexpr std::uint64_t member_size_max = std::uint64_t{1} << 60;
inline constexpr std::size_t name_length_max = 63;  // of an array or a volume
inline constexpr std::size_t member_path_max =
    255;  // bytes of a path that are kept; its end counts

// Requests. A window is at most 64 rows of one stripe, so that a set of its rows is 64 bits.
inline constexpr std::uint32_t window_rows_max = 64;
inline constexpr std::uint32_t request_size_max = 32u << 20;
inline constexpr std::uint32_t parts_in_flight_max = 4096;  // pieces of requests, all clients
inline constexpr std::uint64_t job_size_max = 8u << 20;     // buffers of one stripe job
inline constexpr std::uint32_t events_kept_max = 256;
static_assert(window_rows_max <= 64);
// The least job: old and new of all strips of one row, P and Q once more.
static_assert((2 * members_max + 2) * 4096 <= job_size_max);

// The pool that all stripe I/O has its buffers from. Four of the largest jobs fit, so that one of
// them never waits for the only other one.
inline constexpr std::uint64_t buffer_size_default = 64u << 20;
static_assert(buffer_size_default >= 4 * job_size_max);

// Under way at once; what comes beyond waits for one to end.
inline constexpr std::uint32_t stripe_jobs_max = 128;  // enough for the deepest queues of clients
inline constexpr std::uint32_t job_ops_max = 64;  // of a stripe job; a fragmented one takes turns
inline constexpr std::uint32_t readers_max = 64;  // reads that the loop does
inline constexpr std::uint32_t read_pieces_max = 32;      // strips of one read
inline constexpr std::uint32_t zeroers_max = 4;           // requests for zeros; each has much to do
inline constexpr std::uint32_t windows_claimed_max = 64;  // by one batch of zeros, of a walk, or of
                                                          // rows that come back
inline constexpr std::uint32_t walk_lanes_max = 4;        // batches of a walk
inline constexpr std::size_t wrong_rows_open_max = 8;  // ranges that a scrub's finds still add to
static_assert(wrong_rows_open_max >= walk_lanes_max);  // each lane finds in another place
static_assert(windows_claimed_max <= 64);              // a set of a batch's windows is 64 bits

inline constexpr std::uint32_t member_timeout_max = 3600;    // seconds
inline constexpr std::uint32_t rebuild_delay_max = 604'800;  // seconds: a week

// The write intent and the bad-row list.
inline constexpr std::uint64_t intent_region_default = 16u << 20;  // bytes of data
inline constexpr std::uint64_t intent_region_min = 64u << 10;
inline constexpr std::uint64_t intent_region_max = std::uint64_t{1} << 40;
inline constexpr std::uint32_t intent_marks_max = 1000;    // of a record; the rest is for doubt
inline constexpr std::uint32_t bad_ranges_max = 2040;      // and what a configuration slot has room
                                                           // for; past it neighbours are joined
inline constexpr std::uint64_t bad_rows_text_max = 31744;  // their part of a slot's text, which no
                                                           // other change can take from them
inline constexpr std::uint32_t doubt_windows_max = 65536;  // in doubt in part, known by row
inline constexpr std::uint32_t doubt_ranges_max = 4096;    // of windows in doubt
inline constexpr std::uint32_t bad_bytes_listed_max = 4096;  // byte ranges named in a status
// Blocks of a set of rows (engine/layout/row_set.h): 16 bytes each, and three quarters of them are
// used. So 256 KiB a set, for 12288 places of 64 rows, or 3 GiB of a member in one piece, row by
// row; what is more is known by pairs of rows, and so on.
inline constexpr std::uint32_t row_blocks_max = 16384;
// Pages of a set of windows (engine/layout/window_set.h), of 4096 windows and some 600 bytes each: 40 MiB,
// for 16 TiB of a member with windows of 64 KiB that are written all over.
inline constexpr std::size_t window_pages_max = 65536;
// All marks that can be held at once fit into a record: who holds some, and waits for one more, waits
// for a flush at most.
static_assert(stripe_jobs_max + zeroers_max + walk_lanes_max * windows_claimed_max <=
              intent_marks_max / 2);
static_assert((row_blocks_max & (row_blocks_max - 1)) == 0);
static_assert(bad_ranges_max * 15 <= bad_rows_text_max);  // [0,0,1,"void"] and a comma

// The control socket: what its clients may ask for. Each connection has a thread; those beyond
// control_connections_max are only told so.
inline constexpr int control_connections_max = 32;
inline constexpr unsigned control_threads_max = 256;
inline constexpr std::size_t control_body_size_max = 64u << 10;
inline constexpr std::size_t control_answer_size_max = 16u << 20;  // that the command takes
inline constexpr std::uint64_t events_wait_seconds_max = 60;       // of a long poll
inline constexpr unsigned control_idle_seconds_max = 75;           // then a connection is closed
inline constexpr std::uint64_t bad_page_default = 100;             // bad ranges in an answer
inline constexpr std::uint64_t bad_page_max = 10'000;
inline constexpr std::uint64_t bad_first_max = 10'000'000;  // the number of a page's first range
inline constexpr std::size_t bad_in_status_max = 16;        // ranges that the status itself names
static_assert(control_connections_max < static_cast<int>(control_threads_max));
static_assert(events_wait_seconds_max < control_idle_seconds_max);
static_assert(bad_page_default <= bad_page_max && bad_in_status_max <= bad_bytes_listed_max);
static_assert(bad_page_max * 512 <= control_answer_size_max);

// io_uring.
inline constexpr std::uint32_t ring_entries = 1024;
inline constexpr std::uint32_t ring_files_max = 64;        // registered; others go by descriptor
inline constexpr std::uint32_t ready_rounds_max = 64;      // before a turn looks at what has come
inline constexpr std::uint32_t lead_turns_max = 32;        // that a guest runs the loop for
inline constexpr std::uint64_t lead_size_max = 16u << 10;  // of a request that makes a guest

// Connections to other nodes.
inline constexpr std::uint64_t net_connect_ms = 3000;  // until the other side has answered
inline constexpr int net_backlog_max = 64;             // not accepted yet
inline constexpr std::size_t net_lookups_max = 16;     // names, each with a thread
inline constexpr std::size_t net_places_max = 8;       // addresses of one name that are tried

// A home's book. One write has an entry for each of its members here.
inline constexpr std::uint32_t book_entries_max = 4096;  // of one node
inline constexpr std::uint32_t entries_per_lock = 2;  // for each member: a write, and what it mends
static_assert(members_max * entries_per_lock * walk_lanes_max <= book_entries_max);
// Bytes that one node may have staged at one home: what all lanes of its walk can need there at once,
// and so any request. A home has this for each node: 31 times 64 MiB at most.
inline constexpr std::uint64_t book_bytes_max = 64u << 20;
static_assert(std::uint64_t{members_max} * window_rows_max * 4096 * walk_lanes_max <=
              book_bytes_max);

// Locks that a node has, or waits for: of jobs, of reads that compute, of requests for zeros, of a walk's
// lanes and of rows that come back, each in one window. And unlocks that it holds back until the home of
// a member has heard of its loss: beyond these its next locks wait.
inline constexpr std::uint32_t locks_open_max =
    stripe_jobs_max + readers_max + zeroers_max + walk_lanes_max + 1;
inline constexpr std::uint32_t unlocks_held_max = 1024;
// Claims of one node in one book. Who was not waiting any more as the bound was reached may come beyond
// it with all locks that he has, and then take as many.
inline constexpr std::uint32_t book_claims_max = 2048;
static_assert(unlocks_held_max + 2 * locks_open_max <= book_claims_max);
// Bytes that a home reads for one node at a time, and commands of it that are not answered.
inline constexpr std::uint64_t home_read_bytes_max = 64u << 20;
inline constexpr std::size_t home_commands_max = 32768;

// The cluster's file (cluster/config/), which a person writes. Ids of nodes are 1 to nodes_max - 1;
// 0 is a node that is alone. Members are those with a role, and spares.
inline constexpr std::size_t cluster_file_size_max = 64u << 10;
// Dots outside of quotes, which no key of it has: each makes a table in a table.
inline constexpr std::size_t key_dots_max = 64;
inline constexpr std::size_t node_addresses_max = 8;
// Milliseconds for which a node serves without being heard, and after which others go on without it.
inline constexpr std::uint32_t lease_ms_default = 1200;  // four heartbeats that are missed
inline constexpr std::uint32_t lease_ms_min = 500;
inline constexpr std::uint32_t lease_ms_max = 30'000;
inline constexpr std::uint32_t start_wait_ms_default = 30'000;  // for nodes that do not come
inline constexpr std::uint32_t start_wait_ms_max = 3'600'000;
// Of requests, or square microseconds, that a node tells at a time of how long its clients wait: of ten
// thousand that took ten seconds each.
inline constexpr std::uint64_t latency_told_max = 1'000'000'000'000'000'000;
/// How often nodes let each other hear; at least this often in the length of a lease.
inline constexpr std::uint32_t heartbeat_ms_default = 300;
inline constexpr std::uint32_t heartbeat_ms_min = 20;
inline constexpr std::uint32_t heartbeats_per_lease = 4;
inline constexpr std::size_t path_length_max = 4095;  // bytes: PATH_MAX without its final NUL
// Messages between nodes. What comes with one lies in one strip.
inline constexpr std::uint32_t message_body_size_max = 64u << 10;
inline constexpr std::uint32_t message_payload_size_max = 16u << 20;
static_assert(message_payload_size_max >= strip_size_max);
// Bytes of writes that are on their way to one disk of another node, which takes as many for each
// node as it reads for it: a node never asks for more, however many of that node's disks it writes.
inline constexpr std::uint64_t remote_disk_write_bytes_max = 512u << 10;
static_assert(remote_disk_write_bytes_max <= message_payload_size_max);
static_assert((members_max + spares_max) * remote_disk_write_bytes_max <= home_read_bytes_max);
inline constexpr std::size_t message_ends_max = 512;  // of writes and claims, in one message
// What nodes tell each other as text (cluster/bus/talk.h), in one message each.
inline constexpr int text_depth_max = 16;
inline constexpr std::size_t texts_waiting_max = 4096;  // of one node, not done yet
inline constexpr std::size_t marks_told_max = 1000;
inline constexpr std::size_t writes_told_max = 500;  // in one message, of a barrier
inline constexpr std::size_t pages_told_max = 32;    // of windows, a kilobyte each
inline constexpr std::size_t ranges_told_max = 256;  // of rows that cannot be known
inline constexpr std::size_t waits_told_max = 256;   // each is of a role, a spare or a kind
inline constexpr std::uint32_t os_error_max = 4095;  // Linux's errno, as the kernel bounds it
// Before there is an array: what is said of all members' contents, of why they are refused, and of a
// plan. Each comes in one message, in bytes.
inline constexpr std::size_t told_content_size_max = 300;  // of one member
inline constexpr std::size_t told_refusals_size_max = message_body_size_max / 4;
inline constexpr std::size_t told_plan_size_max = message_body_size_max - 1024;
// In JSON each character may be two, and has its name around it.
static_assert((members_max + spares_max) * (2 * told_content_size_max + 64) <=
              message_body_size_max);
// A session: what goes out in one piece, and how much may come before it is said that it came.
inline constexpr std::uint32_t messages_per_send = 64;
inline constexpr std::uint32_t unanswered_messages_max = 64;
inline constexpr std::uint64_t unanswered_bytes_max = 1u << 20;
inline constexpr std::uint32_t receive_buffer_size = 256u << 10;
static_assert(receive_buffer_size >= message_body_size_max + 4096);
inline constexpr std::size_t refused_text_max = 1024;           // of REFUSED, in bytes
inline constexpr std::uint32_t receive_piece_size = 64u << 10;  // of a payload, at a time
inline constexpr std::uint64_t sign_ms = 500;                   // who has nothing to say says so
inline constexpr std::uint64_t silent_ms_max = 5'000;           // then a connection is broken off
// Connections that have come, and have not said yet whose they are.
inline constexpr std::size_t handshake_size_max = 16u << 10;  // bytes of a message of TLS
inline constexpr std::uint32_t strangers_max = 32;
inline constexpr std::size_t refusals_told_max = 64;  // that are not told again
inline constexpr std::size_t boots_kept_max = 16;     // of a node, that were followed by another
inline constexpr std::uint64_t hello_ms_max = 3000;   // until it is said

// Members.
inline constexpr std::uint32_t read_errors_max = 20;  // of a member, halved each hour; then the
                                                      // member is faulty

}  // namespace braid
