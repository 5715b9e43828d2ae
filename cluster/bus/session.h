// SPDX-License-Identifier: BSD-3-Clause
// Session: this node and another one, from one start of both to the next. Commands and answers are
// sent as if the connection never broke: each arrives once, in order. While there is no connection
// they wait. Who has nothing to say gives a sign of life now and then: a connection on which nothing
// comes any more is broken off. When the other node has begun anew, what it did not answer it never will.
//
// Who connects, and what is said first, is the bus's (bus.h); here is what goes over a connection.
#pragma once

#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <string>

#include "cluster/bus/message_stream.h"
#include "cluster/bus/session_queue.h"
#include "cluster/wire/hello.h"
#include "engine/io/clock.h"
#include "engine/io/task.h"

namespace braid::cluster {

/// Who waits for a command's answer. It lives until then.
class AnswerSink {
  public:
    virtual ~AnswerSink() = default;
    /// Where the answer's payload is to be put: `size` bytes. Fewer: nobody asked for that, and the
    /// connection is broken off. It may be asked again, and then the same bytes come.
    virtual ByteSpan place(std::uint32_t size) = 0;
    /// A refusal: it is no such answer. The connection is broken off, and the answer comes again.
    virtual Checked<Unit> answered(const Message& answer) = 0;
    /// It never comes: the other node has begun anew.
    virtual void cut() = 0;
};

/// What a node does with the commands of others.
class CommandTaker {
  public:
    virtual ~CommandTaker() = default;
    /// A refusal: it is no such command. The connection is broken off.
    /// @param payload  as many bytes as the command says
    virtual Checked<Unit> take(std::uint32_t from, const Message& command, Buffer payload) = 0;
    /// Payload that was kept for the node (SessionQueue::kept_bytes()) has become less.
    virtual void forgotten(std::uint32_t node) = 0;
};

/// Whether the other node is let in any more.
enum class GivenUp : std::uint8_t {
    no,
    excluded,  // that start of it counts as gone, and is told so; the next one is let in
    ended,     // the array has ended here, and so has what there was to say
    gone,      // it counts as gone, and is told so: it may know nothing of it
};

class Session {
  public:
    struct Setup {
        ReadyQueue& ready;
        Clock& clock;
        NodeBoot self;
        std::uint32_t peer{0};
        CommandTaker& taker;
    };
    struct Counts {
        std::uint64_t messages_sent{0};
        std::uint64_t sends{0};  // pieces that they went out in
        std::uint64_t bytes_sent{0};
        std::uint64_t connections{0};
        std::uint64_t answers{0};  // that came
    };

    explicit Session(Setup setup);
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    /// Type, flags, fence, answers, finished and applied_upto are the caller's.
    /// @param sink  of a command that is answered
    void send(QueuedMessage message, AnswerSink* sink = nullptr);

    /// What was sent last, and has not gone out yet: its body may grow, and its `finished`.
    QueuedMessage* last_unsent() { return queue_.last_unsent(); }

    /// To what that start of the other node asked; after another one nobody knows of it, and it is
    /// dropped.
    void answer(std::uint64_t boot, QueuedMessage message);

    /// Where a side of a session is, as it says at the beginning of a connection.
    struct Where {
        std::uint64_t boot{0};      // its own
        std::uint64_t knows{0};     // the boot of this node that it last spoke to, or 0
        std::uint64_t received{0};  // of that
    };
    Where where() const;
    /// Whether it may go on with this one; the reason why not, for people.
    Checked<Unit> look_at(const Where& there) const;
    /// The other node, or that start of it, is not let in any more: what is not answered, and what is
    /// sent from now on, is cut. Again: whatever stands last in GivenUp counts.
    void give_up(GivenUp why);
    GivenUp given_up() const { return given_up_; }
    /// Whether a start of the other node is given up: all are, or that one, or another one has taken its
    /// place.
    bool has_given_up(std::uint64_t boot) const;
    /// It is another one than that with which this session is.
    bool is_another(std::uint64_t boot) const { return peer_boot_ != 0 && boot != peer_boot_; }
    /// For the other node, whom this one has given up.
    Refused why_given_up() const;
    /// Breaks the connection off, if there is one.
    void shut();
    /// The same, and who is told that it is over hears why.
    void leave(std::string why);
    /// How much has come by the connection that there is.
    std::uint64_t came() const { return is_connected() ? stream_->came() : 0; }
    /// Until the one that there is has ended; by then there may be another one.
    Task<void> wait_shut();
    /// After look_at() and wait_shut(): it has this connection, and a new session if the other node
    /// has begun anew. True: it has, and what it had not answered was cut. run() is next.
    bool begin(const Where& there, std::unique_ptr<MessageStream> stream);
    /// Until nothing goes over the connection any more; end() is next.
    /// @param first  goes out before anything else
    /// @param heard  once, when the first message has come: until then it may be a connection that
    ///               the other side has long forgotten
    /// @return  why it ended, for people, and what the other side said to that, if it refuses
    Task<Refused> run(std::vector<QueuedMessage> first, std::function<void()> heard);
    /// There is none any more, and who waits for that is told.
    void end();

    std::uint32_t peer() const { return setup_.peer; }
    /// 0: not met yet.
    std::uint64_t peer_boot() const { return peer_boot_; }
    bool is_connected() const { return stream_ != nullptr; }
    const Counts& counts() const { return counts_; }
    const SessionQueue& queue() const { return queue_; }

  private:
    Task<void> send_all(std::vector<QueuedMessage> first);
    std::vector<const QueuedMessage*> gather();
    Task<Checked<Unit>> receive_all(std::function<void()> heard);
    Task<Checked<Unit>> receive(Message message);
    Task<Checked<Unit>> receive_answer(Message message);
    Task<Checked<Unit>> receive_command(Message message);
    Task<void> watch();
    void break_off(std::string why);
    void cut_all();

    Setup setup_;
    SessionQueue queue_;
    std::map<std::uint64_t, AnswerSink*> sinks_;  // by the number of the command
    std::uint64_t peer_boot_{0};
    std::deque<std::uint64_t> former_boots_;  // of the peer, at most boots_kept_max
    std::unique_ptr<MessageStream> stream_;
    QueuedMessage word_;  // RECEIVED, to be sent
    bool broken_{false};
    GivenUp given_up_{GivenUp::no};
    Refused why_broken_;
    Timer* watching_{nullptr};
    std::uint64_t came_{0};  // MessageStream::came(), when watch() looked last
    bool went_{false};       // since then
    bool owes_sign_{false};  // nothing went for a while
    Event work_;             // to be sent, or the connection is over
    Event over_;
    Counts counts_;
};

}  // namespace braid::cluster
