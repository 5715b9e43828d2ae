// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as a slot of the write intent, as they are and with the checksum made right: refused
// with a reason, or decoded to a record that keeps every rule and that re-encodes to an equal one.
#include <algorithm>
#include <cstring>

#include "engine/base/crc32c.h"
#include "engine/metadata/intent_record.h"
#include "tests/engine/array_kit.h"
#include "tests/fuzz/samples.h"

using namespace braid;

namespace {

void check_record(ByteView slot, std::uint32_t index) {
    const auto record = decode_intent(slot, index);
    if (!record) {
        BRAID_REQUIRE(!record.error().text.empty());
        return;
    }
    BRAID_REQUIRE(record->node == index / intent_slots);
    BRAID_REQUIRE(record->generation % intent_slots == index % intent_slots);
    BRAID_REQUIRE(record->entries.size() <= intent_entries_max);
    std::uint64_t missed_to = 0;
    record->missed.for_each([&](StripeIndex first, StripeIndex end) {
        BRAID_REQUIRE(raw(first) >= missed_to && first < end);
        missed_to = raw(end);
    });
    std::uint64_t free_from = 0;
    for (const IntentEntry& entry : record->entries) {
        BRAID_REQUIRE(entry.count != 0);
        BRAID_REQUIRE(raw(entry.first) >= free_from);
        BRAID_REQUIRE(raw(entry.first) + entry.count > raw(entry.first));
        free_from = raw(entry.first) + entry.count;
    }
    Buffer again(intent_slot_size);
    const Buffer bytes = encode_intent(*record);
    BRAID_REQUIRE(bytes.size() <= again.size());
    std::memcpy(again.data(), bytes.data(), bytes.size());
    const auto back = decode_intent(again.view(), index);
    BRAID_REQUIRE(back.has_value());
    BRAID_REQUIRE(*back == *record);
}

void seal(Buffer& slot) {
    IntentHeader header;
    std::memcpy(&header, slot.data(), sizeof header);
    header.magic = intent_magic;
    constexpr std::size_t start = offsetof(IntentHeader, format);
    std::memcpy(slot.data(), &header, sizeof header);
    std::size_t end = sizeof header + std::size_t{plain(header.entries)} * sizeof(IntentEntryBytes);
    if (plain(header.absent) != 0) {
        end += std::size_t{plain(header.absent)} * sizeof(AbsentBytes) + sizeof(MissedBytes);
        MissedBytes missed{};
        if (end <= slot.size()) {
            std::memcpy(&missed, slot.data() + end - sizeof missed, sizeof missed);
        }
        end += (std::min<std::uint64_t>(plain(missed.bits), 8 * slot.size()) + 7) / 8;
    }
    if (end <= slot.size()) header.crc32c = crc32c(slot.view().subspan(start, end - start));
    std::memcpy(slot.data(), &header, sizeof header);
}

}  // namespace

/// The first byte is the slot's number.
extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::uint32_t index = data[0] % (nodes_max * intent_slots);
    const ByteView input{reinterpret_cast<const std::byte*>(data) + 1, size - 1};
    check_record(input, index);
    Buffer slot(intent_slot_size);
    std::copy_n(input.begin(), std::min(input.size(), slot.size()), slot.data());
    check_record(slot.view(), index);
    seal(slot);
    check_record(slot.view(), index);
    return 0;
}

std::vector<std::string> fuzz_samples() {
    std::vector<std::string> samples;
    for (const std::uint32_t entries : {0U, 2U, 40U, 41U, 42U, intent_entries_max}) {
        IntentRecord record;
        record.tells_absent = entries != 2;
        record.array = test::uuid_of(0xaa, 1);
        record.node = entries % nodes_max;
        record.generation = 1000 + entries;
        record.epoch = 7;
        for (std::uint32_t i = 0; i != entries; ++i) {
            record.entries.push_back(
                {i % 3 == 0 ? intent_no_volume : i % 7, 1 + i, StripeIndex{5000ULL * i}});
        }
        for (std::uint32_t i = 0; i != entries % 40 && entries < 43 && record.tells_absent; ++i) {
            record.absent.push_back({test::uuid_of(0xbb, 1), i == 0, 1000});
            record.missed = MissedStripes(40 * entries, 100);
            record.missed.add(StripeIndex{7}, StripeIndex{90});
        }
        const auto index =
            static_cast<char>(record.node * intent_slots + record.generation % intent_slots);
        const Buffer bytes = encode_intent(record);
        samples.push_back(index +
                          std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    }
    return samples;
}
