// SPDX-License-Identifier: BSD-3-Clause
#include "tests/sim/oracle.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace braid::sim {

Oracle::Oracle(const Configuration& configuration,
               const std::function<void(std::uint64_t, SectorBytes&)>& initial)
    : geometry_(Geometry::of(configuration)),
      volumes_(configuration.volumes),
      size_(configuration.data_size()),
      sectors_(size_ / sector_size),
      flying_(size_ / sector_size),
      fragile_(size_ / sector_size),
      rows_(size_ / row_size),
      stripes_(configuration.stripes),
      doubtful_(configuration.stripes) {
    writes_[0] = Write{0, size_, 1, 1, true, false, true};
    for (std::uint64_t sector = 0; sector != sectors_.size(); ++sector) {
        Version blank;
        blank.zero = true;
        if (initial) {
            auto bytes = std::make_shared<SectorBytes>();
            initial(sector, *bytes);
            if (!is_zero(*bytes)) blank.bytes = std::move(bytes);
        }
        sectors_[sector].push_back(std::move(blank));
    }
}

// ---- contents ------------------------------------------------------------------------------

void Oracle::pattern(WriteNumber number, std::uint64_t sector, SectorBytes& into) {
    for (std::size_t i = 0; i != sector_size; i += 16) {
        const std::uint64_t check = number * 0x9e3779b97f4a7c15 + sector + i;
        std::memcpy(into.data() + i, &number, 8);
        std::memcpy(into.data() + i + 8, &check, 8);
    }
}

void Oracle::materialize(const Version& version, std::uint64_t sector, SectorBytes& into) const {
    if (version.bytes) {
        into = *version.bytes;
    } else if (version.zero) {
        into.fill(std::byte{0});
    } else {
        pattern(version.write, sector, into);
    }
}

void Oracle::fill(WriteNumber number, std::uint64_t offset, ByteSpan into) const {
    for (std::size_t done = 0; done != into.size();) {
        const std::uint64_t sector = (offset + done) / sector_size;
        const std::uint64_t skip = (offset + done) % sector_size;
        const std::size_t count = std::min<std::size_t>(sector_size - skip, into.size() - done);
        SectorBytes bytes;
        pattern(number, sector, bytes);
        std::memcpy(into.data() + done, bytes.data() + skip, count);
        done += count;
    }
}

template <class Do>
void Oracle::for_rows(std::uint64_t offset, std::uint64_t size, Do what) {
    for (std::uint64_t row = offset / row_size; row != (offset + size + row_size - 1) / row_size;
         ++row) {
        what(row);
    }
}

bool Oracle::may_write(std::uint64_t offset, std::uint64_t size) const {
    const std::uint64_t first = offset / sector_size;
    const std::uint64_t last = (offset + size - 1) / sector_size;
    for (std::uint64_t sector = first; sector <= last; ++sector) {
        if (fragile_[sector] != 0) return false;
    }
    if (offset % sector_size != 0 && flying_[first] != 0) return false;
    return (offset + size) % sector_size == 0 || flying_[last] == 0;
}

WriteNumber Oracle::begin_write(std::uint64_t offset, std::uint64_t size, bool zero) {
    const WriteNumber number = ++numbers_;
    writes_[number] = Write{offset, size, ++time_, 0, zero, false, false};
    const std::uint64_t end = offset + size;
    for (std::uint64_t sector = offset / sector_size; sector * sector_size < end; ++sector) {
        auto& versions = sectors_[sector];
        const std::uint64_t begin_in =
            std::max(offset, sector * sector_size) - sector * sector_size;
        const std::uint64_t end_in =
            std::min(end, (sector + 1) * sector_size) - sector * sector_size;
        ++flying_[sector];
        Version version;
        version.write = number;
        version.zero = zero;
        if (end_in - begin_in == sector_size) {
            versions.push_back(std::move(version));
        } else {
            ++fragile_[sector];
            SectorBytes news{};
            if (!zero) pattern(number, sector, news);
            const std::size_t before = versions.size();
            for (std::size_t i = 0; i != before; ++i) {
                if (versions[i].gone != 0) continue;
                auto bytes = std::make_shared<SectorBytes>();
                materialize(versions[i], sector, *bytes);
                std::memcpy(bytes->data() + begin_in, news.data() + begin_in, end_in - begin_in);
                version.bytes = std::move(bytes);
                versions.push_back(version);
            }
        }
        ambiguous_.insert(sector);
    }
    for_rows(offset, size, [&](std::uint64_t row) {
        if (covers_row(writes_[number], row)) {
            ++rows_[row].heals;
            rows_[row].filled = true;
        }
        ++soil_[parity_row(row)].writes;
        Stripe& stripe = stripes_[raw(stripe_of(row))];
        ++stripe.writes;
        stripe.ever = true;
        stripe.touched_nanos = nanos_;
    });
    return number;
}

