// SPDX-License-Identifier: BSD-3-Clause
// The end of a run: everything heals, and then all must be true.
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "engine/metadata/member_metadata.h"
#include "parity/parity.h"
#include "tests/sim/simulation.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t poll_nanos = 100'000'000;

}  // namespace

void Simulation::finish() {
    note("everything heals");
    end_outage();
    options_.outages = options_.tense_starts = options_.lone_starts = false;
    options_.crashes_at_changes = options_.aliases = options_.copies_at_rest = false;
    options_.crashes_one_in = 0;
    if (!array_) restart();
    if (failed() || gone_for_good_) return;
    heal_all();
    run_for(Oracle::durable_nanos);  // what failed just before is told when all beside it has ended
    run_until(
        [this] {
            watch();
            return commands_.empty() && flying_ == 0;
        },
        600'000'000'000, "requests and commands at the end", poll_nanos);
    if (failed()) return;
    if (array_->status().health == Health::failed) {
        stop(false);
        if (!failed()) restart_with_all();
        if (failed() || gone_for_good_) return;
    }
    mend_members();
    if (failed()) return;
    read_all(65536);
    check_retried();
    if (rng_.chance(2)) rewrite_listed_rows();
    if (failed()) return;
    check_scrub();
    check_marks();
    // A spare that was named, and away when it was to be written, is not one of them.
    Names open;
    for (const MemberStatus& member : array_->status().members) {
        if (member.open) open.push_back(member.record.path);
    }
    if (failed() || !stop(false) || failed()) return;
    check_parity();
    check_metadata(open);
    check_degraded_reads();
}

/// Every role gets a good member.
void Simulation::mend_members() {
    (void)array_->stop_scrub().has_value();
    for (int turn = 0; turn != 40 && !failed(); ++turn) {
        const auto ended = [this] {
            watch();
            const ArrayStatus status = array_->status();
            bool rebuilding = false;
            for (const MemberStatus& member : status.members) {
                rebuilding |= member.record.state == MemberState::rebuilding;
            }
            return commands_.empty() && status.walks.empty() && !rebuilding && is_stable();
        };
        if (!run_until(ended, 3600'000'000'000, "rebuilds at the end", poll_nanos)) return;
        const std::set<std::uint32_t> weak = weak_roles();
        if (weak.empty()) break;
        replace(*weak.begin(), Force::yes);
        run_until(
            [this] {
                watch();
                return commands_.empty();
            },
            600'000'000'000, "a replacement at the end");
    }
    come_to_rest("at the end");
}

bool Simulation::is_at_rest() const {
    const ArrayStatus status = array_->status();
    const bool whole = status.health == Health::clean || status.health == Health::damaged;
    if (!whole || !status.walks.empty()) return false;
    if (status.configuration.scrub || status.configuration.resynced) return false;
    return !status.recovery || status.recovery->stripes_left == 0;
}

void Simulation::come_to_rest(const std::string& when) {
    run_until([this] { return is_at_rest() && is_stable(); }, 3600'000'000'000,
              "the array comes to rest " + when, poll_nanos);
}

/// All members are there, and every row was read.
void Simulation::check_retried() {
    for (std::uint64_t row = 0; row != oracle_->rows() && !failed(); ++row) {
        if (!oracle_->is_retried(row)) continue;
        fail(Outcome::wrong_data, fmt::format("R4: row {} could be read, and stays listed", row));
    }
}

/// A row that is written whole is known again.
void Simulation::rewrite_listed_rows() {
    if (oracle_->listed_rows() == 0) return;
    for (std::uint64_t row = 0; row != oracle_->rows() && !failed(); ++row) {
        if (!oracle_->is_listed(row)) continue;
        const bool ok = ask(rng_.chance(4) ? IoKind::zero : IoKind::write, row * row_size, row_size,
                            rng_.chance(4));
        if (!ok)
            fail(Outcome::wrong_data,
                 fmt::format("R4: a listed row, {}, cannot be rewritten", row));
        if (!failed() && oracle_->is_listed(row)) {
            fail(Outcome::wrong_data,
                 fmt::format("R4: row {} was rewritten, and stays listed", row));
        }
    }
    if (failed()) return;
    if (const std::uint64_t left = array_->status().bad_bytes; left != 0) {
        return fail(Outcome::wrong_data,
                    fmt::format("R4: all listed rows were rewritten, and {} bytes stay bad", left));
    }
    read_all(65536);
}

/// The array's own opinion of its parity.
void Simulation::check_scrub() {
    if (failed()) return;
    if (start_scrub(ScrubMode::compare)) finish_scrub(0);
}

/// Nothing is written for a while: no stripe stays marked.
void Simulation::check_marks() {
    if (failed()) return;
    land();
    run_for(Oracle::linger_nanos + 5'000'000'000);
    if (failed()) return;
    const IntentStatus intent = array_->status().intent;
    if (intent.marks == 0 && intent.stripes_marked == 0 && intent.waiting == 0) return;
    fail(Outcome::not_at_rest,
         fmt::format("{} marks of {} stripes stay, and {} writers wait, long after the last write",
                     intent.marks, intent.stripes_marked, intent.waiting));
}

/// On the platters, past the array: P and Q are those of the data.
void Simulation::check_parity() {
    if (failed()) return;
    const Geometry geometry = Geometry::of(last_);
    const auto strip = [&](StripeIndex stripe, Role role) {
        const MemberRecord& record = *last_.member(geometry.member_of(stripe, role));
        return platter_of(record.path)->content.data() + data_offset_ +
               geometry.strip_offset(stripe).value;
    };
    for (std::uint64_t at = 0; at != options_.stripes; ++at) {
        const StripeIndex stripe{at};
        std::vector<const std::byte*> data;
        for (const Role role : geometry.data_roles()) data.push_back(strip(stripe, role));
        const ByteView p{strip(stripe, geometry.p()), options_.strip_size};
        const bool same =
            parities_of(options_.level) == 2
                ? parity::matches_pq(p, {strip(stripe, geometry.q()), options_.strip_size}, data)
                : parity::matches_p(p, data);
        if (!same)
            return fail(Outcome::wrong_data, fmt::format("parity of stripe {} is not true", at));
    }
}

/// All copies of the metadata agree.
void Simulation::check_metadata(const Names& open) {
    if (failed()) return;
    if (open.size() < options_.members) return fail(Outcome::wrong_data, "not every role is open");
    std::optional<Configuration> first;
    for (const std::string& path : open) {
        SimDisk disk(loop_, disks_.at(path), path);
        const MemberImage image = loop_.run_until_done(read_member_image(disk));
        const MemberFindings found = inspect(image);
        if (found.slot() == nullptr || !found.is_tied()) {
            return fail(Outcome::wrong_data,
                        fmt::format("metadata: {} has no valid configuration, or "
                                    "one that its superblock does not belong to",
                                    path));
        }
        if (!first) first = found.slot()->configuration;
        if (found.slot()->configuration != *first) {
            return fail(
                Outcome::wrong_data,
                fmt::format("metadata: {} has another configuration than the first member", path));
        }
        if (first->in_use || first->resynced) {
            return fail(Outcome::wrong_data, "metadata: the array was stopped, and is not clean");
        }
    }
}

/// The same bytes again, with as many members away as the level can do without.
void Simulation::check_degraded_reads() {
    for (int turn = 0; turn != 3 && !failed(); ++turn) {
        std::set<std::uint32_t> absent;
        while (absent.size() != losses_max()) {
            absent.insert(static_cast<std::uint32_t>(rng_.below(options_.members)));
        }
        Names given;
        for (const MemberRecord& record : last_.members) {
            if (record.role && !absent.contains(raw(*record.role))) given.push_back(record.path);
        }
        // Force: with a tie the absent ones might be newer, and here they are not.
        if (open(given, {.readonly = true, .force = true}) != Started::yes) {
            if (!failed()) fail(Outcome::wrong_data, "a degraded start was refused: " + refusal_);
            return;
        }
        read_all(65536);
        if (!failed()) stop(false);
    }
}

}  // namespace braid::sim
