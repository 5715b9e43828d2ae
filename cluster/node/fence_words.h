// SPDX-License-Identifier: BSD-3-Clause
// What nodes say to each other while a fence ends and the next one begins, as it travels: NEGOTIATE,
// and what is told beside it because it may be long (braid-protocol(7)).
#pragma once

#include <cstdint>
#include <map>
#include <set>
#include <vector>

#include "cluster/bus/talk.h"
#include "cluster/homes/home_link.h"
#include "cluster/homes/row_book.h"
#include "cluster/homes/write_verdict.h"
#include "cluster/membership/recovery.h"
#include "cluster/wire/node_boot.h"

namespace braid::cluster {

namespace fence_words {
inline constexpr const char* voice = "voice";        // asked: whether it follows who asks
inline constexpr const char* held = "held";          // asked: what its members hold
inline constexpr const char* decided = "decided";    // to who negotiates, in pieces
inline constexpr const char* known = "known";        // as well
inline constexpr const char* judged = "judged";      // as well: the verdict of the fence before
inline constexpr const char* prepared = "prepared";  // after those
inline constexpr const char* verdict = "verdict";    // from who negotiates, in pieces
inline constexpr const char* go_on = "go_on";        // all have adopted
inline constexpr const char* stop = "stop";          // asked: to leave, by an operator's order
inline constexpr const char* left = "left";          // who tells it has left
inline constexpr const char* missed = "missed";      // asked: what a member misses that is back
inline constexpr const char* missed_now =
    "missed_now";                              // asked: how much that is, before any fence
inline constexpr const char* nodes = "nodes";  // asked: to know these, and no others
inline constexpr const char* waits = "waits";  // why it does not start without some by itself
}  // namespace fence_words

/// Starts of nodes, as [[node, boot], ...].
void put_nodes(Words* words, const char* key, const std::vector<NodeBoot>& nodes);
std::vector<NodeBoot> nodes_of(WordFields& fields, const char* key);

/// Nodes, as [node, ...].
Checked<std::set<std::uint32_t>> nodes_in(WordFields& fields, const char* key);

/// NEGOTIATE, step prepare.
struct PrepareWords {
    std::uint64_t fence{0};
    std::vector<NodeBoot> gone;      // who is excluded
    std::vector<NodeBoot> joined{};  // who is let in again
    std::set<std::uint32_t> left{};  // of those that are gone, who left by order: for the log
};
Words words_of(const PrepareWords& prepare);
Checked<PrepareWords> prepare_of(const Words& words);

/// What is asked, by its words.
bool is_prepare(const Words& words);
bool is_adopt(const Words& words);

/// NEGOTIATE, step adopt: how far rebuilds are.
void put_rebuilt(Words* adopt, const std::vector<Rebuilt>& rebuilt);
Checked<std::vector<Rebuilt>> rebuilt_of(const Words& words, const Geometry& geometry);

/// A role as one node has it: who comes to decide goes by what all have alike.
struct RoleSeen {
    bool takes_part{false};
    std::uint32_t node{0};  // whose disk has it; 0: it is not open here
    std::uint32_t disk{0};  // that node's number of it
    WindowIndex rebuilt{};
    bool operator==(const RoleSeen&) const = default;
};
/// What a node tells when it has prepared.
struct Prepared {
    PrepareAnswer answer;
    std::vector<RoleSeen> roles{};  // by role
};
/// In as many messages as it takes, the last one "prepared".
std::vector<Words> words_of(std::uint64_t fence, const Prepared& prepared);
/// One of them; true: it was the last.
Checked<bool> take_prepared(const Words& words, Prepared* prepared);

std::vector<Words> words_of(const WriteVerdict& verdict);
/// One of them.
Checked<Unit> take_verdict(const Words& words, WriteVerdict* verdict);

}  // namespace braid::cluster