void Oracle::leave(Version& version, Why why) {
    if (version.gone != 0) return;
    version.gone = time_;
    version.why = why;
}

void Oracle::lose(Version& version, Why why) {
    leave(version, why);
    if (!version.lost) version.why = why;
    version.lost = true;
}

void Oracle::end_write(WriteNumber number, bool ok, bool fua, std::optional<Errc> error) {
    Write& write = writes_[number];
    write.ended = ++time_;
    write.failed = !ok;
    write.fua = fua && ok;
    const std::uint64_t end = write.offset + write.size;
    for (std::uint64_t sector = write.offset / sector_size; sector * sector_size < end; ++sector) {
        --flying_[sector];
        const bool whole =
            write.offset <= sector * sector_size && end >= (sector + 1) * sector_size;
        if (!whole) --fragile_[sector];
        if (!ok) continue;  // may have happened or not
        for (Version& version : sectors_[sector]) {
            const Write& other = writes_.at(version.write);
            if (version.write == number || other.ended == 0 || other.ended >= write.began) continue;
            leave(version, Why::superseded);
            if (fua) lose(version, Why::flushed);
        }
        tidy(sector);
    }
    // Each stripe has its own answer, and the client gets the first one that is an error: where a
    // member had no room that may have spoilt others, and put their rows in doubt.
    const bool in_parts = stripe_of(write.offset / row_size) != stripe_of((end - 1) / row_size) ||
                          geometry_.windows_per_stripe() != 1;
    const bool may_hide = error && full_ && in_parts;
    for_rows(write.offset, write.size, [&](std::uint64_t row) {
        if (covers_row(write, row)) {
            --rows_[row].heals;
            rows_[row].heal_ended = time_;
            if (ok) rows_[row].heal_done = time_;
        }
        Soil& soil = soil_[parity_row(row)];
        --soil.writes;
        soil.ended = time_;
        if (ok) true_.insert(parity_row(row));
        if (error == Errc::full || error == Errc::io || may_hide) {
            failed_.insert(parity_row(row));
            true_.erase(parity_row(row));
        }
        soil.failed |= !ok;
        Stripe& stripe = stripes_[raw(stripe_of(row))];
        --stripe.writes;
        stripe.touched_nanos = nanos_;
    });
}

/// Forgets what no read that is under way may find any more, and no power cut bring back.
void Oracle::tidy(std::uint64_t sector) {
    auto& versions = sectors_[sector];
    const std::uint64_t oldest = reads_.empty() ? time_ + 1 : *reads_.begin();
    std::erase_if(versions, [&](const Version& version) {
        if (!version.lost || version.gone >= oldest) return false;
        auto& former = former_[sector];
        if (former.size() == 8) former.erase(former.begin());
        former.push_back({version.write, version.why});
        return true;
    });
    if (versions.size() == 1) ambiguous_.erase(sector);
}

void Oracle::end_flush(std::uint64_t began) {
    ++time_;
    for (auto at = ambiguous_.begin(); at != ambiguous_.end();) {
        const std::uint64_t sector = *at++;  // tidy() may take it out
        if (rows_[sector / row_sectors].away) continue;
        for (Version& version : sectors_[sector]) {
            if (version.gone != 0 && version.gone < began) lose(version, Why::flushed);
        }
        tidy(sector);
    }
    std::erase_if(soil_, [began](const auto& one) {
        return one.second.writes == 0 && one.second.ended < began;
    });
}

std::uint64_t Oracle::begin_read() {
    reads_.insert(++time_);
    return time_;
}

