// SPDX-License-Identifier: BSD-3-Clause
// Any 4096 bytes as an md superblock: decoded or refused, never an abort; what is decoded can be
// asked everything and written again. The checksum is made right first, else nothing gets past it.
#include <cstring>

#include "engine/metadata/md_superblock.h"
#include "tests/engine/array_kit.h"
#include "tests/fuzz/samples.h"

using namespace braid;

namespace {

MdSuperblock from_input(const std::uint8_t* data, std::size_t size) {
    MdSuperblock sb{};
    std::memcpy(&sb, data, std::min(size, sizeof sb));
    if (sb.max_dev <= md_devices_max) sb.sb_csum = md_checksum(sb);
    return sb;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView raw_bytes{reinterpret_cast<const std::byte*>(data), size};
    (void)decode_md_superblock(raw_bytes, 1u << 30);
    (void)decode_md_bitmap(raw_bytes, Uuid{});
    (void)bad_block_entries(raw_bytes);
    const MdSuperblock sb = from_input(data, size);
    const auto decoded = decode_md_superblock(std::as_bytes(std::span(&sb, 1)), 1u << 30);
    if (!decoded) {
        BRAID_REQUIRE(!decoded.error().text.empty());
        return 0;
    }
    BRAID_REQUIRE(stripes_of(*decoded) != 0 && strip_size_of(*decoded) != 0);
    BRAID_REQUIRE(name_of(*decoded).size() <= 32);
    (void)resynced_of(*decoded);
    (void)rebuilt_of(*decoded);
    (void)role_of(*decoded);
    (void)layout_of(*decoded);
    const Configuration c = test::kit_configuration(Level::raid5, 4);
    const MdSuperblock next = update_md_superblock(*decoded, c, c.members[1], 1);
    BRAID_REQUIRE(md_checksum(next) == plain(next.sb_csum));
    return 0;
}

std::vector<std::string> fuzz_samples() {
    std::vector<std::string> samples;
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        const Configuration c = test::kit_configuration(level, 5, 1);
        for (const std::size_t at : {0U, 4U, 5U}) {
            const MdSuperblock sb =
                update_md_superblock(make_md_superblock(c, c.members[at]), c, c.members[at], 1);
            samples.emplace_back(reinterpret_cast<const char*>(&sb), 512);
        }
    }
    return samples;
}
