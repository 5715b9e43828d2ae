// SPDX-License-Identifier: BSD-3-Clause
// torture_writer run: requests of all kinds over several connections, and the server killed in the
// middle of them.
#include <fmt/format.h>
#include <libnbd.h>
#include <poll.h>
#include <signal.h>
#include <sys/types.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "engine/base/rng.h"
#include "engine/base/units.h"
#include "tests/system/torture_modes.h"

namespace braid::torture {
namespace {

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

}  // namespace

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

}  // namespace braid::torture
