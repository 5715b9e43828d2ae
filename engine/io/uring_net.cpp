// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/uring_net.h"

#include <fmt/format.h>
#include <liburing.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/os_error.h"
#include "engine/base/unique_fd.h"
#include "engine/io/deadline.h"
#include "engine/io/listen_socket.h"
#include "engine/io/socket_address.h"
#include "engine/io/under_way.h"
#include "parity/require.h"

namespace braid {
namespace {

// One system call moves at most this much, so that counts fit io_uring's 32 bits; and this many
// parts, which lie in a coroutine's frame.
constexpr std::size_t piece_max = 1u << 30;
constexpr std::size_t pieces_max = 16;

bool comes_again(int result) { return result == -EINTR || result == -EAGAIN; }

/// What is left of some parts, as sendmsg(2) and recvmsg(2) take it.
template <class Part>
class Rest {
  public:
    explicit Rest(std::span<const Part> parts) : parts_(parts) { pass(0); }
    bool empty() const { return parts_.empty(); }
    /// The next `count` bytes are done.
    void pass(std::size_t count) {
        done_ += count;
        while (!parts_.empty() && done_ >= parts_.front().size()) {
            done_ -= parts_.front().size();
            parts_ = parts_.subspan(1);
        }
        BRAID_REQUIRE(!parts_.empty() || done_ == 0);
    }
    /// For one system call; valid until the next one.
    const msghdr* next() {
        std::size_t room = piece_max;
        std::size_t skip = done_;
        header_ = {};
        header_.msg_iov = pieces_.data();
        for (const Part& part : parts_) {
            if (room == 0 || header_.msg_iovlen == pieces_max) break;
            iovec& piece = pieces_[header_.msg_iovlen++];
            piece.iov_base = const_cast<std::byte*>(part.data() + skip);  // NOLINT: sent is as read
            piece.iov_len = std::min(part.size() - skip, room);
            room -= piece.iov_len;
            skip = 0;
        }
        return &header_;
    }

  private:
    std::span<const Part> parts_;
    std::size_t done_{0};  // bytes of the first part
    std::array<iovec, pieces_max> pieces_{};
    msghdr header_{};
};

template <class Part>
std::size_t size_of(std::span<const Part> parts) {
    std::size_t size = 0;
    for (const Part& part : parts) size += part.size();
    return size;
}

class UringConnection final : public Connection {
  public:
    UringConnection(UringLoop& loop, UniqueFd fd, const SocketAddress& peer)
        : loop_(loop), fd_(std::move(fd)), peer_(text_of(peer)) {
        send_at_once(fd_.get(), peer);
    }
    ~UringConnection() override {
        BRAID_REQUIRE(!sending_);
        BRAID_REQUIRE(!receiving_);
    }
    const std::string& peer() const override { return peer_; }
    Task<Result<void>> send(std::span<const ByteView> parts) override;
    Task<Result<std::size_t>> receive(std::span<const ByteSpan> parts,
                                      std::size_t at_least) override;
    void shut() override {
        fault_ = ECANCELED;
        end();
    }

  private:
    /// What failed in one direction fails in both. The first fault stays.
    void broke(int os_error) {
        if (!fault_) fault_ = os_error;
        end();
    }
    /// What is under way ends, at both ends. It may have ended before: then there is nothing to do.
    void end() { ::shutdown(fd_.get(), SHUT_RDWR); }
    Error fault() const { return {Errc::io, "connection", *fault_}; }
    bool is_shut() const { return fault_ == ECANCELED; }
    /// Mostly there is room, and then whoever leads the loop needs no ring for it. Gives the bytes
    /// that went, or an errno, negative: -EAGAIN where it would have to wait.
    int send_now(const msghdr* pieces) const {
        const ssize_t count = ::sendmsg(fd_.get(), pieces, MSG_DONTWAIT | MSG_NOSIGNAL);
        return count < 0 ? -errno : static_cast<int>(count);
    }

