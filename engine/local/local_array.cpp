// SPDX-License-Identifier: BSD-3-Clause
#include "engine/local/local_array.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/mutation.h"
#include "engine/metadata/config_slot.h"
#include "engine/metadata/md_superblock.h"
#include "engine/metadata/node_records.h"
#include "parity/require.h"

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

LocalArray::LocalArray(ReadyQueue& ready, Clock& clock, Configuration configuration,
                       ArrayOptions options, Serving* serving)
    : clock_(clock),
      options_(std::move(options)),
      configuration_(std::move(configuration)),
      geometry_(Geometry::of(configuration_)),
      tasks_(ready),
      log_(clock, options_.on_event),
      own_serving_(serving != nullptr
                       ? nullptr
                       : std::make_unique<Serving>(Serving::Setup{
                             ready, clock, geometry_, configuration_, tasks_, deciding_,
                             options_.buffer_size, options_.readonly, homes(), options_.node})),
      serving_(serving != nullptr ? *serving : *own_serving_),
      nodes_(join()),
      deciding_({ready, clock, options_, configuration_, geometry_, serving_.members(), nodes_,
                 tasks_, log_, stage_, work_},
                configuration_),
      watch_(
          clock, options_.member_timeout, [this] { return late_members(); },
          [this](MemberIndex member) { deciding_.not_answering(member); }) {}

/// In a cluster nodes look after their own disks.
MemberSet LocalArray::late_members() {
    Members& members = serving_.members();
    const MemberSet late = members.tick();
    members.abandon_lost();
    return late;
}

namespace {

/// In a cluster it is the node that reserves, not the array behind it.
Refusal nobody_else() {
    return {"this server is alone: nobody else serves its volumes, so there is nobody to keep out",
            RefusalCode::conflict};
}
Refusal is_no_node() {
    return {"this server is alone: it is no node of a cluster", RefusalCode::conflict};
}

}  // namespace

Task<Checked<Unit>> LocalArray::reserve(std::string) { co_return nobody_else(); }
Task<Checked<Unit>> LocalArray::release(std::string) { co_return nobody_else(); }
Task<Checked<Unit>> LocalArray::order_node(NodeOrder, std::uint32_t) { co_return is_no_node(); }

RowHomes* LocalArray::homes() const {
    return options_.nodes == nullptr ? nullptr : &options_.nodes->homes(geometry_);
}

ServingNode& LocalArray::join() {
    if (options_.nodes == nullptr) return serving_;
    return options_.nodes->join(serving_, deciding_, *this, configuration_);
}

/// Without stop() this is what a crash is to the members: every coroutine ends where it stands, in
/// any order, while all that their destructors touch still lives. Operations in flight must be
/// over, and the ready queue be cleared by its owner.
LocalArray::~LocalArray() {
    stage_.abandoned = true;
    if (own_serving_) serving_.abandon();
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

Purpose purpose_of(const ArrayOptions& options) {
    if (options.orders == Orders::none) return Purpose::look;
    if (options.readonly) return Purpose::read;
    return options.orders == Orders::taken ? Purpose::serve : Purpose::serve_unasked;
}

}  // namespace

Task<Checked<std::unique_ptr<Array>>> Array::open(ReadyQueue& ready, Clock& clock,
                                                  std::vector<std::unique_ptr<Disk>> disks,
                                                  ArrayOptions options) {
    if (!options.readonly) BRAID_CO_CHECK(check_writable(disks));
    std::vector<Disk*> all;
    for (const auto& disk : disks) all.push_back(disk.get());
    const std::vector<MemberImage> images =
        co_await read_member_images(ready, clock, std::move(all));
    std::vector<bool> unflushed;
    for (const auto& disk : disks) {
        // After the reads, so that it covers what they saw: where a process was killed while it
        // wrote, that may lie in a volatile cache, and the next configuration builds on it. A
        // member that cannot flush has its say all the same; it is lost as soon as it is to be written.
        const bool flushes = !options.readonly && !BRAID_MUTANT(start_from_cache);
        bool has_failed = false;
        if (flushes) has_failed = !co_await flush_disk(*disk);
        unflushed.push_back(has_failed);
    }
    AssemblyOptions how;
    how.force = options.force;
    how.purpose = purpose_of(options);
    for (const auto& disk : disks) {
        if (options.home_of) how.homes.push_back(options.home_of(*disk));
    }
    BRAID_CO_TRY(Assembly assembly, assemble(images, how));
    auto array = std::make_unique<LocalArray>(ready, clock, std::move(assembly.configuration),
                                              std::move(options));
    for (const std::string& notice : assembly.notices) {
        array->log().tell(Severity::warning, "notice", notice);
    }
    array->set_before({std::move(assembly.marked), std::move(assembly.intent_generations),
                       std::move(assembly.intent_hindrance), assembly.epoch_seen,
                       members_away(images, array->configuration().array), assembly.overruled,
                       !assembly.unclean && !assembly.adopted, std::move(assembly.absent),
                       std::move(assembly.missed), assembly.ties_broken});
    for (std::size_t i = 0; i != disks.size(); ++i) {
        MemberPlace& place = assembly.places[i];
        array->note_left_out(images[i], place.why);
        if (!place.record) continue;
        place.metadata.unflushed = unflushed[i];
        array->put_disk(std::move(disks[i]), std::move(place.metadata));
    }
    const Checked<Unit> started = co_await array->start();
    if (!started) {
        co_await array->end_tasks();
        co_return started.error();
    }
    co_return std::unique_ptr<Array>(std::move(array));
}

