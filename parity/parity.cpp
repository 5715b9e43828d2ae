// SPDX-License-Identifier: BSD-3-Clause
// The public functions: they check their arguments, choose constants, and hand a job to a kernel.
#include "parity/parity.h"

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>

#include "parity/gf.h"
#include "parity/kernels.h"
#include "parity/require.h"

namespace braid::parity {
namespace {

/// `automatic` streams when one call moves at least this much: more than second-level caches hold,
/// so that its targets are on their way out before it ends. From there P and Q take 5 to 40 % less
/// time with sources in memory or in a large third-level cache (bench/parity, strips of 1 MiB). A
/// smaller call may well find its targets in the cache and be followed by somebody who reads them.
constexpr std::size_t streamed_bytes_min = std::size_t{4} << 20;

bool is_streamed(Store store, std::size_t strips, std::size_t size) {
    if (store == Store::automatic) return strips * size >= streamed_bytes_min;
    return store == Store::streamed;
}

bool is_aligned(const std::byte* target) {
    return reinterpret_cast<std::uintptr_t>(target) % alignment == 0;
}

void require_target(const std::byte* target, std::size_t size) {
    BRAID_REQUIRE(is_aligned(target));
    BRAID_REQUIRE(target != nullptr || size == 0);
}

void require_data(std::size_t count, std::size_t size) {
    BRAID_REQUIRE(count >= 1);
    BRAID_REQUIRE(count <= data_strips_max);
    BRAID_REQUIRE(size % alignment == 0);
}

void generate(const GenerateJob& job) {
    if (job.size == 0 || (job.p == nullptr && job.q == nullptr)) return;
    kernel().generate(job);
}

void compute(ByteSpan p, ByteSpan q, Sources data, Targets copies, std::size_t size, Store store) {
    require_data(data.size(), size);
    for (const std::byte* copy : copies) BRAID_REQUIRE(is_aligned(copy));
    const std::size_t strips = data.size() + copies.size() + 2;
    generate({.p = p.data(),
              .q = q.data(),
              .data = data,
              .copies = copies,
              .size = size,
              .streamed = is_streamed(store, strips, size)});
}

}  // namespace

void xor_into(ByteSpan target, Sources sources, Store store) { compute_p(target, sources, store); }

void compute_p(ByteSpan p, Sources data, Store store) {
    require_target(p.data(), p.size());
    compute(p, {}, data, {}, p.size(), store);
}

void compute_q(ByteSpan q, Sources data, Store store) {
    require_target(q.data(), q.size());
    compute({}, q, data, {}, q.size(), store);
}

void compute_pq(ByteSpan p, ByteSpan q, Sources data, Store store) {
    require_target(p.data(), p.size());
    require_target(q.data(), q.size());
    BRAID_REQUIRE(p.size() == q.size());
    compute(p, q, data, {}, p.size(), store);
}

void compute_p_copy(ByteSpan p, Sources sources, Targets destinations, Store store) {
    require_target(p.data(), p.size());
    BRAID_REQUIRE(destinations.size() == sources.size());
    compute(p, {}, sources, destinations, p.size(), store);
}

void compute_pq_copy(ByteSpan p, ByteSpan q, Sources sources, Targets destinations, Store store) {
    require_target(p.data(), p.size());
    require_target(q.data(), q.size());
    BRAID_REQUIRE(p.size() == q.size());
    BRAID_REQUIRE(destinations.size() == sources.size());
    compute(p, q, sources, destinations, p.size(), store);
}

namespace {

void update(const UpdateJob& job) {
    BRAID_REQUIRE(job.size % alignment == 0);
    if (job.size != 0) kernel().update(job);
}

}  // namespace

void update_p(ByteSpan p, const std::byte* old_data, const std::byte* new_data) {
    require_target(p.data(), p.size());
    update({.p = p.data(), .old_data = old_data, .new_data = new_data, .size = p.size()});
}

void update_q(ByteSpan q, std::size_t index, const std::byte* old_data, const std::byte* new_data) {
    require_target(q.data(), q.size());
    BRAID_REQUIRE(index < data_strips_max);
    update({.q = q.data(),
            .factor = gf::exp(index),
            .old_data = old_data,
            .new_data = new_data,
            .size = q.size()});
}

void update_pq(ByteSpan p, ByteSpan q, std::size_t index, const std::byte* old_data,
               const std::byte* new_data) {
    require_target(p.data(), p.size());
    require_target(q.data(), q.size());
    BRAID_REQUIRE(p.size() == q.size());
    BRAID_REQUIRE(index < data_strips_max);
    update({.p = p.data(),
            .q = q.data(),
            .factor = gf::exp(index),
            .old_data = old_data,
            .new_data = new_data,
            .size = p.size()});
}

// --- recovery ------------------------------------------------------------------------------------

namespace {

/// The data strips as sources, the lost ones being nullptr, and room for P behind them.
struct Survivors {
    std::array<const std::byte*, data_strips_max + 1> strips;
    std::size_t count;
    Sources sources() const { return {strips.data(), count}; }
};

Survivors survivors_of(const Strips& strips, const Lost& lost) {
    Survivors left;  // NOLINT(cppcoreguidelines-pro-type-member-init): 2 KiB, filled as needed
    left.count = strips.data.size();
    std::copy(strips.data.begin(), strips.data.end(), left.strips.begin());
    if (lost.first) left.strips[*lost.first] = nullptr;
    if (lost.second) left.strips[*lost.second] = nullptr;
    return left;
}

void require_lost(const Strips& strips, const Lost& lost) {
    require_data(strips.data.size(), strips.size);
    const int count =
        int{lost.first.has_value()} + int{lost.second.has_value()} + int{lost.p} + int{lost.q};
    BRAID_REQUIRE(count >= 1);
    BRAID_REQUIRE(count <= 2);
    BRAID_REQUIRE(lost.first || !lost.second);
    BRAID_REQUIRE(!lost.first || *lost.first < strips.data.size());
    BRAID_REQUIRE(!lost.second || *lost.second < strips.data.size());
    BRAID_REQUIRE(!lost.second || *lost.second != *lost.first);
    BRAID_REQUIRE(!lost.first || is_aligned(strips.data[*lost.first]));
    BRAID_REQUIRE(!lost.second || is_aligned(strips.data[*lost.second]));
    BRAID_REQUIRE(!lost.p || is_aligned(strips.p));
    BRAID_REQUIRE(!lost.q || is_aligned(strips.q));
    const bool needs_q = lost.first && (lost.second || lost.p);
    BRAID_REQUIRE(!needs_q || strips.q != nullptr);
    BRAID_REQUIRE(!lost.first || lost.p || strips.p != nullptr);
}

/// Two data strips x and y. With p* = P ^ P' and q* = Q ^ Q' (P', Q': of the survivors), which are
/// Dx ^ Dy and 2^x·Dx ^ 2^y·Dy:
///   Dx = (2^y·p* ^ q*) / (2^x ^ 2^y)     Dy = p* ^ Dx
/// @source Anvin, "The mathematics of RAID-6", section 4
RecoverJob data_and_data(const Strips& strips, std::size_t x, std::size_t y) {
    const auto both = static_cast<std::uint8_t>(gf::exp(x) ^ gf::exp(y));
    return {.first = strips.data[x],
            .second = strips.data[y],
            .p = strips.p,
            .q = strips.q,
            .from_p = gf::div(gf::exp(y), both),
            .from_q = gf::inverse(both)};
}

/// Dx = q* / 2^x     P = P' ^ Dx
RecoverJob data_and_p(const Strips& strips, std::size_t x) {
    return {.first = strips.data[x],
            .second = strips.p,
            .q = strips.q,
            .from_q = gf::inverse(gf::exp(x))};
}

/// Dx = p*     Q = Q' ^ 2^x·Dx
RecoverJob data_and_q(const Strips& strips, std::size_t x) {
    return {.first = strips.q,
            .second = strips.data[x],
            .p = strips.p,
            .from_p = gf::exp(x),
            .from_q = 1,
            .second_adds_first = false};
}

void recover_with(RecoverJob job, const Survivors& survivors, std::size_t size, bool streamed) {
    if (size == 0 || (job.first == nullptr && job.second == nullptr)) return;
    job.data = survivors.sources();
    job.size = size;
    job.streamed = streamed;
    kernel().recover(job);
}

}  // namespace

void recover(const Strips& strips, const Lost& lost, Store store) {
    require_lost(strips, lost);
    const bool streamed = is_streamed(store, strips.data.size() + 2, strips.size);
    Survivors survivors = survivors_of(strips, lost);
    if (lost.second) {
        const RecoverJob job = data_and_data(strips, *lost.first, *lost.second);
        recover_with(job, survivors, strips.size, streamed);
    } else if (lost.first && lost.p) {
        recover_with(data_and_p(strips, *lost.first), survivors, strips.size, streamed);
    } else if (lost.first && lost.q && strips.q != nullptr) {
        recover_with(data_and_q(strips, *lost.first), survivors, strips.size, streamed);
    } else if (lost.first) {
        survivors.strips[survivors.count++] = strips.p;
        generate({.p = strips.data[*lost.first],
                  .data = survivors.sources(),
                  .size = strips.size,
                  .streamed = streamed});
    } else {
        generate({.p = lost.p ? strips.p : nullptr,
                  .q = lost.q ? strips.q : nullptr,
                  .data = survivors.sources(),
                  .size = strips.size,
                  .streamed = streamed});
    }
}

// --- comparison ----------------------------------------------------------------------------------

namespace {

constexpr std::size_t compared_size = 4096;  // one row: P and Q of it stay in the first-level cache

/// P and Q, computed again a piece at a time. The first call of next() gives the first piece.
class Recomputed {
  public:
    // NOLINTNEXTLINE(cppcoreguidelines-pro-type-member-init): 10 KiB, written before they are read
    Recomputed(Sources data, std::size_t size, bool with_q)
        : count_{data.size()}, size_{size}, with_q_{with_q} {
        require_data(data.size(), size);
        std::copy(data.begin(), data.end(), data_.begin());
    }

