// SPDX-License-Identifier: BSD-3-Clause
// parity/ beside ISA-L in one run, and against the bars of the project. Each cell is an operation,
// a strip size, a number of data strips and a level of the memory hierarchy. Both contenders take
// turns on the same memory, many short rounds each, timed in CPU time of the thread; what counts is
// the median of the rounds, so that a noisy neighbour hits both alike. Rates are bytes of data
// (k strips) a second, 1 GB = 10^9 bytes.
//
//   xor, pq      one pass over k strips; ISA-L's xor_gen and pq_gen
//   pq-stream    pq told to stream its stores, whatever the size; DRAM only
//   pq-copy      P and Q while copying the data; memcpy and pq_gen
//   recover      two lost data strips from the others, P and Q; ec_encode_data, tables ready
//   stream/read  pq-stream beside a plain read of the k strips; DRAM only
//
//   bench_parity [--quick] [--json FILE] [--rounds N] [--only xor,pq,…]
//                [--level L2,L3,DRAM] [--strip 4,64,1024] [--k 4,8,16] [--store
//                auto|cached|streamed]
#include <isa-l/erasure_code.h>
#include <isa-l/raid.h>
#include <sys/mman.h>
#include <time.h>

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "parity/gf.h"
#include "parity/kernels.h"
#include "parity/parity.h"

namespace braid::parity::bench {
namespace {

struct Options {
    bool quick = false;
    std::string json;
    std::size_t rounds = 25;
    std::vector<std::string> only;
    std::vector<std::string> levels;
    std::vector<std::string> strips;
    std::vector<std::string> counts;
    Store store = Store::automatic;
};

struct Cell {
    std::string operation;
    std::string level;
    std::size_t strip;
    std::size_t count;
    double ours = 0;   // GB/s of data
    double other = 0;  // GB/s of data; 0 where there is nobody to compare with
    double ratio = 0;  // median of the rounds' ratios
};

// --- memory --------------------------------------------------------------------------------------

/// One mapping, in huge pages where the system has them, that all cells share.
class Memory {
  public:
    explicit Memory(std::size_t size) : size_{size} {
        void* made =
            mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (made == MAP_FAILED) {
            std::perror("mmap");
            std::exit(1);
        }
        madvise(made, size, MADV_HUGEPAGE);
        start_ = static_cast<std::byte*>(made);
        std::uint64_t state = 1;
        for (std::size_t at = 0; at != size; at += 8) {
            state = state * 6364136223846793005U + 1442695040888963407U;
            std::memcpy(start_ + at, &state, 8);
        }
    }
    Memory(const Memory&) = delete;
    Memory& operator=(const Memory&) = delete;
    ~Memory() { munmap(start_, size_); }
    std::byte* at(std::size_t offset) const { return start_ + offset; }
    std::size_t size() const { return size_; }

