// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/membership/barrier.h"

#include <algorithm>
#include <utility>

#include "parity/require.h"

namespace braid::cluster {

// ---- NodeBarrier -------------------------------------------------------------------------------

NodeBarrier::NodeBarrier(NodeBoot self, std::uint64_t promise, KnownFence newest)
    : self_(self), promise_(promise), newest_(std::move(newest)) {
    BRAID_REQUIRE(promise_ >= newest_.epoch);
}

/// It is frozen from here on, not from its answer: what it answers is then what it is.
NodeBarrier::Prepared NodeBarrier::prepare(const Prepare& prepare, bool has_master) {
    if (!prepare.kept.contains(self_) || phase_ == Phase::expelled) return Prepared::not_kept;
    if (prepare.epoch <= promise_) return Prepared::not_above;
    if (has_master) return Prepared::has_master;
    phase_ = Phase::frozen;
    progress_ = Progress::freezing;
    promise_ = prepare.epoch;
    kept_ = prepare.kept;
    return Prepared::freezes;
}

bool NodeBarrier::is_at(std::uint64_t epoch, Progress progress) const {
    return phase_ == Phase::frozen && promise_ == epoch && progress_ == progress;
}

bool NodeBarrier::promised(std::uint64_t epoch) {
    if (!is_at(epoch, Progress::freezing)) return false;
    progress_ = Progress::promised;
    return true;
}

std::set<NodeBoot> NodeBarrier::gone() const {
    std::set<NodeBoot> nodes;
    std::ranges::set_difference(met_, kept_, std::inserter(nodes, nodes.end()));
    return nodes;
}

bool NodeBarrier::store(std::uint64_t epoch) {
    if (!is_at(epoch, Progress::promised)) return false;
    progress_ = Progress::stored;
    return true;
}

bool NodeBarrier::announce(const WriteVerdict& verdict) {
    if (!is_at(verdict.epoch, Progress::stored)) return false;
    progress_ = Progress::announced;
    newest_ = {verdict.epoch, kept_};
    verdict_ = verdict;
    return true;
}

bool NodeBarrier::adopt(std::uint64_t epoch) {
    if (!is_at(epoch, Progress::announced)) return false;
    phase_ = Phase::serving;
    fence_ = epoch;
    met_.insert(kept_.begin(), kept_.end());
    return true;
}

void NodeBarrier::all_settled(std::uint64_t epoch) {
    if (phase_ != Phase::serving || fence_ != epoch) return;
    met_ = newest_.nodes;
    verdict_ = {};
}

bool NodeBarrier::killed(std::uint64_t epoch) {
    if (phase_ == Phase::outside || epoch <= fence_ || epoch < promise_) return false;
    if (phase_ == Phase::frozen && epoch == promise_) return false;  // which has it
    phase_ = Phase::expelled;
    return true;
}

bool NodeBarrier::heard_of(const KnownFence& fence) {
    if (phase_ == Phase::outside || fence.epoch <= newest_.epoch) return false;
    if (fence.nodes.contains(self_)) return false;
    phase_ = Phase::expelled;
    return true;
}

bool NodeBarrier::promise_loss(std::uint64_t epoch) {
    if (phase_ != Phase::serving || epoch <= promise_) return false;
    promise_ = epoch;
    return true;
}

bool NodeBarrier::takes(NodeBoot from, std::uint64_t fence) const {
    return phase_ == Phase::serving && fence == fence_ && newest_.nodes.contains(from);
}

std::vector<std::uint64_t> NodeBarrier::image() const {
    std::vector<std::uint64_t> all{self_.boot,     static_cast<std::uint64_t>(phase_),
                                   promise_,       fence_,
                                   newest_.epoch,  static_cast<std::uint64_t>(progress_),
                                   verdict_.epoch, verdict_.writers.size()};
    for (const auto* nodes : {&newest_.nodes, &met_, &kept_}) {
        all.push_back(nodes->size());
        for (const NodeBoot node : *nodes) all.insert(all.end(), {node.node, node.boot});
    }
    for (const auto& [writer, judged] : verdict_.writers) {
        all.insert(all.end(), {writer.node, writer.boot, judged.upto, judged.happen.size()});
        all.insert(all.end(), judged.happen.begin(), judged.happen.end());
    }
    return all;
}

// ---- MasterBarrier -----------------------------------------------------------------------------

MasterBarrier::MasterBarrier(Setup setup)
    : setup_(std::move(setup)),
      wait_(setup_.lease, setup_.excluded),
      highest_promise_(setup_.prepare.epoch) {
    for (const NodeBoot node : setup_.prepare.kept) nodes_.add(NodeId{node.node});
    BRAID_REQUIRE(nodes_.has(setup_.prepare.proposer));
    BRAID_REQUIRE(nodes_.size() == setup_.prepare.kept.size());
    BRAID_REQUIRE((nodes_ & setup_.excluded).empty());
    pending_ = nodes_;
}

/// True: it was the last one of this step.
bool MasterBarrier::answers_now(NodeId from, Step step) {
    if (step_ != step || !pending_.has(from)) return false;
    pending_.remove(from);
    return pending_.empty();
}

void MasterBarrier::next(Step step) {
    step_ = step;
    pending_ = nodes_;
}

void MasterBarrier::fail(NodeSet without) {
    without_ |= without;
    if (in_force_) return;  // it cannot be taken back: the next one begins from it
    step_ = Step::failed;
    pending_ = {};
}

void MasterBarrier::prepared(const PrepareAnswer& answer, Nanos now) {
    const NodeId from{answer.from.node};
    if (step_ != Step::prepare || !setup_.prepare.kept.contains(answer.from)) return;
    if (!pending_.has(from)) return;
    const bool is_past = answer.newest.epoch < epoch() && answer.verdict.epoch < epoch();
    if (!is_past || answer.fence > answer.newest.epoch) return fail(NodeSet::of(from));
    answers_.push_back(answer);
    for (const NodeId node : setup_.excluded) {
        const auto age = answer.ages.find(node);
        wait_.told(node, age == answer.ages.end() ? Nanos{0} : age->second, now);
    }
    if (!answers_now(from, Step::prepare)) return;
    const NodeSet out = expelled(answers_);
    if (!out.empty()) return fail(out);
    step_ = Step::judge;
}

void MasterBarrier::refused(NodeId from, std::uint64_t promise) {
    highest_promise_ = std::max(highest_promise_, promise);
    if (step_ == Step::prepare && pending_.has(from)) fail({});
}

void MasterBarrier::judged(WriteVerdict verdict) {
    BRAID_REQUIRE(step_ == Step::judge);
    BRAID_REQUIRE(verdict.epoch == epoch());
    verdict_ = std::move(verdict);
    next(Step::store);
}

void MasterBarrier::stored(NodeId from) {
    if (answers_now(from, Step::store)) step_ = Step::wait;
}

void MasterBarrier::store_failed(NodeId from) {
    if (step_ == Step::store && pending_.has(from)) fail(NodeSet::of(from));
}

void MasterBarrier::excluded_is_out(NodeId node) { wait_.needs_no_wait(node); }

void MasterBarrier::time_is(Nanos now) {
    if (step_ == Step::wait && now >= wait_.opens_at()) next(Step::announce);
}

void MasterBarrier::announced(NodeId from) {
    if (!answers_now(from, Step::announce)) return;
    in_force_ = true;
    next(Step::adopt);
}

void MasterBarrier::adopted(NodeId from) {
    if (!answers_now(from, Step::adopt)) return;
    step_ = Step::settle;
    pending_ = nodes_ - settled_;
    if (pending_.empty()) step_ = Step::over;
}

void MasterBarrier::settled(NodeId from) {
    if (step_ == Step::adopt && nodes_.has(from)) settled_.add(from);
    if (answers_now(from, Step::settle)) step_ = Step::over;
}

void MasterBarrier::gone(NodeId node) {
    if (nodes_.has(node) && step_ != Step::over) fail(NodeSet::of(node));
}

void MasterBarrier::abandon() { fail({}); }

}  // namespace braid::cluster
