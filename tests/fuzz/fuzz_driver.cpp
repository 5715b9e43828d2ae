// SPDX-License-Identifier: BSD-3-Clause
// Runs a fuzz target without libFuzzer: samples, cut, flipped, spliced and overwritten by a seeded
// generator, for some seconds. One seed gives the same inputs again; what fails is kept in a file.
#include <chrono>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iostream>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "tests/fuzz/samples.h"

namespace {

using braid::Rng;

char random_byte(Rng& rng) {
    constexpr char telling[] = {0,   1,   2,   127, -128, -1,  '"', '{',
                                '}', '[', ']', ',', ':',  '0', '9'};
    return rng.chance(2) ? telling[rng.below(sizeof telling)] : static_cast<char>(rng.below(256));
}

void change(std::string& input, const std::vector<std::string>& samples, Rng& rng) {
    if (input.empty()) input.push_back(random_byte(rng));
    const auto at = static_cast<std::size_t>(rng.below(input.size()));
    const auto count = static_cast<std::size_t>(1 + rng.below(8));
    const std::string& other = samples[rng.below(samples.size())];
    switch (rng.below(7)) {
        case 0:
            input[at] = static_cast<char>(input[at] ^ static_cast<char>(1 << rng.below(8)));
            break;
        case 1:
            input[at] = random_byte(rng);
            break;
        case 2:
            input.erase(at, count);
            break;
        case 3:
            input.insert(at, count, random_byte(rng));
            break;
        case 4:
            input.resize(at);
            break;
        case 5:
            for (std::size_t i = at; i < input.size() && i < at + count; ++i)
                input[i] = random_byte(rng);
            break;
        default: {
            if (other.empty()) break;
            const auto from = static_cast<std::size_t>(rng.below(other.size()));
            input.replace(at, count, other.substr(from, count * 8));
        }
    }
}

std::string make_input(const std::vector<std::string>& samples, Rng& rng) {
    std::string input = samples[rng.below(samples.size())];
    for (std::uint64_t changes = rng.below(6); changes-- > 0;) change(input, samples, rng);
    return input;
}

void run_one(const std::string& input) {
    LLVMFuzzerTestOneInput(reinterpret_cast<const std::uint8_t*>(input.data()), input.size());
}

int run_file(const char* path) {
    std::ifstream file(path, std::ios::binary);
    const std::string input((std::istreambuf_iterator<char>(file)),
                            std::istreambuf_iterator<char>());
    run_one(input);
    return 0;
}

std::string current;  // for on_abort()

void on_abort() {
    std::ofstream("fuzz-failure.bin", std::ios::binary) << current;
    std::fprintf(stderr, "the input is in fuzz-failure.bin; give it as the argument\n");
}

}  // namespace

int main(int count, char** arguments) {
    std::uint64_t seconds = 2;
    std::uint64_t seed = 1;
    for (int i = 1; i < count; ++i) {
        const std::string name = arguments[i];
        if (name == "--seconds" && i + 1 < count) {
            seconds = std::strtoull(arguments[++i], nullptr, 10);
        } else if (name == "--seed" && i + 1 < count) {
            seed = std::strtoull(arguments[++i], nullptr, 10);
        } else {
            return run_file(arguments[i]);
        }
    }
    std::vector<std::string> samples = fuzz_samples();
    samples.emplace_back();
    std::signal(SIGABRT, [](int) { on_abort(); });
    Rng rng(seed);
    std::uint64_t runs = 0;
    for (const std::string& sample : samples) run_one(sample);
    const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(seconds);
    while (std::chrono::steady_clock::now() < end) {
        current = make_input(samples, rng);
        run_one(current);
        ++runs;
    }
    std::cout << runs << " inputs in " << seconds << " s, seed " << seed << "\n";
    return 0;
}
