// SPDX-License-Identifier: BSD-3-Clause
// Roster: who is there. Joins the records of the configuration with the disks that are open: those
// of roles lie in Members, those of spares here; and with what each member's metadata is.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/deciding/deciding_part.h"
#include "engine/io/disk.h"
#include "engine/metadata/member_metadata.h"

namespace braid {

/// An opened member without a role: a spare, or the witness.
struct Spare {
    std::unique_ptr<Disk> disk;
    MemberMetadata metadata;  // its uuid names the record
    bool silent{false};       // it is being written, and was not waited for: it is not used
    bool fails{false};        // the witness: what was asked of it last has failed
};

class Roster final : public DecidingPart {
  public:
    explicit Roster(const DecidingContext& context);

    // ---- at the start
    /// Why a member that was given takes no part.
    void note_left_out(const Uuid& member, const std::string& why);
    /// Puts a disk where the configuration has its record.
    void put_disk(std::unique_ptr<Disk> disk, MemberMetadata metadata);

    // ---- names
    /// "member 2 (/dev/sdc)".
    std::string text_of_role(MemberIndex member) const;
    /// The record that `name` means, by its place in the configuration.
    Checked<std::size_t> find_record(const MemberName& name) const;
    /// The role that `name` means; nullopt if it names a spare.
    Checked<std::optional<MemberIndex>> find_role(const MemberName& name) const;

    // ---- disks
    /// The disk of a record, while it is open.
    const Disk* disk_of(const MemberRecord& at) const;
    /// It is open and has a part to play.
    bool is_in_use(const MemberRecord& at) const;
    MemberMetadata& metadata(MemberIndex member) { return metadata_[raw(member)]; }
    /// A sibling whose metadata a new member's is made like. Not of an array that has failed.
    const MemberMetadata& any_metadata() const;
    std::vector<Spare>& spares() { return spares_; }
    const std::vector<Spare>& spares() const { return spares_; }
    Spare take_spare(const Spare& spare);
    const Spare* find_spare(const Uuid& uuid) const;
    // ---- the witness (Configuration::witness())
    /// Null: it is not here.
    Spare* witness() { return witness_ ? &*witness_ : nullptr; }
    const Spare* witness() const { return witness_ ? &*witness_ : nullptr; }
    /// It is here, and so is its node: it can be asked.
    bool can_ask_witness() const;
    /// Whether it answers, or its node is there, may have changed.
    void look_at_witness();
    /// Nothing of it is under way: its disk may be used, or go.
    bool is_witness_quiet() const { return steps_.back() == 0; }
    /// It comes back, while it is quiet.
    void take_witness(Spare witness);
    /// What was asked of it has ended; `metadata` is as that left it.
    void witness_answered(MemberMetadata metadata, bool well);
    /// @param error  null: it has not answered for as long as a member may be silent
    void witness_failed(const Error* error);
    bool is_writing() const { return writing_ != 0; }
    /// `spare` has the role of a lost member from now on, whose disk is closed.
    void fill_role(MemberIndex member, Spare spare, DataArea area);
    /// Waits until nobody uses the member's disk any more, and closes it. Its state is set before.
    Task<void> close_slot(MemberIndex member);
    /// The same, but the disk stays open, as that of a spare, unless it has been closed already.
    /// @param uuid  the spare's
    Task<void> make_spare(MemberIndex member, Uuid uuid, DataArea area);
    /// A lost member's disk is closed when nobody uses it any more: then it can be pulled, and the
    /// next one have its name, or come back itself.
    Task<void> let_go(MemberIndex member);
    /// While a configuration is being written, or records are, nobody closes a disk.
    void set_writing(bool writing) {
        BRAID_REQUIRE(writing || writing_ != 0);
        writing ? ++writing_ : --writing_;
        if (writing_ == 0 && !stage_.abandoned) members_.note_quiet();
    }

    /// A step of its own has the member's disk until it ends, whatever becomes of the member; or the
    /// witness's (Configuration::witness_index()).
    void begin_step(MemberIndex member) { ++steps_[raw(member)]; }
    void end_step(MemberIndex member) {
        BRAID_REQUIRE(steps_[raw(member)] != 0);
        if (--steps_[raw(member)] == 0) members_.note_quiet();
    }

    // ---- roles
    bool is_lost_role(MemberIndex member) const;
    std::optional<MemberIndex> first_lost_role() const;
    /// Roles of members that are among `uuids`.
    MemberSet roles_of(const std::vector<Uuid>& uuids) const;
    void set_why_lost(MemberIndex member, std::string why) {
        why_lost_[raw(member)] = std::move(why);
    }
    /// Why a member is lost; empty: it is not.
    std::string why_lost(const MemberRecord& at) const;

  private:
    bool is_used(MemberIndex member) const;

    std::vector<MemberMetadata> metadata_;  // by role
    std::vector<std::uint32_t> steps_;   // by role, that have not ended; the witness's behind them
    std::vector<std::string> why_lost_;  // by role; empty: it is not, or nobody knows
    std::vector<Spare> spares_;
    std::optional<Spare> witness_;
    std::uint32_t writing_{0};
};

/// Nobody closes a disk meanwhile.
class Writing {
  public:
    explicit Writing(Roster& roster) : roster_(roster) { roster_.set_writing(true); }
    ~Writing() { roster_.set_writing(false); }
    Writing(const Writing&) = delete;
    Writing& operator=(const Writing&) = delete;

  private:
    Roster& roster_;
};

}  // namespace braid
