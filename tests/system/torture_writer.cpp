// SPDX-License-Identifier: BSD-3-Clause
// The client of torture_test.py: writes to a volume over several connections, kills the server in
// the middle, and knows afterwards which bytes each sector may hold.
//
// Every sector of 512 bytes that is written names the write it comes from, in all of its bytes. For
// each sector a list of candidates is kept: the writes that may be the last one. A write is on it
// from the moment when it is sent; it leaves when another one is acknowledged that was sent after
// the first had been acknowledged. What was acknowledged must survive a killed server, for the
// kernel has it; what was on its way may be there or not. A row of 4096 bytes may also be bad:
// reading it is an error.
//
//   torture_writer init   --state FILE --size BYTES --strip BYTES --data MEMBERS
//   torture_writer run    --state FILE --socket PATH --seed N --kill PID --after REQUESTS ...
//   torture_writer verify --state FILE --socket PATH --bad FILE ...
#include <fmt/format.h>
#include <libnbd.h>
#include <poll.h>
#include <signal.h>
#include <sys/types.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <deque>
#include <fstream>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "engine/base/rng.h"
#include "engine/base/units.h"

namespace braid::torture {
namespace {

[[noreturn]] void fail(const std::string& text) {
    fmt::print("FAILED: {}\n", text);
    std::fflush(stdout);
    std::exit(1);
}

// --- What a sector may hold ---------------------------------------------------------------------

constexpr std::uint64_t zeros = 0;  // as a write's number: the content is zeros
constexpr std::uint64_t not_yet = ~std::uint64_t{0};
constexpr std::uint64_t sectors_of_row = row_size / sector_size;

struct Candidate {
    std::uint64_t write{zeros};  // its number, or zeros
    std::uint64_t sent{0};       // moments: a count of what was sent and answered
    std::uint64_t answered{0};
};

std::uint64_t mixed(std::uint64_t value) { return Rng(value).next(); }

using Sector = std::array<std::uint64_t, sector_size / 8>;

Sector content_of(std::uint64_t write, std::uint64_t sector) {
    Sector content{};
    if (write == zeros) return content;
    content[0] = write;
    content[1] = sector;
    const std::uint64_t key = mixed(write ^ mixed(sector));
    for (std::size_t i = 2; i != content.size(); ++i) content[i] = key + i * 0x9e3779b97f4a7c15;
    return content;
}

/// Which write a sector comes from; none: it is not whole, or belongs elsewhere.
std::optional<std::uint64_t> write_of(const Sector& content, std::uint64_t sector) {
    const std::uint64_t write = content[0];
    if (content == content_of(write, sector)) return write;
    return std::nullopt;
}

/// Everything that is known of the volume, kept in a file from one run to the next.
struct Oracle {
    std::uint64_t size{0};  // bytes
    std::uint64_t strip{0};
    std::uint64_t data{0};  // members' worth of data in a stripe
    std::uint64_t moment{1};
    std::uint64_t writes{0};  // the number of the last one
    std::vector<std::vector<Candidate>> sectors;
    std::vector<char> bad;      // rows of the volume that were found bad
    std::vector<char> torn;     // rows of stripes that a write may have left half done
    std::vector<char> touched;  // stripes that were written and may be marked

    std::uint64_t stripe_size() const { return strip * data; }
    std::uint64_t stripe_of(std::uint64_t offset) const { return offset / stripe_size(); }
    /// The row of a stripe that `offset` lies in, counted along a member.
    std::uint64_t stripe_row_of(std::uint64_t offset) const {
        return stripe_of(offset) * (strip / row_size) + offset % strip / row_size;
    }
};

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

// --- The command line ---------------------------------------------------------------------------

class Options {
  public:
    Options(int count, char** words) {
        for (int i = 2; i < count; i += 2) {
            if (i + 1 == count || std::strncmp(words[i], "--", 2) != 0) {
                fail(fmt::format("{} makes no sense", words[i]));
            }
            values_[words[i] + 2] = words[i + 1];
        }
    }
    std::string text(const char* name) const {
        const auto found = values_.find(name);
        if (found == values_.end()) fail(fmt::format("--{} is missing", name));
        return found->second;
    }
    std::uint64_t number(const char* name, std::optional<std::uint64_t> otherwise = {}) const {
        if (otherwise && !values_.contains(name)) return *otherwise;
        return std::strtoull(text(name).c_str(), nullptr, 10);
    }

