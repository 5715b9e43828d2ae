// SPDX-License-Identifier: BSD-3-Clause
#include "tests/system/torture_oracle.h"

#include <fmt/format.h>

#include <cstdio>
#include <cstdlib>
#include <fstream>

#include "engine/base/rng.h"

namespace braid::torture {

[[noreturn]] void fail(const std::string& text) {
    fmt::print("FAILED: {}\n", text);
    std::fflush(stdout);
    std::exit(1);
}

namespace {

std::uint64_t mixed(std::uint64_t value) { return Rng(value).next(); }

template <class T>
void put(std::ostream& file, const T& value) {
    file.write(reinterpret_cast<const char*>(&value), sizeof value);
}
template <class T>
T got(std::istream& file) {
    T value{};
    file.read(reinterpret_cast<char*>(&value), sizeof value);
    if (!file) fail("the state file is cut off");
    return value;
}
void put_bytes(std::ostream& file, const std::vector<char>& bytes) {
    file.write(bytes.data(), static_cast<std::streamsize>(bytes.size()));
}
std::vector<char> got_bytes(std::istream& file, std::size_t size) {
    std::vector<char> bytes(size);
    file.read(bytes.data(), static_cast<std::streamsize>(size));
    if (!file) fail("the state file is cut off");
    return bytes;
}

}  // namespace

Sector content_of(std::uint64_t write, std::uint64_t sector) {
    Sector content{};
    if (write == zeros) return content;
    content[0] = write;
    content[1] = sector;
    const std::uint64_t key = mixed(write ^ mixed(sector));
    for (std::size_t i = 2; i != content.size(); ++i) content[i] = key + i * 0x9e3779b97f4a7c15;
    return content;
}

std::optional<std::uint64_t> write_of(const Sector& content, std::uint64_t sector) {
    const std::uint64_t write = content[0];
    if (content == content_of(write, sector)) return write;
    return std::nullopt;
}

void prepare(Oracle& oracle) {
    oracle.sectors.assign(oracle.size / sector_size, {Candidate{}});
    oracle.bad.assign(oracle.size / row_size, 0);
    oracle.torn.assign(oracle.size / oracle.data / row_size, 0);
    oracle.touched.assign(oracle.size / oracle.stripe_size(), 0);
}

void save(const Oracle& oracle, const std::string& path) {
    std::ofstream file(path, std::ios::binary | std::ios::trunc);
    for (const std::uint64_t value :
         {oracle.size, oracle.strip, oracle.data, oracle.moment, oracle.writes}) {
        put(file, value);
    }
    for (const auto& candidates : oracle.sectors) {
        put(file, static_cast<std::uint32_t>(candidates.size()));
        for (const Candidate& one : candidates) put(file, one);
    }
    put_bytes(file, oracle.bad);
    put_bytes(file, oracle.torn);
    put_bytes(file, oracle.touched);
    file.flush();
    if (!file) fail("the state file cannot be written");
}

Oracle load(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    Oracle oracle;
    for (std::uint64_t* value :
         {&oracle.size, &oracle.strip, &oracle.data, &oracle.moment, &oracle.writes}) {
        *value = got<std::uint64_t>(file);
    }
    prepare(oracle);
    for (auto& candidates : oracle.sectors) {
        candidates.resize(got<std::uint32_t>(file));
        for (Candidate& one : candidates) one = got<Candidate>(file);
    }
    oracle.bad = got_bytes(file, oracle.bad.size());
    oracle.torn = got_bytes(file, oracle.torn.size());
    oracle.touched = got_bytes(file, oracle.touched.size());
    return oracle;
}

}  // namespace braid::torture
