// SPDX-License-Identifier: BSD-3-Clause
#include "tests/cluster/sim_nodes.h"

#include <fmt/format.h>

#include "engine/metadata/areas.h"
#include "engine/metadata/config_slot.h"
#include "engine/metadata/promise_slot.h"
#include "parity/parity.h"
#include "tests/sim/sim_create.h"

namespace braid::sim {

SimNodes::Node::Node(SimNodes& nodes, std::uint32_t self)
    : own_loop(nodes.options_.own_loops ? std::make_unique<SimLoop>(nodes.loop_) : nullptr),
      whole_loop(nodes.loop_),
      net(nodes.network_, host_of(self)) {
    if (const std::uint64_t drift = nodes.options_.drift_ppm; own_loop && drift != 0) {
        Rng drawn(nodes.options_.seed * 64 + self);  // the same at each start
        const std::uint64_t by = drawn.below(drift + 1);
        own_loop->let_stamps_differ(by % 2 == 0 ? by : 0, by % 2 == 0 ? 0 : by);
    }
    if (own_loop && self < nodes.options_.slow_nodes) {
        own_loop->let_stamps_differ(0, nodes.options_.slow_ppm);
    }
    if (own_loop && nodes.options_.clocks_stand) own_loop->let_stamps_stand();
    ArrayOptions options;
    options.buffer_size = 16u << 20;
    options.seed = nodes.loop_.rng().next();
    if (nodes.options_.region != 0) options.intent.region = nodes.options_.region;
    options.member_timeout = nodes.member_timeout_;
    options.rebuild_delay = nodes.rebuild_delay_;
    options.force = nodes.force_;
    options.on_event = [this](const ArrayEvent& event) { log += event.text + "\n"; };
    node = std::make_unique<cluster::ClusterNode>(cluster::ClusterNode::Setup{
        loop().ready(),
        loop(),
        net,
        nodes.config_of(self),
        self + 1,
        std::nullopt,
        nodes.loop_.rng().next() | 1,
        nodes.loop_.rng().next(),
        std::move(options),
        [this](Severity, const std::string& text) { log += text + "\n"; },
        {},
        [&nodes, self] { return nodes.read_config(self); },
        [this](cluster::NodeEnds why) { ends = why; }});
    for (std::uint32_t i = 0; i != nodes.platters_.size(); ++i) {
        if (nodes.home_of(i) != self) continue;
        node->put_disk(std::make_unique<SimDisk>(loop(), nodes.platters_[i], nodes.paths_[i]));
        const auto beside = nodes.beside_.find(i);
        if (beside == nodes.beside_.end()) continue;
        node->put_disk(
            std::make_unique<SimDisk>(loop(), beside->second.platter, beside->second.path));
    }
    for (const auto& [at, spare] : nodes.spares_) {
        if (at != self) continue;
        node->put_disk(std::make_unique<SimDisk>(loop(), spare.platter, spare.path));
    }
}

cluster::ClusterConfig SimNodes::config_of(std::uint32_t node) const {
    cluster::ClusterConfig config;
    config.name = "sim";
    config.reads = options_.reads;
    if (options_.exclusive) config.exclusive = {"data"};
    config.no_quorum = options_.no_quorum;
    config.lease_ms = options_.lease_ms;
    const auto own_lease = options_.lease_ms_at.find(node);
    if (own_lease != options_.lease_ms_at.end()) config.lease_ms = own_lease->second;
    config.heartbeat_ms = options_.heartbeat_ms;
    config.start_wait_ms = options_.start_wait_ms;
    for (const std::uint32_t one : files_[node]) {
        config.nodes.push_back({one + 1, {}, {}});
        for (std::uint32_t at = 0; at != options_.channels; ++at) {
            config.nodes.back().addresses.push_back(address_of(one, at));
        }
    }
    return config;
}

Task<Checked<cluster::ClusterConfig>> SimNodes::read_config(std::uint32_t node) {
    SimLoop& loop = loop_of(node);
    do {
        Timer timer(loop, Nanos{loop.now().value + loop_.rng().below(5'000'000) + 1});
        co_await timer;
    } while (files_held_.contains(node));
    co_return config_of(node);
}

std::uint32_t SimNodes::add_machine() {
    const std::uint32_t added = options_.nodes;
    if (options_.homes == 0) options_.homes = options_.nodes;
    ++options_.nodes;
    nodes_.push_back(nullptr);
    files_.push_back(files_.front());
    files_.back().insert(added);
    return added;
}

SimNodes::Node::~Node() {
    if (node) node->abandon();
}

SimNodes::SimNodes(SimNodesOptions options)
    : options_(options), loop_(options.seed), network_(loop_, options.net) {
    loop_.let_events_interrupt();
    for (std::uint32_t i = 0; i != options_.members; ++i) {
        platters_.push_back(make_platter());
        paths_.push_back("m" + std::to_string(i));
    }
    if (options_.witness) {
        platters_.push_back(std::make_shared<SimPlatter>(data_offset + options_.strip_size));
        paths_.push_back("witness");
    }
    if (options_.made) create();
    nodes_.resize(options_.nodes);
    std::set<std::uint32_t> all;
    for (std::uint32_t i = 0; i != options_.nodes; ++i) all.insert(i);
    files_.assign(options_.nodes, all);
}

bool SimNodes::is_open(std::uint32_t member) const { return platters_[member].use_count() != 1; }

std::shared_ptr<SimPlatter> SimNodes::make_platter() {
    auto platter =
        std::make_shared<SimPlatter>(data_offset + options_.stripes * options_.strip_size);
    platter->zero_fast = options_.zero_fast;
    return platter;
}

void SimNodes::wait_until_all_serve() {
    for (const auto& node : nodes_) {
        run_until([&] { return node->over; }, "it serves");
        ASSERT_TRUE(node->array != nullptr) << node->refusal;
    }
    geometry_ = Geometry::of(nodes_[0]->array->configuration());
}

void SimNodes::cancel(std::uint32_t node) {
    EXPECT_TRUE(nodes_[node]->node->cancel_start());
    run_until([&] { return nodes_[node]->over; }, "it does not wait any more");
    EXPECT_FALSE(nodes_[node]->array);
    loop_of(node).tasks().spawn(run_stop(nodes_[node].get()));
    run_until([&] { return nodes_[node]->stopped; }, "the server ends");
    nodes_[node].reset();
}

void SimNodes::lose_alone(std::uint32_t member) {
    std::vector<std::unique_ptr<Disk>> disks = all_disks();
    ArrayOptions options;
    options.buffer_size = 16u << 20;
    options.seed = loop_.rng().next();
    auto array = loop_.run_until_done(
        Array::open(loop_.ready(), loop_, std::move(disks), std::move(options)));
    ASSERT_TRUE(array) << array.error().text;
    platter(member).dead = true;
    const auto is_lost = [&] {
        return (*array)->status().members[member].record.state == MemberState::faulty;
    };
    Buffer zeroes(64u << 10);
    for (int i = 0; i != 20 && !is_lost(); ++i) {
        IoRequest request;
        request.kind = IoKind::write;
        request.size = zeroes.size();
        request.data = zeroes.data();
        (void)loop_.run_until_done(ask_of(**array, request));
    }
    EXPECT_TRUE(is_lost());
    EXPECT_TRUE(loop_.run_until_done((*array)->stop()));
}

void SimNodes::begin(std::uint32_t node) {
    nodes_[node] = std::make_unique<Node>(*this, node);
    loop_of(node).tasks().spawn(run_start(nodes_[node].get()));
}

void SimNodes::stop(std::uint32_t first) {
    EXPECT_TRUE(loop_.run_until_done(nodes_[first]->array->stop()));
    for (std::uint32_t i = 0; i != options_.nodes; ++i) {
        EXPECT_TRUE(loop_.run_until_done(nodes_[i]->array->stop()))
            << "node " << i << ": " << log(i);
    }
    end_servers();
}

void SimNodes::begin_to_end(std::uint32_t node) {
    Node* const at = nodes_[node].get();
    if (at->leaving) return;
    at->leaving = true;
    if (!at->over) (void)at->node->cancel_start();
    loop_of(node).tasks().spawn(run_end(at));
}

void SimNodes::kill(std::uint32_t node, Dies what) {
    Node& at = *nodes_[node];
    for (std::uint32_t other = 0; other != options_.nodes && what == Dies::host; ++other) {
        if (other != node) network_.cut_one_side(host_of(node), host_of(other));
    }
    each_platter([&](std::uint32_t home, SimPlatter& platter) {
        if (home == node) platter.crash(loop_.rng());
    });
    network_.crash(host_of(node), [&] {
        at.own_loop->crash([&at] {
            if (at.node) at.node->abandon();
            at.array.reset();
            at.node.reset();
        });
    });
    nodes_[node].reset();
    if (what == Dies::host) lose_power_of(node);
}

void SimNodes::end(std::uint32_t node) {
    if (!nodes_[node]) return;
    Node* const at = nodes_[node].get();
    if (!at->over && at->node->cancel_start()) {
        run_until([&] { return at->over; }, "it does not wait any more");
    }
    if (!at->stopped) {
        // Where it has been told of the array, and is not let in yet, it hears what comes of it.
        run_until([&] { return at->over; }, "its start ends");
        at->loop().tasks().spawn(at->array ? run_leave(at) : run_stop(at));
        run_until([&] { return at->stopped; }, "the server ends");
    }
    nodes_[node].reset();
}

void SimNodes::end_servers() {
    for (const auto& node : nodes_) {
        if (!node || node->stopped) continue;
        run_until([&] { return node->over; }, "its start ends");
        node->loop().tasks().spawn(run_stop(node.get()));
    }
    for (const auto& node : nodes_) {
        if (node) run_until([&] { return node->stopped; }, "the server ends");
    }
    for (auto& node : nodes_) node.reset();
}

void SimNodes::lose_power() {
    each_platter([&](std::uint32_t, SimPlatter& platter) { platter.crash(loop_.rng()); });
    loop_.crash([this] {
        for (auto& node : nodes_) node.reset();
    });
    each_platter([&](std::uint32_t, SimPlatter& platter) { platter.cut_power(loop_.rng()); });
}

void SimNodes::lose_power_of(std::uint32_t node) {
    each_platter([&](std::uint32_t home, SimPlatter& platter) {
        if (home == node) platter.cut_power(loop_.rng());
    });
}

void SimNodes::expect_parity(const std::set<RowIndex>& untrusted) {
    const std::uint64_t rows = geometry_.strip_size / row_size;
    for (std::uint64_t s = 0; s != geometry_.stripes; ++s) {
        const StripeIndex stripe{s};
        const auto strip = [&](Role role) {
            return platters_[raw(geometry_.member_of(stripe, role))]->content.data() + data_offset +
                   geometry_.strip_offset(stripe).value;
        };
        for (std::uint64_t i = 0; i != rows; ++i) {
            const RowIndex row{s * rows + i};
            if (untrusted.contains(row)) continue;
            const auto of = [&](Role role) { return strip(role) + i * row_size; };
            std::vector<const std::byte*> data;
            for (const Role role : geometry_.data_roles()) data.push_back(of(role));
            const ByteView p{of(geometry_.p()), row_size};
            EXPECT_TRUE(geometry_.parities() == 2
                            ? parity::matches_pq(p, {of(geometry_.q()), row_size}, data)
                            : parity::matches_p(p, data))
                << "row " << raw(row);
        }
    }
}

void SimNodes::hold_sent_by(std::uint32_t node) {
    each_other(node, [this](const std::string& self, const std::string& other) {
        network_.hold(self, other);
    });
}

void SimNodes::hold_sent_to(std::uint32_t node) {
    each_other(node, [this](const std::string& self, const std::string& other) {
        network_.hold(other, self);
    });
}

void SimNodes::release(std::uint32_t node) {
    each_other(node, [this](const std::string& self, const std::string& other) {
        network_.release(self, other);
        network_.release(other, self);
    });
}

Task<Result<void>> SimNodes::ask(std::uint32_t node, IoRequest request) {
    // Its server has no clients any more, or none yet.
    if (!nodes_[node] || !nodes_[node]->array || nodes_[node]->leaving) return nobody_serves();
    return ask_of(*nodes_[node]->array, request);
}

Result<void> SimNodes::ask_first(std::uint32_t node, IoKind kind, Buffer& data) {
    IoRequest request;
    request.kind = kind;
    request.data = data.data();
    request.size = data.size();
    return loop_.run_until_done(ask(node, request));
}

Result<void> SimNodes::flush(std::uint32_t node) {
    IoRequest request;
    request.kind = IoKind::flush;
    const auto result = std::make_shared<std::optional<Result<void>>>();
    loop_.tasks().spawn(keep(ask(node, request), result));
    run_until([&] { return result->has_value(); }, "the flush ends");
    return *result ? **result : Result<void>(Error{Errc::failed, "in vain"});
}

void SimNodes::run_until(const std::function<bool()>& condition, const char* what) {
    const Nanos end{loop_.now().value + seconds(600).value};
    while (!condition()) {
        ASSERT_LT(loop_.now().value, end.value) << "in vain: " << what << logs();
        ASSERT_TRUE(loop_.step()) << "nothing happens any more: " << what << logs();
    }
}

namespace {

/// The newest configuration on the member, and what it has promised.
std::string what_it_holds(ByteView content) {
    std::optional<ConfigSlot> newest;
    for (std::uint32_t slot = 0; slot != slot_count; ++slot) {
        Result<ConfigSlot, Finding> found =
            decode_slot(content.subspan(slot_offset(slot), slot_size), slot);
        if (found && (!newest || found->sequence > newest->sequence)) newest = std::move(*found);
    }
    if (!newest) return "no configuration";
    std::uint64_t promise = 0;
    for (std::uint32_t slot = 0; slot != promise_slot_count; ++slot) {
        const auto found =
            decode_promise(content.subspan(promise_slot_offset(slot), promise_slot_size), slot);
        if (found) promise = std::max(promise, found->epoch);
    }
    const Configuration& held = newest->configuration;
    std::string states;
    for (std::uint32_t i = 0; i != held.member_count; ++i) {
        const MemberRecord* const record = held.member(MemberIndex{i});
        states += record == nullptr ? " -" : fmt::format(" {}", text_of(record->state));
    }
    return fmt::format("{}, in force {}, promise {}:{}", held.version.text(), held.in_force.text(),
                       promise, states);
}

}  // namespace

std::string SimNodes::logs() const {
    std::string all;
    for (std::size_t i = 0; i != nodes_.size(); ++i) {
        if (nodes_[i]) all += "\nnode " + std::to_string(i) + ":\n" + nodes_[i]->log;
    }
    all += "\n";
    for (std::size_t i = 0; i != platters_.size(); ++i) {
        all += fmt::format("member {}: {}\n", i, what_it_holds(platters_[i]->content.view()));
    }
    return all;
}

Task<void> SimNodes::keep(Task<Result<void>> task,
                          std::shared_ptr<std::optional<Result<void>>> result) {
    *result = co_await task;
}

Task<Result<void>> SimNodes::nobody_serves() { co_return Error{Errc::failed, "node"}; }

Task<void> SimNodes::run_start(Node* at) {
    Checked<std::unique_ptr<Array>> started = co_await at->node->start();
    if (started) {
        at->array = std::move(started).value();
    } else {
        at->refusal = started.error().text;
    }
    at->over = true;
}

Task<void> SimNodes::run_stop(Node* at) {
    co_await at->node->stop();
    at->array.reset();
    at->node.reset();
    at->stopped = true;
}

Task<void> SimNodes::run_leave(Node* at) {
    at->leaving = true;
    (void)co_await at->array->stop();
    co_await run_stop(at);
}

Task<void> SimNodes::run_end(Node* at) {
    while (!at->over) {
        Timer timer(at->loop(), Nanos{at->loop().now().value + millis(5).value});
        co_await timer;
    }
    if (at->array) (void)co_await at->array->stop();
    co_await run_stop(at);
}

std::vector<std::unique_ptr<Disk>> SimNodes::all_disks() {
    std::vector<std::unique_ptr<Disk>> disks;
    for (std::uint32_t i = 0; i != platters_.size(); ++i) {
        disks.push_back(disk(platters_[i], paths_[i]));
    }
    return disks;
}

void SimNodes::create() {
    std::vector<std::unique_ptr<Disk>> disks = all_disks();
    CreateOptions how;
    how.level = options_.level;
    how.strip_size = options_.strip_size;
    how.name = "sim";
    how.wall_seconds = loop_.wall_seconds();
    geometry_ = Geometry::of(
        create_on(loop_, disks, options_.members, how, WithWitness{options_.witness.has_value()}));
}

}  // namespace braid::sim
