// SPDX-License-Identifier: BSD-3-Clause
// The callback table. Each callback only turns nbdkit's words into ours and back; what it calls is
// in server.h (life), bridge.h (requests) and parameters.h (the command line).
// Source of the rules: nbdkit-plugin(3), version 1.32.
#define NBDKIT_API_VERSION 2
#include <fmt/format.h>
#include <nbdkit-plugin.h>
#include <signal.h>
#include <syslog.h>
#include <unistd.h>

#include <chrono>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <memory>
#include <optional>
#include <string>

#include "engine/base/limits.h"
#include "parity/kernels.h"
#include "plugin/assertion_guard.h"
#include "plugin/bridge.h"
#include "plugin/error_quota.h"
#include "plugin/errors.h"
#include "plugin/hang_up.h"
#include "plugin/parameters.h"
#include "plugin/server.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

namespace braid::plugin {
namespace {

struct Plugin {
    ParameterParser parser;
    Parameters parameters;
    std::unique_ptr<Server> server;
    std::unique_ptr<HangUp> hang_up;
    pid_t parent{0};  // the process that reads the command line
    bool background{false};
    ErrorQuota errors;
};
// Never destroyed by exit(): the process that nbdkit forks from exits while its child serves.
Plugin& plugin() {
    static auto* const instance = new Plugin;
    return *instance;
}

struct Connection {
    Server& server;
    const Export& place;
    bool readonly;
};
Connection& connection_of(void* handle) { return *static_cast<Connection*>(handle); }

int refused(const Refusal& refusal) {
    nbdkit_error("%s", refusal.text.c_str());
    return -1;
}

/// Of requests that failed.
std::optional<std::uint64_t> errors_left_out() {
    const auto now = std::chrono::steady_clock::now().time_since_epoch();
    const auto nanos = std::chrono::duration_cast<std::chrono::nanoseconds>(now).count();
    return plugin().errors.take({static_cast<std::uint64_t>(nanos)});
}

int failed(const char* what, std::uint64_t size, std::uint64_t offset, const Error& error,
           IoKind kind) {
    const int number = to_errno(error, kind);
    // EOPNOTSUPP only asks nbdkit to do it another way.
    const auto left_out = number == EOPNOTSUPP ? std::nullopt : errors_left_out();
    if (left_out) {
        if (*left_out != 0) nbdkit_error("%" PRIu64 " more requests have failed", *left_out);
        const std::string node = error.node != 0 ? fmt::format(" (node {})", error.node) : "";
        nbdkit_error("%s of %" PRIu64 " bytes at %" PRIu64 ": %s%s%s%s", what, size, offset,
                     std::string(error.text()).c_str(), node.c_str(),
                     *error.where != '\0' ? ": " : "", error.where);
    }
    nbdkit_set_error(number);
    return -1;
}

/// Events: to stderr in the foreground, as nbdkit's own messages, else to syslog.
void log_event(Severity severity, const std::string& text) {
    if (plugin().background) {
        const int level = severity == Severity::error     ? LOG_ERR
                          : severity == Severity::warning ? LOG_WARNING
                                                          : LOG_NOTICE;
        syslog(LOG_DAEMON | level, "braid: %s", text.c_str());
        return;
    }
    const std::time_t now = std::time(nullptr);
    std::tm local{};
    localtime_r(&now, &local);
    char time[16];
    std::strftime(time, sizeof time, "%H:%M:%S", &local);
    std::fprintf(stderr, "braid: %s %s%s\n", time, severity == Severity::error ? "ERROR: " : "",
                 text.c_str());
}

// --- Configuration -----------------------------------------------------------------------------

int config(const char* key, const char* value) noexcept {
    const auto taken = plugin().parser.take(key, value);
    return taken ? 0 : refused(taken.error());
}

int config_complete() noexcept {
    auto parameters = std::move(plugin().parser).complete();
    if (!parameters) return refused(parameters.error());
    plugin().parameters = std::move(parameters).value();
    if (plugin().parameters.help) {
        std::printf(
            "nbdkit braid: serves a RAID-4, RAID-5 or RAID-6 array over NBD.\n\n%s\n"
            "Example: an array of three files, and a look at it\n\n"
            "    braid create --level 5 --size 1G a.img b.img c.img\n"
            "    nbdkit -U /tmp/nbd.sock braid socket=/tmp/braid.sock a.img b.img c.img\n"
            "    nbdinfo 'nbd+unix:///?socket=/tmp/nbd.sock'\n"
            "    braid status --socket /tmp/braid.sock\n\n"
            "More: man nbdkit-braid-plugin\n",
            parameters_help);
        std::fflush(stdout);
        std::exit(EXIT_SUCCESS);
    }
    return 0;
}

void dump_plugin() noexcept {
    std::printf("braid_version=%s\n", BRAID_VERSION);
    std::printf("braid_kernel=%s\n", parity::kernel_name());
    if (parity::kernel_error() != nullptr) {
        std::printf("braid_kernel_error=%s\n", parity::kernel_error());
    }
    std::string usable;
    for (const parity::Kernel& kernel : parity::kernels()) {
        if (kernel.usable()) usable += (usable.empty() ? "" : " ") + std::string(kernel.name);
    }
    std::printf("braid_kernels_usable=%s\n", usable.c_str());
    const auto loop = UringLoop::create();
    std::printf("braid_io_uring=%s\n",
                loop ? (*loop)->features().c_str() : loop.error().text.c_str());
}

// --- Life --------------------------------------------------------------------------------------

/// As when it is told to stop: whoever started it, or ordered it, starts it anew.
void end_of_no_use(cluster::NodeEnds why) {
    switch (why) {
        case cluster::NodeEnds::excluded:
            log_event(
                Severity::warning,
                "this server ends: started anew, it is let in again (a supervisor can do that)");
            break;
        case cluster::NodeEnds::left:
            log_event(Severity::info,
                      "this node has left by order, and its server ends: started again, it is let "
                      "in again");
            break;
        case cluster::NodeEnds::stopped:
            log_event(Severity::warning,
                      "this server ends: started anew on all nodes, the array is served again (a "
                      "supervisor can do that)");
            break;
    }
    (void)kill(getpid(), SIGTERM);
}

int get_ready() noexcept {
    plugin().parent = getpid();
    auto server = Server::prepare(plugin().parameters, log_event, end_of_no_use);
    if (!server) return refused(server.error());
    plugin().server = std::move(server).value();
    return 0;
}

/// Nor is there a polite way to end their connections: shutting down the writing half makes nbdkit
/// 1.32 fail the assertion that assertion_guard.h tells of.
void leave_deaf_clients() {
    plugin().server->finish();
    log_event(Severity::warning, "ends without the clients that read no replies");
    _exit(EXIT_SUCCESS);
}

int after_fork() noexcept {
    plugin().background = getpid() != plugin().parent;
    plugin().hang_up = std::make_unique<HangUp>(
        plugin().server->socket_path(), [] { plugin().server->cancel_start(); },
        leave_deaf_clients);
    if (!plugin().hang_up->start()) {
        nbdkit_debug("the stop signals are not watched; a stop waits for the clients to leave");
    }
    const auto started = plugin().server->start();
    if (!started) {
        plugin().hang_up.reset();
        return refused(started.error());
    }
    plugin().hang_up->serves();
    constexpr bool guarded = needs_assertion_guard(NBDKIT_VERSION_MAJOR, NBDKIT_VERSION_MINOR);
    if (guarded && !guard_against_assertion()) {
        nbdkit_debug("a client that is killed while it reads may end this server");
    }
    return 0;
}

void cleanup() noexcept {
    plugin().hang_up.reset();
    if (plugin().server) plugin().server->stop();
}

void unload() noexcept { plugin().server.reset(); }

// --- Exports -----------------------------------------------------------------------------------

int list_exports(int, int, nbdkit_exports* exports) noexcept {
    for (const Export& one : plugin().server->exports()) {
        if (nbdkit_add_export(exports, one.name.c_str(), one.description.c_str()) == -1) return -1;
    }
    return 0;
}

const char* default_export(int, int) noexcept {
    const Export* first = plugin().server->default_export();
    return first != nullptr ? first->name.c_str() : nullptr;
}

void* open_connection(int readonly) noexcept {
    Server& server = *plugin().server;
    const char* name = nbdkit_export_name();
    const Export* place =
        name == nullptr || *name == '\0' ? server.default_export() : server.find_export(name);
    if (place == nullptr) {
        std::string names;
        for (const Export& one : server.exports()) names += (names.empty() ? "" : ", ") + one.name;
        nbdkit_error("a client asked for export \"%s\", but there is no such volume; there is: %s",
                     name != nullptr ? name : "", names.empty() ? "none" : names.c_str());
        return nullptr;
    }
    if (const auto open = server.open_volume(place->name); !open) {
        (void)refused(open.error());
        return nullptr;
    }
    return new Connection{server, *place, readonly != 0 || server.readonly()};
}
void close_connection(void* handle) noexcept {
    const std::unique_ptr<Connection> connection(static_cast<Connection*>(handle));
    connection->server.close_volume(connection->place.name);
}

const char* export_description(void* handle) noexcept {
    return connection_of(handle).place.description.c_str();
}
std::int64_t get_size(void* handle) noexcept {
    return static_cast<std::int64_t>(connection_of(handle).place.area.size);
}
int block_size(void*, std::uint32_t* minimum, std::uint32_t* preferred,
               std::uint32_t* maximum) noexcept {
    *minimum = 1;
    *preferred = row_size;
    *maximum = request_size_max;
    return 0;
}
int can_write(void* handle) noexcept { return connection_of(handle).readonly ? 0 : 1; }
int yes(void*) noexcept { return 1; }
int no(void*) noexcept { return 0; }
int can_fua(void*) noexcept { return NBDKIT_FUA_NATIVE; }
// A hint that costs nothing to take: members are read past the page cache, so there is none to
// fill.
int can_cache(void*) noexcept { return NBDKIT_CACHE_NATIVE; }

// --- Requests ----------------------------------------------------------------------------------

int pread(void* handle, void* buf, std::uint32_t count, std::uint64_t offset,
          std::uint32_t) noexcept {
    Connection& connection = connection_of(handle);
    const ByteSpan into{static_cast<std::byte*>(buf), count};
    const auto result =
        connection.server.bridge().read(connection.place.area.in_array({offset}), into);
    if (result) return 0;
    return failed("read", count, offset, result.error(), IoKind::read);
}

int pwrite(void* handle, const void* buf, std::uint32_t count, std::uint64_t offset,
           std::uint32_t flags) noexcept {
    Connection& connection = connection_of(handle);
    const ByteView from{static_cast<const std::byte*>(buf), count};
    const auto result = connection.server.bridge().write(
        connection.place.area.in_array({offset}), from, {.fua = (flags & NBDKIT_FLAG_FUA) != 0});
    if (result) return 0;
    return failed("write", count, offset, result.error(), IoKind::write);
}

int zero(void* handle, std::uint32_t count, std::uint64_t offset, std::uint32_t flags) noexcept {
    Connection& connection = connection_of(handle);
    const auto result = connection.server.bridge().zero(
        connection.place.area.in_array({offset}), count,
        {.fua = (flags & NBDKIT_FLAG_FUA) != 0,
         .fast_only = (flags & NBDKIT_FLAG_FAST_ZERO) != 0,
         .may_free = (flags & NBDKIT_FLAG_MAY_TRIM) != 0});  // the client did not say NO_HOLE
    if (result) return 0;
    return failed("zero", count, offset, result.error(), IoKind::zero);
}

/// Trim may do as much as it likes, so it does what gives space back, and takes none.
int trim(void* handle, std::uint32_t count, std::uint64_t offset, std::uint32_t flags) noexcept {
    Connection& connection = connection_of(handle);
    const auto result =
        connection.server.bridge().zero(connection.place.area.in_array({offset}), count,
                                        {.fua = (flags & NBDKIT_FLAG_FUA) != 0, .trim = true});
    if (result) return 0;
    return failed("trim", count, offset, result.error(), IoKind::zero);
}

int flush(void* handle, std::uint32_t) noexcept {
    const auto result = connection_of(handle).server.bridge().flush();
    if (result) return 0;
    return failed("flush", 0, 0, result.error(), IoKind::flush);
}

struct nbdkit_plugin table() {
    struct nbdkit_plugin callbacks {};
    callbacks.name = "braid";
    callbacks.longname = "braid: RAID-4, RAID-5 and RAID-6 in user space";
    callbacks.version = BRAID_VERSION;
    callbacks.description =
        "Serves the volumes of a RAID array, whose members are files or block devices.";
    callbacks.config = config;
    callbacks.config_complete = config_complete;
    callbacks.config_help = parameters_help;
    callbacks.magic_config_key = "member";
    callbacks.dump_plugin = dump_plugin;
    callbacks.get_ready = get_ready;
    callbacks.after_fork = after_fork;
    callbacks.cleanup = cleanup;
    callbacks.unload = unload;
    callbacks.list_exports = list_exports;
    callbacks.default_export = default_export;
    callbacks.open = open_connection;
    callbacks.close = close_connection;
    callbacks.export_description = export_description;
    callbacks.get_size = get_size;
    callbacks.block_size = block_size;
    callbacks.can_write = can_write;
    callbacks.can_flush = yes;
    callbacks.can_trim = yes;
    callbacks.can_zero = yes;
    callbacks.can_fast_zero = yes;
    callbacks.can_multi_conn = yes;
    callbacks.can_fua = can_fua;
    callbacks.can_cache = can_cache;
    callbacks.is_rotational = no;
    callbacks.pread = pread;
    callbacks.pwrite = pwrite;
    callbacks.zero = zero;
    callbacks.trim = trim;
    callbacks.flush = flush;
    return callbacks;
}

}  // namespace
}  // namespace braid::plugin

static struct nbdkit_plugin callback_table = braid::plugin::table();
NBDKIT_REGISTER_PLUGIN(callback_table)
