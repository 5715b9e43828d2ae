// SPDX-License-Identifier: BSD-3-Clause
// An Array that is a piece of memory, and a loop on a thread of its own to serve it: what the
// bridge and the control socket need to be tested without members.
#pragma once

#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/array.h"
#include "engine/base/buffer.h"
#include "engine/deciding/member_names.h"
#include "engine/layout/bad_bytes.h"
#include "tests/engine/loop_thread.h"

namespace braid::plugin {

/// A RAID-6 of six members, the third faulty, with a spare; two volumes.
inline Configuration fake_configuration() {
    Rng rng(1);
    Configuration configuration;
    configuration.array = Uuid::random(rng);
    configuration.name = "fake";
    configuration.level = Level::raid6;
    configuration.strip_size = 64u << 10;
    configuration.member_count = 6;
    configuration.stripes = 256;
    for (std::uint32_t role = 0; role != 7; ++role) {
        MemberRecord record;
        record.uuid = Uuid::random(rng);
        if (role != 6) record.role = MemberIndex{role};
        record.state = role == 2   ? MemberState::faulty
                       : role == 6 ? MemberState::spare
                                   : MemberState::in_sync;
        record.path = "/fake/" + std::to_string(role);
        configuration.members.push_back(record);
    }
    configuration.volumes = {{"first", StripeIndex{0}, 128}, {"second", StripeIndex{128}, 128}};
    return configuration;
}

class FakeArray final : public Array {
  public:
    FakeArray() : configuration_(fake_configuration()), bytes_(configuration_.data_size()) {}

    bool direct{false};               // read_direct() works
    std::optional<Errc> fails_with;   // what every request is answered with
    std::vector<std::string> orders;  // operators' commands, as they came

