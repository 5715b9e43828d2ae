// SPDX-License-Identifier: BSD-3-Clause
// torture_writer verify: the volume is read, and compared with what its sectors may hold.
#include <fmt/format.h>
#include <libnbd.h>

#include <algorithm>
#include <cerrno>
#include <fstream>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "engine/base/units.h"
#include "tests/system/torture_modes.h"

namespace braid::torture {
namespace {

/// Which new bad rows can be.
enum class BadRule : std::uint64_t {
    none = 0,     // no member is lost: there is no reason for one
    torn = 1,     // P and Q together tell of rows that no write left half done
    touched = 2,  // everything that was marked
};

class Verify {
  public:
    Verify(Oracle& oracle, const Options& options)
        : oracle_(oracle),
          handle_(connected(options.text("socket"))),
          rule_(static_cast<BadRule>(options.number("rule", 0))),
          region_(options.number("region", 0)),
          left_(options.number("left", 0) != 0),
          listed_(oracle.size / row_size) {
        std::ifstream list(options.text("bad"));
        for (std::uint64_t offset = 0, size = 0; list >> offset >> size;) {
            if (offset % row_size != 0 || size % row_size != 0 || offset + size > oracle.size) {
                fail(fmt::format("the list of bad rows has {} bytes at {}", size, offset));
            }
            for (auto at = offset; at != offset + size; at += row_size) listed_[at / row_size] = 1;
        }
    }

    void go() {
        constexpr std::uint64_t piece_max = 1u << 20;
        for (std::uint64_t at = 0; at < oracle_.size; at += piece_max) {
            look(at, std::min(piece_max, oracle_.size - at));
        }
        explain();
    }

    /// Nothing is in doubt any longer. Marks linger, though, and a crash makes new doubt of them.
    void take_last_doubt(bool unmarked) {
        std::ranges::fill(oracle_.torn, char{0});
        if (unmarked) std::ranges::fill(oracle_.touched, char{0});
    }

    std::uint64_t heal() {
        constexpr std::uint64_t rows_max = 256;  // of one write
        std::uint64_t healed = 0;
        for (std::uint64_t row = 0; row != oracle_.bad.size();) {
            std::uint64_t end = row;
            while (end != oracle_.bad.size() && end != row + rows_max && oracle_.bad[end] != 0) {
                oracle_.bad[end] = 0;
                oracle_.touched[oracle_.stripe_of(end * row_size)] = 1;
                ++end;
            }
            if (end != row) rewrite(row, end);
            healed += end - row;
            row = std::max(end, row + 1);
        }
        return healed;
    }

    std::uint64_t bad() const { return bad_; }

  private:
    /// Rows [first, end), with one write.
    void rewrite(std::uint64_t first, std::uint64_t end) {
        std::vector<Sector> bytes;
        const std::uint64_t write = ++oracle_.writes;
        const std::uint64_t now = oracle_.moment++;
        for (auto sector = first * sectors_of_row; sector != end * sectors_of_row; ++sector) {
            bytes.push_back(content_of(write, sector));
            oracle_.sectors[sector] = {Candidate{write, now, now}};
        }
        const std::uint64_t size = bytes.size() * sector_size;
        if (nbd_pwrite(handle_.get(), bytes.data(), size, first * row_size, 0) == 0) return;
        fail(fmt::format("{} bytes of bad rows at {} cannot be rewritten: {}", size,
                         first * row_size, nbd_get_error()));
    }

    void look(std::uint64_t offset, std::uint64_t size) {
        std::vector<Sector> bytes(size / sector_size);
        if (nbd_pread(handle_.get(), bytes.data(), size, offset, 0) == 0) {
            for (std::uint64_t i = 0; i != bytes.size(); ++i) {
                look_at(offset / sector_size + i, bytes[i]);
            }
            return;
        }
        if (nbd_get_errno() != EIO) fail(fmt::format("read at {}: {}", offset, nbd_get_error()));
        if (size == row_size) {
            found_bad(offset);
            return;
        }
        const std::uint64_t half = round_up(size / 2, row_size);
        look(offset, half);
        look(offset + half, size - half);
    }

