// SPDX-License-Identifier: BSD-3-Clause
#include "engine/members/flights.h"

#include <cerrno>
#include <utility>

#include "parity/require.h"

namespace braid {

void Flights::start(Disk& disk, DiskOp& op) {
    BRAID_REQUIRE(op.kind == DiskOpKind::flush || op.kind == DiskOpKind::write);
    if (free_.empty()) free_.push_back(&flights_.emplace_back());
    Flight& flight = *free_.back();
    free_.pop_back();
    static_cast<DiskOp&>(flight) = op;
    flight.group = nullptr;
    flight.over = landed;
    flight.all = this;
    flight.waiting = &op;
    if (op.kind == DiskOpKind::write) {
        flight.bytes = Buffer(ByteView{op.data, op.size});
        flight.data = flight.bytes.data();
    }
    start_counted(disk, flight);
}

void Flights::landed(DiskOp& op) {
    auto& flight = static_cast<Flight&>(op);
    flight.bytes = Buffer{};
    DiskOp* const waiting = std::exchange(flight.waiting, nullptr);
    flight.all->free_.push_back(&flight);
    if (waiting != nullptr) DiskGroup::complete(*waiting, flight.os_error);
}

void Flights::abandon() {
    for (Flight& flight : flights_) {
        DiskOp* const waiting = std::exchange(flight.waiting, nullptr);
        if (waiting != nullptr) DiskGroup::complete(*waiting, ENODEV);
    }
}

}  // namespace braid
