// SPDX-License-Identifier: BSD-3-Clause
// What clients do.
#include <fmt/format.h>

#include <algorithm>

#include "tests/sim/simulation.h"

namespace braid::sim {
namespace {

std::string_view text_of(IoKind kind) {
    switch (kind) {
        case IoKind::read:
            return "read";
        case IoKind::write:
            return "write";
        case IoKind::zero:
            return "zero";
        case IoKind::flush:
            return "flush";
    }
    return "request";
}

}  // namespace

/// From a byte to many stripes, aligned to all that counts or to nothing.
void Simulation::choose_range(std::uint64_t& offset, std::uint64_t& size) {
    const std::uint64_t all = oracle_->size();
    const std::uint64_t stripe = last_.stripe_data_size();
    const bool hot = options_.hot_sectors != 0 && !rng_.chance(4);
    const std::uint64_t span =
        hot ? std::min<std::uint64_t>(options_.hot_sectors * sector_size, all) : all;
    const std::uint64_t large_max = std::min<std::uint64_t>(all, 1u << 20);
    switch (rng_.below(8)) {
        case 0:  // bytes
            size = 1 + rng_.below(2000);
            offset = rng_.below(span);
            break;
        case 1:  // rows
            size = (1 + rng_.below(8)) * row_size;
            offset = round_down(rng_.below(span), row_size);
            break;
        case 2:  // stripes
            size = (1 + rng_.below(3)) * stripe;
            offset = round_down(rng_.below(span), stripe);
            break;
        case 3:  // anything
            size = 1 + rng_.below(std::max<std::uint64_t>(1, rng_.below(large_max)));
            offset = rng_.below(span);
            break;
        default:  // sectors, as file systems do
            size = (1 + rng_.below(16)) * sector_size;
            offset = round_down(rng_.below(span), sector_size);
    }
    size = std::min<std::uint64_t>({size, all - offset, 4u << 20});
}

void Simulation::start_request() {
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
    choose_range(offset, size);
    const std::uint64_t kind = rng_.below(20);
    if (kind < 7) {
        if (options_.reads_now && rng_.chance(2)) return read_direct(offset, size);
    } else if (kind < 19 && !oracle_->may_write(offset, size)) {
        return;
    }
    Flight& flight = flights_.emplace_back();
    flight.number = ++requests_;
    IoRequest& request = flight.request;
    request.kind = kind < 7    ? IoKind::read
                   : kind < 17 ? IoKind::write
                   : kind < 19 ? IoKind::zero
                               : IoKind::flush;
    request.offset = {offset};
    request.size = size;
    if (request.kind == IoKind::flush) request.offset = {}, request.size = 0;
    request.fua =
        (request.kind == IoKind::write || request.kind == IoKind::zero) && rng_.chance(10);
    request.fast_only = request.kind == IoKind::zero && rng_.chance(4);
    // By number, not by chance: an old seed runs as it did.
    request.may_free = request.kind == IoKind::zero && flight.number % 2 == 0;
    request.trim = request.kind == IoKind::zero && flight.number % 5 == 0 && options_.zero_fast &&
                   trimmed(request).size != 0;
    begin(flight);
}

/// The whole stripes of what a trim covers; the rest keeps what it has.
Simulation::Extent Simulation::trimmed(const IoRequest& request) const {
    const std::uint64_t stripe = array_->configuration().stripe_data_size();
    const std::uint64_t first = round_up(request.offset.value, stripe);
    const std::uint64_t last = round_down(request.offset.value + request.size, stripe);
    return {first, last > first ? last - first : 0};
}

void Simulation::begin(Flight& flight) {
    IoRequest& request = flight.request;
    flight.simulation = this;
    flight.since = loop_.now().value;
    oracle_->set_time(flight.since);
    request.user = &flight;
    request.done = [](IoRequest& done) {
        auto* at = static_cast<Flight*>(done.user);
        at->simulation->landed(*at);
    };
    if (request.kind == IoKind::read || request.kind == IoKind::write) {
        const std::uint64_t skew = rng_.chance(2) ? 0 : rng_.below(row_size);
        flight.memory = Buffer(request.size + skew);
        request.data = flight.memory.data() + skew;
    }
    switch (request.kind) {
        case IoKind::read:
            flight.began = oracle_->begin_read();
            break;
        case IoKind::flush:
            flight.began = oracle_->begin_flush();
            break;
        case IoKind::write:
        case IoKind::zero:
            const Extent changed =
                request.trim ? trimmed(request) : Extent{request.offset.value, request.size};
            flight.write =
                oracle_->begin_write(changed.offset, changed.size, request.kind == IoKind::zero);
            if (request.kind == IoKind::write) {
                oracle_->fill(flight.write, request.offset.value, {request.data, request.size});
            }
    }
    ++flying_;
    ++figures_.requests;
    if (trace_.prints_all()) {
        note(fmt::format("#{} {}{} of bytes {}…{}{}", flight.number, text_of(request.kind),
                         request.fua ? " FUA" : "", request.offset.value,
                         request.offset.value + request.size,
                         flight.write == 0 ? "" : fmt::format(", write {}", flight.write)));
    }
    array_->submit(request);
}

void Simulation::read_direct(std::uint64_t offset, std::uint64_t size) {
    Buffer into(size);
    const std::uint64_t began = oracle_->begin_read();
    const bool known = array_->read_direct({offset}, into.span());
    check(oracle_->end_read(began, offset, into.view(), known));
}

void Simulation::landed(Flight& flight) {
    const IoRequest& request = flight.request;
    flight.done = true;
    --flying_;
    oracle_->set_time(loop_.now().value);
    oracle_->set_full(options_.holes && was_full());
    check(oracle_->see(array_->configuration()));
    const bool known =
        request.error.code == Errc::unknown || request.error.code == Errc::unsupported;
    if (trace_.prints_all() || (!request.ok && !known)) {
        note(fmt::format("#{} {} of bytes {}…{} {}", flight.number, text_of(request.kind),
                         request.offset.value, request.offset.value + request.size,
                         request.ok ? "done"
                                    : fmt::format("failed: {} ({})", request.error.text(),
                                                  request.error.where)));
    }
    const bool write = request.kind == IoKind::write || request.kind == IoKind::zero;
    const bool refused = request.error.code == Errc::full ||
                         (request.error.code == Errc::io && options_.failed_writes);
    const bool excused = (stopping_ && request.error.code == Errc::fenced) ||
                         (request.fast_only && request.error.code == Errc::unsupported) ||
                         (write && refused && was_full());
    if (!request.ok && !excused && !met_outage(flight.since)) {
        const std::uint64_t began = write ? oracle_->began(flight.write) : flight.began;
        check(
            oracle_->check_error(began, request.offset.value, request.size, write, request.error));
    }
    if (write) {
        std::optional<Errc> error;
        if (!request.ok) error = request.error.code;
        return oracle_->end_write(flight.write, request.ok, request.fua, error);
    }
    if (request.kind == IoKind::flush) {
        if (request.ok) oracle_->end_flush(flight.began);
        return;
    }
    check(oracle_->end_read(flight.began, request.offset.value, {request.data, request.size},
                            request.ok));
}

/// Waits for all that was asked.
void Simulation::land() {
    run_until([this] { return flying_ == 0; }, 300'000'000'000, "the requests under way");
    watch();
}

Simulation::Flight& Simulation::begin(IoKind kind, std::uint64_t offset, std::uint64_t size,
                                      bool fua) {
    Flight& flight = flights_.emplace_back();
    flight.number = ++requests_;
    flight.request.kind = kind;
    flight.request.offset = {offset};
    flight.request.size = size;
    flight.request.fua = fua;
    begin(flight);
    return flight;
}

bool Simulation::ask(IoKind kind, std::uint64_t offset, std::uint64_t size, bool fua) {
    Flight& flight = begin(kind, offset, size, fua);
    run_until([&] { return flight.done; }, 300'000'000'000, "a request");
    const bool ok = flight.done && flight.request.ok;
    watch();
    return ok;
}

void Simulation::read_all(std::uint64_t piece) {
    piece = round_up(piece, row_size);
    for (std::uint64_t at = 0; at < oracle_->size() && !failed(); at += piece) {
        const std::uint64_t size = std::min(piece, oracle_->size() - at);
        if (ask(IoKind::read, at, size, false) || size <= row_size) continue;
        for (std::uint64_t row = 0; row < size && !failed(); row += row_size) {
            ask(IoKind::read, at + row, row_size, false);
        }
    }
}

void Simulation::flush() { ask(IoKind::flush, 0, 0, false); }

}  // namespace braid::sim
