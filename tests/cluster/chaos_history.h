// SPDX-License-Identifier: BSD-3-Clause
// What clients saw of each sector while nodes died, and what may be there when all nodes have lost
// their memory at once. Until then each sector is one register (register_history.h). Afterwards it may
// hold any of its values but those that were older than one that was flushed; which of them the first
// read decides, and a new register begins with it.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <vector>

#include "tests/cluster/register_history.h"
#include "tests/engine/fua.h"

namespace braid::sim {

class ChaosHistory {
  public:
    using Time = std::uint64_t;
    using Value = std::uint64_t;
    static constexpr Time never = std::numeric_limits<Time>::max();

    explicit ChaosHistory(std::uint64_t sectors) : sectors_(sectors) {}

    std::uint64_t sectors() const { return sectors_.size(); }
    Time tick() { return ++time_; }
    Value new_value() { return ++values_; }

    /// It may happen from now on, whether it is acknowledged or not.
    void begin_write(std::uint64_t first, std::uint64_t count, Value value, Time begin) {
        for (Sector& sector : range(first, count)) {
            sector.writes.push_back({value, begin, never, never, false});
            sector.history.write(value, begin, never);
        }
    }
    void end_write(std::uint64_t first, std::uint64_t count, Value value, Time begin, Fua fua) {
        const Time end = tick();
        for (Sector& sector : range(first, count)) {
            sector.history.write(value, begin, end);
            Write* const write = sector.newest(value);
            if (write == nullptr) continue;
            write->end = std::min(write->end, end);
            write->seen = std::min(write->seen, end);
            write->fua = write->fua || fua == Fua::yes;
        }
    }
    void read(std::uint64_t at, Value value, Time begin, Time end) {
        Sector& sector = sectors_[at];
        if (sector.lost) return decide(at, value, begin, end);
        sector.history.read(value, begin, end);
        if (Write* const write = sector.newest(value)) write->seen = std::min(write->seen, end);
    }
    /// A flush was acknowledged that began then: what was acknowledged before is durable.
    void flushed(Time begin) { flushed_ = std::max(flushed_, begin); }
    /// All nodes have lost their memory.
    void lose_memory() {
        check();
        for (Sector& sector : sectors_) sector.lost = true;
    }
    bool is_lost(std::uint64_t sector) const { return sectors_[sector].lost; }
    /// It could not be known, and was written anew while nobody else wrote.
    void rewritten(std::uint64_t first, std::uint64_t count, Value value) {
        const Time now = tick();
        for (Sector& sector : range(first, count)) begin_anew(sector, value, now);
    }
    /// Of all until now.
    void check() {
        for (std::size_t i = 0; i != sectors_.size() && fault_.empty(); ++i) {
            if (sectors_[i].lost) continue;
            const std::string fault = sectors_[i].history.fault();
            if (!fault.empty()) fault_ = fmt::format("sector {}: {}", i, fault);
        }
    }
    /// The first thing that was wrong; empty: nothing.
    const std::string& fault() const { return fault_; }
    void fail(const std::string& why) {
        if (fault_.empty()) fault_ = why;
    }

  private:
    struct Write {
        Value value;
        Time begin;
        Time end;   // never: not acknowledged
        Time seen;  // it had happened by then
        bool fua;
    };
    struct Sector {
        test::RegisterHistory history{0};
        std::vector<Write> writes{{0, 0, 0, 0, true}};
        bool lost{false};
        Write* newest(Value value) {
            for (auto write = writes.rbegin(); write != writes.rend(); ++write) {
                if (write->value == value) return &*write;
            }
            return nullptr;
        }
    };

    std::span<Sector> range(std::uint64_t first, std::uint64_t count) {
        return std::span<Sector>(sectors_).subspan(first, count);
    }
    bool is_durable(const Write& write) const {
        return write.end < flushed_ || (write.fua && write.end != never);
    }
    void begin_anew(Sector& sector, Value value, Time now) {
        sector.lost = false;
        sector.history = test::RegisterHistory(value);
        // What had begun before, and was not acknowledged, does not happen any more; but it may be
        // what lies on the members.
        sector.writes.push_back({value, now, now, now, false});
    }
    void decide(std::uint64_t at, Value value, Time begin, Time end) {
        Sector& sector = sectors_[at];
        Time after = 0;  // the newest durable one began then
        for (const Write& write : sector.writes) {
            if (is_durable(write)) after = std::max(after, write.begin);
        }
        const bool may_be = std::ranges::any_of(sector.writes, [&](const Write& write) {
            return write.value == value && write.seen >= after;
        });
        if (!may_be) {
            std::string writes;
            for (const Write& write : sector.writes) {
                writes += fmt::format(" {}{}[{},{}]", write.value, is_durable(write) ? "*" : "",
                                      write.begin, write.end == never ? 0 : write.end);
            }
            fail(fmt::format("sector {} holds {} after a loss of power; written:{}", at, value,
                             writes));
        }
        std::erase_if(sector.writes, [&](const Write& write) { return write.seen < after; });
        begin_anew(sector, value, begin);
        sector.history.read(value, begin, end);
    }

    std::vector<Sector> sectors_;
    Time time_{0};
    Value values_{0};
    Time flushed_{0};
    std::string fault_;
};

}  // namespace braid::sim
