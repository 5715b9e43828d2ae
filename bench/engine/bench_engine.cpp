// SPDX-License-Identifier: BSD-3-Clause
// The engine alone, without NBD, beside a bare io_uring loop that does the same reads and writes of
// the same members with no parity and no locks. Both run in turns in one process; the table gives
// medians and the ratio of each row.
#include <fcntl.h>
#include <fmt/format.h>
#include <liburing.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <deque>
#include <functional>
#include <string>
#include <vector>

#include "engine/array.h"
#include "engine/assembly/create.h"
#include "engine/base/buffer.h"
#include "engine/io/uring_disk.h"
#include "engine/io/uring_loop.h"
#include "engine/layout/geometry.h"
#include "engine/serving/requests.h"

namespace braid {
namespace {

struct Options {
    std::string folder{"/dev/shm"};
    std::uint64_t member_size{512u << 20};
    double seconds{1.0};  // of each measurement
    int rounds{5};
    std::string only;  // rows whose name contains it
    std::string json;
};

double time_of(clockid_t clock) {
    timespec now{};
    clock_gettime(clock, &now);
    return static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
}

/// Operations or bytes per second, and CPU seconds per operation.
struct Figure {
    double rate{0};
    double cpu{0};
};
double median(std::vector<double> values) {
    std::ranges::sort(values);
    return values[values.size() / 2];
}

/// What one measurement did in how long.
class Stopwatch {
  public:
    Stopwatch() : wall_(time_of(CLOCK_MONOTONIC)), cpu_(time_of(CLOCK_PROCESS_CPUTIME_ID)) {}
    double wall() const { return time_of(CLOCK_MONOTONIC) - wall_; }
    Figure figure(double units, double operations) const {
        return {units / wall(), (time_of(CLOCK_PROCESS_CPUTIME_ID) - cpu_) / operations};
    }

  private:
    double wall_;
    double cpu_;
};

constexpr std::uint64_t data_start = 4u << 20;
constexpr std::uint32_t depth = 32;

// ---- braid ---------------------------------------------------------------------------------

struct Bench {
    const Options& options;
    std::vector<std::string> paths;
    std::string spare_path;
    Level level;
    std::unique_ptr<UringLoop> loop;
    std::unique_ptr<Array> array;
    Geometry geometry;

