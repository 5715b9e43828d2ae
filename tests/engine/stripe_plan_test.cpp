// SPDX-License-Identifier: BSD-3-Clause
// Every plan is carried out on a few bytes: it must read nothing that is gone, leave every data
// strip as it should be and parity true, read no more than the cheapest way does, and be refused
// exactly where no way is left. The arithmetic here is the test's own.
#include "engine/stripes/stripe_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <array>
#include <optional>
#include <vector>

#include "engine/base/rng.h"

namespace braid {
namespace {

using Byte = std::uint8_t;
constexpr std::size_t width = 4;  // bytes of a row, here
using Row = std::array<Byte, width>;

Byte times(Byte a, Byte b) {  // GF(2^8) modulo 0x11d, by hand
    unsigned product = 0;
    for (unsigned bit = 0; bit != 8; ++bit) {
        if (((b >> bit) & 1) != 0) product ^= unsigned{a} << bit;
    }
    for (unsigned bit = 15; bit != 7; --bit) {
        if (((product >> bit) & 1) != 0) product ^= 0x11dU << (bit - 8);
    }
    return static_cast<Byte>(product);
}
Byte power_of_two(std::uint32_t exponent) {
    static const auto table = [] {
        std::array<Byte, 255> powers{};
        Byte value = 1;
        for (Byte& power : powers) power = std::exchange(value, times(value, 2));
        return powers;
    }();
    return table[exponent % 255];
}
Byte inverse(Byte a) {
    for (unsigned b = 1; b != 256; ++b) {
        if (times(a, static_cast<Byte>(b)) == 1) return static_cast<Byte>(b);
    }
    return 0;
}
void add(Row& to, const Row& from, Byte factor = 1) {
    for (std::size_t i = 0; i != width; ++i) {
        to[i] = static_cast<Byte>(to[i] ^ (factor == 1 ? from[i] : times(from[i], factor)));
    }
}

/// P (which = 0) or Q (1) of data rows.
Row parity_of(const std::vector<Row>& data, std::uint32_t k, std::uint32_t which) {
    Row sum{};
    for (std::uint32_t i = 0; i != k; ++i)
        add(sum, data[i], which == 0 ? Byte{1} : power_of_two(i));
    return sum;
}

/// What somebody knows who has read some strips; computes others from P and Q.
struct Known {
    std::uint32_t k;
    std::vector<std::optional<Row>> rows;

    bool recover(RoleSet wanted) {
        std::vector<std::uint32_t> lost;
        for (std::uint32_t i = 0; i != k; ++i) {
            if (!rows[i]) lost.push_back(i);
        }
        for (const Role role : wanted) {
            if (std::ranges::find(lost, raw(role)) == lost.end()) return false;
        }
        std::vector<std::pair<std::uint32_t, Row>> sums;  // of the lost ones, by which parity
        for (std::uint32_t which = 0; k + which < rows.size(); ++which) {
            if (!rows[k + which]) continue;
            Row sum = *rows[k + which];
            for (std::uint32_t i = 0; i != k; ++i) {
                if (rows[i]) add(sum, *rows[i], which == 0 ? Byte{1} : power_of_two(i));
            }
            sums.emplace_back(which, sum);
        }
        if (lost.size() > sums.size()) return false;
        if (lost.size() == 1) {
            Row row{};
            const Byte factor = sums[0].first == 0 ? Byte{1} : power_of_two(lost[0]);
            add(row, sums[0].second, inverse(factor));
            rows[lost[0]] = row;
        } else if (lost.size() == 2) {  // x + y = p, ax + by = q
            const Byte a = power_of_two(lost[0]);
            const Byte b = power_of_two(lost[1]);
            Row y = sums[1].second;
            add(y, sums[0].second, a);
            Row solved{};
            add(solved, y, inverse(static_cast<Byte>(a ^ b)));
            rows[lost[1]] = solved;
            add(solved, sums[0].second);
            rows[lost[0]] = solved;
        }
        return lost.size() <= 2;
    }
};

Row random_row(Rng& rng) {
    Row row;
    for (Byte& byte : row) byte = static_cast<Byte>(rng.next());
    return row;
}
/// A row that is covered in part: its second half is new.
Row merged(const Row& before, const Row& after) {
    Row row = before;
    std::copy(after.begin() + width / 2, after.end(), row.begin() + width / 2);
    return row;
}

struct Case {
    StripeState state;
    RoleSet covered;
    RoleSet partial;

