// SPDX-License-Identifier: BSD-3-Clause
#include "engine/intent/write_intent.h"

#include <algorithm>
#include <array>
#include <cerrno>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/members/flush.h"
#include "parity/require.h"

namespace braid {

WriteIntent::WriteIntent(Clock& clock, const Geometry& geometry, Members& members, Decider& decider,
                         Identity identity)
    : clock_(clock),
      geometry_(geometry),
      members_(members),
      decider_(decider),
      array_(identity.array),
      node_(identity.node),
      marks_(geometry, std::move(identity.volumes)) {}

WriteIntent::~WriteIntent() = default;

void WriteIntent::start(Start start, TaskGroup& tasks) {
    on_ = start.settings.on;
    marks_.set_region(start.settings.region);
    generation_ = durable_ = start.generation;
    if (!BRAID_MUTANT(doubt_forgotten)) marks_.set_carried(std::move(start.marked));
    rate_since_ = clock_.now();
    tasks.spawn(write_records());
    tasks.spawn(tick());
    tasks.spawn(make_room());
}

Task<Result<void>> WriteIntent::rewrite() {
    if (!on_) co_return Result<void>{};
    const std::uint64_t wanted = generation_ + 1;
    const std::uint64_t refusals = refusals_;
    want_record();
    again_.set();
    while (durable_ < wanted) {
        if (members_.failed()) co_return Error{Errc::failed, "write intent"};
        if (refusals_ != refusals && refused_) co_return *refused_;
        co_await written_.next();
    }
    co_return Result<void>{};
}

void WriteIntent::want_record() {
    dirty_ = true;
    wanted_.set();
}

void WriteIntent::stop() {
    stopping_ = true;
    wanted_.set();
    used_event_.set();
    room_wanted_.set();
    again_.set();
    if (ticking_ != nullptr) ticking_->cancel();
}

void WriteIntent::array_failed() {
    again_.set();
    wake();
    written_.set();
}

void WriteIntent::set_on(bool on) {
    on_ = on;
    if (unmarked_ == 0) unmarked_ended_.set();
}

// ---- writers -------------------------------------------------------------------------------

bool WriteIntent::assign(Hold& hold) {
    IntentMarks::Mark* mark = marks_.find(hold.stripe_);
    if (mark == nullptr) {
        mark = marks_.make(hold.stripe_, generation_ + 1);
        if (mark == nullptr) return false;
        used_event_.set();
        want_record();
    }
    if (refused_ && mark->needs > durable_) wanted_.set();  // tried again
    marks_.hold(*mark);
    hold.mark_ = mark;
    return true;
}

void WriteIntent::enter(Hold& hold) {
    hold.marked_ = on_;
    if (!on_) {
        if (unmarked_++ == 0) unmarked_ended_.clear();
        return;
    }
    if (room_first_ == nullptr && assign(hold)) return;
    hold.wants_room_ = true;
    (room_last_ != nullptr ? room_last_->next_ : room_first_) = &hold;
    room_last_ = &hold;
    ++waiting_count_;
    room_wanted_.set();
}

void WriteIntent::leave(Hold& hold) {
    if (abandoned_) return;
    if (!hold.marked_) {
        if (--unmarked_ == 0) unmarked_ended_.set();
        return;
    }
    if (hold.wants_room_) {  // given up before there was room
        Hold** link = &room_first_;
        Hold* before = nullptr;
        while (*link != &hold) before = *link, link = &(*link)->next_;
        *link = hold.next_;
        if (room_last_ == &hold) room_last_ = before;
        --waiting_count_;
        return;
    }
    if (hold.mark_ == nullptr) return;  // refused
    marks_.release(*hold.mark_);
    if (hold.mark_->active == 0 && room_first_ != nullptr) room_wanted_.set();
}

bool WriteIntent::is_ready(const Hold& hold) const {
    if (!hold.marked_ || hold.refused_ || members_.failed()) return true;
    if (BRAID_MUTANT(intent_not_awaited)) return hold.mark_ != nullptr;
    return hold.mark_ != nullptr && hold.mark_->needs <= durable_;
}

bool WriteIntent::is_durable_for(const Hold& hold, StripeIndex stripe) const {
    if (!hold.marked_) return true;  // it was off, and those who switch it on wait for this one
    if (BRAID_MUTANT(intent_not_awaited)) return true;
    const IntentMarks::Mark* mark = hold.mark_;
    return mark != nullptr && mark->needs <= durable_ && mark->first <= stripe &&
           stripe < mark->end();
}

void WriteIntent::wait(Hold& hold) {
    if (!hold.wants_room_) ++waiting_count_;
    hold.next_waiting_ = waiting_;
    waiting_ = &hold;
    if (refused_) wanted_.set();  // nobody else asks for what was refused before it waited
}

/// Those whose marks are durable go on, in the order in which they came.
void WriteIntent::wake() {
    Hold* go = nullptr;
    Hold** link = &waiting_;
    while (*link != nullptr) {
        Hold* hold = *link;
        if (!is_ready(*hold)) {
            link = &hold->next_waiting_;
            continue;
        }
        *link = hold->next_waiting_;
        hold->next_waiting_ = go;
        go = hold;
    }
    while (go != nullptr) {
        Hold* next = go->next_waiting_;
        if (!go->wants_room_) --waiting_count_;
        go->queue_->push(go->handle_);
        go = next;
    }
}

/// The record of this generation is not on all members that it was to be on. The next one has its
/// number, and names what came meanwhile, too.
void WriteIntent::take_again(std::uint64_t generation, Error error) {
    generation_ = generation - 1;
    refused_ = error;
    ++refusals_;
    marks_.generation_again(generation);
}

/// A member that is kept did not take it: who waits for it is told.
void WriteIntent::refuse(Error error) {
    Hold** link = &waiting_;
    while (*link != nullptr) {
        Hold* hold = *link;
        if (hold->mark_ == nullptr || is_ready(*hold)) {
            link = &hold->next_waiting_;
            continue;
        }
        *link = hold->next_waiting_;
        hold->refused_ = error;
        --waiting_count_;
        hold->queue_->push(hold->handle_);
    }
}

void WriteIntent::serve_room() {
    while (room_first_ != nullptr && assign(*room_first_)) {
        Hold& hold = *room_first_;
        room_first_ = hold.next_;
        if (room_first_ == nullptr) room_last_ = nullptr;
        hold.wants_room_ = false;
        const bool waits = hold.handle_ != nullptr;  // for a record now
        if (!waits) --waiting_count_;
    }
    wake();  // a mark that somebody else made durable already
}

Task<Result<void>> WriteIntent::flush() {
    const std::uint64_t sequence = marks_.flush_begins();
    BRAID_CO_CHECK(co_await flush_drives(&members_, &decider_));
    marks_.flushed(sequence);
    if (room_first_ != nullptr) serve_room();
    co_return Result<void>{};
}

/// The record is full, and what could be taken out was not flushed: one flush makes room for all
/// that nobody writes to.
Task<void> WriteIntent::make_room() {
    while (!stopping_) {
        co_await room_wanted_.take();
        if (room_first_ == nullptr || members_.failed()) continue;
        ++flushes_;
        // A member that fails in it is lost; an array that fails tells everybody.
        const Result<void> result = co_await flush();
        if (result) {
            serve_room();
        } else if (!members_.failed()) {
            refuse_room(result.error());
        }
    }
}

/// Nothing leaves the record for now: those who wait for a place in it are told.
void WriteIntent::refuse_room(Error error) {
    while (room_first_ != nullptr) {
        Hold& hold = *room_first_;
        room_first_ = hold.next_;
        hold.wants_room_ = false;
        hold.refused_ = error;
        if (hold.handle_ == nullptr) --waiting_count_;  // else it is woken
    }
    room_last_ = nullptr;
    wake();
}

// ---- records -------------------------------------------------------------------------------

/// Who holds the record: one more than may be lost, those in sync first. In a cluster who did not take
/// the last one comes last.
std::vector<MemberIndex> WriteIntent::targets() const {
    std::vector<MemberIndex> chosen;
    for (const MemberIndex member : members_.taking_part()) {
        if (members_.slot(member).is_open()) chosen.push_back(member);
    }
    std::ranges::stable_sort(chosen, {}, [this](MemberIndex member) {
        const bool is_in_sync = members_.slot(member).state == MemberState::in_sync;
        return std::pair(refusing_.has(member), !is_in_sync);
    });
    if (chosen.size() > geometry_.parities() + 1) chosen.resize(geometry_.parities() + 1);
    return chosen;
}

Task<void> WriteIntent::write_records() {
    for (;;) {
        co_await wanted_.take();
        if (stopping_) co_return;
        // Whoever is ready now comes into the same record.
        Yield yield;
        co_await yield;
        bool refused = false;
        while (dirty_ && !refused && !members_.failed()) {
            // Not acknowledged by all: again, without those that failed; or when somebody asks.
            const Outcome outcome = co_await write_record();
            if (outcome != Outcome::held) dirty_ = true;
            refused = outcome == Outcome::refused;
            wake();
            written_.set();
            if (outcome == Outcome::waits) {
                if (!stopping_) co_await again_.next();
                if (stopping_) co_return;
            }
        }
        wake();
        written_.set();
    }
}

/// Whoever is not in sync; and, if of any of them it is known, what has been written since. Of who has the
/// role of a displaced one nothing is known: so that one is named, and not the other.
void WriteIntent::put_absent(IntentRecord* record) const {
    const AbsenceMap& absence = members_.absence();
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const MemberIndex member{i};
        if (members_.slot(member).state == MemberState::in_sync) continue;
        const Uuid known = absence.known(member, uuids_[i]);
        AbsentMember away{known == Uuid{} ? uuids_[i] : known, known != Uuid{}};
        if (away.uuid == Uuid{}) continue;
        if (away.known) {
            const auto& held = absence.generations(member);
            const auto own = held.find(node_);
            away.generation = own == held.end() ? 0 : own->second;
        }
        record->absent.push_back(away);
    }
    BRAID_REQUIRE(record->absent.size() <= absent_max);  // with more the array has failed
    if (record->absent.empty() || !absence.on()) return;
    record->missed = MissedStripes(geometry_.stripes,
                                   missed_bytes_max(record->entries.size(), record->absent.size()));
    if (BRAID_MUTANT(absence_unrecorded)) return;
    const WindowIndex end = geometry_.window_end();
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (absence.known(MemberIndex{i}, uuids_[i]) == Uuid{}) continue;
        const WindowSet& missed = absence.missed(MemberIndex{i});
        for (WindowIndex at{}; (at = missed.next_in(at, end)) < end;) {
            const WindowIndex past = missed.next_out(at, end);
            record->missed.add(geometry_.stripe_of(at), geometry_.stripe_of(past - 1) + 1);
            at = past;
        }
    }
}

