// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/session.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {
namespace {

Refusal breach(std::string what) {
    return {fmt::format("it is broken off: {}", std::move(what)), RefusalCode::invalid};
}

}  // namespace

Session::Session(Setup setup) : setup_(setup) {
    BRAID_REQUIRE(setup.self.boot != 0 && setup.self.node != setup.peer);
    word_.header.type = MessageType::received;
}

void Session::send(QueuedMessage message, AnswerSink* sink) {
    if (given_up_ != GivenUp::no && !is_connected()) {
        if (sink != nullptr) sink->cut();
        return;
    }
    const std::uint64_t number = queue_.add(std::move(message));
    if (sink != nullptr) sinks_.emplace(number, sink);
    work_.set();
}

void Session::answer(std::uint64_t boot, QueuedMessage message) {
    BRAID_REQUIRE(message.header.answers != 0);
    if (boot == peer_boot_) send(std::move(message));
}

// ---- connections -------------------------------------------------------------------------------

Session::Where Session::where() const { return {setup_.self.boot, peer_boot_, queue_.received()}; }

Checked<Unit> Session::look_at(const Where& there) const {
    if (has_given_up(there.boot)) return Refusal{why_given_up().why, RefusalCode::conflict};
    if (peer_boot_ != 0 && there.boot != peer_boot_) {
        if (!is_connected()) return Unit{};
        return Refusal{fmt::format("node {} is connected already, since another start of it; if "
                                   "two servers run as node {}, stop one of them",
                                   setup_.peer, setup_.peer),
                       RefusalCode::conflict};
    }
    const std::uint64_t received = there.knows == setup_.self.boot ? there.received : 0;
    if (queue_.may_go_on_at(received)) return Unit{};
    return Refusal{fmt::format("node {} goes on at message {}, which cannot be: the connection is "
                               "an old one, or one of both has lost its memory; if this comes "
                               "again and again, start that node anew",
                               setup_.peer, received),
                   RefusalCode::conflict};
}

bool Session::has_given_up(std::uint64_t boot) const {
    if (given_up_ > GivenUp::excluded) return true;
    if (given_up_ == GivenUp::excluded && boot == peer_boot_) return true;
    return std::ranges::find(former_boots_, boot) != former_boots_.end();
}

Refused Session::why_given_up() const {
    const std::uint32_t peer = setup_.peer;
    const std::uint32_t self = setup_.self.node;
    switch (given_up_) {
        case GivenUp::no:
            break;
        case GivenUp::excluded:
            return {
                RefusedCode::excluded,
                fmt::format("node {} was taken for gone by node {}, and the array goes on without "
                            "it: start this server anew, and it is let in again",
                            peer, self)};
        case GivenUp::ended:
            return {RefusedCode::other,
                    fmt::format("the array has ended at node {}: start its server anew", self)};
        case GivenUp::gone:
            return {
                RefusedCode::gone,
                fmt::format("node {} was taken for gone by node {}: start this server anew; it is "
                            "let in again when the array has been started anew on all nodes",
                            peer, self)};
    }
    // It is a former start.
    return {
        RefusedCode::excluded,
        fmt::format("another start of node {} has taken the place of this one, says node {}: if "
                    "two servers run as that node, stop this one",
                    peer, self)};
}

/// While there is a connection bytes may be on their way to where an answer is to be put.
void Session::give_up(GivenUp why) {
    given_up_ = std::max(given_up_, why);
    if (is_connected()) return shut();
    cut_all();
}

void Session::cut_all() {
    for (const auto& [number, sink] : std::exchange(sinks_, {})) sink->cut();
}

void Session::shut() { leave("another connection has taken its place, or the node stops"); }

void Session::leave(std::string why) {
    if (stream_ != nullptr) break_off(std::move(why));
}

Task<void> Session::wait_shut() {
    if (is_connected()) co_await over_.next();
}