    Bench(const Options& the_options, Level the_level, std::uint32_t members)
        : options(the_options), level(the_level) {
        for (std::uint32_t i = 0; i != members; ++i) {
            paths.push_back(fmt::format("{}/bench-{}-{}", options.folder, getpid(), i));
        }
        spare_path = fmt::format("{}/bench-{}-spare", options.folder, getpid());
        for (const std::string& path : paths) make_file(path);
        make_file(spare_path);
    }
    ~Bench() {
        for (const std::string& path : paths) unlink(path.c_str());
        unlink(spare_path.c_str());
    }
    void make_file(const std::string& path) const {
        const int fd = open(path.c_str(), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
        BRAID_REQUIRE(fd >= 0);
        const std::vector<char> bytes(1u << 20, 'b');
        for (std::uint64_t at = 0; at != options.member_size; at += bytes.size()) {
            BRAID_REQUIRE(pwrite(fd, bytes.data(), bytes.size(), static_cast<off_t>(at)) ==
                          static_cast<ssize_t>(bytes.size()));
        }
        BRAID_REQUIRE(fsync(fd) == 0);
        close(fd);
    }

    void start() {
        loop = std::move(UringLoop::create()).value();
        std::vector<std::unique_ptr<Disk>> disks;
        std::vector<Disk*> pointers;
        std::vector<CreateMember> members;
        for (const std::string& path : paths) {
            disks.push_back(std::move(open_disk(*loop, path)).value());
            pointers.push_back(disks.back().get());
            CreateMember member;
            member.path = path;
            member.size = options.member_size;
            members.push_back(member);
        }
        CreateOptions how;
        how.level = level;
        how.assume_clean = true;
        how.name = "bench";
        Rng rng(1);
        auto plan = plan_create(how, members, rng);
        BRAID_REQUIRE(plan.has_value());
        BRAID_REQUIRE(loop->run_until_done(create_array(pointers, *plan, {})).has_value());
        ArrayOptions open_options;
        open_options.on_buffer = [this](ByteSpan region) {
            if (!loop->register_buffer(region)) fmt::print(stderr, "no registered buffers\n");
        };
        auto opened = loop->run_until_done(
            Array::open(loop->ready(), *loop, std::move(disks), std::move(open_options)));
        BRAID_REQUIRE(opened.has_value());
        array = std::move(*opened);
        geometry = Geometry::of(array->configuration());
    }
    void stop() {
        BRAID_REQUIRE(loop->run_until_done(array->stop()).has_value());
        array.reset();
        loop.reset();
    }
};

/// Keeps `depth` writes in flight for the time of a measurement.
Task<std::uint64_t> write_for(Array* array, double seconds, std::uint64_t size,
                              std::uint64_t array_size, ReadyQueue* ready) {
    static Buffer data(4u << 20);
    struct State {
        Rng rng{7};
        std::uint64_t done{0};
        std::uint32_t flying{0};
        Event over;
        bool ending{false};
        Array* array;
        std::uint64_t slots;
    } state;
    state.array = array;
    state.slots = array_size / size;
    std::array<IoRequest, depth> requests;
    for (IoRequest& request : requests) {
        request.kind = IoKind::write;
        request.size = size;
        request.data = data.data();
        request.offset = {state.rng.below(state.slots) * size};
        request.user = &state;
        request.done = [](IoRequest& done) {
            BRAID_REQUIRE(done.ok);
            State& at = *static_cast<State*>(done.user);
            ++at.done;
            if (at.ending) {
                if (--at.flying == 0) at.over.set();
                return;
            }
            done.offset = {at.rng.below(at.slots) * done.size};
            at.array->submit(done);
        };
    }
    (void)ready;
    const double end = time_of(CLOCK_MONOTONIC) + seconds;
    state.flying = depth;
    for (IoRequest& request : requests) array->submit(request);
    while (time_of(CLOCK_MONOTONIC) < end) {
        for (int i = 0; i != 20; ++i) {
            Yield yield;
            co_await yield;
        }
    }
    state.ending = true;
    auto over = state.over.wait();
    co_await over;
    co_return state.done;
}

Figure braid_writes(Bench& bench, std::uint64_t size) {
    const Stopwatch watch;
    const auto array_size = bench.array->configuration().data_size();
    const auto done = static_cast<double>(bench.loop->run_until_done(write_for(
        bench.array.get(), bench.options.seconds, size, array_size, &bench.loop->ready())));
    return watch.figure(done * (size > row_size ? static_cast<double>(size) : 1), done);
}

Task<Result<Unit>> rebuild(Bench* bench) {
    auto disk = open_disk(*bench->loop, bench->spare_path);
    BRAID_REQUIRE(disk.has_value());
    auto replaced = co_await bench->array->replace_member("1", std::move(*disk), Force::yes);
    BRAID_REQUIRE(replaced.has_value());
    for (;;) {
        bool rebuilding = false;
        for (const auto& member : bench->array->status().members) {
            rebuilding |= member.record.state == MemberState::rebuilding;
        }
        if (!rebuilding) co_return Unit{};
        Timer timer(*bench->loop, Nanos{bench->loop->now().value + 2'000'000});
        co_await timer;
    }
}

Figure braid_rebuild(Bench& bench) {
    const Stopwatch watch;
    BRAID_REQUIRE(bench.loop->run_until_done(rebuild(&bench)).has_value());
    std::swap(bench.paths[1], bench.spare_path);
    const auto bytes = static_cast<double>(bench.options.member_size - data_start);
    return watch.figure(bytes, bytes / 1e6);
}

// ---- the bare loop -------------------------------------------------------------------------

/// Steps of one logical operation: all of a step are in flight together, then the next step.
struct Access {
    bool write;
    std::uint32_t member;
    std::uint64_t offset;
    std::uint32_t size;
};

class BareLoop {
  public:
    /// Memory for `in_flight` operations at a time is there before anything is measured.
    BareLoop(const Bench& bench, std::uint32_t in_flight) : slots_(in_flight) {
        io_uring_params params{};
        params.flags = IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN;
        BRAID_REQUIRE(io_uring_queue_init_params(1024, &ring_, &params) == 0);
        for (const std::string& path : bench.paths) open_one(path);
        open_one(bench.spare_path);
    }
    ~BareLoop() {
        io_uring_queue_exit(&ring_);
        for (const int fd : fds_) close(fd);
    }
    BareLoop(const BareLoop&) = delete;
    BareLoop& operator=(const BareLoop&) = delete;

