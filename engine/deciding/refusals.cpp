// SPDX-License-Identifier: BSD-3-Clause
// Members that are kept although they refuse the configuration: for want of room, or because the
// level needs them. Losing them would lose the array; so it is tried again and again, with a
// pause, until it holds. Meanwhile what needs no new configuration goes on, by the one that is in
// force. Nobody who holds rows, or answers a client, waits for more than some tries: then it is an
// error, and what was acknowledged stays true, because
// - a loss that is not durable is owed to every write and flush (Members::owes());
// - so is a row that left the list, once somebody was told that it did not: the next start would
//   call it unknown, though it was written again since;
// - rows that are listed and not durably so are marked, and a crash finds them in doubt by that.
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "engine/base/os_error.h"
#include "engine/deciding/configuration_writer.h"
#include "engine/deciding/losses.h"
#include "parity/require.h"

namespace braid {
namespace {

constexpr std::uint32_t tries_max = 4;  // in 3.5 s, before it is an error for those who wait
constexpr Nanos pause_max = seconds(5);
static_assert(ConfigurationWriter::pause_first.value << tries_max > pause_max.value);

/// For Error::where, which has to stay.
const char* where_of(MemberIndex member) {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (std::uint32_t i = 0; i != members_max; ++i) {
            all.push_back(fmt::format("member {}, which is needed, takes no metadata", i));
        }
        return all;
    }();
    return names[raw(member)].c_str();
}

}  // namespace

/// Whether a member whose metadata could not be written keeps its place for now.
bool ConfigurationWriter::is_kept(MemberIndex member, const Error& error) const {
    if (members_.slot(member).state != MemberState::in_sync) return false;
    return error.code == Errc::full || (error.code == Errc::io && members_.is_needed(member));
}

void ConfigurationWriter::note_refusal(MemberIndex member, const Error& error) {
    BRAID_REQUIRE(members_.slot(member).state == MemberState::in_sync);
    const bool full = error.code == Errc::full;
    refusal_ = {error.code, where_of(member), error.os_error};
    auto& refusing = refusing_[raw(member)];
    const bool told = refusing.has_value();
    if (!told) refusing = Refusing{clock_.now(), 0};
    refusing->os_error = error.os_error;
    if (told) return;
    tell(Severity::error, "metadata_refused",
         fmt::format(
             "{} {}: it keeps its place, because {}, and is tried again by itself. Meanwhile reads "
             "go on, and what needs a new configuration is refused with {}. {}",
             roster_.text_of_role(member),
             full ? "has no room for its metadata"
                  : fmt::format("does not take its metadata ({})", os_error_text(error.os_error)),
             full ? std::string("nothing is wrong with it")
                  : fmt::format("{} of {} members are lost already", members_.lost(),
                                members_.count()),
             full ? "ENOSPC" : "EIO",
             full ? "Make room there" : "See to its cable, its power and its driver"));
}

void ConfigurationWriter::end_refusals() {
    refused_in_row_ = refused_last_ = 0;
    for (std::uint32_t i = 0; i != members_.count(); ++i) {
        if (!std::exchange(refusing_[i], std::nullopt)) continue;
        if (members_.slot(MemberIndex{i}).state != MemberState::in_sync) continue;  // lost since
        tell(Severity::info, "metadata_taken",
             fmt::format("{} takes its metadata again", roster_.text_of_role(MemberIndex{i})));
    }
    losses_.resync_comes_changed();
}

/// Before the next try. Nobody who stops, or starts, waits for it for ever: then nothing is written
/// any more, and the next start finds what holds.
Task<void> ConfigurationWriter::wait_after_refusal() {
    const bool is_waited_for = stage_.ending || !stage_.started;
    const std::uint32_t in_row = ++refused_in_row_;
    durable_event_.set();
    losses_.resync_comes_changed();
    if (is_waited_for && ++refused_last_ == tries_last_max) {
        losses_.stop_writing(
            "a member does not take its metadata",
            "The messages above say which. Nothing is lost: see to it, and start the array again");
        co_return;
    }
    // Twice as long each time; where that is past pause_max, how often does not count any more.
    const std::uint32_t doublings = is_waited_for ? 0 : std::min(in_row - 1, tries_max);
    const std::uint64_t pause = std::min(pause_first.value << doublings, pause_max.value);
    Timer timer(clock_, Nanos{clock_.now().value + pause});
    co_await timer;
}

/// One that has refused for long has one more try. Who waits for a start, or a stop, waits as long
/// as that is tried.
std::uint64_t ConfigurationWriter::patience() const {
    if (stage_.ending || !stage_.started) return ~std::uint64_t{0};
    return refusals_ + (refused_in_row_ >= tries_max ? 1 : tries_max - refused_in_row_);
}

std::string ConfigurationWriter::text_of_refusal(MemberIndex member) const {
    const auto& refusing = refusing_[raw(member)];
    if (!refusing || members_.slot(member).state != MemberState::in_sync) return {};
    return fmt::format("does not take its metadata ({}), for {} s now; it is tried again by itself",
                       os_error_text(refusing->os_error),
                       (clock_.now().value - refusing->since.value) / 1'000'000'000);
}

bool ConfigurationWriter::is_refused() const { return refused_in_row_ >= tries_max; }

}  // namespace braid
