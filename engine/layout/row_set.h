// SPDX-License-Identifier: BSD-3-Clause
// RowSet: rows by number, wherever they come from, in bounded memory. A row that was added is found
// again; past the bound others are, too. A block is 64 grains of neighbouring rows; a grain is one
// row as long as there is room for all blocks, and twice as many whenever there is not.
#pragma once

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/units.h"
#include "parity/require.h"

namespace braid {

class RowSet {
  public:
    bool empty() const { return used_ == 0; }
    void clear() {
        if (empty() && grain_shift_ == 0) return;
        std::ranges::fill(table_, Block{});
        used_ = 0;
        grain_shift_ = 0;
    }
    /// Rows [first, first + count).
    void add(RowIndex first, std::uint64_t count) {
        if (count == 0) return;
        const RowIndex last = first + count - 1;
        for (std::uint64_t number = block_of(first); number <= block_of(last); ++number) {
            if (!insert(number, grains_in(number, first, last))) return add(first, count);
        }
    }
    bool overlaps(RowIndex first, std::uint64_t count) const {
        if (empty() || count == 0) return false;
        const RowIndex last = first + count - 1;
        for (std::uint64_t number = block_of(first); number <= block_of(last); ++number) {
            const Block& at = table_[find(number)];
            if (at.number == number && (at.grains & grains_in(number, first, last)) != 0) {
                return true;
            }
        }
        return false;
    }
    /// All of `other`.
    void add(const RowSet& other) {
        other.for_each([this](RowIndex first, std::uint64_t count) { add(first, count); });
    }
    /// Calls visit(first row, count) for runs of rows, in order; runs may touch.
    template <class Visit>
    void for_each(Visit visit) const {
        std::vector<Block> blocks;
        for (const Block& at : table_) {
            if (at.number != none) blocks.push_back(at);
        }
        std::ranges::sort(blocks, {}, &Block::number);
        for (const Block& at : blocks) {
            for (std::uint64_t left = at.grains; left != 0;) {
                const auto grain = static_cast<unsigned>(std::countr_zero(left));
                const auto count = static_cast<unsigned>(std::countr_one(left >> grain));
                left &= count == 64 ? 0 : ~(((std::uint64_t{1} << count) - 1) << grain);
                visit(RowIndex{(at.number << shift()) + (std::uint64_t{grain} << grain_shift_)},
                      std::uint64_t{count} << grain_shift_);
            }
        }
    }

  private:
    static constexpr std::uint64_t none = ~std::uint64_t{0};
    static constexpr unsigned block_shift = 6;
    struct Block {
        std::uint64_t number{none};
        std::uint64_t grains{0};
    };

    unsigned shift() const { return block_shift + grain_shift_; }
    std::uint64_t block_of(RowIndex row) const { return raw(row) >> shift(); }
    std::uint64_t grains_in(std::uint64_t number, RowIndex first, RowIndex last) const {
        const std::uint64_t begin = number << block_shift;  // in grains
        const std::uint64_t from = std::max(raw(first) >> grain_shift_, begin) - begin;
        const std::uint64_t to = std::min((raw(last) >> grain_shift_) - begin, std::uint64_t{63});
        return (~std::uint64_t{0} >> (63 - (to - from))) << from;
    }
    /// Where the block is, or would be.
    std::size_t find(std::uint64_t number) const {
        std::size_t at = (number * 0x9e3779b97f4a7c15) >> 32 & (table_.size() - 1);
        while (table_[at].number != none && table_[at].number != number) {
            at = (at + 1) & (table_.size() - 1);
        }
        return at;
    }
    /// False: grains had to become coarser, and so mean something else; it is to be asked anew.
    bool insert(std::uint64_t number, std::uint64_t grains) {
        if (4 * (used_ + 1) > 3 * table_.size()) {
            const unsigned before = grain_shift_;
            make_room();
            if (grain_shift_ != before) return false;
        }
        if (const std::size_t at = find(number); table_[at].number == number) {
            table_[at].grains |= grains;
        } else {
            table_[at] = {number, grains};
            ++used_;
        }
        return true;
    }
    void make_room() {
        constexpr std::size_t table_min = 64;
        if (table_.size() < row_blocks_max) {
            const std::vector<Block> before =
                std::exchange(table_, std::vector<Block>(std::max(table_min, 2 * table_.size())));
            for (const Block& at : before) {
                if (at.number != none) table_[find(at.number)] = at;
            }
            return;
        }
        while (2 * used_ > table_.size()) double_grains();
    }
    void double_grains() {
        const std::vector<Block> before = std::exchange(table_, std::vector<Block>(table_.size()));
        used_ = 0;
        ++grain_shift_;
        BRAID_REQUIRE(shift() < 63);
        for (const Block& at : before) {
            if (at.number == none) continue;
            const std::uint64_t half = joined(at.grains) << (at.number % 2 == 0 ? 0 : 32);
            const std::size_t place = find(at.number / 2);
            if (table_[place].number == none) {
                table_[place].number = at.number / 2;
                ++used_;
            }
            table_[place].grains |= half;
        }
    }
    /// Bit i: bit 2i or 2i + 1 of `grains`.
    static std::uint64_t joined(std::uint64_t grains) {
        std::uint64_t bits = (grains | grains >> 1) & 0x5555555555555555;
        for (unsigned step = 1; step != 32; step *= 2) {
            constexpr std::uint64_t masks[] = {0x3333333333333333, 0x0f0f0f0f0f0f0f0f,
                                               0x00ff00ff00ff00ff, 0x0000ffff0000ffff,
                                               0x00000000ffffffff};
            bits = (bits | bits >> step) & masks[std::countr_zero(step)];
        }
        return bits;
    }

    std::vector<Block> table_;  // open addressing; a power of two
    std::size_t used_{0};
    unsigned grain_shift_{0};
};

}  // namespace braid