  private:
    std::map<std::string, std::string> values_;
};

std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> connected(const std::string& socket) {
    std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> handle(nbd_create(), nbd_close);
    if (!handle || nbd_connect_unix(handle.get(), socket.c_str()) != 0) {
        fail(fmt::format("no connection to {}: {}", socket, nbd_get_error()));
    }
    return handle;
}

// --- run ----------------------------------------------------------------------------------------

enum class Kind : std::uint8_t { write, zero, trim, flush, read };

struct Request {
    Kind kind{Kind::write};
    std::uint64_t offset{0};
    std::uint64_t size{0};
    std::uint64_t write{zeros};  // number, of a write
    std::uint64_t sent{0};
    std::int64_t cookie{0};
    std::vector<Sector> bytes;
};

struct Figures {
    std::uint64_t acknowledged{0};
    std::uint64_t flushes{0};
    std::uint64_t fua{0};
    std::uint64_t reads{0};
    std::uint64_t in_flight{0};
    std::uint64_t errors{0};
};

/// One connection with several requests on their way.
struct Client {
    std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> handle;
    std::deque<std::unique_ptr<Request>> flying;
    bool dead{false};
};

class Run {
  public:
    Run(Oracle& oracle, const Options& options)
        : oracle_(oracle),
          rng_(options.number("seed")),
          pid_(static_cast<pid_t>(options.number("kill", 0))),
          after_(options.number("after")),
          depth_(options.number("depth", 16)),
          first_(options.number("first", 0)),
          field_(options.number("field", oracle.size)),
          size_max_(options.number("size-max", 1u << 20)),
          errors_allowed_(options.number("errors-allowed", 0) != 0),
          flush_every_(options.number("flush-every", 50)) {
        if (nbd_get_size(connected(options.text("socket")).get()) <
            static_cast<std::int64_t>(oracle.size)) {
            fail("the volume is smaller than it was");
        }
        for (std::uint64_t i = 0; i != options.number("connections", 2); ++i) {
            clients_.push_back(Client{connected(options.text("socket")), {}, false});
        }
    }

    Figures go() {
        while (std::ranges::any_of(clients_, [](const Client& one) { return !one.dead; })) {
            for (Client& client : clients_) {
                while (!client.dead && !stopping_ && client.flying.size() < depth_) send(client);
            }
            wait();
            for (Client& client : clients_) reap(client);
            if (!stopping_ && figures_.acknowledged >= after_) stop();
            if (stopping_ && pid_ == 0) finish_politely();
        }
        return figures_;
    }

  private:
    void stop() {
        stopping_ = true;
        if (pid_ != 0 && kill(pid_, SIGKILL) != 0) fail("the server was gone before it was killed");
    }

    /// Nobody is to be killed: all answers, a flush, and the end.
    void finish_politely() {
        for (Client& client : clients_) {
            if (client.dead || !client.flying.empty()) continue;
            if (nbd_flush(client.handle.get(), 0) != 0) fail(nbd_get_error());
            nbd_shutdown(client.handle.get(), 0);
            client.dead = true;
        }
    }

