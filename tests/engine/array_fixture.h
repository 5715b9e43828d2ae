// SPDX-License-Identifier: BSD-3-Clause
// A whole array on SimDisks, for tests: made, opened, asked, stopped; and a model of what it must
// hold.
#pragma once

#include <gtest/gtest.h>
#include <malloc.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/array.h"
#include "engine/assembly/create.h"
#include "engine/layout/geometry.h"
#include "engine/metadata/areas.h"
#include "engine/metadata/intent_record.h"
#include "engine/serving/requests.h"
#include "parity/parity.h"
#include "tests/engine/fua.h"
#include "tests/sim/sim_create.h"
#include "tests/sim/sim_disk.h"

namespace braid::sim {

struct SimArrayOptions {
    std::uint64_t seed{1};
    Level level{Level::raid5};
    Layout layout{Layout::left_symmetric};
    std::uint32_t members{4};
    std::uint64_t strip_size{16u << 10};
    std::uint64_t stripes{24};
    std::uint32_t memory_align{1};
    bool zero_fast{true};
    std::uint32_t spares{0};
    bool witness{false};  // it is small, and the last of the platters
    bool assume_clean{false};
};

/// Arrays come and go by the hundred: their memory is kept, and not given back to the system.
inline const bool memory_is_kept =
    mallopt(M_MMAP_THRESHOLD, 1 << 30) != 0 && mallopt(M_TRIM_THRESHOLD, 1 << 30) != 0;

/// A request that nobody waits for yet. It stays where it is until it is done, or the array ends.
struct Asked {
    IoRequest request;
    Buffer data;
    bool done{false};
};

class SimArray {
  public:
    static constexpr std::uint64_t data_offset = 4u << 20;

    explicit SimArray(SimArrayOptions options) : options_(options), loop_(options.seed) {
        for (std::uint32_t i = 0; i != options.members + options.spares; ++i) {
            platters.push_back(make_platter());
        }
        if (options.witness) {
            platters.push_back(std::make_shared<SimPlatter>(data_offset + options.strip_size));
        }
    }
    ~SimArray() {
        if (array && array->status().health != Health::failed) {
            EXPECT_TRUE(stop());
        } else if (array) {
            EXPECT_FALSE(stop());
        }
    }

    std::shared_ptr<SimPlatter> make_platter() {
        auto platter =
            std::make_shared<SimPlatter>(data_offset + options_.stripes * options_.strip_size);
        platter->memory_align = options_.memory_align;
        platter->zero_fast = options_.zero_fast;
        return platter;
    }
    std::unique_ptr<SimDisk> disk(const std::shared_ptr<SimPlatter>& platter, std::string path) {
        return std::make_unique<SimDisk>(loop_, platter, std::move(path));
    }
    static std::string path_of(std::size_t index) { return "m" + std::to_string(index); }

    void create() {
        std::vector<std::unique_ptr<SimDisk>> disks;
        for (std::size_t i = 0; i != platters.size(); ++i) {
            disks.push_back(disk(platters[i], path_of(i)));
        }
        CreateOptions how;
        how.level = options_.level;
        how.layout = options_.layout;
        how.strip_size = options_.strip_size;
        how.name = "sim";
        how.assume_clean = options_.assume_clean;
        how.wall_seconds = loop_.wall_seconds();
        const Configuration created =
            create_on(loop_, disks, options_.members, how, WithWitness{options_.witness});
        geometry_ = Geometry::of(created);
        model.assign(created.data_size(), std::byte{0});
    }

    /// Made by the same options, and stopped: takes over what it left, in place of create().
    void copy_from(const SimArray& made) {
        for (std::size_t i = 0; i != platters.size(); ++i) {
            copy_used(platters[i]->content, made.platters[i]->content);
            platters[i]->space = made.platters[i]->space;
        }
        geometry_ = made.geometry_;
        model = made.model;
    }
    /// Of a member's bytes: elsewhere one node never writes.
    static void copy_used(Buffer& to, const Buffer& from) {
        constexpr std::uint64_t intent_end = slots_end + intent_slots * intent_slot_size;
        std::memcpy(to.data(), from.data(), intent_end);
        std::memcpy(to.data() + promises_offset, from.data() + promises_offset,
                    promises_end - promises_offset);
        std::memcpy(to.data() + data_offset, from.data() + data_offset, from.size() - data_offset);
    }