    /// Runs operations, each a list of steps, until next() is false.
    std::uint64_t run(const std::function<bool(std::vector<std::vector<Access>>&)>& next) {
        std::uint64_t done = 0;
        std::uint32_t active = 0;
        const auto submit = [&](Slot& slot) {
            std::uint64_t at = 0;
            for (const Access& access : slot.steps[slot.step]) {
                io_uring_sqe* sqe = io_uring_get_sqe(&ring_);
                if (sqe == nullptr) {
                    io_uring_submit(&ring_);
                    sqe = io_uring_get_sqe(&ring_);
                }
                std::byte* data = slot.data.data() + at;
                at += access.size;
                if (access.write) {
                    io_uring_prep_write(sqe, fds_[access.member], data, access.size, access.offset);
                } else {
                    io_uring_prep_read(sqe, fds_[access.member], data, access.size, access.offset);
                }
                io_uring_sqe_set_data(sqe, &slot);
                ++slot.pending;
            }
        };
        const auto begin = [&](Slot& slot) {
            slot.steps.clear();
            slot.step = 0;
            if (!next(slot.steps)) return;
            ++active;
            submit(slot);
        };
        for (Slot& slot : slots_) begin(slot);
        while (active != 0) {
            io_uring_submit_and_wait(&ring_, 1);
            unsigned head = 0;
            unsigned count = 0;
            io_uring_cqe* cqe = nullptr;
            std::vector<Slot*> ended;
            io_uring_for_each_cqe(&ring_, head, cqe) {
                ++count;
                BRAID_REQUIRE(cqe->res > 0);
                Slot& slot = *static_cast<Slot*>(io_uring_cqe_get_data(cqe));
                if (--slot.pending == 0) ended.push_back(&slot);
            }
            io_uring_cq_advance(&ring_, count);
            for (Slot* slot : ended) {
                if (++slot->step != slot->steps.size()) {
                    submit(*slot);
                    continue;
                }
                ++done;
                --active;
                begin(*slot);
            }
        }
        return done;
    }