  private:
    std::size_t size_;
    std::byte* start_;
};

struct Level {
    const char* name;
    std::size_t bytes;  // of the working set, rounded down to whole stripes
    std::size_t bytes_max;
    std::size_t pass;  // data bytes of one timed round, at least
};

constexpr Level levels[] = {
    {"L2", std::size_t{1280} << 10, std::size_t{1536} << 10, std::size_t{32} << 20},
    {"L3", std::size_t{48} << 20, std::size_t{64} << 20, std::size_t{64} << 20},
    {"DRAM", std::size_t{1} << 30, std::size_t{1} << 30, std::size_t{128} << 20},
};

/// One stripe in the working set.
struct Stripe {
    std::vector<std::byte*> strips;  // data, P, Q, then as many destinations for copies
    std::size_t count;
    std::size_t size;
    std::byte* p() const { return strips[count]; }
    std::byte* q() const { return strips[count + 1]; }
    Sources sources() const { return {strips.data(), count}; }
    Targets destinations() const { return {strips.data() + count + 2, count}; }
    ByteSpan span(std::byte* start) const { return {start, size}; }
};

// --- the contenders ------------------------------------------------------------------------------

using Run = std::function<void(const Stripe&)>;

struct Contest {
    const char* operation;
    bool copies;
    bool dram_only;
    Run ours;
    Run other;
};

volatile std::uint64_t sink;

/// The plain read that the DRAM bar is about: every byte once, in order, nothing written.
[[gnu::target_clones("avx512f", "avx2", "default")]] void read_strips(const Stripe& stripe) {
    using Wide [[gnu::vector_size(64)]] = std::uint64_t;
    Wide sums[4] = {};
    for (const std::byte* strip : stripe.sources()) {
        for (std::size_t at = 0; at != stripe.size; at += 256) {
            for (std::size_t n = 0; n != 4; ++n) {
                sums[n] ^= *reinterpret_cast<const Wide*>(strip + at + 64 * n);
            }
        }
    }
    const Wide sum = sums[0] ^ sums[1] ^ sums[2] ^ sums[3];
    sink = sum[0] ^ sum[1] ^ sum[2] ^ sum[3] ^ sum[4] ^ sum[5] ^ sum[6] ^ sum[7];
}

/// The pointers as ISA-L takes them: sources, then targets.
std::vector<void*> isal_array(const Stripe& stripe, std::size_t targets) {
    return {stripe.strips.begin(),
            stripe.strips.begin() + static_cast<std::ptrdiff_t>(stripe.count + targets)};
}

void isal_xor(const Stripe& stripe) {
    auto array = isal_array(stripe, 1);
    xor_gen(static_cast<int>(array.size()), static_cast<int>(stripe.size), array.data());
}

void isal_pq(const Stripe& stripe) {
    auto array = isal_array(stripe, 2);
    pq_gen(static_cast<int>(array.size()), static_cast<int>(stripe.size), array.data());
}

void isal_pq_copy(const Stripe& stripe) {
    for (std::size_t i = 0; i != stripe.count; ++i) {
        std::memcpy(stripe.destinations()[i], stripe.strips[i], stripe.size);
    }
    isal_pq(stripe);
}

// The two lost strips: the second and the last but one, or what is nearest.
std::size_t lost_first(std::size_t count) { return count > 2 ? 1 : 0; }
std::size_t lost_second(std::size_t count) { return count > 3 ? count - 2 : count - 1; }

/// ISA-L's tables that give two lost data strips from the other data, P and Q.
std::vector<unsigned char> isal_decode_tables(std::size_t count) {
    const std::size_t x = lost_first(count);
    const std::size_t y = lost_second(count);
    const auto both = static_cast<std::uint8_t>(gf::exp(x) ^ gf::exp(y));
    const std::uint8_t from_p = gf::div(gf::exp(y), both);
    const std::uint8_t from_q = gf::inverse(both);
    std::vector<unsigned char> first;
    for (std::size_t i = 0; i != count; ++i) {
        if (i == x || i == y) continue;
        first.push_back(static_cast<unsigned char>(from_p ^ gf::mul(from_q, gf::exp(i))));
    }
    first.push_back(from_p);
    first.push_back(from_q);
    std::vector<unsigned char> matrix = first;
    for (std::size_t i = 0; i != count; ++i) {  // second = first + everything but Q
        matrix.push_back(static_cast<unsigned char>(i + 1 == count ? first[i] : first[i] ^ 1U));
    }
    std::vector<unsigned char> tables(32 * 2 * count);
    ec_init_tables(static_cast<int>(count), 2, matrix.data(), tables.data());
    return tables;
}

void isal_recover(const Stripe& stripe, std::vector<unsigned char>& tables) {
    std::vector<unsigned char*> sources;
    std::vector<unsigned char*> lost;
    for (std::size_t i = 0; i != stripe.count + 2; ++i) {
        auto* strip = reinterpret_cast<unsigned char*>(stripe.strips[i]);
        const bool is_lost = i == lost_first(stripe.count) || i == lost_second(stripe.count);
        (is_lost ? lost : sources).push_back(strip);
    }
    ec_encode_data(static_cast<int>(stripe.size), static_cast<int>(stripe.count), 2, tables.data(),
                   sources.data(), lost.data());
}

std::vector<Contest> contests(std::size_t count, Store store) {
    const auto pq = [](Store how) {
        return
            [how](const Stripe& s) { compute_pq(s.span(s.p()), s.span(s.q()), s.sources(), how); };
    };
    const Run xor_all = [store](const Stripe& s) { compute_p(s.span(s.p()), s.sources(), store); };
    const Run pq_copy = [store](const Stripe& s) {
        compute_pq_copy(s.span(s.p()), s.span(s.q()), s.sources(), s.destinations(), store);
    };
    const Run two_lost = [store](const Stripe& s) {
        recover({.data = {s.strips.data(), s.count}, .p = s.p(), .q = s.q(), .size = s.size},
                {.first = lost_first(s.count), .second = lost_second(s.count)}, store);
    };
    const Run isal_two_lost = [tables = isal_decode_tables(count)](const Stripe& s) mutable {
        isal_recover(s, tables);
    };
    return {
        {"xor", false, false, xor_all, isal_xor},
        {"pq", false, false, pq(store), isal_pq},
        {"pq-stream", false, true, pq(Store::streamed), isal_pq},
        {"pq-copy", true, false, pq_copy, isal_pq_copy},
        {"recover", false, false, two_lost, isal_two_lost},
        {"stream/read", false, true, pq(Store::streamed), read_strips},
    };
}

// --- measuring -----------------------------------------------------------------------------------

double median(std::vector<double> values) {
    std::sort(values.begin(), values.end());
    return values[values.size() / 2];
}

double cpu_seconds() {
    timespec now{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) / 1e9;
}

/// Data bytes a second, in GB, of one pass of `run` that goes on where the last one stopped.
double rate(const std::vector<Stripe>& stripes, std::size_t& next, std::size_t pass,
            const Run& run) {
    const double start = cpu_seconds();
    std::size_t done = 0;
    while (done < pass) {
        const Stripe& stripe = stripes[next];
        run(stripe);
        done += stripe.size * stripe.count;
        next = next + 1 == stripes.size() ? 0 : next + 1;
    }
    return static_cast<double>(done) / (cpu_seconds() - start) / 1e9;
}

std::vector<Stripe> make_stripes(const Memory& memory, const Level& level, std::size_t strip,
                                 std::size_t count, bool copies) {
    const std::size_t strips = count + 2 + (copies ? count : 0);
    std::vector<Stripe> made;
    for (std::size_t at = 0; at + strips * strip <= std::min(level.bytes_max, memory.size());) {
        if (!made.empty() && at + strips * strip > level.bytes) break;
        Stripe stripe{{}, count, strip};
        for (std::size_t i = 0; i != strips; ++i, at += strip)
            stripe.strips.push_back(memory.at(at));
        made.push_back(std::move(stripe));
    }
    return made;
}

/// Both contenders must agree, or the figures mean nothing.
void check_results(const Contest& contest, const Stripe& stripe) {
    if (std::string_view(contest.operation) == "stream/read") return;
    isal_pq(stripe);  // recovery needs true parity
    const auto snapshot = [&] {
        std::vector<std::byte> bytes;
        for (const std::byte* strip : stripe.strips) {
            bytes.insert(bytes.end(), strip, strip + stripe.size);
        }
        return bytes;
    };
    contest.other(stripe);
    const auto theirs = snapshot();
    contest.ours(stripe);
    if (snapshot() != theirs) {
        std::fprintf(stderr, "%s: braid and ISA-L differ\n", contest.operation);
        std::exit(1);
    }
}

Cell measure(const Contest& contest, const std::vector<Stripe>& stripes, const Level& level,
             const Options& options) {
    check_results(contest, stripes.front());
    std::size_t next = 0;
    std::vector<double> ours;
    std::vector<double> other;
    std::vector<double> ratios;
    rate(stripes, next, level.pass, contest.ours);  // warms up
    for (std::size_t round = 0; round != options.rounds; ++round) {
        ours.push_back(rate(stripes, next, level.pass, contest.ours));
        other.push_back(rate(stripes, next, level.pass, contest.other));
        ratios.push_back(ours.back() / other.back());
    }
    return {contest.operation, level.name,    stripes.front().size, stripes.front().count,
            median(ours),      median(other), median(ratios)};
}

// --- the table and the bars ----------------------------------------------------------------------

/// The least ratio that this cell must reach, or 0. Two lost strips 2.5 times as fast is possible
/// only in L2: beyond it ISA-L's decode already takes more than 1 / 2.5 of what memory gives.
double bar(const Cell& cell) {
    const bool streams =
        cell.operation == "pq-stream" || (cell.level == "DRAM" && cell.strip > 65536);
    if (cell.operation == "pq" && cell.count == 8 && cell.level == "L2") return 1.2;
    if (cell.operation.starts_with("pq") && cell.operation != "pq-copy" && cell.count == 8 &&
        streams) {
        return 1.3;
    }
    if (cell.operation == "xor" || cell.operation == "pq") return 1.0;
    if (cell.operation == "recover") return cell.level == "L2" ? 2.5 : 1.0;
    if (cell.operation == "stream/read") return 0.85;
    return 0;
}

/// Where both are as fast as the memory, one is ahead of the other by chance.
constexpr double tie = 0.02;

bool is_missed(const Cell& cell) { return cell.ratio < bar(cell) - tie; }

void print_head() {
    std::printf("braid %s beside ISA-L; GB/s of data\n", kernel_name());
    std::printf("%-11s %-5s %9s %3s %9s %9s %7s %6s\n", "operation", "level", "strip", "k", "braid",
                "other", "ratio", "bar");
}

void print(const Cell& cell) {
    std::printf("%-11s %-5s %5zu KiB %3zu %9.1f %9.1f %7.2f", cell.operation.c_str(),
                cell.level.c_str(), cell.strip >> 10, cell.count, cell.ours, cell.other,
                cell.ratio);
    if (bar(cell) != 0) {
        std::printf(" %6.2f%s", bar(cell), is_missed(cell) ? "  missed" : "");
    }
    std::printf("\n");
    std::fflush(stdout);
}

bool write_json(const std::string& path, const std::vector<Cell>& cells) {
    std::FILE* file = std::fopen(path.c_str(), "w");
    if (file == nullptr) {
        std::perror(path.c_str());
        return false;
    }
    std::fprintf(file, "{\n  \"kernel\": \"%s\",\n  \"unit\": \"GB/s of data\",\n  \"cells\": [",
                 kernel_name());
    const char* separator = "\n";
    for (const Cell& cell : cells) {
        std::fprintf(file,
                     "%s    {\"operation\": \"%s\", \"level\": \"%s\", \"strip\": %zu, \"k\": %zu, "
                     "\"braid\": %.2f, \"other\": %.2f, \"ratio\": %.3f, \"bar\": %.2f}",
                     separator, cell.operation.c_str(), cell.level.c_str(), cell.strip, cell.count,
                     cell.ours, cell.other, cell.ratio, bar(cell));
        separator = ",\n";
    }
    std::fprintf(file, "\n  ]\n}\n");
    return std::fclose(file) == 0;
}

// --- options -------------------------------------------------------------------------------------

std::vector<std::string> split(std::string_view list) {
    std::vector<std::string> made;
    while (!list.empty()) {
        const std::size_t comma = std::min(list.find(','), list.size());
        made.emplace_back(list.substr(0, comma));
        list.remove_prefix(std::min(comma + 1, list.size()));
    }
    return made;
}

bool wanted(const std::vector<std::string>& list, const std::string& name) {
    return list.empty() || std::find(list.begin(), list.end(), name) != list.end();
}

[[noreturn]] void usage() {
    std::fprintf(stderr,
                 "usage: bench_parity [--quick] [--json FILE] [--rounds N]\n"
                 "                    [--only xor,pq,pq-stream,pq-copy,recover,stream/read]\n"
                 "                    [--strip 4,64,1024] [--k 4,8,16]\n"
                 "                    [--store auto|cached|streamed]\n");
    std::exit(2);
}

Options parse(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string_view name = argv[i];
        if (name == "--quick") {
            options.quick = true;
            options.rounds = 9;
            if (options.strips.empty()) options.strips = {"64"};
            if (options.counts.empty()) options.counts = {"8"};
            continue;
        }
        if (i + 1 == argc) usage();
        const char* value = argv[++i];
        if (name == "--json") {
            options.json = value;
        } else if (name == "--rounds") {
            options.rounds = std::max(1UL, std::strtoul(value, nullptr, 10));
        } else if (name == "--only") {
            options.only = split(value);
        } else if (name == "--level") {
            options.levels = split(value);
        } else if (name == "--strip") {
            options.strips = split(value);
        } else if (name == "--k") {
            options.counts = split(value);
        } else if (name == "--store") {
            const std::string_view store = value;
            options.store = store == "cached"     ? Store::cached
                            : store == "streamed" ? Store::streamed
                                                  : Store::automatic;
        } else {
            usage();
        }
    }
    return options;
}

int run(const Options& options) {
    const Memory memory(std::size_t{1} << 30);
    std::vector<Cell> cells;
    print_head();
    for (const Level& level : levels) {
        if (!wanted(options.levels, level.name)) continue;
        for (const std::size_t strip : {4U, 64U, 1024U}) {
            if (!wanted(options.strips, std::to_string(strip))) continue;
            for (const std::size_t count : {4U, 8U, 16U}) {
                if (!wanted(options.counts, std::to_string(count))) continue;
                for (const Contest& contest : contests(count, options.store)) {
                    if (!wanted(options.only, contest.operation)) continue;
                    if (contest.dram_only && level.bytes < memory.size()) continue;
                    const auto stripes =
                        make_stripes(memory, level, strip << 10, count, contest.copies);
                    if (stripes.empty()) continue;  // one stripe alone is larger than the cache
                    cells.push_back(measure(contest, stripes, level, options));
                    print(cells.back());
                }
            }
        }
    }
    const auto missed = std::count_if(cells.begin(), cells.end(), is_missed);
    std::printf("%zu cells, %td more than %.2f below their bar\n", cells.size(), missed, tie);
    return options.json.empty() || write_json(options.json, cells) ? 0 : 1;
}

}  // namespace
}  // namespace braid::parity::bench

int main(int argc, char** argv) {
    return braid::parity::bench::run(braid::parity::bench::parse(argc, argv));
}
