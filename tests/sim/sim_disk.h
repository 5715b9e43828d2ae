// SPDX-License-Identifier: BSD-3-Clause
// SimDisk: a member in memory. Operations take a time drawn from the seed and complete in any
// order; writes are durable after a flush, or with FUA. What can go wrong: the whole disk, its
// writes, its flushes; reads of single rows; any operation now and then; bytes that change by
// themselves; and a crash, in which operations in flight happen, happen in part, or do not, and
// which, when it is the power that goes, takes back any subset of what was not flushed.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/io/disk.h"
#include "tests/sim/sim_loop.h"

namespace braid::sim {

/// The bytes, which outlive the SimDisk that an array has opened and closed.
struct SimPlatter {
    explicit SimPlatter(std::uint64_t size) : SimPlatter(Buffer(size)) {}
    explicit SimPlatter(Buffer from) : content(std::move(from)), space(content.size() / row_size) {}

    struct Write {
        std::uint64_t sequence;
        std::uint64_t offset;
        Buffer before;  // what a power cut may bring back
        Buffer after;
    };
    /// Submitted and not completed.
    struct Flight {
        const DiskOp* op;  // in a frame that a crash destroys
        std::uint64_t number;
        const Disk* disk;
    };

    Buffer content;
    std::vector<bool> space;       // by row: it has some; a thin disk at first none
    std::vector<Write> unflushed;  // in order; those that a flush covered are taken out
    std::vector<Flight> flights;   // in order of submission
    std::uint64_t writes_done{0};  // their last sequence
    std::uint64_t submitted{0};
    std::uint64_t changes{0};            // grows with whatever may matter in a crash
    std::vector<std::uint64_t> touched;  // rows that were written, if `notes_touched`
    bool notes_touched{false};

    std::set<std::uint64_t> bad_rows;  // reads of these rows fail, until they are written
    bool dead{false};                  // every operation fails
    bool fails_writes{false};
    int write_error{EIO};  // of those that fail
    bool fails_flushes{false};
    int flush_error{EIO};                    // of those that fail
    std::uint64_t read_fails_one_in{0};      // 0: never
    std::uint64_t write_fails_one_in{0};     // a write that fails may have happened in part
    bool answers_no_reads{false};            // for a moment
    std::uint64_t fails_writes_below{0};     // bytes: those of the metadata, for a moment
    bool full{false};                        // writes to rows of `holes` fail
    int full_error{ENOSPC};                  // with this
    std::set<std::uint64_t> holes;           // rows that have no space yet
    std::uint64_t delay_nanos{0};            // every operation takes this much longer
    std::uint64_t latency_nanos{1'000'000};  // and up to this much by chance
    bool zero_fast{true};
    bool zero_kept_fast{true};   // only where zero_fast is, too
    bool reads_now{false};       // can be read past the loop
    bool caches{true};           // false: every write is durable at once
    bool read_only{false};       // as its DiskInfo tells
    bool refuses_writes{false};  // EPERM, and nobody told
    bool is_known{true};         // by its identity; false: as behind a second cable
    std::uint32_t sector_size{512};
    std::uint32_t memory_align{1};
    std::uint64_t reads{0};
    std::uint64_t writes{0};
    std::uint64_t flushes{0};

    bool is_well() const {
        return !dead && !fails_writes && !fails_flushes && !full && !answers_no_reads &&
               fails_writes_below == 0 && bad_rows.empty() && read_fails_one_in == 0 &&
               write_fails_one_in == 0;
    }
    /// It does all but take more space.
    bool is_only_full() const {
        return full && !dead && !fails_writes && !fails_flushes && !answers_no_reads &&
               fails_writes_below == 0 && bad_rows.empty() && read_fails_one_in == 0 &&
               write_fails_one_in == 0;
    }
    /// Whatever was wrong with it ends; what its bytes suffered stays.
    void heal() {
        dead = fails_writes = fails_flushes = full = answers_no_reads = false;
        bad_rows.clear();
        read_fails_one_in = write_fails_one_in = delay_nanos = fails_writes_below = 0;
    }

    bool zeroes(const DiskOp& op) const { return zero_fast && (op.may_free || zero_kept_fast); }
    std::uint64_t space_taken() const {
        return static_cast<std::uint64_t>(std::ranges::count(space, true)) * row_size;
    }
    void take_space(std::uint64_t offset, std::uint64_t size, bool taken) {
        for (std::uint64_t row = offset / row_size; row != (offset + size) / row_size; ++row) {
            space[row] = taken;
        }
    }