  private:
    struct Slot {
        std::vector<std::vector<Access>> steps;
        std::size_t step{0};
        std::uint32_t pending{0};
        Buffer data{4u << 20};
    };
    void open_one(const std::string& path) {
        int fd = open(path.c_str(), O_RDWR | O_DIRECT | O_CLOEXEC);
        if (fd < 0) fd = open(path.c_str(), O_RDWR | O_CLOEXEC);
        BRAID_REQUIRE(fd >= 0);
        fds_.push_back(fd);
    }
    io_uring ring_{};
    std::vector<int> fds_;
    std::deque<Slot> slots_;
};

Figure bare_small_writes(const Bench& bench, const Geometry& geometry) {
    BareLoop bare(bench, depth);
    Rng rng(7);
    const Stopwatch watch;
    const std::uint64_t rows = geometry.stripes * geometry.rows_per_strip();
    const auto done = static_cast<double>(bare.run([&](auto& steps) {
        if (watch.wall() > bench.options.seconds) return false;
        const std::uint64_t row = rng.below(rows);
        const StripeIndex stripe{row / geometry.rows_per_strip()};
        const std::uint64_t offset = data_start + row * row_size;
        std::vector<Access> reads;
        std::vector<Access> writes;
        const auto touch = [&](Role role) {
            const std::uint32_t member = raw(geometry.member_of(stripe, role));
            reads.push_back({false, member, offset, row_size});
            writes.push_back({true, member, offset, row_size});
        };
        touch(Role{static_cast<std::uint32_t>(rng.below(geometry.data_count()))});
        for (const Role role : geometry.parity_roles()) touch(role);
        steps = {reads, writes};
        return true;
    }));
    return watch.figure(done, done);
}

Figure bare_full_stripes(const Bench& bench, const Geometry& geometry) {
    BareLoop bare(bench, depth);
    Rng rng(7);
    const Stopwatch watch;
    const auto done = static_cast<double>(bare.run([&](auto& steps) {
        if (watch.wall() > bench.options.seconds) return false;
        const std::uint64_t offset = data_start + rng.below(geometry.stripes) * geometry.strip_size;
        std::vector<Access> writes;
        for (std::uint32_t member = 0; member != geometry.member_count; ++member) {
            writes.push_back(
                {true, member, offset, static_cast<std::uint32_t>(geometry.strip_size)});
        }
        steps = {writes};
        return true;
    }));
    return watch.figure(done * static_cast<double>(geometry.stripe_data_size()), done);
}

/// Reads all survivors, or writes the new member, in pieces of 256 KiB: bytes of one member a
/// second.
Figure bare_walk(const Bench& bench, const Geometry& geometry, bool write) {
    BareLoop bare(bench, 4);
    constexpr std::uint32_t piece = 256u << 10;
    const std::uint64_t end = geometry.stripes * geometry.strip_size;
    std::uint64_t at = 0;
    const Stopwatch watch;
    bare.run([&](auto& steps) {
        if (at + piece > end) return false;
        std::vector<Access> accesses;
        if (write) {
            accesses.push_back({true, geometry.member_count, data_start + at, piece});
        } else {
            for (std::uint32_t member = 0; member != geometry.member_count; ++member) {
                if (member != 1) accesses.push_back({false, member, data_start + at, piece});
            }
        }
        at += piece;
        steps = {accesses};
        return true;
    });
    return watch.figure(static_cast<double>(end), static_cast<double>(end) / 1e6);
}

// ---- the table -----------------------------------------------------------------------------

struct Row {
    std::string name;
    std::string unit;
    double scale{1};
    double bar{0};
    std::function<Figure()> ours;
    std::function<Figure()> bare;
};

void run_rows(const Options& options, const std::string& title, std::vector<Row> rows,
              std::string& json) {
    for (const Row& row : rows) {
        if (row.name.find(options.only) == std::string::npos) continue;
        std::vector<double> ours;
        std::vector<double> bare;
        std::vector<double> cpu;
        for (int round = 0; round != options.rounds; ++round) {
            const Figure figure = row.ours();
            ours.push_back(figure.rate);
            cpu.push_back(figure.cpu);
            bare.push_back(row.bare().rate);
        }
        const double ratio = median(ours) / median(bare);
        fmt::print("{:<12} {:<22} {:>10.1f} {:>10.1f} {:<6} {:>6.2f} x  {:>5}  {:>7.2f} us\n",
                   title, row.name, median(ours) * row.scale, median(bare) * row.scale, row.unit,
                   ratio, row.bar == 0 ? "" : fmt::format(">={:.2f}", row.bar), median(cpu) * 1e6);
        json += fmt::format(
            "{}{{\"array\":\"{}\",\"row\":\"{}\",\"braid\":{},\"bare\":{},\"ratio\":{},\"bar\":{},"
            "\"cpu_us\":{}}}",
            json.empty() ? "" : ",\n", title, row.name, median(ours), median(bare), ratio, row.bar,
            median(cpu) * 1e6);
    }
}

void run_array(const Options& options, Level level, std::uint32_t members, std::string& json) {
    Bench bench(options, level, members);
    bench.start();
    const Geometry geometry = bench.geometry;
    const bool six = level == Level::raid6;
    std::vector<Row> rows;
    rows.push_back({"4 KiB random write", "k/s", 1e-3, six ? 0.7 : 0.75,
                    [&] { return braid_writes(bench, row_size); },
                    [&] { return bare_small_writes(bench, geometry); }});
    rows.push_back({"full-stripe write", "MB/s", 1e-6, 0.85,
                    [&] { return braid_writes(bench, geometry.stripe_data_size()); },
                    [&] { return bare_full_stripes(bench, geometry); }});
    rows.push_back({"rebuild", "MB/s", 1e-6, 0.8, [&] { return braid_rebuild(bench); },
                    [&] {
                        const Figure read = bare_walk(bench, geometry, false);
                        const Figure write = bare_walk(bench, geometry, true);
                        return read.rate < write.rate ? read : write;
                    }});
    run_rows(options,
             fmt::format("RAID-{} {}+{}", static_cast<int>(level), geometry.data_count(),
                         geometry.parities()),
             std::move(rows), json);
    bench.stop();
}

int run(int argc, char** argv) {
    Options options;
    for (int i = 1; i < argc; ++i) {
        const std::string word = argv[i];
        const auto value = [&] { return i + 1 < argc ? std::string(argv[++i]) : std::string(); };
        if (word == "--dir") {
            options.folder = value();
        } else if (word == "--quick") {
            options.seconds = 0.3;
            options.rounds = 3;
            options.member_size = 256u << 20;
        } else if (word == "--only") {
            options.only = value();
        } else if (word == "--json") {
            options.json = value();
        } else {
            fmt::print(
                "usage: bench_engine [--dir FOLDER] [--quick] [--only ROW] [--json FILE]\n"
                "members are files of 512 MiB in FOLDER, by default /dev/shm\n");
            return word == "--help" ? 0 : 2;
        }
    }
    fmt::print("{:<12} {:<22} {:>10} {:>10} {:<6} {:>8}  {:>5}  {}\n", "array", "row", "braid",
               "bare loop", "", "ratio", "bar", "braid's CPU per operation (rebuild: per MB)");
    std::string json;
    run_array(options, Level::raid5, 5, json);
    run_array(options, Level::raid6, 6, json);
    run_array(options, Level::raid5, 6, json);
    if (!options.json.empty()) {
        FILE* file = std::fopen(options.json.c_str(), "w");
        if (file == nullptr) {
            fmt::print(stderr, "{}: {}\n", options.json, std::strerror(errno));
            return 1;
        }
        fmt::print(file, "[{}]\n", json);
        std::fclose(file);
    }
    return 0;
}

}  // namespace
}  // namespace braid

int main(int argc, char** argv) { return braid::run(argc, argv); }
