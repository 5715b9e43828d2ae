// SPDX-License-Identifier: BSD-3-Clause
#include "engine/assembly/content.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

namespace braid {

std::optional<std::string> describe_member(const MemberImage& image) {
    const MemberFindings findings = inspect(image);
    if (!findings.superblock) {
        const Finding& finding = findings.superblock.error();
        if (finding.kind != FindingKind::none) return "an md superblock: " + finding.text;
        if (const ConfigSlot* slot = findings.slot()) {
            return fmt::format("a configuration of braid's, of array {} {}",
                               slot->configuration.name, slot->configuration.array.text());
        }
        if (!image.elsewhere.empty()) return image.elsewhere;
        return std::nullopt;
    }
    const MdSuperblock& sb = *findings.superblock;
    const std::string name = name_of(sb);
    return fmt::format("a member of RAID-{} array {}{}{}{}", plain(sb.level), name,
                       name.empty() ? "" : " ", sb.set_uuid.text(),
                       findings.slot() == nullptr ? ", made by md" : ", of braid's");
}

bool is_blank(const MemberImage& image) {
    return image.os_error == 0 && !describe_member(image) &&
           inspect(image).corrupt_slot() == nullptr;
}

std::vector<std::string> content_of(const MemberImage& image, std::vector<std::string> probed,
                                    const std::vector<std::string>& signatures) {
    if (probed.empty()) probed = signatures;  // libblkid names them too, where it knows them
    if (const auto member = describe_member(image)) {
        std::erase_if(probed, [](const std::string& text) {
            return text.find("linux_raid_member") != std::string::npos;
        });
        probed.insert(probed.begin(), *member);
    }
    return probed;
}

std::string text_of_content(const std::vector<std::string>& content) {
    return fmt::format("{}", fmt::join(content, "; and "));
}

}  // namespace braid
