// SPDX-License-Identifier: BSD-3-Clause
// Every crash point of the metadata. Goal: wherever the power is cut while configurations are
// written, the array assembles again, with every member that it can have, to a state that is true.
// Method: a server's life in metadata (start, lose a member, stop) with the power cut at operation
// n, for every n; sectors that were not flushed stay or go at random; then the same again from
// there, so that crashes fall into the recovery from crashes.
#include <gtest/gtest.h>

#include <algorithm>

#include "engine/metadata/config_check.h"
#include "tests/engine/array_kit.h"

namespace braid {
namespace {

using test::Kit;
using test::kit_configuration;

void cut_power(Kit& kit, Rng& rng) {
    for (const auto& disk : kit.disks) disk->lose_unflushed(rng);
    *kit.power = test::Power{};
}

/// Starts, fails member 1 if told so, stops. False: the power went, after `acknowledged` told
/// whether in_use, the loss and the stop were durable.
struct Life {
    bool used{false};  // in force: data may have been written
    bool lost{false};  // in force: member 1 missed data
    bool stopped{false};
};
bool live(Kit& kit, bool loses, Life& life) {
    if (!kit.start()) return false;
    life.used = true;
    if (loses && kit.now.members[1].state == MemberState::in_sync) {
        kit.now.members[1].state = MemberState::faulty;
        if (!kit.step()) return false;
        life.lost = true;
    }
    if (!kit.stop()) return false;
    life.stopped = true;
    return true;
}

void check(const Kit& kit, const Checked<Assembly>& assembly, const Life& life) {
    ASSERT_TRUE(assembly) << assembly.error().text;
    const Configuration& c = assembly->configuration;
    EXPECT_TRUE(check_configuration(c).has_value());
    for (std::size_t at = 0; at != kit.disks.size(); ++at) {
        const MemberPlace& place = assembly->places[at];
        if (at == 1) {
            if (life.lost) {
                EXPECT_EQ(place.place, Place::stale) << "a member that missed data";
            }
            continue;
        }
        EXPECT_EQ(place.place, Place::member) << at << ": " << place.why;
    }
    // Data may have been written, and no stop was in force: then parity is in doubt.
    if (life.used && !life.stopped) {
        EXPECT_TRUE(assembly->unclean || c.member(MemberIndex{1})->state != MemberState::in_sync ||
                    !kit.now.in_use);
    }
    if (life.stopped) {
        EXPECT_FALSE(assembly->unclean);
    }
}

void crash_everywhere(Level level, std::uint32_t count, bool loses) {
    SCOPED_TRACE(testing::Message() << "RAID-" << static_cast<int>(level) << " loses " << loses);
    Rng rng(count);
    bool finished = false;
    for (std::uint64_t point = 0; !finished; ++point) {
        SCOPED_TRACE(testing::Message() << "crash at operation " << point);
        Kit kit(kit_configuration(level, count));
        Life life;
        kit.power->left = point;
        finished = live(kit, loses, life);
        cut_power(kit, rng);
        // Unclean and degraded is refused, rightly, and forced here.
        const bool degraded_in_use = loses && !life.stopped;
        auto assembly = kit.assemble(kit.all(), Force{degraded_in_use});
        check(kit, assembly, life);
        if (!assembly || testing::Test::HasFailure()) return;
        // Again, from there, with a crash in the recovery.
        kit.adopt(*assembly, kit.all());
        if (kit.now.lost_count() != 0) continue;
        const bool first_was_clean = !assembly->unclean;
        Life second;
        kit.power->left = rng.below(8 * count);
        live(kit, false, second);
        cut_power(kit, rng);
        const auto again = kit.assemble();
        check(kit, again, second);
        if (!again || testing::Test::HasFailure()) return;
        EXPECT_TRUE(again->unclean || second.stopped || first_was_clean || !kit.now.in_use ||
                    again->configuration.resynced.has_value());
    }
}

TEST(MetadataCrash, EveryPointOfALife) {
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        for (const bool loses : {false, true}) crash_everywhere(level, 4, loses);
    }
}

TEST(MetadataCrash, ManyCrashesInARowNeverMakeAMemberStale) {
    for (std::uint64_t seed = 1; seed != 60; ++seed) {
        SCOPED_TRACE(testing::Message() << "seed " << seed);
        Rng rng(seed);
        Kit kit(kit_configuration(Level::raid5, 4));
        for (int round = 0; round != 8; ++round) {
            kit.power->left = rng.below(20);
            if (kit.start()) kit.stop();
            cut_power(kit, rng);
            const auto assembly = kit.assemble();
            ASSERT_TRUE(assembly) << assembly.error().text;
            for (const MemberPlace& place : assembly->places) {
                EXPECT_EQ(place.place, Place::member) << place.why;
            }
            EXPECT_FALSE(assembly->adopted);
            if (HasFailure()) return;
            kit.adopt(*assembly, kit.all());
        }
    }
}

TEST(MetadataCrash, InTheFirstWriteAfterAnAdoption) {
    bool finished = false;
    for (std::uint64_t point = 0; !finished; ++point) {
        SCOPED_TRACE(testing::Message() << "crash at operation " << point);
        Rng rng(point + 1);
        Kit kit(kit_configuration(Level::raid5, 4));
        for (std::size_t at = 0; at != 4; ++at) {  // as mdadm leaves it; events one apart, too
            std::memset(kit.disks[at]->content().data() + slots_offset, 0,
                        slots_end - slots_offset);
            test::change_superblock(*kit.disks[at],
                                    [at](MdSuperblock& sb) { sb.events = at == 2 ? 19 : 20; });
        }
        const auto adopted = kit.assemble();
        ASSERT_TRUE(adopted) << adopted.error().text;
        EXPECT_TRUE(adopted->adopted);
        kit.adopt(*adopted, kit.all());
        kit.power->left = point;
        finished = kit.start();
        cut_power(kit, rng);
        const auto assembly = kit.assemble();
        ASSERT_TRUE(assembly) << assembly.error().text;
        for (const MemberPlace& place : assembly->places) {
            EXPECT_EQ(place.place, Place::member) << place.path << ": " << place.why;
        }
        if (HasFailure()) return;
    }
}

}  // namespace
}  // namespace braid