    const Configuration& configuration() const override { return configuration_; }
    void submit(IoRequest& request) override {
        ++counters_.jobs;
        if (fails_with) {
            request.ok = false;
            request.error = Error{*fails_with, "fake"};
        } else if (request.kind == IoKind::read) {
            std::memcpy(request.data, bytes_.data() + request.offset.value, request.size);
        } else if (request.kind == IoKind::write) {
            std::memcpy(bytes_.data() + request.offset.value, request.data, request.size);
        } else if (request.kind == IoKind::zero) {
            std::memset(bytes_.data() + request.offset.value, 0, request.size);
        }
        request.done(request);
    }
    Task<Result<void>> stop() override {
        orders.push_back("stop");
        co_return Result<void>{};
    }
    ArrayStatus status() const override {
        ArrayStatus status;
        status.configuration = configuration_;
        status.health = Health::degraded;
        for (const MemberRecord& record : configuration_.members) {
            MemberStatus member;
            member.record = record;
            member.open = record.state != MemberState::faulty;
            member.reads = 7;
            if (!member.open) member.notice = "failed by fake";
            status.members.push_back(member);
        }
        WalkStatus walk;
        walk.kind = WalkKind::scrubbing;
        walk.position = 1000;
        walk.end = 4000;
        walk.rate = 100;
        walk.seconds_left = 30;
        status.walks.push_back(walk);
        status.intent.on = true;
        status.intent.region = 16u << 20;
        status.intent.stripes_marked = 65;
        status.intent.marks = 2;
        status.intent.marks_max = 1020;
        status.intent.generation = 41;
        status.intent.records = 40;
        status.intent.records_per_second = 2.5;
        status.intent.waiting = 3;
        status.intent.flushes = 5;
        status.recovery = RecoveryStatus{640, 64, 1u << 20, 7, 2, 1.5};
        // The first row of the strips that the lost member had.
        for (std::uint64_t stripe = 0; stripe != bad_stripes; ++stripe) {
            status.configuration.bad_rows.push_back({MemberIndex{2}, RowIndex{stripe * 16}, 1});
        }
        status.bad = bad_bytes_of(status.configuration, bad_bytes_listed_max, &status.bad_bytes);
        status.counters = counters_;
        status.memory_bytes = 1234;
        status.memory_bytes_max = 5678;
        status.events.push_back(
            {1, 1700000000, Severity::error, "member_failed", "it failed", {7, 2}});
        return status;
    }
    Task<Checked<Unit>> fail_member(MemberName name, Force force) override {
        BRAID_CO_TRY(const std::string role, find(name));
        co_return co_await order("fail " + role + (force == Force::yes ? " force" : ""));
    }
    Task<Checked<Unit>> remove_member(MemberName name) override {
        BRAID_CO_TRY(const std::string role, find(name));
        co_return co_await order("remove " + role);
    }
    Task<Checked<Unit>> add_member(std::unique_ptr<Disk> disk, Force force) override {
        return order("add " + disk->info().path + (force == Force::yes ? " force" : ""));
    }
    Task<Checked<Unit>> replace_member(MemberName name, std::unique_ptr<Disk> disk,
                                       Force force) override {
        BRAID_CO_TRY(const std::string role, find(name));
        co_return co_await order("replace " + role + " " + disk->info().path +
                                 (force == Force::yes ? " force" : ""));
    }
    Task<Checked<Unit>> start_scrub(ScrubMode mode) override {
        if (refuses_scrub) co_return Refusal{"no scrub now", *refuses_scrub};
        orders.push_back(mode == ScrubMode::repair ? "scrub repair" : "scrub");
        co_return Unit{};
    }
    Checked<Unit> stop_scrub() override { return Refusal{"no scrub runs"}; }
    Task<Checked<Unit>> reserve(std::string volume) override { return order("reserve " + volume); }
    Task<Checked<Unit>> release(std::string volume) override { return order("release " + volume); }
    Task<Checked<Unit>> order_node(NodeOrder what, std::uint32_t node) override {
        static constexpr std::array names{"kill", "resume", "stop", "add node", "remove node"};
        return order(names.at(static_cast<std::size_t>(what)) + (" " + std::to_string(node)));
    }
    Task<Checked<Unit>> open_volume(std::string) override { co_return Unit{}; }
    void close_volume(const std::string&) override {}
    Task<Checked<Unit>> change_intent(IntentChange change) override {
        if (no_room) co_return Refusal{"the members have no room for a record"};
        changes.push_back(change);
        co_return Unit{};
    }
    std::optional<RefusalCode> refuses_scrub;
    std::vector<DiskIdentity> identities{7};  // of the members' disks
    bool no_room{false};                      // change_intent() refuses
    std::uint64_t bad_stripes{0};             // that the status tells of
    std::vector<IntentChange> changes;        // that were asked for
    bool read_direct(ArrayOffset offset, ByteSpan into) override {
        if (!direct) return false;
        std::memcpy(into.data(), bytes_.data() + offset.value, into.size());
        return true;
    }
    void note_latency(Nanos) override {}

  private:
    Task<Checked<Unit>> order(std::string text) {
        if (text == "fail 1") co_return Refusal{"member 1 cannot be spared"};
        orders.push_back(std::move(text));
        co_return Unit{};
    }

    /// The role, or "spare".
    Checked<std::string> find(const MemberName& name) const {
        std::vector<NamedMember> members;
        for (const MemberRecord& record : configuration_.members) {
            const bool open = record.state != MemberState::faulty;
            const bool is_disk = open && identities[members.size()].overlaps(name.disk);
            members.push_back({&record, open, is_disk});
        }
        BRAID_TRY(const std::size_t at, find_by_name(members, name.text));
        const auto& role = configuration_.members[at].role;
        return role ? std::to_string(raw(*role)) : std::string("spare");
    }

    Configuration configuration_;
    Buffer bytes_;
    Counters counters_;
};

/// Runs a loop; array() is touched by its thread only, but for what Array says.
class LoopThread {
  public:
    UringLoop& loop() { return thread_.loop(); }
    FakeArray& array() { return array_; }

  private:
    FakeArray array_;
    test::LoopThread thread_;
};

}  // namespace braid::plugin
