// SPDX-License-Identifier: BSD-3-Clause
// braid-sim: runs of the simulator, by seed. What a run is like comes from its seed alone, so that
// a failure can be replayed.
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/mutation.h"
#include "tests/sim/simulation.h"

namespace braid::sim {
namespace {

constexpr int exit_crash = 1;
constexpr int exit_usage = 64;
constexpr std::uint64_t steps_default = 1500;

constexpr const char* help_text =
    "braid-sim: runs of a simulated array, with an oracle for every sector\n"
    "\n"
    "  --seed N        this seed only\n"
    "  --steps M       actions of a run (1500)\n"
    "  --seeds FILE    the seeds in FILE: one a line, '#' begins a comment; with --part as below\n"
    "  --count N       so many seeds, from --seed or 1 on\n"
    "  --minutes T     fresh seeds, from the clock, until the time is up; with --part I/N only\n"
    "                  every Nth, so that several can run side by side. How far it is comes once a\n"
    "                  minute on stderr; Ctrl-C or SIGTERM ends it after the run at hand\n"
    "  --like TEXT     only seeds whose line of options has TEXT in it, as \"lone-starts\";\n"
    "                  again for more that it has to have\n"
    "  --mutation X    with a deliberate bug (not in sanitizer builds); 'list' lists them\n"
    "  --trace         print everything that happens, not only the last lines of a failure\n"
    "  --help          this\n"
    "\n"
    "Exit codes: 0 fine, 1 crash or assertion, 2 wrong data, 3 not coming to rest, 64 usage.\n";

struct Arguments {
    std::optional<std::uint64_t> seed;
    std::uint64_t steps{steps_default};
    std::uint64_t count{1};
    std::optional<double> minutes;
    std::uint64_t part{0};
    std::uint64_t parts{1};
    std::string seeds_file;
    std::string mutation{"none"};
    std::vector<std::string> like;
    bool trace{false};
};

// For the signal handlers.
volatile std::sig_atomic_t asked_to_end = 0;
std::string running;  // options and replay command of the run
Trace* running_trace = nullptr;

/// An assertion: BRAID_REQUIRE has said which. The process ends anyhow; if printing goes wrong,
/// the second signal ends it.
void on_signal(int number) {
    std::signal(SIGABRT, SIG_DFL);
    std::signal(SIGSEGV, SIG_DFL);
    std::printf("CRASH: signal %d\n%s\n", number, running.c_str());
    if (running_trace != nullptr) running_trace->print();
    std::fflush(stdout);
    _exit(exit_crash);
}

void on_end(int) { asked_to_end = 1; }

[[noreturn]] void usage(const std::string& why) {
    std::fprintf(stderr, "braid-sim: %s\n%s", why.c_str(), help_text);
    std::exit(exit_usage);
}

template <class T>
T number_of(std::string_view option, std::string_view text) {
    T value{};
    const auto parsed = std::from_chars(text.data(), text.data() + text.size(), value);
    if (parsed.ec != std::errc{} || parsed.ptr != text.data() + text.size() || value < T{0}) {
        usage(fmt::format("{} wants a number, not \"{}\"", option, text));
    }
    return value;
}

Arguments parse(int count, char** words) {
    Arguments arguments;
    for (int i = 1; i < count; ++i) {
        const std::string_view option = words[i];
        if (option == "--help") {
            std::fputs(help_text, stdout);
            std::exit(0);
        }
        if (option == "--trace") {
            arguments.trace = true;
            continue;
        }
        if (i + 1 == count) usage(fmt::format("{}: unknown, or its value is missing", option));
        const std::string_view value = words[++i];
        if (option == "--seed") {
            arguments.seed = number_of<std::uint64_t>(option, value);
        } else if (option == "--steps") {
            arguments.steps = number_of<std::uint64_t>(option, value);
        } else if (option == "--count") {
            arguments.count = number_of<std::uint64_t>(option, value);
        } else if (option == "--minutes") {
            arguments.minutes = number_of<double>(option, value);
        } else if (option == "--seeds") {
            arguments.seeds_file = value;
        } else if (option == "--like") {
            arguments.like.emplace_back(value);
        } else if (option == "--mutation") {
            arguments.mutation = value;
        } else if (option == "--part") {
            const std::size_t slash = value.find('/');
            if (slash == std::string_view::npos) usage("--part wants I/N");
            arguments.part = number_of<std::uint64_t>(option, value.substr(0, slash));
            arguments.parts = number_of<std::uint64_t>(option, value.substr(slash + 1));
            if (arguments.part >= arguments.parts) usage("--part I/N: I is less than N");
        } else {
            usage(fmt::format("{}: no such option", option));
        }
    }
    return arguments;
}

void choose_mutation(const std::string& name) {
    if (name == "list") {
        for (const std::string_view known : mutation_names) fmt::print("{}\n", known);
        std::exit(0);
    }
#ifdef BRAID_MUTATIONS
    const std::optional<Mutation> which = mutation_of(name);
    if (!which) usage(fmt::format("there is no mutation \"{}\"; --mutation list names them", name));
    chosen_mutation = *which;
#else
    if (name != "none") usage("this build has no mutations");
#endif
}

std::vector<std::uint64_t> seeds_of(const std::string& path) {
    std::ifstream file(path);
    if (!file) usage(fmt::format("{} cannot be read", path));
    std::vector<std::uint64_t> seeds;
    for (std::string line; std::getline(file, line);) {
        line = line.substr(0, line.find('#'));
        const std::size_t begin = line.find_first_not_of(" \t");
        if (begin == std::string::npos) continue;
        const std::size_t end = line.find_last_not_of(" \t");
        seeds.push_back(number_of<std::uint64_t>("--seeds", line.substr(begin, end - begin + 1)));
    }
    return seeds;
}

struct Totals {
    std::uint64_t runs{0};
    Figures figures;
    void add(const Figures& more) {
        ++runs;
        figures.requests += more.requests;
        figures.crashes += more.crashes;
        figures.starts += more.starts;
        figures.refused += more.refused;
        figures.losses += more.losses;
        figures.rows_listed += more.rows_listed;
        figures.sectors_checked += more.sectors_checked;
        figures.virtual_seconds += more.virtual_seconds;
    }
    std::string text() const {
        return fmt::format(
            "{} runs: {} requests, {} crashes, {} starts ({} refused), {} members "
            "failed, {} rows listed, {} sectors checked, {} s of virtual time, {} s of CPU",
            runs, figures.requests, figures.crashes, figures.starts, figures.refused,
            figures.losses, figures.rows_listed, figures.sectors_checked, figures.virtual_seconds,
            std::clock() / CLOCKS_PER_SEC);
    }
};

int run_one(const Arguments& arguments, const char* program, std::uint64_t seed, bool alone,
            Totals& totals) {
    const SimOptions options = draw_options(seed, arguments.steps);
    const bool alike = std::ranges::all_of(arguments.like, [&options](const std::string& part) {
        return text_of(options).find(part) != std::string::npos;
    });
    if (!alike) return 0;
    Trace trace(arguments.trace);
    running = fmt::format("seed {}: {}\nreplay: {} --seed {} --steps {}{} --trace", seed,
                          text_of(options), program, seed, arguments.steps,
                          arguments.mutation == "none" ? "" : " --mutation " + arguments.mutation);
    running_trace = &trace;
    if (alone) fmt::print("{}\n", running);
    Simulation simulation(options, trace);
    const Outcome outcome = simulation.run();
    running_trace = nullptr;
    totals.add(simulation.figures());
    if (outcome == Outcome::fine) return 0;
    trace.print();
    fmt::print("{}: {}\n{}\n", outcome == Outcome::wrong_data ? "WRONG DATA" : "NOT AT REST",
               simulation.failure(), running);
    return static_cast<int>(outcome);
}

int run_all(const Arguments& arguments, const char* program) {
    Totals totals;
    int result = 0;
    if (!arguments.seeds_file.empty()) {
        const std::vector<std::uint64_t> seeds = seeds_of(arguments.seeds_file);
        for (std::uint64_t i = arguments.part; i < seeds.size(); i += arguments.parts) {
            const std::uint64_t seed = seeds[i];
            if (asked_to_end != 0) break;
            if (result = run_one(arguments, program, seed, false, totals); result != 0) break;
        }
    } else if (arguments.minutes) {
        using Clock = std::chrono::steady_clock;
        const auto end = Clock::now() + std::chrono::duration<double>(*arguments.minutes * 60);
        // The clock chooses the first; a failure names its own.
        const auto first = static_cast<std::uint64_t>(
            std::chrono::system_clock::now().time_since_epoch() / std::chrono::milliseconds(1));
        const std::uint64_t base = arguments.seed.value_or(first / 1000 * 1000);
        const auto began = Clock::now();
        auto said = began;
        for (std::uint64_t i = arguments.part;
             Clock::now() < end && asked_to_end == 0 && result == 0; i += arguments.parts) {
            result = run_one(arguments, program, base + i, false, totals);
            if (const auto now = Clock::now(); now - said >= std::chrono::minutes(1)) {
                said = now;
                fmt::print(stderr, "{} of {} minutes, {}\n",
                           std::chrono::duration_cast<std::chrono::minutes>(now - began).count(),
                           *arguments.minutes, totals.text());
            }
        }
    } else {
        const std::uint64_t first = arguments.seed.value_or(1);
        const bool alone = arguments.count == 1;
        for (std::uint64_t i = 0; i != arguments.count && asked_to_end == 0 && result == 0; ++i) {
            result = run_one(arguments, program, first + i, alone, totals);
        }
    }
    fmt::print("{}\n", totals.text());
    return result;
}

}  // namespace
}  // namespace braid::sim

int main(int count, char** words) {
    using namespace braid::sim;
    const Arguments arguments = parse(count, words);
    choose_mutation(arguments.mutation);
    std::signal(SIGABRT, on_signal);
    std::signal(SIGSEGV, on_signal);
    std::signal(SIGINT, on_end);
    std::signal(SIGTERM, on_end);
    std::setvbuf(stdout, nullptr, _IOLBF, 0);
    return run_all(arguments, words[0]);
}