bool Session::begin(const Where& there, std::unique_ptr<MessageStream> stream) {
    BRAID_REQUIRE(!is_connected() && stream != nullptr);
    BRAID_REQUIRE(there.boot != 0 && look_at(there).has_value());
    const bool anew = peer_boot_ != 0 && there.boot != peer_boot_;
    const std::uint64_t kept = queue_.kept_bytes();
    std::map<std::uint64_t, AnswerSink*> unanswered;
    if (anew) {
        former_boots_.push_back(peer_boot_);
        if (former_boots_.size() > boots_kept_max) former_boots_.pop_front();
        queue_ = SessionQueue();
        unanswered = std::exchange(sinks_, {});
        given_up_ = GivenUp::no;  // that was the start before
    }
    peer_boot_ = there.boot;
    queue_.begin(!anew && there.knows == setup_.self.boot ? there.received : 0);
    stream_ = std::move(stream);
    broken_ = false;
    why_broken_ = Refused();
    ++counts_.connections;
    for (const auto& [number, sink] : unanswered) sink->cut();
    if (queue_.kept_bytes() != kept) setup_.taker.forgotten(setup_.peer);
    return anew;
}

Task<Refused> Session::run(std::vector<QueuedMessage> first, std::function<void()> heard) {
    BRAID_REQUIRE(is_connected());
    work_.set();  // what the other side lacks
    TaskGroup beside(setup_.ready);
    beside.spawn(send_all(std::move(first)));
    beside.spawn(watch());
    const Checked<Unit> end = co_await receive_all(std::move(heard));
    break_off(end ? std::string() : end.error().text);
    co_await beside.join();
    queue_.end_sending();
    co_return std::move(why_broken_);
}

void Session::end() {
    BRAID_REQUIRE(is_connected() && broken_);
    stream_.reset();
    over_.set();
    if (given_up_ != GivenUp::no) cut_all();
}

/// The first reason counts.
void Session::break_off(std::string why) {
    if (broken_) return;
    broken_ = true;
    why_broken_.why = std::move(why);
    stream_->shut();
    work_.set();
    if (watching_ != nullptr) watching_->cancel();
}

Task<void> Session::watch() {
    std::uint64_t silent_ms = 0;
    while (!broken_) {
        const bool has_come = std::exchange(came_, stream_->came()) != stream_->came();
        silent_ms = has_come ? 0 : silent_ms + sign_ms;
        if (silent_ms >= silent_ms_max) {
            break_off(fmt::format("nothing has come of it for {} s", silent_ms / 1000));
            break;
        }
        if (!went_) owes_sign_ = true, work_.set();
        went_ = false;
        Timer timer(setup_.clock, Nanos{setup_.clock.now().value + millis(sign_ms).value});
        watching_ = &timer;
        co_await timer;
        watching_ = nullptr;
    }
}

// ---- what goes out -----------------------------------------------------------------------------

Task<void> Session::send_all(std::vector<QueuedMessage> first) {
    if (!first.empty()) {
        std::vector<const QueuedMessage*> messages;
        for (const QueuedMessage& message : first) messages.push_back(&message);
        const Checked<Unit> sent = co_await stream_->send(std::move(messages), queue_.received());
        if (!sent) break_off(sent.error().text);
    }
    while (!broken_) {
        co_await work_.take();
        co_await YieldToAll{};  // what others are about to send goes along
        while (!broken_ && (queue_.has_more() || queue_.owes_word() || owes_sign_)) {
            std::vector<const QueuedMessage*> messages = gather();
            queue_.word_sent();
            owes_sign_ = false;
            went_ = true;
            const Checked<Unit> sent =
                co_await stream_->send(std::move(messages), queue_.received());
            const std::uint64_t kept = queue_.kept_bytes();
            queue_.end_sending();
            if (queue_.kept_bytes() != kept) setup_.taker.forgotten(setup_.peer);
            if (!sent) break_off(sent.error().text);
        }
    }
}

