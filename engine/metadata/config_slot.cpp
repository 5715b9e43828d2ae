// SPDX-License-Identifier: BSD-3-Clause
#include "engine/metadata/config_slot.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <span>
#include <string>
#include <utility>

#include "engine/base/crc32c.h"

namespace braid {
namespace {

std::uint32_t crc_of(const SlotHeader& header, ByteView text) {
    const auto* bytes = reinterpret_cast<const std::byte*>(&header);
    constexpr std::size_t start = offsetof(SlotHeader, format);
    return crc32c(text, crc32c({bytes + start, sizeof header - start}));
}

Result<void, Finding> check_header(const SlotHeader& header, std::uint32_t slot) {
    if (plain(header.format) < slot_format_oldest || plain(header.format) > slot_format) {
        return Finding{FindingKind::unsupported,
                       fmt::format("configuration slot {} has format {}; this braid knows formats "
                                   "{} to {}: use a newer one",
                                   slot, plain(header.format), slot_format_oldest, slot_format)};
    }
    if (!std::ranges::all_of(header.reserved, [](auto byte) { return byte == 0; })) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: reserved bytes are not zero", slot));
    }
    if (header.sequence % slot_count != slot) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: it holds number {}, which "
                        "belongs into the other",
                        slot, plain(header.sequence)));
    }
    return {};
}

}  // namespace

Buffer encode_slot(const ConfigSlot& slot) {
    const std::string text = to_json_text(slot);
    SlotHeader header{};
    header.magic = slot_magic;
    header.format = slot_format;
    header.array = slot.configuration.array;
    header.sequence = slot.sequence;
    header.epoch = slot.configuration.version.epoch;
    header.revision = slot.configuration.version.revision;
    header.text_size = static_cast<std::uint32_t>(text.size());
    header.crc32c = crc_of(header, std::as_bytes(std::span(text)));
    Buffer bytes(slot_size);
    std::memcpy(bytes.data(), &header, sizeof header);
    std::memcpy(bytes.data() + sizeof header, text.data(), text.size());
    return bytes;
}

Result<ConfigSlot, Finding> decode_slot(ByteView bytes, std::uint32_t slot) {
    SlotHeader header;
    if (bytes.size() < slot_size) return Finding{FindingKind::none, "beyond the member's end"};
    std::memcpy(&header, bytes.data(), sizeof header);
    if (header.magic != slot_magic) return Finding{FindingKind::none, "holds no configuration"};
    const std::uint32_t size = header.text_size;
    if (size == 0 || size > slot_text_max) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: {} bytes of text", slot, size));
    }
    const ByteView text = bytes.subspan(sizeof header, size);
    if (const std::uint32_t sum = crc_of(header, text); plain(header.crc32c) != sum) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: its CRC-32C is {:08x}, but "
                        "it says {:08x}",
                        slot, sum, plain(header.crc32c)));
    }
    BRAID_CHECK(check_header(header, slot));
    auto parsed =
        from_json_text({reinterpret_cast<const char*>(text.data()), text.size()}, header.format);
    if (!parsed) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: {}", slot, parsed.error().text));
    }
    if (parsed->configuration.array != header.array ||
        plain(header.epoch) != parsed->configuration.version.epoch ||
        plain(header.revision) != parsed->configuration.version.revision) {
        return corrupt(
            fmt::format("configuration slot {} is corrupt: header and text disagree", slot));
    }
    parsed->sequence = header.sequence;
    return std::move(parsed).value();
}

}  // namespace braid
