// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/home_server.h"

#include <fmt/format.h>

#include <bit>
#include <cerrno>
#include <utility>

#include "cluster/homes/home_messages.h"
#include "engine/base/limits.h"
#include "engine/base/mutation.h"

namespace braid::cluster {

/// To a command that is answered, by its message's number.
struct HomeServer::Reply final : HomeReply {
    Reply(HomeServer& whose, const HomeCommand& command, std::uint64_t the_number)
        : server(whose), to(command.id.from), kind(command.kind), number(the_number) {}
    HomeServer& server;
    NodeBoot to;
    HomeCommandKind kind;
    std::uint64_t number;
    HomeCommand read;  // that waits
    Buffer bytes;
    void answered(const HomeAnswer& answer) override { server.answered(this, answer); }
};

namespace {

std::uint64_t size_with_lock(const HomeCommand& command) {
    return static_cast<std::uint64_t>(std::popcount(command.with_lock)) * row_size;
}

}  // namespace

HomeServer::HomeServer(Home& home, const Geometry& geometry, const Fence& fence)
    : home_(home), geometry_(geometry), fence_(fence) {}
HomeServer::~HomeServer() = default;

Checked<Unit> HomeServer::take(std::uint32_t from, const Message& message, Buffer payload) {
    const NodeBoot sender{from, message.header.boot};
    const std::uint64_t number = message.header.number;
    const MessageType type = message.header.type;
    // Before anything else of it: it may not fit the array that is served under this fence.
    if (is_for_home(type) && message.header.fence != fence_.epoch &&
        !BRAID_MUTANT(old_fence_obeyed)) {
        if (const auto kind = kind_of(type)) refuse(sender, *kind, number, ESTALE);
        return Unit{};
    }
    BRAID_CHECK(check_bounds(from));
    BRAID_TRY(std::vector<HomeCommand> commands,
              decode_command(message, std::move(payload), sender, geometry_));
    for (HomeCommand& command : commands) {
        if (is_reserved(command)) {
            refuse(sender, command.kind, number, EACCES);
        } else {
            carry_out(std::move(command), number);
        }
    }
    return Unit{};
}

Checked<Unit> HomeServer::refuse_all(Bus& bus, std::uint32_t from, const Message& message) {
    const MessageType type = message.header.type;
    if (!is_for_home(type)) {
        return Refusal{fmt::format("{} is no command", name_of(type)), RefusalCode::invalid};
    }
    if (const auto kind = kind_of(type)) {
        bus.session(from).answer(message.header.boot,
                                 refusal(*kind, message.header.number, ESTALE));
    }
    return Unit{};
}

QueuedMessage HomeServer::refusal(HomeCommandKind kind, std::uint64_t number, int os_error) {
    HomeAnswer answer;
    answer.result = {DriveOutcome::fenced, os_error};
    return encode_answer(kind, number, answer, Buffer());
}

void HomeServer::refuse(NodeBoot to, HomeCommandKind kind, std::uint64_t number, int os_error) {
    send(to, refusal(kind, number, os_error));
}

/// Who takes no answers gets locks alone, and reads what he wants of their rows, which waits.
bool HomeServer::has_room_with_lock(const HomeCommand& command) const {
    const std::uint32_t node = command.id.from.node;
    const auto asker = askers_.find(node);
    const std::uint64_t asked = asker == askers_.end() ? 0 : asker->second.lock_bytes;
    const std::uint64_t kept = bus_->session(node).queue().kept_bytes();
    return asked + kept + size_with_lock(command) <= book_bytes_max + home_read_bytes_max;
}

/// Rows of a volume that another node has for itself. What ends something is never refused.
bool HomeServer::is_reserved(const HomeCommand& command) const {
    if (gate_ == nullptr) return false;
    StripeIndex first{};
    StripeIndex last{};
    switch (command.kind) {
        case HomeCommandKind::read:
            first = geometry_.stripe_of(command.first);
            last = geometry_.stripe_of(command.first + (command.count - 1));
            break;
        case HomeCommandKind::lock:
        case HomeCommandKind::stage:
            first = last = geometry_.stripe_of(command.at.window);
            break;
        default:
            return false;
    }
    return gate_->refuses(command.id.from.node, first, last).has_value();
}

Checked<Unit> HomeServer::check_bounds(std::uint32_t node) const {
    const auto asker = askers_.find(node);
    const std::size_t open = asker == askers_.end() ? 0 : asker->second.commands;
    const std::size_t kept = bus_->session(node).queue().kept();
    if (open <= home_commands_max && kept <= home_commands_max) return Unit{};
    return Refusal{fmt::format("node {} has asked {} times without an answer, and has {} answers "
                               "that it does not take; {} may be",
                               node, open, kept, home_commands_max),
                   RefusalCode::busy};
}

void HomeServer::carry_out(HomeCommand command, std::uint64_t number) {
    if (!is_answered(command.kind)) return home_.take(std::move(command), nullptr);
    auto reply = std::make_unique<Reply>(*this, command, number);
    ++askers_[command.id.from.node].commands;
    if (command.kind == HomeCommandKind::read) {
        const std::uint32_t node = command.id.from.node;
        reply->read = std::move(command);
        askers_[node].waiting.push_back(std::move(reply));
        return start_reads(node);
    }
    if (!has_room_with_lock(command)) command.with_lock = 0;
    if (const std::uint64_t size = size_with_lock(command); size != 0) {
        askers_[command.id.from.node].lock_bytes += size;
        reply->bytes = Buffer::unset(size);
        command.into = reply->bytes.data();
    }
    Reply* const at = reply.get();
    replies_.emplace(at, std::move(reply));
    home_.take(std::move(command), at);
}

/// One alone may be larger than what all have.
void HomeServer::start_reads(std::uint32_t node) {
    Asker& asker = askers_[node];
    // A home that has stopped answers at once, which leads here again.
    if (std::exchange(asker.starting, true)) return;
    while (!asker.waiting.empty()) {
        const std::uint64_t size = asker.waiting.front()->read.count * row_size;
        const std::uint64_t taken = asker.bytes + bus_->session(node).queue().kept_bytes();
        if (taken != 0 && taken + size > home_read_bytes_max) break;
        asker.bytes += size;
        std::unique_ptr<Reply> reply = std::move(asker.waiting.front());
        asker.waiting.pop_front();
        Reply* const at = reply.get();
        at->bytes = Buffer::unset(size);  // it goes out if all of it was read
        at->read.into = at->bytes.data();
        HomeCommand command = std::move(at->read);
        replies_.emplace(at, std::move(reply));
        home_.take(std::move(command), at);
    }
    asker.starting = false;
}

void HomeServer::answered(Reply* reply, const HomeAnswer& answer) {
    const auto found = replies_.find(reply);
    BRAID_REQUIRE(found != replies_.end());
    const std::unique_ptr<Reply> at = std::move(found->second);
    replies_.erase(found);
    --askers_[at->to.node].commands;
    const std::uint64_t size = at->bytes.size();
    send(at->to, encode_answer(at->kind, at->number, answer, std::move(at->bytes)));
    if (at->kind == HomeCommandKind::lock) askers_[at->to.node].lock_bytes -= size;
    if (at->kind != HomeCommandKind::read) return;
    askers_[at->to.node].bytes -= size;
    start_reads(at->to.node);
}

void HomeServer::send(NodeBoot to, QueuedMessage message) {
    message.header.fence = fence_.epoch;
    bus_->session(to.node).answer(to.boot, std::move(message));
}

}  // namespace braid::cluster
