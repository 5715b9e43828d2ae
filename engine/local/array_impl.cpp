// SPDX-License-Identifier: BSD-3-Clause
#include "engine/local/array_impl.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "engine/base/mutation.h"

namespace braid {

std::string_view text_of(Health health) {
    switch (health) {
        case Health::clean:
            return "clean";
        case Health::damaged:
            return "damaged";
        case Health::degraded:
            return "degraded";
        case Health::failed:
            return "failed";
    }
    return "unknown";
}
std::string_view text_of(WalkKind kind) {
    switch (kind) {
        case WalkKind::rebuilding:
            return "rebuilding";
        case WalkKind::resyncing:
            return "resyncing";
        case WalkKind::scrubbing:
            return "scrubbing";
    }
    return "unknown";
}

ArrayImpl::ArrayImpl(ReadyQueue& ready, Clock& clock, Configuration configuration,
                     ArrayOptions options)
    : ready_(ready),
      clock_(clock),
      options_(std::move(options)),
      rng_(options_.seed),
      configuration_(std::move(configuration)),
      geometry_(Geometry::of(configuration_)),
      members_(geometry_),
      metadata_(configuration_.member_count),
      why_lost_(configuration_.member_count),
      bad_(geometry_, configuration_.bad_rows),
      locks_(geometry_),
      pool_(options_.buffer_size),
      intent_(clock, geometry_, members_, *this, {configuration_.array, 0, configuration_.volumes}),
      tasks_(ready),
      context_{geometry_, members_,  locks_,           pool_, *this, intent_,
               bad_,      counters_, options_.readonly},
      requests_(context_, tasks_),
      walker_(context_, clock, ready, *this) {
    requests_.set_readonly(options_.readonly);
}

/// Without stop() this is what a crash is to the members: every coroutine ends where it stands, in
/// any order, while all that their destructors touch still lives. Operations in flight must be
/// over, and the ready queue be cleared by its owner.
ArrayImpl::~ArrayImpl() {
    abandoned_ = true;
    intent_.abandon();
    locks_.abandon();
    pool_.abandon();
    walker_.abandon();
    tasks_.clear();
}

namespace {

/// A member that cannot be written would be taken for a broken one.
Checked<Unit> check_writable(const std::vector<std::unique_ptr<Disk>>& disks) {
    for (const auto& disk : disks) {
        if (!disk->info().read_only) continue;
        return Refusal{
            fmt::format("{}: is read-only; make it writable, or serve the array with "
                        "readonly=true",
                        disk->info().path)};
    }
    return Unit{};
}

/// Members that the newest configuration calls in sync, and that are not among `images`: what they
/// hold is as it was.
std::vector<Uuid> members_away(const std::vector<MemberImage>& images, const Uuid& array) {
    std::vector<Uuid> given;
    std::optional<Configuration> newest;
    for (const MemberImage& image : images) {
        const MemberFindings findings = inspect(image);
        const ConfigSlot* slot = findings.slot();
        if (slot == nullptr || slot->configuration.array != array) continue;
        given.push_back(slot->member);
        if (!newest || newest->version < slot->configuration.version) newest = slot->configuration;
    }
    std::vector<Uuid> away;
    if (!newest) return away;
    for (const MemberRecord& at : newest->members) {
        if (!at.role || at.state != MemberState::in_sync) continue;
        if (std::ranges::find(given, at.uuid) == given.end()) away.push_back(at.uuid);
    }
    return away;
}

}  // namespace

Task<Checked<std::unique_ptr<Array>>> Array::open(ReadyQueue& ready, Clock& clock,
                                                  std::vector<std::unique_ptr<Disk>> disks,
                                                  ArrayOptions options) {
    if (!options.readonly) BRAID_CO_CHECK(check_writable(disks));
    std::vector<MemberImage> images;
    for (const auto& disk : disks) {
        images.push_back(co_await read_member_image_patiently(*disk, clock));
        // After the reads, so that it covers what they saw: where a process was killed while it
        // wrote, that may lie in a volatile cache, and the next configuration builds on it. A
        // member that cannot flush has its say all the same; it is lost as soon as it is written.
        const bool flushes = !options.readonly && !BRAID_MUTANT(start_from_cache);
        if (flushes) (void)co_await flush_disk(*disk);
    }
    AssemblyOptions how;
    how.force = options.force;
    BRAID_CO_TRY(Assembly assembly, assemble(images, how));
    auto array = std::make_unique<ArrayImpl>(ready, clock, std::move(assembly.configuration),
                                             std::move(options));
    for (const std::string& notice : assembly.notices) {
        array->tell(Severity::warning, "notice", notice);
    }
    array->set_before({std::move(assembly.marked), assembly.intent_generation,
                       std::move(assembly.intent_hindrance), assembly.epoch_seen,
                       members_away(images, array->configuration().array)});
    for (std::size_t i = 0; i != disks.size(); ++i) {
        MemberPlace& place = assembly.places[i];
        array->note_left_out(images[i], place.why);
        if (place.place != Place::member && place.place != Place::spare) continue;
        array->put_disk(std::move(disks[i]), std::move(place.metadata));
    }
    const Checked<Unit> started = co_await array->start();
    if (!started) {
        co_await array->end_tasks();
        co_return started.error();
    }
    co_return std::unique_ptr<Array>(std::move(array));
}

void ArrayImpl::put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata) {
    change(change::Seen{metadata.uuid, disk->info().path, disk->info().size});
    const MemberRecord* at = configuration_.member(metadata.uuid);
    if (!at->role) {
        spares_.push_back(Spare{std::move(disk), std::move(metadata)});
        return;
    }
    auto& slot = members_.slot(*at->role);
    slot.disk = std::move(disk);
    slot.data_offset = at->data_offset;
    metadata_[raw(*at->role)] = std::move(metadata);
    adopt_state(*at);
}