    /// Made, opened, and nothing runs in the background.
    void make() {
        create();
        ASSERT_TRUE(open());
        come_to_rest();
    }
    /// Opens the array from the platters at `indexes`; all of them by default.
    Checked<Unit> open(std::vector<std::size_t> indexes = {}, Force force = Force::no) {
        ArrayOptions how;
        how.force = force == Force::yes;
        return open_as(std::move(indexes), how);
    }
    Checked<Unit> open_readonly() {
        ArrayOptions how;
        how.readonly = true;
        return open_as({}, how);
    }
    Checked<Unit> open_as(std::vector<std::size_t> indexes, ArrayOptions how) {
        if (indexes.empty()) {
            for (std::size_t i = 0; i != platters.size(); ++i) indexes.push_back(i);
        }
        std::vector<std::unique_ptr<Disk>> disks;
        for (const std::size_t i : indexes) disks.push_back(disk(platters[i], path_of(i)));
        how.orders = orders;
        how.seed = loop_.rng().next();
        how.intent = intent;
        how.rebuild_delay = rebuild_delay;
        how.member_timeout = member_timeout;
        how.buffer_size = 16u << 20;
        how.on_wrong = [this](const std::string& text) { wrong.push_back(text); };
        how.on_event = [this](const ArrayEvent& event) {
            events.push_back(event.kind);
            texts.push_back(event.text);
            if (getenv("BRAID_TEST_VERBOSE") != nullptr) {
                std::printf("%s: %s\n", event.kind.c_str(), event.text.c_str());
            }
        };
        auto opened =
            loop_.run_until_done(Array::open(loop_.ready(), loop_, std::move(disks), how));
        if (!opened) return opened.error();
        array = std::move(*opened);
        return Unit{};
    }
    /// A start with these, all by default, in which the power goes after so many steps of the loop;
    /// false: it was done before.
    bool die_in_start(std::uint64_t steps, std::vector<std::size_t> indexes = {}) {
        if (indexes.empty()) {
            for (std::size_t i = 0; i != platters.size(); ++i) indexes.push_back(i);
        }
        std::vector<std::unique_ptr<Disk>> disks;
        for (const std::size_t i : indexes) disks.push_back(disk(platters[i], path_of(i)));
        ArrayOptions how;
        how.seed = steps;
        how.buffer_size = 16u << 20;
        std::optional<Checked<std::unique_ptr<Array>>> opened;
        loop_.tasks().spawn(
            keep(Array::open(loop_.ready(), loop_, std::move(disks), how), &opened));
        while (!opened && steps != 0 && loop_.step()) --steps;
        const bool died = !opened;
        loop_.crash([&opened] { opened.reset(); });
        for (auto& platter : platters) platter->cut_power(loop_.rng());
        return died;
    }
    Result<void> stop() {
        const auto result = loop_.run_until_done(array->stop());
        array.reset();
        return result;
    }

    /// Only the process dies: the members' caches are as they were. Afterwards open() again.
    void kill() {
        loop_.crash([this] { array.reset(); });
    }
    /// The power goes, and with it what members had not made durable. Afterwards open() again.
    void crash() {
        kill();
        for (auto& platter : platters) platter->cut_power(loop_.rng());
    }

    /// The power goes when the next configuration lies in some member's cache. It stays there, and of
    /// the data nothing that was not flushed.
    void crash_when_configured() {
        const auto is_metadata = [](const SimPlatter::Write& write) {
            return write.offset >= slots_offset && write.offset < slots_end;
        };
        while (std::ranges::none_of(platters, [&](const auto& platter) {
            return std::ranges::any_of(platter->unflushed, is_metadata);
        })) {
            ASSERT_TRUE(loop_.step());
        }
        kill();
        for (auto& platter : platters) {
            platter->cut_power([&](std::size_t write, std::uint64_t) {
                return platter->unflushed[write].offset < data_offset;
            });
        }
    }

