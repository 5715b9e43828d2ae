// SPDX-License-Identifier: BSD-3-Clause
// Cluster chaos: seeds that failed once, and some more. With BRAID_CHAOS_MINUTES fresh ones until the
// time is up (./dev sim --cluster); with BRAID_CHAOS_SEED that one, and it tells what happens. With
// BRAID_CHAOS_SPARES there are spares; with BRAID_CHAOS_STRICT reads are strict, and clocks worse; so is
// every fourth of the fresh ones.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <chrono>
#include <csignal>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <string>

#include "tests/cluster/node_chaos_kit.h"
#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

std::string running;  // for the signal handler

void on_abort(int) {
    std::signal(SIGABRT, SIG_DFL);
    std::signal(SIGSEGV, SIG_DFL);
    std::printf("CRASH: %s\n", running.c_str());
    std::fflush(stdout);
}

struct Totals {
    std::uint64_t runs{0};
    ChaosFigures all;
    void add(const ChaosFigures& more) {
        ++runs;
        all.requests += more.requests;
        all.failed += more.failed;
        all.happened += more.happened;
        all.starts += more.starts;
        all.starts_of_all += more.starts_of_all;
        all.virtual_seconds += more.virtual_seconds;
    }
    std::string text() const {
        return fmt::format(
            "{} runs: {} requests ({} failed), {} events, {} starts of nodes, {} of all, {} s of "
            "virtual time",
            runs, all.requests, all.failed, all.happened, all.starts, all.starts_of_all,
            all.virtual_seconds);
    }
};

/// Clocks that no lease could be reckoned by.
void make_strict(ChaosOptions& options) {
    options.strict = true;
    options.drift_ppm = 200'000;
}

/// @return  it is fine
bool run_one(std::uint64_t seed, bool tells, Totals& totals, bool strict = false,
             Spares spares = Spares::drawn) {
    if (std::getenv("BRAID_CHAOS_SPARES") != nullptr) spares = Spares::some;
    ChaosOptions options = draw_chaos(seed, spares);
    if (strict || std::getenv("BRAID_CHAOS_STRICT") != nullptr) make_strict(options);
    if (const char* kinds = std::getenv("BRAID_CHAOS_KINDS")) {
        options.kinds = static_cast<std::uint32_t>(std::strtoul(kinds, nullptr, 0));
        options.beyond = false;
    }
    running = fmt::format("seed {}: {}\nreplay: {}{}BRAID_CHAOS_SEED={} {}", seed, text_of(options),
                          options.strict ? "BRAID_CHAOS_STRICT=1 " : "",
                          options.spares != 0 ? "BRAID_CHAOS_SPARES=1 " : "", seed,
                          "build/release/tests/cluster/cluster_node_chaos_test");
    if (tells) fmt::print("{}\n", running);
    Chaos chaos(options, [tells](const std::string& text) {
        if (tells) fmt::print("{}\n", text);
        if (tells) std::fflush(stdout);
    });
    const bool had_failed = testing::Test::HasFailure();
    const std::string why = chaos.run();
    totals.add(chaos.figures());
    if (why.empty() && (had_failed || !testing::Test::HasFailure())) return true;
    std::string trace;
    for (const std::string& text : chaos.trace()) trace += text + "\n";
    ADD_FAILURE() << running << "\n" << trace << (tells ? chaos.logs() : "") << "\n" << why;
    return false;
}