    /// What lies on the platter changes: sectors [0, size / 512) of `data` for which `stays` is
    /// true; the rest keeps what it had. A null `data` stands for zeros.
    template <class Stays>
    void change(std::uint64_t offset, const std::byte* data, std::uint64_t size, bool durable,
                Stays stays) {
        ++changes;
        ++writes_done;
        Write write{writes_done, offset, {}, {}};
        if (!durable) write.before = Buffer(ByteView{content.data() + offset, size});
        for (std::uint64_t at = 0; at != size; at += sector_size) {
            if (!stays(at / sector_size)) continue;
            std::byte* to = content.data() + offset + at;
            if (data == nullptr) {
                std::memset(to, 0, sector_size);
            } else {
                std::memcpy(to, data + at, sector_size);
            }
        }
        note_touched(offset, size);
        if (durable) return keep(offset, size);
        write.after = Buffer(ByteView{content.data() + offset, size});
        unflushed.push_back(std::move(write));
    }
    void note_touched(std::uint64_t offset, std::uint64_t size) {
        if (!notes_touched) return;
        for (std::uint64_t row = offset / row_size; row != (offset + size) / row_size; ++row) {
            touched.push_back(row);
        }
    }

    /// The node is gone. Of the operations in flight each happens, or in part, or not.
    void crash(Rng& rng) {
        while (!flights.empty()) {
            const std::size_t at = rng.below(flights.size());
            const DiskOp& op = *flights[at].op;
            flights.erase(flights.begin() + static_cast<std::ptrdiff_t>(at));
            if (dead || fails_writes || op.offset < fails_writes_below) continue;
            const std::byte* data = op.kind == DiskOpKind::zero ? nullptr : op.data;
            if (op.kind != DiskOpKind::write && op.kind != DiskOpKind::zero) continue;
            if (op.kind == DiskOpKind::zero && !zeroes(op)) continue;
            switch (rng.below(3)) {
                case 0:
                    break;
                case 1:
                    change(op.offset, data, op.size, false, [](std::uint64_t) { return true; });
                    break;
                default:
                    change(op.offset, data, op.size, false,
                           [&](std::uint64_t) { return rng.chance(2); });
            }
        }
    }
    /// Power is gone: of the sectors written since the last flush any subset stays.
    void cut_power(Rng& rng) {
        // Often all of them, or none, as a cache does it that was just written out, or just not.
        const std::uint64_t mood = rng.below(6);
        std::vector<std::uint64_t> fate(unflushed.size());
        for (std::uint64_t& one : fate) {
            one = mood == 0 ? 0 : mood == 1 ? 1 : rng.chance(4) ? 2 : rng.below(2);
        }
        cut_power([&](std::size_t write, std::uint64_t) {
            return fate[write] == 2 ? rng.chance(2) : fate[write] == 1;
        });
    }
    /// Of the writes since the last flush those sectors stay of which `stays(write, sector)`.
    template <class Stays>
    requires std::is_invocable_r_v<bool, Stays, std::size_t, std::uint64_t>
    void cut_power(Stays stays) {
        ++changes;
        for (auto write = unflushed.rbegin(); write != unflushed.rend(); ++write) {
            std::memcpy(content.data() + write->offset, write->before.data(), write->before.size());
            note_touched(write->offset, write->before.size());
        }
        for (std::size_t i = 0; i != unflushed.size(); ++i) {
            const Write& write = unflushed[i];
            for (std::uint64_t at = 0; at != write.after.size(); at += sector_size) {
                if (!stays(i, at / sector_size)) continue;
                std::memcpy(content.data() + write.offset + at, write.after.data() + at,
                            sector_size);
            }
        }
        unflushed.clear();
    }
    /// [offset, offset + size) holds what a power cut does not take back, as after a write with
    /// FUA.
    void keep(std::uint64_t offset, std::uint64_t size) {
        for (Write& write : unflushed) {
            const std::uint64_t begin = std::max(offset, write.offset);
            const std::uint64_t end = std::min(offset + size, write.offset + write.before.size());
            if (begin >= end) continue;
            for (Buffer* side : {&write.before, &write.after}) {
                std::memcpy(side->data() + (begin - write.offset), content.data() + begin,
                            end - begin);
            }
        }
    }
};

class SimDisk final : public Disk {
  public:
    SimDisk(SimLoop& loop, std::shared_ptr<SimPlatter> platter, std::string path)
        : loop_(loop), platter_(std::move(platter)) {
        info_.path = std::move(path);
        info_.size = platter_->content.size();
        info_.memory_align = platter_->memory_align;
        info_.zero_fast = platter_->zero_fast;
        info_.zero_kept_fast = platter_->zero_fast && platter_->zero_kept_fast;
        info_.allocated = std::ranges::all_of(platter_->space, std::identity{});
        info_.in_memory = platter_->reads_now;
        info_.read_only = platter_->read_only;
        info_.sector_size = platter_->sector_size;
        // Its address is the same in no two runs, but only whether two are equal counts.
        if (platter_->is_known) {
            info_.identity = {1, reinterpret_cast<std::uintptr_t>(platter_.get()), 0, info_.size};
        }
    }
    /// A disk is closed only when nothing is in flight, unless by a crash.
    ~SimDisk() override {
        BRAID_REQUIRE(in_flight_ == 0 || loop_.crashing());
        if (in_flight_ == 0) return;
        std::erase_if(platter_->flights,
                      [this](const SimPlatter::Flight& flight) { return flight.disk == this; });
    }
    const DiskInfo& info() const override { return info_; }
    void submit(DiskOp& op) override {
        BRAID_REQUIRE(fits_disk(info_, op.offset, op.size));
        BRAID_REQUIRE(reinterpret_cast<std::uintptr_t>(op.data) % info_.memory_align == 0);
        DiskOp* pending = &op;
        ++in_flight_;
        const std::uint64_t nanos =
            1000 + loop_.rng().below(platter_->latency_nanos) + platter_->delay_nanos;
        const std::uint64_t before = platter_->writes_done;  // what a flush has to cover
        const std::uint64_t number = ++platter_->submitted;
        platter_->flights.push_back({pending, number, this});
        ++platter_->changes;
        loop_.after(nanos, [this, pending, before, number] {
            --in_flight_;
            std::erase_if(platter_->flights, [number](const SimPlatter::Flight& flight) {
                return flight.number == number;
            });
            ++platter_->changes;
            DiskGroup::complete(*pending, carry_out(*pending, before));
        });
    }
    int read_now(std::uint64_t offset, ByteSpan into) const override {
        if (!platter_->reads_now) return ENOSYS;
        return read(offset, into);
    }

