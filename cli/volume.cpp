// SPDX-License-Identifier: BSD-3-Clause
// braid volume: the volumes of a running array, and what of them cannot be known.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <memory>

#include "cli/fields.h"
#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "cli/text.h"
#include "engine/base/limits.h"

namespace braid::cli {
namespace {

struct VolumeOptions {
    std::string socket;
    bool as_json{false};
};

Checked<int> list(ControlClient& client, const VolumeOptions& options) {
    BRAID_TRY(const nlohmann::json answer, client.get("/v1/volumes"));
    if (options.as_json) {
        fmt::print("{}\n", readable(answer));
        return 0;
    }
    std::size_t width = 6;
    for (const nlohmann::json& volume : list_in(answer, "volumes")) {
        width = std::max(width, text_in(volume, "name").size());
    }
    fmt::print("{:<{}}  {:>10}  {:>20}\n", "volume", width, "size", "first byte in array");
    for (const nlohmann::json& volume : list_in(answer, "volumes")) {
        fmt::print("{:<{}}  {:>10}  {:>20}\n", text_in(volume, "name"), width,
                   size_text(number_in(volume, "size")), number_in(volume, "offset"));
    }
    return 0;
}

/// All pages of GET /v1/bad, as one answer.
Checked<nlohmann::json> get_bad(ControlClient& client) {
    nlohmann::json all = nlohmann::json::array();
    for (std::uint64_t first = 0;;) {
        BRAID_TRY(nlohmann::json page,
                  client.get(fmt::format("/v1/bad?count={}&first={}", bad_page_max, first)));
        for (const nlohmann::json& range : list_in(page, "bad")) all.push_back(range);
        const std::uint64_t next = number_in(page, "next");
        if (next <= first) {  // null, at the end
            page["bad"] = std::move(all);
            return page;
        }
        first = next;
    }
}

Checked<int> list_bad(ControlClient& client, const VolumeOptions& options) {
    BRAID_TRY(const nlohmann::json answer, get_bad(client));
    if (options.as_json) {
        fmt::print("{}\n", readable(answer));
        return 0;
    }
    std::uint64_t told = 0;
    for (const nlohmann::json& range : list_in(answer, "bad")) {
        fmt::print("{}\n", bad_line(range));
        told += number_in(range, "size");
    }
    const std::uint64_t bytes = number_in(answer, "bad_bytes");
    if (bytes == 0) fmt::print("no bad rows: every byte can be read\n");
    if (told < bytes) fmt::print("and {} more\n", size_text(bytes - told));
    return 0;
}

struct ReservationOptions {
    std::string socket;
    std::string volume;
};

void add_reservation_command(CLI::App& app, const char* verb, const char* text, const char* done,
                             int* exit_status) {
    auto options = std::make_shared<ReservationOptions>();
    CLI::App* command = app.add_subcommand(verb, text);
    add_socket_option(*command, &options->socket);
    command->add_option("volume", options->volume, "its name")->required()->type_name("VOLUME");
    command->callback([options, exit_status, verb, done] {
        *exit_status = with_server(options->socket, [&](ControlClient& client) -> Checked<int> {
            BRAID_CHECK(client.post(
                fmt::format("/v1/volumes/{}/{}", ControlClient::escape(options->volume), verb),
                nlohmann::json::object()));
            fmt::print("volume {} {}\n", options->volume, done);
            return 0;
        });
    });
}

}  // namespace

void add_reservation_commands(CLI::App& app, int* exit_status) {
    add_reservation_command(app, "reserve", "keep the other nodes of a cluster out of a volume",
                            "is reserved by this node: the others refuse their clients",
                            exit_status);
    add_reservation_command(app, "release", "let the other nodes of a cluster at a volume again",
                            "is shared: every node serves it", exit_status);
}

void add_volume_command(CLI::App& app, int* exit_status) {
    CLI::App* volume = app.add_subcommand("volume", "the volumes of a running array");
    volume->require_subcommand(1);
    const auto add = [&](const char* name, const char* text, auto run) {
        auto options = std::make_shared<VolumeOptions>();
        CLI::App* command = volume->add_subcommand(name, text);
        add_socket_option(*command, &options->socket);
        command->add_flag("--json", options->as_json, "as JSON, for programs");
        command->callback([options, exit_status, run] {
            *exit_status = with_server(
                options->socket, [&](ControlClient& client) { return run(client, *options); });
        });
    };
    add("list", "name, size and place of each", list);
    add("bad", "the bytes that cannot be known", list_bad);
}

}  // namespace braid::cli
