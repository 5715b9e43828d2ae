// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/member_names.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <optional>
#include <vector>

#include "engine/base/uuid.h"

namespace braid {
namespace {

std::optional<std::uint32_t> role_in(std::string_view name) {
    std::uint32_t number = 0;
    const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (error != std::errc{} || end != name.data() + name.size()) return std::nullopt;
    return number;
}

std::string short_words(const MemberRecord& record) {
    std::string text = record.role ? fmt::format("{}", raw(*record.role)) : text_of_part(record);
    if (!record.path.empty()) text += fmt::format(" ({})", record.path);
    return text;
}

std::string long_words(const NamedMember& member) {
    const MemberRecord& record = *member.record;
    return fmt::format("{}, {}, uuid {}", short_words(record), text_of(record.state),
                       record.uuid.text());
}

Refusal nobody(std::span<const NamedMember> members, std::string_view name) {
    std::vector<std::string> all;
    for (const NamedMember& member : members) all.push_back(short_words(*member.record));
    return {
        fmt::format("there is no member \"{}\"; the members are {}", name, fmt::join(all, ", ")),
        RefusalCode::not_found};
}

Refusal several(std::span<const NamedMember> members, std::string_view name,
                const std::vector<std::size_t>& found) {
    std::vector<std::string> all;
    for (const std::size_t at : found) all.push_back(long_words(members[at]));
    return {fmt::format("\"{}\" may be any of {} members: {}; name it by its role or uuid", name,
                        found.size(), fmt::join(all, "; ")),
            RefusalCode::ambiguous};
}

}  // namespace

std::string member_already(std::string_view path, const MemberRecord& record) {
    const std::string_view article = record.role                            ? ""
                                     : record.state == MemberState::witness ? "the "
                                                                            : "a ";
    return fmt::format("{} is a member of this array already: {}{} ({}), {}", path, article,
                       text_of_part(record), record.path, text_of(record.state));
}

Checked<std::size_t> find_by_name(std::span<const NamedMember> members, std::string_view name) {
    const auto role = role_in(name);
    const auto uuid = Uuid::parse(name);
    std::vector<std::size_t> open;
    std::vector<std::size_t> lost;
    for (std::size_t at = 0; at != members.size(); ++at) {
        const NamedMember& member = members[at];
        const MemberRecord& record = *member.record;
        if (role && record.role && raw(*record.role) == *role) return at;
        if (uuid && *uuid != Uuid{} && record.uuid == *uuid) return at;
        const bool by_path = !name.empty() && record.path == name;
        if (by_path || member.is_disk) (member.open ? open : lost).push_back(at);
    }
    const auto& found = open.empty() ? lost : open;
    if (found.empty()) return nobody(members, name);
    if (found.size() > 1) return several(members, name, found);
    return found.front();
}

std::string text_of_tie(const Configuration& configuration) {
    if (configuration.witness() != nullptr) return "the witness answers";
    return fmt::format("member {}, which breaks ties, is among them",
                       raw(configuration.tie_breaker));
}

}  // namespace braid