void ArrayImpl::note_left_out(const MemberImage& image, const std::string& why) {
    const auto superblock = decode_md_superblock(image.superblock.view(), image.device_size);
    if (why.empty() || !superblock) return;
    const MemberRecord* at = configuration_.member(superblock->device_uuid);
    if (at != nullptr && at->role) why_lost_[raw(*at->role)] = why;
}

Task<Checked<Unit>> ArrayImpl::start() {
    if (options_.on_buffer) options_.on_buffer(pool_.region());
    members_.refresh();
    note_away();
    members_.set_losses_durable(members_.losses());
    in_force_.version = configuration_.in_force;
    epoch_seen_ = before_.epoch_seen;
    adopt_bad_rows();  // closes the gates
    begin_recovery();
    if (options_.readonly) {
        tell(Severity::info, "started", "serving for reading only; nothing is written");
        if (!members_.doubt().empty()) {
            tell(Severity::warning, "resync_waits",
                 "parity that is not known to be true stays so until the array is served for "
                 "writing");
        }
        change(change::ScrubAt{});  // goes on when it is served for writing again
        background_running_ = true;
        tasks_.spawn(run_background());
        co_return Unit{};
    }
    tasks_.spawn(write_configurations());
    if (options_.force) trust_doubt_by_force();
    BRAID_CO_TRY(const IntentSettings intent, plan_intent());
    change(change::Intent{intent});
    intent_.start({configuration_.intent, before_.intent_generation, before_.marked}, tasks_);
    set_gates();
    change(change::InUse{true});
    if (!list_doubt(away())) {
        co_return Refusal{fmt::format("the array cannot start: {}", events_.back().text)};
    }
    const Result<void> durable = co_await wait_durable(changed());
    if (!durable) {
        co_return Refusal{fmt::format(
            "the members did not take the configuration that says that the array is in use ({}); "
            "see the messages above",
            text_of(durable.error().code))};
    }
    // After the configuration, which says what is in doubt where there is no record: an empty
    // record in front of it would say that nothing is.
    intent_.set_epoch(configuration_.version.epoch);
    if (const auto kept = co_await rewrite_patiently(); !kept) {
        co_return Refusal{
            fmt::format("the members did not take the first record of the write "
                        "intent ({}); see the messages above",
                        text_of(kept.error().code))};
    }
    set_settles();
    tell(Severity::info, "started",
         fmt::format("RAID-{} of {} members, {} lost", static_cast<int>(configuration_.level),
                     members_.count(), members_.lost()));
    background_running_ = true;
    tasks_.spawn(run_background());
    co_return Unit{};
}

/// Roles of members that are in sync, and were not given.
MemberSet ArrayImpl::away() const {
    MemberSet members;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const Uuid& uuid = configuration_.member(MemberIndex{i})->uuid;
        if (std::ranges::find(before_.away, uuid) != before_.away.end()) members.add(i);
    }
    return members;
}

