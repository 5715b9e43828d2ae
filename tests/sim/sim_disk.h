// SPDX-License-Identifier: BSD-3-Clause
// SimDisk: a member in memory. Operations take a time drawn from the seed and complete in any
// order; writes count as durable after a flush only; rows can be made to fail, and the whole disk.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/io/disk.h"
#include "tests/sim/sim_loop.h"

namespace braid::sim {

/// The bytes, which outlive the SimDisk that an array has opened and closed.
struct SimPlatter {
    explicit SimPlatter(std::uint64_t size) : content(size) {}
    explicit SimPlatter(Buffer from) : content(std::move(from)) {}

    struct Write {
        std::uint64_t sequence;
        std::uint64_t offset;
        Buffer before;  // what a power cut may bring back
    };
    Buffer content;
    std::vector<Write> unflushed;         // in order; those that a flush covered are taken out
    std::uint64_t writes_done{0};         // their last sequence
    std::set<std::uint64_t> bad_rows;     // reads of these rows fail, until they are written
    bool dead{false};                     // every operation fails
    bool fails_writes{false};
    bool fails_flushes{false};
    std::uint64_t delay_nanos{0};         // every operation takes this much longer
    bool zero_fast{true};
    std::uint32_t memory_align{1};
    std::uint64_t reads{0};
    std::uint64_t writes{0};
    std::uint64_t flushes{0};

    /// Power is gone: of the sectors written since the last flush any subset stays.
    void cut_power(Rng& rng) {
        for (auto write = unflushed.rbegin(); write != unflushed.rend(); ++write) {
            const bool torn = rng.chance(4);
            bool stays = rng.chance(2);
            for (std::size_t at = 0; at != write->before.size(); at += sector_size) {
                if (torn) stays = rng.chance(2);
                if (stays) continue;
                std::memcpy(content.data() + write->offset + at, write->before.data() + at,
                            sector_size);
            }
        }
        unflushed.clear();
    }
    /// [offset, offset + size) holds what a power cut does not take back, as after a write with FUA.
    void keep(std::uint64_t offset, std::uint64_t size) {
        for (Write& write : unflushed) {
            const std::uint64_t begin = std::max(offset, write.offset);
            const std::uint64_t end = std::min(offset + size, write.offset + write.before.size());
            if (begin >= end) continue;
            std::memcpy(write.before.data() + (begin - write.offset), content.data() + begin,
                        end - begin);
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
    }
    /// A disk is closed only when nothing is in flight.
    ~SimDisk() override { BRAID_REQUIRE(in_flight_ == 0); }
    const DiskInfo& info() const override { return info_; }
    void submit(DiskOp& op) override {
        BRAID_REQUIRE(is_row_aligned(op.offset) && is_row_aligned(op.size));
        BRAID_REQUIRE(reinterpret_cast<std::uintptr_t>(op.data) % info_.memory_align == 0);
        DiskOp* pending = &op;
        ++in_flight_;
        const std::uint64_t nanos = 1000 + loop_.rng().below(1'000'000) + platter_->delay_nanos;
        const std::uint64_t before = platter_->writes_done;  // what a flush has to cover
        loop_.after(nanos, [this, pending, before] {
            --in_flight_;
            DiskGroup::complete(*pending, carry_out(*pending, before));
        });
    }

  private:
    int carry_out(DiskOp& op, std::uint64_t before) {
        SimPlatter& platter = *platter_;
        if (platter.dead) return EIO;
        if (op.kind == DiskOpKind::flush) {
            if (platter.fails_flushes) return EIO;
            ++platter.flushes;
            std::erase_if(platter.unflushed, [before](const SimPlatter::Write& write) {
                return write.sequence <= before;
            });
            return 0;
        }
        if (op.offset > info_.size || op.size > info_.size - op.offset) return EIO;
        std::byte* at = platter.content.data() + op.offset;
        if (op.kind == DiskOpKind::read) {
            ++platter.reads;
            const auto bad = platter.bad_rows.lower_bound(op.offset / row_size);
            if (bad != platter.bad_rows.end() && *bad < (op.offset + op.size) / row_size) return EIO;
            std::memcpy(op.data, at, op.size);
            return 0;
        }
        if (platter.fails_writes) return EIO;
        ++platter.writes;
        if (op.kind == DiskOpKind::zero && !platter.zero_fast) return EOPNOTSUPP;
        ++platter.writes_done;
        if (!op.fua) {
            platter.unflushed.push_back(
                {platter.writes_done, op.offset, Buffer(ByteView{at, op.size})});
        }
        if (op.kind == DiskOpKind::zero) {
            std::memset(at, 0, op.size);
        } else {
            std::memcpy(at, op.data, op.size);
        }
        if (op.fua) platter.keep(op.offset, op.size);
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
