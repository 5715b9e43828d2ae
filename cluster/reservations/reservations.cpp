// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/reservations/reservations.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <nlohmann/json.hpp>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

using Kind = ReservationMessage::Kind;
using Outcome = ReservationEffects::Outcome;
using Standing = ReservationMessage::Standing;
using Verdict = ReservationTable::Verdict;

constexpr std::array<std::string_view, 8> kind_names{"reserve", "granted", "refused", "begun",
                                                     "lift",    "lifted",  "release", "released"};
constexpr std::array<std::string_view, 3> standing_names{"asks", "holds", "leaves"};

template <class Value, std::size_t count>
std::optional<Value> value_of(const std::array<std::string_view, count>& names,
                              std::string_view name) {
    const auto at = std::ranges::find(names, name);
    if (at == names.end()) return std::nullopt;
    return static_cast<Value>(at - names.begin());
}

std::set<NodeId> others_of(const std::vector<std::uint32_t>& nodes, std::uint32_t self) {
    std::set<NodeId> others;
    for (const std::uint32_t node : nodes) {
        if (node != self) others.insert(NodeId{node});
    }
    return others;
}

}  // namespace

Checked<ReservationMessage> reservation_message_of(const Words& words, std::size_t volumes) {
    WordFields fields(words);
    ReservationMessage message;
    const auto kind = value_of<Kind>(kind_names, fields.text("what"));
    message.volume = VolumeIndex{fields.number32("volume")};
    message.request = fields.number("request");
    if (static_cast<std::uint32_t>(message.volume) >= volumes) {
        fields.is_wrong("volume", "one of the array's");
    }
    if (!kind) fields.is_wrong("what", "a word about reservations");
    if (kind == Kind::refused) message.holder = NodeId{fields.number32("holder", nodes_max - 1)};
    if (kind == Kind::refused || (kind == Kind::reserve && words.contains("standing"))) {
        const auto standing = value_of<Standing>(standing_names, fields.text("standing"));
        if (!standing) fields.is_wrong("standing", "\"asks\", \"holds\" or \"leaves\"");
        message.standing = standing.value_or(Standing::asks);
    }
    BRAID_CHECK(fields.check());
    message.kind = *kind;
    return message;
}

Checked<std::vector<Rebuilt>> rebuilds_of(const Words& words, const Geometry& geometry) {
    std::vector<Rebuilt> rebuilds;
    if (!words.contains("rebuilt")) return rebuilds;
    WordFields fields(words);
    for (const Words& one : fields.list("rebuilt", members_max)) {
        WordFields at(one);
        Rebuilt rebuilt;
        rebuilt.member = at.member(geometry);
        rebuilt.upto = WindowIndex{at.number("upto", braid::raw(geometry.window_end()))};
        BRAID_CHECK(at.check());
        rebuilds.push_back(rebuilt);
    }
    BRAID_CHECK(fields.check());
    return rebuilds;
}

Reservations::Reservations(Setup setup)
    : setup_(std::move(setup)),
      table_(NodeId{setup_.self}, others_of(setup_.nodes, setup_.self), setup_.begins),
      tasks_(setup_.ready) {
    for (const VolumeRecord& record : setup_.volumes) {
        Volume known;
        known.record = record;
        known.exclusive = setup_.exclusive.contains(record.name);
        volumes_.push_back(std::move(known));
    }
    BRAID_REQUIRE(volumes_.size() <= volumes_max);
}

std::optional<std::size_t> Reservations::volume_of(StripeIndex stripe) const {
    const auto after = std::ranges::upper_bound(volumes_, stripe, {},
                                                [](const Volume& one) { return one.record.first; });
    if (after == volumes_.begin()) return std::nullopt;
    const auto at = std::prev(after);
    if (stripe >= at->record.end()) return std::nullopt;
    return static_cast<std::size_t>(at - volumes_.begin());
}

