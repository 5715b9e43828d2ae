// SPDX-License-Identifier: BSD-3-Clause
// Array: the members together with one geometry, on one loop. Opens what assembly found, serves
// requests, keeps the configuration on the members, fails and rebuilds them. Everything here is
// called by who leads the loop, but for read_direct() and note_latency().
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/base/disk_identity.h"
#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/io/clock.h"
#include "engine/io/disk.h"
#include "engine/io/task.h"
#include "engine/io_request.h"
#include "engine/layout/configuration.h"
#include "engine/status.h"

namespace braid {

/// What is to change of the write intent; kept in the configuration.
struct IntentChange {
    std::optional<bool> on;
    std::optional<std::uint64_t> region;  // bytes of data: intent_region_min … intent_region_max
};

/// Whether anybody can order something of the array: messages advise what is possible.
enum class Orders : std::uint8_t {
    taken,
    not_taken,  // by the server around it: it was given no socket=
    none,       // there is no server: somebody looks
};

class Nodes;

struct ArrayOptions {
    std::uint32_t node{0};  // this one's number; 0: it is alone
    Nodes* nodes{nullptr};  // of a cluster; none: it is alone
    /// Where not all of its nodes start together: the one that has the disk. Else none.
    std::function<std::uint32_t(const Disk&)> home_of;
    bool readonly{false};          // nothing is written to any member, metadata included
    bool force{false};             // takes in members that are behind, and trusts parity as it is
    Orders orders{Orders::taken};  // for what is said of members left out, and of rows
    std::uint64_t buffer_size{buffer_size_default};  // bytes of the pool for all stripe I/O
    std::uint64_t seed{0};                           // of the array's Rng (uuids of new members)
    IntentChange intent;                             // at the start
    Nanos rebuild_delay{};  // before a spare takes the role of a member that is only missing
    Nanos
        member_timeout{};  // a disk that leaves something unanswered for so long is lost; 0: none is
    std::function<void(const ArrayEvent&)> on_event;  // the log; may be empty
    std::function<void(std::string)> on_wrong;        // each thing that a scrub finds, for
                                                      // people; the log has many together
    std::function<void(ByteSpan)> on_buffer;          // registers the pool with the loop
};

/// Which member an operator means: a role ("2"), a path or a uuid.
struct MemberName {
    std::string text;
    DiskIdentity disk;  // that a path leads to, which may be called otherwise here

    MemberName(std::string name) : text(std::move(name)) {}  // NOLINT: any string is a name
    MemberName(const char* name) : text(name) {}             // NOLINT
    MemberName(std::string name, DiskIdentity identity) : text(std::move(name)), disk(identity) {}
};

/// What a scrub does with what it finds wrong. Made from a flag that somebody set as
/// `ScrubMode{flag}`.
enum class ScrubMode : bool { compare, repair };

/// What an operator wants of a node of a cluster.
enum class NodeOrder : std::uint8_t {
    kill,    // the others go on without it, and do not let it in again until `resume`
    resume,  // it may be let in again
    stop,    // it ends what its clients have begun, and leaves until its server is started anew
    add,     // the cluster's file has one more: it may come
    remove,  // the file has it no more: it goes for good
};

class Array {
  public:
    /// Reads the members' metadata, assembles, and marks the array as in use. `disks` in any
    /// order; those that take no part are closed, with a notice among the events.
    static Task<Checked<std::unique_ptr<Array>>> open(ReadyQueue& ready, Clock& clock,
                                                      std::vector<std::unique_ptr<Disk>> disks,
                                                      ArrayOptions options);
    virtual ~Array() = default;

    virtual const Configuration& configuration() const = 0;
    /// Starts `request`; its `done` is called when it is over, possibly before this returns.
    virtual void submit(IoRequest& request) = 0;
    /// Ends what runs, flushes, and marks the array clean. Requests are answered with
    /// Errc::fenced from now on. Idempotent.
    virtual Task<Result<void>> stop() = 0;

    virtual ArrayStatus status() const = 0;

    // Operators' commands. A Refusal's code says what kind of obstacle it is: RefusalCode::not_found
    // or ambiguous are about the name.
    /// Refused if data would be lost with it; where only rows in doubt would be, not by `force`.
    virtual Task<Checked<Unit>> fail_member(MemberName name, Force force) = 0;
    /// Forgets a faulty or missing member, or a spare, and closes it.
    virtual Task<Checked<Unit>> remove_member(MemberName name) = 0;
    /// Adds `disk` as a spare; takes the role of a lost member at once, if there is one. A member
    /// of this array that was away comes back to its own role. `force`: even if it holds data.
    virtual Task<Checked<Unit>> add_member(std::unique_ptr<Disk> disk, Force force) = 0;
    /// Puts `disk` into the role of member `name`, which is failed if it still is in sync. `force`:
    /// even if the disk holds data, and if rows in doubt cannot be known without the old member.
    virtual Task<Checked<Unit>> replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                               Force force) = 0;
    /// Ends when the scrub has begun; refused, it will not begin by itself later.
    virtual Task<Checked<Unit>> start_scrub(ScrubMode mode) = 0;
    virtual Checked<Unit> stop_scrub() = 0;
    /// Waits until every write is covered by what holds then. Refused where members have no room.
    virtual Task<Checked<Unit>> change_intent(IntentChange change) = 0;

    // Volumes, by name. A node that is alone shares none.
    /// Keeps all other nodes' clients out of the volume until release(). Refused: another has it.
    virtual Task<Checked<Unit>> reserve(std::string volume) = 0;
    virtual Task<Checked<Unit>> release(std::string volume) = 0;
    /// A client connects; close_volume() follows when it has left. Refused, and nothing follows:
    /// another node has the volume for itself.
    virtual Task<Checked<Unit>> open_volume(std::string volume) = 0;
    virtual void close_volume(const std::string& volume) = 0;

    /// A node of a cluster, by id. Refused: nothing has changed; a node that is alone is none.
    virtual Task<Checked<Unit>> order_node(NodeOrder what, std::uint32_t node) = 0;

    /// Any thread: reads [offset, offset + into.size()) without the loop, if every byte of it lies
    /// on in-sync members. False: nothing is promised of `into`; submit a request instead. That has to
    /// be done: a stop, and whoever wants to close a disk, hears by it that a reader has left.
    virtual bool read_direct(ArrayOffset offset, ByteSpan into) = 0;
    /// Any thread: a request took `latency`; what the background throttles itself by.
    virtual void note_latency(Nanos latency) = 0;
};

}  // namespace braid
