// SPDX-License-Identifier: BSD-3-Clause
// braid status: the array as a picture, once or over and over.
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <chrono>
#include <memory>
#include <thread>

#include "cli/fields.h"
#include "cli/online.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "cli/text.h"

namespace braid::cli {
namespace {

using nlohmann::json;

constexpr std::size_t events_once = 5;
constexpr std::size_t events_watched = 10;

struct StatusOptions {
    std::string socket;
    bool watch{false};
    bool as_json{false};
};

void print(const std::string& text) {
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
}

std::uint64_t last_sequence(const json& events) {
    return events.empty() ? 0 : number_in(events.back(), "sequence");
}

/// Waits a second, or less if something happens; what happened after event `seen`.
Checked<json> wait_for_events(ControlClient& client, std::uint64_t seen) {
    const auto begin = std::chrono::steady_clock::now();
    BRAID_TRY(const json answer, client.get("/v1/events?wait=1&after=" + std::to_string(seen), 30));
    json events = list_in(answer, "events");
    // Never faster than the eye, however much happens.
    if (!events.empty()) std::this_thread::sleep_until(begin + std::chrono::milliseconds{200});
    return events;
}

/// On a terminal: draws over what is there.
Checked<int> watch_terminal(ControlClient& client, const Style& style) {
    print("\x1b[2J");
    for (;;) {
        BRAID_TRY(const json status, get_any_status(client));
        std::string picture = draw_status(status, style, events_watched) + "\n(Ctrl-C ends this)\n";
        for (std::size_t at = 0; (at = picture.find('\n', at)) != picture.npos; at += 4) {
            picture.insert(at, "\x1b[K");  // the rest of each line, which may have been longer
        }
        print("\x1b[H" + picture + "\x1b[J");
        BRAID_TRY(const json events,
                  wait_for_events(client, last_sequence(list_in(status, "events"))));
    }
}

/// Into a pipe or a file: the picture once, then each event, and how far the tasks are.
Checked<int> watch_lines(ControlClient& client, const Style& style) {
    BRAID_TRY(json status, get_any_status(client));
    print(draw_status(status, style, events_once));
    std::uint64_t seen = last_sequence(list_in(status, "events"));
    for (int round = 1;; ++round) {
        BRAID_TRY(const json events, wait_for_events(client, seen));
        if (object_in(status, "start") !=
            nullptr) {  // what it waits for, when that is something else
            BRAID_TRY(json now, get_any_status(client));
            if (now != status) print("\n" + draw_status(now, style, events_once));
            status = std::move(now);
            seen = last_sequence(list_in(status, "events"));
            continue;
        }
        for (const json& event : events) print(event_line(event, style) + "\n");
        seen = std::max(seen, last_sequence(events));
        if (round % 10 != 0) continue;
        BRAID_TRY(status, get_any_status(client));
        for (const json& task : list_in(status, "tasks")) print(task_line(task, style) + "\n");
    }
}

/// A status in one line of JSON, every second and whenever something happens.
Checked<int> watch_json(ControlClient& client) {
    for (;;) {
        BRAID_TRY(const json status, get_any_status(client));
        print(one_line(status) + "\n");
        BRAID_TRY(const json events,
                  wait_for_events(client, last_sequence(list_in(status, "events"))));
    }
}

Checked<int> watch(ControlClient& client, const StatusOptions& options, const Style& style) {
    const Checked<int> ended = options.as_json              ? watch_json(client)
                               : isatty(STDOUT_FILENO) != 0 ? watch_terminal(client, style)
                                                            : watch_lines(client, style);
    return Refusal{"the server has ended: " + ended.error().text};  // nothing else ends a watch
}

Checked<int> run(ControlClient& client, const StatusOptions& options) {
    const Style style = Style::of_stdout();
    BRAID_TRY(const json status, get_any_status(client));
    if (options.watch) return watch(client, options, style);
    print(options.as_json ? readable(status) + "\n" : draw_status(status, style, events_once));
    return 0;
}

}  // namespace

void add_status_command(CLI::App& app, int* exit_status) {
    auto options = std::make_shared<StatusOptions>();
    CLI::App* command =
        app.add_subcommand("status", "show a running array, and what happens to it");
    add_socket_option(*command, &options->socket);
    command->add_flag("--watch", options->watch, "keep showing it, with events as they come");
    command->add_flag("--json", options->as_json, "as JSON, for programs");
    command->callback([options, exit_status] {
        *exit_status = with_server(options->socket,
                                   [&](ControlClient& client) { return run(client, *options); });
    });
}

}  // namespace braid::cli
