// SPDX-License-Identifier: BSD-3-Clause
// Everything at once, by seed: overlapping reads, writes, zeroes and flushes, while members fail,
// are removed, added and replaced, scrubs come and go, and the array is stopped and opened again.
// An oracle knows for each sector which contents it may have. BRAID_LONG=1 runs more seeds,
// BRAID_SEED=n one.
#include <gtest/gtest.h>

#include <list>
#include <map>
#include <optional>

#include "tests/engine/array_fixture.h"
#include "tests/seeds.h"

namespace braid::sim {
namespace {

/// A sector's content is a number: who wrote it. 0 is zeros.
using Stamp = std::uint64_t;

Stamp stamp_at(const std::byte* sector) {
    Stamp stamp = 0;
    std::memcpy(&stamp, sector, sizeof stamp);
    return stamp;
}
void put_stamp(std::byte* sector, Stamp stamp, std::uint64_t number) {
    for (std::size_t i = 0; i != sector_size; i += 16) {
        const std::uint64_t check = stamp == 0 ? 0 : stamp * 0x9e3779b97f4a7c15 + number + i;
        std::memcpy(sector + i, &stamp, 8);
        std::memcpy(sector + i + 8, &check, 8);
    }
}
bool is_whole(const std::byte* sector, std::uint64_t number) {
    std::array<std::byte, sector_size> expected;
    put_stamp(expected.data(), stamp_at(sector), number);
    return std::memcmp(expected.data(), sector, sector_size) == 0;
}

/// Which stamps each sector may hold: every write that is in flight, or that ended and is not older
/// than every write that ended before it began.
class Oracle {
  public:
    explicit Oracle(std::uint64_t sectors) : sectors_(sectors), zeroed_(sectors) {}
    struct Write {
        std::uint64_t began;
        std::optional<std::uint64_t> ended;
        bool failed{false};
    };
    Stamp begin_write(std::uint64_t first, std::uint64_t count, bool zero) {
        const Stamp stamp = ++stamps_;
        writes_[stamp] = {++time_, std::nullopt};
        for (std::uint64_t s = first; s != first + count; ++s) {
            sectors_[s].push_back({stamp, zero});
            if (zero) zeroed_[s] = time_;
        }
        return stamp;
    }
    void end_write(Stamp stamp, std::uint64_t first, std::uint64_t count, bool ok) {
        Write& write = writes_[stamp];
        write.failed = !ok;
        if (!ok) return;  // may or may not have happened; for ever in flight
        write.ended = ++time_;
        for (std::uint64_t s = first; s != first + count; ++s) drop_older(sectors_[s], write.began);
    }
    std::uint64_t now() { return ++time_; }
    /// May the sector hold this now?
    bool may_be(std::uint64_t sector, Stamp seen) const {
        for (const auto& [stamp, zero] : sectors_[sector]) {
            if ((zero ? 0 : stamp) == seen) return true;
        }
        return seen == 0 && never_certain(sector);
    }
    /// Or has it, for a moment, since `began`?
    bool was_since(std::uint64_t sector, Stamp seen, std::uint64_t began) const {
        if (seen == 0) return zeroed_[sector] >= began;
        const auto write = writes_.find(seen);
        return write != writes_.end() && write->second.began >= began;
    }
    /// What a read that began now may see, besides what is written meanwhile.
    std::vector<std::pair<Stamp, bool>> snapshot(std::uint64_t sector) const {
        return sectors_[sector];
    }
    bool never_certain(std::uint64_t sector) const {
        for (const auto& [stamp, zero] : sectors_[sector]) {
            if (writes_.at(stamp).ended) return false;
        }
        return true;
    }

  private:
    void drop_older(std::vector<std::pair<Stamp, bool>>& list, std::uint64_t began) {
        std::erase_if(list, [&](const auto& one) {
            const Write& write = writes_.at(one.first);
            return write.ended && *write.ended < began;
        });
    }
    std::vector<std::vector<std::pair<Stamp, bool>>> sectors_;
    std::vector<std::uint64_t> zeroed_;  // when a zero began last
    std::map<Stamp, Write> writes_;
    Stamp stamps_{0};
    std::uint64_t time_{0};
};

class Chaos {
  public:
    Chaos(SimArrayOptions options)
        : sim(options), oracle(0), rng_(options.seed * 77), options_(options) {}

