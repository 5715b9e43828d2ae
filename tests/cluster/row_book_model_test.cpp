// SPDX-License-Identifier: BSD-3-Clause
// Several nodes write and read the rows of one window through the books of their members' homes.
// Goal: in every order of events that there is, reads never go back and never see what is
// undecided, parity fits the data at the end, and everybody comes to an end. Method: RAID-5 of two
// data strips and P, a home for each; writers do the small write of the protocol (lock and read P,
// read the old strip, stage both, decide), a reader reads; messages of one node to one home arrive
// in order, everything else in any. Beside that a member may be flushed, a disk may fail a write that is
// tried again, and a member may be lost, each at any moment. In every state each command that has come
// comes once more, and changes nothing. All states are visited, each once. Wrong protocols must be found
// wrong.
#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <deque>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "cluster/homes/row_book.h"

namespace braid::cluster {
namespace {

constexpr std::uint32_t rows_max = 2;
constexpr std::uint32_t parity = 2;  // the member, and its home; members 0 and 1 have data
constexpr std::uint32_t homes = 3;
using Value = std::uint8_t;
using RowValues = std::array<Value, rows_max>;

/// A wrong protocol.
enum class Fault : std::uint8_t {
    none,
    no_lock,               // nobody locks
    read_beside_lock,      // the old parity is read when the lock is asked for
    applied_when_staged,   // a home does not wait for the decision
    decided_by_one,        // when one participant has it staged
    reads_disk,            // a read does not ask the book
    unlocked_when_staged,  // the lock goes before the write is decided
    flush_waits_not,       // a flush is over at once
    failed_is_applied,     // what could not be written is taken for written
    lost_is_read,          // a home reads the disk of a member that is lost
};

/// What a writer reads before it writes.
enum class Old : bool { of_data, of_parity };

struct Message {
    enum Kind : std::uint8_t { lock, read, stage, decided, drop, unlock } kind{lock};
    RowValues values{};
};

enum class Kind : std::uint8_t {
    rmw,       // parity from what was there and what is new
    rcw,       // parity from the other strip: nothing old of its own is read
    computes,  // writes nothing: computes the strip from the others, with the rows locked
};
struct Plan {
    std::uint32_t strip{0};
    RowMask rows{1};
    bool drops{false};  // gives up when all is staged
    Kind kind{Kind::rmw};
};

struct Scenario {
    std::vector<Plan> writers;
    std::vector<std::uint32_t> reads;  // a reader of these strips, row 0, one after the other
    Fault fault{Fault::none};
    std::optional<std::uint32_t> flushed{};  // a member, once
    std::uint32_t failures{0};               // of writes to disks
    std::optional<std::uint32_t> lost{};     // a member, once
};

struct Home {
    RowBook book;
    RowValues disk{};
    std::map<EntryNumber, RowValues> bytes;
    std::set<EntryNumber> applying;
    std::set<EntryNumber> open;  // staged, and neither on the disk nor dropped
    bool lost{false};
};

struct Writer {
    std::map<std::uint32_t, std::deque<Message>> sent;  // by home
    bool granted{false};
    std::optional<RowValues> old_data;  // or of the other strip
    std::optional<RowValues> old_parity;
    std::uint32_t staged{0};  // answers
    bool asked{false};        // for the old data
    bool staging{false};
    bool found_lost{false};                                  // what it has to read
    bool over{false};                                        // decided, or dropped
    bool ended{false};                                       // and finished
    std::set<std::pair<std::uint32_t, Message::Kind>> come;  // what homes have had of it
};

struct World {
    std::array<Home, homes> homes_;
    std::vector<Writer> writers;
    std::size_t reads{0};  // done
    bool reading{false};   // the next one waits
    std::size_t floor{0};  // what it may not go back behind: what was seen when it came
    std::map<WaiterNumber, EntryNumber> asked;  // when reads that wait came
    std::uint32_t failures{0};
    bool flushing{false};
    bool flushed{false};
    std::set<EntryNumber> before_flush;  // of these, what is neither on the disk nor dropped
    // By strip and row: the values in the order in which they were decided, and how far of it
    // somebody has seen, or was answered.
    std::array<std::array<std::vector<Value>, rows_max>, 2> decided{};
    std::array<std::array<std::size_t, rows_max>, 2> seen{};
};

class Model {
  public:
    explicit Model(Scenario scenario) : scenario_(std::move(scenario)) {}

