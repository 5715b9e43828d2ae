// SPDX-License-Identifier: BSD-3-Clause
// Arrays that crash, and what is torn by it: for the tests of recovery, and of rows that cannot be
// known.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

#include "tests/engine/array_fixture.h"

namespace braid::sim {

/// What of a torn write is on the members.
enum class Reached { data, parity };

class Recovery : public testing::Test {
  protected:
    static constexpr std::uint64_t region = 64u << 10;

    static SimArrayOptions shape(Level level, std::uint64_t seed) {
        SimArrayOptions options;
        options.seed = seed;
        options.level = level;
        options.members = level == Level::raid6 ? 5 : 4;  // three data strips
        options.strip_size = 16u << 10;
        options.stripes = 60;
        return options;
    }

    void start(SimArrayOptions options) {
        sim = std::make_unique<SimArray>(options);
        sim->create();
        sim->intent.region = region;
        ASSERT_TRUE(sim->open());
        sim->come_to_rest();
        for (std::uint64_t at = 0; at != sim->size(); at += sim->size() / 10) {
            Buffer data = random_bytes(sim->loop().rng(), sim->size() / 10);
            ASSERT_TRUE(sim->write(at, data));
        }
        flush();
        sim->loop().run_for(seconds(20));
        ASSERT_EQ(sim->array->status().intent.stripes_marked, 0U);
    }
    void flush() { ASSERT_TRUE(sim->flush()); }
    std::string text_of_event(const std::string& kind) const {
        const auto at = std::ranges::find(sim->events, kind);
        return at == sim->events.end()
                   ? ""
                   : sim->texts[static_cast<std::size_t>(at - sim->events.begin())];
    }
    std::uint64_t stripe_size() const { return sim->geometry().stripe_data_size(); }
    /// Bytes of data strip `role` of `stripe`, from its start.
    std::uint64_t offset_of(std::uint64_t stripe, std::uint32_t role) const {
        return stripe * stripe_size() + role * sim->geometry().strip_size;
    }
    std::uint32_t member_of(std::uint64_t stripe, std::uint32_t role) const {
        return raw(sim->geometry().member_of(StripeIndex{stripe}, Role{role}));
    }
    std::vector<std::size_t> all_but(std::vector<std::uint32_t> lost) const {
        std::vector<std::size_t> left;
        for (std::size_t i = 0; i != sim->platters.size(); ++i) {
            if (std::ranges::find(lost, i) == lost.end()) left.push_back(i);
        }
        return left;
    }
    /// The first row of a data strip is written, and the array ends when only the data, or only the
    /// parity, has reached the members. The model has what the data strip holds then.
    void tear(std::uint64_t stripe, std::uint32_t role, Reached reached) {
        std::vector<Buffer> before;
        for (auto& platter : sim->platters) before.emplace_back(platter->content.view());
        Asked torn;
        sim->ask(torn, IoKind::write, offset_of(stripe, role),
                 random_bytes(sim->loop().rng(), row_size));
        ASSERT_NO_FATAL_FAILURE(sim->wait_for(torn));
        sim->kill();
        const auto& geometry = sim->geometry();
        for (std::uint32_t m = 0; m != geometry.member_count; ++m) {
            const bool is_data = m == member_of(stripe, role);
            if (is_data == (reached == Reached::data)) continue;
            const std::uint64_t at =
                SimArray::data_offset + geometry.strip_offset(StripeIndex{stripe}).value;
            std::memcpy(sim->platters[m]->content.data() + at, before[m].data() + at,
                        geometry.strip_size);
        }
        if (reached == Reached::data) {
            std::memcpy(sim->model.data() + torn.request.offset.value, torn.data.data(), row_size);
        }
    }
    /// Marks in `stripes` stripes, every second one, none of them torn.
    void mark_every_second(std::uint64_t stripes) {
        for (std::uint64_t s = 0; s < stripes; s += 2) {
            Buffer row = random_bytes(sim->loop().rng(), row_size);
            ASSERT_TRUE(sim->write(s * stripe_size(), row));
        }
    }
    /// A new member takes the place of one that is lost.
    void rebuild_onto_new(std::uint32_t lost) {
        auto platter = sim->make_platter();
        sim->platters[lost] = platter;
        ASSERT_TRUE(sim->loop().run_until_done(
            sim->array->add_member(sim->disk(platter, SimArray::path_of(lost)), Force::yes)));
        sim->come_to_rest();
    }
    /// Row 1 of data strip `role` of stripe 30, on its member.
    std::uint64_t unreadable_row() const {
        return (SimArray::data_offset + 30 * 16384) / row_size + 1;
    }
    /// The member with data strip 0 of stripe 30 is rebuilt while a row of strip 1 cannot be read:
    /// its own row is void then, the other is to be tried again.
    void rebuild_beside_unreadable_row() {
        const std::uint32_t lost = member_of(30, 0);
        ASSERT_TRUE(
            sim->loop().run_until_done(sim->array->fail_member(std::to_string(lost), Force::no)));
        sim->platters[member_of(30, 1)]->bad_rows.insert(unreadable_row());
        auto platter = sim->make_platter();
        ASSERT_TRUE(sim->loop().run_until_done(sim->array->replace_member(
            std::to_string(lost), sim->disk(platter, SimArray::path_of(lost)), Force::no)));
        sim->platters[lost] = platter;
        sim->come_to_rest();
    }
    Errc read_error(std::uint64_t offset, std::uint64_t size) {
        Buffer into(size);
        const auto result = sim->read(offset, into);
        return result ? Errc::invalid : result.error().code;
    }
    bool reads_as_model(std::uint64_t offset, std::uint64_t size) {
        Buffer into(size);
        return sim->read(offset, into) &&
               std::memcmp(into.data(), sim->model.data() + offset, size) == 0;
    }
    std::unique_ptr<SimArray> sim;
};

}  // namespace braid::sim
