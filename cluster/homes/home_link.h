// SPDX-License-Identifier: BSD-3-Clause
// HomeLink: from one node to one home. Commands arrive in the order in which they were sent, each
// once; answers come in any order. On the same node it is a call.
#pragma once

#include <bit>
#include <cstdint>
#include <set>
#include <vector>

#include "cluster/homes/row_book.h"
#include "engine/base/buffer.h"
#include "engine/layout/geometry.h"
#include "engine/members/drive.h"
#include "engine/members/row_homes.h"

namespace braid::cluster {

enum class HomeCommandKind : std::uint8_t {
    // answered
    read,      // rows of a member, as the last decided write has them
    lock,      // when the claim holds the rows
    stage,     // at once
    flush,     // when every write that was staged before it is on the member's device, durably
    progress,  // at once: for HomeAnswer::applied_upto
    settled,   // when all that is staged there now is on the devices
    // not answered
    decide,
    drop,
    unlock,
    finished,  // nothing but HomeCommand::finished
};

inline constexpr std::size_t home_command_kinds = 10;
static_assert(static_cast<std::size_t>(HomeCommandKind::finished) + 1 == home_command_kinds);

constexpr bool is_answered(HomeCommandKind kind) { return kind < HomeCommandKind::decide; }

/// How far a rebuild is: what its member has of windows before that one is true, and is written
/// like any other strip.
struct Rebuilt {
    MemberIndex member{};
    WindowIndex upto{};
};

struct HomeCommand {
    HomeCommandKind kind{HomeCommandKind::read};
    CommandId id;               // of the claim or the write
    std::uint64_t finished{0};  // of the sender: RowBook::finished()
    MemberIndex member{};       // read, stage, flush; lock: whose rows come with it
    RowIndex first{};           // read: of the member, and how many
    std::uint64_t count{0};
    std::byte* into{nullptr};            // read, lock: filled before the answer comes
    WindowRows at;                       // lock, stage
    RowMask with_lock{0};                // lock: rows of `member` that come with it, one after the
                                         // other, as the last decided write has them
    LockMode mode{LockMode::exclusive};  // lock
    MemberSet participants;              // stage: of the write
    Buffer content;                      // stage: the rows, one after the other; empty: zeroes
    bool may_free{false};                // stage, of zeroes: space may be given back
    std::vector<Rebuilt> rebuilt;        // unlock: as the sender knows it
};

/// Where a row's bytes are in the content of these rows.
inline std::uint64_t content_offset(RowMask rows, std::uint32_t row) {
    const RowMask before = rows & ((RowMask{1} << row) - 1);
    return static_cast<std::uint64_t>(std::popcount(before)) * row_size;
}

struct HomeAnswer {
    DriveResult result;
    std::uint64_t applied_upto{0};  // of whoever asked: RowBook::applied_upto()
    // lock: what who had these rows before knew, at least. Who rebuilds a window has its lock, and
    // whoever has that lock afterwards has to write the member, too, whatever he has heard.
    std::vector<Rebuilt> rebuilt;
    bool has_bytes{false};  // lock: the rows that were to come with it are there
};

/// Who waits for an answer. It lives until then.
class HomeReply {
  public:
    virtual ~HomeReply() = default;
    virtual void answered(const HomeAnswer& answer) = 0;
};

/// The epoch of the last barrier that the node has passed: commands to homes under another one are
/// refused.
struct Fence {
    std::uint64_t epoch{0};
    std::set<std::uint64_t> known{};  // of this array, since it was opened: passed, or being passed

    void pass(std::uint64_t passed) { epoch = passed, known.insert(passed); }
    bool is_known(std::uint64_t fence) const { return fence == epoch || known.contains(fence); }
};

class HomeLink {
  public:
    virtual ~HomeLink() = default;
    /// @param reply  none for a command that is not answered
    virtual void send(HomeCommand command, HomeReply* reply) = 0;
    /// The home is another node: a command is a message.
    virtual bool is_remote() const { return true; }
    /// How many messages commands became so far, their answers not counted.
    virtual std::uint64_t messages() const { return 0; }
};

}  // namespace braid::cluster