    RoleSet data() const { return RoleSet::first(state.data_count); }
    RoleSet all() const { return RoleSet::first(state.data_count + state.parities); }
    RoleSet parity() const { return all() - data(); }
    RoleSet gone() const { return state.lost | state.unreadable; }
    RoleSet live_parity() const { return parity() - state.lost; }
};
std::string text_of(const Case& c) {
    return "k=" + std::to_string(c.state.data_count) +
           " parities=" + std::to_string(c.state.parities) +
           " lost=" + std::to_string(c.state.lost.bits()) +
           " unreadable=" + std::to_string(c.state.unreadable.bits()) +
           " parity_true=" + std::to_string(c.state.parity_true) +
           " voided=" + std::to_string(c.state.voided.bits()) +
           " covered=" + std::to_string(c.covered.bits()) +
           " partial=" + std::to_string(c.partial.bits());
}

/// Reads of the way by which all old data is known, if there is one.
std::optional<std::uint32_t> recovery_reads(const Case& c) {
    const std::uint32_t unknown = (c.data() & c.gone()).size();
    const bool possible =
        unknown <= (c.parity() - c.gone()).size() && (unknown == 0 || c.state.parity_true);
    if (!possible) return std::nullopt;
    return (c.data() - c.gone()).size() + unknown;
}

/// Reads of the cheapest way to write, if there is one.
std::optional<std::uint32_t> write_reads(const Case& c) {
    std::optional<std::uint32_t> least;
    const auto offer = [&](std::uint32_t reads) { least = std::min(least.value_or(reads), reads); };
    const RoleSet needed = (c.live_parity().empty() ? RoleSet{} : c.data() - c.covered) | c.partial;
    const RoleSet to_mend = (c.state.unreadable & c.data()) - c.covered;
    // Nothing is there, but where it is covered in part nobody knows what to keep.
    const RoleSet zero = c.state.parity_true ? RoleSet{} : (needed - c.partial) & c.state.voided;
    const RoleSet read = needed - zero;
    if ((read & c.gone()).empty() && to_mend.empty()) offer(read.size());
    // Old parity and data; a strip that cannot be read is mended by the other ways only.
    if (c.state.parity_true && c.state.unreadable.empty() && !c.live_parity().empty() &&
        (c.covered & c.gone()).empty()) {
        offer((c.covered | c.live_parity()).size());
    }
    if (const auto reads = recovery_reads(c)) offer(*reads);
    return least;
}

class Model {
  public:
    Model(const Case& the_case, Rng& rng) : c_(the_case), k_(c_.state.data_count) {
        for (std::uint32_t i = 0; i != k_; ++i) {
            old_.push_back(c_.state.voided.has(Role{i}) ? Row{} : random_row(rng));
        }
        for (std::uint32_t which = 0; which != c_.state.parities; ++which) {
            old_.push_back(c_.state.parity_true ? parity_of(old_, k_, which) : random_row(rng));
        }
        for (std::uint32_t i = 0; i != k_; ++i) fresh_.push_back(random_row(rng));
        known_.k = k_;
        known_.rows.resize(old_.size());
    }
    testing::AssertionResult read(const StripePlan& plan) {
        if (!(plan.read & c_.gone()).empty()) return fail("reads what is gone");
        if (!c_.state.voided.has_all(plan.zero)) return fail("takes for zeros what is not void");
        for (const Role role : plan.read | plan.zero) known_.rows[raw(role)] = old_[raw(role)];
        if (!plan.recover.empty() && !known_.recover(plan.recover)) return fail("cannot recover");
        for (std::uint32_t i = 0; i != k_; ++i) {
            if (known_.rows[i] && *known_.rows[i] != old_[i])
                return fail("recovers something else");
        }
        return testing::AssertionSuccess();
    }
    testing::AssertionResult knows(RoleSet roles) const {
        for (const Role role : roles) {
            if (!known_.rows[raw(role)]) return fail("lacks a strip");
        }
        return testing::AssertionSuccess();
    }
    testing::AssertionResult write(const StripePlan& plan) {
        if (!(plan.write & c_.state.lost).empty()) return fail("writes to a lost member");
        const RoleSet needed =
            (c_.covered - c_.state.lost) | c_.live_parity() | c_.state.unreadable;
        if (plan.write != needed) return fail("writes too much or too little");
        if (auto known = knows(c_.partial); !known) return known;
        std::vector<Row> now = old_;
        for (const Role role : c_.covered) {
            const std::uint32_t i = raw(role);
            now[i] = c_.partial.has(role) ? merged(*known_.rows[i], fresh_[i]) : fresh_[i];
        }
        if (!c_.live_parity().empty()) {
            if (auto known = new_parity(plan, now); !known) return known;
        }
        for (const Role role : (plan.write & c_.data()) - c_.covered) {
            if (!known_.rows[raw(role)]) return fail("rewrites what it does not know");
        }
        // `now` is what the data is; on the members: only what the plan wrote.
        for (const Role role : c_.all() - c_.state.lost) {
            const std::uint32_t i = raw(role);
            const bool same = now[i] == old_[i];
            if (!plan.write.has(role) && !same) return fail("leaves an old strip");
        }
        for (const Role role : c_.live_parity()) {
            if (now[raw(role)] != parity_of(now, k_, raw(role) - k_))
                return fail("parity is wrong");
        }
        return testing::AssertionSuccess();
    }