void LocalArray::set_before(Before before) {
    before_ = std::move(before);
    deciding_.orders.set_intent_hindrance(before_.intent_hindrance);
}

void LocalArray::put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata) {
    BRAID_REQUIRE(!stage_.started && disk != nullptr);
    seen_.push_back({metadata.uuid, disk->info().path, disk->info().size, nodes_.home_of(*disk)});
    deciding_.roster.put_disk(std::move(disk), std::move(metadata));
}

void LocalArray::note_left_out(const MemberImage& image, const std::string& why) {
    const auto superblock = decode_md_superblock(image.superblock.view(), image.device_size);
    if (why.empty() || !superblock) return;
    deciding_.roster.note_left_out(superblock->device_uuid, why);
}

Task<Checked<Unit>> LocalArray::start() {
    BRAID_REQUIRE(!stage_.started);
    if (options_.on_buffer) options_.on_buffer(serving_.buffer());
    Members& members = serving_.members();
    for (const change::Seen& seen : seen_) deciding_.writer.change(seen);
    members.refresh();
    note_away();
    members.set_loss_version_durable(members.loss_version());
    deciding_.writer.set_known(before_.epoch_seen, before_.ties_broken);
    deciding_.unknown.adopt();
    serving_.set_gates();
    deciding_.recovery.begin(before_.marked);
    if (options_.readonly) {
        start_readonly();
        co_return Unit{};
    }
    deciding_.writer.start();
    const MemberSet away = deciding_.roster.roles_of(before_.away);
    if (options_.force && deciding_.unknown.is_too_much(away)) {
        before_.marked.clear();
        before_.overruled = true;
        deciding_.recovery.give_up();
    }
    if (before_.overruled) begin_lineage();
    BRAID_CO_TRY(const IntentSettings intent,
                 deciding_.recovery.plan_intent(before_.intent_hindrance, !before_.marked.empty()));
    deciding_.writer.change(change::Intent{intent});
    serving_.intent().start(
        {configuration_.intent, before_.intent_generations[options_.node], before_.marked}, tasks_);
    serving_.set_gates();
    // A record alone says nothing of an array that is not in use; from then on it is all that does.
    // So a start that ends half-way has brought nothing into doubt.
    if (before_.clean) BRAID_CO_CHECK(co_await write_first_record(away));
    deciding_.writer.change(change::InUse{true});
    if (!deciding_.unknown.list_doubt(away)) {
        co_return Refusal{fmt::format("the array cannot start: {}", log_.events().back().text)};
    }
    BRAID_CO_CHECK(co_await store_in_use());
    // After the configuration, which says what is in doubt where there was no record: an empty
    // record in front of it would say that nothing is.
    if (!before_.clean) BRAID_CO_CHECK(co_await write_first_record(away));
    deciding_.walks.set_resync_comes();
    BRAID_CO_CHECK(co_await begin_nodes());
    log_.tell(Severity::info, "started",
              fmt::format("RAID-{} of {} members, {} lost", static_cast<int>(configuration_.level),
                          members.count(), members.lost()));
    stage_.started = true;
    deciding_.walks.start();
    deciding_.witness.start();
    if (options_.nodes == nullptr) tasks_.spawn(watch_.run());
    co_return Unit{};
}

