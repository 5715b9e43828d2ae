// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/probe_beside.h"

#include <optional>
#include <thread>
#include <utility>

#include "engine/probe/probe.h"

namespace braid::plugin {
namespace {

struct Search : Message {
    UringLoop* loop{nullptr};
    std::string path;
    std::optional<Checked<std::vector<std::string>>> found;
    Event over;

    /// On its thread. What is posted last is the end of it.
    void look() {
        found.emplace(probe_content(path));
        loop->post(*this);
    }
    static void ended(Message& message) { static_cast<Search&>(message).over.set(); }
};

}  // namespace

Task<Checked<std::vector<std::string>>> probe_beside(UringLoop* loop, std::string path) {
    Search search;
    search.loop = loop;
    search.path = std::move(path);
    search.run = Search::ended;
    std::thread thread(&Search::look, &search);
    co_await search.over.wait();
    thread.join();
    co_return std::move(*search.found);
}

}  // namespace braid::plugin