  private:
    static testing::AssertionResult fail(const char* what) {
        return testing::AssertionFailure() << what;
    }
    testing::AssertionResult new_parity(const StripePlan& plan, std::vector<Row>& now) {
        const RoleSet live = c_.live_parity();
        if (plan.method == PlanMethod::rmw) {
            if (auto known = knows(c_.covered | live); !known) return known;
            for (const Role role : live) {
                Row row = *known_.rows[raw(role)];
                for (const Role data : c_.covered) {
                    const std::uint32_t i = raw(data);
                    const Byte factor = raw(role) == k_ ? Byte{1} : power_of_two(i);
                    add(row, *known_.rows[i], factor);
                    add(row, now[i], factor);
                }
                now[raw(role)] = row;
            }
            return testing::AssertionSuccess();
        }
        if (plan.method == PlanMethod::plain) return fail("plain, with parity left");
        if (plan.method == PlanMethod::full_stripe && !plan.read.empty()) {
            return fail("full stripe, with reads");
        }
        if (auto known = knows(c_.data() - c_.covered); !known) return known;
        for (const Role role : live) now[raw(role)] = parity_of(now, k_, raw(role) - k_);
        return testing::AssertionSuccess();
    }

    Case c_;
    std::uint32_t k_;
    std::vector<Row> old_;    // by role
    std::vector<Row> fresh_;  // by data strip
    Known known_;
};

testing::AssertionResult write_is_right(const Case& c, Rng& rng) {
    const auto least = write_reads(c);
    const auto plan = plan_write(c.state, c.covered, c.partial);
    const auto fail = [&] { return testing::AssertionFailure() << text_of(c) << ": "; };
    if (plan.has_value() != least.has_value()) return fail() << "possible " << least.has_value();
    if (!plan) {
        const bool known = (c.data() & c.gone()).size() <= (c.parity() - c.gone()).size();
        if (plan.error().code == (known ? Errc::doubt : Errc::failed)) {
            return testing::AssertionSuccess();
        }
        return fail() << "another error";
    }
    if (plan->read.size() != *least) return fail() << plan->read.size() << " reads, not " << *least;
    Model model(c, rng);
    if (auto read = model.read(*plan); !read) return fail() << read.message();
    if (auto written = model.write(*plan); !written) return fail() << written.message();
    return testing::AssertionSuccess();
}

/// Reading `c.covered`.
testing::AssertionResult read_is_right(const Case& c, Rng& rng) {
    const bool plain = (c.covered & c.gone()).empty() && (c.state.unreadable & c.data()).empty();
    const auto least = plain ? std::optional{c.covered.size()} : recovery_reads(c);
    const auto plan = plan_read(c.state, c.covered);
    const auto fail = [&] { return testing::AssertionFailure() << text_of(c) << ": "; };
    if (plan.has_value() != least.has_value()) return fail() << "possible " << least.has_value();
    if (!plan) return testing::AssertionSuccess();
    if (plan->read.size() != *least) return fail() << plan->read.size() << " reads, not " << *least;
    if (plan->write != (c.state.unreadable & c.data())) return fail() << "rewrites others";
    Model model(c, rng);
    if (auto read = model.read(*plan); !read) return fail() << read.message();
    if (auto known = model.knows(c.covered | plan->write); !known) return fail() << known.message();
    return testing::AssertionSuccess();
}

/// Calls visit(set) for every set of at most `most` of `count` roles.
template <class Visit>
void for_each_set(std::uint32_t count, std::uint32_t most, Visit visit) {
    for (std::uint64_t bits = 0; bits >> count == 0; ++bits) {
        if (static_cast<std::uint32_t>(std::popcount(bits)) <= most) visit(RoleSet{bits});
    }
}
template <class Visit>
void for_each_state(std::uint32_t k, std::uint32_t parities, Visit visit) {
    for_each_set(k + parities, parities + 1, [&](RoleSet lost) {
        for_each_set(k + parities, 2, [&](RoleSet unreadable) {
            if (!(lost & unreadable).empty()) return;
            const RoleSet lost_data = lost & RoleSet::first(k);
            for (const bool parity_true : {true, false}) {
                visit(StripeState{k, parities, lost, unreadable, parity_true, {}, {}});
                if (lost_data.empty()) continue;
                const RoleSet one = RoleSet::of(*lost_data.begin());
                visit(StripeState{k, parities, lost, unreadable, parity_true, {}, one});
                if (lost_data.size() == 1) continue;
                visit(StripeState{k, parities, lost, unreadable, parity_true, {}, lost_data});
            }
        });
    });
}

TEST(StripePlan, EveryWriteIsRightAndAsCheapAsItCanBe) {
    Rng rng(1);
    for (std::uint32_t parities = 1; parities != 3; ++parities) {
        for (std::uint32_t k = 2; k != 7; ++k) {
            for_each_state(k, parities, [&](const StripeState& state) {
                for (std::uint64_t covered = 1; covered >> k == 0; ++covered) {
                    // All sets of partly covered strips; of wide stripes some.
                    for (std::uint64_t partial = covered;; partial = (partial - 1) & covered) {
                        const bool some =
                            partial == 0 || partial == covered || std::has_single_bit(partial);
                        if (k <= 4 || some) {
                            const Case c{state, RoleSet{covered}, RoleSet{partial}};
                            ASSERT_TRUE(write_is_right(c, rng));
                        }
                        if (partial == 0) break;
                    }
                }
            });
        }
    }
}

TEST(StripePlan, EveryReadIsRightAndAsCheapAsItCanBe) {
    Rng rng(2);
    for (std::uint32_t parities = 1; parities != 3; ++parities) {
        for (std::uint32_t k = 2; k != 7; ++k) {
            for_each_state(k, parities, [&](const StripeState& state) {
                for (std::uint64_t wanted = 1; wanted >> k == 0; ++wanted) {
                    ASSERT_TRUE(read_is_right({state, RoleSet{wanted}, {}}, rng));
                }
            });
        }
    }
}

TEST(StripePlan, TheWidestStripesAreNoDifferent) {
    Rng rng(3);
    const auto draw = [&](std::uint32_t count, std::uint64_t most) {
        RoleSet set;
        for (std::uint64_t i = rng.below(most + 1); i != 0; --i) {
            set |= RoleSet::of(Role{static_cast<std::uint32_t>(rng.below(count))});
        }
        return set;
    };
    for (int i = 0; i != 20'000; ++i) {
        const auto parities = static_cast<std::uint32_t>(1 + rng.below(2));
        const std::uint32_t k = members_max - parities;
        Case c;
        c.state = {k, parities, draw(members_max, 3), {}, !rng.chance(4), {}, {}};
        c.state.unreadable = draw(members_max, 2) - c.state.lost;
        c.covered = draw(k, rng.chance(2) ? 3 : 200) | RoleSet::of(Role{0});
        c.partial = c.covered & draw(k, 3);
        ASSERT_TRUE(write_is_right(c, rng));
        ASSERT_TRUE(read_is_right(c, rng));
    }
}

TEST(StripePlan, NamesTheMethodsAsTheBooksDo) {
    const StripeState whole{4, 1, {}, {}, true, {}, {}};
    EXPECT_EQ(plan_write(whole, RoleSet::first(4), {})->method, PlanMethod::full_stripe);
    EXPECT_EQ(plan_write(whole, RoleSet::first(1), {})->method, PlanMethod::rmw);
    EXPECT_EQ(plan_write(whole, RoleSet::first(3), {})->method, PlanMethod::rcw);
    const StripeState in_doubt{4, 1, {}, {}, false, {}, {}};
    EXPECT_EQ(plan_write(in_doubt, RoleSet::first(1), {})->method, PlanMethod::rcw);
    const StripeState degraded{4, 1, RoleSet::of(Role{0}), {}, true, {}, {}};
    EXPECT_EQ(plan_write(degraded, RoleSet::of(Role{0}), {})->method, PlanMethod::rcw);
    EXPECT_EQ(plan_write(degraded, RoleSet::first(1), RoleSet::first(1))->method,
              PlanMethod::recover_rcw);
    const StripeState no_parity{4, 1, RoleSet::of(Role{4}), {}, true, {}, {}};
    EXPECT_EQ(plan_write(no_parity, RoleSet::first(1), {})->read.size(), 0U);
}

}  // namespace
}  // namespace braid
