// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as the text of a configuration, and as a whole slot: refused with a reason, or decoded
// to a configuration that keeps every rule and that re-encodes to an equal one.
#include <cstring>

#include "engine/base/crc32c.h"
#include "engine/layout/bad_bytes.h"
#include "engine/metadata/config_check.h"
#include "engine/metadata/config_slot.h"
#include "tests/engine/array_kit.h"
#include "tests/fuzz/samples.h"

using namespace braid;

namespace {

void check_text(std::string_view text, std::uint32_t format) {
    const auto decoded = from_json_text(text, format);
    if (!decoded) {
        BRAID_REQUIRE(!decoded.error().text.empty());
        return;
    }
    BRAID_REQUIRE(check_configuration(decoded->configuration).has_value());
    BRAID_REQUIRE(format >= 2 || decoded->configuration.bad_rows.empty());
    std::uint64_t bad = 0;
    BRAID_REQUIRE(bad_bytes_of(decoded->configuration, 10, &bad).size() <= 10);
    if (text.size() > slot_text_max) return;
    const auto again = decode_slot(encode_slot(*decoded).view(), 0);
    BRAID_REQUIRE(again.has_value());
    BRAID_REQUIRE(*again == *decoded);
}

/// The input as header and text with the right magic and CRC, so that it gets past them.
void check_slot(ByteView input, std::uint32_t format) {
    Buffer bytes(slot_size);
    std::memcpy(bytes.data(), input.data(), std::min<std::size_t>(input.size(), slot_size));
    (void)decode_slot(bytes.view(), 0);
    SlotHeader header;
    std::memcpy(&header, bytes.data(), sizeof header);
    header.magic = slot_magic;
    header.format = format;
    if (header.text_size <= slot_text_max) {
        const std::uint32_t head =
            crc32c(std::as_bytes(std::span(&header, 1)).subspan(12, sizeof header - 12));
        header.crc32c = crc32c(bytes.view().subspan(sizeof header, header.text_size), head);
    }
    std::memcpy(bytes.data(), &header, sizeof header);
    (void)decode_slot(bytes.view(), 0);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const ByteView input{reinterpret_cast<const std::byte*>(data), size};
    for (std::uint32_t format = slot_format_oldest; format <= slot_format; ++format) {
        check_text({reinterpret_cast<const char*>(data), size}, format);
        check_slot(input, format);
    }
    (void)decode_slot(input, 1);
    return 0;
}

std::vector<std::string> fuzz_samples() {
    std::vector<std::string> samples;
    for (const Level level : {Level::raid4, Level::raid5, Level::raid6}) {
        ConfigSlot slot;
        slot.configuration = test::kit_configuration(level, 4, 1);
        slot.configuration.scrub = ScrubRecord{StripeIndex{1}, true, 2, 3, 4096};
        slot.configuration.resynced = StripeIndex{2};
        slot.configuration.intent = {false, 1u << 20};
        slot.configuration.bad_rows = {{MemberIndex{0}, RowIndex{3}, 5},
                                       {MemberIndex{2}, RowIndex{1}, 63}};
        slot.member = slot.configuration.members[0].uuid;
        samples.push_back(to_json_text(slot));
        // As format 1 has it.
        ConfigSlot narrow = slot;  // its areas have no promises
        narrow.configuration = test::kit_narrow(slot.configuration);
        std::string old = to_json_text(narrow);
        const std::size_t version = old.find(" \"epoch\"");
        old.replace(version, old.find(" \"events\"") - version,
                    " \"epoch\": 7,\n \"settled\": 6,\n");
        const std::size_t begin = old.find(" \"intent\"");
        old.erase(begin, old.find(" \"members\"") - begin);
        BRAID_REQUIRE(from_json_text(old, 1).has_value());
        samples.push_back(std::move(old));
        const Buffer bytes = encode_slot(slot);
        samples.emplace_back(reinterpret_cast<const char*>(bytes.data()), 8192);
    }
    return samples;
}