/// What is in sync, and away, has what it had; if it is what was on all members at least, as at a
/// start with it.
void ArrayImpl::note_away() {
    const MemberSet members = away();
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (!members.has(i)) continue;
        members_.slot(MemberIndex{i}).kept = members_.window_count();
        members_.slot(MemberIndex{i}).whole = true;
        change(change::Away{MemberIndex{i}, configuration_.in_force});
    }
}

/// Cleanly: no request is left, everything is durable, and the metadata says so last.
Task<Result<void>> ArrayImpl::stop_all() {
    if (draining_) co_return Result<void>{};
    draining_ = true;
    tasks_.spawn(watch_stop());
    co_await requests_.drain();
    // Rows that were listed as unknown and written since are known to us alone: the resync has to
    // pass before anybody else may ask which they are.
    while (must_settle()) {
        // It comes before whatever else walks.
        const bool waits = walker_.running() && walker_.order().kind != WalkKind::resyncing;
        if (waits) walker_.cancel();
        resync_event_.clear();
        auto passed = resync_event_.wait();
        co_await passed;
    }
    stopping_ = true;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        auto& gate = members_.slot(MemberIndex{i}).gate;
        gate.close();
        while (gate.has_readers()) {
            Timer timer(clock_, Nanos{clock_.now().value + 1'000'000});
            co_await timer;
        }
    }
    walker_.cancel();
    if (waiting_ != nullptr) waiting_->cancel();
    background_event_.set();
    while (background_running_ || members_busy_) {
        auto ended = background_event_.wait();
        co_await ended;
        background_event_.clear();
        Yield yield;
        co_await yield;
    }
    Result<void> result;
    if (!options_.readonly && !members_.failed()) {
        result = co_await keep_final_state();
    }
    co_await end_tasks();
    if (members_.failed() && result) co_return Error{Errc::failed, "array"};
    co_return result;
}

Task<void> ArrayImpl::end_tasks() {
    stopped_ = true;
    if (stop_timer_ != nullptr) stop_timer_->cancel();
    requests_.stop();
    intent_.stop();
    changed_event_.set();
    auto joined = tasks_.join();
    co_await joined;
}

/// A stop that takes long says for what it waits.
Task<void> ArrayImpl::watch_stop() {
    for (Nanos pause = seconds(5); !stopped_; pause = seconds(60)) {
        Timer timer(clock_, Nanos{clock_.now().value + pause.value});
        stop_timer_ = &timer;
        co_await timer;
        stop_timer_ = nullptr;
        if (!stopped_) tell(Severity::warning, "stop_waits", why_stop_waits());
    }
}

std::string ArrayImpl::why_stop_waits() const {
    std::string text;
    for (const MemberStatus& member : status().members) {
        if (member.in_flight == 0) continue;
        const MemberRecord& at = member.record;
        text += fmt::format("{}{} ({}), which has not answered {} operation{}",
                            text.empty() ? "" : ", and for ",
                            at.role ? fmt::format("member {}", raw(*at.role)) : "a spare", at.path,
                            member.in_flight, member.in_flight == 1 ? "" : "s");
    }
    if (!text.empty()) return "the stop waits for " + text;
    if (must_settle()) return "the stop waits for the resync of rows that cannot be known else";
    return "the stop waits for requests and commands under way";
}

Task<Result<void>> ArrayImpl::keep_final_state() {
    const StripeIndex settled = first_in_doubt();
    BRAID_CO_CHECK(co_await Requests::flush_members(context_));
    note_positions();  // everything walked so far was flushed just now
    resync_flushed(settled);
    // What is in doubt there is listed, by row: of that the next start has nothing to ask.
    const StripeIndex listed = doubt_listed_from();
    intent_.settled_from(listed);
    if (first_in_doubt() >= listed) change(change::ResyncedTo{});
    // Nothing is being written: only what is in doubt stays in the record. The next start, or a
    // crash right after it, goes by this.
    intent_.drop_clean();
    BRAID_CO_CHECK(co_await rewrite_patiently());
    // Marked stripes are left that were not made true: only the record knows them, and it counts
    // after an unclean stop. So that is what it is.
    const bool left = intent_.has_doubt();
    if (left) {
        tell(Severity::warning, "resync_left",
             fmt::format("{} stripes that were marked are still to be made true; the next "
                         "start goes on with them",
                         intent_.stripes_in_doubt()));
    }
    change(change::InUse{left});
    BRAID_CO_CHECK(co_await wait_durable(changed()));
    if (BRAID_MUTANT(no_closing_revision)) co_return Result<void>{};
    // One more, which names the clean mark: a copy from before it is told by that.
    co_return co_await wait_durable(changed());
}

