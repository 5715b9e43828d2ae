// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/configuration_writer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "engine/base/mutation.h"
#include "engine/base/os_error.h"
#include "engine/deciding/losses.h"
#include "engine/deciding/unknown_rows.h"
#include "engine/metadata/config_check.h"
#include "parity/require.h"

namespace braid {

ConfigurationWriter::ConfigurationWriter(const DecidingContext& context, Configuration& wanted,
                                         Parts parts)
    : DecidingPart(context),
      wanted_(wanted),
      roster_(parts.roster),
      losses_(parts.losses),
      unknown_(parts.unknown),
      refusing_(context.members.count()) {}

void ConfigurationWriter::set_known(std::uint64_t epoch_seen, bool ties_broken) {
    BRAID_REQUIRE(changes_ == 0);
    BRAID_REQUIRE(configuration_.in_force <= configuration_.version);
    in_force_.version = configuration_.in_force;
    log_.set_version(in_force_.version);
    epoch_seen_ = epoch_seen;
    ties_broken_ = ties_broken;
}

void ConfigurationWriter::start() { tasks_.spawn(write_configurations()); }

void ConfigurationWriter::change(const Change& what) {
    const Configuration before = std::exchange(wanted_, apply(wanted_, what));
    if (before.bad_rows != wanted_.bad_rows) unknown_.adopt();
    serving_.adopt(wanted_);
}

void ConfigurationWriter::owe(std::uint64_t change) {
    BRAID_REQUIRE(change <= changes_);
    if (is_durable(change)) return;
    owed_ = std::max(owed_, change);
    serving_.set_owing(true);
}

std::optional<MemberState> ConfigurationWriter::state_in_force(const MemberRecord& at) const {
    const MemberRecord* kept = in_force_.member(at.uuid);
    if (kept == nullptr) return std::nullopt;
    return kept->state;
}

bool ConfigurationWriter::was_enough() const {
    return !in_force_.members.empty() &&
           in_force_.quorum().is_enough(in_force_.in_sync(), members_.witness());
}

namespace {

constexpr Error no_witness{Errc::io, "the witness, which is needed, does not answer", EIO};

/// All that a configuration must keep, as it is written: paths are for people, and a slot has them
/// in a form that it can hold.
[[maybe_unused]] bool can_be_written(Configuration wanted) {
    for (MemberRecord& at : wanted.members) at.path = path_to_keep(at.path);
    return check_configuration(wanted).has_value();
}

}  // namespace

std::uint64_t ConfigurationWriter::changed() {
    if (options_.readonly) {  // nothing is written, so nothing is waited for
        serving_.in_force(in_force_, members_.loss_version());
        return changes_;
    }
    BRAID_AUDIT(can_be_written(wanted_));
    ++changes_;
    if (members_.knows_losses(configuration_)) loss_version_seen_ = members_.loss_version();
    changed_event_.set();
    return changes_;
}

Task<Result<void>> ConfigurationWriter::wait_for_writer(std::optional<std::uint64_t> change,
                                                        std::uint64_t refusals_max) {
    BRAID_REQUIRE(!change || *change <= changes_);
    while (change ? changes_durable_ < *change : members_.owes()) {
        if (members_.failed()) {
            co_return Error{Errc::failed, change ? "configuration" : "array"};
        }
        if (refusals_ >= refusals_max) co_return refusal_;
        if (stage_.ended) co_return Error{Errc::fenced, "configuration"};
        co_await durable_event_.next();
    }
    co_return Result<void>{};
}

Task<void> ConfigurationWriter::write_configurations() {
    while (!stage_.ended) {
        co_await changed_event_.take();
        while (changes_durable_ != changes_ && !members_.failed() && !stage_.ended) {
            if (!losses_are_recorded()) {
                // Nodes agree on who serves: whoever took a member out for that says so when they have.
                co_await changed_event_.next();
                continue;
            }
            if (!is_revision() && needs_witness()) {
                if (!roster_.can_ask_witness()) {
                    refusal_ = no_witness;  // what needs no new configuration goes on
                    ++refusals_;
                    co_await wait_after_refusal();
                    continue;
                }
                if (!roster_.is_witness_quiet()) {
                    co_await members_.quiet().next();
                    continue;
                }
            }
            const std::uint64_t change_now = changes_;
            const std::uint64_t losses_now = loss_version_seen_;
            const std::uint64_t refusals = refusals_;
            const bool holds = co_await bring_into_force();
            if (members_.failed()) continue;
            if (!holds) {  // a member was lost on the way, or refuses: again, with a new epoch
                own_epoch_ = 0;
                if (refusals_ != refusals) co_await wait_after_refusal();
                continue;
            }
            BRAID_REQUIRE(change_now > changes_durable_);
            changes_durable_ = change_now;
            log_.set_version(in_force_.version);
            serving_.in_force(in_force_, losses_now);
            if (owed_ <= change_now) serving_.set_owing(false);
            end_refusals();
            durable_event_.set();
            if (on_in_force_) on_in_force_();
        }
        durable_event_.set();  // also when it failed: nobody waits for ever
    }
}

/// Of an epoch of its own.
bool ConfigurationWriter::is_revision() const {
    return own_epoch_ != 0 && own_epoch_ == in_force_.version.epoch &&
           same_parts(configuration_, in_force_);
}

bool ConfigurationWriter::is_witness(MemberIndex member) const {
    return member == configuration_.witness_index();
}

/// Those that are in sync hold a configuration only with it.
bool ConfigurationWriter::needs_witness() const {
    if (BRAID_MUTANT(witness_not_asked)) return false;
    const Quorum quorum = configuration_.quorum();
    const MemberSet in_sync = configuration_.in_sync();
    if (!quorum.witness || quorum.is_enough(in_sync, Witness::silent)) return false;
    const bool all_are_left =
        in_force_.members.empty() ? ties_broken_ : in_sync.has_all(in_force_.in_sync());
    return !all_are_left && quorum.is_enough(in_sync, Witness::promised);
}

Disk& ConfigurationWriter::disk_at(MemberIndex member) {
    Disk* const disk =
        is_witness(member) ? roster_.witness()->disk.get() : members_.slot(member).disk();
    BRAID_REQUIRE(disk != nullptr);
    return *disk;
}

MemberMetadata& ConfigurationWriter::metadata_at(MemberIndex member) {
    return is_witness(member) ? roster_.witness()->metadata : roster_.metadata(member);
}

/// The way into force of what is wanted now, or of the next revision of what is. Where the witness is
/// needed a new epoch is its, too: whoever comes after has to learn of it there. Of all else it hears
/// afterwards (WitnessWatch).
Proposal ConfigurationWriter::propose_next() {
    MemberSet members = configuration_.taking_part();
    if (is_revision()) return Proposal::of_revision(in_force_.version, members);
    own_epoch_ = 0;  // the next one's, once it is in force
    epoch_seen_ = next_epoch(epoch_seen_, clock_.wall_seconds(), options_.node);
    if (needs_witness()) members.add(configuration_.witness_index());
    return Proposal::of_epoch(epoch_seen_, members, in_force_.version);
}

/// True if every member that takes part holds it. It may change in memory meanwhile: what was
/// wanted at the beginning is written. From the first step to the last no disk is closed: a member
/// that is lost between two of them is still one of those that the proposal is for.
Task<bool> ConfigurationWriter::bring_into_force() {
    const Writing writing(roster_);
    Proposal proposal = propose_next();
    Configuration now = configuration_;
    while (proposal.step() != Proposal::Step::in_force) {
        if (proposal.step() == Proposal::Step::failed) co_return false;
        if (proposal.step() == Proposal::Step::announce && BRAID_MUTANT(not_announced)) break;
        if (proposal.step() != Proposal::Step::promise) {
            BRAID_REQUIRE(proposal.version() > in_force_.version);
            now.version = proposal.version();
            now.in_force = BRAID_MUTANT(in_force_names_itself) ? now.version : proposal.in_force();
            now.events += 2;
        }
        co_await do_step(&proposal, &now);
    }
    if (!co_await serving_.adopted()) co_return false;
    own_epoch_ = proposal.epoch();
    wanted_.version = now.version;
    wanted_.in_force = now.in_force;
    wanted_.events = now.events;
    in_force_ = now;
    co_await write_spares();
    co_return true;
}

/// What is written in one step. It stays as long as anybody writes it: a member that is lost
/// meanwhile, and does not answer, is not waited for.
struct ConfigurationWriter::Round {
    Configuration now;
    bool promises{false};
    std::uint64_t epoch{0};
    std::uint64_t wall_seconds{0};
    std::vector<MemberMetadata> metadata;  // of each role
    std::vector<std::optional<Result<void>>> results;
    MemberSet pending;
    bool over{false};  // what comes now does not count
};

/// Rings when what is waited for has taken as long as a member may be silent, and again.
struct ConfigurationWriter::Patience {
    std::uint64_t turns{0};
    bool over{false};
    Timer* pausing{nullptr};
    void end() {
        over = true;
        if (pausing != nullptr) pausing->cancel();
    }
};

std::shared_ptr<ConfigurationWriter::Patience> ConfigurationWriter::be_patient() {
    auto patience = std::make_shared<Patience>();
    if (options_.member_timeout.value != 0) tasks_.spawn(count_turns(patience));
    return patience;
}

Task<void> ConfigurationWriter::count_turns(std::shared_ptr<Patience> patience) {
    while (!patience->over) {
        Timer timer(clock_, Nanos{clock_.now().value + options_.member_timeout.value});
        patience->pausing = &timer;
        co_await timer;
        patience->pausing = nullptr;
        ++patience->turns;
        step_event_.set();
    }
}

/// Between two operations of a step nothing is in flight: it holds the disk by itself.
Task<void> ConfigurationWriter::do_step_at(std::shared_ptr<Round> round, MemberIndex member) {
    roster_.begin_step(member);
    Disk& disk = disk_at(member);
    MemberMetadata* const metadata = &round->metadata[raw(member)];
    Task<Result<void>> task =
        round->promises ? promise_member(disk, metadata, round->now.array, round->epoch)
                        : write_member_metadata(disk, &round->now, metadata, round->wall_seconds);
    const Result<void> result = co_await task;
    roster_.end_step(member);
    if (round->over) {
        if (is_witness(member)) roster_.witness_answered(std::move(*metadata), result.has_value());
        co_return;
    }
    metadata_at(member) = std::move(*metadata);
    round->results[raw(member)] = result;
    round->pending.remove(member);
    step_event_.set();
}

void ConfigurationWriter::give_up(MemberIndex member) {
    BRAID_REQUIRE(!takes_part(members_.slot(member).state));
    given_up_.add(member);
    step_event_.set();
}

/// One step, at all members that it is for. Who fails is lost, or is kept and refuses.
Task<void> ConfigurationWriter::do_step(Proposal* proposal, const Configuration* now) {
    const MemberSet members = proposal->pending();
    const auto round = std::make_shared<Round>();
    round->now = *now;
    round->promises = proposal->step() == Proposal::Step::promise;
    round->epoch = proposal->epoch();
    round->wall_seconds = clock_.wall_seconds();
    round->metadata.resize(members_.count() + 1);
    round->results.resize(members_.count() + 1);
    round->pending = members;
    for (const MemberIndex member : members) {
        round->metadata[raw(member)] = metadata_at(member);
        tasks_.spawn(do_step_at(round, member));
    }
    given_up_ = given_up_ - members;
    const std::shared_ptr<Patience> patience = be_patient();
    for (std::uint64_t turns = 0; !given_up_.has_all(round->pending);) {
        co_await step_event_.next();
        const MemberSet have = members - round->pending;
        if (BRAID_MUTANT(in_force_at_enough) && have.size() >= geometry_.data_count()) break;
        if (turns == patience->turns) continue;
        turns = patience->turns;
        // Lost in whatever way; who watches its disk, if anybody still does, watches those in use.
        for (const MemberIndex member : round->pending) {
            if (is_witness(member) || !takes_part(members_.slot(member).state)) {
                given_up_.add(member);
            }
        }
    }
    patience->end();
    round->over = true;
    bool refused = false;
    for (const MemberIndex member : members) {
        const std::optional<Result<void>>& result = round->results[raw(member)];
        if ((result && result->has_value()) || (!result && BRAID_MUTANT(in_force_at_enough))) {
            proposal->done(member);
            continue;
        }
        proposal->failed(member);
        if (is_witness(member)) {
            roster_.witness_failed(result ? &result->error() : nullptr);
            refusal_ = no_witness;
            refused = true;
            continue;
        }
        if (!result) continue;  // it is lost
        const Error& error = result->error();
        if (is_kept(member, error)) {
            refused = true;
            note_refusal(member, error);
            continue;
        }
        if (!takes_part(members_.slot(member).state)) continue;  // lost with its node
        losses_.lose(member, MemberState::faulty,
                     fmt::format("its metadata could not be written: {}",
                                 error.os_error != 0 ? os_error_text(error.os_error)
                                                     : std::string(text_of(error.code))));
    }
    if (refused) ++refusals_;
}

/// What is written to one spare. It stays until that ends: one that does not answer is not waited for.
struct ConfigurationWriter::SpareWrite {
    Disk* disk{nullptr};
    MemberMetadata metadata;
    Configuration now;
    std::uint64_t wall_seconds{0};
    bool done{false};
};

/// The spare stays where it is as long as it is silent, and may be another one by its place.
Task<void> ConfigurationWriter::write_spare(std::shared_ptr<SpareWrite> write) {
    const Result<void> ignored = co_await write_member_metadata(
        *write->disk, &write->now, &write->metadata, write->wall_seconds);
    (void)ignored;  // one that fails is found when it is used
    write->done = true;
    for (Spare& spare : roster_.spares()) {
        if (spare.disk.get() != write->disk) continue;
        spare.metadata = std::move(write->metadata);
        if (std::exchange(spare.silent, false)) work_.set();
    }
    step_event_.set();
}

/// After those that take part.
Task<void> ConfigurationWriter::write_spares() {
    std::vector<std::shared_ptr<SpareWrite>> writes;
    for (const Spare& spare : roster_.spares()) {
        if (in_force_.member(spare.metadata.uuid) == nullptr) continue;  // added just now
        if (spare.silent) continue;
        auto write = std::make_shared<SpareWrite>();
        write->disk = spare.disk.get();
        write->metadata = spare.metadata;
        write->now = in_force_;
        write->wall_seconds = clock_.wall_seconds();
        writes.push_back(std::move(write));
    }
    if (writes.empty()) co_return;
    for (const auto& write : writes) tasks_.spawn(write_spare(write));
    const std::shared_ptr<Patience> patience = be_patient();
    const auto is_done = [](const auto& write) { return write->done; };
    while (!std::ranges::all_of(writes, is_done) && patience->turns == 0) {
        co_await step_event_.next();
    }
    patience->end();
    for (const auto& write : writes) {
        if (!write->done) note_silent(*write);
    }
}

void ConfigurationWriter::note_silent(const SpareWrite& write) {
    for (Spare& spare : roster_.spares()) {
        if (spare.disk.get() != write.disk) continue;
        spare.silent = true;
        tell(Severity::error, "no_answer",
             fmt::format(
                 "spare {} has not answered for {} s: it takes no member's place until it does",
                 spare.disk->info().path, options_.member_timeout.value / 1'000'000'000));
    }
}

}  // namespace braid