    UringLoop& loop_;
    UniqueFd fd_;
    std::string peer_;
    std::optional<int> fault_;
    bool sending_{false};
    bool receiving_{false};
};

Task<Result<void>> UringConnection::send(std::span<const ByteView> parts) {
    const UnderWay mark(sending_);
    Rest<ByteView> rest(parts);
    if (fault_) co_return fault();
    while (!rest.empty()) {
        const msghdr* const pieces = rest.next();
        int count = send_now(pieces);
        if (count == -EAGAIN) {
            RingOp op{loop_, IORING_OP_SENDMSG, fd_.get(), pieces, 1, 0, MSG_NOSIGNAL};
            count = co_await op;
        }
        if (comes_again(count)) continue;
        if (count < 0) broke(-count);
        if (count < 0 || is_shut()) co_return fault();
        rest.pass(static_cast<std::size_t>(count));
    }
    co_return Result<void>{};
}

Task<Result<std::size_t>> UringConnection::receive(std::span<const ByteSpan> parts,
                                                   std::size_t at_least) {
    BRAID_REQUIRE(at_least != 0);
    BRAID_REQUIRE(at_least <= size_of(parts));
    const UnderWay mark(receiving_);
    Rest<ByteSpan> rest(parts);
    std::size_t done = 0;
    if (fault_) co_return fault();
    while (done < at_least) {
        RingOp op{loop_, IORING_OP_RECVMSG, fd_.get(), rest.next(), 1, 0, 0};
        const int count = co_await op;
        if (comes_again(count)) continue;
        if (count <= 0) broke(-count);
        if (count <= 0 || is_shut()) co_return fault();
        rest.pass(static_cast<std::size_t>(count));
        done += static_cast<std::size_t>(count);
    }
    co_return done;
}

/// accept(2): what was wrong with one who came, and says nothing of the next one.
bool is_of_one_comer(int error) {
    switch (error) {
        case EAGAIN:
        case EINTR:
        case ECONNABORTED:
        case ENETDOWN:
        case EPROTO:
        case ENOPROTOOPT:
        case EHOSTDOWN:
        case ENONET:
        case EHOSTUNREACH:
        case EOPNOTSUPP:
        case ENETUNREACH:
            return true;
        default:
            return false;
    }
}

class UringListener final : public Listener {
  public:
    UringListener(UringLoop& loop, ListenSocket socket) : loop_(loop), socket_(std::move(socket)) {}
    ~UringListener() override { BRAID_REQUIRE(accepting_ == nullptr); }
    Task<Result<std::unique_ptr<Connection>>> accept() override;
    void shut() override;

  private:
    /// Only when no entry of the ring names the descriptor.
    void close() { socket_ = {}; }

