// SPDX-License-Identifier: BSD-3-Clause
#include "engine/base/uuid.h"

#include "engine/base/hex.h"

namespace braid {
namespace {

constexpr bool is_dash_place(std::size_t at) { return at == 8 || at == 13 || at == 18 || at == 23; }

}  // namespace

Uuid Uuid::random(Rng& rng) {
    Uuid uuid;
    for (std::size_t i = 0; i != 16; i += 8) {
        std::uint64_t word = rng.next();
        for (std::size_t j = 0; j != 8; ++j, word >>= 8) {
            uuid.bytes[i + j] = static_cast<std::uint8_t>(word & 0xff);
        }
    }
    uuid.bytes[6] = static_cast<std::uint8_t>((uuid.bytes[6] & 0x0f) | 0x40);
    uuid.bytes[8] = static_cast<std::uint8_t>((uuid.bytes[8] & 0x3f) | 0x80);
    return uuid;
}

Result<Uuid> Uuid::parse(std::string_view text) {
    if (text.size() != 36) return Error{Errc::invalid, "uuid"};
    Uuid uuid;
    std::size_t nibble = 0;
    for (std::size_t at = 0; at != text.size(); ++at) {
        if (is_dash_place(at)) {
            if (text[at] != '-') return Error{Errc::invalid, "uuid"};
            continue;
        }
        const auto digit = value_of_hex(text[at]);
        if (!digit) return Error{Errc::invalid, "uuid"};
        auto& byte = uuid.bytes[nibble / 2];
        byte = static_cast<std::uint8_t>(byte << 4 | *digit);
        ++nibble;
    }
    return uuid;
}

std::string Uuid::text() const {
    std::string text;
    for (const std::uint8_t byte : bytes) {
        if (is_dash_place(text.size())) text += '-';
        append_hex(text, byte);
    }
    return text;
}

}  // namespace braid