    void wait() {
        std::vector<pollfd> waits;
        for (const Client& client : clients_) {
            if (client.dead) continue;
            const unsigned direction = nbd_aio_get_direction(client.handle.get());
            short events = 0;
            if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0) events |= POLLIN;
            if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) events |= POLLOUT;
            waits.push_back({nbd_aio_get_fd(client.handle.get()), events, 0});
        }
        if (waits.empty()) return;
        if (poll(waits.data(), waits.size(), 60'000) == 0)
            fail("the server is silent for a minute");
        std::size_t next = 0;
        for (Client& client : clients_) {
            if (client.dead) continue;
            const short seen = waits[next++].revents;
            nbd_handle* handle = client.handle.get();
            const unsigned direction = nbd_aio_get_direction(handle);
            // A connection that ends makes these fail; reap() finds it dead.
            if ((seen & (POLLIN | POLLHUP)) != 0 && (direction & LIBNBD_AIO_DIRECTION_READ) != 0) {
                nbd_aio_notify_read(handle);
            } else if ((seen & POLLOUT) != 0 && (direction & LIBNBD_AIO_DIRECTION_WRITE) != 0) {
                nbd_aio_notify_write(handle);
            } else if ((seen & (POLLERR | POLLNVAL)) != 0) {
                nbd_aio_notify_read(handle);
            }
        }
    }

    void reap(Client& client) {
        if (client.dead) return;
        nbd_handle* handle = client.handle.get();
        for (std::size_t i = 0; i < client.flying.size();) {
            const int done = nbd_aio_command_completed(handle, client.flying[i]->cookie);
            if (done == 0) {
                ++i;
                continue;
            }
            const int error = done < 0 ? nbd_get_errno() : 0;
            const std::unique_ptr<Request> request = std::move(client.flying[i]);
            client.flying.erase(client.flying.begin() + static_cast<std::ptrdiff_t>(i));
            if (done > 0) {
                answered(*request);
            } else if (error == ENOTCONN) {  // libnbd's word for what was under way at the end
                lost(*request);
            } else {
                refused(*request, error);
            }
        }
        if (is_alive(handle)) return;
        if (!stopping_) fail(fmt::format("the connection ended: {}", nbd_get_error()));
        for (const auto& request : client.flying) lost(*request);
        client.flying.clear();
        client.dead = true;
    }

    static bool is_alive(nbd_handle* handle) {
        return nbd_aio_is_dead(handle) == 0 && nbd_aio_is_closed(handle) == 0;
    }

    // What a request means for the oracle.

    void each_sector(const Request& request,
                     const std::function<void(std::vector<Candidate>&, std::uint64_t)>& visit) {
        for (std::uint64_t at = 0; at != request.size; at += sector_size) {
            const std::uint64_t sector = (request.offset + at) / sector_size;
            visit(oracle_.sectors[sector], sector);
        }
    }

    void sent(Request& request) {
        request.sent = oracle_.moment++;
        if (request.kind == Kind::flush || request.kind == Kind::read) return;
        each_sector(request, [&](auto& candidates, std::uint64_t) {
            candidates.push_back({request.write, request.sent, not_yet});
        });
        const std::uint64_t last = request.offset + request.size - 1;
        for (auto at = oracle_.stripe_of(request.offset); at <= oracle_.stripe_of(last); ++at) {
            oracle_.touched[at] = 1;
        }
    }

    void answered(const Request& request) {
        const std::uint64_t now = oracle_.moment++;
        ++figures_.acknowledged;
        switch (request.kind) {
            case Kind::flush:
                ++figures_.flushes;
                return;
            case Kind::read:
                ++figures_.reads;
                check_read(request);
                return;
            case Kind::trim:  // may have done nothing
                note_answer(request, now, false);
                return;
            case Kind::write:
            case Kind::zero:
                note_answer(request, now, true);
                heal(request);
                return;
        }
    }

    void note_answer(const Request& request, std::uint64_t now, bool supersedes) {
        each_sector(request, [&](auto& candidates, std::uint64_t) {
            if (supersedes) {
                std::erase_if(candidates,
                              [&](const Candidate& one) { return one.answered < request.sent; });
            }
            for (Candidate& one : candidates) {
                if (one.sent == request.sent) one.answered = now;
            }
        });
    }

    /// Rows that were written whole are good, whatever they were.
    void heal(const Request& request) {
        const std::uint64_t end = round_down(request.offset + request.size, row_size);
        for (auto at = round_up(request.offset, row_size); at < end; at += row_size) {
            oracle_.bad[at / row_size] = 0;
        }
    }

    /// An error: what was to be written may be there in part, but nothing else has changed.
    void refused(const Request& request, int error) {
        ++figures_.errors;
        ++figures_.acknowledged;
        // A write that cuts a run of bad rows in two may find the list of them full.
        const bool list_is_full = error == ENOSPC && request.kind != Kind::read;
        if (!errors_allowed_ || (error != EIO && !list_is_full) || request.kind == Kind::flush) {
            fail(fmt::format("request {} of {} bytes at {} was answered with {}",
                             static_cast<int>(request.kind), request.size, request.offset,
                             std::strerror(error)));
        }
        if (request.kind == Kind::read) return;
        torn(request);
        note_answer(request, oracle_.moment++, false);
    }

    /// Nobody will ever say what became of it; it is over, for the server is.
    void lost(const Request& request) {
        ++figures_.in_flight;
        if (request.kind == Kind::flush || request.kind == Kind::read) return;
        torn(request);
        note_answer(request, oracle_.moment++, false);
    }

    void torn(const Request& request) {
        for (std::uint64_t at = 0; at != request.size; at += sector_size) {
            oracle_.torn[oracle_.stripe_row_of(request.offset + at)] = 1;
        }
    }

    /// Reads are sent only where nothing is being written, so the candidates are what they were.
    void check_read(const Request& request) {
        std::uint64_t i = 0;
        each_sector(request, [&](auto& candidates, std::uint64_t sector) {
            const auto write = write_of(request.bytes[i++], sector);
            if (write && std::ranges::any_of(candidates, [&](const Candidate& one) {
                    return one.write == *write;
                })) {
                return;
            }
            fail(fmt::format(
                "a read of {} bytes at {} gave {} in sector {}", request.size, request.offset,
                write ? fmt::format("write {}", *write) : std::string("garbage"), sector));
        });
    }

    // Making requests.

    void send(Client& client) {
        auto request = std::make_unique<Request>(draw());
        if (request->kind == Kind::read && is_being_written(*request)) request->kind = Kind::flush;
        if (request->kind != Kind::read && request->kind != Kind::flush &&
            is_being_read(*request)) {
            request->kind = Kind::flush;
        }
        const bool fua =
            request->kind != Kind::flush && request->kind != Kind::read && rng_.chance(20);
        const std::uint32_t flags = fua ? LIBNBD_CMD_FLAG_FUA : 0;
        figures_.fua += fua ? 1 : 0;
        nbd_handle* handle = client.handle.get();
        switch (request->kind) {
            case Kind::write:
                request->write = ++oracle_.writes;
                for (std::uint64_t at = 0; at != request->size; at += sector_size) {
                    request->bytes.push_back(
                        content_of(request->write, (request->offset + at) / sector_size));
                }
                sent(*request);
                request->cookie = nbd_aio_pwrite(handle, request->bytes.data(), request->size,
                                                 request->offset, NBD_NULL_COMPLETION, flags);
                break;
            case Kind::zero:
                sent(*request);
                request->cookie = nbd_aio_zero(handle, request->size, request->offset,
                                               NBD_NULL_COMPLETION, flags);
                break;
            case Kind::trim:
                sent(*request);
                request->cookie = nbd_aio_trim(handle, request->size, request->offset,
                                               NBD_NULL_COMPLETION, flags);
                break;
            case Kind::flush:
                sent(*request);
                request->cookie = nbd_aio_flush(handle, NBD_NULL_COMPLETION, 0);
                break;
            case Kind::read:
                sent(*request);
                request->bytes.resize(request->size / sector_size);
                request->cookie = nbd_aio_pread(handle, request->bytes.data(), request->size,
                                                request->offset, NBD_NULL_COMPLETION, 0);
                break;
        }
        // A command that the connection does not take was not sent: it counts as lost.
        if (request->cookie < 0) {
            if (is_alive(handle)) fail(nbd_get_error());
            lost(*request);
            return;
        }
        client.flying.push_back(std::move(request));
    }

    Request draw() {
        Request request;
        const std::uint64_t dice = rng_.below(100);
        request.kind = dice < 70   ? Kind::write
                       : dice < 76 ? Kind::zero
                       : dice < 80 ? Kind::trim
                                   : Kind::read;
        if (rng_.chance(flush_every_)) request.kind = Kind::flush;
        request.size = std::min({draw_size(), size_max_, field_});
        const std::uint64_t places = (field_ - request.size) / sector_size + 1;
        request.offset = first_ + rng_.below(places) * sector_size;
        // Half of them begin where a row does, as those of a file system do.
        if (rng_.chance(2)) request.offset = round_down(request.offset, row_size);
        return request;
    }

    std::uint64_t draw_size() {
        switch (rng_.below(8)) {
            case 0:
                return sector_size * (1 + rng_.below(16));
            case 1:
                return row_size * (1 + rng_.below(8));
            case 2:
                return oracle_.strip;
            case 3:
                return oracle_.stripe_size() * (1 + rng_.below(3));
            default:
                return row_size;
        }
    }

    bool is_being_written(const Request& request) {
        bool found = false;
        each_sector(request, [&](auto& candidates, std::uint64_t) {
            found |= std::ranges::any_of(
                candidates, [](const Candidate& one) { return one.answered == not_yet; });
        });
        return found;
    }
    bool is_being_read(const Request& request) const {
        return std::ranges::any_of(clients_, [&](const Client& client) {
            return std::ranges::any_of(client.flying, [&](const auto& other) {
                return other->kind == Kind::read && other->offset < request.offset + request.size &&
                       request.offset < other->offset + other->size;
            });
        });
    }

    Oracle& oracle_;
    Rng rng_;
    pid_t pid_;
    std::uint64_t after_;
    std::uint64_t depth_;
    std::uint64_t first_;
    std::uint64_t field_;
    std::uint64_t size_max_;
    bool errors_allowed_;
    std::uint64_t flush_every_;
    std::vector<Client> clients_;
    Figures figures_;
    bool stopping_{false};
};

int run(const Options& options) {
    Oracle oracle = load(options.text("state"));
    Figures figures;
    {
        Run run(oracle, options);
        figures = run.go();
    }
    save(oracle, options.text("state"));
    fmt::print(
        R"({{"acknowledged": {}, "flushes": {}, "fua": {}, "reads": {}, "in_flight": {}, "errors": {}}})"
        "\n",
        figures.acknowledged, figures.flushes, figures.fua, figures.reads, figures.in_flight,
        figures.errors);
    return 0;
}

// --- verify -------------------------------------------------------------------------------------

/// Which new bad rows can be.
enum class BadRule : std::uint64_t {
    none = 0,     // no member is lost: there is no reason for one
    torn = 1,     // P and Q together tell of rows that no write left half done
    touched = 2,  // everything that was marked
};

class Verify {
  public:
    Verify(Oracle& oracle, const Options& options)
        : oracle_(oracle),
          handle_(connected(options.text("socket"))),
          rule_(static_cast<BadRule>(options.number("rule", 0))),
          region_(options.number("region", 0)),
          left_(options.number("left", 0) != 0),
          listed_(oracle.size / row_size) {
        std::ifstream list(options.text("bad"));
        for (std::uint64_t offset = 0, size = 0; list >> offset >> size;) {
            if (offset % row_size != 0 || size % row_size != 0 || offset + size > oracle.size) {
                fail(fmt::format("the list of bad rows has {} bytes at {}", size, offset));
            }
            for (auto at = offset; at != offset + size; at += row_size) listed_[at / row_size] = 1;
        }
    }