/// Where those that are here are not enough by themselves, they are from now on, and others are not.
void LocalArray::begin_lineage() {
    change::Lineage begun{deciding_.orders.new_uuid(), configuration_.tie_breaker};
    const MemberSet here = configuration_.in_sync();
    begun.without_witness =
        here.size() == configuration_.data_count() && !deciding_.roster.can_ask_witness();
    if (!here.has(begun.tie_breaker)) begun.tie_breaker = *here.begin();
    deciding_.writer.change(begun);
}

Task<Checked<Unit>> LocalArray::store_in_use() {
    const Result<void> durable = co_await deciding_.writer.wait_durable(deciding_.writer.changed());
    if (durable) co_return Unit{};
    co_return Refusal{fmt::format(
        "the members did not take the configuration that says that the array is in use ({}); see the "
        "messages above",
        text_of(durable.error().code))};
}

/// What is away misses what is written from now on, and what is in doubt; and if it was away before,
/// what the records say. By force parity is trusted as it is, and the member may know better.
void LocalArray::note_absent(MemberSet away) {
    if (options_.force) return;
    AbsenceMap::Left since;
    since.long_ago = true;
    for (const IntentEntry& at : before_.missed) {
        if (!since.seed.add(geometry_.windows_of(at.first, at.end()))) return;
    }
    for (const auto& [member, generations] : before_.absent) {
        if (away.has(member)) continue;
        since.generations = generations;
        serving_.note_absent(member, since);
    }
    for (const MemberIndex member : away) serving_.note_absent(member, {});
}

/// And with it what members miss that are away.
Task<Checked<Unit>> LocalArray::write_first_record(MemberSet away) {
    note_absent(away);
    const Result<void> kept = co_await deciding_.recovery.write_marks();
    if (kept) co_return Unit{};
    co_return Refusal{
        fmt::format("the members did not take the first record of the write intent ({}); see the "
                    "messages above",
                    text_of(kept.error().code))};
}

Task<Checked<Unit>> LocalArray::begin_nodes() {
    if (options_.nodes == nullptr) co_return Unit{};
    Result<void> begun = co_await options_.nodes->begin_marks(
        configuration_.intent, before_.intent_generations, before_.marked);
    if (begun) begun = co_await options_.nodes->begin_serving();
    if (begun) co_return Unit{};
    co_return Refusal{"another node left while the array started; see the messages above"};
}

Checked<Unit> LocalArray::take_over(Found found) {
    BRAID_REQUIRE(!stage_.started && own_serving_ == nullptr);
    const Members& members = serving_.members();
    BRAID_REQUIRE(found.metadata.size() == members.count());
    deciding_.writer.set_known(found.epoch_seen, found.ties_broken);
    MemberSet left_now;
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        const MemberIndex member{i};
        const MemberRecord& record = *configuration_.member(member);
        deciding_.roster.metadata(member) = std::move(found.metadata[i]);
        if (takes_part(record.state)) continue;
        // Also what was lost before: not every node may have heard that.
        nodes_.member_lost(member, record.state);
        const auto why = found.lost.find(member);
        if (why == found.lost.end()) continue;
        left_now.add(member);
        deciding_.roster.set_why_lost(member, why->second);
        deciding_.losses.tell_lost(member, record.path, why->second,
                                   found.away.has(member) ? Fault::none : Fault::some);
    }
    deciding_.roster.spares() = std::move(found.spares);
    if (found.witness) deciding_.roster.take_witness(std::move(*found.witness));
    deciding_.unknown.adopt();
    nodes_.adopt(configuration_);
    for (const MemberIndex member : left_now) tasks_.spawn(deciding_.roster.let_go(member));
    if (!configuration_.intent.on) nodes_.end_marks();  // that were just beginning somewhere
    stage_.started = true;
    if (members.failed() || deciding_.unknown.lists_more(left_now)) {
        return Refusal{"with it goes what the level cannot do without"};
    }
    deciding_.writer.start();
    // In any case: nothing of what another one has stored is known to be in force.
    deciding_.writer.changed();
    deciding_.walks.set_resync_comes();
    return Unit{};
}

void LocalArray::go_on() {
    BRAID_REQUIRE(stage_.started);
    deciding_.walks.start();
    deciding_.witness.start();
}

bool LocalArray::member_failing(MemberIndex member, HomeFault what, int os_error) {
    return deciding_.losses.failing_at_home(member, what, os_error);
}

void LocalArray::node_gone(const std::string& why) { deciding_.losses.node_gone(why); }
void LocalArray::node_left(const std::string& why) { deciding_.losses.node_left(why); }

