// SPDX-License-Identifier: BSD-3-Clause
#include "cluster/homes/row_book.h"

#include <algorithm>

#include "engine/base/limits.h"
#include "engine/base/mutation.h"
#include "parity/require.h"

namespace braid::cluster {

void RowBook::drop_if_empty(Windows::iterator at) {
    if (at->second.empty()) windows_.erase(at);
}

// ---- locks -------------------------------------------------------------------------------------

/// No earlier claim stands in its way, whether that one holds its rows or waits: else one that came
/// later could go past for ever.
bool RowBook::may_hold(const Window& window, std::size_t claim) {
    const Claim& wanted = window.claims[claim];
    for (std::size_t i = 0; i != claim; ++i) {
        const Claim& before = window.claims[i];
        if ((before.rows & wanted.rows) == 0) continue;
        if (before.mode == LockMode::exclusive || wanted.mode == LockMode::exclusive) return false;
    }
    return true;
}

bool RowBook::has_room_for(CommandId claim) const {
    const auto count = claim_counts_.find(claim.from);
    return count == claim_counts_.end() || count->second < book_claims_max ||
           claims_.contains(claim);
}

bool RowBook::lock(CommandId claim, WindowRows at, LockMode mode) {
    BRAID_REQUIRE(at.rows != 0 && has_room_for(claim));
    if (claims_.contains(claim)) return holds(claim);
    claims_.emplace(claim, at.window);
    ++claim_counts_[claim.from];
    Window& window = windows_[at.window];
    window.claims.push_back({.id = claim, .rows = at.rows, .mode = mode});
    Claim& added = window.claims.back();
    added.held = may_hold(window, window.claims.size() - 1);
    return added.held;
}

void RowBook::unlock(CommandId claim, Effects& effects) {
    const auto known = claims_.find(claim);
    if (known == claims_.end()) return;
    const auto at = windows_.find(known->second);
    BRAID_REQUIRE(at != windows_.end());
    claims_.erase(known);
    const auto count = claim_counts_.find(claim.from);
    if (--count->second == 0) claim_counts_.erase(count);
    std::erase_if(at->second.claims, [&](const Claim& one) { return one.id == claim; });
    grant(at->second, effects);
    drop_if_empty(at);
}

void RowBook::grant(Window& window, Effects& effects) {
    for (std::size_t i = 0; i != window.claims.size(); ++i) {
        Claim& at = window.claims[i];
        if (at.held || !may_hold(window, i)) continue;
        at.held = true;
        effects.granted.push_back(at.id);
    }
}

bool RowBook::holds(CommandId claim) const {
    const auto known = claims_.find(claim);
    if (known == claims_.end()) return false;
    const Window& window = windows_.at(known->second);
    return std::ranges::any_of(window.claims,
                               [&](const Claim& at) { return at.id == claim && at.held; });
}

void RowBook::clear_locks() {
    claims_.clear();
    claim_counts_.clear();
    for (auto at = windows_.begin(); at != windows_.end();) {
        at->second.claims.clear();
        const auto next = std::next(at);
        drop_if_empty(at);
        at = next;
    }
}

// ---- writes ------------------------------------------------------------------------------------

std::uint64_t RowBook::finished_upto(NodeBoot from) const {
    const auto at = finished_.find(from);
    return at == finished_.end() ? 0 : at->second;
}

RowBook::Entry& RowBook::entry(EntryNumber number) {
    const auto at = entries_.find(static_cast<std::uint64_t>(number));
    BRAID_REQUIRE(at != entries_.end());
    return at->second;
}

StageAnswer RowBook::stage(const Stage& stage, std::optional<EntryNumber>* entered) {
    if (stage.at.rows == 0) return StageAnswer::invalid;
    if (stage.unlocks && stage.unlocks->from != stage.write.from) return StageAnswer::invalid;
    if (stage.write.sequence <= finished_upto(stage.write.from)) return StageAnswer::finished;
    if (const auto known = writes_.find(stage.write); known != writes_.end()) {
        for (const std::uint64_t number : known->second) {
            const Stage& at = entries_.at(number).stage;
            if (at.member == stage.member && at.at.window == stage.at.window) {
                return StageAnswer::staged;
            }
        }
    }
    std::uint32_t& count = counts_[stage.write.from];
    if (count >= book_entries_max) return StageAnswer::full;
    ++count;
    const std::uint64_t number = next_entry_++;
    entries_.emplace(number, Entry{stage, State::staged});
    writes_[stage.write].push_back(number);
    windows_[stage.at.window].entries.push_back(number);
    open_[stage.member].insert(number);
    ++open_of_[stage.write.from][stage.write.sequence];
    if (entered != nullptr) *entered = EntryNumber{number};
    return StageAnswer::staged;
}

/// Whether it is the oldest in each of its rows that is not over.
bool RowBook::is_first(const Window& window, std::uint64_t number) const {
    const Stage& wanted = entries_.at(number).stage;
    for (const std::uint64_t other : window.entries) {
        if (other == number) return true;
        const Entry& before = entries_.at(other);
        const Stage& at = before.stage;
        if (at.member != wanted.member) continue;
        if (BRAID_MUTANT(applied_out_of_order)) continue;
        if ((at.at.rows & wanted.at.rows) != 0) return false;
    }
    return true;
}

/// It is over, and stays known until its write is finished; its window may be empty afterwards.
void RowBook::close(std::uint64_t number, State state) {
    BRAID_REQUIRE(!is_open(state));
    Entry& one = entries_.at(number);
    one.state = state;
    std::erase(windows_.at(one.stage.at.window).entries, number);
    const auto open = open_.find(one.stage.member);
    open->second.erase(number);
    if (open->second.empty()) open_.erase(open);
    const CommandId& write = one.stage.write;
    const auto of_node = open_of_.find(write.from);
    BRAID_REQUIRE(of_node != open_of_.end());
    const auto of_write = of_node->second.find(write.sequence);
    if (--of_write->second == 0) of_node->second.erase(of_write);
    if (of_node->second.empty()) open_of_.erase(of_node);
    if (write.sequence <= finished_upto(write.from) || BRAID_MUTANT(book_forgotten_early)) {
        remove(number);
    }
}

/// What is decided, and first in its rows, is applied. Where there are no bytes that is all.
void RowBook::go_on(Windows::iterator at, Effects& effects) {
    BRAID_REQUIRE(at != windows_.end());
    Window& window = at->second;
    const std::vector<std::uint64_t> numbers = window.entries;
    for (const std::uint64_t number : numbers) {
        Entry& one = entries_.at(number);
        if (one.state != State::decided || !is_first(window, number)) continue;
        if (one.stage.has_bytes) {
            one.state = State::applying;
            effects.apply.push_back(EntryNumber{number});
        } else {
            close(number, State::applied);
        }
    }
    std::erase_if(window.readers, [&](const Reader& reader) {
        const bool ready = is_readable(window, reader);
        if (ready) effects.readable.push_back(reader.number);
        return ready;
    });
    drop_if_empty(at);
}

/// What is over, out of every table.
void RowBook::remove(std::uint64_t number) {
    const CommandId write = entries_.at(number).stage.write;
    entries_.erase(number);
    const auto of_write = writes_.find(write);
    BRAID_REQUIRE(of_write != writes_.end());
    std::erase(of_write->second, number);
    if (of_write->second.empty()) writes_.erase(of_write);
    if (const auto count = counts_.find(write.from); --count->second == 0) counts_.erase(count);
}

void RowBook::end_with(CommandId write, State state, Effects& effects) {
    const auto known = writes_.find(write);
    if (known == writes_.end()) return;
    std::set<WindowIndex> windows;
    std::vector<CommandId> unlocks;
    const std::vector<std::uint64_t> numbers = known->second;
    for (const std::uint64_t number : numbers) {
        Entry& one = entries_.at(number);
        if (one.state != State::staged) continue;
        one.state = state;
        windows.insert(one.stage.at.window);
        if (one.stage.unlocks) unlocks.push_back(*one.stage.unlocks);
        if (!is_open(state)) close(number, state);
        if (state == State::dropped) effects.dropped.push_back(EntryNumber{number});
    }
    for (const CommandId& claim : unlocks) unlock(claim, effects);
    for (const WindowIndex window : windows) {
        const auto at = windows_.find(window);
        if (at != windows_.end()) go_on(at, effects);  // else nothing is left in it
    }
    tell_flushes(effects);
}

void RowBook::decide(CommandId write, Effects& effects) {
    end_with(write, State::decided, effects);
}
void RowBook::drop(CommandId write, Effects& effects) { end_with(write, State::dropped, effects); }

void RowBook::applied(EntryNumber number, Effects& effects) {
    const Entry& one = entry(number);
    BRAID_REQUIRE(one.state == State::applying || one.state == State::failed);
    const auto at = windows_.find(one.stage.at.window);
    close(static_cast<std::uint64_t>(number), State::applied);
    go_on(at, effects);
    tell_flushes(effects);
}

void RowBook::apply_failed(EntryNumber number) {
    Entry& one = entry(number);
    BRAID_REQUIRE(one.state == State::applying || one.state == State::failed);
    one.state = State::failed;
}

std::vector<EntryNumber> RowBook::failed() const {
    std::vector<EntryNumber> all;
    for (const auto& [member, numbers] : open_) {
        for (const std::uint64_t number : numbers) {
            if (entries_.at(number).state == State::failed) all.push_back(EntryNumber{number});
        }
    }
    return all;
}

/// What is not over here stays, whatever the writer believes: nothing is forgotten that is not on
/// the disk.
void RowBook::finished(NodeBoot from, std::uint64_t upto) {
    std::uint64_t& known = finished_[from];
    known = std::max(known, upto);
    std::vector<std::uint64_t> over;
    for (auto at = writes_.lower_bound({from, 0}); at != writes_.end(); ++at) {
        if (at->first.from != from || at->first.sequence > upto) break;
        for (const std::uint64_t number : at->second) {
            if (!is_open(entries_.at(number).state)) over.push_back(number);
        }
    }
    for (const std::uint64_t number : over) remove(number);
}

std::uint64_t RowBook::applied_upto(NodeBoot from) const {
    // The last of its writes here before the first that is not over.
    const auto open = open_of_.find(from);
    const std::uint64_t end =
        open == open_of_.end() ? ~std::uint64_t{0} : open->second.begin()->first;
    const auto next = writes_.lower_bound({from, end});
    const std::uint64_t finished = finished_upto(from);
    if (next == writes_.begin()) return finished;
    const CommandId& last = std::prev(next)->first;
    return last.from == from ? std::max(finished, last.sequence) : finished;
}

void RowBook::member_lost(MemberIndex member, Effects& effects) {
    std::set<WindowIndex> windows;
    const auto open = open_.find(member);
    if (open == open_.end()) return;
    const std::set<std::uint64_t> numbers = open->second;
    for (const std::uint64_t number : numbers) {
        Entry& one = entries_.at(number);
        one.stage.has_bytes = false;
        windows.insert(one.stage.at.window);
        const bool on_its_way = one.state == State::applying || one.state == State::failed;
        if (on_its_way) close(number, State::applied);
    }
    for (const WindowIndex window : windows) go_on(windows_.find(window), effects);
    tell_flushes(effects);
}

const Stage& RowBook::stage_of(EntryNumber number) const {
    return entries_.at(static_cast<std::uint64_t>(number)).stage;
}

bool RowBook::is_applying(EntryNumber entry) const {
    return entries_.at(static_cast<std::uint64_t>(entry)).state == State::applying;
}

// ---- reads and flushes -------------------------------------------------------------------------

bool RowBook::is_readable(const Window& window, const Reader& reader) const {
    return std::ranges::none_of(window.entries, [&](std::uint64_t number) {
        const Entry& at = entries_.at(number);
        if (at.stage.member != reader.member || (at.stage.at.rows & reader.rows) == 0) return false;
        if (number >= reader.before && !BRAID_MUTANT(newer_stages_awaited)) return false;
        return at.state == State::staged || !at.stage.has_bytes;
    });
}

std::optional<std::vector<RowBook::Source>> RowBook::read(MemberIndex member, WindowRows at,
                                                          EntryNumber before, WaiterNumber waiter) {
    BRAID_REQUIRE(at.rows != 0);
    std::vector<Source> memory;
    const auto found = windows_.find(at.window);
    if (found == windows_.end()) return memory;
    Window& window = found->second;
    const Reader reader{waiter, member, at.rows, static_cast<std::uint64_t>(before)};
    if (!is_readable(window, reader)) {
        window.readers.push_back(reader);
        return std::nullopt;
    }
    RowMask left = at.rows;
    for (auto number = window.entries.rbegin(); number != window.entries.rend(); ++number) {
        const Entry& one = entries_.at(*number);
        const RowMask rows = one.stage.at.rows & left;
        if (one.stage.member != member || rows == 0) continue;
        if (one.state == State::staged || !one.stage.has_bytes) continue;  // newer than the read
        memory.push_back({EntryNumber{*number}, rows});
        left &= ~rows;
    }
    return memory;
}

bool RowBook::is_flushed(const Flush& flush) const {
    const auto is_over = [&](const std::set<std::uint64_t>& numbers) {
        return *numbers.begin() >= flush.upto;
    };
    if (!flush.member) {
        return std::ranges::all_of(open_, [&](const auto& of) { return is_over(of.second); });
    }
    const auto of_member = open_.find(*flush.member);
    return of_member == open_.end() || is_over(of_member->second);
}

bool RowBook::flush(std::optional<MemberIndex> member, WaiterNumber waiter) {
    const Flush wanted{waiter, member, next_entry_};
    if (is_flushed(wanted)) return true;
    flushes_.push_back(wanted);
    return false;
}

void RowBook::tell_flushes(Effects& effects) {
    std::erase_if(flushes_, [&](const Flush& flush) {
        const bool ready = is_flushed(flush);
        if (ready) effects.flushable.push_back(flush.number);
        return ready;
    });
}

void RowBook::cancel(WaiterNumber waiter) {
    std::erase_if(flushes_, [&](const Flush& flush) { return flush.number == waiter; });
    for (auto at = windows_.begin(); at != windows_.end();) {
        const auto next = std::next(at);
        std::erase_if(at->second.readers,
                      [&](const Reader& reader) { return reader.number == waiter; });
        drop_if_empty(at);
        at = next;
    }
}

// ---- a barrier ---------------------------------------------------------------------------------

std::vector<RowBook::Known> RowBook::known_of(NodeBoot from) const {
    std::vector<Known> list;
    for (auto at = writes_.lower_bound({from, 0}); at != writes_.end(); ++at) {
        if (at->first.from != from) break;
        Known known;
        known.write = at->first;
        for (const std::uint64_t number : at->second) {
            const Entry& one = entries_.at(number);
            if (one.state == State::dropped) continue;
            known.participants = one.stage.participants;
            known.members |= std::uint64_t{1} << raw(one.stage.member);
            known.decided |= one.state != State::staged;
        }
        if (known.members != 0) list.push_back(known);
    }
    return list;
}

void RowBook::forget(NodeBoot from, Effects& effects) {
    std::vector<CommandId> undecided;
    for (const Known& known : known_of(from)) {
        if (!known.decided) undecided.push_back(known.write);
    }
    for (const CommandId& write : undecided) drop(write, effects);
    finished(from, ~std::uint64_t{0});
}

// ---- checks ------------------------------------------------------------------------------------

bool RowBook::holds_together() const {
    std::size_t claims = 0;
    std::size_t open_in_windows = 0;
    for (const auto& [place, window] : windows_) {
        if (window.empty()) return false;
        for (std::size_t i = 0; i != window.claims.size(); ++i) {
            ++claims;
            if (window.claims[i].held != may_hold(window, i)) return false;
            const auto known = claims_.find(window.claims[i].id);
            if (known == claims_.end() || known->second != place) return false;
        }
        open_in_windows += window.entries.size();
        for (const std::uint64_t number : window.entries) {
            const Entry& at = entries_.at(number);
            if (!is_open(at.state) || at.stage.at.window != place) return false;
            const bool on_its_way = at.state == State::applying || at.state == State::failed;
            if (on_its_way && !is_first(window, number)) return false;
            if (at.state == State::decided && is_first(window, number)) return false;
        }
        for (const Reader& reader : window.readers) {
            if (is_readable(window, reader)) return false;
        }
    }
    for (const Flush& flush : flushes_) {
        if (is_flushed(flush)) return false;
    }
    std::map<NodeBoot, std::uint32_t> claim_counts;
    for (const auto& [id, place] : claims_) ++claim_counts[id.from];
    return claims == claims_.size() && claim_counts == claim_counts_ &&
           open_in_windows == counted_open();
}

/// How many entries are not over; all of them if the tables of entries do not fit each other.
std::size_t RowBook::counted_open() const {
    constexpr std::size_t wrong = ~std::size_t{0};
    std::map<NodeBoot, std::uint32_t> counts;
    std::map<NodeBoot, std::map<std::uint64_t, std::uint32_t>> open_of;
    std::map<MemberIndex, std::set<std::uint64_t>> open_at;
    std::size_t open = 0;
    for (const auto& [number, at] : entries_) {
        const CommandId& write = at.stage.write;
        const auto known = writes_.find(write);
        if (number >= next_entry_ || known == writes_.end()) return wrong;
        if (std::ranges::count(known->second, number) != 1) return wrong;
        if (++counts[write.from] > book_entries_max) return wrong;
        if (!is_open(at.state)) {
            if (write.sequence <= finished_upto(write.from)) return wrong;
            continue;
        }
        ++open;
        ++open_of[write.from][write.sequence];
        open_at[at.stage.member].insert(number);
    }
    return counts == counts_ && open_of == open_of_ && open_at == open_ ? open : wrong;
}

std::vector<std::uint64_t> RowBook::image() const {
    std::vector<std::uint64_t> all{next_entry_};
    const auto add_id = [&](const CommandId& id) {
        all.insert(all.end(), {id.from.node, id.from.boot, id.sequence});
    };
    for (const auto& [place, window] : windows_) {
        all.insert(all.end(), {raw(place), window.claims.size(), window.readers.size()});
        for (const Claim& at : window.claims) {
            add_id(at.id);
            all.insert(all.end(), {at.rows, static_cast<std::uint64_t>(at.mode), at.held});
        }
        for (const Reader& at : window.readers) {
            all.insert(all.end(),
                       {static_cast<std::uint64_t>(at.number), raw(at.member), at.rows, at.before});
        }
    }
    for (const auto& [number, at] : entries_) {
        add_id(at.stage.write);
        all.insert(all.end(), {number, raw(at.stage.at.window), raw(at.stage.member),
                               at.stage.at.rows, at.stage.participants, at.stage.has_bytes,
                               static_cast<std::uint64_t>(at.state), at.stage.unlocks.has_value()});
        if (at.stage.unlocks) add_id(*at.stage.unlocks);
    }
    for (const auto& [from, upto] : finished_) {
        all.insert(all.end(), {from.node, from.boot, upto});
    }
    for (const Flush& at : flushes_) {
        const std::uint64_t member = at.member ? raw(*at.member) : members_max;
        all.insert(all.end(), {static_cast<std::uint64_t>(at.number), member, at.upto});
    }
    return all;
}

}  // namespace braid::cluster
