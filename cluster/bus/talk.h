// SPDX-License-Identifier: BSD-3-Clause
// Talk: what nodes tell and ask each other about an array beside its data: few messages, each a
// JSON text, since people read them in logs and they change with the versions. TELL is not answered;
// ASK is, when whoever was asked is done. What comes from one node is taken in its order.
#pragma once

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "cluster/bus/bus.h"
#include "engine/base/result.h"
#include "engine/io/task.h"
#include "engine/layout/geometry.h"

namespace braid::cluster {

using Words = nlohmann::json;

/// What a message begins with. (Where a coroutine waits, GCC 12 takes no braced list.)
Words telling(const char* what);
Words asking(const char* what);

/// The fields of an object that came. What is missing, or of another type, gives nothing, and
/// check() names the first such.
class WordFields {
  public:
    explicit WordFields(const Words& words) : words_(words) {}
    std::uint64_t number(const char* key, std::uint64_t max = ~std::uint64_t{0});
    std::uint32_t number32(const char* key, std::uint32_t max = ~std::uint32_t{0});
    MemberIndex member(const Geometry& geometry);  // "member"
    WindowPlace place(const Geometry& geometry);   // "stripe", "window"
    RowMask rows(const Geometry& geometry);        // "rows", of a window; not none
    std::string text(const char* key);
    bool flag(const char* key);
    const Words* object(const char* key);  // null: it is none
    std::vector<Words> list(const char* key, std::size_t max);
    Checked<Unit> check() const;
    /// The value is not what it has to be.
    void is_wrong(const char* key, std::string_view what);

  private:
    const Words* find(const char* key);

    const Words& words_;
    std::string wrong_;
};

class TalkListener {
  public:
    virtual ~TalkListener() = default;
    /// `words` is an object. A refusal: there is no such message.
    virtual Task<Checked<Unit>> told(std::uint32_t from, const Words& words) = 0;
    virtual Task<Checked<Words>> asked(std::uint32_t from, const Words& words) = 0;
    /// What is asked does not wait for what was told before it: that may wait for this.
    virtual bool is_urgent(const Words&) const { return false; }
    /// A node said what nobody understands: it is of another version, or broken.
    virtual void misunderstood(std::uint32_t from, const std::string& why) = 0;
};

class Talk final : public CommandTaker {
  public:
    Talk(ReadyQueue& ready, TalkListener& listener);
    Talk(const Talk&) = delete;
    Talk& operator=(const Talk&) = delete;
    ~Talk() override;

    void bind(Bus& bus) { bus_ = &bus; }
    void tell(std::uint32_t to, const Words& words);
    /// A refusal is the other node's; RefusalCode::busy: it began anew, or was given up.
    /// It is sent at once. The other node begins with it when what it was told before is done.
    Task<Checked<Words>> ask(std::uint32_t to, const Words& words);
    /// All of them the same, at once; what each answers, in their order.
    Task<std::vector<Checked<Words>>> ask_all(const std::vector<std::uint32_t>& nodes,
                                              const Words& words);

    /// Of TELL and ASK only.
    Checked<Unit> take(std::uint32_t from, const Message& message, Buffer payload) override;
    void forgotten(std::uint32_t) override {}

    /// Nothing is taken any more; waits until nothing is under way.
    Task<void> stop();
    void abandon() { tasks_.clear(); }

  private:
    struct Waiting;
    struct Heard {                                                // from one node, in order
        std::deque<std::pair<std::uint64_t, std::string>> texts;  // number, if it is asked; text
        bool working{false};
    };

    static Task<Checked<Words>> wait_for(std::unique_ptr<Waiting> waiting);
    static Task<std::vector<Checked<Words>>> wait_for_all(std::vector<Task<Checked<Words>>> asked);
    Task<void> work(std::uint32_t from);
    Task<void> take_one(std::uint32_t from, std::uint64_t number, std::string text);
    Task<void> answer(std::uint32_t from, std::uint64_t number, Words words);

    TalkListener& listener_;
    Bus* bus_{nullptr};
    TaskGroup tasks_;
    std::map<std::uint32_t, Heard> heard_;
    bool stopping_{false};
};

}  // namespace braid::cluster
