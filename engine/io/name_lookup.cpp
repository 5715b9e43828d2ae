// SPDX-License-Identifier: BSD-3-Clause
#include "engine/io/name_lookup.h"

#include <fmt/format.h>
#include <liburing.h>
#include <netdb.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <string>
#include <utility>

#include "engine/base/limits.h"
#include "engine/base/os_error.h"
#include "engine/io/deadline.h"

namespace braid {

/// Its thread writes the results, then `ended`, then the eventfd.
struct NameLookup::Search {
    std::string host;
    UniqueFd told;
    pthread_t thread{};
    bool wanted{true};  // the loop's: somebody waits for it
    std::atomic<bool> ended{false};
    int fault{0};  // getaddrinfo's
    int os_error{0};
    Places found;

    static void* run(void* search) {
        static_cast<Search*>(search)->run();
        return nullptr;
    }
    void run();
};

void NameLookup::Search::run() {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    addrinfo* list = nullptr;
    fault = getaddrinfo(host.c_str(), nullptr, &hints, &list);
    os_error = errno;
    for (const addrinfo* at = list; at != nullptr && !found.is_full(); at = at->ai_next) {
        if (at->ai_family != AF_INET && at->ai_family != AF_INET6) continue;
        SocketAddress place;
        std::memcpy(&place.storage, at->ai_addr, at->ai_addrlen);
        place.size = at->ai_addrlen;
        found.add(place);
    }
    if (list != nullptr) freeaddrinfo(list);
    ended.store(true, std::memory_order_release);
    const std::uint64_t one = 1;
    // An eventfd that nobody has written to takes it.
    [[maybe_unused]] const auto written = write(told.get(), &one, sizeof one);
}

NameLookup::NameLookup(UringLoop& loop) : loop_(loop) {}

NameLookup::~NameLookup() {
    for (const auto& search : searches_) {
        BRAID_REQUIRE(!search->wanted);
        pthread_join(search->thread, nullptr);
    }
}

void NameLookup::forget_ended() {
    std::erase_if(searches_, [](const std::unique_ptr<Search>& search) {
        const bool over = !search->wanted && search->ended.load(std::memory_order_acquire);
        if (over) pthread_join(search->thread, nullptr);  // it has nothing left to do
        return over;
    });
}

Checked<NameLookup::Search*> NameLookup::begin(const NetAddress& name) {
    const auto cannot = [&](std::string_view why) {
        return refuse(name, fmt::format("the name cannot be looked up ({})", why),
                      "try again later", RefusalCode::io);
    };
    forget_ended();
    if (searches_.size() == net_lookups_max) {
        return cannot(fmt::format("{} others have no answer yet", searches_.size()));
    }
    auto search = std::make_unique<Search>();
    search->host = name.host;
    search->told = UniqueFd(eventfd(0, EFD_CLOEXEC));
    if (search->told.get() < 0) return cannot(os_error_text(errno));
    if (const int error = pthread_create(&search->thread, nullptr, Search::run, search.get());
        error != 0) {
        return cannot(os_error_text(error));
    }
    return searches_.emplace_back(std::move(search)).get();
}

Task<Checked<Places>> NameLookup::find(NetAddress name, Nanos until) {
    BRAID_CO_TRY(Search * search, begin(name));
    int result = -EINTR;
    while (result == -EINTR || result == -EAGAIN) {
        std::uint64_t count = 0;
        RingOp read{loop_, IORING_OP_READ, search->told.get(), &count, sizeof count};
        result = co_await run_until(&read, until);
    }
    search->wanted = false;
    if (!search->ended.load(std::memory_order_acquire)) {
        co_return refuse(name, "the name is not found out in time",
                         "check this machine's resolver, or give an address instead",
                         RefusalCode::io);
    }
    Places found = search->found;
    const int fault = search->fault;
    const char* const why =
        fault == EAI_SYSTEM ? os_error_text(search->os_error) : gai_strerror(fault);
    forget_ended();
    if (fault != 0 || found.size() == 0) {
        co_return refuse(name,
                         fmt::format("the name is not known ({})",
                                     fault != 0 ? why : "it has no address of IPv4 or IPv6"),
                         "correct it, or give an address instead", RefusalCode::not_found);
    }
    for (SocketAddress& place : found.all()) set_port(place, name.port);
    co_return found;
}

}  // namespace braid