/// How far rebuilds are in memory. What was written up to there is durable after the next flush.
std::vector<ArrayImpl::RebuiltTo> ArrayImpl::rebuilt_to() const {
    std::vector<RebuiltTo> members;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        const auto& slot = members_.slot(MemberIndex{i});
        if (slot.state != MemberState::rebuilding) continue;
        members.push_back({record(MemberIndex{i}).uuid,
                           StripeIndex{slot.rebuilt / geometry_.windows_per_stripe()}});
    }
    return members;
}

/// A flush that began after rebuilt_to() has ended.
void ArrayImpl::note_rebuilt(const std::vector<RebuiltTo>& members) {
    for (const RebuiltTo& at : members) {
        const MemberRecord* record = configuration_.member(at.uuid);
        if (record == nullptr || record->state != MemberState::rebuilding) continue;
        change(change::RebuiltTo{*record->role, at.stripe});
    }
}

void ArrayImpl::note_positions() {
    const std::uint64_t per_stripe = geometry_.windows_per_stripe();
    note_rebuilt(rebuilt_to());
    if (!configuration_.resynced || members_.doubt().empty()) return;
    // Marked stripes in front of it do not count: the record has them.
    const std::uint64_t first = members_.doubt().ranges().front().begin / per_stripe;
    change(change::ResyncedTo{StripeIndex{first}});
}

void ArrayImpl::tell(Severity severity, std::string kind, std::string text) {
    ArrayEvent event;
    event.sequence = ++events_told_;
    event.wall_seconds = clock_.wall_seconds();
    event.severity = severity;
    event.kind = std::move(kind);
    event.text = std::move(text);
    if (options_.on_event) options_.on_event(event);
    events_.push_back(std::move(event));
    if (events_.size() > events_kept_max) events_.pop_front();
}

/// Why a member is lost, or suspended; empty: it is neither.
std::string ArrayImpl::notice_of(const MemberRecord& at) const {
    if (at.role && members_.slot(*at.role).suspended) return text_of_suspension(*at.role);
    const MemberState state = at.role ? members_.slot(*at.role).state : at.state;
    if (state != MemberState::faulty && state != MemberState::missing) return {};
    if (at.role && !why_lost_[raw(*at.role)].empty()) return why_lost_[raw(*at.role)];
    return state == MemberState::faulty ? "it failed before this start"
                                        : "it was not there at the start";
}

ArrayStatus ArrayImpl::status() const {
    ArrayStatus status;
    status.configuration = configuration_;
    status.health = members_.failed()      ? Health::failed
                    : members_.lost() != 0 ? Health::degraded
                    : !bad_.empty()        ? Health::damaged
                                           : Health::clean;
    status.intent = intent_.status();
    if (options_.readonly) {  // at rest: what it is to be when the array is served for writing
        status.intent.on = configuration_.intent.on;
        status.intent.region = configuration_.intent.region;
    }
    status.intent.hindrance = before_.intent_hindrance;
    if (recovery_) status.recovery = recovery_status();
    status.bad = bad_bytes_;
    status.bad_bytes = bad_bytes_size_;
    status.readonly = options_.readonly;
    status.stopping = draining_;
    status.in_doubt = !members_.doubt().empty();
    status.doubt_bytes =
        members_.doubt().windows() * geometry_.window_size() * geometry_.data_count();
    status.resync_stuck = resync_stuck_;
    status.waits = waits();
    for (const MemberRecord& at : configuration_.members) {
        MemberStatus member;
        member.record = at;
        if (at.role) {
            const auto& slot = members_.slot(*at.role);
            member.record.state = slot.state;
            member.record.rebuilt = StripeIndex{slot.rebuilt / geometry_.windows_per_stripe()};
            member.open = slot.disk != nullptr;
            member.reads = slot.io.reads;
            member.writes = slot.io.writes;
            member.bytes_read = slot.io.bytes_read;
            member.bytes_written = slot.io.bytes_written;
            member.errors_read = slot.io.errors_read;
            member.errors_write = slot.io.errors_write;
            if (slot.disk) member.in_flight = slot.disk->in_flight();
        } else {
            const auto spare = std::ranges::find_if(
                spares_, [&](const Spare& one) { return one.metadata.uuid == at.uuid; });
            member.open = spare != spares_.end();
            if (member.open) member.in_flight = spare->disk->in_flight();
        }
        member.notice = notice_of(at);
        if (const Disk* disk = disk_of(at)) member.identity = disk->info().identity;
        status.members.push_back(std::move(member));
    }
    if (walker_.running()) status.walks.push_back(walker_.status());
    status.last_scrub = last_scrub_;
    status.counters = counters_;
    status.counters.direct_reads = direct_reads_.load(std::memory_order_relaxed);
    status.memory_bytes = pool_.used() + walker_.memory_bytes();
    status.memory_bytes_max = pool_.region().size() + walker_.memory_bytes();
    status.events.assign(events_.begin(), events_.end());
    return status;
}

