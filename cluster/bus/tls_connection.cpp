// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/tls_connection.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/tls_session.h"
#include "engine/base/os_error.h"
#include "engine/io/under_way.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

// As much as this is sealed before it is sent: of more, the first would wait for the last.
constexpr std::size_t batch_size = 256u << 10;

/// What the frames of a send and a receive hold on to.
struct Tls {
    std::unique_ptr<Connection> inner;
    std::unique_ptr<TlsSession> session;
    std::optional<int> fault;
    bool sending{false};
    bool receiving{false};

    /// The first fault stays. It breaks the inner connection, and so the other direction, too.
    void broke(const Error& error) {
        if (!fault) fault = error.os_error;
        inner->shut();
    }
    bool is_shut() const { return fault == ECANCELED; }
    Error error() const { return {Errc::io, "connection", *fault}; }
};

Task<Result<void>> send_sealed(std::shared_ptr<Tls> tls) {
    const std::vector<std::byte> bytes = tls->session->taken();
    const ByteView part(bytes);
    if (part.empty()) co_return Result<void>{};
    co_return co_await tls->inner->send(std::span(&part, 1));
}

/// Waits for bytes of the other side.
Task<Result<void>> fill(std::shared_ptr<Tls> tls) {
    const ByteSpan room = tls->session->room();
    BRAID_REQUIRE(!room.empty());  // GnuTLS has taken all that was there, to ask for more
    BRAID_CO_TRY(const std::size_t count, co_await tls->inner->receive(std::span(&room, 1), 1));
    tls->session->came(count);
    co_return Result<void>{};
}

/// Small parts that follow each other become one record.
class Gathering {
  public:
    explicit Gathering(TlsSession& session) : session_(session) {}
    Result<void> add(ByteView bytes) {
        if (bytes.size() >= record_size) {
            BRAID_CHECK(finish());
            return session_.seal(bytes);
        }
        if (small_.size() + bytes.size() > record_size) BRAID_CHECK(finish());
        small_.insert(small_.end(), bytes.begin(), bytes.end());
        return {};
    }
    Result<void> finish() {
        auto result = session_.seal(small_);
        small_.clear();
        return result;
    }

  private:
    static constexpr std::size_t record_size = 16u << 10;

    TlsSession& session_;
    std::vector<std::byte> small_;
};

/// Seals from `parts` on, which is moved on, until there is enough to be sent.
Result<void> seal_batch(TlsSession& session, std::span<const ByteView>& parts, std::size_t& done) {
    Gathering gathering(session);
    while (!parts.empty() && session.sealed_size() < batch_size) {
        const ByteView left = parts.front().subspan(done);
        const ByteView piece = left.first(std::min(left.size(), batch_size));
        BRAID_CHECK(gathering.add(piece));
        done += piece.size();
        if (piece.size() != left.size()) continue;
        parts = parts.subspan(1);
        done = 0;
    }
    return gathering.finish();
}

Task<Result<void>> send(std::shared_ptr<Tls> tls, std::span<const ByteView> parts) {
    const UnderWay mark(tls->sending);
    std::size_t done = 0;
    while (!tls->fault && !parts.empty()) {
        auto result = seal_batch(*tls->session, parts, done);
        if (result) result = co_await send_sealed(tls);
        if (!result) tls->broke(result.error());
    }
    if (tls->fault) co_return tls->error();
    co_return Result<void>{};
}

/// Opens what is there into the parts, behind their first `done` bytes; counts those.
Result<void> open_all(TlsSession& session, std::span<const ByteSpan> parts, std::size_t& done) {
    std::size_t skip = done;
    for (ByteSpan part : parts) {
        const std::size_t passed = std::min(skip, part.size());
        skip -= passed;
        part = part.subspan(passed);
        while (!part.empty()) {
            BRAID_TRY(const std::size_t count, session.open(part));
            if (count == 0) return {};
            part = part.subspan(count);
            done += count;
        }
    }
    return {};
}

Task<Result<std::size_t>> receive(std::shared_ptr<Tls> tls, std::span<const ByteSpan> parts,
                                  std::size_t at_least) {
    const UnderWay mark(tls->receiving);
    std::size_t done = 0;
    while (!tls->fault && done < at_least) {
        auto result = open_all(*tls->session, parts, done);
        if (result && done < at_least) result = co_await fill(tls);
        if (!result) tls->broke(result.error());
    }
    if (tls->fault && (done < at_least || tls->is_shut())) co_return tls->error();
    co_return done;
}

class TlsConnection final : public Connection {
  public:
    explicit TlsConnection(std::shared_ptr<Tls> tls) : tls_(std::move(tls)) {}
    const std::string& peer() const override { return tls_->inner->peer(); }
    Task<Result<void>> send(std::span<const ByteView> parts) override {
        return cluster::send(tls_, parts);
    }
    Task<Result<std::size_t>> receive(std::span<const ByteSpan> parts,
                                      std::size_t at_least) override {
        return cluster::receive(tls_, parts, at_least);
    }
    void shut() override {
        tls_->fault = ECANCELED;
        tls_->inner->shut();
    }

  private:
    std::shared_ptr<Tls> tls_;
};

Refusal refuse(std::string_view why) {
    return Refusal{fmt::format("{}: look whether it is a node of this cluster, and whether both "
                               "have the same key file",
                               why),
                   RefusalCode::io};
}
Refusal refuse(const Error& error) {
    return refuse(error.os_error == 0 ? "went away before it had shown that it has the key"
                                      : fmt::format("the connection broke before the key was "
                                                    "shown ({})",
                                                    os_error_text(error.os_error)));
}

std::shared_ptr<Tls> tls_over(std::unique_ptr<Connection> inner) {
    auto tls = std::make_shared<Tls>();
    tls->inner = std::move(inner);
    return tls;
}

/// `tls` is a parameter, and no variable: it lives as long as the task, which whoever waits for it
/// relies on when he shuts the inner connection.
Task<Checked<std::unique_ptr<Connection>>> shake_hands(std::shared_ptr<Tls> tls, TlsRole role,
                                                       ClusterKey key) {
    auto session = TlsSession::create(role, key);
    if (!session) co_return session.error();
    tls->session = std::move(*session);
    for (;;) {
        const TlsStep step = tls->session->handshake();
        const auto sent = co_await send_sealed(tls);
        if (step == TlsStep::failed) co_return refuse(tls->session->wrong());
        if (!sent) co_return refuse(sent.error());
        if (step == TlsStep::done) break;
        const auto filled = co_await fill(tls);
        if (!filled) co_return refuse(filled.error());
    }
    co_return std::make_unique<TlsConnection>(tls);
}

}  // namespace

Task<Checked<std::unique_ptr<Connection>>> tls_connect(std::unique_ptr<Connection> inner,
                                                       ClusterKey key) {
    return shake_hands(tls_over(std::move(inner)), TlsRole::asks, key);
}
Task<Checked<std::unique_ptr<Connection>>> tls_accept(std::unique_ptr<Connection> inner,
                                                      ClusterKey key) {
    return shake_hands(tls_over(std::move(inner)), TlsRole::answers, key);
}

}  // namespace braid::cluster
