// SPDX-License-Identifier: BSD-3-Clause
// The configuration: what the array is, who its members are and in which state, which volumes it
// carries. A value; it is written to every member (braid-format(5)), and (epoch, revision) grows
// with each change of it: engine/layout/register.h.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/base/uuid.h"
#include "engine/layout/register.h"

namespace braid {

enum class Level : std::uint8_t { raid4 = 4, raid5 = 5, raid6 = 6 };
constexpr std::uint32_t parities_of(Level level) { return level == Level::raid6 ? 2 : 1; }

/// RAID-5's rotations with md's numbers; RAID-6 is always left_symmetric, RAID-4 has none.
enum class Layout : std::uint8_t {
    left_asymmetric = 0,
    right_asymmetric = 1,
    left_symmetric = 2,
    right_symmetric = 3,
};

/// A witness has no data and no role: what it keeps of the register breaks ties (Quorum).
enum class MemberState : std::uint8_t { in_sync, rebuilding, faulty, spare, missing, witness };
/// What is written goes to it: its content counts, or is being made to.
constexpr bool takes_part(MemberState state) {
    return state == MemberState::in_sync || state == MemberState::rebuilding;
}

std::string_view text_of(Layout layout);      // "left-symmetric"
std::string_view text_of(MemberState state);  // "in_sync"
std::optional<Layout> layout_of(std::string_view text);
std::optional<MemberState> member_state_of(std::string_view text);

struct MemberRecord {
    Uuid uuid;                        // nil for a role that nothing ever filled
    std::optional<MemberIndex> role;  // none: a spare, or the witness
    MemberState state{MemberState::missing};
    std::uint32_t home{0};         // node id
    std::uint64_t data_offset{0};  // bytes; first data byte on this member
    std::uint64_t size{0};         // bytes of the device when it was last seen
    StripeIndex rebuilt{};         // rebuilding: stripes before this one are true
    std::uint32_t dev_number{0};   // md's index into dev_roles
    std::uint64_t read_errors{0};  // reads that failed, since it joined or was rebuilt
    EpochRevision left;            // faulty or missing: what it held, at least, as it left
    std::string path;              // where it was last seen; for people only
    DataArea area() const { return {DeviceOffset{data_offset}}; }
    bool operator==(const MemberRecord&) const = default;
};

/// "member 2", "spare", "witness".
std::string text_of_part(const MemberRecord& record);

struct VolumeRecord {
    std::string name;  // the NBD export
    StripeIndex first{};
    std::uint64_t stripes{0};
    StripeIndex end() const { return first + stripes; }
    bool operator==(const VolumeRecord&) const = default;
};

/// A scrub that was not at its end when the array stopped.
struct ScrubRecord {
    StripeIndex position{};  // stripes before this one were read
    bool repair{false};
    std::uint64_t mismatches{0};     // rows found wrong so far
    std::uint64_t repaired{0};       // rows rewritten so far
    std::uint64_t bytes_unknown{0};  // of data, that could not be read, nor computed
    bool operator==(const ScrubRecord&) const = default;
};

/// The write intent (engine/intent/write_intent.h): whether stripes are marked before they are
/// written.
struct IntentSettings {
    bool on{true};                                // off: a crash means a resync of everything
    std::uint64_t region{intent_region_default};  // bytes of data that one mark covers
    bool operator==(const IntentSettings&) const = default;
};

/// What lies in place of a row that cannot be known.
enum class BadKind : std::uint8_t {
    retry,   // the member's strip is as it was: who can read it knows the row. Its parity is not
             // trusted
    voided,  // nothing: parity is true for zeros there, or for what lies on a member that is live
};
std::string_view text_of(BadKind kind);  // "retry", "void"
std::optional<BadKind> bad_kind_of(std::string_view text);

/// Rows of one member whose data cannot be known (engine/members/bad_rows.h): reading them is an
/// error until they can be read after all (retry), or are written anew. Rows are numbered along the
/// member: stripe × rows of a strip + row of the strip. Where the member holds parity in a stripe,
/// nothing is meant.
struct BadRange {
    MemberIndex member{};
    RowIndex first{};
    std::uint64_t count{0};
    BadKind kind{BadKind::voided};
    RowIndex end() const { return first + count; }
    bool operator==(const BadRange&) const = default;
};

struct Configuration {
    Uuid array;
    std::string name;
    EpochRevision version;      // names it
    EpochRevision in_force;     // the newest that was known to be on all of its members
                                // when this one was made
    Uuid lineage;               // drawn by the last start by force; nil: there was none
    MemberIndex tie_breaker{};  // of RAID-6 of four without a witness; role 0 until a start by
                                // force was without it
    std::uint64_t events{0};    // md's count, written along: 2 more each time
    std::uint64_t created{0};   // seconds since 1970
    Level level{Level::raid5};
    Layout layout{Layout::left_symmetric};
    std::uint64_t strip_size{0};    // bytes
    std::uint32_t member_count{0};  // roles, parities included
    std::uint64_t stripes{0};       // of the whole array
    bool in_use{false};             // set while it is served, cleared by a clean stop
    std::optional<StripeIndex>
        resynced;                       // parity is true before this stripe only; none: everywhere
    std::optional<ScrubRecord> scrub;   // to be gone on with
    std::vector<MemberRecord> members;  // each role once, in order of role; then the others
    std::vector<VolumeRecord> volumes;  // in order of `first`; they do not overlap
    IntentSettings intent;
    std::vector<BadRange>
        bad_rows;  // in order of member and first; none touches the next of its kind
    bool operator==(const Configuration&) const = default;

