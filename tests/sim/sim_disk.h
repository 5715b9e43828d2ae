// SPDX-License-Identifier: BSD-3-Clause
// SimDisk: a member in memory. Operations take a time drawn from the seed and complete in any
// order; writes count as durable after a flush only; rows can be made to fail, and the whole disk.
#pragma once

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
        std::uint64_t offset;
        Buffer before;  // what a power cut may bring back
    };
    Buffer content;
    std::vector<Write> unflushed;
    std::set<std::uint64_t> bad_rows;     // reads of these rows fail, until they are written
    bool dead{false};                     // every operation fails
    bool fails_writes{false};
    bool zero_fast{true};
    std::uint32_t memory_align{1};
    std::uint64_t reads{0};
    std::uint64_t writes{0};
    std::uint64_t flushes{0};

    /// Power is gone: of the writes since the last flush any subset stays.
    void cut_power(Rng& rng) {
        for (auto write = unflushed.rbegin(); write != unflushed.rend(); ++write) {
            if (rng.chance(2)) continue;
            std::memcpy(content.data() + write->offset, write->before.data(), write->before.size());
        }
        unflushed.clear();
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
    const DiskInfo& info() const override { return info_; }
    void submit(DiskOp& op) override {
        BRAID_REQUIRE(is_row_aligned(op.offset) && is_row_aligned(op.size));
        BRAID_REQUIRE(reinterpret_cast<std::uintptr_t>(op.data) % info_.memory_align == 0);
        DiskOp* pending = &op;
        loop_.after(1000 + loop_.rng().below(1'000'000), [this, pending] {
            DiskGroup::complete(*pending, carry_out(*pending));
        });
    }

  private:
    int carry_out(DiskOp& op) {
        SimPlatter& platter = *platter_;
        if (platter.dead) return EIO;
        if (op.kind == DiskOpKind::flush) {
            ++platter.flushes;
            platter.unflushed.clear();
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
        if (!op.fua) platter.unflushed.push_back({op.offset, Buffer(ByteView{at, op.size})});
        if (op.kind == DiskOpKind::zero) {
            std::memset(at, 0, op.size);
        } else {
            std::memcpy(at, op.data, op.size);
        }
        for (std::uint64_t row = op.offset / row_size; row != (op.offset + op.size) / row_size;
             ++row) {
            platter.bad_rows.erase(row);
        }
        return 0;
    }

    SimLoop& loop_;
    std::shared_ptr<SimPlatter> platter_;
    DiskInfo info_;
};

}  // namespace braid::sim