TEST(NodeChaos, Seeds) {
    std::signal(SIGABRT, on_abort);
    std::signal(SIGSEGV, on_abort);
    Totals totals;
    const char* const only = std::getenv("BRAID_CHAOS_SEED");
    const char* const minutes = std::getenv("BRAID_CHAOS_MINUTES");
    const char* const part = std::getenv("BRAID_CHAOS_PART");
    const char* const count = std::getenv("BRAID_CHAOS_COUNT");
    if (only != nullptr) {
        const std::uint64_t first = std::strtoull(only, nullptr, 10);
        const std::uint64_t runs = count == nullptr ? 1 : std::strtoull(count, nullptr, 10);
        for (std::uint64_t i = 0; i != runs; ++i) run_one(first + i, runs == 1, totals);
    } else if (minutes != nullptr) {
        using Clock = std::chrono::steady_clock;
        const auto began = Clock::now();
        const auto end = began + std::chrono::duration<double>(std::strtod(minutes, nullptr) * 60);
        auto said = began;
        const auto first = static_cast<std::uint64_t>(
            std::chrono::system_clock::now().time_since_epoch() / std::chrono::seconds(1));
        const std::uint64_t mine = part == nullptr ? 0 : std::strtoull(part, nullptr, 10);
        for (std::uint64_t i = 0; Clock::now() < end; ++i) {
            const std::uint64_t seed = first * 100'000 + mine * 10'000'000 + i;
            if (!run_one(seed, false, totals, i % 4 == 3)) break;
            if (Clock::now() - said < std::chrono::minutes(1)) continue;
            said = Clock::now();
            fmt::print(stderr, "{}\n", totals.text());
        }
    } else {
        for (std::uint64_t seed = 1; seed <= seeds_of(20, 1000); ++seed) {
            run_one(seed, false, totals);
        }
    }
    fmt::print("{}\n", totals.text());
}

/// Spares take the roles of members whose nodes are away; some of them are back in time. With the seeds that
/// failed once.
TEST(NodeChaos, SparesTakeRoles) {
    Totals totals;
    run_one(179612995700078, false, totals, false, Spares::some);
    for (std::uint64_t seed = 1; seed <= seeds_of(8, 1000); ++seed) {
        run_one(seed, false, totals, false, Spares::some);
    }
    fmt::print("{}\n", totals.text());
}

/// With reads = "strict", and clocks that differ by up to 20 %, and stand while their node does.
TEST(NodeChaos, StrictReads) {
    Totals totals;
    for (std::uint64_t seed = 1; seed <= seeds_of(6, 1000); ++seed) {
        run_one(seed, false, totals, true);
    }
    fmt::print("{}\n", totals.text());
}

/// Its server, and any other that is refused then, is started anew, and in the end all serve.
TEST(NodeChaos, ANodeBeginsAnewAsAllBegin) {
    for (std::uint64_t seed = 1; seed <= seeds_of(80, 2000); ++seed) {
        SCOPED_TRACE(seed);
        SimNodes nodes({.seed = seed, .members = 3, .nodes = 3, .own_loops = true});
        SimLoop& loop = nodes.loop();
        for (std::uint32_t node = 0; node != 3; ++node) nodes.begin(node);
        for (int round = 0; round != 2; ++round) {
            loop.run_for(millis(loop.rng().below(60)));
            const auto victim = static_cast<std::uint32_t>(loop.rng().below(2));
            if (!nodes.is_up(victim)) continue;
            nodes.kill(victim, Dies::process);
            loop.run_for(millis(loop.rng().below(60)));
            nodes.begin(victim);
        }
        const auto serves = [&](std::uint32_t node) {
            return nodes.is_up(node) && nodes.has_begun(node) && nodes.refusal(node).empty() &&
                   nodes.log(node).find("the array stops") == std::string::npos;
        };
        int serving = 0;
        for (int i = 0; i != 1200 && serving != 3; ++i) {
            loop.run_for(millis(50));
            serving = 0;
            for (std::uint32_t node = 0; node != 3; ++node) {
                if (!nodes.is_up(node)) nodes.begin(node);
                serving += serves(node) ? 1 : 0;
                if (serves(node) || !nodes.has_begun(node)) continue;
                nodes.begin_to_end(node);
                if (nodes.has_left(node)) nodes.forget(node);
            }
        }
        ASSERT_EQ(serving, 3) << nodes.logs();
    }
}

}  // namespace
}  // namespace braid::sim