Checked<std::size_t> Reservations::find(const std::string& name) const {
    const auto at =
        std::ranges::find(volumes_, name, [](const Volume& one) { return one.record.name; });
    if (at != volumes_.end()) return static_cast<std::size_t>(at - volumes_.begin());
    return Refusal{fmt::format("there is no volume {}; \"braid volume list\" shows them", name),
                   RefusalCode::not_found};
}

// ---- what follows of a command or a message ----------------------------------------------------

/// In a loop, not by recursion: what is drained may be so at once, and have its own effects.
void Reservations::carry_out(Effects effects) {
    while (true) {
        Effects more;
        for (const Effects::Send& one : effects.send) {
            setup_.tell(raw(one.to), words_of(one.message));
        }
        for (const Effects::Ended& one : effects.ended) {
            Reserving* const reserving = std::exchange(volume(one.volume).reserving, nullptr);
            if (reserving == nullptr) continue;
            reserving->over = true;
            reserving->ended = one;
            // Before anybody else can: from now on no connection's end lets go of it.
            volume(one.volume).by_operator =
                one.outcome == Outcome::reserved && reserving->by_operator;
            if (reserving->timer != nullptr) reserving->timer->cancel();
        }
        for (const VolumeIndex at : effects.released) ++volume(at).releases;
        for (const VolumeIndex at : effects.drain) {
            volume(at).draining = true;
            look_whether_quiet(static_cast<std::size_t>(at), &more);
        }
        for (const VolumeIndex at : effects.changed) look_again(static_cast<std::size_t>(at));
        changed_.set();
        if (more.send.empty() && more.drain.empty() && more.ended.empty() &&
            more.released.empty() && more.changed.empty()) {
            break;
        }
        effects = std::move(more);
    }
    if (table_.has_to_ask_again() && !closed_ && !std::exchange(asking_again_, true)) {
        tasks_.spawn(ask_again());
    }
}

/// Nothing of the volume is under way here that others would have to wait for. A lock of a client's
/// that is still being asked for belongs to a request, which counts.
void Reservations::look_whether_quiet(std::size_t at, Effects* more) {
    Volume& known = volumes_[at];
    if (!known.draining) return;
    const bool quiet =
        known.requests == 0 &&
        setup_.homes.is_quiet(known.record.first, known.record.end(), entered_home(at));
    if (!quiet && !BRAID_MUTANT(reserved_undrained)) return;
    known.draining = false;
    table_.drained(index(at), *more);
}

void Reservations::lock_over() {
    if (closed_) return;
    for (std::size_t at = 0; at != volumes_.size(); ++at) {
        if (!volumes_[at].draining) continue;
        Effects effects;
        look_whether_quiet(at, &effects);
        if (!volumes_[at].draining) carry_out(std::move(effects));
    }
}

Task<void> Reservations::ask_again() {
    while (table_.has_to_ask_again() && !closed_) {
        Timer timer(setup_.clock, Nanos{setup_.clock.now().value + ask_pause.value});
        asking_timer_ = &timer;
        co_await timer;
        asking_timer_ = nullptr;
        if (closed_) break;
        Effects effects;
        table_.ask_again(effects);
        carry_out(std::move(effects));
    }
    asking_again_ = false;
}

// ---- clients' requests -------------------------------------------------------------------------

/// Of a request that may not go on.
Error Reservations::refusal(const ReservationTable::Admission& admission) const {
    if (closed_) return {Errc::fenced, "array"};
    return {Errc::reserved, "", 0, raw(admission.holder)};
}

