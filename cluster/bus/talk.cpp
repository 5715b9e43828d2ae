// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/bus/talk.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "engine/base/json_text.h"
#include "engine/base/limits.h"

namespace braid::cluster {

Words telling(const char* what) { return {{"tell", what}}; }
Words asking(const char* what) { return {{"ask", what}}; }

namespace {

QueuedMessage message_of(MessageType type, const std::string& text) {
    BRAID_REQUIRE(text.size() <= message_body_size_max);
    QueuedMessage message;
    message.header.type = type;
    const auto* bytes = reinterpret_cast<const std::byte*>(text.data());
    message.body.assign(bytes, bytes + text.size());
    return message;
}

std::string text_of(ByteView body) {
    return {reinterpret_cast<const char*>(body.data()), body.size()};
}

/// An object, or nothing: what is nested deeper than anything is would take the stack.
std::optional<Words> object_of(const std::string& text) {
    bool is_deep = false;
    Words words = Words::parse(
        text,
        [&](int depth, Words::parse_event_t, Words&) {
            is_deep = is_deep || depth > text_depth_max;
            return !is_deep;
        },
        false);
    if (is_deep || !words.is_object()) return std::nullopt;
    return words;
}

Words words_of(const Refusal& refusal) {
    return {{"refused", refusal.text}, {"code", static_cast<int>(refusal.code)}};
}

}  // namespace

/// An answer to somebody who waits on the loop.
struct Talk::Waiting final : AnswerSink {
    Checked<Words> answer{Refusal{"cut"}};
    Event come;