    UringLoop& loop_;
    ListenSocket socket_;
    RingOp* accepting_{nullptr};
    bool is_shut_{false};
};

Task<Result<std::unique_ptr<Connection>>> UringListener::accept() {
    BRAID_REQUIRE(accepting_ == nullptr);
    while (!is_shut_) {
        SocketAddress peer;
        peer.size = sizeof peer.storage;
        RingOp op{loop_,
                  IORING_OP_ACCEPT,
                  socket_.fd.get(),
                  peer.get(),
                  0,
                  reinterpret_cast<std::uintptr_t>(&peer.size),
                  SOCK_CLOEXEC};
        accepting_ = &op;
        const int result = co_await op;
        accepting_ = nullptr;
        UniqueFd fd(result);
        if (is_shut_) {
            close();
        } else if (result >= 0) {
            co_return std::make_unique<UringConnection>(loop_, std::move(fd), peer);
        } else if (!is_of_one_comer(-result)) {
            co_return Error{Errc::io, "accept", -result};
        }
    }
    co_return Error{Errc::io, "accept", ECANCELED};
}

void UringListener::shut() {
    if (is_shut_) return;
    is_shut_ = true;
    socket_.file.remove();
    ::shutdown(socket_.fd.get(), SHUT_RDWR);  // whoever waits to be accepted is told so now
    if (accepting_ == nullptr) {
        close();
    } else {
        loop_.cancel(*accepting_);
    }
}

/// For so long an address may be in use by a process that has just died: what its io_uring had under
/// way holds its sockets for some tenths of a second.
constexpr Nanos in_use_patience = seconds(1);
constexpr Nanos in_use_pause = millis(20);

/// Where nobody listens at a port of this machine, the kernel may choose just that one for us: then
/// TCP connects it to itself.
bool is_own(int fd, const SocketAddress& to) {
    SocketAddress own;
    own.size = sizeof own.storage;
    return to.storage.ss_family != AF_UNIX && getsockname(fd, own.get(), &own.size) == 0 &&
           own.size == to.size && std::memcmp(&own.storage, &to.storage, to.size) == 0;
}

/// os_error says why not; ETIMEDOUT: no answer until then.
Task<Result<UniqueFd>> connect_to(UringLoop* loop, SocketAddress to, Nanos until) {
    BRAID_CO_TRY(UniqueFd fd, make_socket(to));
    RingOp op{*loop, IORING_OP_CONNECT, fd.get(), to.get(), 0, to.size};
    const int result = co_await run_until(&op, until);
    if (result < 0) co_return Error{Errc::io, "connect", -result};
    if (is_own(fd.get(), to)) co_return Error{Errc::io, "connect", ECONNREFUSED};
    co_return fd;
}

std::string reason_of(int error, std::uint64_t connect_ms) {
    switch (error) {
        case ECONNREFUSED:
        case ENOENT:
            return fmt::format("nobody listens there ({})", os_error_text(error));
        case ETIMEDOUT:
            return fmt::format("no answer in time ({} ms)", connect_ms);
        default:
            return fmt::format("it cannot be reached ({})", os_error_text(error));
    }
}

/// Each place that was tried, and its errno.
using Attempts = std::vector<std::pair<std::string, int>>;

Refusal cannot_connect(const NetAddress& address, const Attempts& attempts,
                       std::uint64_t connect_ms) {
    std::string why;
    bool is_up = true;  // as far as one can tell: its machine answers
    for (const auto& [place, error] : attempts) {
        if (!why.empty()) why += ", ";
        if (address.kind == AddressKind::name) why += place + ": ";
        why += reason_of(error, connect_ms);
        is_up = is_up && (error == ECONNREFUSED || error == ENOENT);
    }
    return refuse(address, why,
                  is_up ? "start the node, or correct its address"
                        : "look whether that machine is up, whether its address is right, and "
                          "whether a firewall is between",
                  RefusalCode::io);
}

}  // namespace

UringNet::UringNet(UringLoop& loop, std::uint64_t connect_ms)
    : loop_(loop), connect_ms_(connect_ms), names_(loop) {}

Task<Checked<Places>> UringNet::places_of(NetAddress address, Nanos until) {
    if (address.kind == AddressKind::name) co_return co_await names_.find(address, until);
    BRAID_CO_TRY(const SocketAddress place, socket_address_of(address));
    Places places;
    places.add(place);
    co_return places;
}

Task<Checked<std::unique_ptr<Listener>>> UringNet::listen(NetAddress address) {
    const Nanos until{loop_.now().value + millis(connect_ms_).value};
    BRAID_CO_TRY(const auto places, co_await places_of(address, until));
    const bool is_unix = address.kind == AddressKind::unix_socket;
    if (is_unix) BRAID_CO_CHECK(clear_path(address, Forks::no));
    int error = EADDRNOTAVAIL;
    for (const SocketAddress& place : places.all()) {
        auto socket = listen_at(place, is_unix ? address.host : std::string());
        const Nanos patient_until{loop_.now().value + in_use_patience.value};
        while (!socket && socket.error().os_error == EADDRINUSE && loop_.now() < patient_until) {
            Timer timer(loop_, Nanos{loop_.now().value + in_use_pause.value});
            co_await timer;
            socket = listen_at(place, is_unix ? address.host : std::string());
        }
        if (socket) co_return std::make_unique<UringListener>(loop_, std::move(*socket));
        error = socket.error().os_error;
        if (error != EADDRNOTAVAIL && error != EAFNOSUPPORT) break;
    }
    co_return cannot_listen(address, error);
}

Task<Checked<std::unique_ptr<Connection>>> UringNet::connect(NetAddress address) {
    const Nanos end{loop_.now().value + millis(connect_ms_).value};
    BRAID_CO_TRY(const auto places, co_await places_of(address, end));
    Attempts attempts;
    for (const SocketAddress& place : places.all()) {
        const Nanos now = loop_.now();
        const std::uint64_t left = end.value > now.value ? end.value - now.value : 0;
        const Nanos until{now.value + left / (places.size() - attempts.size())};
        auto fd = co_await connect_to(&loop_, place, until);
        if (fd) co_return std::make_unique<UringConnection>(loop_, std::move(*fd), place);
        attempts.emplace_back(text_of(place), fd.error().os_error);
    }
    co_return cannot_connect(address, attempts, connect_ms_);
}

}  // namespace braid