RequestGate::Way Reservations::enter(IoRequest& request, Inside& inside) {
    const Geometry& geometry = setup_.geometry;
    const auto at = volume_of(geometry.stripe_of(request.offset));
    const StripeIndex last = geometry.stripe_of(request.offset + (request.size - 1));
    // Between volumes there is nothing that is anybody's; but one may lie in the middle.
    if (at != volume_of(last) || (!at && last != geometry.stripe_of(request.offset))) {
        request.error = {Errc::range, "volume"};
        return Way::refused;
    }
    if (!at) return Way::in;  // of no volume: nobody can have it for himself
    Volume& known = volumes_[*at];
    const auto admission = table_.admission(index(*at));
    // Who came first goes first.
    const bool waits = admission.verdict == Verdict::wait || known.first != nullptr;
    if (closed_ || admission.verdict == Verdict::refuse) {
        request.error = refusal(admission);
        return Way::refused;
    }
    if (!waits) {
        ++known.requests;
        return Way::in;
    }
    known.inside = &inside;
    request.link = nullptr;
    (known.last != nullptr ? known.last->link : known.first) = &request;
    known.last = &request;
    ++known.waiting;
    return Way::waits;
}

void Reservations::leave(const IoRequest& request) {
    const auto at = volume_of(setup_.geometry.stripe_of(request.offset));
    if (!at) return;
    Volume& known = volumes_[*at];
    BRAID_REQUIRE(known.requests != 0);
    if (--known.requests != 0 || !known.draining || closed_) return;
    Effects effects;
    look_whether_quiet(*at, &effects);
    carry_out(std::move(effects));
}

/// Those who waited. Whoever is let in may end at once, and its client ask for more, which comes
/// behind them.
void Reservations::look_again(std::size_t at) {
    Volume& known = volumes_[at];
    while (known.first != nullptr) {
        const auto admission = table_.admission(index(at));
        if (!closed_ && admission.verdict == Verdict::wait) return;
        IoRequest& request = *known.first;
        known.first = request.link;
        if (known.first == nullptr) known.last = nullptr;
        request.link = nullptr;
        --known.waiting;
        if (closed_ || admission.verdict == Verdict::refuse) {
            known.inside->refuse(request, refusal(admission));
        } else {
            ++known.requests;
            known.inside->let_in(request);
        }
    }
}

void Reservations::close() {
    closed_ = true;
    for (std::size_t at = 0; at != volumes_.size(); ++at) {
        look_again(at);
        const Volume& known = volumes_[at];
        if (known.reserving != nullptr && known.reserving->timer != nullptr) {
            known.reserving->timer->cancel();
        }
    }
    if (asking_timer_ != nullptr) asking_timer_->cancel();
    changed_.set();
}

// ---- rows --------------------------------------------------------------------------------------

bool Reservations::holds(StripeIndex stripe) const {
    const auto at = volume_of(stripe);
    return at && table_.holds(index(*at));
}

std::optional<std::uint32_t> Reservations::entered(StripeIndex stripe) const {
    const auto at = volume_of(stripe);
    return at ? entered_home(*at) : std::nullopt;
}

std::optional<std::uint32_t> Reservations::entered_home(std::size_t at) const {
    const auto holder = table_.holder(index(at));
    if (!holder || raw(holder->node) == setup_.self) return std::nullopt;
    const auto node = std::ranges::find(setup_.nodes, raw(holder->node));
    return static_cast<std::uint32_t>(node - setup_.nodes.begin());
}

std::optional<std::uint32_t> Reservations::refuses(std::uint32_t node, StripeIndex first,
                                                   StripeIndex last) const {
    if (node == setup_.walker) return std::nullopt;
    for (std::size_t at = 0; at != volumes_.size(); ++at) {
        const VolumeRecord& record = volumes_[at].record;
        if (record.end() <= first || record.first > last) continue;
        if (table_.refuses_commands(index(at), NodeId{node})) {
            return raw(table_.holder(index(at))->node);
        }
    }
    return std::nullopt;
}

// ---- orders and connections --------------------------------------------------------------------

std::string Reservations::who(const Volume& known, std::uint32_t node) const {
    if (node == setup_.self) {
        return fmt::format("volume {} is reserved by this node already", known.record.name);
    }
    return fmt::format("volume {} is reserved by node {}; \"braid release {}\" there ends that",
                       known.record.name, node, known.record.name);
}