    void go() {
        constexpr std::uint64_t piece_max = 1u << 20;
        for (std::uint64_t at = 0; at < oracle_.size; at += piece_max) {
            look(at, std::min(piece_max, oracle_.size - at));
        }
        explain();
    }

    /// Nothing is in doubt any longer. Marks linger, though, and a crash makes new doubt of them.
    void settle(bool unmarked) {
        std::ranges::fill(oracle_.torn, char{0});
        if (unmarked) std::ranges::fill(oracle_.touched, char{0});
    }

    std::uint64_t heal() {
        constexpr std::uint64_t rows_max = 256;  // of one write
        std::uint64_t healed = 0;
        for (std::uint64_t row = 0; row != oracle_.bad.size();) {
            std::uint64_t end = row;
            while (end != oracle_.bad.size() && end != row + rows_max && oracle_.bad[end] != 0) {
                oracle_.bad[end] = 0;
                oracle_.touched[oracle_.stripe_of(end * row_size)] = 1;
                ++end;
            }
            if (end != row) rewrite(row, end);
            healed += end - row;
            row = std::max(end, row + 1);
        }
        return healed;
    }

    std::uint64_t bad() const { return bad_; }

  private:
    /// Rows [first, end), with one write.
    void rewrite(std::uint64_t first, std::uint64_t end) {
        std::vector<Sector> bytes;
        const std::uint64_t write = ++oracle_.writes;
        const std::uint64_t now = oracle_.moment++;
        for (auto sector = first * sectors_of_row; sector != end * sectors_of_row; ++sector) {
            bytes.push_back(content_of(write, sector));
            oracle_.sectors[sector] = {Candidate{write, now, now}};
        }
        const std::uint64_t size = bytes.size() * sector_size;
        if (nbd_pwrite(handle_.get(), bytes.data(), size, first * row_size, 0) == 0) return;
        fail(fmt::format("{} bytes of bad rows at {} cannot be rewritten: {}", size,
                         first * row_size, nbd_get_error()));
    }

