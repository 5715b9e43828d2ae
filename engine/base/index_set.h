// SPDX-License-Identifier: BSD-3-Clause
// IndexSet: a set of members, or of roles, as 64 bits. The two are never mixed: the member with
// index 2 has another role in each stripe.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/base/limits.h"
#include "engine/base/units.h"
#include "parity/require.h"

namespace braid {

/// @tparam Index  an enum class below 64, with raw()
template <class Index>
class IndexSet {
  public:
    constexpr IndexSet() = default;
    constexpr explicit IndexSet(std::uint64_t bits) : bits_(bits) {}
    static constexpr IndexSet of(Index index) { return IndexSet{std::uint64_t{1} << raw(index)}; }
    static constexpr IndexSet first(std::uint32_t count) {
        BRAID_REQUIRE(count <= members_max);
        return IndexSet{count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1};
    }

    constexpr bool has(Index index) const { return ((bits_ >> raw(index)) & 1) != 0; }
    constexpr void add(Index index) { *this |= of(index); }
    constexpr void remove(Index index) { *this = *this - of(index); }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr std::uint32_t size() const {
        return static_cast<std::uint32_t>(std::popcount(bits_));
    }
    constexpr std::uint64_t bits() const { return bits_; }
    constexpr bool has_all(IndexSet other) const { return (other.bits_ & ~bits_) == 0; }

    constexpr IndexSet operator|(IndexSet other) const { return IndexSet{bits_ | other.bits_}; }
    constexpr IndexSet operator&(IndexSet other) const { return IndexSet{bits_ & other.bits_}; }
    constexpr IndexSet operator-(IndexSet other) const { return IndexSet{bits_ & ~other.bits_}; }
    constexpr IndexSet& operator|=(IndexSet other) { return *this = *this | other; }
    constexpr bool operator==(const IndexSet&) const = default;

    /// `for (Role role : set)`, lowest first.
    struct Iterator {
        std::uint64_t rest;
        constexpr Index operator*() const {
            return Index{static_cast<std::uint32_t>(std::countr_zero(rest))};
        }
        constexpr Iterator& operator++() {
            rest &= rest - 1;
            return *this;
        }
        constexpr bool operator!=(const Iterator& other) const { return rest != other.rest; }
    };
    constexpr Iterator begin() const { return {bits_}; }
    constexpr Iterator end() const { return {0}; }

  private:
    std::uint64_t bits_{0};
};

using MemberSet = IndexSet<MemberIndex>;

}  // namespace braid
