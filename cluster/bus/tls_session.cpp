// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/tls_session.h"

#include <fmt/format.h>
#include <gnutls/gnutls.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <string_view>
#include <utility>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

// The hash of an external key is SHA-256 with GnuTLS 3.7, so that the ciphers with it are left. The
// first one that both sides have is taken. Nothing is signed, but GnuTLS wants to be told how.
constexpr const char* priority =
    "NONE:+VERS-TLS1.3:+AES-128-GCM:+CHACHA20-POLY1305:+AEAD:+ECDHE-PSK:+GROUP-X25519:"
    "+GROUP-SECP256R1:+SIGN-EDDSA-ED25519";
constexpr std::string_view identity = "braid";
constexpr std::size_t in_size = 128u << 10;  // bytes; a record has 16 KiB and some more

/// For GnuTLS, which frees it.
bool copy(gnutls_datum_t& to, const void* from, std::size_t size) {
    to.data = static_cast<unsigned char*>(gnutls_malloc(size));
    if (to.data == nullptr) return false;
    std::memcpy(to.data, from, size);
    to.size = static_cast<unsigned>(size);
    return true;
}

const ClusterKey& key_of(gnutls_session_t session) {
    return *static_cast<const ClusterKey*>(gnutls_session_get_ptr(session));
}

int give_key(gnutls_session_t session, const gnutls_datum_t* name, gnutls_datum_t* key) {
    const std::string_view asked(reinterpret_cast<const char*>(name->data), name->size);
    const ClusterKey& ours = key_of(session);
    return asked == identity && copy(*key, ours.data(), ours.size()) ? 0 : -1;
}
int give_name_and_key(gnutls_session_t session, gnutls_datum_t* name, gnutls_datum_t* key) {
    const ClusterKey& ours = key_of(session);
    return copy(*name, identity.data(), identity.size()) && copy(*key, ours.data(), ours.size())
               ? 0
               : -1;
}

bool waits(int result) { return result == GNUTLS_E_AGAIN || result == GNUTLS_E_INTERRUPTED; }

}  // namespace

/// What GnuTLS has; the session goes before what it points to.
struct TlsSession::Parts {
    gnutls_psk_client_credentials_t asks{nullptr};
    gnutls_psk_server_credentials_t answers{nullptr};
    gnutls_session_t session{nullptr};

    ~Parts() {
        if (session != nullptr) gnutls_deinit(session);
        if (asks != nullptr) gnutls_psk_free_client_credentials(asks);
        if (answers != nullptr) gnutls_psk_free_server_credentials(answers);
    }
};

TlsSession::TlsSession() : parts_(std::make_unique<Parts>()), in_(in_size) {}
TlsSession::~TlsSession() { explicit_bzero(key_.data(), key_.size()); }

Checked<std::unique_ptr<TlsSession>> TlsSession::create(TlsRole role, const ClusterKey& key) {
    std::unique_ptr<TlsSession> made(new TlsSession);
    made->key_ = key;
    if (const int fault = made->set_up(role); fault < 0) {
        return Refusal{fmt::format("TLS is not to be had on this machine: {}: is GnuTLS installed "
                                   "as it should be?",
                                   gnutls_strerror(fault)),
                       RefusalCode::io};
    }
    return made;
}

int TlsSession::set_up(TlsRole role) {
    const bool asks = role == TlsRole::asks;
    gnutls_session_t& session = parts_->session;
    int fault = gnutls_init(
        &session, (asks ? GNUTLS_CLIENT : GNUTLS_SERVER) | GNUTLS_NONBLOCK | GNUTLS_NO_TICKETS);
    if (fault < 0) return fault;
    gnutls_session_set_ptr(session, &key_);
    fault = gnutls_priority_set_direct(session, priority, nullptr);
    if (fault < 0) return fault;
    fault = asks ? gnutls_psk_allocate_client_credentials(&parts_->asks)
                 : gnutls_psk_allocate_server_credentials(&parts_->answers);
    if (fault < 0) return fault;
    if (asks) {
        gnutls_psk_set_client_credentials_function2(parts_->asks, give_name_and_key);
        fault = gnutls_credentials_set(session, GNUTLS_CRD_PSK, parts_->asks);
    } else {
        gnutls_psk_set_server_credentials_function2(parts_->answers, give_key);
        fault = gnutls_credentials_set(session, GNUTLS_CRD_PSK, parts_->answers);
    }
    gnutls_handshake_set_max_packet_length(session, handshake_size_max);
    gnutls_transport_set_ptr(session, this);
    gnutls_transport_set_pull_function(session, pull);
    gnutls_transport_set_push_function(session, push);
    // For GnuTLS's own waiting, which there is none of.
    gnutls_transport_set_pull_timeout_function(session, [](void* self, unsigned) {
        const auto& mine = *static_cast<TlsSession*>(self);
        return mine.begin_ != mine.end_ ? 1 : 0;
    });
    return fault;
}