    /// Until it has begun.
    Checked<Unit> scrub(ScrubMode mode) { return loop().run_until_done(array->start_scrub(mode)); }
    Result<void> run(IoRequest& request) {
        return loop_.run_until_done(run_one(array.get(), &request));
    }
    static Task<void> keep(Task<Checked<std::unique_ptr<Array>>> task,
                           std::optional<Checked<std::unique_ptr<Array>>>* opened) {
        opened->emplace(co_await task);
    }
    static Task<Result<void>> run_one(Array* array, IoRequest* request) {
        RunRequest run(*array, *request);
        co_return co_await run;
    }
    Result<void> write(std::uint64_t offset, Buffer& data, Fua fua = Fua::no) {
        IoRequest request;
        request.kind = IoKind::write;
        request.offset = {offset};
        request.size = data.size();
        request.data = data.data();
        request.fua = fua == Fua::yes;
        const auto result = run(request);
        if (result) std::memcpy(model.data() + offset, data.data(), data.size());
        return result;
    }
    Result<void> flush() {
        IoRequest request;
        request.kind = IoKind::flush;
        return run(request);
    }
    /// Reads into all of `data`, or writes it; the model does not learn of it.
    void ask(Asked& asked, IoKind kind, std::uint64_t offset, Buffer data) {
        asked.data = std::move(data);
        ask(asked, kind, offset, asked.data.size());
    }
    /// With asked.data, where the kind has any.
    void ask(Asked& asked, IoKind kind, std::uint64_t offset, std::uint64_t size) {
        asked.done = false;
        asked.request = {};
        asked.request.kind = kind;
        asked.request.offset = {offset};
        asked.request.size = size;
        asked.request.data = asked.data.data();
        asked.request.user = &asked;
        asked.request.done = [](IoRequest& request) {
            static_cast<Asked*>(request.user)->done = true;
        };
        array->submit(asked.request);
    }
    void wait_for(const Asked& asked) {
        while (!asked.done) ASSERT_TRUE(loop_.step());
    }
    Result<void> read(std::uint64_t offset, Buffer& into) {
        IoRequest request;
        request.offset = {offset};
        request.size = into.size();
        request.data = into.data();
        return run(request);
    }
    void expect_content() {
        constexpr std::uint64_t piece_max = 4u << 20;
        for (std::uint64_t at = 0; at < model.size(); at += piece_max) {
            Buffer piece(std::min<std::uint64_t>(piece_max, model.size() - at));
            const auto result = read(at, piece);
            ASSERT_TRUE(result) << result.error().text();
            if (std::memcmp(piece.data(), model.data() + at, piece.size()) == 0) continue;
            for (std::uint64_t i = 0; i != piece.size(); ++i) {
                ASSERT_EQ(piece.data()[i], model[at + i]) << "first difference at byte " << at + i;
            }
        }
    }
    /// Every stripe's P and Q on the platters, past the array.
    void expect_parity() {
        for (std::uint64_t s = 0; s != options_.stripes; ++s) {
            const StripeIndex stripe{s};
            std::vector<const std::byte*> data;
            auto strip = [&](Role role) {
                return platters[raw(geometry_.member_of(stripe, role))]->content.data() +
                       data_offset + geometry_.strip_offset(stripe).value;
            };
            for (const Role role : geometry_.data_roles()) data.push_back(strip(role));
            const ByteView p{strip(geometry_.p()), options_.strip_size};
            ASSERT_TRUE(
                geometry_.parities() == 2
                    ? parity::matches_pq(p, {strip(geometry_.q()), options_.strip_size}, data)
                    : parity::matches_p(p, data))
                << "stripe " << s;
        }
    }
    /// Lets the array work until nothing runs in the background.
    void come_to_rest() {
        for (int i = 0; i != 10'000; ++i) {
            loop_.run_for(millis(20));
            const ArrayStatus now = array->status();
            const bool walks = !now.walks.empty() || now.configuration.scrub;
            bool rebuilding = false;
            for (const auto& member : now.members) {
                rebuilding |= member.record.state == MemberState::rebuilding;
            }
            const bool recovers = now.recovery && now.recovery->stripes_left != 0;
            if (!walks && !rebuilding && !recovers && !now.configuration.resynced) return;
        }
        FAIL() << "does not come to rest";
    }
    MemberState state_of(std::uint32_t role) const {
        for (const auto& member : array->status().members) {
            if (member.record.role == MemberIndex{role}) return member.record.state;
        }
        return MemberState::missing;
    }
    bool has_event(const std::string& kind) const {
        return std::ranges::find(events, kind) != events.end();
    }
    std::uint64_t size() const { return model.size(); }
    SimLoop& loop() { return loop_; }
    const Geometry& geometry() const { return geometry_; }

    std::vector<std::shared_ptr<SimPlatter>> platters;
    std::unique_ptr<Array> array;
    std::vector<std::byte> model;
    std::vector<std::string> events;
    std::vector<std::string> texts;  // of the events
    std::vector<std::string> wrong;  // that scrubs found
    IntentChange intent;             // for open()
    Nanos rebuild_delay{};           // likewise
    Nanos member_timeout{};          // likewise
    Orders orders{Orders::taken};    // likewise

  private:
    SimArrayOptions options_;
    SimLoop loop_;
    Geometry geometry_;
};

inline Buffer random_bytes(Rng& rng, std::uint64_t size) {
    Buffer bytes(size);
    for (std::uint64_t i = 0; i != size; ++i) bytes.data()[i] = static_cast<std::byte>(rng.next());
    return bytes;
}

}  // namespace braid::sim