std::optional<Broken> Oracle::end_read(std::uint64_t began, std::uint64_t offset, ByteView data,
                                       bool known) {
    ++time_;
    reads_.erase(reads_.find(began));
    if (!known) return std::nullopt;
    std::optional<Broken> broken;
    for_rows(offset, data.size(), [&](std::uint64_t at) {
        const Row& row = rows_[at];
        if (row.kind == BadKind::retry) return;  // it was tried again
        if (row.listed == 0 || row.listed >= began || row.heals != 0 || row.heal_ended >= began)
            return;
        broken = Broken{"R4", fmt::format("row {} of the array is listed as unknown, and was read "
                                          "without an error",
                                          at)};
    });
    if (broken) return broken;
    for (std::size_t done = 0; done != data.size();) {
        const std::uint64_t sector = (offset + done) / sector_size;
        const std::uint64_t skip = (offset + done) % sector_size;
        const std::size_t count = std::min<std::size_t>(sector_size - skip, data.size() - done);
        if (auto wrong = check_sector(began, sector, skip, data.subspan(done, count))) return wrong;
        done += count;
    }
    return std::nullopt;
}

std::optional<Broken> Oracle::check_sector(std::uint64_t began, std::uint64_t sector,
                                           std::uint64_t begin, ByteView data) {
    ++checked_;
    auto& versions = sectors_[sector];
    std::vector<bool> found(versions.size());
    bool any = false;
    bool base_only = true;
    bool quiet = flying_[sector] == 0;
    for (std::size_t i = 0; i != versions.size(); ++i) {
        const Version& version = versions[i];
        if (writes_.at(version.write).ended >= began) quiet = false;
        if (version.gone != 0 && version.gone < began) continue;
        SectorBytes bytes;
        materialize(version, sector, bytes);
        if (std::memcmp(bytes.data() + begin, data.data(), data.size()) != 0) continue;
        found[i] = any = true;
        base_only = base_only && version.base;
    }
    if (!any) return explain(sector, begin, data);
    if (versions.size() == 1 || is_undecided(sector)) return std::nullopt;
    for (std::size_t i = 0; i != versions.size(); ++i) {
        if (found[i]) continue;
        // What the restart left is one of these for ever.
        if (base_only && versions[i].base) lose(versions[i], Why::decided);
        if (quiet) leave(versions[i], Why::decided);
    }
    tidy(sector);
    return std::nullopt;
}

/// Recovery decides, and reads before it are what it will decide; but not reads of an array that is
/// served for reading only, and not where everything is in doubt: P and Q of RAID-6 may then agree
/// on the older content of a strip that is lost later.
bool Oracle::is_undecided(std::uint64_t sector) const {
    if (geometry_.parities() != 2 || !doubtful_[raw(stripe_of(sector / row_sectors))]) return false;
    return readonly_ || all_in_doubt_;
}

std::string Oracle::text_of(WriteNumber number) const {
    if (number == 0) return "what was there at first";
    const auto found = writes_.find(number);
    if (found == writes_.end()) return fmt::format("no write ({})", number);
    const Write& write = found->second;
    return fmt::format("{} {} of bytes {}…{} ({}{})", write.zero ? "zero" : "write", number,
                       write.offset, write.offset + write.size - 1,
                       write.ended == 0 ? "under way"
                       : write.failed   ? "failed or cut off"
                                        : "acknowledged",
                       write.fua ? ", FUA" : "");
}

Broken Oracle::explain(std::uint64_t sector, std::uint64_t begin, ByteView data) const {
    WriteNumber seen = 0;
    const std::size_t at = (16 - begin % 16) % 16;
    if (data.size() >= at + 8) std::memcpy(&seen, data.data() + at, 8);
    Broken broken;
    broken.promise = crashed_ == 0 ? "R1" : "R3";
    const auto former = former_.find(sector);
    if (former != former_.end()) {
        for (const auto& [number, why] : former->second) {
            if (number != seen) continue;
            broken.promise = why == Why::decided                    ? "R3"
                             : why == Why::flushed && crashed_ != 0 ? "R2"
                                                                    : "R1";
        }
    }
    const bool whole = writes_.contains(seen) && seen != 0;
    broken.text = fmt::format("sector {} (bytes {}…) holds {}; it may hold: {}", sector,
                              sector * sector_size + begin,
                              is_zero(data) ? std::string("zeros")
                              : whole       ? text_of(seen)
                                            : std::string("bytes that nobody wrote"),
                              describe(sector));
    return broken;
}

