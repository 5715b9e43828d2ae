// SPDX-License-Identifier: BSD-3-Clause
// WindowSet: windows by number, each as a bit, in bounded memory. A page is 4096 neighbouring windows;
// there is one for every stretch of an array that has any.
#pragma once

#include <algorithm>
#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>
#include <map>
#include <vector>

#include "engine/base/limits.h"
#include "engine/base/units.h"
#include "engine/layout/rows.h"
#include "parity/require.h"

namespace braid {

class WindowSet {
  public:
    static constexpr std::uint64_t page_windows = 4096;
    /// Bit i of word k is window 64 k + i of the page.
    using Page = std::array<std::uint64_t, page_windows / 64>;

    bool empty() const { return pages_.empty(); }
    void clear() { pages_.clear(); }
    bool has(WindowIndex window) const {
        const auto at = pages_.find(raw(window) / page_windows);
        return at != pages_.end() && (word_of(at->second, window) >> (raw(window) % 64) & 1) != 0;
    }
    /// False: there is no room for all of them, and some are in it.
    bool add(WindowRange range) {
        for (WindowIndex at = range.begin; at < range.end;) {
            Page* const page = page_at(raw(at) / page_windows);
            if (page == nullptr) return false;
            const std::uint64_t past = (raw(at) / 64 + 1) * 64;
            const std::uint64_t end = std::min(raw(range.end), past);
            const std::uint64_t bits = ~std::uint64_t{0} >> (64 - (end - raw(at)));
            (*page)[raw(at) % page_windows / 64] |= bits << (raw(at) % 64);
            at = WindowIndex{end};
        }
        return true;
    }
    bool add(WindowIndex window) { return add({window, window + 1}); }
    /// All windows of the page whose bits are set. False: there is no room.
    bool add(std::uint64_t number, const Page& page) {
        if (page == Page{}) return true;
        Page* const own = page_at(number);
        if (own == nullptr) return false;
        for (std::size_t i = 0; i != page.size(); ++i) (*own)[i] |= page[i];
        return true;
    }
    bool add(const WindowSet& other) {
        return std::ranges::all_of(
            other.pages_, [this](const auto& page) { return add(page.first, page.second); });
    }
    std::uint64_t count() const {
        std::uint64_t sum = 0;
        for (const auto& [number, page] : pages_) {
            for (const std::uint64_t word : page) {
                sum += static_cast<std::uint64_t>(std::popcount(word));
            }
        }
        return sum;
    }
    /// The first window from `from` on, before `end`, that is in the set; `end`: there is none.
    WindowIndex next_in(WindowIndex from, WindowIndex end) const {
        for (auto at = pages_.lower_bound(raw(from) / page_windows); at != pages_.end(); ++at) {
            const std::uint64_t first = std::max(raw(from), at->first * page_windows);
            if (first >= raw(end)) break;
            const std::uint64_t found = scan(at->second, first, 0);
            if (found != (at->first + 1) * page_windows) {
                return std::min(WindowIndex{found}, end);
            }
        }
        return end;
    }
    /// The first one that is not.
    WindowIndex next_out(WindowIndex from, WindowIndex end) const {
        while (from < end) {
            const auto at = pages_.find(raw(from) / page_windows);
            if (at == pages_.end()) return from;
            const std::uint64_t found = scan(at->second, raw(from), ~std::uint64_t{0});
            from = WindowIndex{found};
            if (found != (at->first + 1) * page_windows) break;
        }
        return std::min(from, end);
    }
    /// In order, not touching.
    std::vector<WindowRange> ranges(WindowIndex from, WindowIndex end) const {
        std::vector<WindowRange> all;
        for (WindowIndex at = next_in(from, end); at != end;) {
            const WindowIndex past = next_out(at, end);
            all.push_back({at, past});
            at = next_in(past, end);
        }
        return all;
    }
    const std::map<std::uint64_t, Page>& pages() const { return pages_; }

    bool operator==(const WindowSet&) const = default;

  private:
    static std::uint64_t word_of(const Page& page, WindowIndex window) {
        return page[raw(window) % page_windows / 64];
    }
    /// The first bit from `from` on that is set, or, with all ones, is not; or the page's end.
    static std::uint64_t scan(const Page& page, std::uint64_t from, std::uint64_t flip) {
        const std::uint64_t base = from / page_windows * page_windows;
        std::uint64_t mask = ~std::uint64_t{0} << (from % 64);
        for (std::size_t i = from % page_windows / 64; i != page.size(); ++i) {
            const std::uint64_t word = (page[i] ^ flip) & mask;
            if (word != 0) {
                return base + i * 64 + static_cast<std::uint64_t>(std::countr_zero(word));
            }
            mask = ~std::uint64_t{0};
        }
        return base + page_windows;
    }
    Page* page_at(std::uint64_t number) {
        if (const auto at = pages_.find(number); at != pages_.end()) return &at->second;
        if (pages_.size() >= window_pages_max) return nullptr;
        return &pages_[number];
    }

    std::map<std::uint64_t, Page> pages_;
};

}  // namespace braid