ByteSpan TlsSession::room() {
    if (begin_ != 0) {
        std::memmove(in_.data(), in_.data() + begin_, end_ - begin_);
        end_ -= begin_;
        begin_ = 0;
    }
    return in_.span().subspan(end_);
}

void TlsSession::came(std::size_t count) {
    BRAID_REQUIRE(count <= in_.size() - end_);
    end_ += count;
}

ssize_t TlsSession::pull(void* session, void* into, std::size_t size) {
    auto& self = *static_cast<TlsSession*>(session);
    const std::size_t count = std::min(size, self.end_ - self.begin_);
    if (count == 0) {
        gnutls_transport_set_errno(self.parts_->session, EAGAIN);
        return -1;
    }
    std::memcpy(into, self.in_.data() + self.begin_, count);
    self.begin_ += count;
    return static_cast<ssize_t>(count);
}

ssize_t TlsSession::push(void* session, const void* from, std::size_t size) {
    auto& out = static_cast<TlsSession*>(session)->out_;
    const auto* bytes = static_cast<const std::byte*>(from);
    out.insert(out.end(), bytes, bytes + size);
    return static_cast<ssize_t>(size);
}

std::vector<std::byte> TlsSession::taken() { return std::exchange(out_, {}); }

TlsStep TlsSession::handshake() {
    int result = 0;
    do {
        result = gnutls_handshake(parts_->session);
        if (waits(result) && begin_ == end_) return TlsStep::needs_bytes;
    } while (result < 0 && gnutls_error_is_fatal(result) == 0);
    if (result == 0) result = check();
    if (result < 0) return fail(result);
    explicit_bzero(key_.data(), key_.size());
    return TlsStep::done;
}

/// What was agreed on is what was asked for; a mistake in the words for GnuTLS must not let anybody
/// in.
int TlsSession::check() const {
    gnutls_session_t session = parts_->session;
    const bool is_ours = gnutls_protocol_get_version(session) == GNUTLS_TLS1_3 &&
                         gnutls_kx_get(session) == GNUTLS_KX_ECDHE_PSK &&
                         gnutls_auth_get_type(session) == GNUTLS_CRD_PSK;
    return is_ours ? 0 : GNUTLS_E_INSUFFICIENT_SECURITY;
}

TlsStep TlsSession::fail(int fault) {
    gnutls_session_t session = parts_->session;
    switch (fault) {
        case GNUTLS_E_FATAL_ALERT_RECEIVED: {
            const char* const name = gnutls_alert_get_name(gnutls_alert_get(session));
            wrong_ = fmt::format("refuses our key ({})", name != nullptr ? name : "no reason");
            break;
        }
        case GNUTLS_E_RECEIVED_ILLEGAL_PARAMETER:  // the binder, which only the key can make
            wrong_ = "has another key";
            break;
        default:
            wrong_ = fmt::format("does not talk as the nodes of a cluster do ({})",
                                 gnutls_strerror(fault));
    }
    // So that the other side hears why. If it cannot be put into words nothing is sent.
    gnutls_alert_send_appropriate(session, fault);
    return TlsStep::failed;
}

Result<void> TlsSession::seal(ByteView bytes) {
    while (!bytes.empty()) {
        const ssize_t count = gnutls_record_send(parts_->session, bytes.data(), bytes.size());
        if (count < 0) return Error{Errc::io, "TLS", EPROTO};
        bytes = bytes.subspan(static_cast<std::size_t>(count));
    }
    return {};
}

Result<std::size_t> TlsSession::open(ByteSpan into) {
    BRAID_REQUIRE(!into.empty());
    for (;;) {
        const ssize_t count = gnutls_record_recv(parts_->session, into.data(), into.size());
        if (count > 0) return static_cast<std::size_t>(count);
        if (count == 0) return Error{Errc::io, "TLS", 0};  // told so: it sends no more
        const int fault = static_cast<int>(count);
        if (waits(fault) && begin_ == end_) return std::size_t{0};
        if (gnutls_error_is_fatal(fault) != 0) return Error{Errc::io, "TLS", EBADMSG};
    }
}

}  // namespace braid::cluster