Task<Checked<Unit>> Reservations::reserve_now(std::size_t at, bool by_operator) {
    Volume& known = volumes_[at];
    const std::string& name = known.record.name;
    if (closed_) co_return Refusal{"the array is being stopped", RefusalCode::stopping};
    Effects effects;
    if (const auto conflict = table_.reserve(index(at), effects)) {
        co_return Refusal{who(known, raw(*conflict)), RefusalCode::conflict};
    }
    Reserving reserving;
    reserving.by_operator = by_operator;
    known.reserving = &reserving;
    carry_out(std::move(effects));
    if (!reserving.over) {
        Timer timer(setup_.clock, Nanos{setup_.clock.now().value + patience.value});
        reserving.timer = &timer;
        co_await timer;
        reserving.timer = nullptr;
    }
    if (!reserving.over) {
        Effects last;
        table_.give_up(index(at), last);
        carry_out(std::move(last));
    }
    BRAID_REQUIRE(reserving.over);
    switch (reserving.ended.outcome) {
        case Outcome::reserved:
            setup_.log(Severity::info, fmt::format("volume {} is reserved by this node", name));
            co_return Unit{};
        case Outcome::conflict:
            co_return Refusal{who(known, raw(*reserving.ended.node)), RefusalCode::conflict};
        case Outcome::released:
            co_return Refusal{fmt::format("volume {} was released meanwhile", name),
                              RefusalCode::conflict};
        case Outcome::gave_up:
            break;
    }
    if (closed_) co_return Refusal{"the array is being stopped", RefusalCode::stopping};
    if (reserving.ended.node) {
        co_return Refusal{
            fmt::format("volume {}: node {} reserves it at the same time, and has "
                        "not let go of it in {} s",
                        name, raw(*reserving.ended.node), patience.value / seconds(1).value),
            RefusalCode::busy};
    }
    co_return Refusal{
        fmt::format(
            "volume {}: what other nodes' clients do there has not ended in {} s; try again", name,
            patience.value / seconds(1).value),
        RefusalCode::busy};
}

Task<void> Reservations::release_now(std::size_t at) {
    Volume& known = volumes_[at];
    known.by_operator = false;
    const std::uint64_t before = known.releases;
    Effects effects;
    const bool nothing = table_.release(index(at), effects);
    carry_out(std::move(effects));
    if (nothing) co_return;
    while (known.releases == before && !closed_) co_await changed_.next();
    if (known.releases != before) {
        setup_.log(Severity::info, fmt::format("volume {} is released", known.record.name));
    }
}

Task<Checked<Unit>> Reservations::reserve(std::string volume) {
    BRAID_CO_TRY(const std::size_t at, find(volume));
    co_return co_await reserve_now(at, true);
}

Task<Checked<Unit>> Reservations::release(std::string volume) {
    BRAID_CO_TRY(const std::size_t at, find(volume));
    Volume& known = volumes_[at];
    const auto holder = table_.holder(index(at));
    if (!holder) co_return Unit{};
    if (raw(holder->node) != setup_.self) {
        co_return Refusal{who(known, raw(holder->node)), RefusalCode::conflict};
    }
    if (known.exclusive && known.connections != 0) {
        co_return Refusal{
            fmt::format("volume {} is exclusive, and {} client connection{} {} it: it is released "
                        "when the last one has left",
                        volume, known.connections, known.connections == 1 ? "" : "s",
                        known.connections == 1 ? "has" : "have"),
            RefusalCode::conflict};
    }
    co_await release_now(at);
    if (closed_) co_return Refusal{"the array is being stopped", RefusalCode::stopping};
    co_return Unit{};
}

