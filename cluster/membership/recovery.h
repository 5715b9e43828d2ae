// SPDX-License-Identifier: BSD-3-Clause
// Recovery: which staged writes happen when a fence ends. Pure functions of what the nodes of the
// next fence answer when they prepare.
//
// A living node decides about its writes alone: those that it has decided happen, the others do not,
// and it makes them again under new numbers. Of a node that is gone one sentence decides: if every
// participant whose home is there has the write staged, or any knows it decided, it happens;
// otherwise it does not. (Nothing is applied before everything is staged; so "otherwise" means that
// nobody has applied it, and nobody was told that it is done.)
//
// "There" is a home that has kept its book since it served together with the writer, for members
// that the newest configuration has in use. A home that began later knows nothing of the writer.
//
// A verdict is passed once. It goes to all nodes of the fence before the first of them adopts it,
// and each keeps it until all have settled; the next barrier takes it over, and judges only what has
// come since. (Passed again by those who are left, it could be another one: the node that did not
// have the write staged has served reads since, and is gone.)
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "cluster/homes/row_book.h"
#include "cluster/homes/write_verdict.h"
#include "cluster/wire/node_boot.h"
#include "cluster/wire/node_id.h"
#include "engine/base/units.h"
#include "engine/layout/register.h"

namespace braid::cluster {

/// Who serves together in a fence that is in force.
struct KnownFence {
    std::uint64_t epoch{0};
    std::set<NodeBoot> nodes;
    bool operator==(const KnownFence&) const = default;
};

/// What a node answers when it has prepared.
struct PrepareAnswer {
    NodeBoot from;
    std::uint64_t fence{0};     // in which it has served, in this life; 0: in none, it has no book
    KnownFence newest;          // that it knows to be in force
    MemberSet members;          // whose home it is
    std::uint64_t sequence{0};  // the newest of its own writes
    std::vector<std::uint64_t> decided;  // its own writes that happen and are not finished
    /// What its book has of each writer that it has served with and that is not kept: also where
    /// there is nothing.
    std::map<NodeBoot, std::vector<RowBook::Known>> books;
    WriteVerdict verdict;          // the newest that it was told, until all have settled
    std::map<NodeId, Nanos> ages;  // EchoLog::age() of each that is excluded
};

/// The newest fence that any of them knows to be in force; of epoch 0: none.
KnownFence newest_fence(const std::vector<PrepareAnswer>& answers);

/// Who has been excluded from a fence that is in force, and does not know: such a node fails what it
/// had begun, and begins a new life. Its answer counts for nothing.
NodeSet expelled(const std::vector<PrepareAnswer>& answers);

/// Whether those that have kept their books are homes of enough members. If not, several nodes have
/// lost their memory at once: it is as after a loss of power (Judging::restart).
/// @param in_sync  as the newest configuration has them, without those that are stale
bool books_are_enough(const std::vector<PrepareAnswer>& answers, MemberSet in_sync, Quorum quorum,
                      Witness said);

enum class Judging : bool {
    normal,
    restart,  // only what somebody knows decided happens; parity is in doubt where marks say so
};

/// @param epoch    of the fence that is to begin
/// @param answers  of its nodes, each once; nobody is expelled
/// @param in_use   roles that the newest configuration has in use, without those that are stale
WriteVerdict judge(std::uint64_t epoch, const std::vector<PrepareAnswer>& answers, MemberSet in_use,
                   Judging judging = Judging::normal);

}  // namespace braid::cluster