std::vector<const QueuedMessage*> Session::gather() {
    std::vector<const QueuedMessage*> messages;
    std::uint64_t bytes = 0;
    while (messages.size() != messages_per_send && bytes < message_payload_size_max) {
        const QueuedMessage* next = queue_.next();
        if (next == nullptr) break;
        bytes += message_header_size + next->body.size() + next->payload.size();
        messages.push_back(next);
    }
    if (messages.empty()) {
        bytes = message_header_size;
        messages.push_back(&word_);
    }
    counts_.messages_sent += messages.size();
    counts_.bytes_sent += bytes;
    ++counts_.sends;
    return messages;
}

// ---- what comes --------------------------------------------------------------------------------

Task<Checked<Unit>> Session::receive_all(std::function<void()> heard) {
    for (bool is_first = true;; is_first = false) {
        const Checked<Message> message = co_await stream_->next();
        if (!message) co_return message.error();
        if (message->header.sender != setup_.peer) {
            co_return breach(fmt::format("a message of node {} on the connection of node {}",
                                         message->header.sender, setup_.peer));
        }
        if (message->header.boot != peer_boot_ && !BRAID_MUTANT(former_start_obeyed)) {
            co_return breach(fmt::format("a message of another start of node {}", setup_.peer));
        }
        if (message->header.type == MessageType::refused) {  // it called, and has heard this HELLO
            Refused refused = decode_refused(message->body);
            why_broken_.code = refused.code;
            co_return Refusal{"it says: " + std::move(refused.why), RefusalCode::conflict};
        }
        if (is_first) heard();
        BRAID_CO_CHECK(co_await receive(*message));
        if (queue_.owes_word()) work_.set();
    }
}

Task<Checked<Unit>> Session::receive(Message message) {
    const MessageHeader& header = message.header;
    const std::uint64_t kept = queue_.kept_bytes();
    if (!queue_.acknowledge(header.received)) {
        co_return breach(
            fmt::format("message {} is acknowledged, which did not go out on it", header.received));
    }
    if (queue_.kept_bytes() != kept) setup_.taker.forgotten(setup_.peer);
    if (header.type == MessageType::received) {
        if (message.payload_size == 0) co_return Unit{};
        co_return breach("RECEIVED with a payload");
    }
    if (!is_numbered(header.type)) {
        co_return breach(fmt::format("{} within a session", name_of(header.type)));
    }
    if (!queue_.is_next(header.number)) {
        co_return breach(
            fmt::format("message {} comes after message {}", header.number, queue_.received()));
    }
    if (header.answers != 0) co_return co_await receive_answer(message);
    co_return co_await receive_command(message);
}

Task<Checked<Unit>> Session::receive_answer(Message message) {
    const std::uint64_t number = message.header.answers;
    const auto found = sinks_.find(number);
    if (found == sinks_.end()) {
        co_return breach(fmt::format("an answer to message {}, which asks nothing", number));
    }
    AnswerSink* const sink = found->second;
    if (message.payload_size != 0) {
        const ByteSpan place = sink->place(message.payload_size);
        if (place.size() != message.payload_size) {
            co_return breach(fmt::format("an answer with {} bytes, which nobody asked for",
                                         message.payload_size));
        }
        BRAID_CO_CHECK(co_await stream_->read_payload(message, place));
    }
    BRAID_CO_CHECK(sink->answered(message));
    sinks_.erase(number);
    queue_.take(message.payload_size);
    ++counts_.answers;
    co_return Unit{};
}

Task<Checked<Unit>> Session::receive_command(Message message) {
    Buffer payload = Buffer::unset(message.payload_size);
    if (message.payload_size != 0) {
        BRAID_CO_CHECK(co_await stream_->read_payload(message, payload.span()));
    }
    BRAID_CO_CHECK(setup_.taker.take(setup_.peer, message, std::move(payload)));
    queue_.take(message.payload_size);
    co_return Unit{};
}

}  // namespace braid::cluster
