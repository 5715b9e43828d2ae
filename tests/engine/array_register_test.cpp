// SPDX-License-Identifier: BSD-3-Clause
// What counts as the newest (engine/layout/register.h), seen from the array: copies that are put
// back, and starts that die at any of their steps.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/assembly/assembly.h"
#include "engine/base/crc32c.h"
#include "engine/metadata/config_slot.h"
#include "engine/metadata/member_metadata.h"
#include "engine/metadata/promise_slot.h"
#include "tests/engine/array_fixture.h"

namespace braid {
namespace {

using sim::random_bytes;
using sim::SimArray;
using sim::SimPlatter;

void fill(SimArray& array) {
    Buffer bytes = random_bytes(array.loop().rng(), array.size());
    ASSERT_TRUE(array.write(0, bytes, Fua::yes));
}

/// Long enough for every mark of the write intent to leave the record.
void idle(SimArray& array) { array.loop().run_for(seconds(5)); }

class CopyPutBack : public testing::TestWithParam<std::pair<Level, std::uint32_t>> {};
INSTANTIATE_TEST_SUITE_P(Levels, CopyPutBack,
                         testing::Values(std::pair{Level::raid5, 3U}, std::pair{Level::raid6, 6U},
                                         std::pair{Level::raid6, 4U}, std::pair{Level::raid4, 3U}));

TEST_P(CopyPutBack, TakenWhileItRanAndPutBackAfterACleanStop) {
    for (std::uint32_t member = 0; member != GetParam().second; ++member) {
        SimArray array({.level = GetParam().first, .members = GetParam().second, .stripes = 8});
        array.make();
        fill(array);
        const Buffer copy = array.platters[member]->content;
        fill(array);
        idle(array);
        ASSERT_TRUE(array.stop());
        array.platters[member]->content = copy;
        const auto opened = array.open();
        ASSERT_TRUE(opened) << opened.error().text;
        EXPECT_EQ(array.state_of(member), MemberState::missing);
        array.expect_content();
        if (HasFailure()) return;
    }
}

TEST_P(CopyPutBack, AfterACrashIfTheConfigurationChangedTwiceSince) {
    SimArray array({.level = GetParam().first, .members = GetParam().second, .stripes = 8});
    array.make();
    fill(array);
    const Buffer copy = array.platters[1]->content;
    for (const std::uint64_t region : {128u << 10, 256u << 10}) {
        IntentChange change;
        change.region = region;
        ASSERT_TRUE(array.loop().run_until_done(array.array->change_intent(change)));
    }
    fill(array);
    idle(array);
    array.crash();
    array.platters[1]->content = copy;
    const auto opened = array.open();
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_EQ(array.state_of(1), MemberState::missing);
    array.expect_content();
}

TEST(CopyPutBackAtOnce, OfTheNewestConfigurationAfterACrashIsAtLeastWarnedOf) {
    SimArray array({.members = 4, .stripes = 8});
    array.make();
    fill(array);
    const Buffer copy = array.platters[0]->content;
    for (int i = 0; i != 4; ++i) {
        fill(array);
        idle(array);
    }
    fill(array);
    array.kill();
    array.platters[0]->content = copy;
    bool warned = false;
    std::vector<MemberImage> images;
    for (std::size_t i = 0; i != array.platters.size(); ++i) {
        const auto disk = array.disk(array.platters[i], array.path_of(i));
        images.push_back(array.loop().run_until_done(read_member_image(*disk)));
    }
    const auto assembly = assemble(images, {});
    ASSERT_TRUE(assembly) << assembly.error().text;
    for (const std::string& notice : assembly->notices) {
        warned |= notice.find("m0: its write intent is of generation") == 0;
        EXPECT_NE(notice.find("m1: its write intent"), 0U) << notice;
    }
    EXPECT_TRUE(warned);
}

/// Two starts die at any of their steps; members 1 and 2 go on alone, and are killed. Member 0,
/// back again, is current or out, whatever it holds.
TEST(StartsThatDied, LeaveNoSecondHistory) {
    for (const bool wall_stands : {true, false}) {
        std::uint64_t stale = 0;
        bool died = true;
        for (std::uint64_t point = 0; died; point += 7) {
            SCOPED_TRACE(testing::Message() << "dies after step " << point);
            SimArray array({.seed = point + 1, .members = 3, .stripes = 8});
            if (wall_stands) array.loop().let_wall_stand();
            array.make();
            fill(array);
            ASSERT_TRUE(array.stop());
            died = array.die_in_start(point);
            if (died) array.die_in_start(point / 2 + point % 13);
            auto opened = array.open({1, 2});
            ASSERT_TRUE(opened) << opened.error().text;
            fill(array);
            idle(array);
            array.kill();
            opened = array.open();
            ASSERT_TRUE(opened) << opened.error().text;
            EXPECT_EQ(array.state_of(0), MemberState::missing);
            stale += array.state_of(0) == MemberState::missing;
            array.expect_content();
            if (HasFailure()) return;
        }
        EXPECT_GT(stale, 5U) << "it took some steps";
    }
}

/// The very first start dies at any of its steps, before there was ever a record of the write intent:
/// nothing is in doubt, and a member may be missing from then on.
TEST(StartsThatDied, TheFirstOneBringsNothingIntoDoubt) {
    bool died = true;
    std::uint64_t point = 0;
    for (; died; point += 4) {
        SCOPED_TRACE(testing::Message() << "dies after step " << point);
        SimArray array({.seed = point + 1, .members = 3, .stripes = 8, .assume_clean = true});
        array.create();
        died = array.die_in_start(point);
        const auto opened = array.open({1, 2});
        ASSERT_TRUE(opened) << opened.error().text;
        array.expect_content();
        if (HasFailure()) return;
    }
    EXPECT_GT(point, 20U) << "it took some steps";
}

/// Only one member's slot, or promise, is there, and with it alone nothing starts.
TEST(StartsThatDied, ThePromiseIsSeenByWhoeverIsEnough) {
    SimArray array({.members = 3, .stripes = 8});
    array.loop().let_wall_stand();
    array.make();
    ASSERT_TRUE(array.stop());
    std::uint64_t before = 0;
    for (int turn = 0; turn != 4; ++turn) {
        ASSERT_TRUE(array.open());
        const EpochRevision now = array.array->configuration().version;
        EXPECT_GT(now.epoch, before) << "epochs grow where the wall clock stands, too";
        EXPECT_EQ(array.array->configuration().in_force, (EpochRevision{now.epoch, 0}));
        EXPECT_EQ(now.revision, 1U) << "announced before it serves";
        before = now.epoch;
        ASSERT_TRUE(array.stop());
    }
}

/// Two and two could run apart: it takes three of them, or two with member 0.
TEST(Raid6OfFour, GoesOnWithTwoOnlyWithItsTieBreaker) {
    SimArray array({.level = Level::raid6, .members = 4, .stripes = 8});
    array.make();
    fill(array);
    ASSERT_TRUE(array.loop().run_until_done(array.array->fail_member("2", Force::no)));
    const auto refused = array.loop().run_until_done(array.array->fail_member("0", Force::no));
    ASSERT_FALSE(refused);
    EXPECT_NE(refused.error().text.find("member 0, which breaks ties"), std::string::npos);
    ASSERT_TRUE(array.loop().run_until_done(array.array->fail_member("1", Force::no)));
    fill(array);
    array.expect_content();
    ASSERT_TRUE(array.stop());
    ASSERT_TRUE(array.open({0, 3}));
    array.expect_content();
}

TEST(Raid6OfFour, WritesNothingWithoutItAndLosesNothing) {
    SimArray array({.level = Level::raid6, .members = 4, .stripes = 8});
    array.make();
    fill(array);
    ASSERT_TRUE(array.loop().run_until_done(array.array->fail_member("2", Force::no)));
    array.platters[0]->dead = true;
    const std::uint64_t stripe = array.geometry().stripe_data_size();
    Buffer bytes = random_bytes(array.loop().rng(), stripe);
    EXPECT_FALSE(array.write(0, bytes));
    EXPECT_EQ(array.state_of(0), MemberState::in_sync) << "it is kept: it breaks ties";
    EXPECT_EQ(array.array->status().health, Health::degraded);
    Buffer rest(array.size() - stripe);
    ASSERT_TRUE(array.read(stripe, rest)) << "by P and Q";
    EXPECT_EQ(std::memcmp(rest.data(), array.model.data() + stripe, rest.size()), 0);
    array.platters[0]->dead = false;
    ASSERT_TRUE(array.write(0, bytes)) << "it goes on by itself";
    array.expect_content();
    array.platters[0]->dead = true;
    EXPECT_FALSE(array.stop());
    array.platters[0]->dead = false;
    EXPECT_FALSE(array.open({1, 3})) << "the others may be newer";
    ASSERT_TRUE(array.open({0, 1, 3}));
    EXPECT_EQ(array.state_of(0), MemberState::in_sync);
}

// ---- what older releases left ----------------------------------------------------------------

/// From the line that begins with `begin` up to the one that begins with `end`.
void replace_lines(std::string& text, const std::string& begin, const std::string& end,
                   const std::string& by) {
    const std::size_t from = text.find("\n" + begin);
    const std::size_t to = text.find("\n" + end, from);
    BRAID_REQUIRE(from != std::string::npos && to != std::string::npos);
    text.replace(from + 1, to - from - 1, by);
}

/// The member of a stopped array as a release left it that knew no promises: epoch 7, which 6 was in
/// force before.
void make_old(SimPlatter& platter, std::uint32_t format) {
    std::optional<ConfigSlot> newest;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        std::byte* bytes = platter.content.data() + slot_offset(slot);
        const auto decoded = decode_slot({bytes, slot_size}, slot);
        if (decoded && (!newest || newest->sequence < decoded->sequence)) newest = *decoded;
        std::memset(bytes, 0, slot_size);
    }
    ASSERT_TRUE(newest);
    std::memset(platter.content.data() + promises_offset, 0, promises_end - promises_offset);
    std::string text = to_json_text(*newest);
    replace_lines(text, " \"epoch\"", " \"events\"", " \"epoch\": 7,\n \"settled\": 6,\n");
    if (format == 1) replace_lines(text, " \"intent\"", " \"members\"", "");
    const std::vector<Area> areas = areas_of(newest->configuration, format);
    ASSERT_EQ(areas.back().name, "reserved");
    replace_lines(text, "  {\"name\":\"promises\"", " \"on\"",
                  fmt::format("  {{\"name\":\"reserved\",\"offset\":{},\"size\":{}}}],\n",
                              areas.back().offset, areas.back().size));
    const auto read = from_json_text(text, format);
    ASSERT_TRUE(read) << read.error().text << text;
    SlotHeader header{};
    header.magic = slot_magic;
    header.format = format;
    header.array = newest->configuration.array;
    header.sequence = newest->sequence;
    header.epoch = 7;
    header.text_size = static_cast<std::uint32_t>(text.size());
    constexpr std::size_t summed = offsetof(SlotHeader, format);
    const auto* bytes = reinterpret_cast<const std::byte*>(&header);
    header.crc32c = crc32c({reinterpret_cast<const std::byte*>(text.data()), text.size()},
                           crc32c({bytes + summed, sizeof header - summed}));
    std::byte* to = platter.content.data() + slot_offset(newest->sequence % slot_count);
    std::memcpy(to, &header, sizeof header);
    std::memcpy(to + sizeof header, text.data(), text.size());
}
std::uint32_t newest_format(const SimPlatter& platter) {
    std::uint64_t sequence = 0;
    std::uint32_t format = 0;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        SlotHeader header;
        std::memcpy(&header, platter.content.data() + slot_offset(slot), sizeof header);
        if (header.magic != slot_magic || header.sequence < sequence) continue;
        sequence = header.sequence;
        format = header.format;
    }
    return format;
}
std::uint64_t promised(const SimPlatter& platter) {
    std::uint64_t epoch = 0;
    for (std::uint32_t slot = 0; slot != promise_slot_count; ++slot) {
        const auto promise = decode_promise(
            {platter.content.data() + promise_slot_offset(slot), promise_slot_size}, slot);
        if (promise) epoch = std::max(epoch, promise->epoch);
    }
    return epoch;
}

