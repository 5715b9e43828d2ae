// SPDX-License-Identifier: BSD-3-Clause
// An input damages the members of a small array, with the checksums made right again, and picks
// which of them are given: assembly refuses, or gives a configuration that keeps every rule and can
// be written.
#include <cstring>

#include "engine/assembly.h"
#include "engine/base/crc32c.h"
#include "tests/engine/array_kit.h"
#include "tests/fuzz/samples.h"

using namespace braid;

namespace {

using Images = std::vector<MemberImage>;

Images make_images() {
    test::Kit kit(test::kit_configuration(Level::raid6, 5, 1));
    kit.start();
    kit.now.members[1].state = MemberState::faulty;
    kit.step();
    kit.stop();
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

void damage(MemberImage& image, Input& input) {
    const std::uint8_t where = input.take();
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

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    static const Images good = make_images();
    Input input(data, size);
    const std::uint8_t which = input.take();
    const bool force = input.take() % 2 != 0;
    Images images;
    for (std::size_t at = 0; at != good.size(); ++at) {
        if ((which >> at) & 1) images.push_back(good[at]);
    }
    while (!input.over() && !images.empty()) damage(images[input.take() % images.size()], input);
    auto assembly = assemble(images, {.force = force});
    if (!assembly) {
        BRAID_REQUIRE(!assembly.error().text.empty());
        return 0;
    }
    BRAID_REQUIRE(assembly->places.size() == images.size());
    Configuration& c = assembly->configuration;
    BRAID_REQUIRE(check_configuration(c).has_value());
    c.in_use = true;
    braid::advance(c, {});
    bool written = false;
    for (MemberPlace& place : assembly->places) {
        BRAID_REQUIRE(place.record.has_value() || !place.why.empty());
        if (!place.record || written) continue;
        test::MemoryDisk disk("/m", round_up(slots_end, row_size));
        (void)test::run(write_member_metadata(disk, &c, &place.metadata, 1));
        written = true;
    }
    return 0;
}

std::vector<std::string> fuzz_samples() {
    return {std::string("\x3f\x00", 2), std::string("\x3d\x01\x00\x00\x01\xc8\x00\x09", 8),
            std::string("\x1f\x00\x02\x02\x02\x28\x00\x05\x30\x10\x31", 11),
            std::string("\x3f\x01\x01\x43\x00", 5)};
}