    void run(int rounds) {
        sim.create();
        ASSERT_TRUE(sim.open());
        oracle = Oracle(sim.size() / sector_size);
        sim.come_to_rest();  // a member lost before parity is true is another matter (R4)
        for (int round = 0; round != rounds && !testing::Test::HasFailure(); ++round) {
            for (int step = 0; step != 300; ++step) {
                if (flying_ < 40 && rng_.chance(3)) start();
                if (rng_.chance(150)) command();
                if (!commands_.empty()) commands_.remove_if([](const auto& c) { return c->done; });
                for (std::uint64_t i = rng_.below(12); i != 0; --i) {
                    if (sim.loop().step()) continue;
                    ASSERT_EQ(flying_, 0) << "everybody waits";
                    break;
                }
            }
            if (rng_.chance(3)) restart();
            if (rng_.chance(3)) land();
        }
        land();
        heal();
    }

    SimArray sim;
    Oracle oracle;

  private:
    struct Flying {
        Chaos* chaos;
        IoRequest request;
        Buffer data;
        Stamp stamp{0};
        std::uint64_t first{0};
        std::uint64_t count{0};
        std::vector<std::vector<std::pair<Stamp, bool>>> before;  // a read's, by sector
        std::vector<bool> blank;
        std::uint64_t began{0};
        bool done{false};
    };
    struct Command {
        bool done{false};
        std::optional<Checked<Unit>> result;
    };

    void start() {
        Flying& one = flights_.emplace_back();
        one.chaos = this;
        const std::uint64_t sectors = sim.size() / sector_size;
        one.first = rng_.chance(2) ? rng_.below(sectors) : rng_.below(sectors / 8);
        const std::uint64_t most = rng_.chance(4) ? 600 : 24;
        one.count = std::min(1 + rng_.below(most), sectors - one.first);
        one.request.offset = {one.first * sector_size};
        one.request.size = one.count * sector_size;
        one.request.user = &one;
        one.request.done = [](IoRequest& r) {
            auto* at = static_cast<Flying*>(r.user);
            at->chaos->landed(*at);
        };
        const std::uint64_t kind = rng_.below(10);
        if (kind < 4) {
            one.request.kind = IoKind::read;
            one.data = Buffer(one.request.size);
            one.began = oracle.now();
            for (std::uint64_t i = 0; i != one.count; ++i) {
                one.before.push_back(oracle.snapshot(one.first + i));
                one.blank.push_back(oracle.never_certain(one.first + i));
            }
        } else if (kind < 9) {
            one.request.kind = rng_.chance(8) ? IoKind::zero : IoKind::write;
            one.request.fua = rng_.chance(10);
            const bool zero = one.request.kind == IoKind::zero;
            one.stamp = oracle.begin_write(one.first, one.count, zero);
            one.data = Buffer(one.request.size);
            for (std::uint64_t i = 0; i != one.count && !zero; ++i) {
                put_stamp(one.data.data() + i * sector_size, one.stamp, one.first + i);
            }
        } else {
            one.request.kind = IoKind::flush;
            one.request.offset = {}, one.request.size = 0;
        }
        one.request.data = one.request.kind == IoKind::zero ? nullptr : one.data.data();
        ++flying_;
        sim.array->submit(one.request);
    }
    void landed(Flying& one) {
        one.done = true;
        --flying_;
        const IoKind kind = one.request.kind;
        EXPECT_TRUE(one.request.ok || stopping_) << one.request.error.text();
        if (kind == IoKind::write || kind == IoKind::zero) {
            oracle.end_write(one.stamp, one.first, one.count, one.request.ok);
        }
        if (kind != IoKind::read || !one.request.ok) return;
        for (std::uint64_t i = 0; i != one.count; ++i) {
            const std::byte* sector = one.data.data() + i * sector_size;
            const std::uint64_t number = one.first + i;
            const Stamp seen = stamp_at(sector);
            const bool fine = is_whole(sector, number);
            bool known = oracle.may_be(number, seen) || (seen == 0 && one.blank[i]) ||
                         oracle.was_since(number, seen, one.began);
            for (const auto& [stamp, zero] : one.before[i]) known |= (zero ? 0 : stamp) == seen;
            if (fine && known) continue;
            ADD_FAILURE() << "sector " << number << " holds " << seen << (fine ? "" : ", torn");
            return;
        }
    }
    void land() {
        while (flying_ != 0) ASSERT_TRUE(sim.loop().step()) << "everybody waits";
        flights_.clear();
    }

