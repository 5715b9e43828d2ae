// SPDX-License-Identifier: BSD-3-Clause
// The states that a model has visited, told apart by their images, and the steps between them: the
// way to a state, and whether an end can be reached from everywhere.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

namespace braid::cluster {

template <class Step>
class StateGraph {
  public:
    using Index =
        std::uint32_t;  // of a state, in the order in which they were found; the first is 0

    /// What a step leads to, and whether that is new. Of the first state there is no step.
    std::pair<Index, bool> add(std::string image, Index from, Step step) {
        const auto next = static_cast<Index>(parents_.size());
        const auto [at, is_new] = states_.emplace(std::move(image), next);
        if (is_new) parents_.push_back({from, step});
        edges_.push_back({at->second, from});
        return {at->second, is_new};
    }
    /// Nothing happens there any more.
    void add_end(Index state) { ends_.push_back(state); }
    std::size_t size() const { return parents_.size(); }

    /// Found breadth-first, it is a shortest one.
    std::vector<Step> way_to(Index state) const {
        std::vector<Step> steps;
        for (; state != 0; state = parents_[state].first) steps.push_back(parents_[state].second);
        std::ranges::reverse(steps);
        return steps;
    }

    /// The first one from which there is no way to an end.
    std::optional<Index> without_end() const {
        std::vector<std::size_t> first(size() + 1);  // of each state, in `before`
        for (const auto& [to, from] : edges_) ++first[to + 1];
        for (std::size_t i = 1; i != first.size(); ++i) first[i] += first[i - 1];
        std::vector<Index> before(edges_.size());
        std::vector<std::size_t> fill(first.begin(), first.end() - 1);
        for (const auto& [to, from] : edges_) before[fill[to]++] = from;
        std::vector<bool> ends(size());
        std::vector<Index> left = ends_;
        for (const Index end : ends_) ends[end] = true;
        while (!left.empty()) {
            const Index at = left.back();
            left.pop_back();
            for (std::size_t i = first[at]; i != first[at + 1]; ++i) {
                if (ends[before[i]]) continue;
                ends[before[i]] = true;
                left.push_back(before[i]);
            }
        }
        const auto never = std::ranges::find(ends, false);
        if (never == ends.end()) return std::nullopt;
        return static_cast<Index>(never - ends.begin());
    }

  private:
    std::unordered_map<std::string, Index> states_;
    std::vector<std::pair<Index, Step>> parents_;  // of each state: where it was found from
    std::vector<std::pair<Index, Index>> edges_;   // to, from
    std::vector<Index> ends_;
};

}  // namespace braid::cluster
