// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/own_writes.h"

#include <algorithm>
#include <utility>

#include "parity/require.h"

namespace braid::cluster {

OwnWrites::Write& OwnWrites::at(WriteId write) {
    const auto found = open_.find(static_cast<std::uint64_t>(write));
    BRAID_REQUIRE(found != open_.end());
    return found->second;
}

WriteId OwnWrites::begin(HomeSet homes) {
    BRAID_REQUIRE(homes != 0);
    open_.emplace(++last_, Write{.homes = homes, .left = homes});
    for (std::uint32_t home = 0; home != nodes_max; ++home) {
        if ((homes >> home & 1) != 0) open_at_[home].insert(last_);
    }
    return WriteId{last_};
}

void OwnWrites::charge(WriteId write, std::uint32_t home, Credit credit) {
    Write& one = at(write);
    BRAID_REQUIRE(home < nodes_max);
    BRAID_REQUIRE(!one.ended && (one.homes >> home & 1) != 0);
    Part& part = one.parts[home];
    ++part.staged;
    part.credit += credit;
}

void OwnWrites::end_with(WriteId write, Fate fate) {
    Write& one = at(write);
    BRAID_REQUIRE(!one.ended);
    one.ended = true;
    one.decided = fate == Fate::decided;
    for (std::uint32_t home = 0; home != nodes_max; ++home) {
        if ((one.left >> home & 1) == 0) continue;
        if (one.parts[home].staged != 0 && (gone_ >> home & 1) == 0) continue;
        over_at(static_cast<std::uint64_t>(write), home);  // it took nothing of it, or is gone
    }
    forget_finished();
}

void OwnWrites::refused(WriteId write, std::uint32_t home, Credit credit) {
    Write& one = at(write);
    Part& part = one.parts[home];
    BRAID_REQUIRE(!one.ended && part.staged != 0 && credit.bytes <= part.credit.bytes &&
                  credit.entries <= part.credit.entries);
    --part.staged;
    part.credit -= credit;
    freed_[home] += credit;
}

void OwnWrites::over_at(std::uint64_t number, std::uint32_t home) {
    Write& one = open_.at(number);
    BRAID_REQUIRE((one.left >> home & 1) != 0);
    one.left &= ~(HomeSet{1} << home);
    open_at_[home].erase(number);
    freed_[home].bytes += std::exchange(one.parts[home].credit.bytes, 0);
}

void OwnWrites::applied(std::uint32_t home, std::uint64_t upto) {
    BRAID_REQUIRE(home < nodes_max);
    std::set<std::uint64_t>& numbers = open_at_[home];
    for (auto next = numbers.begin(); next != numbers.end() && *next <= upto;) {
        const std::uint64_t number = *next++;
        // A home that has nothing of a write says nothing of it, even if it names a higher one.
        if (open_.at(number).ended) over_at(number, home);
    }
    forget_finished();
}

void OwnWrites::home_gone(std::uint32_t home) {
    BRAID_REQUIRE(home < nodes_max);
    const std::set<std::uint64_t> numbers = open_at_[home];
    for (const std::uint64_t number : numbers) {
        if (open_.at(number).ended) over_at(number, home);
    }
    gone_ |= HomeSet{1} << home;
    forget_finished();
}

void OwnWrites::home_back(std::uint32_t home) {
    BRAID_REQUIRE(home < nodes_max);
    // What it had staged it does not know any more. What is not ended is never going to happen.
    for (const std::uint64_t number : open_at_[home]) open_.at(number).parts[home].staged = 0;
    gone_ &= ~(HomeSet{1} << home);
}

std::vector<std::uint64_t> OwnWrites::decided() const {
    std::vector<std::uint64_t> numbers;
    for (const auto& [number, one] : open_) {
        if (one.decided) numbers.push_back(number);
    }
    return numbers;
}

void OwnWrites::forget_finished() {
    while (!open_.empty() && open_.begin()->second.ended && open_.begin()->second.left == 0) {
        for (const auto& [home, part] : open_.begin()->second.parts) freed_[home] += part.credit;
        open_.erase(open_.begin());
    }
}

OwnWrites::Freed OwnWrites::take_freed() { return std::exchange(freed_, Freed{}); }

HomeSet OwnWrites::homes_of(WriteId write) const {
    const auto found = open_.find(static_cast<std::uint64_t>(write));
    BRAID_REQUIRE(found != open_.end());
    return found->second.homes;
}

HomeSet OwnWrites::held_back_by() const { return open_.empty() ? 0 : open_.begin()->second.left; }

std::uint64_t OwnWrites::finished_upto() const {
    return open_.empty() ? last_ : open_.begin()->first - 1;
}

}  // namespace braid::cluster
