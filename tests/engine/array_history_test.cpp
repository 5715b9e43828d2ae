// SPDX-License-Identifier: BSD-3-Clause
// Two histories of one array: RAID-6 of four went on with two of its members, and with the other two by
// force. Nobody chooses between them, and none is overwritten, unless that is asked for.
#include <gtest/gtest.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/assembly/assembly.h"
#include "engine/metadata/member_metadata.h"
#include "tests/engine/loss_fixture.h"

namespace braid::sim {
namespace {

using Members = std::vector<std::size_t>;

class TwoHistories : public Loss {
  protected:
    void SetUp() override { begin(seconds(100)); }
    /// The second one begins so much later.
    void begin(Nanos later) {
        SimArrayOptions options = shape(Level::raid6, 3);
        options.members = 4;
        start(options);
        stop();
        before_ = sim->model;
        go_on({0, 1}, Force::no);
        first_ = sim->model;
        sim->model = before_;
        sim->loop().run_for(later);
        ASSERT_FALSE(sim->open({2, 3})) << "without member 0 two are not enough";
        go_on({2, 3}, Force::yes);
        second_ = sim->model;
    }
    void stop() { ASSERT_TRUE(sim->stop()); }
    void go_on(const Members& members, Force force) {
        const auto opened = sim->open(members, force);
        ASSERT_TRUE(opened) << opened.error().text;
        sim->come_to_rest();
        Rng& rng = sim->loop().rng();
        for (int i = 0; i != 20; ++i) {
            Buffer data = random_bytes(rng, row_size * (1 + rng.below(8)));
            ASSERT_TRUE(sim->write(rng.below(sim->size() / row_size - 8) * row_size, data));
        }
        stop();
    }
    void expect_history(const std::vector<std::byte>& content) {
        sim->model = content;
        sim->expect_content();
    }
    Uuid lineage() { return sim->array->status().configuration.lineage; }
    Checked<Unit> add(std::uint32_t member, Force force) {
        return sim->loop().run_until_done(sim->array->add_member(
            sim->disk(sim->platters[member], SimArray::path_of(member)), force));
    }
    std::vector<Buffer> contents() const {
        std::vector<Buffer> all;
        for (const auto& platter : sim->platters) all.emplace_back(platter->content.view());
        return all;
    }
    void expect_untouched(const std::vector<Buffer>& before, const Members& members) const {
        for (const std::size_t at : members) {
            const Buffer& now = sim->platters[at]->content;
            EXPECT_EQ(std::memcmp(now.data(), before[at].data(), now.size()), 0) << at;
        }
    }

