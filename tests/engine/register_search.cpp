// SPDX-License-Identifier: BSD-3-Clause
#include "tests/engine/register_search.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <vector>

namespace braid::register_model {
namespace {

std::uint64_t hash_of(const State& state) {
    std::array<std::uint64_t, sizeof(State) / 8> words;
    std::memcpy(words.data(), &state, sizeof state);
    std::uint64_t hash = 0x9e3779b97f4a7c15;
    for (const std::uint64_t word : words) {
        const auto wide = static_cast<unsigned __int128>(hash ^ word) * 0xd6e8feb86659fd93;
        hash = static_cast<std::uint64_t>(wide) ^ static_cast<std::uint64_t>(wide >> 64);
        hash = (hash ^ (hash >> 32)) * 0xd6e8feb86659fd93 + 0x632be59bd9b4e019;
    }
    return hash | 1;  // 0 is an empty place
}

/// What members hold is as before, and nobody may do more than before: no invariant breaks.
bool only_asks(Kind kind) {
    return kind == Kind::begin || kind == Kind::ask || kind == Kind::ask_unanswered ||
           kind == Kind::ask_and_decide || kind == Kind::save;
}

/// Hashes that were seen: open addressing, at most half full.
class Seen {
  public:
    bool add(std::uint64_t hash) {
        if (2 * (count_ + 1) > places_.size()) grow();
        if (!put(hash)) return false;
        ++count_;
        return true;
    }
    std::uint64_t count() const { return count_; }

  private:
    bool put(std::uint64_t hash) {
        const std::size_t mask = places_.size() - 1;
        for (std::size_t at = (hash >> 8) & mask;; at = (at + 1) & mask) {
            if (places_[at] == hash) return false;
            if (places_[at] != 0) continue;
            places_[at] = hash;
            return true;
        }
    }
    void grow() {
        std::vector<std::uint64_t> old(std::max<std::size_t>(places_.size() * 2, 1 << 16));
        old.swap(places_);
        for (const std::uint64_t hash : old) {
            if (hash != 0) put(hash);
        }
    }

    std::vector<std::uint64_t> places_;
    std::uint64_t count_{0};
};

struct Link {
    std::uint32_t from;
    Action action;
};

class Search {
  public:
    Search(const Bounds& bounds, std::uint64_t states_max)
        : model_(bounds), registers_(bounds.registers()), states_max_(states_max) {}

    Found run() {
        std::vector<State> level{model_.initial()};
        std::array<std::uint8_t, registers_max> order;
        model_.make_canonical(level[0], order);
        seen_.add(hash_of(level[0]));
        links_.push_back({0, {}});
        std::uint32_t first = 0;
        std::vector<State> next;
        while (!level.empty() && found_.broken.empty() && seen_.count() < states_max_) {
            for (std::uint32_t i = 0; i != level.size() && found_.broken.empty(); ++i) {
                expand(level[i], first + i, next);
            }
            first += static_cast<std::uint32_t>(level.size());
            level.swap(next);
            next.clear();
            ++found_.depth;
        }
        found_.complete = level.empty() && found_.broken.empty();
        found_.states = seen_.count();
        return found_;
    }

  private:
    void expand(const State& state, std::uint32_t at, std::vector<State>& next) {
        model_.successors(state, [&](const State& raw, Action action, const char* broken) {
            if (!found_.broken.empty()) return;
            ++found_.transitions;
            if (broken == nullptr) broken = model_.broken(state, raw, action);
            if (broken == nullptr) {
                State to = raw;
                std::array<std::uint8_t, registers_max> order;
                model_.make_canonical(to, order);
                if (!seen_.add(hash_of(to))) return;
                links_.push_back({at, action});
                next.push_back(to);
                if (only_asks(action.kind)) return;
                broken = model_.broken(to);
                if (broken == nullptr) broken = broken_starts(to);
                if (broken == nullptr) return;
            }
            found_.broken = broken;
            found_.trace = trace(at, action);
        });
    }

    const char* broken_starts(const State& state) {
        const State held = model_.held(state);
        return starts_.add(hash_of(held)) ? model_.broken_starts(held) : nullptr;
    }

    /// Goes the way again. Members are sorted at each step: `names` says who each of them is.
    std::string trace(std::uint32_t at, Action last) const {
        std::vector<Action> way{last};
        for (; at != 0; at = links_[at].from) way.push_back(links_[at].action);
        std::reverse(way.begin(), way.end());
        std::array<std::uint8_t, registers_max> names{0, 1, 2, 3, 4};
        State state = model_.initial();
        std::string text;
        for (const Action action : way) {
            State next = state;
            model_.successors(state, [&](const State& to, Action taken, const char*) {
                if (taken == action) next = to;
            });
            Action named = action;
            named.place = names[action.place];
            text += fmt::format("  {:<48}", model_.text(named));
            text += describe(next, names) + "\n";
            std::array<std::uint8_t, registers_max> order;
            model_.make_canonical(next, order);
            std::array<std::uint8_t, registers_max> renamed = names;
            for (std::uint32_t i = 0; i != registers_max; ++i) renamed[i] = names[order[i]];
            names = renamed;
            state = next;
        }
        return text;
    }

    /// "m0 promised 2, holds (1, 0), writes 1 2": what each register has after a step.
    std::string describe(const State& state,
                         const std::array<std::uint8_t, registers_max>& names) const {
        std::array<std::string, registers_max> lines;
        for (std::uint32_t i = 0; i != registers_; ++i) {
            const Column& column = state.columns[i];
            std::string data;
            for (std::uint32_t k = 1; k != proposers_max; ++k) {
                if (((column.data >> k) & 1) != 0) data += fmt::format("w{}", k);
            }
            const std::uint64_t promise = column.promise, held = column.held;
            const std::uint64_t revision = column.revision;
            lines[names[i]] = fmt::format("  m{}: {} ({},{}) {}", names[i], promise, held, revision,
                                          data.empty() ? "-" : data);
        }
        std::string text;
        for (const std::string& line : lines) text += line;
        return text;
    }

    Model model_;
    std::uint32_t registers_;
    std::uint64_t states_max_;
    Seen seen_;    // states
    Seen starts_;  // what they hold
    std::vector<Link> links_;
    Found found_;
};

}  // namespace

Found search(const Bounds& bounds, std::uint64_t states_max) {
    return Search(bounds, states_max).run();
}

}  // namespace braid::register_model