    void look(std::uint64_t offset, std::uint64_t size) {
        std::vector<Sector> bytes(size / sector_size);
        if (nbd_pread(handle_.get(), bytes.data(), size, offset, 0) == 0) {
            for (std::uint64_t i = 0; i != bytes.size(); ++i) {
                look_at(offset / sector_size + i, bytes[i]);
            }
            return;
        }
        if (nbd_get_errno() != EIO) fail(fmt::format("read at {}: {}", offset, nbd_get_error()));
        if (size == row_size) {
            found_bad(offset);
            return;
        }
        const std::uint64_t half = round_up(size / 2, row_size);
        look(offset, half);
        look(offset + half, size - half);
    }

    void look_at(std::uint64_t sector, const Sector& content) {
        const std::uint64_t row = sector / sectors_of_row;
        // A row that was bad, or is listed, may be known again: its member is back. Then it holds
        // what it may have held before.
        auto& candidates = oracle_.sectors[sector];
        oracle_.bad[row] = 0;
        const auto write = write_of(content, sector);
        const auto found = std::ranges::find_if(
            candidates, [&](const Candidate& one) { return write && one.write == *write; });
        if (found == candidates.end()) {
            std::string may;
            for (const Candidate& one : candidates) may += fmt::format(" {}", one.write);
            fail(fmt::format("sector {} (byte {}) holds {}, and may hold of the writes{}", sector,
                             sector * sector_size,
                             write ? fmt::format("write {}", *write) : describe(content), may));
        }
        const Candidate kept = *found;
        candidates.assign(1, kept);
    }

