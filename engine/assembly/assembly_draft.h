// SPDX-License-Identifier: BSD-3-Clause
// What the parts of assembly share: assembly.cpp, which looks at the members and goes by braid's
// configurations; assembly_md.cpp, which goes by md's superblocks; assembly_draft.cpp, where both
// ways end. For these three only.
#pragma once

#include <cstdint>
#include <set>
#include <string>
#include <vector>

#include "engine/assembly/assembly.h"

namespace braid {

/// One image, what it says, and whether md wrote its superblock after braid did.
struct Candidate {
    const MemberImage* image{nullptr};
    MemberFindings findings;
    bool touched{false};

    bool readable() const { return image->os_error == 0; }
    bool usable() const { return readable() && findings.superblock.has_value(); }
    /// Was a member once, and is damaged: as good as lost. Not so something else altogether.
    bool damaged() const {
        return readable() && !findings.superblock &&
               (findings.superblock.error().kind == FindingKind::corrupt || slot() != nullptr);
    }
    const MdSuperblock& sb() const { return *findings.superblock; }
    const ConfigSlot* slot() const { return findings.slot(); }
    EpochRevision held() const { return slot() ? slot()->configuration.version : EpochRevision{}; }
};
using Candidates = std::vector<Candidate>;

std::string joined(const std::vector<std::string>& lines);  // with ends of lines between
std::string name_of(const Configuration& configuration);    // for people
std::string describe(const MemberRecord& record);
/// Why what is not a usable() one is not.
std::string why_unusable(const Candidate& candidate);
bool same_shape(const MdSuperblock& superblock, const Configuration& configuration);
/// By the configuration that it holds itself.
bool is_witness(const Candidate& candidate);

/// What both ways of assembling fill in.
struct Draft {
    Assembly assembly;
    std::uint32_t called{0};  // members that the newest word calls in_sync
    MemberSet counted;        // of them, those that are here and current, by role
    MemberSet seen;           // those that are here, current or not: none of them can be newer
    Witness witness{Witness::silent};  // promised: it is here, and can promise
    bool promises{true};               // each of those that count has room for promises
    std::uint32_t behind{0};           // members that are here, but left out for being behind
    std::uint64_t events{0};           // the highest that was seen
    bool has_record{false};  // of the write intent: it says what is in doubt after a crash
    std::string why_no_record;
    std::vector<std::string> absent;
    /// Candidates whose superblock is damaged, and who would be current with it.
    std::set<std::size_t> restorable;
};

/// With a place for each candidate; those that are not usable are left out already.
Draft start_draft(const Candidates& candidates);
/// finish() adds the way out to `why`.
void leave_out(Draft& draft, std::size_t at, std::string why, WayBack way_back = WayBack::added);
/// The member counts: it is current, by the newest word.
void count_member(Draft& draft, MemberIndex role, const Candidate& candidate);
/// Gives candidate `at` the record that is its own.
void take_in(Draft& draft, std::size_t at, std::size_t record_at, const Candidate& candidate);
/// After an unclean stop: what was marked is in doubt; without a record, everything is. What md
/// ran last is left to md's word.
void decide_intent(Draft& draft, const Candidates& candidates);
/// After an unclean stop: a member whose newest record is older than the others' may be an old
/// copy.
void warn_of_old_intent(Draft& draft, const Candidates& candidates, const Configuration& newest);
/// Whether there are enough members, and parity that can be gone by.
Checked<Assembly> finish(Draft draft, const Candidates& candidates, AssemblyOptions options);

/// The way of md's superblocks.
Checked<Assembly> assemble_mds(const Candidates& candidates, AssemblyOptions options);

}  // namespace braid
