// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/config/small_file.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "engine/base/os_error.h"

namespace braid::cluster {

Refusal cannot(const std::string& path, const char* what, int os_error) {
    return {fmt::format("{}: cannot be {}: {}", path, what, os_error_text(os_error)),
            RefusalCode::io};
}

Checked<SmallFile> open_small_file(const std::string& path) {
    SmallFile file;
    file.fd = UniqueFd(open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY));
    if (file.fd.get() < 0) return cannot(path, "opened", errno);
    if (fstat(file.fd.get(), &file.status) != 0) return cannot(path, "read", errno);
    if (S_ISREG(file.status.st_mode)) return file;
    return Refusal{fmt::format("{}: is no regular file", path), RefusalCode::invalid};
}

Checked<std::string> read_small_file(const SmallFile& file, const std::string& path,
                                     std::size_t size_max) {
    std::string content(size_max + 1, '\0');
    std::size_t size = 0;
    while (size != content.size()) {
        const ssize_t got = read(file.fd.get(), content.data() + size, content.size() - size);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return cannot(path, "read", errno);
        if (got == 0) break;
        size += static_cast<std::size_t>(got);
    }
    content.resize(size);
    return content;
}

}  // namespace braid::cluster
