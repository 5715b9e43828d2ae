// SPDX-License-Identifier: BSD-3-Clause
// The oracle: which contents each sector of the array may have, by the promises R1 to R4 of
// docs/testing.md, from what clients asked and were told, and from when the node crashed. It looks
// at nothing of the engine's but the bad-row list and the members' states.
//
// A sector's content is a version: what a write left in it. The oracle keeps, by sector, every
// version that a read may find now, and those that only a power cut may bring back:
// - a version is *current* from the start of its write until a write that began after its end is
//   acknowledged (R1), or until a read shows that another one is there with no write under way;
// - a version that is not current any more is *lost for good* when a flush that began afterwards
//   is done, or when a write with FUA took its place (R2);
// - a crash leaves what was current; a cut of the power, everything that is not lost for good.
//   After the restart each sector holds one of these, and reads can only tell which (R3).
//   No flush reaches what is listed as known to a member alone that is away: what that was written
//   before it went, and not flushed, goes with its power, whenever that is.
//
// R4. A row (4096 bytes of one strip) may be unknown only if it is on the bad-row list, and it may
// come on the list only while its parity is legitimately in doubt and its member lost: in doubt is
// a region in which a write was under way at a crash, or had ended shortly before it (marks
// linger), until a resync has passed. Where one parity more than members are lost is left, a row
// must have been hit itself: the others are proven by P and Q. A listed row is an error until it is
// written whole; nothing else takes it off the list.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include "engine/base/result.h"
#include "engine/layout/configuration.h"
#include "engine/layout/geometry.h"
#include "parity/bytes.h"

namespace braid::sim {

/// A promise that was broken; the text says where and how.
struct Broken {
    std::string promise;  // "R1" … "R4"
    std::string text;
};

inline constexpr std::uint64_t row_sectors = row_size / sector_size;
using SectorBytes = std::array<std::byte, sector_size>;
using WriteNumber = std::uint64_t;

class Oracle {
  public:
    /// Marks may be found after a crash for so long after the last write under them: two ticks of
    /// a second until one is stale, two until the next round of cleaning, and the time that the
    /// flush and the record take.
    static constexpr std::uint64_t linger_nanos = 10'000'000'000;
    /// A change of the configuration in memory is on the members after so long, however slow they
    /// are here.
    static constexpr std::uint64_t durable_nanos = 5'000'000'000;

    /// @param initial  the content of a sector before anything was written; null: zeros
    Oracle(const Configuration& configuration,
           const std::function<void(std::uint64_t, SectorBytes&)>& initial);

    /// For a trace of the bad-row list.
    void on_note(std::function<void(const std::string&)> note) { note_ = std::move(note); }
    // Time of the simulation, for what depends on it.
    void set_time(std::uint64_t nanos) { nanos_ = nanos; }

    // ---- requests
    WriteNumber begin_write(std::uint64_t offset, std::uint64_t size, bool zero);
    /// The bytes that the write puts at `offset`; all of it lies in one write.
    void fill(WriteNumber number, std::uint64_t offset, ByteSpan into) const;
    /// `error`: none, or why it failed.
    void end_write(WriteNumber number, bool ok, bool fua, std::optional<Errc> error = {});
    std::uint64_t begin_read();
    /// @param known  the read succeeded; else nothing is learned of the contents
    std::optional<Broken> end_read(std::uint64_t began, std::uint64_t offset, ByteView data,
                                   bool known);
    /// A request failed, with an error other than that the array stops: may it?
    std::optional<Broken> check_error(std::uint64_t began, std::uint64_t offset, std::uint64_t size,
                                      bool write, Error error) const;
    std::uint64_t began(WriteNumber number) const { return writes_.at(number).began; }
    std::uint64_t begin_flush() { return ++time_; }
    void end_flush(std::uint64_t began);
    /// Whether a write may begin that covers parts of sectors: the oracle then has to know what it
    /// is put into, so no other write may be under way there.
    bool may_write(std::uint64_t offset, std::uint64_t size) const;

    /// Something other than a client's write was written there, durably: its mark lingers.
    void touch(StripeIndex stripe) {
        stripes_[raw(stripe)].ever = true;
        stripes_[raw(stripe)].touched_nanos = nanos_;
    }

