// SPDX-License-Identifier: BSD-3-Clause
#include "plugin/server.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <fmt/ranges.h>

#include <cerrno>
#include <condition_variable>
#include <nlohmann/json.hpp>
#include <random>

#include "cluster/config/config_file.h"
#include "engine/assembly/assembly.h"
#include "engine/base/os_error.h"
#include "engine/probe/probe.h"
#include "parity/kernels.h"
#include "plugin/run_beside.h"

namespace braid::plugin {
namespace {

/// Slower, not wrong.
std::string text_of_unregistered(const Error& error, std::size_t size) {
    return fmt::format(
        "the buffers of {} MiB could not be registered with io_uring ({}{}): I/O costs more "
        "processor time",
        size >> 20, os_error_text(error.os_error),
        error.os_error == ENOMEM
            ? ", " + memlock_text() + "; `ulimit -l` and LimitMEMLOCK= raise it"
            : std::string());
}
Task<Configuration> configuration_task(Array* array) { co_return array->configuration(); }
Task<void> join_task(TaskGroup* tasks) { co_await tasks->join(); }
Task<Checked<cluster::StartStatus>> start_status_task(cluster::ClusterNode* node) {
    co_return node->start_status();
}

}  // namespace

std::string describe(const Configuration& configuration) {
    return fmt::format("RAID-{} of {} members, strips of {} KiB",
                       static_cast<int>(configuration.level), configuration.member_count,
                       configuration.strip_size >> 10);
}

std::vector<Export> exports_of(const Configuration& configuration) {
    std::vector<Export> exports;
    const std::string array =
        configuration.name.empty() ? "braid" : "braid array " + configuration.name;
    for (const VolumeRecord& volume : configuration.volumes) {
        exports.push_back(
            {volume.name, array + ", " + describe(configuration), configuration.area_of(volume)});
    }
    return exports;
}

Server::Server(Parameters parameters, Log log, Ends ends)
    : parameters_(std::move(parameters)), log_(std::move(log)), ends_(std::move(ends)) {}

Server::~Server() { stop(); }

Checked<std::unique_ptr<Server>> Server::prepare(Parameters parameters, Log log, Ends ends) {
    if (const char* error = parity::kernel_error(); error != nullptr) {
        return Refusal{std::string(error)};
    }
    std::unique_ptr<Server> server(
        new Server(std::move(parameters), std::move(log), std::move(ends)));
    if (!server->parameters_.config.empty()) BRAID_CHECK(server->read_cluster());
    BRAID_CHECK(server->open_members());
    if (!server->cluster_) BRAID_CHECK(server->try_assembly());
    if (!server->parameters_.socket.empty()) {
        server->control_ = std::make_unique<ControlServer>();
        BRAID_CHECK(server->control_->bind(server->parameters_.socket));
    }
    return server;
}

/// Without a key nobody can tell who a peer is: the file allows that only where all is on this machine.
Checked<Unit> Server::read_cluster() {
    BRAID_TRY(cluster_, cluster::read_cluster_config(parameters_.config));
    BRAID_TRY(const cluster::NodePlan plan,
              cluster::plan_of_node(*cluster_, parameters_.node, parameters_.config));
    for (const std::string& warning : cluster_->warnings) log_(Severity::warning, warning);
    if (!cluster_->key.empty()) {
        BRAID_TRY(key_, cluster::read_key_file(cluster_->key));
    }
    if (plan.members.empty()) return Unit{};
    ParameterParser parser;  // what holds for members of the command line holds for these
    for (const std::string& member : plan.members) {
        const auto taken = parser.take("member", member);
        if (!taken) {
            return Refusal{fmt::format("{}: node {}: {}", parameters_.config, parameters_.node,
                                       taken.error().text)};
        }
    }
    BRAID_TRY(Parameters known, std::move(parser).complete());
    parameters_.members = std::move(known.members);
    return Unit{};
}

Checked<Unit> Server::open_members() {
    OpenOptions how;
    how.readonly = parameters_.readonly;
    how.if_read_only = "look at the array with readonly=true";
    for (const std::string& path : parameters_.members) {
        BRAID_TRY(MemberFile file, open_member_file(path, how));
        if (!file.notice.empty()) log_(Severity::warning, file.notice);
        files_.push_back(std::move(file));
    }
    return Unit{};
}

/// What Array::open() will find, found out while nbdkit can still tell it to the terminal. Reads
/// only; the loop must end before the fork.
Checked<Unit> Server::try_assembly() {
    BRAID_TRY(const auto loop, UringLoop::create());
    std::vector<std::unique_ptr<Disk>> owned;  // go before the loop does
    std::vector<Disk*> disks;
    for (const MemberFile& file : files_) {
        MemberFile copy;
        copy.fd = UniqueFd(fcntl(file.fd.get(), F_DUPFD_CLOEXEC, 0));  // shares the lock
        copy.info = file.info;
        copy.readonly = true;
        owned.push_back(std::make_unique<UringDisk>(*loop, std::move(copy)));
        disks.push_back(owned.back().get());
    }
    const auto images =
        loop->run_until_done(read_member_images(loop->ready(), *loop, std::move(disks)));
    BRAID_TRY(const Assembly assembly, assemble(images, {.force = parameters_.force}));
    return find_exports(assembly.configuration);
}

Checked<Unit> Server::start() {
    // No future: ThreadSanitizer runs no signal handler on a thread that waits for one, and this wait
    // may be long.
    std::mutex lock;
    std::condition_variable is_over;
    std::optional<Checked<Unit>> opened;
    log_thread_ = std::thread([this] { run_log(); });
    loop_thread_ = std::thread([&, this] {
        run_loop([&](Checked<Unit> result) {
            const std::lock_guard locked(lock);
            opened.emplace(std::move(result));
            is_over.notify_one();
        });
    });
    {
        std::unique_lock locked(lock);
        is_over.wait(locked, [&] { return opened.has_value(); });
    }
    Checked<Unit> result = std::move(*opened);
    serves_ = result.has_value();
    if (result) {
        result = find_exports(
            bridge_->run_on_loop([](Array& array) { return configuration_task(&array); }));
    }
    if (result && control_ && !cluster_) result = control_->start(events_, nullptr);
    if (result && control_) control_->serve(*bridge_, *loop_);
    if (!result) stop();
    return result;
}

void Server::run_loop(std::function<void(Checked<Unit>)> started) {
    auto opened = open_array();
    const bool serves = opened.has_value();
    started(std::move(opened));
    if (serves) {
        loop_->run();
        left_alone_.acquire();
    }
    bridge_.reset();
    end_node();
    net_.reset();
    loop_.reset();
}

Checked<Unit> Server::open_array() {
    BRAID_TRY(loop_, UringLoop::create());
    std::vector<std::unique_ptr<Disk>> disks;
    for (MemberFile& file : files_) {
        disks.push_back(std::make_unique<UringDisk>(*loop_, std::move(file)));
    }
    files_.clear();
    BRAID_TRY(array_, cluster_ ? open_node(std::move(disks))
                               : loop_->run_until_done(Array::open(
                                     loop_->ready(), *loop_, std::move(disks), array_options())));
    bridge_ = std::make_unique<Bridge>(*loop_, *array_);
    return Unit{};
}

/// A start of it, with a boot id of its own.
void Server::make_node() {
    std::random_device random;
    using Found = Checked<std::vector<std::string>>;
    const auto draw = [&random] { return (std::uint64_t{random()} << 32) | random(); };
    cluster::ClusterNode::Setup setup{
        loop_->ready(),
        *loop_,
        *net_,
        *cluster_,
        parameters_.node,
        key_,
        draw() | 1,
        draw(),
        array_options(),
        [this](Severity severity, const std::string& text) { log_(severity, text); },
        [this](std::string path) {
            return run_beside<Found>(loop_.get(),
                                     [path = std::move(path)] { return probe_content(path); });
        },
        [this] {
            return run_beside<Checked<cluster::ClusterConfig>>(
                loop_.get(),
                [path = parameters_.config] { return cluster::read_cluster_config(path); });
        },
        [this](cluster::NodeEnds why) {
            if (why == cluster::NodeEnds::left) has_left_ = true;
            ends_(why);
        }};
    node_ = std::make_unique<cluster::ClusterNode>(std::move(setup));
}

/// And its array, if there is one.
void Server::end_node() {
    if (node_) loop_->run_until_done(node_->stop());
    if (asks_) loop_->run_until_done(join_task(asks_.get()));
    asks_.reset();
    array_.reset();
    node_.reset();
    if (loop_) loop_->unregister_buffer();
}

/// No client has come yet: what is in the way of this start of the node alone, as where it is excluded before
/// it serves, is no reason to end the server.
Checked<std::unique_ptr<Array>> Server::open_node(std::vector<std::unique_ptr<Disk>> opened) {
    std::vector<std::shared_ptr<Disk>> disks;
    for (auto& disk : opened) disks.push_back(std::move(disk));
    net_ = std::make_unique<UringNet>(*loop_);
    for (;;) {
        make_node();
        for (const auto& disk : disks) node_->put_disk(disk);
        auto started = start_node();
        const bool again = !started && started.error().code == RefusalCode::busy && !is_cancelled();
        if (!again) return started;
        log_(Severity::warning, fmt::format("{}: this node begins anew", started.error().text));
        end_node();
    }
}

Checked<std::unique_ptr<Array>> Server::start_node() {
    BRAID_CHECK(begin_asking());
    auto started = loop_->run_until_done(node_->start());
    end_asking();
    return started;
}

bool Server::is_cancelled() {
    const std::lock_guard lock(asking_);
    return cancelled_;
}

/// From now on the node can be asked, and told to stop.
Checked<Unit> Server::begin_asking() {
    asks_ = std::make_unique<TaskGroup>(loop_->ready());
    {
        const std::lock_guard lock(asking_);
        if (cancelled_) return Refusal{"told to stop before it began"};
        node_starts_ = true;
    }
    if (!control_ || control_starts_) return Unit{};
    auto started = control_->start(events_, this);
    control_starts_ = started.has_value();
    if (!started) end_asking();
    return started;
}

/// What was asked before finds the node: the loop takes all that was posted before it ends.
void Server::end_asking() {
    const std::lock_guard lock(asking_);
    node_starts_ = false;
}

/// Any thread but the loop's. Refused: the start is over, or has not begun.
template <class T>
Checked<T> Server::ask_node(std::function<Task<Checked<T>>(cluster::ClusterNode*)> ask) {
    struct Order : Message {
        Server* server{nullptr};
        std::function<Task<Checked<T>>(cluster::ClusterNode*)>* ask{nullptr};
        std::optional<Checked<T>> result;
        std::binary_semaphore done{0};
    };
    struct Run {
        static Task<void> task(Task<Checked<T>> task, Order* order) {
            order->result.emplace(co_await task);
            order->done.release();  // the last thing: the order's life ends now
        }
    };
    Order order;
    order.server = this;
    order.ask = &ask;
    order.run = [](Message& message) {
        auto& self = static_cast<Order&>(message);
        self.server->asks_->spawn(Run::task((*self.ask)(self.server->node_.get()), &self));
    };
    {
        const std::lock_guard lock(asking_);
        if (!node_starts_) return Refusal{"the start is over", RefusalCode::busy};
        loop_->post(order);
    }
    order.done.acquire();
    return std::move(*order.result);
}

Checked<cluster::StartStatus> Server::start_status() {
    return ask_node<cluster::StartStatus>(start_status_task);
}

Checked<nlohmann::json> Server::create(CreateOrder order) {
    return ask_node<nlohmann::json>(
        [&order](cluster::ClusterNode* node) { return node->create(std::move(order)); });
}

Checked<Unit> Server::start_without(std::vector<std::uint32_t> nodes) {
    return ask_node<Unit>(
        [&nodes](cluster::ClusterNode* node) { return node->start_without(std::move(nodes)); });
}

/// Nobody waits for the order: the loop may be about to have no need of it.
void Server::cancel_start() {
    struct Order : Message {
        Server* server{nullptr};
    };
    const std::lock_guard lock(asking_);
    cancelled_ = true;
    if (!node_starts_) return;
    auto* order = new Order;
    order->server = this;
    order->run = [](Message& message) {
        const std::unique_ptr<Order> self(static_cast<Order*>(&message));
        if (self->server->node_) (void)self->server->node_->cancel_start();
    };
    loop_->post(*order);
}

ArrayOptions Server::array_options() {
    ArrayOptions options;
    options.readonly = parameters_.readonly;
    options.force = parameters_.force;
    options.intent = parameters_.intent;
    options.rebuild_delay = seconds(parameters_.rebuild_delay);
    options.member_timeout = seconds(parameters_.member_timeout);
    // Any node of a cluster passes an order on.
    if (!cluster_ && parameters_.socket.empty()) options.orders = Orders::not_taken;
    options.seed = (std::uint64_t{std::random_device{}()} << 32) | std::random_device{}();
    options.on_event = [this](const ArrayEvent& event) { events_.publish(event); };
    options.on_buffer = [this](ByteSpan pool) {
        const auto registered = loop_->register_buffer(pool);
        if (!registered)
            log_(Severity::info, text_of_unregistered(registered.error(), pool.size()));
    };
    return options;
}

Checked<Unit> Server::find_exports(const Configuration& configuration) {
    exports_ = exports_of(configuration);
    std::vector<std::string> names;
    for (const Export& one : exports_) names.push_back(one.name);
    const std::string has =
        names.empty() ? "none at all" : fmt::format("{}", fmt::join(names, ", "));
    if (cluster_) {
        for (const std::string& name : cluster_->exclusive) {
            if (find_export(name) != nullptr) continue;
            return Refusal{
                fmt::format("{}: exclusive: this array has no volume {}; it has {}: correct the "
                            "name, or leave it out, and start all servers of the cluster anew",
                            parameters_.config, name, has)};
        }
    }
    if (parameters_.volume.empty() || find_export(parameters_.volume) != nullptr) return Unit{};
    return Refusal{fmt::format("volume={}: this array has no such volume; it has {}",
                               parameters_.volume, has)};
}

namespace {

Task<Unit> close_volume_task(Array* array, std::string volume) {
    array->close_volume(volume);
    co_return Unit{};
}

}  // namespace

/// Nobody else has a volume of a server that is alone.
Checked<Unit> Server::open_volume(const std::string& volume) {
    if (!cluster_) return Unit{};
    return bridge_->run_on_loop([&](Array& array) { return array.open_volume(volume); });
}

void Server::close_volume(const std::string& volume) {
    if (!cluster_) return;
    bridge_->run_on_loop([&](Array& array) { return close_volume_task(&array, volume); });
}

const Export* Server::find_export(std::string_view name) const {
    for (const Export& one : exports_) {
        if (one.name == name) return &one;
    }
    return nullptr;
}

const Export* Server::default_export() const {
    if (!parameters_.volume.empty()) return find_export(parameters_.volume);
    return exports_.empty() ? nullptr : &exports_.front();
}

void Server::run_log() {
    for (std::uint64_t seen = 0;;) {
        const bool last = events_.closed();
        for (const ArrayEvent& event : events_.wait_after(seen, std::chrono::hours{1})) {
            seen = event.sequence;
            log_(event.severity, event.text);
        }
        if (last) return;
    }
}

/// The control socket tells how far the stop is, until there is nothing to tell any more.
void Server::finish() {
    if (control_) control_->refuse_orders();
    if (serves_ && !finished_) stop_array();
    finished_ = true;
    if (control_) control_->stop();
}

void Server::stop_array() {
    const auto stopped = bridge_->run_on_loop([](Array& array) { return array.stop(); });
    if (has_left_) return log_(Severity::info, "this node has left: the others have the array");
    if (!stopped) {
        log_(Severity::error,
             fmt::format("the array could not be marked clean: {}; its parity is made good at the "
                         "next start",
                         stopped.error().text()));
    } else if (!parameters_.readonly) {
        log_(Severity::info, "the array is stopped and marked clean");
    }
}

void Server::stop() {
    finish();
    if (loop_thread_.joinable()) {
        if (serves_) {
            loop_->stop();
            left_alone_.release();
        }
        loop_thread_.join();
    }
    events_.close();
    if (log_thread_.joinable()) log_thread_.join();
    serves_ = false;
    files_.clear();
}

}  // namespace braid::plugin
