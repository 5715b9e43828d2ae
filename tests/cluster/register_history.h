// SPDX-License-Identifier: BSD-3-Clause
// Is what clients saw of one sector what one register could have shown them? Every write has a value
// of its own, which makes the question easy.
//
// All operations with one value, its write and the reads that returned it, are one after the other
// in any order that explains them: a zone. It goes from the first end to the last begin among them.
// If the first end comes first the value was there for all of that time (a forward zone); else
// there is a moment that all of them contain (a backward zone). The history is linearizable if and
// only if each read began after its write had begun (that is: did not end before), no two forward
// zones overlap, and no backward zone lies in a forward one.
//
// Source: Gibbons and Korach, "Testing Shared Memories", 1997, section 4 (the read-mapping is known).
#pragma once

#include <algorithm>
#include <cstdint>
#include <limits>
#include <map>
#include <string>
#include <vector>

namespace braid::test {

class RegisterHistory {
  public:
    using Time = std::uint64_t;  // every begin and every end has another one
    using Value = std::uint64_t;
    static constexpr Time never = std::numeric_limits<Time>::max();

    /// The register has this one from before everything.
    explicit RegisterHistory(Value initial) { write(initial, 0, 0); }

    /// @param end  never: it was not acknowledged; it may have happened, or may still
    void write(Value value, Time begin, Time end) {
        Zone& zone = zones_[value];
        zone.written = true;
        zone.write_begin = begin;
        zone.add(begin, end);
    }
    void read(Value value, Time begin, Time end) {
        Zone& zone = zones_[value];
        zone.read_end_first = std::min(zone.read_end_first, end);
        zone.add(begin, end);
    }

    /// Empty, or what is wrong.
    std::string fault() const {
        std::vector<const Zone*> forward;
        for (const auto& [value, zone] : zones_) {
            if (!zone.written) return "a value that nobody wrote: " + std::to_string(value);
            if (zone.read_end_first < zone.write_begin) {
                return "read before it was written: " + std::to_string(value);
            }
            if (zone.end_first < zone.begin_last) forward.push_back(&zone);
        }
        std::ranges::sort(forward, {}, [](const Zone* zone) { return zone->end_first; });
        for (std::size_t i = 1; i < forward.size(); ++i) {
            if (forward[i]->end_first < forward[i - 1]->begin_last) {
                return "two values at once, from " + std::to_string(forward[i]->end_first);
            }
        }
        for (const auto& [value, zone] : zones_) {
            if (zone.end_first < zone.begin_last) continue;
            const auto after = std::ranges::upper_bound(
                forward, zone.begin_last, {}, [](const Zone* one) { return one->end_first; });
            if (after == forward.begin()) continue;
            if (zone.end_first < (*std::prev(after))->begin_last) {
                return "while another value was there: " + std::to_string(value);
            }
        }
        return {};
    }

  private:
    struct Zone {
        bool written{false};
        Time write_begin{0};
        Time read_end_first{never};
        Time end_first{never};
        Time begin_last{0};
        void add(Time begin, Time end) {
            end_first = std::min(end_first, end);
            begin_last = std::max(begin_last, begin);
        }
    };
    std::map<Value, Zone> zones_;
};

}  // namespace braid::test