bool LocalArray::can_lose(MemberSet members, Witness expected) const {
    return stage_.started && deciding_.losses.can_lose(members, expected);
}

Task<Result<void>> LocalArray::lose(MemberSet members, std::string why, Fault fault) {
    for (const MemberIndex member : members) {
        deciding_.losses.lose(member, MemberState::missing, why, fault);
    }
    co_return co_await deciding_.writer.wait_patiently(deciding_.writer.changes());
}

bool LocalArray::is_in_force_as_wanted() const {
    const Members& members = serving_.members();
    return stage_.started && !stage_.ending && !members.failed() && !members.owes() &&
           deciding_.writer.is_written() && members.knows_losses(configuration_);
}

Task<Result<std::uint64_t>> LocalArray::forget_node(std::uint32_t node) {
    BRAID_REQUIRE(options_.nodes != nullptr);
    if (!BRAID_MUTANT(retired_before_flush)) BRAID_CO_CHECK(co_await nodes_.flush());
    const Writing writing(deciding_.roster);
    std::vector<Disk*> disks;
    for (const MemberIndex member : serving_.members().taking_part()) {
        Disk* const disk = serving_.members().slot(member).disk();
        if (disk != nullptr) disks.push_back(disk);
    }
    BRAID_CO_TRY(const std::vector<IntentRecord> newest,
                 co_await newest_records(node, configuration_, disks));
    if (newest.empty()) co_return std::uint64_t{0};
    const bool was_noted = serving_.members().absence().on();
    for (const IntentRecord& record : newest) {
        if (!BRAID_MUTANT(dead_absence_forgotten)) take_over_absences(record);
    }
    // It is noted here alone from now on; or not known any more, which the records have to say.
    if (was_noted && serving_.marks()) {
        BRAID_CO_CHECK(co_await serving_.write_marks());
    }
    co_return co_await retire_records(newest.front(), std::move(disks));
}

/// What members miss of what a node wrote that is gone, and what its own members, which went with it,
/// perhaps do not have of what it wrote last.
void LocalArray::take_over_absences(const IntentRecord& record) {
    Members& members = serving_.members();
    for (const MemberRecord& at : configuration_.members) {
        if (!at.role) continue;
        const auto* const former = members.absence().displaced(*at.role);
        if (former == nullptr && takes_part(at.state)) continue;
        const Uuid& whose = former != nullptr ? former->uuid : at.uuid;
        const auto told = std::ranges::find(record.absent, whose, &AbsentMember::uuid);
        // A record of when another disk had its role does not say what it missed.
        const bool is_known = told != record.absent.end()
                                  ? told->known
                                  : former == nullptr || record.epoch <= former->left.epoch;
        if (!is_known || !record.tells_absent) members.forget_absence(*at.role);
    }
    const auto note = [&](StripeIndex first, StripeIndex end) {
        members.note_changed(geometry_.windows_of(first, end));
    };
    for (const IntentEntry& at : record.entries) note(at.first, at.end());
    record.missed.for_each(note);
}

void LocalArray::start_readonly() {
    log_.tell(Severity::info, "started", "serving for reading only; nothing is written");
    if (!serving_.members().doubt().empty()) {
        log_.tell(Severity::warning, "resync_waits",
                  "parity that is not known to be true stays so until the array is served for "
                  "writing");
    }
    deciding_.writer.change(change::ScrubAt{});  // goes on when it is served for writing again
    stage_.started = true;
    deciding_.walks.start();
}

/// What is in sync, and away, has what it had; if it is what was on all members at least, as at a
/// start with it.
void LocalArray::note_away() {
    const MemberSet away = deciding_.roster.roles_of(before_.away);
    Members& members = serving_.members();
    for (std::uint32_t i = 0; i != members.count(); ++i) {
        if (!away.has(MemberIndex{i})) continue;
        members.note_away(MemberIndex{i});
        deciding_.writer.change(change::Away{MemberIndex{i}, configuration_.in_force});
    }
}

/// The one node of the array leaves, and so the array ends, cleanly.
Task<Result<void>> LocalArray::stop() {
    if (stage_.ending) co_return Result<void>{};
    stage_.ending = true;
    tasks_.spawn(watch_stop());
    co_await serving_.drain();
    if (options_.nodes != nullptr) co_await options_.nodes->drain();
    co_await deciding_.closing.wait_for_resync();
    stage_.quiescing = true;
    co_await serving_.close_gates();
    co_await deciding_.closing.end_background();
    const Members& members = serving_.members();
    Result<void> result;
    if (!options_.readonly && !members.failed()) {
        result = co_await deciding_.closing.keep_final_state();
    }
    if (options_.nodes != nullptr) {
        co_await options_.nodes->end(result.has_value() && !members.failed());
    }
    co_await serving_.wait_for_disks();
    co_await end_tasks();
    if (members.failed() && result) co_return Error{Errc::failed, "array"};
    co_return result;
}