    /// What went wrong, or nothing.
    std::optional<std::string> run() {
        World start;
        start.writers.resize(scenario_.writers.size());
        for (auto& strip : start.decided) {
            for (auto& row : strip) row.push_back(0);
        }
        std::vector<World> left{start};
        seen_.insert(image(start));
        while (!left.empty() && !wrong_) {
            const World world = std::move(left.back());
            left.pop_back();
            repeat_all(world);
            bool any = false;
            each_step(world, [&](World next) {
                any = true;
                for (const Home& home : next.homes_) {
                    if (!home.book.holds_together()) fail("a book does not hold together");
                }
                if (seen_.insert(image(next)).second) left.push_back(std::move(next));
            });
            if (!any) check_end(world);
        }
        return wrong_;
    }
    std::size_t states() const { return seen_.size(); }

  private:
    void fail(const std::string& what) {
        if (!wrong_) wrong_ = what;
    }

    template <class Visit>
    void each_step(const World& world, Visit visit) {
        for (std::size_t i = 0; i != world.writers.size(); ++i) {
            if (can_go_on(world, i)) {
                World next = world;
                go_on(next, i);
                visit(std::move(next));
            }
            for (const auto& [home, queue] : world.writers[i].sent) {
                if (queue.empty()) continue;
                World next = world;
                deliver(next, i, home);
                visit(std::move(next));
            }
        }
        for (std::uint32_t h = 0; h != homes; ++h) {
            for (const EntryNumber entry : world.homes_[h].applying) {
                World next = world;
                apply(next, h, entry);
                visit(std::move(next));
                if (world.failures == scenario_.failures) continue;
                World other = world;
                fail_to_apply(other, h, entry);
                visit(std::move(other));
            }
        }
        if (scenario_.flushed && !world.flushing && !world.flushed) {
            World next = world;
            flush(next);
            visit(std::move(next));
        }
        if (scenario_.lost && !world.homes_[*scenario_.lost].lost) {
            World next = world;
            lose(next, *scenario_.lost);
            visit(std::move(next));
        }
        if (!world.reading && world.reads != scenario_.reads.size()) {
            World next = world;
            next.reading = true;
            next.floor = next.seen[scenario_.reads[next.reads]][0];
            read_strip(next);
            visit(std::move(next));
        }
    }

    // ---- a writer
    static NodeBoot node(std::size_t writer) { return {static_cast<std::uint32_t>(writer + 1), 7}; }
    static CommandId claim(std::size_t writer) { return {node(writer), 1}; }
    static CommandId write(std::size_t writer) { return {node(writer), 2}; }
    /// The waiter's number of a writer's read of data, or of parity; the reader's is 0.
    static WaiterNumber waiter(std::size_t writer, Old what) {
        return WaiterNumber{1 + 2 * writer + (what == Old::of_parity ? 1 : 0)};
    }
    Value value_of(std::size_t writer) const { return static_cast<Value>(1U << writer); }
    LockMode mode_of(std::size_t writer) const {
        return scenario_.writers[writer].kind == Kind::computes ? LockMode::shared
                                                                : LockMode::exclusive;
    }
    WindowRows at(std::size_t writer) const {
        return {WindowIndex{5}, scenario_.writers[writer].rows};
    }
    static void send(World& world, std::size_t writer, std::uint32_t home, Message message) {
        world.writers[writer].sent[home].push_back(message);
    }