    // ---- the node
    /// `power`: what was not flushed may be gone. Otherwise all that was acknowledged is there.
    void crash(bool power);
    /// The array serves for reading and writing again, after a crash or a clean stop.
    std::optional<Broken> restarted(const Configuration& configuration);
    /// A clean stop is done: everything is durable.
    void stopped(std::uint64_t began);
    /// Served for reading only after a crash: nothing is decided, nothing repaired.
    void set_readonly(bool readonly) { readonly_ = readonly; }

    // ---- what may be unknown
    /// Whether stripes are marked before they are written. Off while that changes: then a crash may
    /// leave everything in doubt.
    void set_intent(bool on) { intent_on_ = on; }
    /// Marks may be of this size, in bytes, from now on; those of another size may be left.
    void add_region(std::uint64_t region) { regions_.insert(region); }
    /// From then on until now a member that is needed took no metadata: marks that were there then
    /// linger from now on, and the list of that time is the one that is durable.
    void metadata_stayed(std::uint64_t since_nanos);
    /// What is not true from the start on: everything is in doubt until a resync has passed.
    void doubt_everything() {
        std::fill(doubtful_.begin(), doubtful_.end(), true);
        all_in_doubt_ = true;
    }
    /// A resync has made everything true that was in doubt; not yet flushed, perhaps. Members whose
    /// reads may still fail are to be told anew.
    void doubt_is_over();
    bool has_doubt() const;
    /// Reads of the member may fail, though it is in sync: as if it were lost, in what is in doubt.
    void set_unreadable(MemberIndex member) { unreadable_.insert(raw(member)); }
    /// The plan went beyond what the level promises: rows may be unknown for other reasons.
    void allow_unknown() { anything_unknown_ = true; }
    /// Looks at the bad-row list, the members' states among it. Call it whenever it may have
    /// changed, before the resync is said to have passed.
    std::optional<Broken> see(const Configuration& configuration);
    /// Silent corruption that cannot be told from data any more: this row may hold these bytes.
    void allow(std::uint64_t offset, ByteView data);

    /// No stripe is marked: nothing is in doubt because a write to it failed.
    void marks_are_gone() { failed_.clear(); }
    /// A member may have no room just now.
    void set_full(bool full) { full_ = full; }
    bool has_failed() const { return !failed_.empty(); }

    bool is_listed(std::uint64_t row) const { return rows_[row].listed != 0; }
    bool is_retried(std::uint64_t row) const {
        return rows_[row].listed != 0 && rows_[row].kind == BadKind::retry;
    }
    /// A write put something into the listed row, perhaps, and did not come to its end.
    bool is_filled(std::uint64_t row) const { return rows_[row].filled; }
    std::uint64_t listed_rows() const { return listed_count_; }
    std::uint64_t rows() const { return rows_.size(); }
    std::uint64_t size() const { return size_; }
    /// Everything that is known of a sector, for a trace.
    std::string describe(std::uint64_t sector) const;
    std::uint64_t versions_checked() const { return checked_; }

  private:
    /// Why a version is not there any more.
    enum class Why : std::uint8_t { superseded, flushed, decided };
    struct Version {
        WriteNumber write{0};
        std::uint64_t gone{0};  // since when it is not current; 0: it is
        Why why{Why::superseded};
        bool zero{false};
        bool lost{false};                          // for good
        bool base{false};                          // was possible at the last restart
        std::shared_ptr<const SectorBytes> bytes;  // of one that mixes several writes
    };
    struct Write {
        std::uint64_t offset{0};
        std::uint64_t size{0};
        std::uint64_t began{0};
        std::uint64_t ended{0};  // 0: under way
        bool zero{false};
        bool failed{false};  // or cut off by a crash
        bool fua{false};
    };
    struct Row {
        std::uint64_t listed{0};  // since when; 0: it is not
        BadKind kind{BadKind::voided};
        std::uint64_t listed_nanos{0};
        std::uint64_t unlisted{0};  // when it left the list
        std::uint64_t unlisted_nanos{0};
        std::uint64_t was_listed{0};  // and since when it had been on it
        std::uint64_t heal_ended{0};  // when a write that covers it whole ended last
        std::uint64_t heal_done{0};   // and was acknowledged
        std::uint32_t heals{0};       // such writes under way
        bool filled{false};           // one of them may have put its bytes there
        bool away{false};             // since a start only a member knows it that is away
    };
    /// A row of parity over which something was written.
    struct Soil {
        std::uint32_t writes{0};  // under way
        std::uint64_t ended{0};   // the last one that is not
        bool failed{false};       // one of them
    };
    struct Stripe {
        std::uint64_t touched_nanos{0};  // a write last began or ended
        std::uint32_t writes{0};
        bool ever{false};
    };

