// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/remote_home.h"

#include <bit>
#include <cerrno>
#include <utility>

#include "cluster/homes/home_messages.h"
#include "parity/require.h"

namespace braid::cluster {

void RemoteHome::send(HomeCommand command, HomeReply* reply) {
    BRAID_REQUIRE((reply != nullptr) == is_answered(command.kind));
    if (!is_answered(command.kind) && ends_together_) {
        QueuedMessage* const last = session_.last_unsent();
        const bool fits = last != nullptr && last->header.fence == fence_.epoch;
        if (fits && add_to(last, command)) return;
    }
    Sink* sink = nullptr;
    if (reply != nullptr) {
        if (free_.empty()) free_.push_back(&sinks_.emplace_back());
        sink = free_.back();
        free_.pop_back();
        sink->home = this;
        sink->reply = reply;
        sink->kind = command.kind;
        sink->into = {};
        if (command.kind == HomeCommandKind::read) {
            sink->into = {command.into, static_cast<std::size_t>(command.count * row_size)};
        } else if (command.with_lock != 0) {
            const auto rows = static_cast<std::size_t>(std::popcount(command.with_lock));
            sink->into = {command.into, rows * row_size};
        }
    }
    QueuedMessage message = encode_command(std::move(command));
    message.header.fence = fence_.epoch;
    ++messages_;
    session_.send(std::move(message), sink);
}

/// From now on another command may have it.
HomeReply* RemoteHome::Sink::finish() {
    BRAID_REQUIRE(reply != nullptr);
    home->free_.push_back(this);
    return std::exchange(reply, nullptr);
}

Checked<Unit> RemoteHome::Sink::answered(const Message& answer) {
    BRAID_TRY(const HomeAnswer told, decode_answer(kind, into.size(), answer, home->geometry_));
    finish()->answered(told);
    return Unit{};
}

void RemoteHome::Sink::cut() {
    HomeAnswer told;
    told.result = {DriveOutcome::cut, ECONNRESET};
    finish()->answered(told);
}

}  // namespace braid::cluster
