// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/own_writes.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "parity/require.h"

namespace braid::cluster {

WriteId OwnWrites::begin(HomeSet homes) {
    BRAID_REQUIRE(homes != 0);
    open_.emplace(++last_, Write{homes, homes, false, {}});
    return WriteId{last_};
}

void OwnWrites::settle(WriteId write) {
    const auto at = open_.find(static_cast<std::uint64_t>(write));
    BRAID_REQUIRE(at != open_.end() && !at->second.settled);
    at->second.settled = true;
    if (at->second.left == 0) open_.erase(at);
}

void OwnWrites::charge(WriteId write, std::uint32_t home, std::uint64_t bytes) {
    const auto at = open_.find(static_cast<std::uint64_t>(write));
    BRAID_REQUIRE(at != open_.end() && !at->second.settled);
    at->second.bytes[home] += bytes;
}

std::uint64_t OwnWrites::Write::over_at(std::uint32_t home) {
    left &= ~(HomeSet{1} << home);
    const auto at = bytes.find(home);
    return at == bytes.end() ? 0 : std::exchange(at->second, 0);
}

std::uint64_t OwnWrites::refused(WriteId write, std::uint32_t home) {
    const auto at = open_.find(static_cast<std::uint64_t>(write));
    BRAID_REQUIRE(at != open_.end() && !at->second.settled);
    return at->second.over_at(home);
}

std::uint64_t OwnWrites::applied(std::uint32_t home, std::uint64_t upto) {
    std::uint64_t bytes = 0;
    for (auto at = open_.begin(); at != open_.end() && at->first <= upto;) {
        Write& write = at->second;
        // A home that has nothing of a write says nothing of it, even if it names a higher one.
        if (write.settled) bytes += write.over_at(home);
        at = write.settled && write.left == 0 ? open_.erase(at) : std::next(at);
    }
    return bytes;
}

bool OwnWrites::is_open_at(std::uint32_t home) const {
    return std::ranges::any_of(open_,
                               [&](const auto& one) { return (one.second.left >> home & 1) != 0; });
}

HomeSet OwnWrites::homes_of(WriteId write) const {
    const auto at = open_.find(static_cast<std::uint64_t>(write));
    BRAID_REQUIRE(at != open_.end());
    return at->second.homes;
}

std::uint64_t OwnWrites::finished_upto() const {
    return open_.empty() ? last_ : open_.begin()->first - 1;
}

}  // namespace braid::cluster