    /// What is read, beside parity.
    std::uint32_t read_from(std::size_t writer) const {
        const Plan& plan = scenario_.writers[writer];
        return plan.kind == Kind::rmw ? plan.strip : 1 - plan.strip;
    }

    bool can_go_on(const World& world, std::size_t i) const {
        const Writer& writer = world.writers[i];
        if (writer.ended) return false;
        const Kind kind = scenario_.writers[i].kind;
        if (writer.over && (kind == Kind::computes || writer.found_lost)) return false;
        if (writer.found_lost) return true;
        const bool idle = std::ranges::all_of(
            writer.sent, [](const auto& queue) { return queue.second.empty(); });
        if (writer.over) return idle && is_applied(world, i);
        if (writer.staging) {
            return writer.staged == 2 ||
                   (scenario_.fault == Fault::decided_by_one && writer.staged == 1);
        }
        if (!writer.asked) {
            return writer.sent.empty() || has_lock(writer, kind);
        }
        return writer.old_data && has_lock(writer, kind);
    }
    /// With what came with it.
    static bool has_lock(const Writer& writer, Kind kind) {
        return kind == Kind::rcw ? writer.granted : writer.old_parity.has_value();
    }
    bool is_applied(const World& world, std::size_t i) const {
        const auto& of_data = world.homes_[scenario_.writers[i].strip].book;
        const auto& of_parity = world.homes_[parity].book;
        return of_data.applied_upto(node(i)) >= 2 && of_parity.applied_upto(node(i)) >= 2;
    }

    void go_on(World& world, std::size_t i) {
        Writer& writer = world.writers[i];
        const Plan& plan = scenario_.writers[i];
        if (writer.over) {
            for (const std::uint32_t home : {plan.strip, parity}) {
                world.homes_[home].book.finished(node(i), 2);
            }
            writer.ended = true;
        } else if (writer.found_lost) {
            writer.over = true;  // and fails
            send(world, i, parity, {Message::unlock, {}});
        } else if (writer.staging) {
            decide(world, i);
        } else if (!writer.asked && writer.sent.empty()) {
            send(world, i, parity, {Message::lock, {}});
            if (scenario_.fault == Fault::read_beside_lock)
                send(world, i, read_from(i), {Message::read, {}});
        } else if (!writer.asked) {
            writer.asked = true;
            if (scenario_.fault != Fault::read_beside_lock)
                send(world, i, read_from(i), {Message::read, {}});
        } else if (plan.kind == Kind::computes) {
            writer.over = true;
            saw(world, plan.strip, (*writer.old_data)[0] ^ (*writer.old_parity)[0],
                world.seen[plan.strip][0]);
            send(world, i, parity, {Message::unlock, {}});
        } else {
            writer.staging = true;
            RowValues data{};
            RowValues both{};
            for (std::uint32_t row = 0; row != rows_max; ++row) {
                data[row] = value_of(i);
                both[row] = (*writer.old_data)[row] ^ data[row];
                if (plan.kind == Kind::rmw) both[row] ^= (*writer.old_parity)[row];
            }
            send(world, i, plan.strip, {Message::stage, data});
            send(world, i, parity, {Message::stage, both});
        }
    }

    void decide(World& world, std::size_t i) {
        Writer& writer = world.writers[i];
        const Plan& plan = scenario_.writers[i];
        writer.over = true;
        const Message::Kind kind = plan.drops ? Message::drop : Message::decided;
        send(world, i, plan.strip, {kind, {}});
        send(world, i, parity, {kind, {}});
        if (plan.drops) return;
        for (std::uint32_t row = 0; row != rows_max; ++row) {
            if ((plan.rows >> row & 1) == 0) continue;
            auto& order = world.decided[plan.strip][row];
            order.push_back(value_of(i));
            world.seen[plan.strip][row] = order.size() - 1;  // the client is answered
        }
    }

