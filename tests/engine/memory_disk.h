// SPDX-License-Identifier: BSD-3-Clause
// Members in memory for the tests of the metadata: operations complete at once and are counted, the
// power can be cut at any of them, and what was not flushed is lost sector by sector.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstdint>
#include <cstring>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/rng.h"
#include "engine/io/disk.h"
#include "engine/io/ready_queue.h"
#include "engine/io/task.h"

namespace braid::test {

/// Runs a task whose I/O completes at once.
template <class T>
Task<void> keep_result(Task<T> task, std::optional<T>* result) {
    result->emplace(co_await task);
}
template <class T>
T run(Task<T> task) {
    ReadyQueue ready;
    TaskGroup group(ready);
    std::optional<T> result;
    group.spawn(keep_result(std::move(task), &result));
    while (!ready.empty()) ready.take().resume();
    BRAID_REQUIRE(result.has_value());
    return std::move(*result);
}

/// Power that several disks share. Writes and flushes draw from it; at 0 it is cut.
struct Power {
    std::uint64_t left{~std::uint64_t{0}};
    bool cut{false};
    bool draw() {
        if (cut) return false;
        if (left == 0) {
            cut = true;
            return false;
        }
        --left;
        return true;
    }
};

class MemoryDisk final : public Disk {
  public:
    MemoryDisk(std::string path, std::uint64_t size, std::shared_ptr<Power> power = nullptr)
        : power_(std::move(power)), content_(size) {
        info_.path = std::move(path);
        info_.size = size;
        info_.memory_align = 1;
        info_.zero_fast = info_.zero_kept_fast = true;
    }
    const DiskInfo& info() const override { return info_; }
    DiskInfo& info() { return info_; }
    Buffer& content() { return content_; }

    void submit(DiskOp& op) override { DiskGroup::complete(op, carry_out(op)); }
    int read_now(std::uint64_t offset, ByteSpan into) const override {
        std::memcpy(into.data(), content_.data() + offset, into.size());
        return 0;
    }

    /// After the cut: any subset of the sectors written since the last flush keeps the old bytes.
    void lose_unflushed(Rng& rng) {
        for (auto write = unflushed_.rbegin(); write != unflushed_.rend(); ++write) {
            for (std::size_t at = 0; at < write->before.size(); at += sector_size) {
                if (rng.chance(2)) continue;
                std::memcpy(content_.data() + write->offset + at, write->before.data() + at,
                            sector_size);
            }
        }
        unflushed_.clear();
    }
    /// Everything fails from now on.
    void die() { dead_ = true; }
    /// The row at `offset` cannot be read.
    void spoil_row(std::uint64_t offset) { spoilt_row_ = offset; }
    /// Writes fail from now on, after `writes` more.
    void refuse_writes(std::uint64_t writes = 0) { writes_left_ = writes; }

  private:
    struct Write {
        std::uint64_t offset;
        Buffer before;
    };
    /// What is written with FUA stays, also over what was written there before without.
    void make_durable(const DiskOp& op) {
        for (Write& write : unflushed_) {
            const std::uint64_t begin = std::max(write.offset, op.offset);
            const std::uint64_t end =
                std::min(write.offset + write.before.size(), op.offset + op.size);
            if (begin >= end) continue;
            std::memcpy(write.before.data() + (begin - write.offset), op.data + (begin - op.offset),
                        end - begin);
        }
    }
    int carry_out(DiskOp& op) {
        if (dead_) return EIO;
        BRAID_REQUIRE(fits_disk(info_, op.offset, op.size));
        if (op.kind != DiskOpKind::flush && op.offset + op.size > content_.size()) return EIO;
        if (op.kind == DiskOpKind::read) {
            if (spoilt_row_ && op.offset < *spoilt_row_ + row_size &&
                op.offset + op.size > *spoilt_row_) {
                return EIO;
            }
            std::memcpy(op.data, content_.data() + op.offset, op.size);
            return 0;
        }
        if (power_ && power_->cut) return EIO;
        if (op.kind != DiskOpKind::flush && writes_left_ && (*writes_left_)-- == 0) {
            writes_left_ = 0;
            return EPERM;
        }
        const bool last = power_ && !power_->draw();  // the one that the cut falls into
        if (op.kind == DiskOpKind::flush) {
            if (!last) unflushed_.clear();
            return last ? EIO : 0;
        }
        if (op.fua && !last) {
            make_durable(op);
        } else {
            unflushed_.push_back(
                {op.offset, Buffer(ByteView{content_.data() + op.offset, op.size})});
        }
        if (op.kind == DiskOpKind::zero) {
            std::memset(content_.data() + op.offset, 0, op.size);
        } else {
            std::memcpy(content_.data() + op.offset, op.data, op.size);
        }
        return last ? EIO : 0;
    }

    std::shared_ptr<Power> power_;
    DiskInfo info_;
    Buffer content_;
    std::vector<Write> unflushed_;
    std::optional<std::uint64_t> spoilt_row_;
    bool dead_{false};
    std::optional<std::uint64_t> writes_left_;
};

}  // namespace braid::test
