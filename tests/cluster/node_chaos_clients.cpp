// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: the clients, and what they may see.
#include <fmt/format.h>

#include <array>
#include <cstring>

#include "tests/cluster/node_chaos_kit.h"

namespace braid::sim {
namespace {

/// How long a request may take at a node to which nothing happens: others are excluded meanwhile, one
/// after another.
constexpr std::uint64_t patience = seconds(40).value;

/// What is asked is not answered yet; also when the frame that asks is destroyed.
class Asked {
  public:
    template <class Map, class Value>
    Asked(Map& map, std::uint64_t number, Value value)
        : erase_([&map, number] { map.erase(number); }) {
        map.emplace(number, value);
    }
    Asked(const Asked&) = delete;
    Asked& operator=(const Asked&) = delete;
    ~Asked() { erase_(); }

  private:
    std::function<void()> erase_;
};

}  // namespace

void Chaos::begin_clients(std::uint32_t node) {
    for (int i = 0; i != 2; ++i) nodes_.loop_of(node).tasks().spawn(client(node));
}

Task<void> Chaos::client(std::uint32_t node) {
    SimLoop& mine = nodes_.loop_of(node);
    while (load_ && !nodes_.is_leaving(node)) {
        const std::uint64_t count = 1 + below(below(8) == 0 ? 200 : 24);
        const std::uint64_t first = below(history_.sectors() - count + 1);
        const std::uint64_t what = below(20);
        if (what == 0) {
            co_await flush(node);
        } else if (what < 11) {
            co_await write(node, first, count, what == 1 ? Fua::yes : Fua::no);
        } else {
            co_await read(node, first, count);
        }
        Timer timer(mine, Nanos{mine.now().value + 1 + below(options_.think_ms * 1'000'000)});
        co_await timer;
    }
}

/// Of a node to which nothing has happened since it was asked.
void Chaos::note_answer(std::uint32_t node, std::uint64_t since, const Result<void>& done,
                        const char* what) {
    ++figures_.requests;
    if (done) return;
    ++figures_.failed;
    const Error& error = done.error();
    if (options_.beyond || error.code == Errc::reserved) return;
    const Seat& seat = seats_[node];
    if (seat.faults != 0 || seat.excused_until >= since || nodes_.is_leaving(node)) return;
    if (unknown_ && (error.code == Errc::unknown || error.code == Errc::doubt)) return;
    fail(fmt::format("a {} at node {} fails: {} ({})", what, node + 1, error.text(), error.where));
}

Task<void> Chaos::write(std::uint32_t node, std::uint64_t first, std::uint64_t count, Fua fua) {
    const std::uint64_t value = history_.new_value();
    Buffer data(count * sector_size);
    for (std::uint64_t at = 0; at != data.size(); at += sizeof value) {
        std::memcpy(data.data() + at, &value, sizeof value);
    }
    IoRequest request;
    request.kind = IoKind::write;
    request.fua = fua == Fua::yes;
    request.offset = {first * sector_size};
    request.size = data.size();
    request.data = data.data();
    const std::uint64_t since = now();
    const Asked asked(pending_, ++requests_, Pending{node, since, false});
    const std::uint64_t begin = history_.tick();
    history_.begin_write(first, count, value, begin);
    const Result<void> done = co_await nodes_.ask(node, request);
    if (done && !lost_) history_.end_write(first, count, value, begin, fua);
    note_answer(node, since, done, "write");
}

Task<void> Chaos::read(std::uint32_t node, std::uint64_t first, std::uint64_t count) {
    Buffer data(count * sector_size);
    IoRequest request;
    request.offset = {first * sector_size};
    request.size = data.size();
    request.data = data.data();
    const std::uint64_t since = now();
    const Asked asked(pending_, ++requests_, Pending{node, since, false});
    const std::uint64_t begin = history_.tick();
    const Result<void> done = co_await nodes_.ask(node, request);
    const std::uint64_t end = history_.tick();
    note_answer(node, since, done, "read");
    for (std::uint64_t i = 0; i != count && done && !lost_; ++i) {
        std::array<std::uint64_t, sector_size / sizeof(std::uint64_t)> words{};
        std::memcpy(words.data(), data.data() + i * sector_size, sector_size);
        if (std::ranges::count(words, words[0]) != std::ssize(words)) {
            fail(fmt::format("sector {} is torn at node {}", first + i, node + 1));
        }
        history_.read(first + i, words[0], begin, end);
    }
}

Task<void> Chaos::flush(std::uint32_t node) {
    IoRequest request;
    request.kind = IoKind::flush;
    const std::uint64_t since = now();
    const Asked asked(pending_, ++requests_, Pending{node, since, true});
    const std::uint64_t begin = history_.tick();
    const Result<void> done = co_await nodes_.ask(node, request);
    if (done && !lost_) history_.flushed(begin);
    note_answer(node, since, done, "flush");
}

/// None takes for ever.
void Chaos::look_at_requests() {
    if (options_.beyond && !heals_) return;
    // Nodes that die one after the other are waited for each for a lease.
    const std::uint64_t longer = 2 * millis(options_.lease_ms - lease_ms_default).value;
    for (const auto& [number, pending] : pending_) {
        const Seat& seat = seats_[pending.node];
        if (seat.faults != 0 || nodes_.is_leaving(pending.node)) continue;
        const std::uint64_t since = std::max(pending.since, seat.excused_until);
        if (now() < since + patience + longer || lost_) continue;
        fail(fmt::format("a {} at node {} is not answered for {} s",
                         pending.is_flush ? "flush" : "request", pending.node + 1,
                         (now() - pending.since) / 1'000'000'000));
        return;
    }
}

/// After a loss of power: all is read, which decides what it is, and what cannot be known is written.
bool Chaos::sweep(std::uint32_t node) {
    constexpr std::uint64_t row = row_size / sector_size;
    bool over = false;
    const auto all = [](Chaos* chaos, std::uint32_t at, bool* end) -> Task<void> {
        for (std::uint64_t first = 0; first != chaos->history_.sectors(); first += row) {
            co_await chaos->read(at, first, row);
            if (!chaos->history_.is_lost(first)) continue;
            if (!chaos->unknown_ && !chaos->options_.beyond) {
                chaos->fail(fmt::format("sector {} cannot be read", first));
            }
            co_await chaos->write(at, first, row, Fua::no);
            co_await chaos->read(at, first, row);
        }
        *end = true;
    };
    nodes_.loop_of(node).tasks().spawn(all(this, node, &over));
    return wait([&] { return over || !nodes_.is_up(node); }, 100, "all is read") && over;
}

}  // namespace braid::sim