    static std::string describe(const Sector& content) {
        return fmt::format("garbage ({:x} {:x} {:x} ...)", content[0], content[1], content[2]);
    }

    void found_bad(std::uint64_t offset) {
        const std::uint64_t row = offset / row_size;
        ++bad_;
        if (listed_[row] == 0) {
            fail(fmt::format("the row at {} cannot be read, and is not listed as bad", offset));
        }
        if (oracle_.bad[row] == 0 && !may_be_bad(offset)) {
            unexplained_.push_back(offset);
        }
        oracle_.bad[row] = 1;
    }

    /// A member that leaves takes rows with it beside which another is to be tried again: their
    /// parity was not trusted.
    void explain() const {
        std::set<std::uint64_t> listed_before;
        for (std::uint64_t row = 0; row != oracle_.bad.size(); ++row) {
            const std::uint64_t offset = row * row_size;
            if (oracle_.bad[row] != 0 && !std::ranges::binary_search(unexplained_, offset)) {
                listed_before.insert(oracle_.stripe_row_of(offset));
            }
        }
        for (const std::uint64_t offset : unexplained_) {
            if (left_ && listed_before.contains(oracle_.stripe_row_of(offset))) continue;
            fail(fmt::format("the row at {} is bad, and nothing was being written there", offset));
        }
    }

    bool may_be_bad(std::uint64_t offset) const {
        if (rule_ == BadRule::none) return false;
        if (rule_ == BadRule::torn) return oracle_.torn[oracle_.stripe_row_of(offset)] != 0;
        const std::uint64_t reach = region_ / oracle_.stripe_size() + 1;
        const std::uint64_t stripe = oracle_.stripe_of(offset);
        const std::uint64_t end = std::min(stripe + reach + 1, oracle_.touched.size());
        for (std::uint64_t at = stripe - std::min(stripe, reach); at != end; ++at) {
            if (oracle_.touched[at] != 0) return true;
        }
        return false;
    }

    Oracle& oracle_;
    std::unique_ptr<nbd_handle, void (*)(nbd_handle*)> handle_;
    BadRule rule_;
    std::uint64_t region_;
    bool left_;  // a member has, since the last verify
    std::vector<char> listed_;
    std::vector<std::uint64_t> unexplained_;  // offsets of bad rows, in order
    std::uint64_t bad_{0};
};

int verify(const Options& options) {
    Oracle oracle = load(options.text("state"));
    Verify verify(oracle, options);
    verify.go();
    if (options.number("settled", 0) != 0) verify.settle(options.number("unmarked", 0) != 0);
    const std::uint64_t healed = options.number("heal", 0) != 0 ? verify.heal() : 0;
    save(oracle, options.text("state"));
    fmt::print(R"({{"bad_rows": {}, "healed": {}}})"
               "\n",
               verify.bad(), healed);
    return 0;
}

int init(const Options& options) {
    Oracle oracle;
    oracle.size = options.number("size");
    oracle.strip = options.number("strip");
    oracle.data = options.number("data");
    if (oracle.size == 0 || oracle.size % oracle.stripe_size() != 0) fail("--size is odd");
    prepare(oracle);
    save(oracle, options.text("state"));
    return 0;
}

}  // namespace
}  // namespace braid::torture

int main(int count, char** words) {
    using namespace braid::torture;
    const std::string_view mode = count > 1 ? words[1] : "";
    const Options options(count, words);
    if (mode == "init") return init(options);
    if (mode == "run") return run(options);
    if (mode == "verify") return verify(options);
    fail("say init, run or verify");
}