TEST(OldFormats, AreServedAndLeftAsFormat3) {
    for (const std::uint32_t format : {1U, 2U}) {
        for (const bool one_is_away : {false, true}) {
            SCOPED_TRACE(testing::Message() << "format " << format << ", away: " << one_is_away);
            SimArray array({.members = 3, .stripes = 8});
            array.make();
            fill(array);
            idle(array);
            ASSERT_TRUE(array.stop());
            for (auto& platter : array.platters) make_old(*platter, format);
            ASSERT_EQ(newest_format(*array.platters[0]), format);
            const std::vector<std::size_t> given =
                one_is_away ? std::vector<std::size_t>{0, 1} : std::vector<std::size_t>{0, 1, 2};
            const auto opened = array.open(given);
            ASSERT_TRUE(opened) << opened.error().text;
            const EpochRevision now = array.array->configuration().version;
            EXPECT_GT(now.epoch, epochs_per_number) << "above every number of an old one";
            EXPECT_EQ(array.array->configuration().in_force, (EpochRevision{now.epoch, 0}));
            for (std::uint32_t role = 0; role != 3; ++role) {
                EXPECT_EQ(array.state_of(role),
                          role < given.size() ? MemberState::in_sync : MemberState::missing);
            }
            array.expect_content();
            fill(array);
            idle(array);
            ASSERT_TRUE(array.stop());
            for (const std::size_t member : given) {
                EXPECT_EQ(newest_format(*array.platters[member]), 3U) << member;
                EXPECT_GE(promised(*array.platters[member]), now.epoch) << member;
            }
            // Who has the old format still is from before.
            ASSERT_TRUE(array.open());
            EXPECT_EQ(array.state_of(2), one_is_away ? MemberState::missing : MemberState::in_sync);
            array.expect_content();
        }
    }
}