Task<Checked<Unit>> Reservations::open_volume(std::string volume) {
    BRAID_CO_TRY(const std::size_t at, find(volume));
    Volume& known = volumes_[at];
    if (known.exclusive) ++known.connections;  // from now on nobody releases it as unused
    Checked<Unit> result = Unit{};
    while (result && !closed_) {
        const auto admission = table_.admission(index(at));
        const auto holder = table_.holder(index(at));
        const bool is_here = holder && raw(holder->node) == setup_.self;
        if (admission.verdict == Verdict::refuse) {
            result = Refusal{who(known, raw(admission.holder)), RefusalCode::conflict};
        } else if (known.exclusive && !holder) {
            result = co_await reserve_now(at, false);
        } else if (admission.verdict == Verdict::serve &&
                   (!known.exclusive || (is_here && table_.holds(index(at))))) {
            co_return Unit{};
        } else {
            co_await changed_.next();  // something is just changing hands
        }
    }
    if (result) co_return Unit{};  // it has stopped: requests are answered so
    if (known.exclusive && --known.connections == 0 && !closed_) tasks_.spawn(release_unused(at));
    co_return result;
}

void Reservations::close_volume(const std::string& volume) {
    const auto at = find(volume);
    BRAID_REQUIRE(at.has_value());
    Volume& known = volumes_[*at];
    if (!known.exclusive) return;
    BRAID_REQUIRE(known.connections != 0);
    if (--known.connections == 0 && !closed_) tasks_.spawn(release_unused(*at));
}

/// The last connection has left; unless one has come since.
Task<void> Reservations::release_unused(std::size_t at) {
    Volume& known = volumes_[at];
    const bool unused = known.connections == 0 && !known.by_operator;
    if (unused && !closed_ && table_.holds(index(at))) co_await release_now(at);
}

// ---- messages ----------------------------------------------------------------------------------

/// Who grants a volume tells how far rebuilds are: of what was locked elsewhere until now the one
/// who reserves has not heard.
Words Reservations::words_of(const ReservationMessage& message) const {
    Words words = telling("reservation");
    words["what"] = kind_names[static_cast<std::size_t>(message.kind)];
    words["volume"] = static_cast<std::uint32_t>(message.volume);
    words["request"] = message.request;
    if (message.kind == Kind::refused) {
        words["holder"] = raw(message.holder);
    }
    if (message.kind == Kind::refused || message.standing != Standing::asks) {
        words["standing"] = standing_names[static_cast<std::size_t>(message.standing)];
    }
    if (message.kind != Kind::granted || setup_.self != setup_.walker) return words;
    words["rebuilt"] = Words::array();
    for (const Rebuilt& at : setup_.homes.rebuilds()) {
        words["rebuilt"].push_back(
            {{"member", braid::raw(at.member)}, {"upto", braid::raw(at.upto)}});
    }
    return words;
}

void Reservations::node_gone(std::uint32_t node) {
    if (closed_) return;
    Effects effects;
    table_.node_gone(NodeId{node}, effects);
    carry_out(std::move(effects));
}

void Reservations::node_back(std::uint32_t node) {
    if (closed_) return;
    Effects effects;
    table_.node_back(NodeId{node}, effects);
    carry_out(std::move(effects));
}

Checked<Unit> Reservations::told(std::uint32_t from, const Words& words) {
    if (closed_) return Unit{};
    BRAID_TRY(const ReservationMessage message, reservation_message_of(words, volumes_.size()));
    BRAID_TRY(const std::vector<Rebuilt> rebuilds, rebuilds_of(words, setup_.geometry));
    if (from == setup_.walker && !BRAID_MUTANT(reserved_without_position)) {
        setup_.homes.note(rebuilds);
    }
    Effects effects;
    if (!table_.receive(NodeId{from}, message, effects)) {
        return Refusal{"that does not follow from what it said before", RefusalCode::invalid};
    }
    carry_out(std::move(effects));
    return Unit{};
}

std::vector<ReservationStatus> Reservations::status() const {
    std::vector<ReservationStatus> all;
    for (std::size_t at = 0; at != volumes_.size(); ++at) {
        const Volume& known = volumes_[at];
        ReservationStatus one;
        one.exclusive = known.exclusive;
        one.waiting = known.waiting;
        if (const auto holder = table_.holder(index(at))) {
            one.node = raw(holder->node);
            one.holds = holder->holds;
        }
        all.push_back(one);
    }
    return all;
}

}  // namespace braid::cluster