    // ---- a home
    void deliver(World& world, std::size_t i, std::uint32_t h) {
        Writer& writer = world.writers[i];
        Home& home = world.homes_[h];
        const Message message = writer.sent[h].front();
        writer.sent[h].pop_front();
        writer.come.insert({h, message.kind});
        Effects effects;
        switch (message.kind) {
            case Message::lock:
                if (scenario_.fault == Fault::read_beside_lock)
                    read_for(world, i, h, Old::of_parity);
                if (scenario_.fault == Fault::no_lock) {
                    read_for(world, i, h, Old::of_parity);
                } else if (home.book.lock(claim(i), at(i), mode_of(i)) &&
                           scenario_.fault != Fault::read_beside_lock) {
                    read_for(world, i, h, Old::of_parity);
                }
                break;
            case Message::read:
                read_for(world, i, h, Old::of_data);
                break;
            case Message::stage:
                stage(world, i, h, message.values, effects);
                break;
            case Message::decided:
                home.book.decide(write(i), effects);
                break;
            case Message::drop:
                home.book.drop(write(i), effects);
                break;
            case Message::unlock:
                home.book.unlock(claim(i), effects);
                writer.ended = true;
                break;
        }
        follow(world, h, effects);
    }

    Stage stage_of(const Home& home, std::size_t i, std::uint32_t h) const {
        Stage stage;
        stage.write = write(i);
        stage.member = MemberIndex{h};
        stage.at = at(i);
        stage.participants = std::uint64_t{1} << h | std::uint64_t{1} << parity;
        stage.has_bytes = !home.lost;
        if (h == parity && scenario_.fault != Fault::no_lock) stage.unlocks = claim(i);
        return stage;
    }
    void stage(World& world, std::size_t i, std::uint32_t h, const RowValues& values,
               Effects& effects) {
        Home& home = world.homes_[h];
        const Stage stage = stage_of(home, i, h);
        std::optional<EntryNumber> number;
        if (home.book.stage(stage, &number) != StageAnswer::staged) fail("a stage was refused");
        if (!number) return fail("a stage was taken for a repeat");
        home.bytes[*number] = values;
        if (!home.lost) home.open.insert(*number);
        ++world.writers[i].staged;
        if (scenario_.fault == Fault::applied_when_staged) home.book.decide(write(i), effects);
        if (scenario_.fault == Fault::unlocked_when_staged && h == parity) {
            home.book.unlock(claim(i), effects);
        }
    }

    /// Everything that has come comes again, each by itself. A lock only as long as it is there: what
    /// comes again comes in its order.
    void repeat_all(const World& world) {
        for (std::size_t i = 0; i != world.writers.size(); ++i) {
            for (const auto& [h, kind] : world.writers[i].come) {
                const bool is_unlocked = world.writers[i].over || world.writers[i].ended;
                if (kind == Message::lock && (is_unlocked || scenario_.fault != Fault::none)) {
                    continue;
                }
                Home home = world.homes_[h];
                const auto before = home.book.image();
                const Effects effects = repeat(home, i, h, kind);
                const bool follows = !effects.granted.empty() || !effects.apply.empty() ||
                                     !effects.dropped.empty() || !effects.readable.empty() ||
                                     !effects.flushable.empty();
                if (follows || home.book.image() != before || !home.book.holds_together()) {
                    fail("what comes again changes something");
                }
            }
        }
    }
    Effects repeat(Home& home, std::size_t i, std::uint32_t h, Message::Kind kind) {
        Effects effects;
        switch (kind) {
            case Message::lock:
                (void)home.book.lock(claim(i), at(i), mode_of(i));
                break;
            case Message::read:
                break;
            case Message::stage: {
                std::optional<EntryNumber> entered;
                const StageAnswer answer = home.book.stage(stage_of(home, i, h), &entered);
                if (answer != StageAnswer::staged && answer != StageAnswer::finished) {
                    fail("a repeat was refused");
                }
                if (entered) fail("a repeat was entered");
                break;
            }
            case Message::decided:
                home.book.decide(write(i), effects);
                break;
            case Message::drop:
                home.book.drop(write(i), effects);
                break;
            case Message::unlock:
                home.book.unlock(claim(i), effects);
                break;
        }
        return effects;
    }