    MemberRecord* member(MemberIndex role);
    const MemberRecord* member(MemberIndex role) const;
    MemberRecord* member(const Uuid& uuid);
    const MemberRecord* member(const Uuid& uuid) const;
    std::uint32_t data_count() const { return member_count - parities_of(level); }
    std::uint64_t stripe_data_size() const { return strip_size * data_count(); }
    std::uint64_t data_size() const { return stripes * stripe_data_size(); }
    /// Bytes of data and parity on each member.
    std::uint64_t member_data_size() const { return stripes * strip_size; }
    /// Bytes of its device that a member must have at least.
    std::uint64_t end_on(const MemberRecord& member) const {
        return member.data_offset + member_data_size();
    }
    /// Where a volume lies in the array's data.
    VolumeArea area_of(const VolumeRecord& volume) const {
        return {{raw(volume.first) * stripe_data_size()}, volume.stripes * stripe_data_size()};
    }
    /// Roles whose state is neither in_sync nor rebuilding.
    std::uint32_t lost_count() const;
    /// The roles whose state is in_sync; and those together with the ones that are being rebuilt.
    MemberSet in_sync() const;
    MemberSet taking_part() const;
    /// What decides about enough.
    Quorum quorum() const {
        return {.members = member_count,
                .parities = parities_of(level),
                .witness = witness() != nullptr,
                .tie_breaker = tie_breaker};
    }
    /// Null: it has none.
    const MemberRecord* witness() const;
    /// Its place in a MemberSet of those that a proposal is for, behind all roles.
    MemberIndex witness_index() const { return MemberIndex{member_count}; }
    /// Where two sets of as many members as it takes need not meet: RAID-6 of four.
    bool has_ties() const { return member_count == 2 * parities_of(level); }
};

/// Whether both give every role that takes part to the same member, in the same state, and have the
/// same witness: then the one is a revision of the other, else it takes a new epoch.
bool same_parts(const Configuration& one, const Configuration& other);

/// Whether a lost member went on without this array, which went on without it: one of them was started
/// by force. What it holds then is not what it held as it left.
/// @param uuid               the member's
/// @param lineage, in_force  of the newest configuration on it
bool has_another_history(const Configuration& configuration, const Uuid& uuid, const Uuid& lineage,
                         EpochRevision in_force);

/// Whether a mark of the write intent can cover so many bytes of data; if not, what it can.
Checked<Unit> check_intent_region(std::uint64_t region);

/// One volume that is all of the array: what it is taken for where nothing says anything else.
bool covers_all(const Configuration& configuration);

}  // namespace braid
