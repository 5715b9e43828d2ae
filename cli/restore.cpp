// SPDX-License-Identifier: BSD-3-Clause
// braid restore: writes md superblocks that are gone from what the configuration slots say, after a
// look at everything and a question.
#include "engine/assembly/restore.h"

#include <fmt/format.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <iostream>
#include <memory>
#include <string>
#include <vector>

#include "cli/offline.h"
#include "cli/online_tools.h"
#include "cli/slot_text.h"
#include "cli/text.h"
#include "engine/base/os_error.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "engine/probe/probe.h"

namespace braid::cli {
namespace {

struct RestoreArguments {
    std::vector<std::string> members;
    bool force{false};
    bool yes{false};
    bool dry_run{false};
};

struct GivenMembers {
    std::vector<std::unique_ptr<UringDisk>> disks;
    std::vector<MemberImage> images;
};

/// With --force only named, and then not refused.
Checked<Unit> check_content(const std::string& path, const MemberImage& image, bool force) {
    if (decode_md_superblock(image.superblock.view(), image.device_size)) return Unit{};
    BRAID_TRY(const std::vector<std::string> found, probe_content(path));
    if (found.empty()) return Unit{};
    std::string all;
    for (const std::string& text : found) all += (all.empty() ? "" : "; and ") + text;
    if (force) {
        fmt::print("  note      {}: holds {}\n", path, all);
        return Unit{};
    }
    return Refusal{fmt::format(
        "{}: holds {}, so something else may have used it since; if that may be lost, say --force",
        path, all)};
}

Checked<GivenMembers> open_and_read(UringLoop& loop, const RestoreArguments& arguments) {
    GivenMembers given;
    std::vector<Disk*> all;
    for (const std::string& path : arguments.members) {
        BRAID_TRY(auto disk, open_disk(loop, path, {.readonly = arguments.dry_run, .lock = true}));
        all.push_back(disk.get());
        given.disks.push_back(std::move(disk));
    }
    given.images = loop.run_until_done(read_member_images(loop.ready(), loop, std::move(all)));
    std::string refusals;
    for (std::size_t at = 0; at != given.images.size(); ++at) {
        const std::string& path = arguments.members[at];
        given.images[at].path = path;
        const auto checked = check_content(path, given.images[at], arguments.force);
        if (!checked) refusals += (refusals.empty() ? "" : "\n") + checked.error().text;
    }
    if (!refusals.empty()) return Refusal{refusals};
    return given;
}

void print_restored(const RestoredMember& member, const MemberImage& image) {
    if (!member.missing) {
        fmt::print("{}: has its superblock: nothing is written to it\n\n", member.path);
        return;
    }
    fmt::print("{}: gets its superblock, bytes {} to {}, as of {}\n", member.path,
               md_superblock_offset, md_superblock_offset + sizeof(MdSuperblock) - 1,
               member.last_written ? time_text(*member.last_written) : "a time that is not known");
    const MemberFindings findings = inspect(image);
    if (const ConfigSlot* slot = findings.slot()) fmt::print("{}", slot_lines(*slot));
    fmt::print("\n");
}

void print_outcome(const Assembly& assembly) {
    const Configuration& c = assembly.configuration;
    fmt::print("then array {}{}{} {}\n", c.name, c.name.empty() ? "" : " ", c.array.text(),
               c.lost_count() == 0 ? "would start" : "would start degraded");
    fmt::print("{}", parts_lines(c));
    for (const std::string& notice : assembly.notices) fmt::print("  note      {}\n", notice);
}

/// True: go on.
Checked<bool> ask(const RestoreArguments& arguments) {
    fmt::print(
        "What nothing here can tell: whether md ran the array after braid, before the superblocks "
        "were lost.\nIf it did, or has changed its shape, what the slots say is not true any "
        "more.\n");
    if (arguments.yes) return true;
    if (isatty(STDIN_FILENO) == 0) {
        return Refusal{"nothing was written: say --yes to write the superblocks"};
    }
    fmt::print("Write the superblocks? [y/N] ");
    std::fflush(stdout);
    std::string answer;
    std::getline(std::cin, answer);
    return answer == "y" || answer == "Y" || answer == "yes";
}

Checked<Unit> write_superblocks(UringLoop& loop, const GivenMembers& given,
                                const RestorePlan& plan) {
    std::vector<Disk*> disks;
    for (const auto& disk : given.disks) disks.push_back(disk.get());
    return loop.run_until_done(restore_members(std::move(disks), plan));
}

Checked<Unit> restore(const RestoreArguments& arguments) {
    BRAID_TRY(const std::unique_ptr<UringLoop> loop, UringLoop::create());
    BRAID_TRY(const GivenMembers given, open_and_read(*loop, arguments));
    BRAID_TRY(const RestorePlan plan, plan_restore(given.images, {.force = arguments.force}));
    for (std::size_t at = 0; at != plan.members.size(); ++at) {
        print_restored(plan.members[at], given.images[at]);
    }
    print_outcome(plan.assembly);
    if (!plan.has_work()) {
        fmt::print("nothing to do: every member has its superblock\n");
        return Unit{};
    }
    if (arguments.dry_run) {
        fmt::print("nothing was written: this is a dry run\n");
        return Unit{};
    }
    BRAID_TRY(const bool agreed, ask(arguments));
    if (!agreed) {
        fmt::print("nothing was written\n");
        return Unit{};
    }
    BRAID_CHECK(write_superblocks(*loop, given, plan));
    std::string paths;
    for (const RestoredMember& member : plan.members) paths += " " + absolute_path(member.path);
    fmt::print("the superblocks are written\nserve it: nbdkit braid{}\n", paths);
    return Unit{};
}

}  // namespace

void add_restore_command(CLI::App& app, int* exit_status) {
    auto arguments = std::make_shared<RestoreArguments>();
    CLI::App* command = app.add_subcommand(
        "restore", "put back md superblocks that are gone, from braid's configuration slots");
    command->add_option("members", arguments->members, "the members of one array, in any order")
        ->required()
        ->type_name("PATH...");
    command->add_flag("--yes", arguments->yes, "write without a question");
    command->add_flag("--force", arguments->force,
                      "although something else lies where a superblock would, or members are "
                      "missing");
    command->add_flag("--dry-run", arguments->dry_run, "say what would be done, and write nothing");
    command->callback([arguments, exit_status] {
        const auto result = restore(*arguments);
        *exit_status = result ? 0 : refuse(result.error().text);
    });
}

}  // namespace braid::cli