// ---- what members hold while an array is served ----------------------------------------------

/// The newest configuration that lies on the member.
Configuration held_by(const SimPlatter& platter) {
    std::optional<ConfigSlot> newest;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        const auto decoded =
            decode_slot({platter.content.data() + slot_offset(slot), slot_size}, slot);
        if (decoded && (!newest || newest->sequence < decoded->sequence)) newest = *decoded;
    }
    BRAID_REQUIRE(newest.has_value());
    return newest->configuration;
}

/// Of each role who fills it, and how; nobody: the nil uuid.
std::vector<std::pair<Uuid, MemberState>> parts_of(const Configuration& c) {
    std::vector<std::pair<Uuid, MemberState>> parts;
    for (std::uint32_t role = 0; role != c.member_count; ++role) {
        const MemberRecord& at = *c.member(MemberIndex{role});
        const bool fills = at.state == MemberState::in_sync || at.state == MemberState::rebuilding;
        parts.emplace_back(fills ? at.uuid : Uuid{}, fills ? at.state : MemberState::missing);
    }
    return parts;
}

void fill_in_pieces(SimArray& array) {
    constexpr std::uint64_t piece = 1u << 20;
    for (std::uint64_t at = 0; at < array.size(); at += piece) {
        Buffer bytes =
            random_bytes(array.loop().rng(), std::min<std::uint64_t>(piece, array.size() - at));
        ASSERT_TRUE(array.write(at, bytes));
    }
    ASSERT_TRUE(array.flush());
}

