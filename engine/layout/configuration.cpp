// SPDX-License-Identifier: BSD-3-Clause
#include "engine/layout/configuration.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <utility>

#include "engine/base/mutation.h"

namespace braid {
namespace {

constexpr std::array<std::pair<Layout, std::string_view>, 4> layouts{{
    {Layout::left_asymmetric, "left-asymmetric"},
    {Layout::right_asymmetric, "right-asymmetric"},
    {Layout::left_symmetric, "left-symmetric"},
    {Layout::right_symmetric, "right-symmetric"},
}};
constexpr std::array<std::pair<MemberState, std::string_view>, 6> states{{
    {MemberState::in_sync, "in_sync"},
    {MemberState::rebuilding, "rebuilding"},
    {MemberState::faulty, "faulty"},
    {MemberState::spare, "spare"},
    {MemberState::missing, "missing"},
    {MemberState::witness, "witness"},
}};

constexpr std::array<std::pair<BadKind, std::string_view>, 2> bad_kinds{{
    {BadKind::retry, "retry"},
    {BadKind::voided, "void"},
}};

template <class Table, class Key>
std::string_view find_text(const Table& table, Key key) {
    for (const auto& [value, text] : table) {
        if (value == key) return text;
    }
    return "unknown";
}
template <class Key, class Table>
std::optional<Key> find_value(const Table& table, std::string_view wanted) {
    for (const auto& [value, text] : table) {
        if (text == wanted) return value;
    }
    return std::nullopt;
}

}  // namespace

std::string_view text_of(Layout layout) { return find_text(layouts, layout); }
std::string_view text_of(MemberState state) { return find_text(states, state); }
std::string_view text_of(BadKind kind) { return find_text(bad_kinds, kind); }
std::optional<BadKind> bad_kind_of(std::string_view text) {
    return find_value<BadKind>(bad_kinds, text);
}
std::optional<Layout> layout_of(std::string_view text) { return find_value<Layout>(layouts, text); }
std::optional<MemberState> member_state_of(std::string_view text) {
    return find_value<MemberState>(states, text);
}

std::string text_of_part(const MemberRecord& record) {
    if (record.role) return fmt::format("member {}", raw(*record.role));
    return record.state == MemberState::witness ? "witness" : "spare";
}

MemberRecord* Configuration::member(MemberIndex role) {
    for (auto& record : members) {
        if (record.role == role) return &record;
    }
    return nullptr;
}
const MemberRecord* Configuration::member(MemberIndex role) const {
    return const_cast<Configuration*>(this)->member(role);  // NOLINT
}
MemberRecord* Configuration::member(const Uuid& uuid) {
    for (auto& record : members) {
        if (record.uuid == uuid) return &record;
    }
    return nullptr;
}

const MemberRecord* Configuration::member(const Uuid& uuid) const {
    return const_cast<Configuration*>(this)->member(uuid);  // NOLINT
}

const MemberRecord* Configuration::witness() const {
    const auto at = std::ranges::find(members, MemberState::witness, &MemberRecord::state);
    return at == members.end() ? nullptr : &*at;
}

std::uint32_t Configuration::lost_count() const {
    return static_cast<std::uint32_t>(std::ranges::count_if(
        members, [](const auto& record) { return record.role && !takes_part(record.state); }));
}

MemberSet Configuration::in_sync() const {
    MemberSet set;
    for (const MemberRecord& record : members) {
        if (record.role && record.state == MemberState::in_sync) set.add(*record.role);
    }
    return set;
}

MemberSet Configuration::taking_part() const {
    MemberSet set;
    for (const MemberRecord& record : members) {
        if (record.role && takes_part(record.state)) set.add(*record.role);
    }
    return set;
}

bool same_parts(const Configuration& one, const Configuration& other) {
    if (one.in_sync() != other.in_sync() || one.taking_part() != other.taking_part()) return false;
    for (const MemberIndex role : one.taking_part()) {
        if (one.member(role)->uuid != other.member(role)->uuid) return false;
    }
    const auto witness_of = [](const Configuration& c) {
        return c.witness() == nullptr ? Uuid{} : c.witness()->uuid;
    };
    return witness_of(one) == witness_of(other);
}

bool has_another_history(const Configuration& configuration, const Uuid& uuid, const Uuid& lineage,
                         EpochRevision in_force) {
    const MemberRecord* const record = configuration.member(uuid);
    if (record == nullptr || !record->role || takes_part(record->state)) return false;
    // Every start has an epoch of its own, which is in force before anything is written.
    return !BRAID_MUTANT(history_not_looked_at) && lineage != configuration.lineage &&
           record->left.epoch != 0 && in_force.epoch > record->left.epoch;
}

Checked<Unit> check_intent_region(std::uint64_t region) {
    static_assert(intent_region_min == 64u << 10 && intent_region_max == std::uint64_t{1} << 40,
                  "the texts say 64K and 1T");
    if (region < intent_region_min || region > intent_region_max) {
        return Refusal{
            "a mark covers 64K to 1T of data; the larger, the fewer records, and the more to make "
            "true after a crash"};
    }
    if (std::has_single_bit(region)) return Unit{};
    return Refusal{
        fmt::format("a mark covers a power of two of bytes, 64K to 1T, and {} is none; "
                    "the next ones are {} and {}",
                    region, std::bit_floor(region), std::bit_ceil(region))};
}

bool covers_all(const Configuration& c) {
    return c.volumes.size() == 1 && raw(c.volumes[0].first) == 0 &&
           c.volumes[0].stripes == c.stripes;
}

}  // namespace braid