    static Task<void> keep(Task<Checked<Unit>> task, std::shared_ptr<Command> command) {
        command->result.emplace(co_await task);
        command->done = true;
    }
    void spawn(Task<Checked<Unit>> task) {
        auto command = std::make_shared<Command>();
        commands_.push_back(command);
        sim.loop().tasks().spawn(keep(std::move(task), command));
    }
    std::shared_ptr<SimPlatter> fresh() {
        auto platter = sim.make_platter();
        disks_["x" + std::to_string(++names_)] = platter;
        return platter;
    }
    std::string newest() const { return "x" + std::to_string(names_); }
    void command() {
        const std::uint64_t lost = sim.array->status().members.size() == 0 ? 0 : lost_now();
        const std::string role = std::to_string(rng_.below(options_.members));
        const std::uint64_t allowed = options_.level == Level::raid6 ? 2 : 1;
        switch (rng_.below(8)) {
            case 0:
                if (platters_in_use().empty()) return;  // one died, and nobody knows yet
                return spawn(sim.array->fail_member(role, Force::no));
            case 1:
                return spawn(sim.array->remove_member(role));
            case 2: {
                auto platter = fresh();
                return spawn(sim.array->add_member(sim.disk(platter, newest()), Force::no));
            }
            case 3: {
                if (platters_in_use().empty()) return;
                auto platter = fresh();
                return spawn(
                    sim.array->replace_member(role, sim.disk(platter, newest()), Force::no));
            }
            case 4:
                return spawn(sim.array->start_scrub(ScrubMode{rng_.chance(2)}));
            case 5:
                return (void)sim.array->stop_scrub().has_value();
            case 6:
                return bring_back();
            default:
                if (lost < allowed && commands_.empty()) break_one(allowed - lost);
        }
    }
    /// One that was failed by order, as it was then, or without what lay in its cache.
    void bring_back() {
        for (const auto& member : sim.array->status().members) {
            if (!member.record.role || member.record.state != MemberState::faulty) continue;
            const auto platter = platter_of(member.record.path);
            if (!platter || platter->dead || platter->fails_writes || member.open) continue;
            if (rng_.chance(2)) platter->cut_power(rng_);
            return spawn(sim.array->add_member(sim.disk(platter, member.record.path), Force::no));
        }
    }
    std::uint64_t lost_now() const {
        std::uint64_t lost = 0;
        for (const auto& member : sim.array->status().members) {
            if (member.record.role && member.record.state != MemberState::in_sync) ++lost;
        }
        return lost;
    }
    /// Platters under members that are in sync die, as many as the array can stand.
    void break_one(std::uint64_t most) {
        for (const auto& platter : platters_in_use()) {
            if (most == 0) return;
            if (platter->dead || platter->fails_writes || !rng_.chance(3)) continue;
            (rng_.chance(2) ? platter->dead : platter->fails_writes) = true;
            --most;
            broken_ = true;
        }
    }
    std::vector<std::shared_ptr<SimPlatter>> platters_in_use() {
        std::vector<std::shared_ptr<SimPlatter>> all;
        std::uint64_t broken = 0;
        for (const auto& member : sim.array->status().members) {
            if (!member.record.role) continue;
            const auto platter = platter_of(member.record.path);
            if (member.record.state != MemberState::in_sync || !platter) continue;
            if (platter->dead || platter->fails_writes) ++broken;
            all.push_back(platter);
        }
        if (broken != 0) all.clear();  // not noticed yet; one thing at a time
        return all;
    }
    std::shared_ptr<SimPlatter> platter_of(const std::string& path) {
        if (path.empty()) return nullptr;
        if (path[0] == 'x') return disks_[path];
        return sim.platters[static_cast<std::size_t>(std::stoi(path.substr(1)))];
    }