    // ---- flushes, writes that fail, and members that are lost
    static constexpr WaiterNumber flush_waiter{100};
    void flush(World& world) {
        Home& home = world.homes_[*scenario_.flushed];
        world.flushing = true;
        world.before_flush = home.open;
        const bool is_over = home.book.flush(MemberIndex{*scenario_.flushed}, flush_waiter);
        if (is_over || scenario_.fault == Fault::flush_waits_not) end_flush(world);
    }
    void end_flush(World& world) {
        if (world.flushed) return;
        world.flushing = false;
        world.flushed = true;
        if (!world.before_flush.empty()) fail("a flush passes what was staged before it");
    }
    void is_over(World& world, std::uint32_t h, EntryNumber entry) const {
        world.homes_[h].open.erase(entry);
        if (scenario_.flushed == h) world.before_flush.erase(entry);
    }
    void fail_to_apply(World& world, std::uint32_t h, EntryNumber entry) {
        ++world.failures;
        Home& home = world.homes_[h];
        if (scenario_.fault != Fault::failed_is_applied) return home.book.apply_failed(entry);
        home.applying.erase(entry);
        is_over(world, h, entry);
        Effects effects;
        home.book.applied(entry, effects);
        follow(world, h, effects);
    }
    /// Who waits for the member's rows asks again, and hears it.
    void lose(World& world, std::uint32_t h) {
        Home& home = world.homes_[h];
        home.lost = true;
        home.applying.clear();
        home.open.clear();
        if (scenario_.flushed == h) world.before_flush.clear();
        Effects effects;
        home.book.member_lost(MemberIndex{h}, effects);
        std::vector<WaiterNumber> waiting;
        for (const auto& [who, before] : world.asked) {
            if (home_asked_by(world, who) == h) waiting.push_back(who);
        }
        for (const WaiterNumber who : waiting) {
            home.book.cancel(who);
            std::erase(effects.readable, who);
            effects.readable.push_back(who);
        }
        follow(world, h, effects);
    }
    std::uint32_t home_asked_by(const World& world, WaiterNumber who) const {
        const auto number = static_cast<std::uint64_t>(who);
        if (number == 0) return scenario_.reads[world.reads];
        return (number - 1) % 2 == 1 ? parity : read_from((number - 1) / 2);
    }
    bool is_lost(const World& world, std::uint32_t h) const {
        return world.homes_[h].lost && scenario_.fault != Fault::lost_is_read;
    }

    /// Bytes of a member's rows as its home answers them; nullopt: it waits.
    std::optional<RowValues> ask(World& world, std::uint32_t h, WindowRows rows, WaiterNumber who) {
        Home& home = world.homes_[h];
        RowValues values = home.disk;
        if (scenario_.fault == Fault::reads_disk) return values;
        const EntryNumber before = world.asked.emplace(who, home.book.next_entry()).first->second;
        const auto memory = home.book.read(MemberIndex{h}, rows, before, who);
        if (!memory) return std::nullopt;
        world.asked.erase(who);
        for (const RowBook::Source& source : *memory) {
            for (std::uint32_t row = 0; row != rows_max; ++row) {
                if ((source.rows >> row & 1) != 0) values[row] = home.bytes[source.entry][row];
            }
        }
        return values;
    }
    void read_for(World& world, std::size_t i, std::uint32_t h, Old what) {
        Writer& writer = world.writers[i];
        const bool of_parity = what == Old::of_parity;
        if (of_parity) writer.granted = true;
        if (of_parity && scenario_.writers[i].kind == Kind::rcw) return;
        if (is_lost(world, h)) {
            world.asked.erase(waiter(i, what));
            writer.found_lost = true;
            return;
        }
        const auto values = ask(world, h, at(i), waiter(i, what));
        if (values) (of_parity ? writer.old_parity : writer.old_data) = *values;
    }
    void read_strip(World& world) {
        const std::uint32_t strip = scenario_.reads[world.reads];
        if (is_lost(world, strip)) {
            world.asked.erase(WaiterNumber{0});
            world.reading = false;
            ++world.reads;
            return;
        }
        const auto values = ask(world, strip, {WindowIndex{5}, 1}, WaiterNumber{0});
        if (!values) return;
        world.reading = false;
        ++world.reads;
        saw(world, strip, (*values)[0], world.floor);
    }
    /// @param floor  what was seen before whoever reads has begun
    void saw(World& world, std::uint32_t strip, Value value, std::size_t floor) {
        const auto& order = world.decided[strip][0];
        const auto found = std::find(order.rbegin(), order.rend(), value);
        if (found == order.rend()) return fail("a read saw what is not decided");
        const auto index = static_cast<std::size_t>(order.rend() - found) - 1;
        if (index < floor) fail("a read went back");
        world.seen[strip][0] = std::max(world.seen[strip][0], index);
    }