Task<void> keep_order(Task<Checked<Unit>> task, std::optional<Checked<Unit>>* done) {
    done->emplace(co_await task);
}

/// All configurations that come to lie on a member, in their order.
class Held {
  public:
    Held(SimArray& array, std::size_t member)
        : array_(array), platter_(*array.platters[member]), all{held_by(platter_)} {}

    template <class Done>
    void until(Done done) {
        while (!done()) {
            ASSERT_TRUE(array_.loop().step());
            const auto now = sequences();
            if (now == sequences_) continue;
            sequences_ = now;
            const Configuration c = held_by(platter_);
            if (c != all.back()) all.push_back(c);
        }
    }
    void order(Task<Checked<Unit>> task) {
        std::optional<Checked<Unit>> done;
        array_.loop().tasks().spawn(keep_order(std::move(task), &done));
        until([&done] { return done.has_value(); });
        ASSERT_TRUE(*done) << done->error().text;
    }

  private:
    std::array<std::uint64_t, slot_count> sequences() const {
        std::array<std::uint64_t, slot_count> numbers{};
        for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
            SlotHeader header;
            std::memcpy(&header, platter_.content.data() + slot_offset(slot), sizeof header);
            numbers[slot] = header.sequence;
        }
        return numbers;
    }

    SimArray& array_;
    const SimPlatter& platter_;
    std::array<std::uint64_t, slot_count> sequences_{};

  public:
    std::vector<Configuration> all;
};

