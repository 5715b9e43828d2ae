// SPDX-License-Identifier: BSD-3-Clause
// An input damages the members of a small array, with the checksums made right again, and picks
// which of them are given: assembly refuses, or gives a configuration that keeps every rule and can
// be written.
#include <cstring>
#include <set>

#include "engine/assembly/assembly.h"
#include "engine/assembly/restore.h"
#include "engine/base/crc32c.h"
#include "engine/metadata/config_check.h"
#include "tests/engine/array_kit.h"
#include "tests/fuzz/samples.h"

using namespace braid;

namespace {

using Images = std::vector<MemberImage>;

/// Where the write intent's slots are damaged: those of nodes 0 and 1, which hold records.
constexpr std::uint32_t slots_used = 2 * intent_slots;

void put(test::MemoryDisk& disk, std::uint64_t generation, std::uint32_t node,
         std::vector<IntentEntry> entries) {
    IntentRecord record;
    record.array = test::uuid_of(0xaa, 1);
    record.generation = generation;
    record.node = node;
    record.entries = std::move(entries);
    const Buffer bytes = encode_intent(record);
    std::memcpy(disk.content().data() + slots_end + intent_slot_offset(node, generation),
                bytes.data(), bytes.size());
}

/// `unclean`: with records of two nodes on two members, and bad rows.
Images make_images(bool unclean) {
    test::Kit kit(test::kit_configuration(Level::raid6, 5, 1));
    kit.start();
    kit.now.members[1].state = MemberState::faulty;
    kit.now.bad_rows = {{MemberIndex{1}, RowIndex{3}, 5}, {MemberIndex{2}, RowIndex{16}, 20}};
    kit.step();
    if (!unclean) kit.stop();
    put(*kit.disks[0], 8, 0, {{0, 1, StripeIndex{1}}});
    put(*kit.disks[0], 9, 0, {{0, 2, StripeIndex{1}}, {intent_no_volume, 1, StripeIndex{3}}});
    put(*kit.disks[2], 9, 0, {{0, 2, StripeIndex{1}}, {intent_no_volume, 1, StripeIndex{3}}});
    put(*kit.disks[2], 4, 1, {{0, 2, StripeIndex{0}}});
    return kit.images(kit.all());
}

/// Bytes of the input, zero when it is over.
class Input {
  public:
    Input(const std::uint8_t* data, std::size_t size) : data_(data), size_(size) {}
    std::uint8_t take() { return at_ == size_ ? 0 : data_[at_++]; }
    std::size_t take16() {
        const std::size_t low = take();
        return low | static_cast<std::size_t>(take()) << 8;
    }
    bool over() const { return at_ == size_; }

  private:
    const std::uint8_t* data_;
    std::size_t size_;
    std::size_t at_{0};
};

void seal(MemberImage& image) {
    MdSuperblock sb;
    if (image.superblock.size() == sizeof sb) {
        std::memcpy(&sb, image.superblock.data(), sizeof sb);
        if (sb.max_dev <= md_devices_max) sb.sb_csum = md_checksum(sb);
        std::memcpy(image.superblock.data(), &sb, sizeof sb);
    }
    for (Buffer& slot : image.slots) {
        SlotHeader header;
        std::memcpy(&header, slot.data(), sizeof header);
        if (header.text_size > slot_text_max) continue;
        const std::uint32_t head = crc32c(slot.view().subspan(12, sizeof header - 12));
        header.crc32c = crc32c(slot.view().subspan(sizeof header, header.text_size), head);
        std::memcpy(slot.data(), &header, sizeof header);
    }
}

void damage_intent(MemberImage& image, Input& input) {
    if (image.intent.size() == 0) return;
    const std::uint8_t where = input.take();
    std::byte* slot = image.intent.data() + where % slots_used * intent_slot_size;
    for (std::uint8_t count = input.take() % 8; count-- > 0;) {
        slot[input.take() % 128] = static_cast<std::byte>(input.take());
    }
    if (where & 16) {
        image.intent = Buffer();
        return;
    }
    if (where & 32) std::memset(slot, 0, intent_slot_size);
    IntentHeader header;
    std::memcpy(&header, slot, sizeof header);
    if ((where & 32) != 0 || (where & 128) != 0 || header.entries > intent_entries_max) return;
    const std::size_t end = sizeof header + header.entries * sizeof(IntentEntryBytes);
    header.crc32c = crc32c({slot + 12, end - 12});
    std::memcpy(slot, &header, sizeof header);
}

void damage(MemberImage& image, Input& input) {
    const std::uint8_t where = input.take();
    if (where % 8 == 7) return damage_intent(image, input);
    Buffer& target = where % 4 < 2 ? image.superblock : image.slots[where % 2];
    const std::size_t range = where % 4 < 2 ? 512 : 6144;
    for (std::uint8_t count = input.take() % 8; count-- > 0;) {
        target.data()[input.take16() % range] = static_cast<std::byte>(input.take());
    }
    if (where & 16) image.device_size = input.take16() * 4096;
    if (where & 32) image.os_error = 5;
    if (where & 64) target = Buffer(target.size());
    if ((where & 128) == 0) seal(image);
}

/// What is in doubt lies in the array, in order, no stripe twice; and only after a crash.
void check_marked(const Assembly& assembly) {
    std::uint64_t free_from = 0;
    for (const IntentEntry& entry : assembly.marked) {
        BRAID_REQUIRE(entry.count != 0);
        BRAID_REQUIRE(raw(entry.first) >= free_from);
        free_from = raw(entry.first) + entry.count;
    }
    BRAID_REQUIRE(free_from <= assembly.configuration.stripes);
    BRAID_REQUIRE(assembly.marked.empty() || (assembly.unclean && !assembly.adopted));
}

/// Undoes damage().
void restore(MemberImage& image, const MemberImage& good) {
    image.device_size = good.device_size;
    image.os_error = good.os_error;
    image.superblock = good.superblock;
    image.slots = good.slots;
    if (image.intent.size() == good.intent.size()) {
        std::memcpy(image.intent.data(), good.intent.data(), slots_used * intent_slot_size);
    } else {
        image.intent = good.intent;
    }
}

/// Images that are lent to a run, and made good again after it: copying them all takes longer than
/// everything else.
class Store {
  public:
    explicit Store(bool unclean) : good_(make_images(unclean)), ready_(good_) {}
    Images lend(std::uint8_t which) {
        Images images;
        lent_.clear();
        for (std::size_t at = 0; at != ready_.size(); ++at) {
            if (((which >> at) & 1) == 0) continue;
            images.push_back(std::move(ready_[at]));
            lent_.push_back(at);
        }
        return images;
    }
    void take_back(Images images, const std::set<std::size_t>& damaged) {
        for (std::size_t i = 0; i != images.size(); ++i) {
            if (damaged.contains(i)) restore(images[i], good_[lent_[i]]);
            ready_[lent_[i]] = std::move(images[i]);
        }
    }