Task<void> LocalArray::end_tasks() {
    stage_.ended = true;
    if (stop_timer_ != nullptr) stop_timer_->cancel();
    watch_.stop();
    serving_.stop();
    deciding_.writer.stop();
    deciding_.witness.stop();
    serving_.members().note_quiet();
    co_await tasks_.join();
}

/// A stop that takes long says for what it waits.
Task<void> LocalArray::watch_stop() {
    for (Nanos pause = seconds(5); !stage_.ended; pause = seconds(60)) {
        Timer timer(clock_, Nanos{clock_.now().value + pause.value});
        stop_timer_ = &timer;
        co_await timer;
        stop_timer_ = nullptr;
        if (!stage_.ended) log_.tell(Severity::warning, "stop_waits", why_stop_waits());
    }
}

std::string LocalArray::why_stop_waits() const {
    std::string text;
    for (const MemberStatus& member : status().members) {
        if (member.in_flight == 0) continue;
        const MemberRecord& at = member.record;
        text += fmt::format("{}{} ({}), which has not answered {} operation{}",
                            text.empty() ? "" : ", and for ", text_of_part(at), at.path,
                            member.in_flight, member.in_flight == 1 ? "" : "s");
    }
    if (!text.empty()) return "the stop waits for " + text;
    return deciding_.closing.why_it_waits();
}

// ---- what it tells of itself -------------------------------------------------------------------

MemberStatus LocalArray::member_status(const MemberRecord& at) const {
    const Roster& roster = deciding_.roster;
    MemberStatus member;
    member.record = at;
    if (at.role) {
        member = serving_.member_status(at);
        member.record.state = shown_state(at);
        member.notice = deciding_.writer.text_of_refusal(*at.role);
    }
    if (member.notice.empty()) member.notice = roster.why_lost(at);
    const bool is_silent = serving_.members().witness() == Witness::silent;
    if (at.state == MemberState::witness && is_silent) {
        member.notice = "does not answer: the array does not go on with half of its members";
    }
    const Disk* disk = roster.disk_of(at);
    member.open = disk != nullptr;
    if (disk == nullptr) return member;
    member.in_flight = disk->in_flight();
    member.identity = disk->info().identity;
    return member;
}

/// A member that is in sync is called so when it would count after a crash, too.
MemberState LocalArray::shown_state(const MemberRecord& at) const {
    const MemberState state = serving_.members().slot(*at.role).state;
    if (state != MemberState::in_sync) return state;
    return deciding_.writer.state_in_force(at).value_or(state);
}

ArrayStatus LocalArray::status() const {
    const std::string& hindrance = deciding_.orders.intent_hindrance();
    ArrayStatus status;
    status.configuration = configuration_;
    serving_.fill(status);
    const bool all_shown_in_sync =
        std::ranges::all_of(configuration_.members, [&](const MemberRecord& at) {
            return !at.role || shown_state(at) == MemberState::in_sync;
        });
    if (!all_shown_in_sync && status.health != Health::failed) status.health = Health::degraded;
    if (status.health == Health::failed) status.failure = deciding_.losses.failure();
    if (options_.readonly) {  // at rest: what it is to be when the array is served for writing
        status.intent.on = configuration_.intent.on;
        status.intent.region = configuration_.intent.region;
    }
    status.intent.hindrance = hindrance;
    status.recovery = deciding_.recovery.status();
    status.bad = deciding_.unknown.bad();
    status.bad_bytes = deciding_.unknown.bad_bytes();
    status.readonly = options_.readonly;
    status.stopping = stage_.ending;
    status.resync_stuck = deciding_.walks.resync_stuck();
    status.waits = deciding_.walks.waits();
    for (const MemberRecord& at : configuration_.members) {
        status.members.push_back(member_status(at));
    }
    if (const auto walk = serving_.walking()) status.walks.push_back(walk->status);
    status.last_scrub = deciding_.walks.last_scrub();
    status.events.assign(log_.events().begin(), log_.events().end());
    return status;
}

}  // namespace braid
