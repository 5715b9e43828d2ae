// SPDX-License-Identifier: BSD-3-Clause
#include "engine/intent/write_intent.h"

#include <algorithm>
#include <array>
#include <cerrno>

#include "engine/base/mutation.h"

namespace braid {

struct WriteIntent::Mark {
    std::uint32_t volume{intent_no_volume};
    std::uint32_t count{0};
    StripeIndex first{};
    std::uint32_t active{0};   // holds
    bool hashed{false};        // found by region; not so after the size of regions changed
    std::uint64_t changed{0};  // sequence_ when its last write ended
    std::uint64_t needs{0};    // the generation that first names it
    std::uint64_t tick{0};     // when it was used last
    Mark* chain{nullptr};      // of the bucket, or of the free list
    Mark* older{nullptr};
    Mark* newer{nullptr};
};

WriteIntent::WriteIntent(Clock& clock, const Geometry& geometry, Members& members, Decider& monitor,
                         Identity identity)
    : clock_(clock),
      geometry_(geometry),
      members_(members),
      monitor_(monitor),
      identity_(std::move(identity)),
      buckets_(bucket_count) {}

WriteIntent::~WriteIntent() = default;

void WriteIntent::start(Start start, TaskGroup& tasks) {
    on_ = start.settings.on;
    set_region(start.settings.region);
    generation_ = durable_ = start.generation;
    if (!BRAID_MUTANT(doubt_forgotten)) doubt_ = std::move(start.marked);
    rate_since_ = clock_.now();
    tasks.spawn(write_records());
    tasks.spawn(tick());
    tasks.spawn(make_room());
}

Task<Result<void>> WriteIntent::rewrite() {
    if (!on_) co_return Result<void>{};
    const std::uint64_t wanted = generation_ + 1;
    const std::uint64_t refusals = refusals_;
    dirty_ = true;
    wanted_.set();
    while (durable_ < wanted) {
        if (members_.failed()) co_return Error{Errc::failed, "write intent"};
        if (refusals_ != refusals && refused_) co_return *refused_;
        co_await written_.next();
    }
    co_return Result<void>{};
}

void WriteIntent::stop() {
    stopping_ = true;
    wanted_.set();
    used_event_.set();
    room_wanted_.set();
    if (ticking_ != nullptr) ticking_->cancel();
}

void WriteIntent::array_failed() {
    wake();
    written_.set();
}

void WriteIntent::set_on(bool on) {
    on_ = on;
    if (unmarked_ == 0) unmarked_ended_.set();
}

/// Marks of the old size stay until they are clean, under no region's name: their stripes may be
/// marked twice.
void WriteIntent::set_region(std::uint64_t bytes) {
    region_ = bytes;
    region_stripes_ = std::max<std::uint64_t>(1, bytes / geometry_.stripe_data_size());
    for (Mark* mark = oldest_; mark != nullptr; mark = mark->newer) mark->hashed = false;
    std::ranges::fill(buckets_, nullptr);
}

// ---- regions and marks ---------------------------------------------------------------------

/// Counted from the start of the volume, and cut at its end; between volumes, from the end of the
/// one before.
WriteIntent::Region WriteIntent::region_of(StripeIndex stripe) const {
    Region region;
    std::uint64_t begin = 0;
    std::uint64_t end = geometry_.stripes;
    const auto& volumes = identity_.volumes;
    for (std::uint32_t i = 0; i != volumes.size(); ++i) {
        const std::uint64_t first = raw(volumes[i].first);
        const std::uint64_t past = first + volumes[i].stripes;
        if (raw(stripe) < first) {
            end = first;
            break;
        }
        if (raw(stripe) < past) {
            region.volume = i;
            begin = first;
            end = past;
            break;
        }
        begin = past;
    }
    const std::uint64_t first = begin + (raw(stripe) - begin) / region_stripes_ * region_stripes_;
    region.first = StripeIndex{first};
    region.count = static_cast<std::uint32_t>(std::min(region_stripes_, end - first));
    return region;
}
static_assert(intent_region_max / (2 * strip_size_min) <= 0xffffffff);  // a region's stripes

std::uint64_t WriteIntent::stripes_together(StripeIndex first) const {
    const Region region = region_of(first);
    return raw(region.first) + region.count - raw(first);
}

WriteIntent::Mark* WriteIntent::find(const Region& region) const {
    Mark* mark = buckets_[bucket_of(region.first)];
    while (mark != nullptr && mark->first != region.first) mark = mark->chain;
    return mark;
}

void WriteIntent::link_newest(Mark& mark) {
    mark.older = newest_;
    mark.newer = nullptr;
    (newest_ != nullptr ? newest_->newer : oldest_) = &mark;
    newest_ = &mark;
}

void WriteIntent::unlink(Mark& mark) {
    (mark.older != nullptr ? mark.older->newer : oldest_) = mark.newer;
    (mark.newer != nullptr ? mark.newer->older : newest_) = mark.older;
}

/// A new mark, which no record names yet. Null: there is no room.
WriteIntent::Mark* WriteIntent::make(const Region& region) {
    if (used_ == marks_max) {
        Mark* old = oldest_droppable();
        if (old == nullptr) return nullptr;
        drop(*old);
    }
    Mark* mark = free_;
    if (mark != nullptr) {
        free_ = mark->chain;
    } else {
        mark = &marks_.emplace_back();
    }
    *mark = {};
    mark->volume = region.volume;
    mark->count = region.count;
    mark->first = region.first;
    mark->hashed = true;
    mark->needs = generation_ + 1;
    mark->tick = ticks_;
    Mark*& bucket = buckets_[bucket_of(region.first)];
    mark->chain = bucket;
    bucket = mark;
    link_newest(*mark);
    ++used_;
    used_event_.set();
    dirty_ = true;
    wanted_.set();
    return mark;
}

void WriteIntent::drop(Mark& mark) {
    BRAID_REQUIRE(mark.active == 0);
    if (mark.hashed) {
        Mark** link = &buckets_[bucket_of(mark.first)];
        while (*link != &mark) link = &(*link)->chain;
        *link = mark.chain;
    }
    unlink(mark);
    mark.chain = free_;
    free_ = &mark;
    --used_;
}

bool WriteIntent::is_droppable(const Mark& mark) const {
    return mark.active == 0 && (mark.changed <= flushed_ || BRAID_MUTANT(clean_before_flush));
}

bool WriteIntent::is_stale(const Mark& mark) const {
    return mark.active == 0 && ticks_ - mark.tick >= linger_ticks;
}

WriteIntent::Mark* WriteIntent::oldest_droppable() {
    Mark* mark = oldest_;
    while (mark != nullptr && !is_droppable(*mark)) mark = mark->newer;
    return mark;
}

// ---- writers -------------------------------------------------------------------------------

bool WriteIntent::assign(Hold& hold) {
    const Region region = region_of(hold.stripe_);
    Mark* mark = find(region);
    if (mark == nullptr) mark = make(region);
    if (mark == nullptr) return false;
    if (refused_ && mark->needs > durable_) wanted_.set();  // tried again
    ++mark->active;
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
    Mark& mark = *hold.mark_;
    --mark.active;
    mark.changed = ++sequence_;
    if (mark.tick != ticks_ && &mark != newest_) {
        unlink(mark);
        link_newest(mark);
    }
    mark.tick = ticks_;
    if (mark.active == 0 && room_first_ != nullptr) room_wanted_.set();
}

bool WriteIntent::is_ready(const Hold& hold) const {
    if (!hold.marked_ || hold.refused_ || members_.failed()) return true;
    if (BRAID_MUTANT(intent_not_awaited)) return hold.mark_ != nullptr;
    return hold.mark_ != nullptr && hold.mark_->needs <= durable_;
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

/// The record of this generation was not taken by a member that is kept: who waits for it is told.
/// The next one has its number, and names what came meanwhile, too.
void WriteIntent::refuse(std::uint64_t generation, Error error) {
    generation_ = generation - 1;
    refused_ = error;
    ++refusals_;
    for (Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        mark->needs = std::min(mark->needs, generation);
    }
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

void WriteIntent::flushed(std::uint64_t sequence) {
    flushed_ = std::max(flushed_, sequence);
    if (room_first_ != nullptr) serve_room();
}

/// The record is full, and what could be taken out was not flushed: one flush makes room for all
/// that nobody writes to.
Task<void> WriteIntent::make_room() {
    while (!stopping_) {
        co_await room_wanted_.take();
        if (room_first_ == nullptr || members_.failed()) continue;
        ++flushes_;
        // A member that fails in it is lost; an array that fails tells everybody.
        const Result<void> result = co_await monitor_.flush_members();
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

void WriteIntent::drop_stale() {
    for (Mark* mark = oldest_; mark != nullptr;) {
        Mark* next = mark->newer;
        if (is_stale(*mark) && is_droppable(*mark)) drop(*mark);
        mark = next;
    }
}

void WriteIntent::drop_clean() {
    for (Mark* mark = oldest_; mark != nullptr;) {
        Mark* next = mark->newer;
        if (is_droppable(*mark)) drop(*mark);
        mark = next;
    }
}

namespace {

/// In order, neighbours of one volume together.
std::vector<IntentEntry> merged(std::vector<IntentEntry> entries) {
    std::ranges::sort(entries, {}, [](const IntentEntry& entry) { return raw(entry.first); });
    std::vector<IntentEntry> result;
    for (const IntentEntry& entry : entries) {
        IntentEntry* last = result.empty() ? nullptr : &result.back();
        const std::uint64_t end = raw(entry.first) + entry.count;
        if (last != nullptr && last->volume == entry.volume &&
            raw(entry.first) <= raw(last->first) + last->count &&
            end - raw(last->first) <= 0xffffffff) {
            last->count = static_cast<std::uint32_t>(std::max(end, raw(last->first) + last->count) -
                                                     raw(last->first));
            continue;
        }
        result.push_back(entry);
    }
    return result;
}

/// More entries than a record holds: the smallest gaps are marked along.
void close_gaps(std::vector<IntentEntry>& entries) {
    while (entries.size() > intent_entries_max) {
        std::size_t best = 0;
        std::uint64_t best_gap = ~std::uint64_t{0};
        for (std::size_t i = 0; i + 1 != entries.size(); ++i) {
            if (entries[i].volume != entries[i + 1].volume) continue;
            const std::uint64_t end = raw(entries[i + 1].first) + entries[i + 1].count;
            if (end - raw(entries[i].first) > 0xffffffff) continue;
            const std::uint64_t gap =
                raw(entries[i + 1].first) - raw(entries[i].first) - entries[i].count;
            if (gap < best_gap) best = i, best_gap = gap;
        }
        BRAID_REQUIRE(best_gap != ~std::uint64_t{0});  // 1020 entries, 65 stretches of volumes
        entries[best].count = static_cast<std::uint32_t>(
            raw(entries[best + 1].first) + entries[best + 1].count - raw(entries[best].first));
        entries.erase(entries.begin() + static_cast<std::ptrdiff_t>(best) + 1);
    }
}

}  // namespace

std::vector<IntentEntry> WriteIntent::compose() {
    drop_stale();
    std::vector<IntentEntry> entries = doubt_;
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        entries.push_back({mark->volume, mark->count, mark->first});
    }
    entries = merged(std::move(entries));
    close_gaps(entries);
    return entries;
}

/// Who holds the record: one more than may be lost, those in sync first.
std::vector<MemberIndex> WriteIntent::targets() const {
    std::vector<MemberIndex> chosen;
    for (const MemberState wanted : {MemberState::in_sync, MemberState::rebuilding}) {
        for (std::uint32_t i = 0; i != members_.count(); ++i) {
            if (chosen.size() == geometry_.parities() + 1) return chosen;
            const auto& slot = members_.slot(MemberIndex{i});
            if (slot.state == wanted && slot.is_open()) chosen.push_back(MemberIndex{i});
        }
    }
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
        }
        wake();
        written_.set();
    }
}

/// Held: all of the members that it was to be on have it. Lost: a member was. Refused: one that is
/// kept did not take it; what it had of the generation before is untouched.
Task<WriteIntent::Outcome> WriteIntent::write_record() {
    const std::uint64_t before = generation_;
    IntentRecord record;
    record.array = identity_.array;
    record.node = identity_.node;
    record.epoch = epoch_;
    record.entries = compose();
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
        op.offset = slots_end + intent_slot_offset(record.node, record.generation);
        op.size = bytes.size();
        op.data = const_cast<std::byte*>(bytes.data());  // NOLINT: a write only reads it
        members_.submit(member, group, op);
    }
    co_await group;
    bool held = !holders.empty();
    std::optional<Error> refused;
    for (const MemberIndex member : holders) {
        DriveOp& op = ops[raw(member)];
        members_.finish(member, op);
        if (op.ok()) continue;
        held = false;
        const int error = op.result.os_error;
        if (op.result.is_members()) monitor_.strip_write_failed(member, error);
        if (!takes_part(members_.slot(member).state)) continue;
        refused = Error{error == ENOSPC ? Errc::full : Errc::io, "write intent", error};
    }
    ++records_;
    if (refused) {
        refuse(before + 1, *refused);
        co_return Outcome::refused;
    }
    if (!held) co_return Outcome::lost;
    durable_ = record.generation;
    refused_.reset();
    co_return Outcome::held;
}

// ---- time ----------------------------------------------------------------------------------

Task<void> WriteIntent::tick() {
    while (!stopping_) {
        if (used_ == 0) {
            rate_ = 0;
            co_await used_event_.next();
            continue;
        }
        Timer timer(clock_, Nanos{clock_.now().value + tick_nanos});
        ticking_ = &timer;
        co_await timer;
        ticking_ = nullptr;
        ++ticks_;
        note_rate();
        if (ticks_ - clean_tick_ >= clean_ticks) co_await clean();
    }
}

bool WriteIntent::has_stale(bool droppable) const {
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        if (is_stale(*mark) && is_droppable(*mark) == droppable) return true;
    }
    return false;
}