    std::vector<std::byte> before_, first_, second_;
};

TEST_F(TwoHistories, NobodyChoosesBetweenThem) {
    const auto before = contents();
    for (const Members& members :
         {Members{0, 1, 2, 3}, Members{0, 1, 2}, Members{0, 3}, Members{1, 2, 3}}) {
        const auto opened = sim->open(members);
        ASSERT_FALSE(opened);
        EXPECT_NE(opened.error().text.find("two histories"), std::string::npos)
            << opened.error().text;
        expect_untouched(before, {0, 1, 2, 3});
    }
    ASSERT_TRUE(sim->open({0, 1}));
    EXPECT_EQ(lineage(), Uuid{});
    expect_history(first_);
    stop();
}

TEST_F(TwoHistories, TheOneByForceIsWholeToo) {
    ASSERT_TRUE(sim->open({2, 3})) << "it needs no force any more";
    EXPECT_NE(lineage(), Uuid{});
    expect_history(second_);
    stop();
}

TEST_F(TwoHistories, NoneIsOverwrittenUnasked) {
    const auto before = contents();
    ASSERT_TRUE(sim->open({0, 1}));
    for (const std::uint32_t member : {2U, 3U}) {
        const auto added = add(member, Force::no);
        ASSERT_FALSE(added);
        EXPECT_NE(added.error().text.find("started by force"), std::string::npos)
            << added.error().text;
        const auto replaced = sim->loop().run_until_done(sim->array->replace_member(
            std::to_string(member), sim->disk(sim->platters[member], SimArray::path_of(member)),
            Force::no));
        ASSERT_FALSE(replaced);
        EXPECT_NE(replaced.error().text.find("started by force"), std::string::npos)
            << replaced.error().text;
    }
    expect_untouched(before, {2, 3});
    expect_history(first_);
    for (const std::uint32_t member : {2U, 3U}) {
        const auto added = add(member, Force::yes);
        ASSERT_TRUE(added) << added.error().text;
        sim->come_to_rest();
    }
    EXPECT_EQ(sim->array->status().health, Health::clean);
    expect_history(first_);
    stop();
    sim->expect_parity();
    ASSERT_TRUE(sim->open()) << "there is one history now";
    expect_history(first_);
    stop();
}

// Who takes orders, and when, is told; braid examine only looks.
TEST_F(TwoHistories, TheWayOutOfWhoIsLeftOutIsOneThatThereIs) {
    std::vector<MemberImage> images;
    for (std::size_t i = 0; i != sim->platters.size(); ++i) {
        const auto disk = sim->disk(sim->platters[i], SimArray::path_of(i));
        images.push_back(sim->loop().run_until_done(read_member_image(*disk)));
    }
    const std::map<Purpose, std::string> whens{
        {Purpose::serve, ""},
        {Purpose::serve_unasked, "start the server with socket=PATH, then "},
        {Purpose::read, "when the array is served for writing, "},
        {Purpose::look, "when the array is served, "}};
    for (const auto& [purpose, when] : whens) {
        const auto assembly = assemble(images, {.force = true, .purpose = purpose});
        ASSERT_TRUE(assembly) << assembly.error().text;
        EXPECT_EQ(assembly->places[0].place, Place::stale);
        EXPECT_EQ(assembly->places[0].why,
                  "it went on by itself, as one of two histories; " + when +
                      "take it in with: braid member add --force m0, which gives up what it holds");
    }
}

TEST_F(TwoHistories, ByForceTheOneThatBeganLaterStays) {
    const auto opened = sim->open({}, Force::yes);
    ASSERT_TRUE(opened) << opened.error().text;
    EXPECT_NE(lineage(), Uuid{});
    EXPECT_EQ(sim->state_of(0), MemberState::missing);
    expect_history(second_);
    stop();
}

TEST_F(TwoHistories, AMixOfThemIsNoArray) {
    for (const Members& members : {Members{0, 2}, Members{1, 3}}) {
        EXPECT_FALSE(sim->open(members, Force::yes));
    }
}

/// Both have given their epochs the same numbers.
TEST_F(TwoHistories, NobodyChoosesBetweenTwoOfOneMoment) {
    begin(Nanos{});
    const auto before = contents();
    for (const Members& members :
         {Members{0, 1, 2, 3}, Members{0, 1, 2}, Members{0, 3}, Members{1, 2, 3}}) {
        ASSERT_FALSE(sim->open(members));
        expect_untouched(before, {0, 1, 2, 3});
    }
    ASSERT_TRUE(sim->open({0, 1}));
    expect_history(first_);
    for (const std::uint32_t member : {2U, 3U}) ASSERT_FALSE(add(member, Force::no));
    stop();
}

/// Who was only away when others were started by force has no history of its own. But what it missed is
/// not known.
TEST_F(Loss, AStartByForceIsNotAnotherHistoryOfWhoWasAway) {
    SimArrayOptions options = shape(Level::raid6, 4);
    options.members = 4;
    start(options);
    ASSERT_TRUE(sim->stop());
    ASSERT_TRUE(sim->open({2, 3}, Force::yes));
    Buffer data = random_bytes(sim->loop().rng(), 5 * row_size);
    ASSERT_TRUE(sim->write(7 * row_size, data));
    ASSERT_TRUE(sim->stop());
    const auto opened = sim->open();
    ASSERT_TRUE(opened) << opened.error().text;
    ASSERT_FALSE(fail(2, Force::no)) << "it breaks ties now";
    sim->events.clear();
    sim->texts.clear();
    for (const std::uint32_t member : {0U, 1U}) {
        const auto added = add_back(member);
        ASSERT_TRUE(added) << added.error().text;
        sim->come_to_rest();
        const std::string how = text_of_event("rebuild_received");
        EXPECT_NE(how.find("is rebuilt whole: the array was started by force since it left"),
                  std::string::npos)
            << how;
    }
    sim->expect_content();
    ASSERT_TRUE(sim->stop());
    sim->expect_parity();
}

}  // namespace
}  // namespace braid::sim
