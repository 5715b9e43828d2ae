// SPDX-License-Identifier: BSD-3-Clause
// Metadata that cannot be read for a moment is read again before its member counts as absent, by
// whoever looks at all members: a start, nbdkit before it forks, the commands.
#include <gtest/gtest.h>

#include <memory>
#include <utility>
#include <vector>

#include "engine/assembly/assembly.h"
#include "engine/metadata/member_metadata.h"
#include "tests/engine/array_fixture.h"

namespace braid {
namespace {

using sim::SimArray;

/// Members that cannot be read for half a second, so that RAID-5 of three lacks too many.
void take_reads_away(SimArray& array) {
    for (const std::size_t at : {0U, 1U}) array.platters[at]->read_fails_one_in = 1;
    array.loop().after(500'000'000, [&array] {
        for (const std::size_t at : {0U, 1U}) array.platters[at]->read_fails_one_in = 0;
    });
}

std::vector<MemberImage> images_of(SimArray& array) {
    std::vector<std::unique_ptr<Disk>> disks;
    std::vector<Disk*> all;
    for (std::size_t at = 0; at != array.platters.size(); ++at) {
        disks.push_back(array.disk(array.platters[at], SimArray::path_of(at)));
        all.push_back(disks.back().get());
    }
    return array.loop().run_until_done(
        read_member_images(array.loop().ready(), array.loop(), std::move(all)));
}

TEST(Patience, TwoOfThreeMembersThatCannotBeReadAtOnceAreInSync) {
    SimArray array({.members = 3, .stripes = 8});
    array.make();
    Buffer bytes = sim::random_bytes(array.loop().rng(), array.size());
    ASSERT_TRUE(array.write(0, bytes, Fua::yes));
    ASSERT_TRUE(array.stop());
    take_reads_away(array);
    const auto opened = array.open();
    ASSERT_TRUE(opened) << opened.error().text;
    for (const std::uint32_t at : {0U, 1U, 2U}) EXPECT_EQ(array.state_of(at), MemberState::in_sync);
    array.expect_content();
}

// As it is looked at before anything is opened: by nbdkit before it forks, and by the commands.
TEST(Patience, ALookIsAsPatientAsAStart) {
    SimArray array({.members = 3, .stripes = 8});
    array.make();
    ASSERT_TRUE(array.stop());
    take_reads_away(array);
    const auto began = array.loop().now();
    const auto found = assemble(images_of(array), {});
    ASSERT_TRUE(found) << found.error().text;
    EXPECT_EQ(found->configuration.lost_count(), 0U);
    EXPECT_LT(array.loop().now().value - began.value, seconds(1).value) << "one after the other";
}

// A disk that fails one read in five fails one of nearly each image.
TEST(Patience, EachReadOfMetadataHasItsOwnTries) {
    for (std::uint64_t seed = 1; seed != 11; ++seed) {
        SimArray array({.seed = seed, .members = 3, .stripes = 8});
        array.make();
        ASSERT_TRUE(array.stop());
        for (auto& platter : array.platters) platter->read_fails_one_in = 5;
        for (const MemberImage& image : images_of(array)) EXPECT_EQ(image.os_error, 0) << seed;
        for (auto& platter : array.platters) platter->read_fails_one_in = 0;
    }
}

TEST(Patience, AMemberThatStaysUnreadableIsLeftOutInTwoSeconds) {
    SimArray array({.members = 3, .stripes = 8});
    array.make();
    ASSERT_TRUE(array.stop());
    for (const std::size_t at : {0U, 1U}) array.platters[at]->dead = true;
    const auto began = array.loop().now();
    const std::vector<MemberImage> images = images_of(array);
    EXPECT_LT(array.loop().now().value - began.value, seconds(2).value);
    EXPECT_NE(images[0].os_error, 0);
    EXPECT_EQ(images[2].os_error, 0);
}

}  // namespace
}  // namespace braid