    void apply(World& world, std::uint32_t h, EntryNumber entry) {
        Home& home = world.homes_[h];
        home.applying.erase(entry);
        is_over(world, h, entry);
        const RowMask rows = home.book.stage_of(entry).at.rows;
        for (std::uint32_t row = 0; row != rows_max; ++row) {
            if ((rows >> row & 1) != 0) home.disk[row] = home.bytes[entry][row];
        }
        Effects effects;
        home.book.applied(entry, effects);
        follow(world, h, effects);
    }

    void follow(World& world, std::uint32_t h, const Effects& effects) {
        for (const EntryNumber entry : effects.apply) world.homes_[h].applying.insert(entry);
        for (const EntryNumber entry : effects.dropped) is_over(world, h, entry);
        for (const WaiterNumber ready : effects.flushable) {
            if (ready == flush_waiter) end_flush(world);
        }
        for (const CommandId& granted : effects.granted) {
            if (scenario_.fault != Fault::read_beside_lock) {
                read_for(world, granted.from.node - 1, h, Old::of_parity);
            }
        }
        for (const WaiterNumber ready : effects.readable) {
            const auto number = static_cast<std::uint64_t>(ready);
            if (number == 0) {
                read_strip(world);
            } else {
                read_for(world, (number - 1) / 2, h, Old{(number - 1) % 2 == 1});
            }
        }
    }

    void check_end(const World& world) {
        for (const Writer& writer : world.writers) {
            if (!writer.ended) return fail("a writer does not come to an end");
        }
        if (world.reads != scenario_.reads.size())
            return fail("the reader does not come to an end");
        for (const Home& home : world.homes_) {
            if (!home.book.empty()) return fail("a book remembers what is finished");
        }
        if (scenario_.flushed && !world.flushed) return fail("a flush does not come to an end");
        for (std::uint32_t row = 0; row != rows_max; ++row) {
            for (std::uint32_t strip = 0; strip != 2; ++strip) {
                const Home& home = world.homes_[strip];
                if (!home.lost && home.disk[row] != world.decided[strip][row].back()) {
                    return fail("what was decided last is not on the disk");
                }
            }
            const Value data = world.decided[0][row].back() ^ world.decided[1][row].back();
            const Home& home = world.homes_[parity];
            if (!home.lost && home.disk[row] != data) return fail("parity does not fit");
        }
    }

