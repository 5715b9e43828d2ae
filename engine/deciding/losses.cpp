// SPDX-License-Identifier: BSD-3-Clause
#include "engine/deciding/losses.h"

#include <fmt/format.h>

#include <cerrno>
#include <utility>

#include "engine/base/os_error.h"
#include "engine/deciding/member_names.h"
#include "engine/deciding/unknown_rows.h"
#include "engine/deciding/walk_orders.h"
#include "parity/require.h"

namespace braid {

Losses::Losses(const DecidingContext& context, Parts parts)
    : DecidingPart(context),
      writer_(parts.writer),
      roster_(parts.roster),
      unknown_(parts.unknown),
      walks_(parts.walks),
      misdeeds_(context.members.count()) {}

void Losses::resync_comes_changed() { walks_.set_resync_comes(); }

/// What happens when a member is lost, in this order:
/// 1. In memory, at once (ServingNode::member_lost(), Members::set_state()): nobody reads it past
///    the loop, every operation on it is refused, what was computed with it counts no more.
/// 2. It is told. If that was one too many, the array has failed, or stops: then who waits is told,
///    the members keep the configuration that they have, and that is all.
/// 3. The configuration says so, in memory; its disk is closed when nobody uses it any more.
/// 4. What it takes with it of rows in doubt is listed. If the list has no room the array stops.
/// 5. The configuration, with both, is made durable. What clients wrote or read in the member's
///    place meanwhile waits for that (Decider::losses_durable()).
/// 6. Spares and walks look again.
void Losses::lose(MemberIndex member, MemberState state, const std::string& why, Fault fault) {
    BRAID_REQUIRE(!takes_part(state) && !why.empty());
    // Where its home has suspended it, what was asked of it may have shown that before.
    const auto& slot = members_.slot(member);
    const MemberState recorded = record(member).state;
    if (!takes_part(slot.state) && (failed_told_ || !takes_part(recorded))) return;
    const bool was_rebuilding = recorded == MemberState::rebuilding;
    const std::string path = slot.is_open() ? slot.drive->info().path : "";
    const bool was_enough = members_.is_enough() ||  // else it was started by force
                            (!takes_part(slot.state) && writer_.was_enough());
    serving_.member_lost(member, state);
    misdeeds_[raw(member)] = {};
    roster_.set_why_lost(member, why);
    tell_lost(member, path, why, fault);
    if (was_enough && !members_.failed() && !members_.is_enough()) {
        stop(fmt::format("of RAID-{} with {} members, {} hold a configuration only if {}",
                         static_cast<int>(configuration_.level), members_.count(),
                         geometry_.data_count(), text_of_tie(configuration_)),
             ". Nothing is lost: stop it, bring a member back, and start it again; if they are "
             "gone, start it with force");
    }
    if (members_.failed()) {
        // The members keep the last configuration that worked: what they hold by it is true.
        tell_failed();
        return;
    }
    writer_.change(change::Lost{member, state, roster_.metadata(member).reg.held});
    tasks_.spawn(roster_.let_go(member));
    MemberSet left_now;
    left_now.add(member);
    if (!unknown_.list_doubt(left_now)) return;
    if (!was_rebuilding) {
        const std::string rest =
            configuration_.bad_rows.empty()
                ? std::string("every byte can still be computed")
                : fmt::format(
                      "every byte can still be computed, but for {} that cannot be "
                      "known",
                      unknown_.bad_bytes());
        tell(Severity::warning, "degraded",
             fmt::format("the array is degraded: {} of {} members lost, {}", members_.lost(),
                         members_.count(), rest));
    }
    writer_.changed();
    work_.set();
}

void Losses::end_rebuild(MemberIndex member, Uuid spare, const std::string& why) {
    BRAID_REQUIRE(record(member).state == MemberState::rebuilding);
    BRAID_REQUIRE(unknown_.cost_of_loss(member) == 0);
    serving_.member_lost(member, MemberState::missing);
    misdeeds_[raw(member)] = {};
    roster_.set_why_lost(member, why);
    writer_.change(change::RoleGivenUp{member, spare, free_dev_number(configuration_)});
    writer_.changed();  // for those who owe its loss
}

void Losses::tell_lost(MemberIndex member, const std::string& path, const std::string& why,
                       Fault fault) {
    const bool is_fault = fault == Fault::some;
    tell(is_fault ? Severity::error : Severity::info, is_fault ? "member_failed" : "member_away",
         fmt::format("member {} ({}) {}: {}", raw(member), path, is_fault ? "failed" : "is away",
                     why));
}

/// What was first is the reason; that more members are lost afterwards may come of it.
std::string Losses::failure() const {
    if (!why_stopped_.empty()) return why_stopped_;
    return fmt::format("{} members are lost, more than RAID-{} can do without", members_.lost(),
                       static_cast<int>(configuration_.level));
}

/// `rest`: what the log says behind the reason.
void Losses::stop(std::string why, std::string_view rest) {
    why_stopped_ = std::move(why);
    serving_.halt();
    tell(Severity::error, "stopped",
         fmt::format("the array has stopped: {}{}", why_stopped_, rest));
}

/// Nobody waits any more for what cannot come.
void Losses::tell_failed() {
    if (!failed_told_ && why_stopped_.empty() && members_.lost() > geometry_.parities()) {
        tell(Severity::error, "failed",
             fmt::format("{}: writes are refused, and reads of what is lost. Stop it, bring "
                         "members back, and start it again",
                         failure()));
    }
    failed_told_ = true;
    writer_.array_failed();
    walks_.array_failed();
    serving_.array_failed();
}

bool Losses::can_lose(MemberSet members, Witness expected) const {
    if (members_.failed()) return false;
    std::uint64_t lost = members_.lost();
    for (const MemberIndex member : members) {
        if (members_.slot(member).state == MemberState::in_sync) ++lost;
        if (unknown_.cost_of_loss(member) != 0) return false;
    }
    return lost <= geometry_.parities() && members_.is_enough_without(members, expected);
}

/// Nothing is written any more. What can be read still is.
void Losses::stop_writing(const std::string& why, const std::string& what_to_do) {
    stop(why, ". " + what_to_do);
    serving_.cancel_walk();
    tell_failed();
}

void Losses::halt(const std::string& why) {
    if (members_.failed()) return;
    stop(fmt::format("{}, more than the list of bad rows holds", why),
         ", and going on would mean guessing. Nothing was lost that was not lost before. Bring "
         "back members that the array has not gone on without, and start it again; if there are "
         "none, start it with force, which trusts parity as it is, check the file systems, and "
         "restore what is wrong");
    tell_failed();
}

bool Losses::failing_at_home(MemberIndex member, HomeFault what, int os_error) {
    if (!takes_part(members_.slot(member).state)) return false;
    switch (what) {
        case HomeFault::write:
            strip_write_failed(member, os_error);
            break;
        case HomeFault::flush:
            flush_failed(member, os_error);
            break;
    }
    return takes_part(members_.slot(member).state);
}

void Losses::node_gone(const std::string& why) {
    if (members_.failed() && failed_told_) return;
    stop_writing(why, "Nothing that was flushed is lost: stop it on all nodes, and start it again");
}

void Losses::node_left(const std::string& why) {
    if (members_.failed() && failed_told_) return;
    why_stopped_ = why;
    serving_.halt();
    tell(Severity::info, "left", fmt::format("{}, and the others go on with it", why));
    serving_.cancel_walk();
    tell_failed();
}

/// What a flush did not make durable may be gone, whatever a later one says. On a member that is
/// needed nothing stands in for it: no flush is acknowledged any more, and no mark goes, so that
/// the next start asks for what was written since the last one.
void Losses::flush_failed(MemberIndex member, int os_error) {
    BRAID_REQUIRE(os_error != 0);
    if (!members_.is_needed(member)) {
        return lose(member, MemberState::faulty,
                    fmt::format("a flush failed: {}", os_error_text(os_error)));
    }
    if (members_.failed()) return;
    stop_writing(fmt::format("{} is needed, {} of {} members are lost already, and a flush of it "
                             "failed ({})",
                             roster_.text_of_role(member), members_.lost(), members_.count(),
                             os_error_text(os_error)),
                 "What was written since the last flush may not be durable; reads go on. See to "
                 "the member, then stop the array and start it again");
}

// ---- writes that failed ----------------------------------------------------------------------

void Losses::strip_write_failed(MemberIndex member, int os_error) {
    BRAID_REQUIRE(os_error != 0);
    if (!takes_part(members_.slot(member).state)) return;
    const bool full = os_error == ENOSPC;
    if (!full && !members_.is_needed(member)) {
        return lose(member, MemberState::faulty,
                    fmt::format("a write failed: {}", os_error_text(os_error)));
    }
    // A client goes on trying.
    if (misdeeds_[raw(member)].failed_write.was_told(clock_.now(), seconds(60))) return;
    if (full) {
        tell(Severity::error, "no_room",
             fmt::format("{} has no room for a write: it is refused with ENOSPC until there is. "
                         "The member keeps its place",
                         roster_.text_of_role(member)));
        return;
    }
    tell(Severity::error, "write_failed",
         fmt::format(
             "a write to {} failed ({}): it is answered with an error. The member is needed, "
             "and keeps its place: {} of {} members are lost already",
             roster_.text_of_role(member), os_error_text(os_error), members_.lost(),
             members_.count()));
}

/// What waits for it would wait for ever, perhaps.
void Losses::not_answering(MemberIndex member) {
    const std::uint64_t waited = options_.member_timeout.value / 1'000'000'000;
    const auto takes_part_now = [&] { return takes_part(members_.slot(member).state); };
    if (takes_part_now() && !members_.failed() && !members_.is_needed(member) &&
        unknown_.cost_of_loss(member) == 0) {
        lose(member, MemberState::faulty,
             fmt::format("it has not answered for {} s (member_timeout)", waited));
    }
    if (!takes_part_now()) {
        // Its home may have given it up, which what was asked there has shown before.
        lose(member, MemberState::faulty, "its home has given it up, for it does not answer");
        return writer_.give_up(member);
    }
    if (members_.failed()) return;
    if (misdeeds_[raw(member)].silence.was_told(clock_.now(), seconds(60))) return;
    tell(Severity::error, "no_answer",
         fmt::format("{} has not answered for {} s. It is needed, and keeps its place: what was "
                     "asked of it waits",
                     roster_.text_of_role(member), waited));
}

void Losses::read_failed(MemberIndex member, int os_error) {
    BRAID_REQUIRE(os_error != 0);
    const MemberState state = members_.slot(member).state;
    if (!takes_part(state)) return;
    writer_.change(change::ReadError{member});
    const MemberRecord& at = record(member);
    if (at.read_errors == 1 || at.read_errors % 10 == 0) {
        tell(Severity::warning, "read_error",
             fmt::format("member {} ({}): a read failed ({}), {} so far; what can be computed from "
                         "the others is answered from them, {}",
                         raw(member), at.path, os_error_text(os_error), at.read_errors,
                         options_.readonly ? "and stays on the member as it is: nothing is written"
                                           : "and rewritten"));
    }
    // As md does it: a member that has many at once is failing; one a month is a disk's age.
    constexpr std::uint64_t hour = 3'600'000'000'000;
    Misdeeds& lately = misdeeds_[raw(member)];
    const std::uint64_t now = clock_.now().value;
    if (lately.read_errors == 0) lately.read_errors_since = {now};
    while (lately.read_errors != 0 && now - lately.read_errors_since.value >= hour) {
        lately.read_errors /= 2;
        lately.read_errors_since.value += hour;
    }
    if (lately.read_errors == 0) lately.read_errors_since = {now};
    if (++lately.read_errors <= read_errors_max || members_.lost() >= geometry_.parities()) return;
    if (state == MemberState::in_sync && !members_.is_enough_without(member)) return;
    if (unknown_.cost_of_loss(member) != 0)
        return;  // what is in doubt, or to be tried again, needs it
    lose(member, MemberState::faulty,
         fmt::format("{} read errors in a short time, more than {}", lately.read_errors,
                     read_errors_max));
}

}  // namespace braid