// ---- other threads -------------------------------------------------------------------------

void ArrayImpl::note_latency(Nanos latency) {
    latency_count_.fetch_add(1, std::memory_order_relaxed);
    latency_nanos_.fetch_add(latency.value, std::memory_order_relaxed);
}

LatencySample ArrayImpl::take_latency() {
    const LatencySample now{latency_count_.load(std::memory_order_relaxed),
                            latency_nanos_.load(std::memory_order_relaxed)};
    const LatencySample since{now.count - latency_taken_.count, now.nanos - latency_taken_.nanos};
    latency_taken_ = now;
    return since;
}

namespace {

/// Reads into `into` by way of an aligned buffer of the thread's own.
int read_bounced(const Disk& disk, std::uint64_t offset, ByteSpan into) {
    constexpr std::uint64_t bounce_size = 64u << 10;
    alignas(row_size) thread_local std::array<std::byte, bounce_size> bounce;
    while (!into.empty()) {
        const std::uint64_t begin = round_down(offset, row_size);
        const std::uint64_t skip = offset - begin;
        const std::uint64_t size = std::min(round_up(skip + into.size(), row_size), bounce_size);
        if (const int error = disk.read_now(begin, {bounce.data(), size}); error != 0) return error;
        const std::uint64_t count = std::min<std::uint64_t>(size - skip, into.size());
        std::memcpy(into.data(), bounce.data() + skip, count);
        into = into.subspan(count);
        offset += count;
    }
    return 0;
}

int read_member(const Disk& disk, std::uint64_t offset, ByteSpan into) {
    const DiskInfo& info = disk.info();
    const bool aligned = is_row_aligned(offset) && is_row_aligned(into.size()) &&
                         reinterpret_cast<std::uintptr_t>(into.data()) % info.memory_align == 0;
    return aligned || !info.direct || info.in_memory ? disk.read_now(offset, into)
                                                     : read_bounced(disk, offset, into);
}

}  // namespace

bool ArrayImpl::read_direct(std::uint64_t offset, ByteSpan into) {
    const std::uint64_t size = geometry_.stripes * geometry_.stripe_data_size();
    if (offset > size || into.size() > size - offset) return false;
    while (!into.empty()) {
        const StripeIndex stripe = geometry_.stripe_of(offset);
        const std::uint64_t in_stripe = offset % geometry_.stripe_data_size();
        const Role role{static_cast<std::uint32_t>(in_stripe / geometry_.strip_size)};
        const std::uint64_t in_strip = in_stripe % geometry_.strip_size;
        const std::uint64_t count =
            std::min<std::uint64_t>(into.size(), geometry_.strip_size - in_strip);
        auto& slot = members_.slot(geometry_.member_of(stripe, role));
        std::uint64_t ticket = 0;
        if (!slot.gate.enter(ticket)) return false;
        // Strips on several disks are better read side by side, by the loop; memory is not.
        const bool worth_it = count == into.size() || slot.disk->info().in_memory;
        const int error =
            worth_it ? read_member(*slot.disk,
                                   slot.data_offset + geometry_.strip_offset(stripe) + in_strip,
                                   into.first(count))
                     : EAGAIN;
        if (!slot.gate.leave(ticket) || error != 0) return false;
        into = into.subspan(count);
        offset += count;
    }
    direct_reads_.fetch_add(1, std::memory_order_relaxed);
    return true;
}

}  // namespace braid
