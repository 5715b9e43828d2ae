// SPDX-License-Identifier: BSD-3-Clause
#include "tests/sim/sim_net.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <deque>
#include <optional>

#include "engine/io/under_way.h"

namespace braid::sim {
namespace {

Error error_of(int os_error) { return {Errc::io, "connection", os_error}; }

/// What one side sends to the other.
struct Direction {
    struct Piece {
        std::vector<std::byte> bytes;
        bool last{false};
        bool breaks{false};  // the other side has gone: no bytes, and it is told so
    };
    std::deque<Piece> on_the_way;
    std::size_t due{0};  // of them: would be there if nobody held them back
    std::deque<std::byte> arrived;
    std::uint64_t bytes{0};  // on the way and arrived
    std::uint64_t window{0};
    std::uint64_t arrival{0};  // of the newest piece: the next one comes no earlier
    bool held{false};
    bool ended{false};   // the last byte has arrived
    bool silent{false};  // nothing arrives any more

    void lose_all() {
        on_the_way.clear();
        arrived.clear();
        due = 0;
    }
};

}  // namespace

/// A connection, with both its ends; side 0 has asked for it.
class SimWire final : public std::enable_shared_from_this<SimWire> {
  public:
    struct Side {
        std::string name;   // of the node
        Direction out;      // what it sends
        Event changed_in;   // for the one who receives
        Event changed_out;  // for the one who sends
        std::optional<int> fault;
        bool sending{false};
        bool receiving{false};
        bool gone{false};  // it receives nothing any more
    };

    SimWire(SimNetwork& network, std::string asker, std::string asked, std::string to)
        : address(std::move(to)), network_(network) {
        sides[0].name = std::move(asker);
        sides[1].name = std::move(asked);
        for (int side : {0, 1}) {
            const SimNetShape& shape = network.shape_;
            Direction& out = at(side).out;
            out.window = shape.window_min + rng().below(shape.window_max - shape.window_min + 1);
            out.held = network.is_held(at(side).name, at(1 - side).name);
        }
    }

    Side& at(int side) { return sides[static_cast<std::size_t>(side)]; }
    Rng& rng() { return network_.loop_.rng(); }
    SimLoop& loop() { return network_.loop_; }
    bool is_crashing(int side) { return network_.is_crashing(at(side).name); }
    std::size_t draw_piece() {
        const std::uint64_t max = rng().chance(8) ? 16 : network_.shape_.piece_max;
        return static_cast<std::size_t>(1 + rng().below(max));
    }

    void push(int from, Direction::Piece piece) {
        Direction& way = at(from).out;
        way.bytes += piece.bytes.size();
        if (way.silent) return;
        way.on_the_way.push_back(std::move(piece));
        const std::uint64_t now = loop().now().value;
        way.arrival =
            std::max(way.arrival, now + network_.draw_delay(at(from).name, at(1 - from).name));
        loop().after(way.arrival - now, [self = shared_from_this(), from] {
            ++self->at(from).out.due;
            self->deliver(from);
        });
    }
    /// What is due arrives. Pieces that were lost are due as well, and nothing is there of them.
    void deliver(int from) {
        Direction& way = at(from).out;
        way.due = std::min(way.due, way.on_the_way.size());
        while (!way.held && way.due != 0) {
            const Direction::Piece piece = std::move(way.on_the_way.front());
            way.on_the_way.pop_front();
            --way.due;
            arrive(from, piece);
        }
    }
    /// Every operation under way at this side ends.
    void breaks(int side, int os_error) {
        Side& mine = at(side);
        if (!mine.fault) mine.fault = os_error;
        wake(side);
    }
    void wake(int side) {
        at(side).changed_in.set();
        at(side).changed_out.set();
    }
    /// It sends its last byte, and receives nothing more.
    void leave(int side) {
        Side& mine = at(side);
        if (mine.gone) return;
        mine.gone = true;
        Direction& in = at(1 - side).out;
        const bool unread = !in.arrived.empty();
        in.arrived.clear();
        push(side, {{}, !unread, unread});
    }
    void cut(int side) {
        lose_both_ways();
        breaks(side, ECONNRESET);
        at(side).gone = true;
    }
    void lose_both_ways() {
        for (Side& side : sides) {
            side.out.lose_all();
            side.out.silent = true;
        }
    }