    ByteSpan place(std::uint32_t) override { return {}; }
    Checked<Unit> answered(const Message& message) override {
        std::optional<Words> words = object_of(text_of(message.body));
        if (!words) return Refusal{"the answer is no JSON object"};
        if (words->contains("refused")) {
            WordFields fields(*words);
            std::string why = fields.text("refused");
            const auto code = fields.number("code", static_cast<std::uint64_t>(RefusalCode::io));
            BRAID_CHECK(fields.check());
            answer = Refusal{std::move(why), static_cast<RefusalCode>(code)};
        } else {
            answer = std::move(*words);
        }
        come.set();
        return Unit{};
    }
    void cut() override {
        answer = Refusal{"the node has begun anew, or is gone", RefusalCode::busy};
        come.set();
    }
};

// ---- fields ------------------------------------------------------------------------------------

const Words* WordFields::find(const char* key) {
    if (!wrong_.empty()) return nullptr;
    const auto found = words_.find(key);
    if (found == words_.end()) {
        wrong_ = fmt::format("\"{}\" is missing", key);
        return nullptr;
    }
    return &*found;
}

void WordFields::is_wrong(const char* key, std::string_view what) {
    if (wrong_.empty()) wrong_ = fmt::format("\"{}\" is not {}", key, what);
}

std::uint64_t WordFields::number(const char* key, std::uint64_t max) {
    const Words* at = find(key);
    if (at == nullptr) return 0;
    const auto* value = at->get_ptr<const Words::number_unsigned_t*>();
    if (value == nullptr || *value > max) {
        is_wrong(key, fmt::format("a number of 0 to {}", max));
        return 0;
    }
    return *value;
}

std::uint32_t WordFields::number32(const char* key, std::uint32_t max) {
    return static_cast<std::uint32_t>(number(key, max));
}

MemberIndex WordFields::member(const Geometry& geometry) {
    return MemberIndex{number32("member", geometry.member_count - 1)};
}

WindowPlace WordFields::place(const Geometry& geometry) {
    WindowPlace place;
    place.stripe = StripeIndex{number("stripe", geometry.stripes - 1)};
    place.window = number32("window", geometry.windows_per_stripe() - 1);
    return place;
}

RowMask WordFields::rows(const Geometry& geometry) {
    const RowMask rows = number("rows");
    if (rows == 0 || (rows & ~row_range(0, geometry.window_rows)) != 0) {
        is_wrong("rows", "of a window");
    }
    return rows;
}

std::string WordFields::text(const char* key) {
    const Words* at = find(key);
    if (at == nullptr) return {};
    const auto* value = at->get_ptr<const Words::string_t*>();
    if (value != nullptr) return *value;
    is_wrong(key, "a text");
    return {};
}

bool WordFields::flag(const char* key) {
    const Words* at = find(key);
    if (at == nullptr) return false;
    const auto* value = at->get_ptr<const Words::boolean_t*>();
    if (value != nullptr) return *value;
    is_wrong(key, "true or false");
    return false;
}

const Words* WordFields::object(const char* key) {
    const Words* at = find(key);
    if (at == nullptr || at->is_object()) return at;
    is_wrong(key, "an object");
    return nullptr;
}

std::vector<Words> WordFields::list(const char* key, std::size_t max) {
    const Words* at = find(key);
    if (at == nullptr) return {};
    const auto* value = at->get_ptr<const Words::array_t*>();
    if (value != nullptr && value->size() <= max) return *value;
    is_wrong(key, fmt::format("a list of at most {}", max));
    return {};
}

Checked<Unit> WordFields::check() const {
    if (wrong_.empty()) return Unit{};
    return Refusal{wrong_, RefusalCode::invalid};
}

// ---- talk --------------------------------------------------------------------------------------

Talk::Talk(ReadyQueue& ready, TalkListener& listener) : listener_(listener), tasks_(ready) {}
Talk::~Talk() = default;

void Talk::tell(std::uint32_t to, const Words& words) {
    bus_->session(to).send(message_of(MessageType::tell, one_line(words)));
}

Task<Checked<Words>> Talk::ask(std::uint32_t to, const Words& words) {
    auto waiting = std::make_unique<Waiting>();
    bus_->session(to).send(message_of(MessageType::ask, one_line(words)), waiting.get());
    return wait_for(std::move(waiting));
}

Task<Checked<Words>> Talk::wait_for(std::unique_ptr<Waiting> waiting) {
    co_await waiting->come.wait();
    co_return std::move(waiting->answer);
}

Task<std::vector<Checked<Words>>> Talk::ask_all(const std::vector<std::uint32_t>& nodes,
                                                const Words& words) {
    std::vector<Task<Checked<Words>>> asked;
    for (const std::uint32_t node : nodes) asked.push_back(ask(node, words));
    return wait_for_all(std::move(asked));
}

Task<std::vector<Checked<Words>>> Talk::wait_for_all(std::vector<Task<Checked<Words>>> asked) {
    std::vector<Checked<Words>> answers;
    for (Task<Checked<Words>>& task : asked) {
        Checked<Words> answer = co_await task;
        answers.push_back(std::move(answer));
    }
    co_return answers;
}

Checked<Unit> Talk::take(std::uint32_t from, const Message& message, Buffer) {
    if (message.payload_size != 0) return Refusal{"TELL and ASK have no payload"};
    if (stopping_) return Unit{};
    if (heard_[from].texts.size() >= texts_waiting_max) {
        return Refusal{
            fmt::format("{} messages of node {} are not done yet", texts_waiting_max, from),
            RefusalCode::busy};
    }
    const bool asks = message.header.type == MessageType::ask;
    if (asks && heard_[from].working) {  // else there is nothing that it waits for
        std::optional<Words> words = object_of(text_of(message.body));
        if (words && listener_.is_urgent(*words)) {
            tasks_.spawn(answer(from, message.header.number, std::move(*words)));
            return Unit{};
        }
    }
    Heard& heard = heard_[from];
    heard.texts.emplace_back(asks ? message.header.number : 0, text_of(message.body));
    if (!std::exchange(heard.working, true)) tasks_.spawn(work(from));
    return Unit{};
}

Task<void> Talk::work(std::uint32_t from) {
    Heard& heard = heard_[from];  // its address stays
    while (!heard.texts.empty()) {
        auto next = std::move(heard.texts.front());
        heard.texts.pop_front();
        co_await take_one(from, next.first, std::move(next.second));
    }
    heard.working = false;
}

Task<void> Talk::take_one(std::uint32_t from, std::uint64_t number, std::string text) {
    std::optional<Words> object = object_of(text);
    if (!object) {
        listener_.misunderstood(from, "no JSON object");
        co_return;
    }
    Words words = std::move(*object);
    if (number != 0) {
        // What is asked may take long, and need what is told behind it.
        tasks_.spawn(answer(from, number, std::move(words)));
        Yield until_it_has_begun;
        co_await until_it_has_begun;
        co_return;
    }
    const Checked<Unit> taken = co_await listener_.told(from, words);
    if (!taken) listener_.misunderstood(from, fmt::format("{}: {}", text, taken.error().text));
}

Task<void> Talk::answer(std::uint32_t from, std::uint64_t number, Words words) {
    const std::uint64_t boot = bus_->session(from).peer_boot();
    Checked<Words> answer = co_await listener_.asked(from, words);
    const Words said = answer ? std::move(answer).value() : words_of(answer.error());
    QueuedMessage message = message_of(MessageType::ask, one_line(said));
    message.header.answers = number;
    bus_->session(from).answer(boot, std::move(message));
}

Task<void> Talk::stop() {
    stopping_ = true;
    co_await tasks_.join();
}

}  // namespace braid::cluster
