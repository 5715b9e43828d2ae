// SPDX-License-Identifier: BSD-3-Clause
// braid create: looks at the members first, refuses what holds anything, and makes an array. Of the
// members of a cluster its servers do that, at an order.
#include "engine/assembly/create.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <cerrno>
#include <cstring>
#include <ctime>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <vector>

#include "cli/fields.h"
#include "cli/offline.h"
#include "cli/online_tools.h"
#include "cli/plan_picture.h"
#include "cli/text.h"
#include "control/size_argument.h"
#include "engine/assembly/content.h"
#include "engine/assembly/create_order.h"
#include "engine/assembly/new_member.h"
#include "engine/base/os_error.h"
#include "engine/base/path.h"
#include "engine/io/identify.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "engine/probe/probe.h"

namespace braid::cli {
namespace {

struct CreateArguments {
    std::string level;
    std::string strip_size;
    std::string layout;
    std::string name;
    std::string size;
    std::string data_offset;
    std::vector<std::string> volumes;
    std::vector<std::string> spares;
    std::string witness;
    std::vector<std::string> members;
    bool assume_clean{false};
    bool force{false};
    bool force_placement{false};
    bool dry_run{false};
    bool wait{false};
    std::string socket;
};

// --- what was asked for ---

Checked<VolumeWish> parse_volume(const std::string& text) {
    const auto colon = text.rfind(':');
    if (colon == std::string::npos) {
        return Refusal{fmt::format("--volume {}: say NAME:SIZE, for instance data:10G", text)};
    }
    auto size = control::parse_size(std::string_view(text).substr(colon + 1));
    if (!size) return Refusal{fmt::format("--volume {}: {}", text, size.error().text)};
    return VolumeWish{text.substr(0, colon), *size};
}

/// What a field is called, an option is with two dashes before.
template <class T>
Checked<T> as_option(Checked<T> parsed) {
    if (!parsed) return Refusal{"--" + parsed.error().text, parsed.error().code};
    return parsed;
}

Checked<CreateOptions> parse_options(const CreateArguments& arguments) {
    CreateOptions options;
    BRAID_TRY(options.level, as_option(level_of(arguments.level)));
    BRAID_TRY(options.layout, as_option(layout_named(arguments.layout)));
    if (!arguments.strip_size.empty()) {
        auto size = control::parse_size(arguments.strip_size);
        if (!size) return Refusal{fmt::format("--strip-size {}", size.error().text)};
        options.strip_size = *size;
    }
    options.name = arguments.name;
    for (const std::string& text : arguments.volumes) {
        BRAID_TRY(VolumeWish wish, parse_volume(text));
        options.volumes.push_back(std::move(wish));
    }
    options.assume_clean = arguments.assume_clean;
    if (!arguments.data_offset.empty()) {
        auto offset = control::parse_size(arguments.data_offset);
        if (!offset) return Refusal{fmt::format("--data-offset {}", offset.error().text)};
        options.data_offset = *offset;
    }
    options.wall_seconds = static_cast<std::uint64_t>(std::time(nullptr));
    return options;
}

// --- the members ---

struct Target {
    std::string path;
    bool spare{false};
    bool witness{false};
    std::unique_ptr<UringDisk> disk{};  // none in a dry run of files that are not there yet
    std::vector<OldLayout> before{};    // looked at where data is to stay
};

/// Files made by --size; they go away again unless the array was made.
class NewFiles {
  public:
    NewFiles() = default;
    NewFiles(const NewFiles&) = delete;
    NewFiles& operator=(const NewFiles&) = delete;
    ~NewFiles() {
        for (const std::string& path : paths_) unlink(path.c_str());
    }
    Checked<Unit> make(const std::string& path, std::uint64_t size) {
        const UniqueFd fd(open(path.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
        if (fd.get() < 0) {
            return Refusal{fmt::format("{}: cannot be made: {}", path, os_error_text(errno))};
        }
        paths_.push_back(path);
        if (ftruncate(fd.get(), static_cast<off_t>(size)) != 0) {
            return Refusal{fmt::format("{}: cannot be made {} bytes long: {}", path, size,
                                       os_error_text(errno))};
        }
        return Unit{};
    }
    void keep() { paths_.clear(); }

  private:
    std::vector<std::string> paths_;
};

std::vector<Target> targets_of(const CreateArguments& arguments) {
    std::vector<Target> targets;
    for (const std::string& path : arguments.members) targets.push_back({.path = path});
    for (const std::string& path : arguments.spares)
        targets.push_back({.path = path, .spare = true});
    if (!arguments.witness.empty()) {
        targets.push_back({.path = arguments.witness, .witness = true});
    }
    return targets;
}

/// By identity, so that links, and two loop devices on one file, are found too.
Checked<Unit> check_for_twins(const std::vector<Target>& targets) {
    std::map<std::string, std::string> names;
    std::vector<DiskIdentity> files;
    std::vector<std::string> paths;  // of the files, in their order
    for (const Target& target : targets) {
        const auto identity = identify_path(target.path);
        // Links to what is there are found, and named, by what they lead to.
        const auto name = identity ? rooted_path(target.path) : absolute_path(target.path);
        if (!names.emplace(name, target.path).second) {
            return Refusal{fmt::format("{}: is given twice", target.path)};
        }
        if (!identity) continue;
        if (const auto other = find_overlap(*identity, files)) {
            return Refusal{fmt::format("{} and {} are the same {}", paths[*other], target.path,
                                       identity->inode == 0 ? "device" : "file")};
        }
        files.push_back(*identity);
        paths.push_back(target.path);
    }
    return Unit{};
}

Checked<std::uint64_t> parse_file_size(const std::string& text) {
    auto size = control::parse_size(text);
    if (!size) return Refusal{fmt::format("--size {}", size.error().text)};
    if (*size == 0 || *size > member_size_max) {
        return Refusal{fmt::format("--size {}: no member can have that size", text)};
    }
    return *size;
}

Checked<Unit> make_files(const CreateArguments& arguments, const std::vector<Target>& targets,
                         std::uint64_t size, NewFiles& files) {
    for (const Target& target : targets) {
        struct stat status {};
        const bool exists = stat(target.path.c_str(), &status) == 0;
        if (exists && S_ISDIR(status.st_mode)) {
            return Refusal{fmt::format("{}: is a directory; a member is a file or a block device",
                                       target.path)};
        }
        if (exists) {
            return Refusal{
                fmt::format("{}: exists already; --size makes new files: remove it, or "
                            "leave --size out to use it as it is",
                            target.path)};
        }
        if (arguments.dry_run) continue;
        BRAID_CHECK(files.make(target.path, size));
    }
    return Unit{};
}

/// Everything that somebody might miss, by libblkid and by our own look at both ends.
Checked<std::vector<std::string>> find_content(UringLoop& loop, const Target& target,
                                               const MemberImage& image) {
    BRAID_TRY(std::vector<std::string> probed, probe_content(target.path));
    BRAID_TRY(const std::vector<std::string> ends,
              loop.run_until_done(find_signatures(*target.disk)));
    return content_of(image, std::move(probed), ends);
}

/// Refuses a member that holds anything that anybody might miss, unless that is `force`d.
Checked<Unit> look_at(UringLoop& loop, Target& target, const CreateArguments& arguments) {
    const MemberImage image = loop.run_until_done(read_member_image(*target.disk));
    if (image.os_error != 0) {
        return Refusal{
            fmt::format("{}: cannot be read: {}", target.path, os_error_text(image.os_error))};
    }
    if (arguments.assume_clean) target.before = old_layouts(image);
    if (arguments.force) return Unit{};
    BRAID_TRY(const std::vector<std::string> found, find_content(loop, target, image));
    if (found.empty()) return Unit{};
    return Refusal{fmt::format("{}: holds {}; if it may be lost, say --force", target.path,
                               text_of_content(found))};
}

Checked<Unit> open_and_look(UringLoop& loop, std::vector<Target>& targets,
                            const CreateArguments& arguments) {
    std::string refusals;
    for (Target& target : targets) {
        BRAID_TRY(target.disk, open_disk(loop, target.path));
    }
    for (Target& target : targets) {
        if (const auto looked = look_at(loop, target, arguments); !looked) {
            refusals += (refusals.empty() ? "" : "\n") + looked.error().text;
        }
    }
    if (!refusals.empty()) return Refusal{refusals};
    return Unit{};
}

// --- the plan, for people ---

void print_next_step(const CreatePlan& plan) {
    std::string paths;
    for (const MemberRecord& member : plan.configuration.members) paths += " " + member.path;
    fmt::print("serve it: nbdkit braid{}\n", paths);
}

/// Roles first, then spares, then the witness: the targets are in that order already.
Checked<CreatePlan> make_plan(const CreateOptions& options, const std::vector<Target>& targets,
                              std::uint64_t file_size) {
    std::vector<CreateMember> members;
    for (const Target& target : targets) {
        CreateMember member;
        member.path = absolute_path(target.path);
        member.spare = target.spare;
        member.witness = target.witness;
        member.size = target.disk ? target.disk->info().size : file_size;
        member.zero_fast = target.disk ? zeroes_fast(target.disk->info()) : true;
        if (target.disk) member.sector_size = target.disk->info().sector_size;
        member.before = target.before;
        members.push_back(std::move(member));
    }
    std::random_device device;
    Rng rng((std::uint64_t{device()} << 32) | device());
    return plan_create(options, members, rng);
}

Checked<Unit> carry_out(UringLoop& loop, const std::vector<Target>& targets,
                        const CreatePlan& plan) {
    std::vector<Disk*> disks;
    for (const Target& target : targets) disks.push_back(target.disk.get());
    ProgressLine line;
    return loop.run_until_done(
        create_array(std::move(disks), plan, [&line](std::uint64_t done, std::uint64_t all) {
            line.show(fmt::format("zeroing  {} of {}", size_text(done), size_text(all)));
        }));
}

// --- on a cluster that has no array yet ---

constexpr long make_seconds_max = 24 * 3600;  // with disks that are zeroed, it may take its time

Checked<Unit> check_for_cluster(const CreateArguments& arguments) {
    if (!arguments.members.empty()) {
        return Refusal{
            "with --socket the members are those that the nodes of the cluster have opened, as "
            "cluster.toml says: leave out the paths"};
    }
    if (!arguments.size.empty()) {
        return Refusal{
            "--size makes files for an array that is not a cluster's: the nodes have opened their "
            "members already"};
    }
    return Unit{};
}

/// Until the server waits for an array, or serves one.
Checked<Unit> wait_for_nodes(ControlClient& client) {
    ProgressLine line;
    for (;;) {
        BRAID_TRY(const nlohmann::json status, get_any_status(client));
        const nlohmann::json* start = object_in(status, "start");
        if (start == nullptr) return Unit{};
        const std::string phase = text_in(*start, "phase");
        if (phase != "nodes" && phase != "looking") return Unit{};
        line.show(harmless(text_in(*start, "why")));
        BRAID_CHECK(client.get("/v1/events?wait=1"));  // a second, or until something happens
    }
}

/// The server hears nothing of this command's time and paths.
Checked<int> create_in_cluster(ControlClient& client, const CreateArguments& arguments) {
    BRAID_CHECK(check_for_cluster(arguments));
    CreateOrder order;
    BRAID_TRY(order.options, parse_options(arguments));
    order.spares = arguments.spares;
    order.witness = arguments.witness;
    order.force = arguments.force;
    order.force_placement = arguments.force_placement;
    order.dry_run = arguments.dry_run;
    if (arguments.wait) BRAID_CHECK(wait_for_nodes(client));
    BRAID_TRY(const nlohmann::json answer,
              client.post("/v1/array", json_of(order), make_seconds_max));
    const nlohmann::json* plan = object_in(answer, "plan");
    if (plan == nullptr) {
        return Refusal{"the server's answer has no plan: is it of another version of braid?"};
    }
    fmt::print("{}{}", plan_lines(*plan, arguments.dry_run), placement_lines(answer));
    if (arguments.dry_run) {
        fmt::print("nothing was written: this is a dry run\n");
    } else {
        fmt::print("the nodes begin to serve it: braid status --socket {}\n", arguments.socket);
    }
    return 0;
}

Checked<Unit> create(const CreateArguments& arguments) {
    if (arguments.force_placement || arguments.wait) {
        return Refusal{
            "--force-placement and --wait are for an array of a cluster: say --socket, too"};
    }
    BRAID_TRY(const CreateOptions options, parse_options(arguments));
    BRAID_TRY(const std::unique_ptr<UringLoop> loop, UringLoop::create());
    std::vector<Target> targets = targets_of(arguments);  // whose disks end before the loop
    BRAID_CHECK(check_for_twins(targets));
    NewFiles files;
    std::uint64_t file_size = 0;
    const bool with_files = !arguments.size.empty();
    if (with_files) {
        BRAID_TRY(file_size, parse_file_size(arguments.size));
        BRAID_CHECK(make_files(arguments, targets, file_size, files));
    }
    if (!with_files || !arguments.dry_run) {
        BRAID_CHECK(open_and_look(*loop, targets, arguments));
    }
    BRAID_TRY(const CreatePlan plan, make_plan(options, targets, file_size));
    fmt::print("{}", plan_lines(json_of(plan), arguments.dry_run));
    if (arguments.dry_run) {
        fmt::print("nothing was written: this is a dry run\n");
        return Unit{};
    }
    BRAID_CHECK(carry_out(*loop, targets, plan));
    files.keep();
    print_next_step(plan);
    return Unit{};
}

}  // namespace

void add_create_command(CLI::App& app, int* exit_status) {
    auto arguments = std::make_shared<CreateArguments>();
    CLI::App* command = app.add_subcommand("create", "make an array of files or block devices");
    command->add_option("members", arguments->members, "the members, in the order of their roles")
        ->type_name("PATH...");
    command
        ->add_option("--socket", arguments->socket,
                     "of all members of a cluster: the control socket of one of its servers, which "
                     "wait for an array")
        ->type_name("PATH");
    command->add_option("--level", arguments->level, "4, 5 or 6")->required()->type_name("LEVEL");
    command
        ->add_option("--strip-size", arguments->strip_size,
                     "bytes of one strip: a power of two from 4K to 16M, by default 64K")
        ->type_name("SIZE");
    command
        ->add_option("--layout", arguments->layout,
                     "rotation of RAID-5: left-symmetric (the default), left-asymmetric, "
                     "right-symmetric or right-asymmetric")
        ->type_name("LAYOUT");
    command->add_option("--name", arguments->name, "name of the array, for people")
        ->type_name("NAME");
    command
        ->add_option("--size", arguments->size, "make the members: new, sparse files of this size")
        ->type_name("SIZE");
    command
        ->add_option("--volume", arguments->volumes,
                     "a volume, and so an NBD export; may be repeated; by default one, \"data\", "
                     "of everything")
        ->type_name("NAME:SIZE")
        ->allow_extra_args(false);
    command
        ->add_option("--spare", arguments->spares,
                     "a member that stands by for one that fails; may be repeated")
        ->type_name("PATH")
        ->allow_extra_args(false);
    command
        ->add_option(
            "--witness", arguments->witness,
            "of RAID-6 of four members: a small file or device elsewhere that breaks ties, so "
            "that any two members go on; it holds no data")
        ->type_name("PATH");
    command
        ->add_option("--data-offset", arguments->data_offset,
                     "where data begins on each member, by default 4M, or 16M if all members have "
                     "64G or more; with --assume-clean what their metadata says")
        ->type_name("SIZE");
    command->add_flag("--assume-clean", arguments->assume_clean,
                      "take parity for true as it is: neither zero the members nor resync");
    command->add_flag("--force", arguments->force, "although the members hold something");
    command->add_flag("--force-placement", arguments->force_placement,
                      "although the array of the cluster would not outlive each of its nodes");
    command->add_flag("--wait", arguments->wait,
                      "until all nodes of the cluster are there, and wait for an array");
    command->add_flag("--dry-run", arguments->dry_run, "say what would be done, and write nothing");
    command->callback([arguments, exit_status] {
        if (!arguments->socket.empty()) {
            *exit_status = with_server(arguments->socket, [&](ControlClient& client) {
                return create_in_cluster(client, *arguments);
            });
            return;
        }
        if (arguments->members.empty()) {
            throw CLI::RequiredError("without --socket, members");
        }
        const auto result = create(*arguments);
        *exit_status = result ? 0 : refuse(result.error().text);
    });
}

}  // namespace braid::cli
