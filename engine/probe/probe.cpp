// SPDX-License-Identifier: BSD-3-Clause
#include "engine/probe/probe.h"

#include <blkid/blkid.h>
#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "engine/base/os_error.h"
#include "engine/base/unique_fd.h"

namespace braid {
namespace {

struct FreeProbe {
    void operator()(blkid_probe probe) const { blkid_free_probe(probe); }
};
using Probe = std::unique_ptr<std::remove_pointer_t<blkid_probe>, FreeProbe>;

std::string value_of(blkid_probe probe, const char* name) {
    const char* text = nullptr;
    std::size_t size = 0;
    if (blkid_probe_lookup_value(probe, name, &text, &size) != 0 || size == 0) return {};
    return text;  // it ends with a zero byte
}

std::string in_words(blkid_probe probe) {
    if (const std::string table = value_of(probe, "PTTYPE"); !table.empty()) {
        return fmt::format("a partition table ({})", table);
    }
    const std::string type = value_of(probe, "TYPE");
    const std::string usage = value_of(probe, "USAGE");
    std::string text;
    if (type == "LVM2_member") {
        text = "a physical volume of LVM";
    } else if (usage == "filesystem") {
        text = fmt::format("a file system ({})", type);
    } else if (usage == "raid") {
        text = fmt::format("a member of a RAID array ({})", type);
    } else if (usage == "crypto") {
        text = fmt::format("an encrypted volume ({})", type);
    } else {
        text = fmt::format("data that is in use ({})", type);
    }
    const std::string label = value_of(probe, "LABEL");
    const std::string uuid = value_of(probe, "UUID");
    if (!label.empty()) text += fmt::format(", labelled {}", label);
    if (!uuid.empty()) text += fmt::format(", uuid {}", uuid);
    return text;
}

void choose_what_to_look_for(blkid_probe probe) {
    blkid_probe_enable_superblocks(probe, 1);
    blkid_probe_set_superblocks_flags(
        probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_USAGE | BLKID_SUBLKS_LABEL | BLKID_SUBLKS_UUID);
    blkid_probe_enable_partitions(probe, 1);
    blkid_probe_set_partitions_flags(probe, BLKID_PARTS_FORCE_GPT);
}

}  // namespace

Checked<std::vector<std::string>> probe_content(const std::string& path) {
    const UniqueFd fd(open(path.c_str(), O_RDONLY | O_CLOEXEC));
    if (fd.get() < 0) {
        return Refusal{fmt::format("{}: cannot be read: {}", path, os_error_text(errno))};
    }
    const Probe probe(blkid_new_probe());
    if (!probe || blkid_probe_set_device(probe.get(), fd.get(), 0, 0) != 0) {
        return Refusal{fmt::format("{}: libblkid cannot look at it", path)};
    }
    choose_what_to_look_for(probe.get());
    std::vector<std::string> found;
    int result = 0;
    while ((result = blkid_do_probe(probe.get())) == 0) found.push_back(in_words(probe.get()));
    if (result < 0) {
        return Refusal{fmt::format("{}: what is on it could not be read: {}", path,
                                   os_error_text(errno != 0 ? errno : EIO))};
    }
    return found;
}

}  // namespace braid