    static std::vector<std::uint64_t> image(const World& world) {
        std::vector<std::uint64_t> all;
        for (const Home& home : world.homes_) {
            const auto book = home.book.image();
            all.insert(all.end(), book.begin(), book.end());
            for (const Value value : home.disk) all.push_back(value);
            for (const auto& [entry, values] : home.bytes) {
                for (const Value value : values) all.push_back(value);
            }
            all.push_back(home.applying.size() * 2 + (home.lost ? 1 : 0));
            for (const EntryNumber entry : home.applying) {
                all.push_back(static_cast<std::uint64_t>(entry));
            }
        }
        for (const Writer& writer : world.writers) {
            for (const auto& old : {writer.old_data, writer.old_parity}) {
                all.push_back(old ? (*old)[0] * 256U + (*old)[1] : 1U << 16);
            }
            all.push_back(writer.staged * 64U + (writer.found_lost ? 32U : 0U) +
                          (writer.granted ? 16U : 0U) + (writer.asked ? 8U : 0U) +
                          (writer.staging ? 4U : 0U) + (writer.over ? 2U : 0U) +
                          (writer.ended ? 1U : 0U));
            for (const auto& [home, queue] : writer.sent) {
                all.push_back(home * 64U + queue.size() * 8U + 1);
                for (const Message& message : queue) all.push_back(message.kind);
            }
        }
        all.push_back(world.reads * 2 + (world.reading ? 1 : 0));
        all.push_back(world.reading ? world.floor : 0);
        all.push_back(world.failures * 4 + (world.flushing ? 2 : 0) + (world.flushed ? 1 : 0));
        all.push_back(world.before_flush.size());
        for (const EntryNumber entry : world.before_flush) {
            all.push_back(static_cast<std::uint64_t>(entry));
        }
        for (std::uint32_t strip = 0; strip != 2; ++strip) {
            for (std::uint32_t row = 0; row != rows_max; ++row) {
                all.push_back(world.seen[strip][row]);
                for (const Value value : world.decided[strip][row]) all.push_back(value);
            }
        }
        return all;
    }