/// Held: all of the members that it was to be on have it. Lost: a member was. Refused: one that is
/// kept did not take it; what it had of the generation before is untouched. Waits: in a cluster one
/// did not take it that is lost already, perhaps, and no other one is left that could.
Task<WriteIntent::Outcome> WriteIntent::write_record() {
    const std::uint64_t before = generation_;
    IntentRecord record;
    record.array = array_;
    record.node = node_;
    record.epoch = epoch_;
    marks_.drop_stale();
    record.entries = marks_.entries();
    BRAID_AUDIT(marks_.are_named_by(record.entries));
    put_absent(&record);
    tells_late_ = false;
    generation_ += BRAID_MUTANT(intent_slot_overwritten) ? 2 : 1;
    record.generation = generation_;
    dirty_ = false;
    const Buffer bytes = encode_intent(record);
    const std::vector<MemberIndex> holders = targets();
    std::array<DriveOp, members_max> ops;
    DiskGroup group;
    for (const MemberIndex member : holders) {
        DriveOp& op = ops[raw(member)];
        op.kind = DiskOpKind::write;
        op.fua = !BRAID_MUTANT(intent_not_durable);
        op.set_offset({slots_end + intent_slot_offset(record.node, record.generation)});
        op.size = bytes.size();
        op.data = const_cast<std::byte*>(bytes.data());  // NOLINT: a write only reads it
        members_.write_record(member, group, op);
    }
    co_await group;
    bool held = !holders.empty();
    std::optional<Error> refused;
    std::optional<Error> waits;
    for (const MemberIndex member : holders) {
        DriveOp& op = ops[raw(member)];
        members_.finish(member, op);
        if (op.ok()) continue;
        held = false;
        const int error = op.result.os_error;
        if (op.result.is_members()) decider_.strip_write_failed(member, error);
        if (!takes_part(members_.slot(member).state)) continue;
        const Error why{error == ENOSPC ? Errc::full : Errc::io, "write intent", error};
        // In a cluster it is lost already, perhaps, and this node has yet to hear of that.
        if (members_.is_shared() && error != ENOSPC) {
            refusing_.add(member);
            const std::vector<MemberIndex> next = targets();
            if (std::ranges::find(next, member) == next.end()) continue;  // others take it
            const bool is_kept = op.result.is_members() && members_.is_needed(member);
            if (!is_kept) {
                waits = why;
                continue;
            }
        }
        refused = why;
    }
    ++records_;
    if (refused || waits) take_again(before + 1, refused ? *refused : *waits);
    if (refused) {
        refuse(*refused);
        co_return Outcome::refused;
    }
    if (waits) co_return Outcome::waits;
    if (!held) co_return Outcome::lost;
    durable_ = record.generation;
    for (const MemberIndex member : holders) held_[raw(member)] = record.generation;
    refused_.reset();
    co_return Outcome::held;
}

