// SPDX-License-Identifier: BSD-3-Clause
// Small arrays in memory whose metadata is written by the code under test, without data.
#pragma once

#include <fmt/format.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "engine/assembly/assembly.h"
#include "engine/layout/configuration.h"
#include "engine/metadata/config_slot.h"
#include "engine/metadata/member_metadata.h"
#include "tests/engine/memory_disk.h"

namespace braid::test {

inline constexpr std::uint64_t kit_data_offset = 2u << 20;
inline constexpr std::uint64_t kit_strip = 64u << 10;
inline constexpr std::uint64_t kit_stripes = 4;
inline constexpr std::uint64_t kit_member_size = kit_data_offset + kit_stripes * kit_strip;

inline Uuid uuid_of(std::uint8_t first, std::uint8_t last) {
    Uuid uuid;
    uuid.bytes[0] = first;
    uuid.bytes[15] = last;
    return uuid;
}

/// The first epoch, cleanly stopped, one volume "data".
inline Configuration kit_configuration(Level level, std::uint32_t count, std::uint32_t spares = 0) {
    Configuration c;
    c.array = uuid_of(0xaa, 1);
    c.name = "kit";
    c.version.epoch = epochs_per_number;
    c.events = 2;
    c.created = 1'700'000'000;
    c.level = level;
    c.strip_size = kit_strip;
    c.member_count = count;
    c.stripes = kit_stripes;
    for (std::uint32_t i = 0; i != count + spares; ++i) {
        MemberRecord m;
        m.uuid = uuid_of(0xbb, static_cast<std::uint8_t>(i));
        if (i < count) m.role = MemberIndex{i};
        m.state = i < count ? MemberState::in_sync : MemberState::spare;
        m.data_offset = kit_data_offset;
        m.size = kit_member_size;
        m.dev_number = i;
        m.path = fmt::format("/m{}", i);
        c.members.push_back(m);
    }
    c.volumes.push_back({"data", StripeIndex{0}, kit_stripes});
    return c;
}

/// The same, without room for the write intent and for promises.
inline constexpr std::uint64_t kit_narrow_data_offset = 512u << 10;
inline Configuration kit_narrow(Configuration c) {
    for (MemberRecord& m : c.members) {
        m.data_offset = kit_narrow_data_offset;
        m.size = kit_narrow_data_offset + kit_stripes * kit_strip;
    }
    return c;
}

/// What a server does with the metadata, and nothing else.
class Kit {
  public:
    explicit Kit(Configuration configuration) : now(std::move(configuration)) {
        for (const MemberRecord& record : now.members) {
            disks.push_back(std::make_shared<MemoryDisk>(record.path, record.size, power));
            held.push_back(metadata_of_new(now, record));
        }
        BRAID_REQUIRE(write_all());
    }

    /// Every member that takes part promises the epoch of `now`; false when the power was cut in
    /// it.
    bool promise_all() {
        for (std::size_t at = 0; at != disks.size(); ++at) {
            if (!takes_part(at) || !held[at].reg.may_promise(now.version.epoch)) continue;
            if (!run(promise_member(*disks[at], &held[at], now.array, now.version.epoch)))
                return false;
        }
        return true;
    }
    /// Writes `now` to every member that takes part; false when the power was cut in it.
    bool write_all() {
        if (!promise_all()) return false;
        for (std::size_t at = 0; at != disks.size(); ++at) {
            if (!takes_part(at)) continue;
            if (!run(write_member_metadata(*disks[at], &now, &held[at], ++seconds))) return false;
        }
        in_force = now.version;
        return true;
    }
    /// Makes `now` the next epoch.
    void begin_epoch() {
        std::uint64_t highest = now.version.epoch;
        for (const MemberMetadata& metadata : held)
            highest = std::max(highest, metadata.reg.bound());
        now.version = {next_epoch(highest, 0, 0), 0};
        now.in_force = in_force;
        now.events += 2;
    }
    /// The next epoch, written to all.
    bool step() {
        begin_epoch();
        return write_all();
    }
    /// The next revision, written to all.
    bool revise() {
        ++now.version.revision;
        now.in_force = in_force;
        now.events += 2;
        return write_all();
    }
    bool start() {
        now.in_use = true;
        return step();
    }
    bool stop() {
        now.in_use = false;
        return step();
    }
    /// Takes over what assembly found, as a new start of the server would.
    void adopt(const Assembly& assembly, const std::vector<std::size_t>& given) {
        now = assembly.configuration;
        in_force = now.in_force;
        std::vector<std::shared_ptr<MemoryDisk>> in_order(now.members.size());
        std::vector<MemberMetadata> metadata(now.members.size());
        for (std::size_t i = 0; i != given.size(); ++i) {
            const MemberPlace& place = assembly.places[i];
            if (!place.record) continue;
            in_order[*place.record] = disks[given[i]];
            metadata[*place.record] = place.metadata;
        }
        for (std::size_t at = 0; at != in_order.size(); ++at) {
            if (!in_order[at])
                in_order[at] = std::make_shared<MemoryDisk>("/none", row_size, power);
        }
        disks = std::move(in_order);
        held = std::move(metadata);
    }
    std::vector<std::size_t> all() const {
        std::vector<std::size_t> numbers;
        for (std::size_t at = 0; at != disks.size(); ++at) numbers.push_back(at);
        return numbers;
    }
    MemberImage image(std::size_t at) const { return run(read_member_image(*disks[at])); }
    std::vector<MemberImage> images(const std::vector<std::size_t>& which) const {
        std::vector<MemberImage> images;
        for (const std::size_t at : which) images.push_back(image(at));
        return images;
    }
    Checked<Assembly> assemble(const std::vector<std::size_t>& which,
                               Force force = Force::no) const {
        return braid::assemble(images(which), {.force = force == Force::yes});
    }
    Checked<Assembly> assemble() const { return assemble(all()); }

    bool takes_part(std::size_t at) const {
        const MemberState state = now.members[at].state;
        return state == MemberState::in_sync || state == MemberState::rebuilding ||
               state == MemberState::spare;
    }

    std::shared_ptr<Power> power{std::make_shared<Power>()};
    Configuration now;
    std::vector<std::shared_ptr<MemoryDisk>> disks;
    std::vector<MemberMetadata> held;
    EpochRevision in_force;  // known to be on all
    std::uint64_t seconds{1'700'000'000};
};

/// Changes a superblock in place as md would: the checksum is made right.
template <class Change>
void change_superblock(MemoryDisk& disk, Change change) {
    MdSuperblock sb;
    std::memcpy(&sb, disk.content().data() + md_superblock_offset, sizeof sb);
    change(sb);
    sb.sb_csum = md_checksum(sb);
    std::memcpy(disk.content().data() + md_superblock_offset, &sb, sizeof sb);
}

}  // namespace braid::test
