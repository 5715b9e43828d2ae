// SPDX-License-Identifier: BSD-3-Clause
// Every crash point of small arrays. An operation is begun anew for each of its member writes, the
// power goes after that one, and of the writes that no flush covered every subset is kept (all of
// them while they are few, else none, all, each alone, all but each, and some by seed). Then the
// array starts, whole or with one member more away, and every sector must be as it was before the
// operation or as it is after it, decided once; parity must be true when the resync has passed; and
// an error is allowed for listed rows of the regions that were being written alone, and none where
// nothing was in doubt any more. A write that fails on a member that keeps its place (no room, or
// the level needs it) goes on: with another one of its row, a flush, and what is read then has to
// stay. Of a start and of a stop that die what lies on the members is only decided by later starts:
// one of them dies, too, another one has as few members as are enough, and writes; whoever was not
// there may have no say any more, and nothing may come back.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "tests/engine/array_fixture.h"

namespace braid::sim {
namespace {

constexpr std::uint64_t stripes = 20;
constexpr std::uint64_t strip = row_size;
constexpr std::uint64_t region = 64u << 10;
constexpr std::uint64_t region_changed = 128u << 10;  // by the configuration change

enum class What {
    small,
    several,
    full,
    trim,
    clean,
    configuration,
    heal,
    rebuild,
    no_room,
    kept,
    start,
    start_after_crash,
    stop
};
constexpr What every_kind[] = {
    What::small, What::several, What::full,    What::trim, What::clean, What::configuration,
    What::heal,  What::rebuild, What::no_room, What::kept, What::start, What::start_after_crash,
    What::stop};
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

struct Case {
    Level level{Level::raid5};
    What what{What::small};
    std::optional<std::uint32_t> lost;  // before the operation
    std::uint32_t refuses{0};           // the role whose member refuses writes of its row, or would
                                        // have no room for them
    bool fails() const { return what == What::no_room || what == What::kept; }
    bool starts() const { return what == What::start || what == What::start_after_crash; }
    bool has_histories() const { return starts() || what == What::stop; }
};
std::string text_of(const Case& one) {
    std::string text = text_of(one.what);
    if (one.lost) text += fmt::format(", member {} lost", *one.lost);
    if (one.fails()) text += fmt::format(", role {} refuses", one.refuses);
    return text;
}

class Point {
  public:
    Point(const Case& the_case, std::uint64_t stop_after)
        : case_(the_case), sim(options_of(the_case)), stop_after_(stop_after) {}

    /// Runs the operation up to its stop_after'th member write; true if that was before its end.
    bool run() {
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

    /// Starts from what every subset leaves; gives their number.
    std::uint64_t check_all() {
        std::uint64_t cases = 0;
        const std::size_t n = loose_.size();
        Rng rng(stop_after_ * 31 + 7);
        const auto check = [&](const std::function<bool(std::size_t)>& stays) {
            case_.has_histories() ? check_histories(stays, cases) : check_subset(stays, cases);
            ++cases;
        };
        const bool each_away = case_.fails() || case_.has_histories();
        if (n <= (each_away ? 3 : 7)) {
            // Each member is away once, also where there are few subsets.
            const std::uint64_t all = std::uint64_t{1} << n;
            const std::uint64_t turns =
                each_away && all < sim.platters.size() ? sim.platters.size() : all;
            for (std::uint64_t turn = 0; turn != turns; ++turn) {
                const std::uint64_t bits = turn % all;
                check([bits](std::size_t i) { return ((bits >> i) & 1) != 0; });
                if (testing::Test::HasFailure()) return cases;
            }
            return cases;
        }
        check([](std::size_t) { return false; });
        check([](std::size_t) { return true; });
        for (std::size_t one = 0; one != n && !testing::Test::HasFailure(); ++one) {
            // By turns where there are many points.
            const bool even = stop_after_ % 2 == 0;
            if (!each_away || even) check([one](std::size_t i) { return i == one; });
            if (!each_away || !even) check([one](std::size_t i) { return i != one; });
        }
        for (int some = 0; some != (each_away ? 2 : 8) && !testing::Test::HasFailure(); ++some) {
            std::vector<bool> fate(n);
            for (std::size_t i = 0; i != n; ++i) fate[i] = rng.chance(2);
            check([&fate](std::size_t i) { return static_cast<bool>(fate[i]); });
        }
        return cases;
    }

  private:
    static SimArrayOptions options_of(const Case& the_case) {
        SimArrayOptions options;
        options.seed = 11;
        options.level = the_case.level;
        options.members = the_case.level == Level::raid6 ? 5 : 4;  // three data strips
        options.strip_size = strip;
        options.stripes = stripes;
        return options;
    }
    /// Memory for all members of any array, kept from point to point.
    static std::vector<Buffer>& scratch(std::size_t which) {
        static std::array<std::vector<Buffer>, 2> all;
        std::vector<Buffer>& one = all[which];
        while (one.size() != 5) one.emplace_back(SimArray::data_offset + stripes * strip);
        return one;
    }
    std::uint64_t stripe_size() const { return 3 * strip; }
    std::uint64_t writes() const {
        std::uint64_t sum = 0;
        for (const auto& platter : sim.platters) sum += platter->writes;
        return sum;
    }
    std::vector<std::size_t> here(std::optional<std::uint32_t> also_away = std::nullopt) const {
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i != sim.platters.size(); ++i) {
            if (i == away_ || i == also_away || !is_member(*sim.platters[i])) continue;
            left.push_back(i);
        }
        return left;
    }

