// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/membership/recovery.h"

#include <algorithm>

#include "parity/require.h"

namespace braid::cluster {
namespace {

/// What all homes know of one write of a node that is gone.
struct Gathered {
    MemberSet participants;
    MemberSet staged;
    bool decided{false};
};
using Writes = std::map<std::uint64_t, Gathered>;  // by number

/// The roles whose homes have kept what they had of this writer.
MemberSet members_there(const std::vector<PrepareAnswer>& answers, NodeBoot writer) {
    MemberSet there;
    for (const PrepareAnswer& answer : answers) {
        if (answer.books.contains(writer)) there |= answer.members;
    }
    return there;
}

Writes gather(const std::vector<PrepareAnswer>& answers, NodeBoot writer) {
    Writes writes;
    for (const PrepareAnswer& answer : answers) {
        const auto book = answer.books.find(writer);
        if (book == answer.books.end()) continue;
        for (const RowBook::Known& known : book->second) {
            Gathered& one = writes[known.write.sequence];
            one.participants |= MemberSet{known.participants};
            one.staged |= MemberSet{known.members} & answer.members;
            one.decided |= known.decided;
        }
    }
    return writes;
}

}  // namespace

KnownFence newest_fence(const std::vector<PrepareAnswer>& answers) {
    KnownFence newest;
    for (const PrepareAnswer& answer : answers) {
        if (answer.newest.epoch > newest.epoch) newest = answer.newest;
    }
    return newest;
}

NodeSet expelled(const std::vector<PrepareAnswer>& answers) {
    const KnownFence newest = newest_fence(answers);
    NodeSet nodes;
    for (const PrepareAnswer& answer : answers) {
        if (answer.fence == 0 || newest.nodes.contains(answer.from)) continue;
        nodes.add(NodeId{answer.from.node});
    }
    return nodes;
}

bool books_are_enough(const std::vector<PrepareAnswer>& answers, MemberSet in_sync, Quorum quorum,
                      Witness said) {
    MemberSet kept;
    for (const PrepareAnswer& answer : answers) {
        if (answer.fence != 0) kept |= answer.members & in_sync;
    }
    return quorum.is_enough(kept, said);
}

WriteVerdict judge(std::uint64_t epoch, const std::vector<PrepareAnswer>& answers, MemberSet in_use,
                   Judging judging) {
    BRAID_REQUIRE(expelled(answers).empty());
    WriteVerdict verdict;
    for (const PrepareAnswer& answer : answers) {
        if (answer.verdict.epoch > verdict.epoch) verdict = answer.verdict;
    }
    BRAID_REQUIRE(epoch > verdict.epoch);
    verdict.epoch = epoch;
    std::set<NodeBoot> gone;
    for (const auto& [writer, judged] : verdict.writers) gone.insert(writer);
    for (const PrepareAnswer& answer : answers) {
        for (const auto& [writer, book] : answer.books) gone.insert(writer);
    }
    for (const PrepareAnswer& answer : answers) {
        gone.erase(answer.from);
        Judged& own = verdict.writers[answer.from];
        own.upto = std::max(own.upto, answer.sequence);
        own.happen.insert(answer.decided.begin(), answer.decided.end());
    }
    for (const NodeBoot writer : gone) {
        Judged& judged = verdict.writers[writer];
        const MemberSet there = members_there(answers, writer) & in_use;
        for (const auto& [number, write] : gather(answers, writer)) {
            if (number <= judged.upto) continue;  // which an earlier verdict did
            const bool staged = write.staged.has_all(write.participants & there);
            if (write.decided || (staged && judging == Judging::normal))
                judged.happen.insert(number);
        }
        judged.upto = Judged::all;
    }
    return verdict;
}

}  // namespace braid::cluster
