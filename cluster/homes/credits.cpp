// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/credits.h"

#include <algorithm>

#include "parity/require.h"

namespace braid::cluster {

Credits::Credits(std::size_t homes, std::uint64_t bytes_max)
    : bytes_max_(bytes_max), homes_(homes) {
    BRAID_REQUIRE(bytes_max != 0);
}

/// Whoever asks for more than there can be gets it when nobody else has anything.
bool Credits::fits(const Home& home, std::uint64_t bytes) const {
    return home.taken == 0 || (bytes <= bytes_max_ && home.taken <= bytes_max_ - bytes);
}

bool Credits::take(std::uint32_t home, std::uint64_t bytes, CreditTicket ticket) {
    Home& at = homes_[home];
    if (at.waiting.empty() && fits(at, bytes)) {
        at.taken += bytes;
        return true;
    }
    at.waiting.push_back({ticket, bytes});
    return false;
}

void Credits::give_back(std::uint32_t home, std::uint64_t bytes) {
    BRAID_REQUIRE(bytes <= homes_[home].taken);
    homes_[home].taken -= bytes;
}

std::optional<CreditTicket> Credits::next_granted(std::uint32_t home) {
    Home& at = homes_[home];
    if (at.waiting.empty() || !fits(at, at.waiting.front().bytes)) return std::nullopt;
    const Waiter waiter = at.waiting.front();
    at.waiting.pop_front();
    at.taken += waiter.bytes;
    return waiter.ticket;
}

bool Credits::cancel(std::uint32_t home, CreditTicket ticket) {
    return std::erase_if(homes_[home].waiting,
                         [&](const Waiter& waiter) { return waiter.ticket == ticket; }) != 0;
}

}  // namespace braid::cluster
