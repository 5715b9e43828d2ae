// SPDX-License-Identifier: BSD-3-Clause
#include "tests/sim/crash_point.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <iterator>
#include <map>

namespace braid::sim::crash {

const char* text_of(What what) {
    switch (what) {
        case What::small:
            return "small write";
        case What::several:
            return "several strips";
        case What::full:
            return "full stripe";
        case What::trim:
            return "trim";
        case What::clean:
            return "mark, flush and clean";
        case What::configuration:
            return "configuration change";
        case What::heal:
            return "listing and healing of a row";
        case What::rebuild:
            return "rebuild step";
        case What::no_room:
            return "no room";
        case What::kept:
            return "failed write of a needed member";
        case What::start:
            return "start";
        case What::start_after_crash:
            return "start after a crash";
        case What::stop:
            return "stop";
    }
    return "?";
}

std::string text_of(const Case& one) {
    std::string text = text_of(one.what);
    for (const std::size_t member : one.lost) text += fmt::format(", member {} lost", member);
    if (one.fails()) text += fmt::format(", role {} refuses", one.refuses);
    return text;
}

bool Point::run() {
    prepare();
    if (testing::Test::HasFatalFailure()) return false;
    begin();
    const std::uint64_t base = writes();  // of the disks that are there now
    while (writes() - base < stop_after_ && !is_over()) {
        if (!sim.loop().step()) break;
    }
    const bool before_the_end = !is_over();
    kill();
    for (auto& platter : sim.platters) {
        const std::size_t member = unflushed_.size();
        SimArray::copy_used(content_[member], platter->content);
        unflushed_.push_back(platter->unflushed);
        for (std::size_t i = 0; i != platter->unflushed.size(); ++i) {
            loose_.push_back({member, i});
        }
    }
    return before_the_end;
}

SimArrayOptions Point::options_of(const Case& the_case) {
    SimArrayOptions options;
    options.seed = 11;
    options.level = the_case.level;
    options.members = the_case.level == Level::raid6 ? 5 : 4;  // three data strips
    options.strip_size = strip;
    options.stripes = stripes;
    return options;
}

/// Memory for all members of any array, kept from point to point.
std::vector<Buffer>& Point::scratch(std::size_t which) {
    static std::array<std::vector<Buffer>, 2> all;
    std::vector<Buffer>& one = all[which];
    while (one.size() != 5) one.emplace_back(SimArray::data_offset + stripes * strip);
    return one;
}

std::uint64_t Point::writes() const {
    std::uint64_t sum = 0;
    for (const auto& platter : sim.platters) sum += platter->writes;
    return sum;
}

std::vector<std::size_t> Point::here(std::optional<std::uint32_t> also_away) const {
    std::vector<std::size_t> left;
    for (std::size_t i = 0; i != sim.platters.size(); ++i) {
        if (away_.contains(i) || i == also_away || !is_member(*sim.platters[i])) continue;
        left.push_back(i);
    }
    return left;
}

/// A device that joins is none before its first metadata are on it.
bool Point::is_member(const SimPlatter& platter) {
    return !is_zero({platter.content.data() + md_superblock_offset, 4});
}

/// An array of the level that is filled and stopped, made once.
const SimArray& Point::filled(const Case& the_case) {
    static std::map<Level, std::unique_ptr<SimArray>> made;
    std::unique_ptr<SimArray>& one = made[the_case.level];
    if (one) return *one;
    one = std::make_unique<SimArray>(options_of(the_case));
    one->create();
    one->intent.region = region;
    EXPECT_TRUE(one->open());
    one->come_to_rest();
    Buffer all = random_bytes(one->loop().rng(), one->size());
    EXPECT_TRUE(one->write(0, all));
    EXPECT_TRUE(one->stop());
    return *one;
}

void Point::prepare() {
    sim.copy_from(filled(case_));
    sim.intent.region = region;
    if (case_.has_histories()) sim.loop().let_wall_stand();
    away_ = case_.lost;
    ASSERT_TRUE(sim.open(here()));
    sim.come_to_rest();
    if (case_.has_histories()) return prepare_history();
    if (case_.what == What::heal) {
        // A row of a lost strip that cannot be known: torn, and its member away.
        after_ = sim.model;
        begin_write(0, 512);
        ASSERT_NO_FATAL_FAILURE(sim.wait_for(flights_.front()));
        std::memcpy(sim.model.data(), flights_.front().data.data(), 512);
        flights_.clear();
        sim.kill();
        away_ = {raw(sim.geometry().member_of(StripeIndex{0}, Role{1}))};
        ASSERT_TRUE(sim.open(here()));
        sim.come_to_rest();
        ASSERT_FALSE(sim.array->status().configuration.bad_rows.empty() &&
                     case_.level != Level::raid6);
        touched_ = {0, region};
    }
    for (auto& platter : sim.platters) platter->unflushed.clear();
    after_ = sim.model;
}

/// Something is written: before the crash that the start comes after, flushed; before the stop,
/// acknowledged.
void Point::prepare_history() {
    after_ = sim.model;
    if (case_.what != What::start) {
        begin_write(7 * stripe_size() + 512, 2 * strip);
        ASSERT_NO_FATAL_FAILURE(sim.wait_for(flights_.front()));
    }
    if (case_.what == What::start) {
        ASSERT_TRUE(sim.stop());
        has_no_doubt_ = true;
    } else if (case_.what == What::start_after_crash) {
        sim.model = after_;
        sim.kill();
    }
    if (case_.starts()) {
        for (auto& platter : sim.platters) platter->unflushed.clear();
    }
}

void Point::kill() {
    sim.loop().crash([this] {
        opened_.reset();
        sim.array.reset();
    });
}

void Point::begin_request(IoKind kind, std::uint64_t offset, std::uint64_t size) {
    Asked& flight = flights_.emplace_back();
    if (kind == IoKind::read) {
        flight.data = Buffer(size);
    } else if (kind == IoKind::write) {
        flight.data = random_bytes(sim.loop().rng(), size);
        std::memcpy(after_.data() + offset, flight.data.data(), size);
    } else if (kind == IoKind::zero) {
        std::memset(after_.data() + offset, 0, size);
    }
    if (kind == IoKind::write || kind == IoKind::zero) {
        touched_.first = std::min(touched_.first, offset / stripe_size() * stripe_size());
        touched_.second = std::max(touched_.second, offset + size);
    }
    sim.ask(flight, kind, offset, size);
}

Task<void> Point::keep(Task<Checked<Unit>> task, bool* done) {
    const auto result = co_await task;
    EXPECT_TRUE(result) << result.error().text;
    *done = true;
}

void Point::begin() {
    const std::uint64_t at = 7 * stripe_size();
    switch (case_.what) {
        case What::small:
            return begin_write(at + 700, 1000);
        case What::several:
            return begin_write(at + 512, 2 * strip);
        case What::full:
            return begin_write(at, stripe_size());
        case What::trim:
            return begin_request(IoKind::zero, at, 2 * stripe_size());
        case What::clean:
            return begin_write(at + strip, strip);
        case What::heal:
            return begin_write(strip, strip);
        case What::configuration:
            command_done_ = false;
            begin_write(at + 512, 512);
            return sim.loop().tasks().spawn(keep(
                sim.array->change_intent({.on = true, .region = region_changed}), &command_done_));
        case What::no_room:
        case What::kept: {
            SimPlatter& platter = refusing();
            platter.holes.insert((SimArray::data_offset + 7 * strip) / row_size);
            platter.full_error = case_.what == What::kept ? EIO : ENOSPC;
            platter.full = true;
            return begin_write(at + 512, 2 * strip);
        }
        case What::start:
        case What::start_after_crash:
            return begin_start(here(), here().front());
        case What::stop:
            command_done_ = false;
            return sim.loop().tasks().spawn(keep_stopped(sim.array->stop(), &command_done_));
        case What::rebuild: {
            command_done_ = false;
            auto platter = sim.make_platter();
            const std::size_t member = *away_.begin();
            sim.platters[member] = platter;
            away_.clear();
            return sim.loop().tasks().spawn(
                keep(sim.array->add_member(sim.disk(platter, SimArray::path_of(member)), Force::no),
                     &command_done_));
        }
    }
}

/// Whether nothing more is to come; what follows a step is begun.
bool Point::is_over() {
    for (const Asked& flight : flights_) {
        if (!flight.done) return false;
        if (case_.fails()) continue;
        EXPECT_TRUE(flight.request.ok) << flight.request.error.text();
    }
    if (!command_done_) return false;
    if (case_.starts()) return opened_.has_value();
    if (case_.what == What::stop) return flushed_ = has_no_doubt_ = true;
    if (case_.fails()) return is_failure_over();
    if (case_.what == What::clean && flights_.size() == 1) {
        begin_request(IoKind::flush, 0, 0);
        return false;
    }
    if (case_.what == What::clean) {
        flushed_ = true;
        return sim.array->status().intent.stripes_marked == 0;
    }
    if (case_.what == What::rebuild) return sim.array->status().health == Health::clean;
    return true;
}

Task<void> Point::keep_opened(Task<Opened> task, std::optional<Opened>* opened) {
    opened->emplace(co_await task);
    EXPECT_TRUE(**opened) << (*opened)->error().text;
}

Task<void> Point::keep_stopped(Task<Result<void>> task, bool* done) {
    const auto result = co_await task;
    EXPECT_TRUE(result);
    *done = true;
}

/// The other members take longer: that one is the first to hold what is stored.
void Point::begin_start(const std::vector<std::size_t>& indexes, std::size_t first) {
    command_done_ = true;
    std::vector<std::unique_ptr<Disk>> disks;
    for (const std::size_t i : indexes) {
        disks.push_back(sim.disk(sim.platters[i], SimArray::path_of(i)));
        sim.platters[i]->delay_nanos = i == first ? 0 : 3 * sim.platters[i]->latency_nanos;
    }
    ArrayOptions how;
    how.seed = 5;
    how.buffer_size = 16u << 20;
    sim.loop().tasks().spawn(
        keep_opened(Array::open(sim.loop().ready(), sim.loop(), std::move(disks), how), &opened_));
}

SimPlatter& Point::refusing() const {
    const MemberIndex member = sim.geometry().member_of(StripeIndex{7}, Role{case_.refuses});
    return *sim.platters[raw(member)];
}

/// After the write that fails: one beside it, of the same row; both are flushed, and read; what
/// was read, and no error, has to stay. Then there is room, and nothing is in doubt any more.
bool Point::is_failure_over() {
    const std::uint64_t at = 7 * stripe_size();
    switch (flights_.size()) {
        case 1: {
            const Asked& failed = flights_.front();
            EXPECT_FALSE(failed.request.ok);
            EXPECT_EQ(failed.request.error.code, case_.what == What::kept ? Errc::io : Errc::full);
            begin_write(at + 2 * strip + 1024, 1024);
            return false;
        }
        case 2:
            begin_request(IoKind::flush, 0, 0);
            return false;
        case 3:
            EXPECT_TRUE(flights_.back().request.ok) << "the flush";
            for (std::uint64_t row = 0; row != 3; ++row) {
                begin_request(IoKind::read, at + row * row_size, row_size);
            }
            return false;
    }
    if (!flushed_) take_what_was_read(at);
    refusing().heal();
    const ArrayStatus status = sim.array->status();
    has_no_doubt_ = status.intent.stripes_marked == 0 && !status.in_doubt &&
                    std::ranges::all_of(sim.platters, [](const auto& platter) {
                        return platter->flights.empty();  // with the record that says so
                    });
    return has_no_doubt_;
}

void Point::take_what_was_read(std::uint64_t stripe) {
    flushed_ = true;
    auto flight = std::next(flights_.begin(), 3);
    for (std::uint64_t at = stripe; at != stripe + stripe_size(); at += sector_size) {
        if (at != stripe && at % row_size == 0) ++flight;
        if (!flight->request.ok) {
            EXPECT_EQ(flight->request.error.code, Errc::unknown);
            EXPECT_TRUE(is_listed(at)) << "an error that is not listed, at " << at;
            EXPECT_FALSE(away_.empty()) << "an error although nothing is lost, at " << at;
            unknown_.insert(at);
            continue;
        }
        const std::byte* now = flight->data.data() + at % row_size;
        EXPECT_TRUE(std::memcmp(now, after_.data() + at, sector_size) == 0 ||
                    std::memcmp(now, sim.model.data() + at, sector_size) == 0)
            << "neither old nor new, at " << at;
        std::memcpy(after_.data() + at, now, sector_size);
    }
}

}  // namespace braid::sim::crash
