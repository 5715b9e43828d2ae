// SPDX-License-Identifier: BSD-3-Clause
// braid check: reads an array that nobody serves and compares data with parity, in this process.
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <memory>
#include <random>
#include <vector>

#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "cli/text.h"
#include "control/status_json.h"
#include "engine/array.h"
#include "engine/assembly/assembly.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"

namespace braid::cli {
namespace {

constexpr int status_clean = 0;
constexpr int status_mismatches = 1;
constexpr int status_trouble = 2;
constexpr int idle_polls_max = 50;  // of 200 ms

struct CheckOptions {
    std::vector<std::string> paths;
    bool repair{false};
    bool force{false};
};

volatile std::sig_atomic_t interrupted = 0;
void on_interrupt(int) { interrupted = 1; }

int trouble(const std::string& text) {
    refuse(text);
    return status_trouble;
}

constexpr std::uint64_t poll_nanos = millis(200).value;

/// What was found, by the scrub and before it.
struct Found {
    WalkStatus scrub;
    std::uint64_t rows_resynced{0};  // parity that an unclean stop had left wrong
    std::vector<BadBytes> bad;
    std::uint64_t bad_bytes{0};
};

/// An array that was not stopped cleanly is made true first: until then a difference means nothing.
Task<Checked<Unit>> wait_for_resync(Array* array, Clock* clock) {
    Style style = Style::of_stdout();
    style.colours = false;
    ProgressLine line;
    for (;;) {
        const ArrayStatus status = array->status();
        if (status.health == Health::failed || status.resync_stuck) {
            co_return Refusal{"parity could not be made true; the messages above tell why"};
        }
        if (!status.in_doubt) co_return Unit{};
        if (interrupted != 0) {
            co_return Refusal{"interrupted; the next start goes on with the resync"};
        }
        for (const WalkStatus& walk : status.walks) {
            line.show(task_line(control::json_of(walk), style));
        }
        for (const WaitStatus& wait : status.waits) {
            if (wait.what != text_of(WalkKind::resyncing)) continue;
            if (!wait.by_itself) co_return Refusal{"the resync that comes first " + wait.why};
            line.show(wait_line(control::json_of(wait), style));
        }
        Timer timer(*clock, {clock->now().value + poll_nanos});
        co_await timer;
    }
}

/// Walks the array to its end; the scrub's result, or why there is none.
Task<Checked<WalkStatus>> scrub(Array* array, Clock* clock, bool repair) {
    BRAID_CO_CHECK(co_await array->start_scrub(ScrubMode{repair}));
    Style style = Style::of_stdout();
    style.colours = false;
    ProgressLine line;
    for (int idle = 0;;) {
        Timer timer(*clock, {clock->now().value + poll_nanos});
        co_await timer;
        const ArrayStatus status = array->status();
        const WalkStatus* running = nullptr;
        for (const WalkStatus& walk : status.walks) {
            if (walk.kind == WalkKind::scrubbing) running = &walk;
        }
        if (running == nullptr && !status.configuration.scrub) {
            if (status.last_scrub) co_return *status.last_scrub;
            co_return Refusal{"the check ended without a result"};
        }
        idle = status.walks.empty() ? idle + 1 : 0;
        if (idle == idle_polls_max) co_return Refusal{"the check does not start"};
        if (interrupted != 0) {
            if (const auto stopped = array->stop_scrub(); !stopped) co_return stopped.error();
            co_return Refusal{"interrupted"};
        }
        if (running != nullptr) line.show(task_line(control::json_of(*running), style));
    }
}

/// A member that is absent would be left behind by what a repair writes, and there is nothing to
/// compare with without it: so look before the array is opened, which writes to it.
Task<Checked<Unit>> look(ReadyQueue* ready, Clock* clock,
                         const std::vector<std::unique_ptr<Disk>>* disks, bool force) {
    std::vector<Disk*> all;
    for (const auto& disk : *disks) all.push_back(disk.get());
    const std::vector<MemberImage> images =
        co_await read_member_images(*ready, *clock, std::move(all));
    const auto assembly = assemble(images, {.force = force, .purpose = Purpose::look});
    if (!assembly) co_return assembly.error();
    std::vector<std::string> absent;
    for (const MemberRecord& member : assembly->configuration.members) {
        if (!member.role || member.state == MemberState::in_sync) continue;
        absent.push_back(fmt::format("member {} ({}) is {}", raw(*member.role),
                                     member.path.empty() ? "no path known" : member.path,
                                     text_of(member.state)));
    }
    if (absent.empty()) co_return Unit{};
    co_return Refusal{
        fmt::format("{}: without all members in sync there is nothing to compare "
                    "with. Give all of them, or serve the array and rebuild first",
                    fmt::join(absent, ", "))};
}

Task<Checked<Found>> resync_and_scrub(Array* array, Clock* clock, bool repair) {
    if (repair) BRAID_CO_CHECK(co_await wait_for_resync(array, clock));
    Found found;
    BRAID_CO_TRY(found.scrub, co_await scrub(array, clock, repair));
    ArrayStatus status = array->status();
    if (status.recovery) found.rows_resynced = status.recovery->rows_wrong;
    found.bad = std::move(status.bad);
    found.bad_bytes = status.bad_bytes;
    co_return found;
}

/// `disks` stay the caller's until they are looked at.
Task<Checked<Found>> check(ReadyQueue* ready, Clock* clock,
                           std::vector<std::unique_ptr<Disk>>* disks, ArrayOptions options,
                           bool repair) {
    const auto looked = co_await look(ready, clock, disks, options.force);
    if (!looked) co_return looked.error();
    auto opened = co_await Array::open(*ready, *clock, std::move(*disks), std::move(options));
    if (!opened) co_return opened.error();
    const std::unique_ptr<Array> array = std::move(opened).value();
    auto result = co_await resync_and_scrub(array.get(), clock, repair);
    const auto stopped = co_await array->stop();
    if (!stopped && result) {
        co_return Refusal{
            fmt::format("the array could not be marked clean: {}", stopped.error().text())};
    }
    co_return result;
}

/// Bytes that are on the bad-row list: their parity may well be true, but it is that of zeros.
void print_bad(const Found& found) {
    fmt::print("{} cannot be known; a read of them is an error, until they are written anew:\n",
               size_text(found.bad_bytes));
    std::uint64_t told = 0;
    for (const BadBytes& range : found.bad) {
        fmt::print("  {}\n", bad_line({{"volume", range.volume},
                                       {"offset", range.offset.value},
                                       {"size", range.size},
                                       {"member", raw(range.member)}}));
        told += range.size;
    }
    if (told < found.bad_bytes) {
        fmt::print("  and {} more, in more places than can be named\n",
                   size_text(found.bad_bytes - told));
    }
}

int report(const Found& found) {
    const WalkStatus& walk = found.scrub;
    if (found.rows_resynced != 0) {
        fmt::print("parity of {} rows was not true since the unclean stop, and was made true\n",
                   found.rows_resynced);
    }
    fmt::print("checked {} of each member: {}\n", size_text(walk.position),
               scrub_result(control::json_of(walk)));
    if (found.bad_bytes != 0) print_bad(found);
    if (walk.position < walk.end) return status_trouble;
    if (walk.mismatches > walk.repaired) {
        fmt::print("`braid check --repair` rewrites what is wrong\n");
    }
    const bool all_known = walk.bytes_unknown == 0 && found.bad_bytes == 0;
    const bool all_well = walk.mismatches == 0 && found.rows_resynced == 0 && all_known;
    return all_well ? status_clean : status_mismatches;
}

int run(const CheckOptions& options) {
    auto loop = UringLoop::create();
    if (!loop) return trouble(loop.error().text);
    std::vector<std::unique_ptr<Disk>> disks;
    OpenOptions how;
    how.readonly = !options.repair;
    how.if_read_only = "check it without --repair (nbdkit serves such an array with readonly=true)";
    for (const std::string& path : options.paths) {
        auto disk = open_disk(**loop, absolute_path(path), how);
        if (!disk) return trouble(disk.error().text);
        disks.push_back(std::move(disk).value());
    }
    ArrayOptions array_options;
    array_options.readonly = !options.repair;
    array_options.force = options.force;
    array_options.orders = Orders::none;
    array_options.seed = std::random_device{}();
    array_options.on_event = [](const ArrayEvent& event) {
        const bool reported = event.kind == "mismatch" || event.kind == "scrub_done";
        if (event.severity != Severity::info && !reported) {
            std::fprintf(stderr, "braid: %s\n", event.text.c_str());
        }
    };
    array_options.on_wrong = [](const std::string& text) { fmt::print("{}\n", text); };
    std::signal(SIGINT, on_interrupt);
    std::signal(SIGTERM, on_interrupt);
    const auto result = (*loop)->run_until_done(
        check(&(*loop)->ready(), loop->get(), &disks, std::move(array_options), options.repair));
    return result ? report(*result) : trouble(result.error().text);
}

}  // namespace

void add_check_command(CLI::App& app, int* exit_status) {
    auto options = std::make_shared<CheckOptions>();
    CLI::App* command = app.add_subcommand(
        "check", "read an array that is not served and compare data with parity");
    command->footer(
        "Exit status: 0 all is true, 1 something was wrong (and is repaired, with --repair) or cannot "
        "be known, 2 it could not be told.");
    command->add_option("members", options->paths, "all members, in any order")
        ->required()
        ->type_name("PATH...");
    command->add_flag("--repair", options->repair,
                      "rewrite what is wrong (RAID-4 and RAID-5: the parity); without it nothing "
                      "is written");
    command->add_flag("--force", options->force,
                      "although the absent members may be newer than those that are there");
    command->callback([options, exit_status] { *exit_status = run(*options); });
}

}  // namespace braid::cli