/// Marks that nobody used lately leave with the next record; if none comes, one is written for it.
Task<void> WriteIntent::clean() {
    clean_tick_ = ticks_;
    const bool busy = records_ != records_cleaned_;
    records_cleaned_ = records_;
    if (has_stale(false)) {
        ++flushes_;
        if (!co_await monitor_.flush_members()) co_return;  // it is tried again
    }
    if (busy || !has_stale(true)) co_return;
    dirty_ = true;
    wanted_.set();
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

// ---- doubt, and what people see ------------------------------------------------------------

void WriteIntent::add_doubt(StripeIndex stripe) {
    if (is_in_doubt(stripe)) return;
    doubt_.push_back({region_of(stripe).volume, 1, stripe});
    doubt_ = merged(std::move(doubt_));
    close_gaps(doubt_);
    dirty_ = true;
    wanted_.set();
}

void WriteIntent::settled_before(StripeIndex stripe) {
    if (doubt_.empty()) return;
    std::erase_if(doubt_, [stripe](const IntentEntry& entry) {
        return raw(entry.first) + entry.count <= raw(stripe);
    });
    if (!doubt_.empty() && raw(doubt_.front().first) < raw(stripe)) {
        IntentEntry& entry = doubt_.front();
        entry.count -= static_cast<std::uint32_t>(raw(stripe) - raw(entry.first));
        entry.first = stripe;
    }
    if (!doubt_.empty() || !on_) return;
    dirty_ = true;
    wanted_.set();
}

void WriteIntent::settled_from(StripeIndex stripe) {
    while (!doubt_.empty() && doubt_.back().first >= stripe) doubt_.pop_back();
    if (doubt_.empty()) return;
    IntentEntry& last = doubt_.back();
    const std::uint64_t before = raw(stripe) - raw(last.first);
    last.count = static_cast<std::uint32_t>(std::min<std::uint64_t>(last.count, before));
}

bool WriteIntent::is_in_doubt(StripeIndex stripe) const {
    if (doubt_.empty()) return false;  // mostly
    const auto at = std::ranges::partition_point(doubt_, [stripe](const IntentEntry& entry) {
        return raw(entry.first) + entry.count <= raw(stripe);
    });
    return at != doubt_.end() && at->first <= stripe;
}

std::uint64_t WriteIntent::stripes_in_doubt() const {
    std::uint64_t sum = 0;
    for (const IntentEntry& entry : doubt_) sum += entry.count;
    return sum;
}

IntentStatus WriteIntent::status() const {
    IntentStatus status;
    status.on = on_;
    status.region = region_;
    status.stripes_marked = stripes_in_doubt();
    for (const Mark* mark = oldest_; mark != nullptr; mark = mark->newer) {
        status.stripes_marked += mark->count;
    }
    status.marks = used_;
    status.marks_max = marks_max;
    status.generation = durable_;
    status.records = records_;
    status.records_per_second = rate_;
    status.waiting = waiting_count_;
    status.flushes = flushes_;
    return status;
}

}  // namespace braid