    static void pattern(WriteNumber number, std::uint64_t sector, SectorBytes& into);
    void materialize(const Version& version, std::uint64_t sector, SectorBytes& into) const;
    void leave(Version& version, Why why);
    void lose(Version& version, Why why);
    void tidy(std::uint64_t sector);
    /// Bytes [begin, begin + data.size()) of the sector were read.
    std::optional<Broken> check_sector(std::uint64_t began, std::uint64_t sector,
                                       std::uint64_t begin, ByteView data);
    bool is_undecided(std::uint64_t sector) const;
    Broken explain(std::uint64_t sector, std::uint64_t begin, ByteView data) const;
    std::string text_of(WriteNumber number) const;
    bool covers_row(const Write& write, std::uint64_t row) const {
        return write.offset <= row * row_size && write.offset + write.size >= (row + 1) * row_size;
    }
    std::uint64_t parity_row(std::uint64_t row) const;
    StripeIndex stripe_of(std::uint64_t row) const;
    /// [first, past) of the region that `stripe` is in, with regions of `bytes`.
    std::pair<StripeIndex, StripeIndex> region_of(StripeIndex stripe, std::uint64_t bytes) const;
    void spread_doubt();
    void note_away(const Configuration& configuration);
    void see_rebuild(const Configuration& configuration);
    void see_repair(const Configuration& configuration);
    std::optional<Broken> list(std::uint64_t row, MemberIndex member, const Configuration& now);
    std::optional<Broken> unlist(std::uint64_t row);
    struct Bad {
        MemberIndex member{};
        BadKind kind{BadKind::voided};
    };
    std::map<std::uint64_t, Bad> rows_of(const std::vector<BadRange>& ranges) const;
    /// Another row of its stripe was on the list by then, to be tried again.
    bool is_beside_retry(std::uint64_t row, std::uint64_t listed_by) const;
    template <class Do>
    void for_rows(std::uint64_t offset, std::uint64_t size, Do what);

    Geometry geometry_;
    std::vector<VolumeRecord> volumes_;
    std::uint64_t size_{0};
    std::uint64_t nanos_{0};
    std::uint64_t time_{1};
    std::uint64_t crashed_{0};        // when, last
    std::uint64_t crashed_nanos_{0};  // when, since it last served for writing
    std::map<WriteNumber, Write> writes_;
    WriteNumber numbers_{0};
    std::vector<std::vector<Version>> sectors_;
    std::vector<std::uint16_t> flying_;   // writes under way, by sector
    std::vector<std::uint16_t> fragile_;  // of them those that cover it in part
    std::set<std::uint64_t> ambiguous_;   // sectors that have more than one version
    std::map<std::uint64_t, std::vector<std::pair<WriteNumber, Why>>> former_;  // by sector
    std::multiset<std::uint64_t> reads_;
    std::vector<std::shared_ptr<const SectorBytes>> initial_;

    std::vector<Row> rows_;               // of data: 4096 bytes of the array each
    std::map<std::uint64_t, Soil> soil_;  // by parity row; those that were not flushed
    std::vector<Stripe> stripes_;
    std::vector<bool> doubtful_;      // by stripe
    bool all_in_doubt_{false};        // the record of the write intent does not tell
    std::set<std::uint64_t> failed_;  // parity rows of which a write failed, until no mark is left
    std::set<std::uint64_t> true_;    // parity rows that were written since the start
    std::set<std::uint64_t> hit_;     // parity rows in doubt that were written themselves
    std::vector<BadRange> seen_;
    std::set<std::uint32_t> unreadable_;  // members, since the doubt began
    std::uint64_t listed_count_{0};
    bool intent_on_{true};
    std::set<std::uint64_t> regions_;  // in bytes
    bool full_{false};
    bool rebuilding_{false};
    bool repairing_{false};  // a scrub; both when it was looked at last
    bool anything_unknown_{false};
    bool readonly_{false};
    bool crashed_now_{false};  // and not restarted yet
    std::uint64_t checked_{0};
    std::function<void(const std::string&)> note_;
};

}  // namespace braid::sim