/// Who takes part changes with an epoch alone, whatever else with a revision.
TEST(EpochsAndRevisions, OnTheMembers) {
    SimArray array({.members = 3, .strip_size = 4096, .stripes = 3000});
    array.make();
    fill_in_pieces(array);
    idle(array);
    const auto idle_now = [&array] {
        const ArrayStatus now = array.array->status();
        return now.walks.empty() && !now.configuration.scrub && now.health != Health::degraded;
    };
    Held held(array, 0);
    // An error that is counted, and a scrub.
    const std::uint64_t first_row = SimArray::data_offset / row_size;
    array.platters[1]->bad_rows = {first_row + 100};
    Buffer piece(2u << 20);
    ASSERT_TRUE(array.read(0, piece));
    constexpr std::uint64_t delay_nanos = 80'000'000;  // both walks take some checkpoints
    for (auto& platter : array.platters) platter->delay_nanos = delay_nanos;
    held.order(array.array->start_scrub(ScrubMode::compare));
    held.until(idle_now);
    // A loss; its role is filled; the rebuild has checkpoints, and rows that cannot be known; it ends.
    held.order(array.array->fail_member("2", Force::no));
    const EpochRevision without = held_by(*array.platters[0]).version;
    EXPECT_EQ(held_by(*array.platters[1]).version, without);
    EXPECT_LT(held_by(*array.platters[2]).version.epoch, without.epoch);
    array.platters[1]->bad_rows = {first_row + 2000};
    auto fresh = array.make_platter();
    fresh->delay_nanos = delay_nanos;
    held.order(array.array->add_member(array.disk(fresh, "new"), Force::no));
    array.platters[2] = fresh;
    held.until(idle_now);
    idle(array);

    std::uint64_t epochs = 0, scrubs = 0, errors = 0, checkpoints = 0, bad = 0;
    for (std::size_t i = 1; i != held.all.size(); ++i) {
        const Configuration& before = held.all[i - 1];
        const Configuration& now = held.all[i];
        SCOPED_TRACE(now.version.text());
        if (now.version.epoch != before.version.epoch) {
            ++epochs;
            EXPECT_GT(now.version.epoch, before.version.epoch);
            EXPECT_EQ(now.version.revision, 0U);
            EXPECT_NE(parts_of(now), parts_of(before)) << "a new epoch for nothing";
            continue;
        }
        EXPECT_EQ(now.version.revision, before.version.revision + 1);
        EXPECT_EQ(parts_of(now), parts_of(before)) << "who takes part changed in a revision";
        scrubs += now.scrub != before.scrub;
        bad += now.bad_rows != before.bad_rows;
        for (std::uint32_t role = 0; role != 3; ++role) {
            const MemberRecord& at = *now.member(MemberIndex{role});
            const MemberRecord& was = *before.member(MemberIndex{role});
            errors += at.read_errors != was.read_errors;
            checkpoints += at.state == MemberState::rebuilding && at.rebuilt != was.rebuilt;
        }
    }
    EXPECT_EQ(epochs, 3U) << "the loss, the new member, the end of its rebuild";
    EXPECT_GE(scrubs, 1U);
    EXPECT_GE(errors, 1U);
    EXPECT_GE(checkpoints, 1U);
    EXPECT_GE(bad, 1U);
    for (const auto& platter : array.platters) {
        EXPECT_EQ(held_by(*platter).version, array.array->configuration().version);
    }
}

/// However slow one of them is.
TEST(EpochsAndRevisions, AreOnAllMembersBeforeAnythingIsAnswered) {
    for (std::size_t slow = 0; slow != 3; ++slow) {
        SCOPED_TRACE(slow);
        SimArray array({.members = 3, .stripes = 8});
        array.make();
        fill(array);
        ASSERT_TRUE(array.stop());
        array.platters[slow]->delay_nanos = 300'000'000;
        const auto expect_on = [&array](const std::vector<std::size_t>& members) {
            const EpochRevision now = array.array->configuration().version;
            EXPECT_EQ(now.revision, 1U);
            for (const std::size_t member : members) {
                EXPECT_EQ(held_by(*array.platters[member]).version, now) << member;
                EXPECT_EQ(promised(*array.platters[member]), now.epoch) << member;
            }
        };
        ASSERT_TRUE(array.open());
        expect_on({0, 1, 2});
        const std::size_t lost = (slow + 1) % 3;
        ASSERT_TRUE(
            array.loop().run_until_done(array.array->fail_member(std::to_string(lost), Force::no)));
        expect_on({slow, (slow + 2) % 3});
        array.expect_content();
    }
}