    /// A device that joins is none before its first metadata are on it.
    static bool is_member(const SimPlatter& platter) {
        return !is_zero({platter.content.data() + md_superblock_offset, 4});
    }

    /// An array of the level that is filled and stopped, made once.
    static const SimArray& filled(const Case& the_case) {
        static std::map<Level, std::unique_ptr<SimArray>> made;
        std::unique_ptr<SimArray>& one = made[the_case.level];
        if (one) return *one;
        one = std::make_unique<SimArray>(options_of(the_case));
        one->create();
        one->intent.region = region;
        EXPECT_TRUE(one->open());
        one->settle();
        Buffer all = random_bytes(one->loop().rng(), one->size());
        EXPECT_TRUE(one->write(0, all));
        EXPECT_TRUE(one->stop());
        return *one;
    }
    void prepare() {
        sim.copy_from(filled(case_));
        sim.intent.region = region;
        if (case_.has_histories()) sim.loop().let_wall_stand();
        if (case_.lost) away_ = *case_.lost;
        ASSERT_TRUE(sim.open(here()));
        sim.settle();
        if (case_.has_histories()) return prepare_history();
        if (case_.what == What::heal) {
            // A row of a lost strip that cannot be known: torn, and its member away.
            after_ = sim.model;
            begin_write(0, 512);
            ASSERT_NO_FATAL_FAILURE(sim.wait_for(flights_.front()));
            std::memcpy(sim.model.data(), flights_.front().data.data(), 512);
            flights_.clear();
            sim.kill();
            away_ = raw(sim.geometry().member_of(StripeIndex{0}, Role{1}));
            ASSERT_TRUE(sim.open(here()));
            sim.settle();
            ASSERT_FALSE(sim.array->status().configuration.bad_rows.empty() &&
                         case_.level != Level::raid6);
            touched_ = {0, region};
        }
        for (auto& platter : sim.platters) platter->unflushed.clear();
        after_ = sim.model;
    }

    /// Something is written: before the crash that the start comes after, flushed; before the stop,
    /// acknowledged.
    void prepare_history() {
        after_ = sim.model;
        if (case_.what != What::start) {
            begin_write(7 * stripe_size() + 512, 2 * strip);
            ASSERT_NO_FATAL_FAILURE(sim.wait_for(flights_.front()));
        }
        if (case_.what == What::start) {
            ASSERT_TRUE(sim.stop());
            is_settled_ = true;
        } else if (case_.what == What::start_after_crash) {
            sim.model = after_;
            sim.kill();
        }
        if (case_.starts()) {
            for (auto& platter : sim.platters) platter->unflushed.clear();
        }
    }
    void kill() {
        sim.loop().crash([this] {
            opened_.reset();
            sim.array.reset();
        });
    }

