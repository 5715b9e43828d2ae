// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/credits.h"

#include "parity/require.h"

namespace braid::cluster {

Credits::Credits(std::size_t homes, Credit most) : most_(most), homes_(homes) {
    BRAID_REQUIRE(most.bytes != 0 && most.entries != 0);
}

bool Credits::fits(const Credit& taken, const Credit& wanted) const {
    const bool alone = taken.bytes == 0;
    const bool has_room =
        alone || (wanted.bytes <= most_.bytes && taken.bytes <= most_.bytes - wanted.bytes);
    return has_room && taken.entries <= most_.entries - wanted.entries;
}

bool Credits::take(std::uint32_t home, Credit wanted, CreditTicket ticket) {
    BRAID_REQUIRE(home < homes_.size());
    BRAID_REQUIRE(wanted.entries <= most_.entries);
    Home& at = homes_[home];
    if (at.waiting.empty() && fits(at.taken, wanted)) {
        at.taken += wanted;
        return true;
    }
    at.waiting.push_back({ticket, wanted});
    return false;
}

void Credits::give_back(std::uint32_t home, Credit credit) {
    BRAID_REQUIRE(home < homes_.size());
    Credit& taken = homes_[home].taken;
    BRAID_REQUIRE(credit.bytes <= taken.bytes && credit.entries <= taken.entries);
    taken -= credit;
}

std::optional<CreditTicket> Credits::next_granted(std::uint32_t home) {
    BRAID_REQUIRE(home < homes_.size());
    Home& at = homes_[home];
    if (at.waiting.empty() || !fits(at.taken, at.waiting.front().wanted)) return std::nullopt;
    const Waiter waiter = at.waiting.front();
    at.waiting.pop_front();
    at.taken += waiter.wanted;
    return waiter.ticket;
}

bool Credits::cancel(std::uint32_t home, CreditTicket ticket) {
    return std::erase_if(homes_[home].waiting,
                         [&](const Waiter& waiter) { return waiter.ticket == ticket; }) != 0;
}

}  // namespace braid::cluster