/// Whether it was ever in force or not: it says who may not be counted on.
TEST(StartsThatDied, TheNewestIsTakenOverWholeThoughOneMemberAloneHoldsIt) {
    SimArray array({.members = 3, .stripes = 8});
    array.make();
    fill(array);
    ASSERT_TRUE(array.stop());
    const EpochRevision before = held_by(*array.platters[1]).version;
    array.platters[1]->delay_nanos = 300'000'000;
    std::vector<std::unique_ptr<Disk>> disks;
    for (const std::size_t i : {0U, 1U}) {
        disks.push_back(array.disk(array.platters[i], array.path_of(i)));
    }
    ArrayOptions how;
    how.buffer_size = 16u << 20;
    std::optional<Checked<std::unique_ptr<Array>>> opened;
    array.loop().tasks().spawn(SimArray::keep(
        Array::open(array.loop().ready(), array.loop(), std::move(disks), how), &opened));
    while (held_by(*array.platters[0]).version == before) ASSERT_TRUE(array.loop().step());
    array.loop().crash([&opened] { opened.reset(); });
    EXPECT_GT(held_by(*array.platters[0]).version.epoch, before.epoch);
    EXPECT_EQ(held_by(*array.platters[1]).version, before);
    array.platters[1]->delay_nanos = 0;
    const auto again = array.open();
    ASSERT_TRUE(again) << again.error().text;
    EXPECT_EQ(array.state_of(0), MemberState::in_sync);
    EXPECT_EQ(array.state_of(1), MemberState::in_sync);
    EXPECT_EQ(array.state_of(2), MemberState::missing);
    array.expect_content();
}

/// What was resynced under another epoch does not count: it was written since.
TEST(CopyPutBackAtOnce, OfAMemberThatIsBeingRebuiltDoesNotGoOn) {
    SimArray array({.members = 3, .strip_size = 4096, .stripes = 3000});
    array.make();
    fill_in_pieces(array);
    auto fresh = array.make_platter();
    ASSERT_TRUE(array.loop().run_until_done(
        array.array->replace_member("2", array.disk(fresh, "new"), Force::no)));
    array.platters[2] = fresh;
    const auto rebuild_up_to = [&array](std::uint64_t stripe) {
        for (;;) {
            const auto walks = array.array->status().walks;
            if (!walks.empty() && walks.front().position / 4096 >= stripe) return;
            ASSERT_TRUE(array.loop().step());
        }
    };
    for (auto& platter : array.platters) platter->delay_nanos = 20'000'000;
    ASSERT_NO_FATAL_FAILURE(rebuild_up_to(100));
    ASSERT_TRUE(array.stop());
    const Buffer copy = array.platters[2]->content;
    ASSERT_TRUE(array.open());
    ASSERT_NO_FATAL_FAILURE(rebuild_up_to(1000));
    Buffer bytes = random_bytes(array.loop().rng(), 1u << 20);
    ASSERT_TRUE(array.write(0, bytes));
    ASSERT_TRUE(array.stop());
    const Configuration last = held_by(*array.platters[2]);
    EXPECT_EQ(last.member(MemberIndex{2})->state, MemberState::rebuilding);
    EXPECT_GE(raw(last.member(MemberIndex{2})->rebuilt), 900U);
    array.platters[2]->content = copy;
    const auto opened = array.open();
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_EQ(array.state_of(2), MemberState::missing);
    array.expect_content();
}

TEST(Start, MetadataThatCannotBeReadAtOnceIsReadAgain) {
    SimArray array({.members = 3, .stripes = 8});
    array.make();
    fill(array);
    ASSERT_TRUE(array.stop());
    array.platters[1]->read_fails_one_in = 1;
    array.loop().after(500'000'000, [&array] { array.platters[1]->read_fails_one_in = 0; });
    const auto opened = array.open();
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_EQ(array.state_of(1), MemberState::in_sync);
    array.expect_content();
}

TEST(Start, ReadOnlyPromisesNothing) {
    SimArray array({.members = 3, .stripes = 8});
    array.make();
    fill(array);
    ASSERT_TRUE(array.stop());
    std::vector<Buffer> before;
    for (const auto& platter : array.platters) before.push_back(platter->content);
    ASSERT_TRUE(array.open_readonly());
    array.expect_content();
    ASSERT_TRUE(array.stop());
    for (std::size_t i = 0; i != before.size(); ++i) {
        EXPECT_EQ(
            std::memcmp(before[i].data(), array.platters[i]->content.data(), before[i].size()), 0);
    }
}

}  // namespace
}  // namespace braid