    void look_at(std::uint64_t sector, const Sector& content) {
        const std::uint64_t row = sector / sectors_of_row;
        // A row that was bad, or is listed, may be known again: its member is back. Then it holds
        // what it may have held before.
        auto& candidates = oracle_.sectors[sector];
        oracle_.bad[row] = 0;
        const auto write = write_of(content, sector);
        const auto found = std::ranges::find_if(
            candidates, [&](const Candidate& one) { return write && one.write == *write; });
        if (found == candidates.end()) {
            std::string may;
            for (const Candidate& one : candidates) may += fmt::format(" {}", one.write);
            fail(fmt::format("sector {} (byte {}) holds {}, and may hold of the writes{}", sector,
                             sector * sector_size,
                             write ? fmt::format("write {}", *write) : describe(content), may));
        }
        const Candidate kept = *found;
        candidates.assign(1, kept);
    }

    static std::string describe(const Sector& content) {
        return fmt::format("garbage ({:x} {:x} {:x} ...)", content[0], content[1], content[2]);
    }

    void found_bad(std::uint64_t offset) {
        const std::uint64_t row = offset / row_size;
        ++bad_;
        if (listed_[row] == 0) {
            fail(fmt::format("the row at {} cannot be read, and is not listed as bad", offset));
        }
        if (oracle_.bad[row] == 0 && !may_be_bad(offset)) {
            unexplained_.push_back(offset);
        }
        oracle_.bad[row] = 1;
    }

    /// A member that leaves takes rows with it beside which another is to be tried again: their
    /// parity was not trusted.
    void explain() const {
        std::set<std::uint64_t> listed_before;
        for (std::uint64_t row = 0; row != oracle_.bad.size(); ++row) {
            const std::uint64_t offset = row * row_size;
            if (oracle_.bad[row] != 0 && !std::ranges::binary_search(unexplained_, offset)) {
                listed_before.insert(oracle_.stripe_row_of(offset));
            }
        }
        for (const std::uint64_t offset : unexplained_) {
            if (left_ && listed_before.contains(oracle_.stripe_row_of(offset))) continue;
            fail(fmt::format("the row at {} is bad, and nothing was being written there", offset));
        }
    }

    bool may_be_bad(std::uint64_t offset) const {
        if (rule_ == BadRule::none) return false;
        if (rule_ == BadRule::torn) return oracle_.torn[oracle_.stripe_row_of(offset)] != 0;
        const std::uint64_t reach = region_ / oracle_.stripe_size() + 1;
        const std::uint64_t stripe = oracle_.stripe_of(offset);
        const std::uint64_t end = std::min(stripe + reach + 1, oracle_.touched.size());
        for (std::uint64_t at = stripe - std::min(stripe, reach); at != end; ++at) {
            if (oracle_.touched[at] != 0) return true;
        }
        return false;
    }

    Oracle& oracle_;
    std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> handle_;
    BadRule rule_;
    std::uint64_t region_;
    bool left_;  // a member has, since the last verify
    std::vector<char> listed_;
    std::vector<std::uint64_t> unexplained_;  // offsets of bad rows, in order
    std::uint64_t bad_{0};
};

}  // namespace

int verify(const Options& options) {
    Oracle oracle = load(options.text("state"));
    Verify verify(oracle, options);
    verify.go();
    if (options.number("out-of-doubt", 0) != 0)
        verify.take_last_doubt(options.number("unmarked", 0) != 0);
    const std::uint64_t healed = options.number("heal", 0) != 0 ? verify.heal() : 0;
    save(oracle, options.text("state"));
    fmt::print(R"({{"bad_rows": {}, "healed": {}}})"
               "\n",
               verify.bad(), healed);
    return 0;
}

}  // namespace braid::torture