// ---- time ----------------------------------------------------------------------------------

Task<void> WriteIntent::tick() {
    while (!stopping_) {
        if (marks_.used() == 0 && !(tells_late_ && on_)) {
            rate_ = 0;
            co_await used_event_.next();
            continue;
        }
        Timer timer(clock_, Nanos{clock_.now().value + tick_nanos});
        ticking_ = &timer;
        co_await timer;
        ticking_ = nullptr;
        marks_.tick();
        note_rate();
        again_.set();
        if (marks_.ticks() - clean_tick_ >= clean_ticks) co_await clean();
    }
}

/// Marks that nobody used lately leave with the next record; if none comes, one is written for it.
Task<void> WriteIntent::clean() {
    clean_tick_ = marks_.ticks();
    refusing_ = {};
    const bool busy = records_ != records_cleaned_;
    records_cleaned_ = records_;
    if (marks_.has_stale(IntentMarks::Stale::unflushed)) {
        ++flushes_;
        if (!co_await flush()) co_return;  // it is tried again
    }
    if (tells_late_ && on_) co_return want_record();
    if (busy || !marks_.has_stale(IntentMarks::Stale::droppable)) co_return;
    want_record();
    records_cleaned_ = records_ + 1;
}

void WriteIntent::note_rate() {
    const std::uint64_t nanos = clock_.now().value - rate_since_.value;
    if (nanos == 0) return;
    const auto records = static_cast<double>(records_ - rate_records_);
    rate_ = records * 1e9 / static_cast<double>(nanos);
    rate_records_ = records_;
    rate_since_ = clock_.now();
}

void WriteIntent::carry(StripeIndex stripe) {
    BRAID_REQUIRE(raw(stripe) < geometry_.stripes);
    if (marks_.carry(stripe)) want_record();
}

void WriteIntent::retire_before(StripeIndex stripe) {
    if (marks_.retire_before(stripe) && on_) want_record();
}

IntentStatus WriteIntent::status() const {
    IntentStatus status;
    status.on = on_;
    status.region = marks_.region();
    status.stripes_marked = marks_.stripes_carried() + marks_.stripes_marked();
    status.marks = marks_.used();
    status.marks_max = intent_marks_max;
    status.generation = durable_;
    status.records = records_;
    status.records_per_second = rate_;
    status.waiting = waiting_count_;
    status.flushes = flushes_;
    return status;
}

}  // namespace braid