  private:
    const Images good_;
    Images ready_;
    std::vector<std::size_t> lent_;
};

void check_one(const Images& images, bool force) {
    auto assembly = assemble(images, {.force = force});
    if (!assembly) {
        BRAID_REQUIRE(!assembly.error().text.empty());
        return;
    }
    BRAID_REQUIRE(assembly->places.size() == images.size());
    Configuration& c = assembly->configuration;
    BRAID_REQUIRE(check_configuration(c).has_value());
    check_marked(*assembly);
    c.in_use = true;
    c.in_force = c.version;
    c.version = {next_epoch(assembly->epoch_seen, 0, 0), 0};
    c.events += 2;
    static test::MemoryDisk disk("/m", round_up(promises_end, row_size));
    bool written = false;
    for (MemberPlace& place : assembly->places) {
        BRAID_REQUIRE(place.record.has_value() || !place.why.empty());
        if (!place.record || written) continue;
        const auto promised =
            test::run(promise_member(disk, &place.metadata, c.array, c.version.epoch));
        BRAID_REQUIRE(promised.has_value());
        (void)test::run(write_member_metadata(disk, &c, &place.metadata, 1));
        written = true;
    }
}

/// What is put back is a superblock that braid reads, tied to the slot beside it.
void check_restore(const Images& images, bool force) {
    const auto plan = plan_restore(images, {.force = force});
    if (!plan) {
        BRAID_REQUIRE(!plan.error().text.empty());
        return;
    }
    BRAID_REQUIRE(plan->members.size() == images.size());
    for (std::size_t at = 0; at != images.size(); ++at) {
        if (!plan->members[at].missing) continue;
        MemberImage then = images[at];
        std::memcpy(then.superblock.data(), &plan->members[at].superblock, sizeof(MdSuperblock));
        BRAID_REQUIRE(inspect(then).is_tied());
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static Store stopped(false);
    static Store crashed(true);
    Input input(data, size);
    const std::uint8_t which = input.take();
    const std::uint8_t how = input.take();
    Store& store = how % 4 < 2 ? stopped : crashed;
    Images images = store.lend(which);
    std::set<std::size_t> damaged;
    while (!input.over() && !images.empty()) {
        const std::size_t at = input.take() % images.size();
        damaged.insert(at);
        damage(images[at], input);
    }
    check_one(images, how % 2 != 0);
    if ((how & 4) != 0) check_restore(images, how % 2 != 0);
    store.take_back(std::move(images), damaged);
    return 0;
}

std::vector<std::string> fuzz_samples() {
    return {std::string("\x3f\x00", 2),
            std::string("\x3d\x01\x00\x00\x01\xc8\x00\x09", 8),
            std::string("\x1f\x00\x02\x02\x02\x28\x00\x05\x30\x10\x31", 11),
            std::string("\x3f\x01\x01\x43\x00", 5),
            std::string("\x3f\x02", 2),
            std::string("\x3d\x02\x00\x07\x01\x01\x44\x03", 8),
            std::string("\x3f\x04\x00\x40\x00\x02\x40\x00\x03\x40\x00", 11),
            std::string("\x3f\x07\x00\x40\x00\x01\x00\x02\x08\x00\x99\x55\x00\x42", 14),
            std::string("\x3f\x02\x01\x07\x00\x02\x20\x0c\x4c\x01", 10)};
}