    void restart() {
        stopping_ = true;
        const auto stopped = sim.stop();
        ASSERT_TRUE(stopped) << stopped.error().text();
        land();
        while (std::ranges::any_of(commands_, [](const auto& c) { return !c->done; })) {
            ASSERT_TRUE(sim.loop().step());
        }
        commands_.clear();
        stopping_ = false;
        reopen();
    }
    void reopen() {
        std::vector<std::unique_ptr<Disk>> disks;
        for (std::size_t i = 0; i != sim.platters.size(); ++i) {
            if (!sim.platters[i]->dead)
                disks.push_back(sim.disk(sim.platters[i], SimArray::path_of(i)));
        }
        for (const auto& [path, platter] : disks_) {
            if (!platter->dead && holds_something(*platter))
                disks.push_back(sim.disk(platter, path));
        }
        ArrayOptions how;
        how.seed = rng_.next();
        how.buffer_size = 16u << 20;
        how.on_event = [this](const ArrayEvent& event) {
            sim.events.push_back(event.kind);
            if (getenv("BRAID_TEST_VERBOSE") != nullptr) {
                std::printf("%s: %s\n", event.kind.c_str(), event.text.c_str());
            }
        };
        auto opened = sim.loop().run_until_done(
            Array::open(sim.loop().ready(), sim.loop(), std::move(disks), how));
        ASSERT_TRUE(opened) << opened.error().text;
        sim.array = std::move(*opened);
    }
    static bool holds_something(const SimPlatter& platter) {
        return std::any_of(platter.content.data() + 4096, platter.content.data() + 8192,
                           [](std::byte byte) { return byte != std::byte{0}; });
    }
    /// Every role gets a good member; then all is true and known.
    void heal() {
        for (int turn = 0; turn != 40 && !testing::Test::HasFailure(); ++turn) {
            while (std::ranges::any_of(commands_, [](const auto& c) { return !c->done; })) {
                ASSERT_TRUE(sim.loop().step());
            }
            commands_.clear();
            (void)sim.array->stop_scrub().has_value();  // one that waits for lost members
            sim.come_to_rest();
            std::optional<std::uint32_t> sick;
            for (const auto& member : sim.array->status().members) {
                if (!member.record.role) continue;
                const auto platter = platter_of(member.record.path);
                const bool well = member.record.state == MemberState::in_sync && platter &&
                                  !platter->dead && !platter->fails_writes;
                if (!well) sick = raw(*member.record.role);
            }
            if (!sick) break;
            auto platter = fresh();
            spawn(sim.array->replace_member(std::to_string(*sick), sim.disk(platter, newest()),
                                            Force::no));
        }
        sim.come_to_rest();
        EXPECT_EQ(sim.array->status().health, Health::clean);
        expect_all_known();
        std::vector<std::shared_ptr<SimPlatter>> by_role;
        for (const auto& member : sim.array->status().members) {
            if (member.record.role) by_role.push_back(platter_of(member.record.path));
        }
        sim.platters = by_role;
        sim.expect_parity();
    }
    void expect_all_known() {
        for (std::uint64_t at = 0; at < sim.size(); at += 1u << 20) {
            Buffer piece(std::min<std::uint64_t>(1u << 20, sim.size() - at));
            const auto result = sim.read(at, piece);
            ASSERT_TRUE(result) << result.error().text();
            for (std::uint64_t i = 0; i != piece.size(); i += sector_size) {
                const std::uint64_t number = (at + i) / sector_size;
                const Stamp seen = stamp_at(piece.data() + i);
                ASSERT_TRUE(is_whole(piece.data() + i, number)) << number;
                ASSERT_TRUE(oracle.may_be(number, seen)) << number << " holds " << seen;
            }
        }
    }

    Rng rng_;
    SimArrayOptions options_;
    std::list<Flying> flights_;
    std::list<std::shared_ptr<Command>> commands_;
    std::map<std::string, std::shared_ptr<SimPlatter>> disks_;
    int names_{0};
    int flying_{0};
    bool stopping_{false};
    bool broken_{false};
};

TEST(SimArrayChaos, EveryReadIsExplained) {
    std::uint64_t first = 1;
    std::uint64_t end = test::seeds_of(40, 1000);
    std::vector<std::uint64_t> seeds{325};  // that once failed: stop() while a spare took over
    if (const char* seed = getenv("BRAID_SEED"); seed != nullptr) {
        seeds.clear();
        first = std::stoull(seed);
        end = first + 1;
    }
    for (std::uint64_t seed = first; seed != end; ++seed) seeds.push_back(seed);
    for (const std::uint64_t seed : seeds) {
        if (HasFailure()) break;
        SCOPED_TRACE("BRAID_SEED=" + std::to_string(seed));
        SimArrayOptions options;
        options.seed = seed;
        options.level = seed % 2 == 0 ? Level::raid6 : seed % 5 == 0 ? Level::raid4 : Level::raid5;
        options.members =
            (options.level == Level::raid6 ? 5U : 3U) + static_cast<std::uint32_t>(seed % 3);
        options.strip_size = std::uint64_t{4096} << (seed % 4) * 2;
        options.stripes = options.strip_size >= 65536 ? 12 : 60;
        options.memory_align = seed % 7 == 0 ? 4096 : 1;
        options.zero_fast = seed % 3 != 0;
        options.spares = seed % 4 == 1 ? 1 : 0;
        Chaos chaos(options);
        chaos.run(6);
    }
}

}  // namespace
}  // namespace braid::sim