    const std::string address;  // that was asked for
    std::array<Side, 2> sides;

  private:
    void arrive(int from, const Direction::Piece& piece) {
        Direction& way = at(from).out;
        Side& to = at(1 - from);
        if (to.gone) {  // and so is answered that it is
            if (!piece.bytes.empty()) push(1 - from, {{}, false, true});
            return;
        }
        if (piece.breaks) return breaks(1 - from, ECONNRESET);
        way.arrived.insert(way.arrived.end(), piece.bytes.begin(), piece.bytes.end());
        way.ended = way.ended || piece.last;
        to.changed_in.set();
    }

    SimNetwork& network_;
};

namespace {

class SimConnection final : public Connection {
  public:
    SimConnection(std::shared_ptr<SimWire> wire, int side, std::string peer)
        : wire_(std::move(wire)), side_(side), peer_(std::move(peer)) {}
    ~SimConnection() override {
        const bool crashing = wire_->is_crashing(side_);
        BRAID_REQUIRE(crashing || !mine().sending);
        BRAID_REQUIRE(crashing || !mine().receiving);
        if (crashing) {
            mine().changed_in.forget();
            mine().changed_out.forget();
        }
        if (!wire_->loop().crashing()) wire_->leave(side_);
    }
    const std::string& peer() const override { return peer_; }
    Task<Result<void>> send(std::span<const ByteView> parts) override;
    Task<Result<std::size_t>> receive(std::span<const ByteSpan> parts,
                                      std::size_t at_least) override;
    void shut() override {
        mine().fault = ECANCELED;
        wire_->wake(side_);
        wire_->leave(side_);
    }

  private:
    SimWire::Side& mine() { return wire_->at(side_); }
    Direction& in() { return wire_->at(1 - side_).out; }
    std::size_t take(std::span<const ByteSpan> parts, std::size_t done);

    std::shared_ptr<SimWire> wire_;
    int side_;
    std::string peer_;
};

Task<Result<void>> SimConnection::send(std::span<const ByteView> parts) {
    const auto wire = wire_;  // a crash may destroy this first
    const UnderWay mark(mine().sending);
    Direction& out = mine().out;
    for (ByteView part : parts) {
        while (!part.empty()) {
            if (mine().fault) break;
            // Little room is left to grow, or ever smaller pieces would fill it for ever.
            const auto room =
                static_cast<std::size_t>(out.window - std::min(out.window, out.bytes));
            if (room < std::min<std::size_t>(part.size(), out.window / 4)) {
                co_await mine().changed_out.next();
                continue;
            }
            const std::size_t size = std::min({part.size(), wire->draw_piece(), room});
            const ByteView bytes = part.first(size);
            wire->push(side_, {{bytes.begin(), bytes.end()}, false, false});
            part = part.subspan(size);
        }
    }
    if (mine().fault) co_return error_of(*mine().fault);
    co_return Result<void>{};
}

/// Moves what has arrived behind the first `done` bytes of the parts.
std::size_t SimConnection::take(std::span<const ByteSpan> parts, std::size_t done) {
    std::size_t taken = 0;
    auto& arrived = in().arrived;
    for (const ByteSpan part : parts) {
        const std::size_t skip = std::min(done, part.size());
        done -= skip;
        const std::size_t size = std::min(part.size() - skip, arrived.size());
        const auto end = arrived.begin() + static_cast<std::ptrdiff_t>(size);
        std::copy(arrived.begin(), end, part.begin() + static_cast<std::ptrdiff_t>(skip));
        arrived.erase(arrived.begin(), end);
        taken += size;
    }
    in().bytes -= taken;
    wire_->at(1 - side_).changed_out.set();
    return taken;
}

Task<Result<std::size_t>> SimConnection::receive(std::span<const ByteSpan> parts,
                                                 std::size_t at_least) {
    std::size_t size = 0;
    for (const ByteSpan part : parts) size += part.size();
    BRAID_REQUIRE(at_least != 0);
    BRAID_REQUIRE(at_least <= size);
    const auto wire = wire_;  // a crash may destroy this first
    const UnderWay mark(mine().receiving);
    std::size_t done = 0;
    while (!mine().fault && done < at_least) {
        if (!in().arrived.empty()) {
            done += take(parts, done);
        } else if (in().ended) {
            wire->breaks(side_, 0);
        } else {
            co_await mine().changed_in.next();
        }
    }
    if (mine().fault && (done < at_least || mine().fault == ECANCELED)) {
        co_return error_of(*mine().fault);
    }
    co_return done;
}

}  // namespace

class SimListener final : public Listener {
  public:
    SimListener(SimNetwork& network, std::string node, std::string address)
        : network_(network), node_(std::move(node)), address_(std::move(address)) {
        network_.listeners_[address_] = this;
    }
    ~SimListener() override {
        const bool crashing = network_.is_crashing(node_);
        BRAID_REQUIRE(crashing || !queue_->accepting);
        if (crashing) queue_->changed.forget();
        shut();
    }
    Task<Result<std::unique_ptr<Connection>>> accept() override {
        const auto queue = queue_;  // a crash may destroy this first
        const UnderWay mark(queue->accepting);
        while (!queue->shut && queue->waiting.empty()) co_await queue->changed.next();
        if (queue->shut) co_return error_of(ECANCELED);
        auto next = std::move(queue->waiting.front());
        queue->waiting.pop_front();
        co_return next;
    }
    void shut() override {
        if (std::exchange(queue_->shut, true)) return;
        network_.listeners_.erase(address_);
        queue_->waiting.clear();
        queue_->changed.set();
    }
    void come(std::unique_ptr<Connection> connection) {
        queue_->waiting.push_back(std::move(connection));
        queue_->changed.set();
    }
    const std::string& node() const { return node_; }