    Scenario scenario_;
    std::set<std::vector<std::uint64_t>> seen_;
    std::optional<std::string> wrong_;
};

std::optional<std::string> run(Scenario scenario) {
    Model model(std::move(scenario));
    auto wrong = model.run();
    ::testing::Test::RecordProperty("states", static_cast<int>(model.states()));
    std::printf("%zu states\n", model.states());
    return wrong;
}

TEST(RowBookModel, TwoWritersOfOneRow) {
    EXPECT_EQ(run({{{0, 1}, {0, 1}}, {0, 0}}), std::nullopt) << "the same strip";
    EXPECT_EQ(run({{{0, 1}, {1, 1}}, {0, 1}}), std::nullopt) << "two strips";
    EXPECT_EQ(run({{{0, 1, true}, {1, 1}}, {0, 0}}), std::nullopt) << "one gives up";
}

TEST(RowBookModel, TwoWritersOfTwoRows) {
    EXPECT_EQ(run({{{0, 3}, {0, 1}}, {0, 0}}), std::nullopt) << "one has a row of the other's";
    EXPECT_EQ(run({{{0, 1}, {0, 2}}, {0}}), std::nullopt) << "different rows";
    EXPECT_EQ(run({{{0, 3}, {1, 3, true}}, {0}}), std::nullopt) << "two strips, one gives up";
}

TEST(RowBookModel, ThreeWriters) {
    EXPECT_EQ(run({{{0, 1}, {0, 1}, {1, 1}}, {0, 0}}), std::nullopt) << "one row";
    EXPECT_EQ(run({{{0, 1}, {1, 3}, {0, 2}}, {}}), std::nullopt) << "two rows";
}

TEST(RowBookModel, ParityFromTheOtherStrip) {
    const Plan rcw{1, 1, false, Kind::rcw};
    EXPECT_EQ(run({{{0, 1}, rcw}, {0, 1}}), std::nullopt) << "beside an RMW";
    EXPECT_EQ(run({{{0, 1, false, Kind::rcw}, rcw}, {1}}), std::nullopt) << "both";
    EXPECT_EQ(run({{{0, 1}, rcw, {1, 3, true}}, {}}), std::nullopt) << "three, one gives up";
}

TEST(RowBookModel, AReadThatComputes) {
    const Plan computes{0, 1, false, Kind::computes};
    EXPECT_EQ(run({{{0, 1}, computes}, {0, 0}}), std::nullopt) << "the strip that is written";
    EXPECT_EQ(run({{{1, 1}, computes, computes}, {}}), std::nullopt) << "beside it, twice";
    EXPECT_EQ(run({{{0, 3}, {1, 1, true}, computes}, {}}), std::nullopt) << "two writers";
}

TEST(RowBookModel, AMemberIsFlushed) {
    const Plan gives_up{1, 1, true};
    for (const std::uint32_t member : {0U, parity}) {
        Scenario scenario{{{0, 1}, {0, 3}}, {0}};
        scenario.flushed = member;
        EXPECT_EQ(run(scenario), std::nullopt) << "two writers, member " << member;
        scenario.writers = {{0, 1}, gives_up};
        EXPECT_EQ(run(scenario), std::nullopt) << "one gives up, member " << member;
    }
}

TEST(RowBookModel, WritesToDisksFailAndAreTriedAgain) {
    Scenario scenario{{{0, 1}, {0, 1}}, {0}};
    scenario.failures = 2;
    scenario.flushed = 0;
    EXPECT_EQ(run(scenario), std::nullopt) << "one row";
    scenario.writers = {{0, 3}, {1, 1, false, Kind::rcw}};
    EXPECT_EQ(run(scenario), std::nullopt) << "beside one that reads the strip";
}

TEST(RowBookModel, AMemberIsLost) {
    const Plan rcw{1, 1, false, Kind::rcw};
    const Plan computes{1, 1, false, Kind::computes};
    for (const std::uint32_t member : {0U, parity}) {
        Scenario scenario{{{0, 1}, {0, 1}}, {0, 0}};
        scenario.lost = member;
        EXPECT_EQ(run(scenario), std::nullopt) << "the same strip, member " << member;
        scenario.writers = {{0, 1}, rcw};
        EXPECT_EQ(run(scenario), std::nullopt) << "beside an RCW, member " << member;
        scenario.writers = {{0, 1}, {1, 1, true}};
        scenario.flushed = member;
        scenario.failures = 1;
        EXPECT_EQ(run(scenario), std::nullopt) << "flushed, and it fails before: " << member;
        scenario.writers = {{0, 1}, computes};
        EXPECT_EQ(run(scenario), std::nullopt) << "and who computes reads it: " << member;
    }
}

TEST(RowBookModel, WrongProtocolsAreFound) {
    const auto wrong = [](Fault fault, Scenario scenario) {
        scenario.fault = fault;
        return run(std::move(scenario)).has_value();
    };
    const Scenario same{{{0, 1}, {0, 1}}, {0, 0}};
    const Scenario two{{{0, 1}, {1, 1}}, {}};
    const Scenario gives_up{{{0, 1, true}, {1, 1}}, {0, 0}};
    EXPECT_TRUE(wrong(Fault::no_lock, two));
    EXPECT_TRUE(wrong(Fault::read_beside_lock, two));
    EXPECT_TRUE(wrong(Fault::applied_when_staged, gives_up));
    EXPECT_TRUE(wrong(Fault::decided_by_one, same));
    EXPECT_TRUE(wrong(Fault::reads_disk, same));
    const Scenario rcw{{{0, 1}, {1, 1, false, Kind::rcw}}, {}};
    EXPECT_TRUE(wrong(Fault::unlocked_when_staged, rcw));
    const Scenario computed{{{0, 1}, {1, 1, false, Kind::computes}}, {}};
    EXPECT_TRUE(wrong(Fault::no_lock, computed));
    Scenario flushed{{{0, 1}}, {}};
    flushed.flushed = 0;
    EXPECT_TRUE(wrong(Fault::flush_waits_not, flushed));
    Scenario fails{{{0, 1}}, {}};
    fails.failures = 1;
    EXPECT_TRUE(wrong(Fault::failed_is_applied, fails));
    Scenario lost{{{0, 1}, {0, 1}}, {}};
    lost.lost = 0;
    EXPECT_TRUE(wrong(Fault::lost_is_read, lost));
}

}  // namespace
}  // namespace braid::cluster
