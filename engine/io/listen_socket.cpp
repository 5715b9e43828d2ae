// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/listen_socket.h"

#include <fmt/format.h>
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <fstream>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/os_error.h"

namespace braid {
namespace {

constexpr const char* other_path = "choose another path";

/// Who listens at the other end; 0: it is not known.
pid_t listener_of(int fd) {
    ucred who{};
    socklen_t size = sizeof who;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &size) == 0 ? who.pid : 0;
}

/// "nbdkit (process 1234)".
std::string name_of(pid_t process) {
    if (process == 0) return "another server";
    std::ifstream file(fmt::format("/proc/{}/comm", process));
    std::string name;
    if (!std::getline(file, name)) name = "another program";
    return fmt::format("{} (process {})", name, process);
}

/// Its socket may be there a while longer: what its io_uring had under way has it.
bool is_dead(pid_t process) { return process != 0 && kill(process, 0) != 0 && errno == ESRCH; }

/// 0, or an errno. A port is free again though connections of before are not forgotten yet, and an
/// IPv6 address means that one only, not IPv4 as well. A unix socket is its owner's alone.
int prepare(int fd, const SocketAddress& place) {
    if (place.storage.ss_family == AF_UNIX) {
        return fchmod(fd, S_IRUSR | S_IWUSR) == 0 ? 0 : errno;  // bind(2) makes the file with it
    }
    const int yes = 1;
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes) != 0) return errno;
    if (place.storage.ss_family != AF_INET6) return 0;
    return setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &yes, sizeof yes) == 0 ? 0 : errno;
}

}  // namespace

SocketFile::SocketFile(std::string path) : path_(std::move(path)) {
    struct stat status {};
    if (lstat(path_.c_str(), &status) != 0) path_.clear();  // somebody has removed it already
    device_ = status.st_dev;
    inode_ = status.st_ino;
}

SocketFile::SocketFile(SocketFile&& other) noexcept
    : path_(std::exchange(other.path_, {})), device_(other.device_), inode_(other.inode_) {}

SocketFile& SocketFile::operator=(SocketFile other) noexcept {
    std::swap(path_, other.path_);
    std::swap(device_, other.device_);
    std::swap(inode_, other.inode_);
    return *this;
}

void SocketFile::remove() {
    struct stat status {};
    if (!path_.empty() && lstat(path_.c_str(), &status) == 0 && status.st_dev == device_ &&
        status.st_ino == inode_) {
        unlink(path_.c_str());
    }
    path_.clear();
}

Checked<Unit> clear_path(const NetAddress& address, Forks forks) {
    BRAID_TRY(const SocketAddress place, socket_address_of(address));
    const std::string& path = address.host;
    const auto conflict = [&](std::string_view why, std::string_view way_out) {
        return refuse(address, why, way_out, RefusalCode::conflict);
    };
    struct stat status {};
    if (lstat(path.c_str(), &status) != 0) return Unit{};  // bind() says what else is wrong
    if (!S_ISSOCK(status.st_mode)) {
        return conflict(fmt::format("there is a {} of this name already",
                                    S_ISDIR(status.st_mode) ? "directory" : "file"),
                        "remove it, or choose another path");
    }
    // Without waiting: one that is alive may have too much to do for one more.
    const UniqueFd probe(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    if (probe.get() < 0) return cannot_listen(address, errno);
    const int error = connect(probe.get(), place.get(), place.size) == 0 ? 0 : errno;
    const pid_t listener = error == 0 && forks == Forks::no ? listener_of(probe.get()) : pid_t{0};
    if (error == EAGAIN || (error == 0 && !is_dead(listener))) {
        return conflict(fmt::format("{} listens there", name_of(listener)),
                        "stop it, or choose another path");
    }
    if (error != 0 && error != ECONNREFUSED) {
        return conflict(fmt::format("there is a socket of this name that cannot be reached ({})",
                                    os_error_text(error)),
                        "remove it, or choose another path");
    }
    if (unlink(path.c_str()) != 0 && errno != ENOENT) {
        return conflict(fmt::format("the socket that a dead process left there cannot be removed "
                                    "({})",
                                    os_error_text(errno)),
                        "remove it, or choose another path");
    }
    return Unit{};
}

Result<ListenSocket> listen_at(const SocketAddress& place, const std::string& path) {
    BRAID_TRY(UniqueFd made, make_socket(place));
    ListenSocket listener{std::move(made), {}};
    const int fd = listener.fd.get();
    if (const int error = prepare(fd, place); error != 0) return Error{Errc::io, "socket", error};
    if (bind(fd, place.get(), place.size) != 0) return Error{Errc::io, "bind", errno};
    if (!path.empty()) listener.file = SocketFile(path);
    if (listen(fd, net_backlog_max) != 0) return Error{Errc::io, "listen", errno};
    return listener;
}

Refusal cannot_listen(const NetAddress& address, int error) {
    const auto conflict = [&](std::string_view why, std::string_view way_out) {
        return refuse(address, why, way_out, RefusalCode::conflict);
    };
    switch (error) {
        case EADDRINUSE:
            return conflict("is in use by another program",
                            address.kind == AddressKind::unix_socket
                                ? other_path
                                : "stop that one, or choose another port");
        case EADDRNOTAVAIL:
            return conflict("is no address of this machine",
                            "correct it (`ip address` shows which there are)");
        case EACCES:
        case EPERM:
            return conflict(
                "nobody but root may listen there",
                address.kind == AddressKind::unix_socket ? other_path : "choose another port");
        default:
            return refuse(address,
                          fmt::format("nobody can listen there ({})", os_error_text(error)),
                          "choose another address", RefusalCode::io);
    }
}

}  // namespace braid