  private:
    int read(std::uint64_t offset, ByteSpan into) const {
        SimPlatter& platter = *platter_;
        if (platter.answers_no_reads) return EIO;
        if (platter.dead || offset > info_.size || into.size() > info_.size - offset) return EIO;
        ++platter.reads;
        if (strikes(platter.read_fails_one_in)) return EIO;
        const auto bad = platter.bad_rows.lower_bound(offset / row_size);
        const std::uint64_t end = round_up(offset + into.size(), row_size) / row_size;
        if (bad != platter.bad_rows.end() && *bad < end) return EIO;
        std::memcpy(into.data(), platter.content.data() + offset, into.size());
        return 0;
    }
    bool strikes(std::uint64_t one_in) const { return one_in != 0 && loop_.rng().chance(one_in); }

    /// False: there is no space for it, and what lies before the first hole was written.
    bool take_space(const DiskOp& op, const std::byte* data) {
        SimPlatter& platter = *platter_;
        const auto hole = platter.holes.lower_bound(op.offset / row_size);
        const std::uint64_t past = (op.offset + op.size) / row_size;
        if (hole == platter.holes.end() || *hole >= past) return true;
        if (platter.full) {
            const std::uint64_t size = *hole * row_size - op.offset;
            if (size == 0) return false;
            platter.change(op.offset, data, size, false, [](std::uint64_t) { return true; });
            return false;
        }
        platter.holes.erase(hole, platter.holes.lower_bound(past));
        return true;
    }

    int carry_out(DiskOp& op, std::uint64_t before) {
        SimPlatter& platter = *platter_;
        if (platter.dead) return EIO;
        if (op.kind == DiskOpKind::flush) {
            if (platter.fails_flushes) return platter.flush_error;
            ++platter.flushes;
            std::erase_if(platter.unflushed, [before](const SimPlatter::Write& write) {
                return write.sequence <= before;
            });
            return 0;
        }
        if (op.offset > info_.size || op.size > info_.size - op.offset) return EIO;
        if (op.kind == DiskOpKind::read) return read(op.offset, {op.data, op.size});
        if (platter.fails_writes || op.offset < platter.fails_writes_below) {
            return platter.write_error;
        }
        if (platter.refuses_writes || platter.read_only) return EPERM;
        ++platter.writes;
        if (op.kind == DiskOpKind::zero && !platter.zeroes(op)) return EOPNOTSUPP;
        platter.take_space(op.offset, op.size, op.kind == DiskOpKind::write || !op.may_free);
        const std::byte* data = op.kind == DiskOpKind::zero ? nullptr : op.data;
        if (strikes(platter.write_fails_one_in)) {
            platter.change(op.offset, data, op.size, false,
                           [this](std::uint64_t) { return loop_.rng().chance(2); });
            return EIO;
        }
        if (!take_space(op, data)) return platter.full_error;
        platter.change(op.offset, data, op.size, op.fua || !platter.caches,
                       [](std::uint64_t) { return true; });
        for (std::uint64_t row = op.offset / row_size; row != (op.offset + op.size) / row_size;
             ++row) {
            platter.bad_rows.erase(row);
        }
        return 0;
    }

    SimLoop& loop_;
    std::shared_ptr<SimPlatter> platter_;
    DiskInfo info_;
    std::uint64_t in_flight_{0};
};

}  // namespace braid::sim
