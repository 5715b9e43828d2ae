// SPDX-License-Identifier: BSD-3-Clause
// Geometry: where each byte of the array lies on the members. Linux md's layouts, so that md reads
// what we wrote; the formulas are those of md's drivers/md/raid5.c, raid5_compute_sector().
// Stripes are cut into windows of at most 64 rows, the unit of locking and of one stripe job, so
// that a set of rows is 64 bits and a job's buffers are bounded.
#pragma once

#include <algorithm>
#include <cstdint>

#include "engine/base/limits.h"
#include "engine/base/result.h"
#include "engine/base/units.h"
#include "engine/layout/configuration.h"
#include "engine/layout/roles.h"
#include "engine/layout/rows.h"

namespace braid {

/// A byte of the array's data, by the data strip that it lies in.
struct StripPlace {
    StripeIndex stripe{};
    Role role{};
    std::uint64_t offset{0};  // bytes from the strip's begin
};

struct Geometry {
    Level level{Level::raid5};
    Layout layout{Layout::left_symmetric};
    std::uint32_t member_count{0};
    std::uint64_t strip_size{0};  // bytes
    std::uint64_t stripes{0};
    std::uint32_t window_rows{0};  // rows of one window; divides the rows of a strip

    static Geometry of(const Configuration& configuration);

    std::uint32_t parities() const { return parities_of(level); }
    std::uint32_t data_count() const { return member_count - parities(); }
    Role p() const { return Role{data_count()}; }
    Role q() const {
        BRAID_REQUIRE(level == Level::raid6);
        return Role{data_count() + 1};
    }
    RoleSet data_roles() const { return RoleSet::first(data_count()); }
    RoleSet parity_roles() const { return RoleSet::first(member_count) - data_roles(); }
    std::uint64_t stripe_data_size() const { return strip_size * data_count(); }
    std::uint64_t data_size() const { return stripes * stripe_data_size(); }
    std::uint64_t rows_per_strip() const { return strip_size / row_size; }
    std::uint32_t windows_per_stripe() const {
        return static_cast<std::uint32_t>(rows_per_strip() / window_rows);
    }
    std::uint64_t window_size() const { return window_rows * row_size; }  // bytes of one strip

    // Stripes, windows and rows along the members.
    WindowIndex window_end() const { return first_window(StripeIndex{stripes}); }
    WindowIndex first_window(StripeIndex stripe) const {
        return WindowIndex{raw(stripe) * windows_per_stripe()};
    }
    /// Of stripes [first, end), as far as the array has them; empty: it has none.
    WindowRange windows_of(StripeIndex first, StripeIndex end) const {
        end = std::min(end, StripeIndex{stripes});
        return {first_window(std::min(first, end)), first_window(end)};
    }
    StripeIndex stripe_of(WindowIndex window) const {
        return StripeIndex{raw(window) / windows_per_stripe()};
    }
    WindowIndex window_number(WindowPlace place) const {
        return first_window(place.stripe) + place.window;
    }
    WindowPlace window_place(WindowIndex window) const {
        return {stripe_of(window), static_cast<std::uint32_t>(raw(window) % windows_per_stripe())};
    }
    RowIndex first_row(StripeIndex stripe) const {
        return RowIndex{raw(stripe) * rows_per_strip()};
    }
    RowIndex first_row(WindowIndex window) const { return RowIndex{raw(window) * window_rows}; }
    StripeIndex stripe_of(RowIndex row) const { return StripeIndex{raw(row) / rows_per_strip()}; }
    WindowIndex window_of(RowIndex row) const { return WindowIndex{raw(row) / window_rows}; }
    RowIndex row_number(WindowPlace place, std::uint32_t row) const {
        return first_row(place.stripe) + place.window * window_rows + row;
    }

    /// The member that holds `role` in `stripe`, and the reverse.
    MemberIndex member_of(StripeIndex stripe, Role role) const;
    Role role_of(StripeIndex stripe, MemberIndex member) const;

    // In a member's data area: its strip of a stripe, a row of a window, a byte of the array; and the
    // row that a byte lies in.
    MemberOffset strip_offset(StripeIndex stripe) const { return {raw(stripe) * strip_size}; }
    MemberOffset row_offset(WindowPlace place, std::uint32_t row) const {
        return strip_offset(place.stripe) + (place.window * window_size() + row * row_size);
    }
    MemberOffset member_offset(StripPlace place) const {
        return strip_offset(place.stripe) + place.offset;
    }
    RowIndex row_of(MemberOffset at) const { return RowIndex{at.value / row_size}; }

    // The array's data, and back.
    StripeIndex stripe_of(ArrayOffset at) const {
        return StripeIndex{at.value / stripe_data_size()};
    }
    ArrayOffset stripe_begin(StripeIndex stripe) const {
        return {raw(stripe) * stripe_data_size()};
    }
    StripPlace place_of(ArrayOffset at) const {
        const StripeIndex stripe = stripe_of(at);
        const std::uint64_t in_stripe = at - stripe_begin(stripe);
        return {stripe, Role{static_cast<std::uint32_t>(in_stripe / strip_size)},
                in_stripe % strip_size};
    }
    ArrayOffset array_offset_of(StripPlace place) const {
        return stripe_begin(place.stripe) + (raw(place.role) * strip_size + place.offset);
    }
    /// From the begin of the stripe's data: where a data strip's rows of a window lie.
    std::uint64_t window_begin(Role role, std::uint32_t window) const {
        return raw(role) * strip_size + window * window_size();
    }
};

}  // namespace braid
