// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/hang_up.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <charconv>
#include <cstring>
#include <filesystem>
#include <string_view>
#include <vector>

namespace braid::plugin {
namespace {

constexpr std::array stop_signals{SIGINT, SIGQUIT, SIGTERM, SIGHUP};
constexpr int patience_ms = 5000;  // with clients that do not read their replies
constexpr int round_ms = 100;

// The handler's: signals know no object.
std::atomic<int> signal_fd{-1};
std::array<struct sigaction, stop_signals.size()> handlers_before{};

void on_stop_signal(int signal, siginfo_t* info, void* context) {
    const int saved = errno;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(signal_fd.load(), &one, sizeof one);
    for (std::size_t i = 0; i != stop_signals.size(); ++i) {
        if (stop_signals[i] != signal) continue;
        const auto& before = handlers_before[i];
        if ((before.sa_flags & SA_SIGINFO) != 0) {
            before.sa_sigaction(signal, info, context);
        } else if (before.sa_handler != SIG_DFL && before.sa_handler != SIG_IGN) {
            before.sa_handler(signal);
        }
    }
    errno = saved;
}

/// The local end of a socket, as far as a listening socket and what it accepted have it in common.
std::string local_name(int fd) {
    sockaddr_storage address{};
    socklen_t size = sizeof address;
    if (getsockname(fd, reinterpret_cast<sockaddr*>(&address), &size) != 0) return {};
    switch (address.ss_family) {
        case AF_UNIX: {
            const auto* local = reinterpret_cast<const sockaddr_un*>(&address);
            const std::size_t length = size - offsetof(sockaddr_un, sun_path);
            std::string name(local->sun_path, length);
            while (!name.empty() && name.back() == '\0') name.pop_back();
            return name.empty() ? name : "unix:" + name;
        }
        case AF_INET:
            return "port:" + std::to_string(reinterpret_cast<sockaddr_in*>(&address)->sin_port);
        case AF_INET6:
            return "port:" + std::to_string(reinterpret_cast<sockaddr_in6*>(&address)->sin6_port);
        default: {  // vsock and whatever comes: the address as it stands
            return std::string(reinterpret_cast<const char*>(&address), size);
        }
    }
}

int option_of(int fd, int option) {
    int value = -1;
    socklen_t size = sizeof value;
    return getsockopt(fd, SOL_SOCKET, option, &value, &size) == 0 ? value : -1;
}

std::vector<int> open_sockets() {
    std::vector<int> found;
    std::error_code error;
    std::filesystem::directory_iterator entries("/proc/self/fd", error);
    if (error) return found;
    for (const auto& entry : entries) {
        const std::string name = entry.path().filename().string();
        int fd = -1;
        std::from_chars(name.data(), name.data() + name.size(), fd);
        if (fd >= 0 && option_of(fd, SO_TYPE) == SOCK_STREAM) found.push_back(fd);
    }
    return found;
}

}  // namespace

std::vector<std::string> listening_sockets(const std::string& spare) {
    std::vector<std::string> listening;
    for (const int fd : open_sockets()) {
        if (option_of(fd, SO_ACCEPTCONN) != 1) continue;
        std::string name = local_name(fd);
        if (!name.empty() && name != "unix:" + spare) listening.push_back(std::move(name));
    }
    return listening;
}

int hang_up_clients(const std::vector<std::string>& listening) {
    int count = 0;
    for (const int fd : open_sockets()) {
        if (option_of(fd, SO_ACCEPTCONN) != 0) continue;
        const std::string name = local_name(fd);
        for (const std::string& one : listening) {
            if (one != name) continue;
            shutdown(fd, SHUT_RD);
            ++count;
            break;
        }
    }
    return count;
}

bool HangUp::start() {
    listening_ = listening_sockets(spare_);
    stop_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
    serves_fd_ = UniqueFd(eventfd(0, EFD_CLOEXEC));
    signal_fd = eventfd(0, EFD_CLOEXEC);
    if (stop_fd_.get() < 0 || serves_fd_.get() < 0 || signal_fd.load() < 0) return false;
    for (std::size_t i = 0; i != stop_signals.size(); ++i) {
        struct sigaction ours {};
        sigaction(stop_signals[i], nullptr, &handlers_before[i]);
        if (handlers_before[i].sa_handler == SIG_IGN) continue;
        ours.sa_sigaction = on_stop_signal;
        ours.sa_flags = SA_SIGINFO | (handlers_before[i].sa_flags & SA_RESTART);
        ours.sa_mask = handlers_before[i].sa_mask;
        sigaction(stop_signals[i], &ours, nullptr);
    }
    thread_ = std::thread([this] { watch(); });
    started_ = true;
    return true;
}

void HangUp::serves() {
    if (!started_) return;
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(serves_fd_.get(), &one, sizeof one);
}

void HangUp::stop() {
    if (!started_) return;
    started_ = false;
    for (std::size_t i = 0; i != stop_signals.size(); ++i) {
        if (handlers_before[i].sa_handler == SIG_IGN) continue;
        sigaction(stop_signals[i], &handlers_before[i], nullptr);
    }
    const std::uint64_t one = 1;
    [[maybe_unused]] const auto written = write(stop_fd_.get(), &one, sizeof one);
    thread_.join();
    close(signal_fd.exchange(-1));
}

/// False: stop() was called first.
bool HangUp::wait_for(int fd) const {
    std::array<pollfd, 2> fds{pollfd{stop_fd_.get(), POLLIN, 0}, pollfd{fd, POLLIN, 0}};
    for (;;) {
        if (poll(fds.data(), fds.size(), -1) < 0 && errno != EINTR) return false;
        if (fds[0].revents != 0) return false;
        std::uint64_t count = 0;
        if (fds[1].revents != 0) return read(fd, &count, sizeof count) == sizeof count;
    }
}

void HangUp::watch() {
    if (!wait_for(signal_fd.load())) return;
    told_();
    if (!wait_for(serves_fd_.get())) return;
    pollfd stop{stop_fd_.get(), POLLIN, 0};
    for (int waited = 0; waited < patience_ms; waited += round_ms) {
        hang_up_clients(listening_);
        if (poll(&stop, 1, round_ms) > 0) return;
    }
    give_up_();
}

}  // namespace braid::plugin
