// SPDX-License-Identifier: BSD-3-Clause
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/online_tools.h"
#include "cli/picture.h"

namespace braid::cli {
namespace {

constexpr long seconds_between_lines = 10;  // where it is no terminal

long now_seconds() {
    return static_cast<long>(std::chrono::duration_cast<std::chrono::seconds>(
                                 std::chrono::steady_clock::now().time_since_epoch())
                                 .count());
}

}  // namespace

ProgressLine::ProgressLine() : terminal_(isatty(STDERR_FILENO) != 0) {}

void ProgressLine::show(const std::string& text) {
    if (terminal_) {
        std::fprintf(stderr, "\r%s\x1b[K", text.c_str());
        open_ = true;
    } else if (last_shown_ == 0 || now_seconds() - last_shown_ >= seconds_between_lines) {
        std::fprintf(stderr, "%s\n", text.c_str());
        last_shown_ = now_seconds();
    }
}

void ProgressLine::finish() {
    if (open_) std::fprintf(stderr, "\r\x1b[K");
    open_ = false;
}

Checked<nlohmann::json> follow_tasks(ControlClient& client, const std::vector<std::string>& kinds) {
    Style style = Style::of_stdout();
    style.colours = false;
    ProgressLine line;
    for (;;) {
        BRAID_TRY(nlohmann::json status, get_status(client));
        const nlohmann::json* running = nullptr;
        for (const nlohmann::json& task : list_in(status, "tasks")) {
            if (std::ranges::find(kinds, text_in(task, "kind")) != kinds.end()) running = &task;
        }
        if (running == nullptr) return status;
        line.show(task_line(*running, style));
        std::this_thread::sleep_for(std::chrono::milliseconds{500});
    }
}

}  // namespace braid::cli
