// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/roster.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/base/os_error.h"
#include "engine/deciding/member_names.h"
#include "parity/require.h"

namespace braid {

Roster::Roster(const DecidingContext& context)
    : DecidingPart(context),
      metadata_(context.members.count()),
      steps_(context.members.count() + 1),
      why_lost_(context.members.count()) {}

void Roster::note_left_out(const Uuid& member, const std::string& why) {
    const MemberRecord* at = configuration_.member(member);
    if (at != nullptr && at->role) why_lost_[raw(*at->role)] = why;
}

void Roster::put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata) {
    const MemberRecord* at = configuration_.member(metadata.uuid);
    BRAID_REQUIRE(disk != nullptr && at != nullptr);
    if (!at->role) {
        Spare open{std::move(disk), std::move(metadata)};
        if (at->state != MemberState::witness) return spares_.push_back(std::move(open));
        witness_ = std::move(open);
        return look_at_witness();
    }
    serving_.attach(*at->role, std::move(disk), at->area());
    metadata_[raw(*at->role)] = std::move(metadata);
}

std::string Roster::text_of_role(MemberIndex member) const {
    const MemberRecord& at = record(member);
    return at.path.empty() ? fmt::format("member {}", raw(member))
                           : fmt::format("member {} ({})", raw(member), at.path);
}

Checked<std::size_t> Roster::find_record(const MemberName& name) const {
    std::vector<NamedMember> members;
    for (const MemberRecord& at : configuration_.members) {
        const bool in_use = is_in_use(at);
        const bool is_disk = in_use && disk_of(at)->info().identity.overlaps(name.disk);
        members.push_back({&at, in_use, is_disk});
    }
    return find_by_name(members, name.text);
}

Checked<std::optional<MemberIndex>> Roster::find_role(const MemberName& name) const {
    BRAID_TRY(const std::size_t at, find_record(name));
    return configuration_.members[at].role;
}

const Spare* Roster::find_spare(const Uuid& uuid) const {
    const auto found =
        std::ranges::find(spares_, uuid, [](const Spare& spare) { return spare.metadata.uuid; });
    return found == spares_.end() ? nullptr : &*found;
}

Spare Roster::take_spare(const Spare& spare) {
    BRAID_REQUIRE(&spare >= spares_.data() && &spare < spares_.data() + spares_.size());
    const auto at = spares_.begin() + (&spare - spares_.data());
    Spare taken = std::move(*at);
    spares_.erase(at);
    return taken;
}

const Disk* Roster::disk_of(const MemberRecord& at) const {
    if (at.role) return members_.slot(*at.role).disk();
    const Spare* spare = find_spare(at.uuid);
    if (spare == nullptr && witness_ && witness_->metadata.uuid == at.uuid) spare = &*witness_;
    return spare == nullptr ? nullptr : spare->disk.get();
}

bool Roster::can_ask_witness() const {
    return witness_ && !witness_->silent && serving_.is_there(*witness_->disk);
}

void Roster::look_at_witness() {
    const bool answers = can_ask_witness() && !witness_->fails;
    serving_.expect_of_witness(answers ? Witness::promised : Witness::silent);
}

void Roster::take_witness(Spare witness) {
    BRAID_REQUIRE(witness.disk != nullptr && is_witness_quiet());
    witness_ = std::move(witness);
    look_at_witness();
}

void Roster::witness_answered(MemberMetadata metadata, bool well) {
    if (!witness_ || witness_->metadata.uuid != metadata.uuid) return;
    if (well) witness_->metadata = std::move(metadata);
    if (well && (witness_->silent || witness_->fails)) {
        tell(Severity::info, "witness_answers",
             fmt::format("the witness ({}) answers again", witness_->disk->info().path));
    }
    witness_->silent = false;
    witness_->fails = !well;
    look_at_witness();
}

void Roster::witness_failed(const Error* error) {
    BRAID_REQUIRE(witness_.has_value());
    const bool is_told = witness_->silent || witness_->fails;
    witness_->silent = error == nullptr;
    witness_->fails = error != nullptr;
    look_at_witness();
    if (is_told) return;
    std::string why = "does not answer";
    if (error != nullptr) {
        why = fmt::format("fails ({})", error->os_error != 0 ? os_error_text(error->os_error)
                                                             : std::string(text_of(error->code)));
    }
    tell(Severity::error, "witness_failed",
         fmt::format("the witness ({}) {}: as long as it does, the array does not go on with {} "
                     "members in sync",
                     witness_->disk->info().path, why, geometry_.data_count()));
}

bool Roster::is_in_use(const MemberRecord& at) const {
    if (disk_of(at) == nullptr) return false;
    return !at.role || !is_lost_role(*at.role);
}

const MemberMetadata& Roster::any_metadata() const {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (members_.slot(MemberIndex{i}).state == MemberState::in_sync) return metadata_[i];
    }
    BRAID_REQUIRE(false);
    return metadata_.front();
}

void Roster::fill_role(MemberIndex member, Spare spare, DataArea area) {
    BRAID_REQUIRE(spare.disk != nullptr);
    serving_.attach(member, std::move(spare.disk), area);
    why_lost_[raw(member)].clear();
    metadata_[raw(member)] = std::move(spare.metadata);
}

Task<void> Roster::close_slot(MemberIndex member) {
    while (is_used(member)) co_await members_.quiet().next();
    serving_.detach(member);
}

Task<void> Roster::make_spare(MemberIndex member, Uuid uuid, DataArea area) {
    while (is_used(member)) co_await members_.quiet().next();
    std::unique_ptr<Disk> disk = serving_.detach(member);
    if (disk == nullptr || members_.failed()) co_return;
    MemberMetadata blank = metadata_like(uuid, any_metadata(), area.begin.value);
    spares_.push_back({std::move(disk), std::move(blank)});
}

bool Roster::is_used(MemberIndex member) const {
    const auto& slot = members_.slot(member);
    return slot.in_flight() != 0 || slot.gate.has_readers() || writing_ != 0 ||
           steps_[raw(member)] != 0;
}

Task<void> Roster::let_go(MemberIndex member) {
    const auto& slot = members_.slot(member);
    const Disk* const disk = slot.disk();
    while (!stage_.ended && slot.state == MemberState::faulty && slot.disk() == disk) {
        if (!is_used(member)) {
            serving_.detach(member);
            co_return;
        }
        co_await members_.quiet().next();
    }
}

bool Roster::is_lost_role(MemberIndex member) const {
    const MemberState state = members_.slot(member).state;
    return state == MemberState::missing || state == MemberState::faulty;
}

std::optional<MemberIndex> Roster::first_lost_role() const {
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (is_lost_role(MemberIndex{i})) return MemberIndex{i};
    }
    return std::nullopt;
}

MemberSet Roster::roles_of(const std::vector<Uuid>& uuids) const {
    MemberSet members;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (std::ranges::find(uuids, record(MemberIndex{i}).uuid) != uuids.end())
            members.add(MemberIndex{i});
    }
    return members;
}

std::string Roster::why_lost(const MemberRecord& at) const {
    const MemberState state = at.role ? members_.slot(*at.role).state : at.state;
    if (state != MemberState::faulty && state != MemberState::missing) return {};
    if (at.role && !why_lost_[raw(*at.role)].empty()) return why_lost_[raw(*at.role)];
    return state == MemberState::faulty ? "it failed before this start"
                                        : "it was not there at the start";
}

}  // namespace braid