  private:
    struct Queue {
        std::deque<std::unique_ptr<Connection>> waiting;
        Event changed;
        bool accepting{false};
        bool shut{false};
    };

    SimNetwork& network_;
    std::string node_;
    std::string address_;
    std::shared_ptr<Queue> queue_{std::make_shared<Queue>()};
};

std::vector<std::shared_ptr<SimWire>> SimNetwork::wires_between(const std::string& a,
                                                                const std::string& b) {
    std::vector<std::shared_ptr<SimWire>> found;
    std::erase_if(wires_, [](const auto& wire) { return wire.expired(); });
    for (const auto& weak : wires_) {
        auto wire = weak.lock();
        const auto& [asker, asked] = wire->sides;
        const bool is_one =
            (asker.name == a && asked.name == b) || (asker.name == b && asked.name == a);
        if (is_one) found.push_back(std::move(wire));
    }
    return found;
}

void SimNetwork::cut(const std::string& a, const std::string& b) {
    for (const auto& wire : wires_between(a, b)) {
        for (const int side : {0, 1}) wire->cut(side);
    }
}
void SimNetwork::cut_one_side(const std::string& broken, const std::string& unaware) {
    for (const auto& wire : wires_between(broken, unaware)) {
        wire->cut(wire->sides[0].name == broken ? 0 : 1);
    }
}
void SimNetwork::hold(const std::string& from, const std::string& to) {
    held_.insert({from, to});
    for (const auto& wire : wires_between(from, to)) {
        for (const int side : {0, 1}) {
            if (wire->at(side).name == from) wire->at(side).out.held = true;
        }
    }
}
void SimNetwork::release(const std::string& from, const std::string& to) {
    held_.erase({from, to});
    for (const auto& wire : wires_between(from, to)) {
        for (const int side : {0, 1}) {
            if (wire->at(side).name != from) continue;
            wire->at(side).out.held = unplugged_.contains(wire->address);
            wire->deliver(side);
        }
    }
}
std::vector<std::shared_ptr<SimWire>> SimNetwork::wires_to(const std::string& address) {
    std::vector<std::shared_ptr<SimWire>> found;
    for (const auto& weak : wires_) {
        auto wire = weak.lock();
        if (wire != nullptr && wire->address == address) found.push_back(std::move(wire));
    }
    return found;
}
void SimNetwork::unplug(const NetAddress& address) {
    unplugged_.insert(text_of(address));
    for (const auto& wire : wires_to(text_of(address))) {
        for (const int side : {0, 1}) wire->at(side).out.held = true;
    }
}
void SimNetwork::plug(const NetAddress& address) {
    unplugged_.erase(text_of(address));
    for (const auto& wire : wires_to(text_of(address))) {
        for (const int side : {0, 1}) {
            wire->at(side).out.held = is_held(wire->at(side).name, wire->at(1 - side).name);
            wire->deliver(side);
        }
    }
}
void SimNetwork::slow(const std::string& from, const std::string& to, Nanos by) {
    slow_[{from, to}] = by;
}
void SimNetwork::refuse(const NetAddress& address, bool refused) {
    if (refused) {
        refused_.insert(text_of(address));
    } else {
        refused_.erase(text_of(address));
    }
}

Task<Checked<std::unique_ptr<Listener>>> SimNet::listen(NetAddress address) {
    const std::string text = text_of(address);
    if (network_.listeners_.contains(text)) {
        co_return Refusal{text +
                          ": is in use by another program: stop that one, or choose another port"};
    }
    co_return std::make_unique<SimListener>(network_, name_, text);
}

Task<bool> SimNet::pass(std::string from, std::string to, std::string address, Nanos end) {
    SimLoop& loop = network_.loop_;
    Timer there(loop, Nanos{loop.now().value + network_.draw_delay(from, to)});
    co_await there;
    const auto is_held = [&] {
        return network_.is_held(from, to) || network_.unplugged_.contains(address);
    };
    while (is_held() && loop.now() < end) {
        Timer look(loop, std::min(end, Nanos{loop.now().value + millis(1).value}));
        co_await look;
    }
    co_return !is_held();
}

Task<Checked<std::unique_ptr<Connection>>> SimNet::connect(NetAddress address) {
    const std::string text = text_of(address);
    const Nanos end{network_.loop_.now().value + millis(net_connect_ms).value};
    const Refusal unanswered{
        fmt::format("{}: no answer in time ({} ms): look whether that machine is up, whether its "
                    "address is right, and whether a firewall is between",
                    text, net_connect_ms),
        RefusalCode::io};
    std::string to = network_.node_at(address);
    const bool asked = co_await pass(name_, to, text, end);
    if (!asked) co_return unanswered;
    const auto found = network_.listeners_.find(text);
    std::unique_ptr<Connection> connection;
    if (found != network_.listeners_.end() && !network_.refused_.contains(text)) {
        to = found->second->node();
        auto wire = std::make_shared<SimWire>(network_, name_, to, text);
        network_.wires_.push_back(wire);
        const std::string whose = address.kind == AddressKind::unix_socket ? "a unix socket" : text;
        found->second->come(
            std::make_unique<SimConnection>(wire, 1, network_.asker(address, name_)));
        connection = std::make_unique<SimConnection>(wire, 0, whose);
    }
    const bool answered = co_await pass(to, name_, text, end);
    if (!answered) co_return unanswered;
    if (connection) co_return connection;
    co_return Refusal{text +
                          ": nobody listens there (Connection refused): start the node, or "
                          "correct its address",
                      RefusalCode::io};
}

/// Where nobody listens a node is called by the host of its address.
std::string SimNetwork::node_at(const NetAddress& address) const {
    const auto found = listeners_.find(text_of(address));
    return found == listeners_.end() ? address.host : found->second->node();
}
/// What the listener hears of the one who has connected to `address`.
std::string SimNetwork::asker(const NetAddress& address, const std::string& name) {
    if (address.kind == AddressKind::unix_socket) return "a unix socket";
    const bool is_ip6 = name.find(':') != name.npos;
    const auto port = static_cast<std::uint16_t>(49152 + ports_given_++ % 16384);
    return text_of(NetAddress{is_ip6 ? AddressKind::ip6 : AddressKind::ip4, name, port});
}

}  // namespace braid::sim