    void begin_request(IoKind kind, std::uint64_t offset, std::uint64_t size) {
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
    void begin_write(std::uint64_t offset, std::uint64_t size) {
        begin_request(IoKind::write, offset, size);
    }
    static Task<void> keep(Task<Checked<Unit>> task, bool* done) {
        const auto result = co_await task;
        EXPECT_TRUE(result) << result.error().text;
        *done = true;
    }
    void begin() {
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
                return sim.loop().tasks().spawn(
                    keep(sim.array->change_intent({.on = true, .region = region_changed}),
                         &command_done_));
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
                const auto member = static_cast<std::uint32_t>(away_);
                sim.platters[member] = platter;
                away_ = none;
                return sim.loop().tasks().spawn(
                    keep(sim.array->add_member(sim.disk(platter, SimArray::path_of(member)), false),
                         &command_done_));
            }
        }
    }
    /// Whether nothing more is to come; what follows a step is begun.
    bool is_over() {
        for (const Asked& flight : flights_) {
            if (!flight.done) return false;
            if (case_.fails()) continue;
            EXPECT_TRUE(flight.request.ok) << flight.request.error.text();
        }
        if (!command_done_) return false;
        if (case_.starts()) return opened_.has_value();
        if (case_.what == What::stop) return flushed_ = is_settled_ = true;
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

    using Opened = Checked<std::unique_ptr<Array>>;
    static Task<void> keep_opened(Task<Opened> task, std::optional<Opened>* opened) {
        opened->emplace(co_await task);
        EXPECT_TRUE(**opened) << (*opened)->error().text;
    }
    static Task<void> keep_stopped(Task<Result<void>> task, bool* done) {
        const auto result = co_await task;
        EXPECT_TRUE(result);
        *done = true;
    }
    /// The other members take longer: that one is the first to hold what is stored.
    void begin_start(const std::vector<std::size_t>& indexes, std::size_t first) {
        command_done_ = true;
        std::vector<std::unique_ptr<Disk>> disks;
        for (const std::size_t i : indexes) {
            disks.push_back(sim.disk(sim.platters[i], SimArray::path_of(i)));
            sim.platters[i]->delay_nanos = i == first ? 0 : 3 * sim.platters[i]->latency_nanos;
        }
        ArrayOptions how;
        how.seed = 5;
        how.buffer_size = 16u << 20;
        sim.loop().tasks().spawn(keep_opened(
            Array::open(sim.loop().ready(), sim.loop(), std::move(disks), how), &opened_));
    }

    SimPlatter& refusing() const {
        const MemberIndex member = sim.geometry().member_of(StripeIndex{7}, Role{case_.refuses});
        return *sim.platters[raw(member)];
    }
    /// After the write that fails: one beside it, of the same row; both are flushed, and read; what
    /// was read, and no error, has to stay. Then there is room, and nothing is in doubt any more.
    bool is_failure_over() {
        const std::uint64_t at = 7 * stripe_size();
        switch (flights_.size()) {
            case 1: {
                const Asked& failed = flights_.front();
                EXPECT_FALSE(failed.request.ok);
                EXPECT_EQ(failed.request.error.code,
                          case_.what == What::kept ? Errc::io : Errc::full);
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
        is_settled_ = status.intent.stripes_marked == 0 && !status.in_doubt &&
                      std::ranges::all_of(sim.platters, [](const auto& platter) {
                          return platter->flights.empty();  // with the record that says so
                      });
        return is_settled_;
    }
    void take_what_was_read(std::uint64_t stripe) {
        flushed_ = true;
        auto flight = std::next(flights_.begin(), 3);
        for (std::uint64_t at = stripe; at != stripe + stripe_size(); at += sector_size) {
            if (at != stripe && at % row_size == 0) ++flight;
            if (!flight->request.ok) {
                EXPECT_EQ(flight->request.error.code, Errc::unknown);
                EXPECT_TRUE(is_listed(at)) << "an error that is not listed, at " << at;
                EXPECT_TRUE(away_ != none) << "an error although nothing is lost, at " << at;
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

    /// Lays out what the power cut leaves.
    void lay(const std::function<bool(std::size_t)>& stays) {
        std::size_t first = 0;
        for (std::size_t m = 0; m != sim.platters.size(); ++m) {
            SimPlatter& platter = *sim.platters[m];
            platter.heal();
            SimArray::copy_used(platter.content, content_[m]);
            platter.unflushed = unflushed_[m];
            platter.cut_power(
                [&](std::size_t write, std::uint64_t) { return stays(first + write); });
            first += unflushed_[m].size();
            SimArray::copy_used(left_[m], platter.content);
        }
    }
    std::string where(std::uint64_t number) const {
        return fmt::format("{}, RAID-{}, after {} member writes, subset {} of {} writes",
                           text_of(case_), static_cast<int>(case_.level), stop_after_, number,
                           loose_.size());
    }

    /// A start, or a stop, died. Perhaps another start does, without one member, as soon as one
    /// holds what it stores; then one serves without that, which has as few members as are enough,
    /// is written to, and dies. Whoever was not there has no say any more.
    void check_histories(const std::function<bool(std::size_t)>& stays, std::uint64_t number) {
        SCOPED_TRACE(where(number));
        lay(stays);
        const std::vector<std::byte> model = sim.model;
        const std::vector<std::byte> after = after_;
        const bool was_settled = is_settled_;
        const std::vector<std::size_t> all = here();
        const std::size_t turn = number % all.size();
        std::set<std::size_t> without{all[turn]};
        if (case_.level == Level::raid6 && !case_.lost)
            without.insert(all[(turn + 1) % all.size()]);
        const std::uint64_t deaths = (stop_after_ + number / all.size()) % 3;
        const bool dies_again = deaths != 0;
        if (dies_again) die_in_start(all[turn], all[(turn + 1) % all.size()], deaths + 1);
        serve_without(all, without, dies_again);
        if (testing::Test::HasFatalFailure()) return;
        const auto opened = sim.open(all);
        ASSERT_TRUE(opened) << opened.error().text;
        for (const std::size_t one : served_ ? without : std::set<std::size_t>{}) {
            EXPECT_EQ(sim.state_of(static_cast<std::uint32_t>(one)), MemberState::missing) << one;
        }
        expect_old_or_new(true);
        sim.settle();
        expect_old_or_new(true);
        sim.kill();
        sim.model = model;
        after_ = after;
        is_settled_ = was_settled;
        unknown_.clear();
    }
    /// After so many writes of the member that is away later on: its promise, its slot, the rest.
    void die_in_start(std::size_t first, std::size_t without, std::uint64_t stop_after) {
        std::vector<std::size_t> given = here();
        std::erase(given, without);
        begin_start(given, first);
        const SimPlatter& platter = *sim.platters[first];
        const std::uint64_t base = platter.writes;
        while (!opened_ && platter.writes - base < stop_after) ASSERT_TRUE(sim.loop().step());
        kill();
        for (auto& one : sim.platters) {
            one->cut_power(sim.loop().rng());
            one->heal();
        }
    }
    void serve_without(const std::vector<std::size_t>& all, const std::set<std::size_t>& without,
                       bool may_be_refused) {
        std::vector<std::size_t> given = all;
        std::erase_if(given, [&](std::size_t one) { return without.contains(one); });
        const auto opened = sim.open(given);
        served_ = opened.has_value();
        if (!served_) {  // the start before may hold, without one of these
            ASSERT_TRUE(may_be_refused) << opened.error().text;
            return;
        }
        const std::vector<std::byte> decided = expect_old_or_new(true);
        for (std::uint64_t at = 0; at != sim.size(); at += sector_size) {
            const bool known =
                !std::all_of(decided.begin() + static_cast<std::ptrdiff_t>(at),
                             decided.begin() + static_cast<std::ptrdiff_t>(at + sector_size),
                             [](std::byte byte) { return byte == std::byte{0xee}; });
            if (!known) unknown_.insert(at);
        }
        sim.model = decided;
        // Whole where rows are listed.
        Buffer whole = random_bytes(sim.loop().rng(), stripe_size());
        ASSERT_TRUE(sim.write(7 * stripe_size(), whole, true));
        Buffer part = random_bytes(sim.loop().rng(), strip + 512);
        for (const std::uint64_t stripe : {0, 12}) {
            ASSERT_TRUE(sim.write(stripe * stripe_size() + strip, part, true));
        }
        for (std::uint64_t at = 0; at != sim.size(); at += sector_size) {
            if (std::memcmp(sim.model.data() + at, decided.data() + at, sector_size) != 0)
                unknown_.erase(at);
        }
        after_ = sim.model;
        while (sim.array->status().intent.stripes_marked != 0) sim.loop().run_for(millis(100));
        sim.loop().run_for(millis(100));  // with the record that says so
        is_settled_ = true;
        sim.crash();
    }

    void check_subset(const std::function<bool(std::size_t)>& stays, std::uint64_t number) {
        SCOPED_TRACE(where(number));
        lay(stays);
        // Another member is away, if the level allows it: no wrong byte, and errors where allowed.
        const bool rebuilds = case_.what == What::rebuild;
        const std::uint32_t parities = case_.level == Level::raid6 ? 2 : 1;
        const std::uint32_t lost_now = away_ != none || rebuilds ? 1 : 0;
        if (lost_now < parities) {
            std::uint32_t also = static_cast<std::uint32_t>(number % sim.platters.size());
            if (also == away_ || (rebuilds && also == case_.lost)) {
                also = (also + 1) % static_cast<std::uint32_t>(sim.platters.size());
            }
            const auto opened = sim.open(here(also));
            ASSERT_TRUE(opened) << opened.error().text;
            expect_old_or_new(true);
            sim.kill();
            for (std::size_t m = 0; m != sim.platters.size(); ++m) {
                SimArray::copy_used(sim.platters[m]->content, left_[m]);
                sim.platters[m]->unflushed.clear();
            }
        }
        const auto opened = sim.open(here());
        ASSERT_TRUE(opened) << opened.error().text;
        const std::vector<std::byte> decided = expect_old_or_new(away_ != none || rebuilds);
        if (testing::Test::HasFatalFailure()) return;
        sim.settle();
        EXPECT_EQ(expect_old_or_new(away_ != none || rebuilds), decided) << "decided twice";
        if (away_ == none && sim.array->status().health == Health::clean) sim.expect_parity();
        sim.kill();
    }

    /// Reads all; what cannot be read comes back as a pattern of its own.
    std::vector<std::byte> expect_old_or_new(bool degraded) {
        std::vector<std::byte> seen(sim.size(), std::byte{0xee});
        // In pieces that are read at once where nothing is wrong, else by sectors.
        Buffer piece(strip);
        Buffer sector(sector_size);
        bool whole = false;
        for (std::uint64_t at = 0; at != sim.size(); at += sector_size) {
            if (at % strip == 0) whole = sim.read(at, piece).has_value();
            Result<void> result;
            if (whole) {
                std::memcpy(sector.data(), piece.data() + at % strip, sector_size);
            } else {
                result = sim.read(at, sector);
            }
            if (!result) {
                EXPECT_EQ(result.error().code, Errc::unknown);
                EXPECT_TRUE(degraded) << "an error although nothing is lost, at " << at;
                EXPECT_TRUE(is_listed(at)) << "an error that is not listed, at " << at;
                EXPECT_TRUE(!is_settled_ || unknown_.contains(at))
                    << "an error although nothing was in doubt, at " << at;
                const std::uint64_t marked =
                    case_.what == What::configuration ? region_changed : region;
                const std::uint64_t per_region = marked / stripe_size() * stripe_size();
                EXPECT_TRUE(at >= touched_.first / per_region * per_region &&
                            at < (touched_.second + per_region - 1) / per_region * per_region)
                    << "an error where nothing was written, at " << at;
                continue;
            }
            std::memcpy(seen.data() + at, sector.data(), sector_size);
            const bool is_new = std::memcmp(sector.data(), after_.data() + at, sector_size) == 0;
            const bool is_old = std::memcmp(sector.data(), sim.model.data() + at, sector_size) == 0;
            EXPECT_TRUE(is_new || (is_old && (!flushed_ || unknown_.contains(at))))
                << (is_old ? "flushed, and lost again, at " : "neither old nor new, at ") << at;
            if (testing::Test::HasFailure()) return seen;
        }
        return seen;
    }
    bool is_listed(std::uint64_t at) const {
        for (const BadBytes& bad : sim.array->status().bad) {
            if (at >= bad.offset && at < bad.offset + bad.size) return true;
        }
        return false;
    }

    static constexpr std::size_t none = ~std::size_t{0};
    struct Loose {
        std::size_t member;
        std::size_t write;
    };
    Case case_;
    SimArray sim;
    std::uint64_t stop_after_;
    std::size_t away_{none};
    std::list<Asked> flights_;
    bool command_done_{true};
    bool flushed_{false};
    std::optional<Opened> opened_;  // by a start that is to die
    bool served_{false};
    bool is_settled_{false};           // nothing is in doubt: no errors but for `unknown_`
    std::set<std::uint64_t> unknown_;  // sectors that were errors before the power went
    std::pair<std::uint64_t, std::uint64_t> touched_{~std::uint64_t{0}, 0};
    std::vector<std::byte> after_;
    std::vector<Buffer>& content_{scratch(0)};  // as the power went
    std::vector<std::vector<SimPlatter::Write>> unflushed_;
    std::vector<Loose> loose_;
    std::vector<Buffer>& left_{scratch(1)};  // as the power cut leaves it
};

/// Of the stripe that is written.
MemberIndex member_of(Level level, std::uint32_t role) {
    Geometry geometry;
    geometry.level = level;
    geometry.member_count = level == Level::raid6 ? 5 : 4;
    geometry.strip_size = strip;
    geometry.stripes = stripes;
    geometry.window_rows = 1;
    return geometry.member_of(StripeIndex{7}, Role{role});
}

/// Whole; without a data strip; without parity. What RAID-4 does as RAID-5 is left to that.
std::vector<Case> cases_of(Level level, What what) {
    constexpr std::uint32_t data = 1;
    constexpr std::uint32_t p = 3;
    constexpr std::uint32_t q = 4;
    const auto with = [&](std::optional<std::uint32_t> lost, std::uint32_t refuses = 0) {
        Case one{.level = level, .what = what, .lost = std::nullopt, .refuses = refuses};
        if (lost) one.lost = raw(member_of(level, *lost));
        return one;
    };
    switch (what) {
        case What::heal:  // it is degraded by itself
            return {with(std::nullopt)};
        case What::rebuild:
            return {with(data), with(p)};
        case What::no_room:
            if (level == Level::raid4) return {};
            if (level == Level::raid5) return {with(std::nullopt, data), with(std::nullopt, p)};
            return {with(std::nullopt, data), with(std::nullopt, p), with(data, 0), with(data, q)};
        case What::kept:  // of RAID-6 one lost is not enough
            if (level != Level::raid5) return {};
            return {with(data, 0), with(data, p), with(p, data)};
        case What::start:
            if (level == Level::raid6) return {with(std::nullopt), with(data)};
            [[fallthrough]];
        case What::start_after_crash:
        case What::stop:
            if (level == Level::raid4) return {};
            return {with(std::nullopt)};
        default:
            return {with(std::nullopt), with(data), with(p)};
    }
}

/// Cases and crash points of all operations on one array.
void run_level(Level level, std::uint64_t points_min, std::uint64_t cases_min) {
    std::uint64_t points = 0;
    std::uint64_t cases = 0;
    for (const What what : every_kind) {
        for (const Case& one : cases_of(level, what)) {
            bool goes_on = true;
            const std::uint64_t points_before = points;
            const std::uint64_t cases_before = cases;
            for (std::uint64_t after = 0; goes_on; ++after) {
                Point point(one, after);
                goes_on = point.run();
                ASSERT_FALSE(testing::Test::HasFatalFailure());
                ++points;
                cases += point.check_all();
                ASSERT_FALSE(testing::Test::HasFailure());
            }
            std::printf("%s: %lu crash points, %lu cases\n", text_of(one).c_str(),
                        points - points_before, cases - cases_before);
        }
    }
    std::printf("%lu crash points, %lu cases\n", points, cases);
    std::fflush(stdout);
    EXPECT_GE(points, points_min) << "operations write less than they did: are all still tried?";
    EXPECT_GE(cases, cases_min);
}

// Floors below what there is (RAID-5: 1730 cases in 360 points).
TEST(CrashPoints, Raid4) { run_level(Level::raid4, 190, 790); }
TEST(CrashPoints, Raid5) { run_level(Level::raid5, 330, 1500); }
TEST(CrashPoints, Raid6) { run_level(Level::raid6, 440, 2500); }

}  // namespace
}  // namespace braid::sim
