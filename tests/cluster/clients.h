// SPDX-License-Identifier: BSD-3-Clause
// What clients of several nodes write and read, and whether it fits: every sector is to look like
// one register.
#pragma once

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <set>
#include <string>
#include <vector>

#include "engine/base/buffer.h"
#include "engine/base/units.h"
#include "engine/io/task.h"
#include "engine/io_request.h"
#include "tests/cluster/register_history.h"
#include "tests/engine/fua.h"

namespace braid::sim {

/// @tparam Cluster  with geometry(), loop(), and ask(node, IoRequest), a Task<Result<void>>
template <class Cluster>
class Clients {
  public:
    /// @param initial  what every sector has; where all of it is written first, any other value
    explicit Clients(Cluster& cluster, std::uint64_t initial = 0) : cluster_(cluster) {
        histories_.assign(cluster.geometry().data_size() / sector_size,
                          test::RegisterHistory(initial));
    }
    std::uint64_t sectors() const { return histories_.size(); }
    /// Requests to volumes that another node had for itself.
    std::uint64_t refused() const { return refused_; }

    /// With a value that nobody else writes.
    Task<void> write(std::uint32_t node, std::uint64_t offset, std::uint64_t size,
                     Fua fua = Fua::no) {
        const std::uint64_t value = ++values_;
        Buffer data(size);
        for (std::uint64_t at = 0; at != size; at += sizeof value) {
            std::memcpy(data.data() + at, &value, sizeof value);
        }
        IoRequest request;
        request.kind = IoKind::write;
        request.fua = fua == Fua::yes;
        request.offset = {offset};
        request.size = size;
        request.data = data.data();
        const std::uint64_t begin = ++time_;
        const bool hangs = failing_.contains(node);
        if (hangs) note_written(offset, size, value, begin, test::RegisterHistory::never);
        const Result<void> written = co_await cluster_.ask(node, request);
        if (written) co_return note_written(offset, size, value, begin);
        if (written.error().code == Errc::reserved) {  // it did not begin
            ++refused_;
            co_return;
        }
        EXPECT_TRUE(may_fail(node))
            << "node " << node << ": " << written.error().text() << ", " << written.error().where;
        note_written(offset, size, value, begin, test::RegisterHistory::never);
    }
    /// From now on: what was not acknowledged may have happened.
    void let_fail(bool may = true) { may_fail_ = may; }
    /// The same, of this node's clients alone; and they may never be answered.
    void let_fail_at(std::uint32_t node) { failing_.insert(node); }
    void let_nothing_fail_at(std::uint32_t node) { failing_.erase(node); }
    /// Only where nothing has the value 0 before.
    Task<void> zero(std::uint32_t node, std::uint64_t offset, std::uint64_t size) {
        IoRequest request;
        request.kind = IoKind::zero;
        request.offset = {offset};
        request.size = size;
        const std::uint64_t begin = ++time_;
        EXPECT_TRUE(co_await cluster_.ask(node, request));
        note_written(offset, size, 0, begin);
    }
    Task<void> read(std::uint32_t node, std::uint64_t offset, std::uint64_t size) {
        Buffer data(size);
        IoRequest request;
        request.offset = {offset};
        request.size = size;
        request.data = data.data();
        const std::uint64_t begin = ++time_;
        const Result<void> done = co_await cluster_.ask(node, request);
        if (!done && done.error().code == Errc::reserved) {
            ++refused_;
            co_return;
        }
        if (!done) {
            EXPECT_TRUE(may_fail(node)) << "node " << node << ": " << done.error().text();
            co_return;
        }
        const std::uint64_t end = ++time_;
        for (std::uint64_t at = 0; at != size; at += sector_size) {
            std::array<std::uint64_t, sector_size / sizeof(std::uint64_t)> words{};
            std::memcpy(words.data(), data.data() + at, sector_size);
            const bool whole = std::ranges::count(words, words[0]) == std::ssize(words);
            torn_ += whole ? 0 : 1;
            histories_[(offset + at) / sector_size].read(words[0], begin, end);
        }
    }
    /// Reads all of it through each node, but for one, and looks at what was ever seen.
    void check(std::uint32_t nodes, std::uint32_t but_for = ~0U) {
        for (std::uint32_t node = 0; node != nodes; ++node) {
            if (node == but_for) continue;
            // Stripe by stripe: a request is within one volume.
            const std::uint64_t size = cluster_.geometry().stripe_data_size();
            for (std::uint64_t at = 0; at != cluster_.geometry().data_size(); at += size) {
                cluster_.loop().run_until_done(read(node, at, size));
            }
        }
        for (std::size_t i = 0; i != histories_.size(); ++i) {
            ASSERT_EQ(histories_[i].fault(), "") << "sector " << i;
        }
        ASSERT_EQ(torn_, 0u);
    }

    /// What was ever seen that cannot be. Empty: nothing.
    std::string fault() const {
        for (const test::RegisterHistory& history : histories_) {
            if (std::string fault = history.fault(); !fault.empty()) return fault;
        }
        return {};
    }

  private:
    bool may_fail(std::uint32_t node) const { return may_fail_ || failing_.contains(node); }
    void note_written(std::uint64_t offset, std::uint64_t size, std::uint64_t value,
                      std::uint64_t begin, std::uint64_t last = 0) {
        const std::uint64_t end = last == 0 ? ++time_ : last;
        for (std::uint64_t at = offset; at != offset + size; at += sector_size) {
            histories_[at / sector_size].write(value, begin, end);
        }
    }

    Cluster& cluster_;
    std::vector<test::RegisterHistory> histories_;  // of each sector
    std::uint64_t values_{0};
    std::uint64_t time_{0};
    bool may_fail_{false};
    std::set<std::uint32_t> failing_;
    std::uint64_t refused_{0};
    std::uint64_t torn_{0};  // sectors that were partly of one write and partly of another
};

}  // namespace braid::sim