std::string Oracle::describe(std::uint64_t sector) const {
    std::string text;
    for (const Version& version : sectors_[sector]) {
        if (version.lost) continue;
        text += fmt::format("{}{}{}{}", text.empty() ? "" : "; ", text_of(version.write),
                            version.bytes ? ", mixed" : "",
                            version.gone == 0 ? "" : ", only after a power cut");
    }
    const Row& row = rows_[sector / row_sectors];
    if (row.listed != 0) text += "; its row is listed as unknown";
    return text;
}

std::optional<Broken> Oracle::check_error(std::uint64_t began, std::uint64_t offset,
                                          std::uint64_t size, bool write, Error error) const {
    if (anything_unknown_) return std::nullopt;
    if (readonly_ && has_doubt()) return std::nullopt;
    const Write range{offset, size, 0, 0, false, false, false};
    for (std::uint64_t at = offset / row_size; at != (offset + size + row_size - 1) / row_size;
         ++at) {
        const Row& row = rows_[at];
        if (error.code == Errc::unknown && is_beside_retry(at, time_)) return std::nullopt;
        const bool unsure = doubtful_[raw(stripe_of(at))] || failed_.contains(parity_row(at));
        // The resync that would decide it cannot read what it needs, or write what it found.
        const bool stuck = !unreadable_.empty() || full_;
        if (error.code == Errc::doubt && unsure && stuck) return std::nullopt;
        // Nobody trusts its parity, which has to be computed from all others of the row.
        const bool retries = row.listed != 0 && row.kind == BadKind::retry;
        if (error.code == Errc::unknown && retries && !unreadable_.empty()) return std::nullopt;
        if (write && covers_row(range, at)) continue;  // heals it
        if (error.code == Errc::unknown && (row.listed != 0 || row.unlisted >= began)) {
            return std::nullopt;
        }
    }
    return Broken{
        "R4", fmt::format(
                  "a {} of bytes {}…{} failed ({}, {}), and {}", write ? "write" : "read", offset,
                  offset + size - 1, error.text(), error.where,
                  write ? "it covers no listed row in part" : "no row of it is listed as unknown")};
}

// ---- the node ------------------------------------------------------------------------------

void Oracle::crash(bool power) {
    crashed_ = ++time_;
    if (!crashed_now_) crashed_nanos_ = nanos_;
    crashed_now_ = true;
    reads_.clear();
    for (auto& [number, write] : writes_) {
        if (write.ended != 0) continue;
        write.ended = time_;
        write.failed = true;
    }
    for (auto at = ambiguous_.begin(); at != ambiguous_.end();) {
        const std::uint64_t sector = *at++;
        flying_[sector] = fragile_[sector] = 0;
        tidy(sector);
        if (!power) continue;
        for (Version& version : sectors_[sector]) version.gone = 0;
    }
    for (Row& row : rows_) {
        if (row.heals != 0) row.heal_ended = time_;
        row.heals = 0;
    }
    spread_doubt();
    for (auto& [row, soil] : soil_) {
        if (power || soil.writes != 0 || soil.failed) hit_.insert(row);
        soil.failed |= soil.writes != 0;
        soil.ended = time_;
        soil.writes = 0;
    }
    for (Stripe& stripe : stripes_) stripe = {};  // what counts of it is in doubt now
    true_.clear();
}

void Oracle::stopped(std::uint64_t began) {
    end_flush(began);
    if (!intent_on_ && !failed_.empty()) doubt_everything();  // there is no record to name them
    for (const std::uint64_t row : failed_) {                 // the record knows them by stripe
        doubtful_[row / geometry_.rows_per_strip()] = true;
        hit_.insert(row);
    }
    true_.clear();  // as it knows what was in doubt before
    for (Stripe& stripe : stripes_) stripe = {};
}

std::optional<Broken> Oracle::restarted(const Configuration& configuration) {
    ++time_;
    auto broken = see(configuration);
    if (!readonly_) note_away(configuration);
    // Before anything was served all members that are there were flushed: what they hold now they
    // keep.
    if (!readonly_) {
        for (auto at = ambiguous_.begin(); at != ambiguous_.end();) {
            const std::uint64_t sector = *at++;
            if (rows_[sector / row_sectors].away) continue;
            for (Version& version : sectors_[sector]) {
                if (version.gone != 0) lose(version, version.why);
                version.base = true;
            }
            tidy(sector);
        }
        soil_.clear();
    }
    if (!readonly_) crashed_now_ = false;
    return broken;
}

}  // namespace braid::sim
