// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/roster.h"

#include <fmt/format.h>

#include <algorithm>

#include "engine/deciding/member_names.h"
#include "parity/require.h"

namespace braid {

Roster::Roster(const DecidingContext& context)
    : DecidingPart(context),
      metadata_(context.members.count()),
      steps_(context.members.count()),
      why_lost_(context.members.count()) {}

void Roster::note_left_out(const Uuid& member, const std::string& why) {
    const MemberRecord* at = configuration_.member(member);
    if (at != nullptr && at->role) why_lost_[raw(*at->role)] = why;
}

void Roster::put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata) {
    const MemberRecord* at = configuration_.member(metadata.uuid);
    BRAID_REQUIRE(disk != nullptr && at != nullptr);
    if (!at->role) {
        spares_.push_back(Spare{std::move(disk), std::move(metadata)});
        return;
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
    return spare == nullptr ? nullptr : spare->disk.get();
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

void Roster::fill_role(MemberIndex member, Spare spare) {
    BRAID_REQUIRE(spare.disk != nullptr);
    serving_.attach(member, std::move(spare.disk),
                    configuration_.member(spare.metadata.uuid)->area());
    why_lost_[raw(member)].clear();
    metadata_[raw(member)] = std::move(spare.metadata);
}

Task<void> Roster::close_slot(MemberIndex member) {
    while (is_used(member)) co_await members_.quiet().next();
    serving_.detach(member);
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
