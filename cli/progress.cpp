// SPDX-License-Identifier: BSD-3-Clause
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <thread>

#include "cli/fields.h"
#include "cli/online_tools.h"
#include "cli/picture.h"
#include "cli/text.h"

namespace braid::cli {
namespace {

constexpr int idle_polls_max = 10;          // then it is stuck
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
    const auto follows = [&kinds](const std::string& kind) {
        return std::ranges::find(kinds, kind) != kinds.end();
    };
    for (int idle = 0;;) {
        BRAID_TRY(nlohmann::json status, get_status(client));
        const nlohmann::json* running = nullptr;
        for (const nlohmann::json& task : list_in(status, "tasks")) {
            if (follows(text_in(task, "kind"))) running = &task;
        }
        const nlohmann::json* waits = nullptr;
        for (const nlohmann::json& wait : list_in(status, "waits")) {
            if (follows(text_in(wait, "what"))) waits = &wait;
        }
        // What somebody has to see to is not waited for.
        if (running == nullptr && waits != nullptr && !flag_in(*waits, "by_itself")) return status;
        // Between the rebuild of one member and that of the next there is a moment without a task.
        bool more = std::ranges::any_of(list_in(status, "members"), [&](const auto& member) {
            return follows(text_in(member, "state"));
        });
        more = more || (follows("resyncing") && flag_in(status, "in_doubt"));
        // Nor does a scrub run the moment it is ordered.
        more = more || (follows("scrubbing") && flag_in(status, "scrub_waits"));
        const bool idles = running == nullptr && waits == nullptr;
        idle = idles ? idle + 1 : 0;
        if (idles && (!more || idle == idle_polls_max)) return status;
        if (running != nullptr) {
            line.show(task_line(*running, style));
        } else if (waits != nullptr) {
            line.show(wait_line(*waits, style));
        }
        std::this_thread::sleep_for(std::chrono::milliseconds{500});
    }
}

}  // namespace braid::cli
