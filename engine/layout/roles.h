// SPDX-License-Identifier: BSD-3-Clause
// What a strip is in its stripe: data strip 0 … k-1, then P, then Q. A set of roles is 64 bits.
#pragma once

#include <bit>
#include <cstdint>

#include "engine/base/limits.h"
#include "parity/require.h"

namespace braid {

enum class Role : std::uint32_t {};  // data strip i is Role i; P is Role k; Q is Role k+1
constexpr std::uint32_t raw(Role role) { return static_cast<std::uint32_t>(role); }

class RoleSet {
  public:
    constexpr RoleSet() = default;
    constexpr explicit RoleSet(std::uint64_t bits) : bits_(bits) {}
    static constexpr RoleSet of(Role role) { return RoleSet{std::uint64_t{1} << raw(role)}; }
    static constexpr RoleSet first(std::uint32_t count) {
        BRAID_REQUIRE(count <= members_max);
        return RoleSet{count == 64 ? ~std::uint64_t{0} : (std::uint64_t{1} << count) - 1};
    }

    constexpr bool has(Role role) const { return ((bits_ >> raw(role)) & 1) != 0; }
    constexpr bool empty() const { return bits_ == 0; }
    constexpr std::uint32_t size() const {
        return static_cast<std::uint32_t>(std::popcount(bits_));
    }
    constexpr std::uint64_t bits() const { return bits_; }
    constexpr bool has_all(RoleSet other) const { return (other.bits_ & ~bits_) == 0; }

    constexpr RoleSet operator|(RoleSet other) const { return RoleSet{bits_ | other.bits_}; }
    constexpr RoleSet operator&(RoleSet other) const { return RoleSet{bits_ & other.bits_}; }
    constexpr RoleSet operator-(RoleSet other) const { return RoleSet{bits_ & ~other.bits_}; }
    constexpr RoleSet& operator|=(RoleSet other) { return *this = *this | other; }
    constexpr bool operator==(const RoleSet&) const = default;

    /// `for (Role role : set)`, lowest first.
    struct Iterator {
        std::uint64_t rest;
        constexpr Role operator*() const {
            return Role{static_cast<std::uint32_t>(std::countr_zero(rest))};
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

}  // namespace braid
