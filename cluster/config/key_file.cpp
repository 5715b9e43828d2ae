// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/config/key_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>

#include "cluster/config/small_file.h"
#include "engine/base/hex.h"
#include "engine/base/unique_fd.h"

namespace braid::cluster {
namespace {

constexpr std::size_t text_size = 2 * key_size;  // digits
constexpr mode_t others = S_IRWXG | S_IRWXO;
constexpr const char* way_out =
    "copy it once more from another node, or make one with braid cluster keygen FILE";

Checked<ClusterKey> random_key(const std::string& path) {
    ClusterKey key{};
    // Up to 256 bytes come whole, and no signal interrupts them, once the kernel has some.
    while (getrandom(key.data(), key.size(), 0) != static_cast<ssize_t>(key.size())) {
        if (errno != EINTR) return cannot(path, "made: the kernel gives no random numbers", errno);
    }
    return key;
}

std::string text_of(const ClusterKey& key) {
    std::string text;
    for (const std::uint8_t byte : key) append_hex(text, byte);
    return text + '\n';
}

/// 0, or the errno of what failed.
int write_all(int fd, std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t wrote = write(fd, bytes.data(), bytes.size());
        if (wrote < 0 && errno == EINTR) continue;
        if (wrote < 0) return errno;
        bytes.remove_prefix(static_cast<std::size_t>(wrote));
    }
    return 0;
}

/// A name is durable when its folder is. 0, or the errno of what failed.
int sync_folder_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    const std::string folder = slash == path.npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
    const UniqueFd fd(open(folder.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    return fd.get() >= 0 && fsync(fd.get()) == 0 ? 0 : errno;
}

/// 0, or the errno of what failed.
int fill(int fd, const std::string& path, const ClusterKey& key) {
    std::string text = text_of(key);
    int fault = fchmod(fd, S_IRUSR | S_IWUSR) == 0 ? 0 : errno;  // umask(2) may have taken some
    if (fault == 0) fault = write_all(fd, text);
    if (fault == 0 && fsync(fd) != 0) fault = errno;
    if (fault == 0) fault = sync_folder_of(path);
    explicit_bzero(text.data(), text.size());
    return fault;
}

Checked<ClusterKey> parse_key(std::string_view text, const std::string& path) {
    if (text.ends_with('\n')) text.remove_suffix(1);
    if (text.size() != text_size) {
        return Refusal{fmt::format("{}: is no key: it has {}{} characters, and a key has {}: {}",
                                   path, text.size() > text_size ? "more than " : "",
                                   std::min(text.size(), text_size), text_size, way_out),
                       RefusalCode::invalid};
    }
    ClusterKey key{};
    for (std::size_t at = 0; at != text_size; ++at) {
        const auto value = value_of_hex(text[at]);
        if (!value) {
            return Refusal{fmt::format("{}: is no key: its character {} is no hexadecimal digit: "
                                       "{}",
                                       path, at + 1, way_out),
                           RefusalCode::invalid};
        }
        key[at / 2] = static_cast<std::uint8_t>(key[at / 2] << 4 | *value);
    }
    return key;
}

}  // namespace

Checked<Unit> make_key_file(const std::string& path) {
    BRAID_TRY(ClusterKey key, random_key(path));
    const int flags = O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC;
    const UniqueFd fd(open(path.c_str(), flags, S_IRUSR | S_IWUSR));
    if (fd.get() < 0 && errno == EEXIST) {
        return Refusal{
            fmt::format("{}: exists already, and may be the key of a running cluster: "
                        "remove it if it is not, or give another path",
                        path)};
    }
    if (fd.get() < 0) return cannot(path, "made", errno);
    const int fault = fill(fd.get(), path, key);
    explicit_bzero(key.data(), key.size());
    if (fault == 0) return Unit{};
    unlink(path.c_str());
    return cannot(path, "written", fault);
}

Checked<ClusterKey> read_key_file(const std::string& path) {
    BRAID_TRY(const SmallFile file, open_small_file(path));
    if ((file.status.st_mode & others) != 0) {
        return Refusal{
            fmt::format("{}: others than its owner may use it (mode {:04o}), and a key is "
                        "a secret: chmod 600 {}",
                        path, file.status.st_mode & 07777, path)};
    }
    BRAID_TRY(std::string text, read_small_file(file, path, text_size + 1));
    auto key = parse_key(text, path);
    explicit_bzero(text.data(), text.size());
    return key;
}

}  // namespace braid::cluster