    bool next() {
        at_ += piece_;
        piece_ = std::min(compared_size, size_ - at_);
        if (piece_ == 0) return false;
        generate({.p = p_.data(),
                  .q = with_q_ ? q_.data() : nullptr,
                  .data = {data_.data(), count_},
                  .size = piece_});
        for (std::size_t i = 0; i != count_; ++i) {
            if (data_[i] != nullptr) data_[i] += piece_;
        }
        return true;
    }

    bool matches_p(ByteView p) const { return std::memcmp(p_.data(), p.data() + at_, piece_) == 0; }
    bool matches_q(ByteView q) const { return std::memcmp(q_.data(), q.data() + at_, piece_) == 0; }
    std::size_t at() const { return at_; }
    std::size_t piece() const { return piece_; }
    const std::byte* p() const { return p_.data(); }
    const std::byte* q() const { return q_.data(); }

  private:
    std::array<const std::byte*, data_strips_max> data_;
    std::size_t count_;
    std::size_t size_;
    bool with_q_;
    std::size_t at_ = 0;
    std::size_t piece_ = 0;
    alignas(alignment) std::array<std::byte, compared_size> p_;
    alignas(alignment) std::array<std::byte, compared_size> q_;
};

/// What one byte accuses, from the differences of its P and Q.
Located accused(std::uint8_t p, std::uint8_t q, std::size_t count) {
    using What = Located::What;
    if (p == 0 && q == 0) return {};
    if (q == 0) return {What::p};
    if (p == 0) return {What::q};
    const std::size_t index = gf::log(gf::div(q, p));
    return index < count ? Located{What::data, index} : Located{What::several};
}

std::uint8_t difference(std::byte a, std::byte b) { return std::to_integer<std::uint8_t>(a ^ b); }

}  // namespace

bool matches_p(ByteView p, Sources data) {
    Recomputed right(data, p.size(), false);
    while (right.next()) {
        if (!right.matches_p(p)) return false;
    }
    return true;
}

bool matches_pq(ByteView p, ByteView q, Sources data) {
    BRAID_REQUIRE(p.size() == q.size());
    Recomputed right(data, p.size(), true);
    while (right.next()) {
        if (!right.matches_p(p) || !right.matches_q(q)) return false;
    }
    return true;
}

Located locate(ByteView p, ByteView q, Sources data) {
    BRAID_REQUIRE(p.size() == q.size());
    Recomputed right(data, p.size(), true);
    Located found;
    while (right.next()) {
        if (right.matches_p(p) && right.matches_q(q)) continue;
        for (std::size_t n = 0; n != right.piece(); ++n) {
            const std::uint8_t p_differs = difference(right.p()[n], p[right.at() + n]);
            const std::uint8_t q_differs = difference(right.q()[n], q[right.at() + n]);
            const Located here = accused(p_differs, q_differs, data.size());
            if (here == Located{}) continue;
            if (found == Located{}) found = here;
            if (found != here) return {Located::What::several};
        }
    }
    return found;
}

}  // namespace braid::parity
