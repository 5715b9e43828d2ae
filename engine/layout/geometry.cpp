// SPDX-License-Identifier: BSD-3-Clause
#include "engine/layout/geometry.h"

#include <algorithm>

namespace braid {
namespace {

bool is_left(Layout layout) {
    return layout == Layout::left_asymmetric || layout == Layout::left_symmetric;
}
bool is_symmetric(Layout layout) {
    return layout == Layout::left_symmetric || layout == Layout::right_symmetric;
}

std::uint32_t p_member(const Geometry& geometry, StripeIndex stripe) {
    const std::uint32_t n = geometry.member_count;
    const auto turn = static_cast<std::uint32_t>(raw(stripe) % n);
    if (geometry.level == Level::raid4) return n - 1;
    return is_left(geometry.layout) ? n - 1 - turn : turn;
}

/// Rows of a window so that old and new strips, P and Q of it fit into one job's buffers.
std::uint32_t window_rows_of(std::uint64_t strip_size, std::uint32_t member_count) {
    const std::uint64_t buffers = 2 * member_count + 2;
    auto rows =
        static_cast<std::uint32_t>(std::min<std::uint64_t>(strip_size / row_size, window_rows_max));
    while (rows > 1 && buffers * rows * row_size > job_size_max) rows /= 2;
    return rows;
}

}  // namespace

Geometry Geometry::of(const Configuration& configuration) {
    Geometry geometry;
    geometry.level = configuration.level;
    geometry.layout = configuration.layout;
    geometry.member_count = configuration.member_count;
    geometry.strip_size = configuration.strip_size;
    geometry.stripes = configuration.stripes;
    geometry.window_rows = window_rows_of(configuration.strip_size, configuration.member_count);
    return geometry;
}

MemberIndex Geometry::member_of(StripeIndex stripe, Role role) const {
    const std::uint32_t n = member_count;
    const std::uint32_t i = raw(role);
    BRAID_REQUIRE(i < n);
    const std::uint32_t p_at = p_member(*this, stripe);
    if (i == data_count()) return MemberIndex{p_at};
    if (level == Level::raid4) return MemberIndex{i};
    if (level == Level::raid6) {  // left-symmetric: P, then Q, then the data
        return MemberIndex{(p_at + (i == data_count() + 1 ? 1 : 2 + i)) % n};
    }
    if (is_symmetric(layout)) return MemberIndex{(p_at + 1 + i) % n};
    return MemberIndex{i < p_at ? i : i + 1};
}

Role Geometry::role_of(StripeIndex stripe, MemberIndex member) const {
    const std::uint32_t n = member_count;
    const std::uint32_t m = raw(member);
    BRAID_REQUIRE(m < n);
    const std::uint32_t p_at = p_member(*this, stripe);
    if (m == p_at) return p();
    if (level == Level::raid4) return Role{m};
    const std::uint32_t after_p = (m + n - p_at) % n - 1;  // 0 for the member after P
    if (level == Level::raid6) return after_p == 0 ? q() : Role{after_p - 1};
    if (is_symmetric(layout)) return Role{after_p};
    return Role{m < p_at ? m : m - 1};
}

}  // namespace braid
