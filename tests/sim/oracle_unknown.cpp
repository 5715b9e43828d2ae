// SPDX-License-Identifier: BSD-3-Clause
// The oracle's other half: which rows may be unknown (R4), by what is in doubt and who is lost.
#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "tests/sim/oracle.h"

namespace braid::sim {

std::uint64_t Oracle::parity_row(std::uint64_t row) const {
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    const std::uint64_t per_stripe = per_strip * geometry_.data_count();
    return row / per_stripe * per_strip + row % per_strip;
}

StripeIndex Oracle::stripe_of(std::uint64_t row) const {
    return StripeIndex{row / (geometry_.rows_per_strip() * geometry_.data_count())};
}

std::pair<StripeIndex, StripeIndex> Oracle::region_of(StripeIndex stripe,
                                                      std::uint64_t bytes) const {
    StripeIndex begin{};
    StripeIndex end{geometry_.stripes};
    for (const VolumeRecord& volume : volumes_) {
        if (stripe < volume.first) {
            end = volume.first;
            break;
        }
        begin = stripe < volume.end() ? volume.first : volume.end();
        if (stripe < volume.end()) {
            end = volume.end();
            break;
        }
    }
    const std::uint64_t count = std::max<std::uint64_t>(1, bytes / geometry_.stripe_data_size());
    const StripeIndex first = begin + (stripe - begin) / count * count;
    return {first, std::min(first + count, end)};
}

void Oracle::spread_doubt() {
    if (!intent_on_) return doubt_everything();
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    for (const std::uint64_t row : failed_) {
        stripes_[row / per_strip].ever = true;
        stripes_[row / per_strip].touched_nanos = nanos_;  // its mark stays
        hit_.insert(row);
    }
    for (std::uint64_t at = 0; at != stripes_.size(); ++at) {
        const Stripe& stripe = stripes_[at];
        const bool marked =
            stripe.writes != 0 || (stripe.ever && nanos_ - stripe.touched_nanos < linger_nanos);
        if (!marked) continue;
        for (const std::uint64_t bytes : regions_) {
            const auto [first, past] = region_of(StripeIndex{at}, bytes);
            for (StripeIndex in = first; in != past; ++in) doubtful_[raw(in)] = true;
        }
    }
}

void Oracle::metadata_stayed(std::uint64_t since_nanos) {
    for (Stripe& stripe : stripes_) {
        if (!stripe.ever || stripe.touched_nanos + linger_nanos < since_nanos) continue;
        stripe.touched_nanos = nanos_;
    }
    // What left the list has left it in memory alone: a crash finds it there again.
    for (Row& row : rows_) {
        if (row.unlisted == 0 || row.unlisted_nanos + durable_nanos < since_nanos) continue;
        row.unlisted_nanos = nanos_;
    }
}

void Oracle::doubt_is_over() {
    ++time_;
    for (std::uint64_t at = 0; at != stripes_.size(); ++at) {
        if (!doubtful_[at]) continue;  // its mark lingers as that of any other
        stripes_[at].ever = true;
        stripes_[at].touched_nanos = nanos_;
    }
    std::fill(doubtful_.begin(), doubtful_.end(), false);
    all_in_doubt_ = false;
    for (const std::uint64_t row : hit_) soil_[row].ended = time_;
    hit_.clear();
    unreadable_.clear();
}

bool Oracle::has_doubt() const { return std::ranges::find(doubtful_, true) != doubtful_.end(); }

/// Whether another strip of the same row of parity was to be tried again before now.
bool Oracle::is_beside_retry(std::uint64_t at, std::uint64_t listed_by) const {
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    const std::uint64_t per_stripe = per_strip * geometry_.data_count();
    const std::uint64_t first = at / per_stripe * per_stripe + at % per_strip;
    for (std::uint64_t i = 0; i != geometry_.data_count(); ++i) {
        const Row& row = rows_[first + i * per_strip];
        const bool before = (row.listed != 0 && row.listed <= listed_by) || row.unlisted != 0;
        if (first + i * per_strip != at && row.kind == BadKind::retry && before) return true;
    }
    return false;
}

std::map<std::uint64_t, Oracle::Bad> Oracle::rows_of(const std::vector<BadRange>& ranges) const {
    std::map<std::uint64_t, Bad> rows;
    const std::uint64_t per_strip = geometry_.rows_per_strip();
    for (const BadRange& range : ranges) {
        for (RowIndex at = range.first; at != range.end(); ++at) {
            const StripeIndex stripe = geometry_.stripe_of(at);
            const Role role = geometry_.role_of(stripe, range.member);
            if (raw(role) >= geometry_.data_count()) continue;
            rows.emplace((raw(stripe) * geometry_.data_count() + raw(role)) * per_strip +
                             (at - geometry_.first_row(stripe)),
                         Bad{range.member, range.kind});
        }
    }
    return rows;
}

void Oracle::note_away(const Configuration& configuration) {
    for (const auto& [row, bad] : rows_of(configuration.bad_rows)) {
        const MemberRecord* const member = configuration.member(bad.member);
        if (bad.kind == BadKind::retry && !takes_part(member->state)) rows_[row].away = true;
    }
}

/// A repairing scrub marks the stripes that it mends; which those are it tells when they
/// are done.
void Oracle::see_repair(const Configuration& configuration) {
    const bool repairs = configuration.scrub && configuration.scrub->repair;
    const bool did_repair = std::exchange(repairing_, repairs);
    if (!repairs && !did_repair) return;
    for (Stripe& stripe : stripes_) {
        stripe.ever = true;
        stripe.touched_nanos = nanos_;
    }
}

/// A rebuild marks the stripes of listed rows before it makes parity true for what it writes there.
void Oracle::see_rebuild(const Configuration& configuration) {
    const bool was_rebuilding = std::exchange(
        rebuilding_, std::ranges::find(configuration.members, MemberState::rebuilding,
                                       &MemberRecord::state) != configuration.members.end());
    if (!rebuilding_ && !was_rebuilding) return;
    for (const auto& [row, bad] : rows_of(seen_)) {
        Stripe& stripe = stripes_[raw(stripe_of(row))];
        stripe.ever = true;
        stripe.touched_nanos = nanos_;
    }
}

std::optional<Broken> Oracle::see(const Configuration& configuration) {
    see_rebuild(configuration);
    see_repair(configuration);
    if (configuration.bad_rows == seen_) return std::nullopt;
    const auto before = rows_of(seen_);
    const auto now = rows_of(configuration.bad_rows);
    seen_ = configuration.bad_rows;
    ++time_;
    std::vector<std::pair<std::uint64_t, MemberIndex>> more;
    for (const auto& [row, bad] : now) {
        rows_[row].kind = bad.kind;
        if (!before.contains(row)) more.emplace_back(row, bad.member);
    }
    for (const auto& [row, member] : more) rows_[row].listed = time_;  // some beside each other
    for (const auto& [row, member] : more) {
        if (auto broken = list(row, member, configuration)) return broken;
    }
    for (const auto& [row, bad] : before) {
        if (now.contains(row)) continue;
        if (auto broken = unlist(row)) return broken;
    }
    return std::nullopt;
}

std::optional<Broken> Oracle::list(std::uint64_t at, MemberIndex member, const Configuration& now) {
    Row& row = rows_[at];
    row.listed = time_;
    row.listed_nanos = nanos_;
    ++listed_count_;
    // Written whole just before the crash: not yet acknowledged, it may not have left the list.
    const bool leaving = crashed_now_ && row.unlisted != 0 &&
                         (row.heal_done < row.was_listed || row.kind == BadKind::retry) &&
                         crashed_nanos_ - row.unlisted_nanos < durable_nanos;
    if (note_) {
        note_(fmt::format("row {} (stripe {}, member {}) is listed{}", at, raw(stripe_of(at)),
                          raw(member), leaving ? " again" : ""));
    }
    if (leaving) return std::nullopt;
    if (anything_unknown_) return std::nullopt;
    row.filled = row.heals != 0;
    const StripeIndex stripe = stripe_of(at);
    const std::string what =
        fmt::format("row {} of the array (stripe {}, member {}) came on the bad-row list, and ", at,
                    raw(stripe), raw(member));
    const std::uint64_t parity = parity_row(at);
    if (failed_.contains(parity) || is_beside_retry(at, time_ - 1)) return std::nullopt;
    if (full_ && soil_[parity].writes != 0) return std::nullopt;  // it fails just now
    if (!doubtful_[raw(stripe)]) {
        return Broken{"R4", what + "no write was under way near it when the node crashed"};
    }
    if (true_.contains(parity) && !crashed_now_) {
        return Broken{"R4", what + "parity of it was written since the start"};
    }
    const auto is_lost = [&](MemberIndex any) {
        return now.member(any)->state != MemberState::in_sync || unreadable_.contains(raw(any));
    };
    if (!is_lost(member)) return Broken{"R4", what + "its member is in sync"};
    std::uint32_t lost = 0;
    for (std::uint32_t i = 0; i != geometry_.member_count; ++i) {
        if (is_lost(MemberIndex{i})) ++lost;
    }
    // Where parity was never made true since the array was made P and Q are anything.
    const bool told = intent_on_ && !all_in_doubt_;
    if (lost < geometry_.parities() && !hit_.contains(parity_row(at)) && told) {
        return Broken{"R4", what + "P and Q must agree on it: nothing was written to that row"};
    }
    return std::nullopt;
}

std::optional<Broken> Oracle::unlist(std::uint64_t at) {
    Row& row = rows_[at];
    const std::uint64_t since = std::exchange(row.listed, 0);
    row.away = false;
    row.unlisted = time_;
    row.unlisted_nanos = nanos_;
    row.was_listed = since;
    --listed_count_;
    if (note_) note_(fmt::format("row {} is not listed any more", at));
    // A failed array keeps nothing of what it lists any more.
    const bool hard =
        !crashed_now_ || (!anything_unknown_ && crashed_nanos_ > row.listed_nanos + durable_nanos);
    const bool healed = row.heals != 0 || row.heal_ended >= since;
    if (row.kind == BadKind::retry)
        return std::nullopt;  // it could be read: any version may be there
    if (!healed) {
        if (crashed_now_ && !hard) return std::nullopt;  // it never was on the members
        return Broken{"R4", fmt::format("row {} of the array left the bad-row list, and was not "
                                        "written whole",
                                        at)};
    }
    if (crashed_now_ && !hard) return std::nullopt;
    // Only what was under way since it is listed can be there.
    for (std::uint64_t sector = at * row_sectors; sector != (at + 1) * row_sectors; ++sector) {
        for (Version& version : sectors_[sector]) {
            const std::uint64_t ended = writes_.at(version.write).ended;
            if (ended != 0 && ended < since) lose(version, Why::flushed);
        }
        tidy(sector);
    }
    return std::nullopt;
}

void Oracle::allow(std::uint64_t offset, ByteView data) {
    for (std::size_t done = 0; done != data.size(); done += sector_size) {
        Version version;
        auto bytes = std::make_shared<SectorBytes>();
        std::memcpy(bytes->data(), data.data() + done, sector_size);
        version.bytes = std::move(bytes);
        const std::uint64_t sector = (offset + done) / sector_size;
        sectors_[sector].push_back(std::move(version));
        ambiguous_.insert(sector);
    }
}

}  // namespace braid::sim
