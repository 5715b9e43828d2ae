// SPDX-License-Identifier: BSD-3-Clause
// Any bytes as the body of a TELL: no object, or one that each decoder of what nodes tell and ask each
// other refuses with a reason, or takes; and what is taken and told on is taken again.
#include <nlohmann/json.hpp>
#include <string>
#include <utility>
#include <vector>

#include "cluster/bus/talk.h"
#include "cluster/epochs/told_nodes.h"
#include "cluster/epochs/window_words.h"
#include "cluster/node/fence_words.h"
#include "cluster/node/node_commands.h"
#include "cluster/node/told_status.h"
#include "cluster/reservations/reservations.h"
#include "engine/assembly/create_order.h"
#include "engine/base/limits.h"
#include "engine/io/ready_queue.h"
#include "parity/require.h"

using namespace braid;
using namespace braid::cluster;

namespace {

constexpr std::size_t volumes = 2;

/// RAID-6 of six members, two windows in each of 10 000 stripes.
Configuration configuration() {
    Configuration configuration;
    configuration.name = "fuzz";
    configuration.level = Level::raid6;
    configuration.member_count = 6;
    configuration.strip_size = 512u << 10;
    configuration.stripes = 10'000;
    configuration.version = {512, 3};
    for (std::uint32_t i = 0; i != configuration.member_count; ++i) {
        MemberRecord record;
        record.role = MemberIndex{i};
        record.state = i == 1 ? MemberState::rebuilding : MemberState::in_sync;
        record.uuid.bytes[0] = static_cast<std::uint8_t>(i + 1);
        record.data_offset = 4u << 20;
        configuration.members.push_back(record);
    }
    configuration.volumes.push_back({"data", StripeIndex{0}, configuration.stripes});
    return configuration;
}
const Geometry& geometry() {
    static const Geometry shape = Geometry::of(configuration());
    return shape;
}

template <class Value>
bool is_taken(const Checked<Value>& come) {
    if (!come) BRAID_REQUIRE(!come.error().text.empty());
    return come.has_value();
}
/// As it comes at the next node: a message has it.
Words sent(const Words& words) {
    const std::string text = words.dump();
    BRAID_REQUIRE(text.size() <= message_body_size_max);
    return Words::parse(text);
}
/// @param decode  of words; what it gives can be told on
template <class Decode>
void check_told_on(const Words& words, Decode decode) {
    const auto come = decode(words);
    if (is_taken(come)) BRAID_REQUIRE(decode(sent(words_of(*come))).has_value());
}

void check_fence_words(const Words& words) {
    (void)is_prepare(words);
    (void)is_adopt(words);
    check_told_on(words, prepare_of);
    (void)is_taken(rebuilt_of(words, geometry()));
    Prepared prepared;
    (void)is_taken(take_prepared(words, &prepared));
    WriteVerdict verdict;
    if (is_taken(take_verdict(words, &verdict))) {
        WriteVerdict again;
        for (const Words& piece : words_of(verdict)) {
            BRAID_REQUIRE(take_verdict(sent(piece), &again).has_value());
        }
        BRAID_REQUIRE(again == verdict);
    }
    for (const char* key : {"without", "nodes", "gone"}) {
        WordFields fields(words);
        (void)nodes_of(fields, key);
        (void)is_taken(fields.check());
        WordFields others(words);
        (void)is_taken(nodes_in(others, key));
    }
}

void check_windows(const Words& words) {
    WordFields fields(words);
    WindowSet windows;
    if (!is_taken(take_windows(fields, geometry(), &windows))) return;
    for (const Words& piece : words_of_behind(MemberIndex{1}, windows)) {
        const Words come = sent(piece);
        WordFields again(come);
        BRAID_REQUIRE(take_windows(again, geometry(), &windows).has_value());
    }
}

void check_commands(const Words& words) {
    check_told_on(words, cable_check_answer_of);
    check_told_on(words, block_read_of);
    check_told_on(words, block_write_of);
    check_told_on(words, negotiate_of);
    check_told_on(words, kill_of);
    check_told_on(words, inquiry_answer_of);
    (void)is_taken(block_of(words));
    NodeCommands commands({[](std::uint32_t) {
                               return CableCheckAnswer{1, "unix:/a"};
                           },
                           [] { return InquiryAnswer{}; },
                           [](std::uint32_t, const Kill&) { return Checked<Unit>(Unit{}); }});
    for (const char* what : {node_words::cable_check, node_words::node_read, node_words::node_write,
                             node_words::negotiate, node_words::kill, node_words::inquiry}) {
        BRAID_REQUIRE(NodeCommands::has(what));
        (void)is_taken(commands.answer(2, what, words));
    }
}

void check_status(const Words& words) {
    check_told_on(words, node_status_of);
    check_told_on(words, [](const Words& told) { return told_status_of(told, geometry()); });
}

void check_orders(const Words& words) {
    (void)is_taken(reservation_message_of(words, volumes));
    (void)is_taken(rebuilds_of(words, geometry()));
    check_told_on(words, configuration_of);
    const auto order = create_order_of(words);
    if (is_taken(order)) BRAID_REQUIRE(create_order_of(sent(json_of(*order))).has_value());
    WordFields fields(words);
    (void)fields.member(geometry());
    (void)fields.place(geometry());
    (void)fields.rows(geometry());
    (void)is_taken(fields.check());
}

/// All that comes goes to all of them: a message may have the fields of any other one.
class Everybody final : public TalkListener {
  public:
    std::uint64_t come{0};

  private:
    Task<Checked<Unit>> told(std::uint32_t, const Words& words) override {
        ++come;
        BRAID_REQUIRE(words.is_object());
        check(words);
        for (const auto& [key, value] : words.items()) {
            if (value.is_object()) check(value);
        }
        co_return Unit{};
    }
    Task<Checked<Words>> asked(std::uint32_t, const Words& words) override { co_return words; }
    void misunderstood(std::uint32_t, const std::string& why) override {
        ++come;
        BRAID_REQUIRE(!why.empty());
    }
    static void check(const Words& words) {
        check_fence_words(words);
        check_windows(words);
        check_commands(words);
        check_status(words);
        check_orders(words);
    }
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    ReadyQueue ready;
    Everybody everybody;
    Talk talk(ready, everybody);
    Message message;
    message.header.type = MessageType::tell;
    message.body = {reinterpret_cast<const std::byte*>(data), size};
    BRAID_REQUIRE(talk.take(2, message, Buffer()).has_value());
    while (!ready.empty()) ready.take().resume();
    BRAID_REQUIRE(everybody.come == 1);
    return 0;
}

std::vector<std::string> fuzz_samples() {
    std::vector<Words> all{words_of(PrepareWords{512, {{3, 77}, {1, 9}}, {{2, 5}}, {1}})};
    Prepared prepared;
    prepared.answer.sequence = 9000;
    prepared.answer.decided = {3, 5};
    prepared.answer.books[{2, 41}] = {{{{2, 41}, 7}, 3, 3, true}};
    prepared.answer.ages[NodeId{2}] = millis(7);
    prepared.answer.verdict.epoch = 200;
    prepared.answer.verdict.writers[{2, 41}] = {Judged::all, {5, 7}};
    prepared.roles = {{true, 2, 1, WindowIndex{17}}, {false, 0, 0, WindowIndex{}}};
    for (const Words& piece : words_of(256, prepared)) all.push_back(piece);
    for (const Words& piece : words_of(prepared.answer.verdict)) all.push_back(piece);
    all.push_back(words_of(Negotiate{NegotiateStep::adopt, 256}));
    put_rebuilt(&all.back(), {{MemberIndex{3}, WindowIndex{17}}});
    WindowSet windows;
    (void)windows.add(WindowIndex{5000});
    for (const Words& piece : words_of_behind(MemberIndex{1}, windows)) all.push_back(piece);
    all.push_back(words_of(CableCheckAnswer{1, "unix:/run/a"}));
    all.push_back(words_of(BlockRead{8, 16}));
    all.push_back(words_of(BlockWrite{4000, {std::byte{1}, std::byte{255}}}));
    all.push_back(words_of(Kill{7, "an operator has killed it"}));
    all.push_back(words_of(InquiryAnswer{2, 9, false, false, true, 256, {1, 2, 31}}));
    ToldStatus status;
    status.version = {7, 3};
    WalkStatus walk;
    walk.kind = WalkKind::rebuilding;
    walk.member = MemberIndex{3};
    walk.end = 1000;
    walk.seconds_left = 9;
    status.walks.push_back(walk);
    status.last_scrub = walk;
    status.last_scrub->kind = WalkKind::scrubbing;
    status.waits.push_back({"spare", MemberIndex{1}, true, "rows are listed"});
    status.nodes.resize(2);
    status.nodes[0].id = 1;
    status.nodes[1].id = 2;
    all.push_back(words_of(status));
    all.push_back(words_of(status.nodes[0]));
    all.push_back(words_of(configuration()));
    CreateOrder order;
    order.options.name = "new";
    order.options.level = Level::raid6;
    all.push_back(json_of(order));
    all.push_back({{"tell", "reservation"}, {"what", "reserve"}, {"volume", 1}, {"request", 7}});
    all.push_back({{"tell", "reservation"},
                   {"what", "refused"},
                   {"volume", 0},
                   {"request", 7},
                   {"holder", 3},
                   {"standing", "holds"},
                   {"rebuilt", {{{"member", 1}, {"upto", 9}}}}});
    all.push_back({{"ask", "rows"}, {"stripe", 7}, {"window", 1}, {"rows", 255}, {"member", 2}});
    std::vector<std::string> samples{"{}", "[]", std::string(100, '['), "{\"tell\":1}"};
    for (const Words& words : all) samples.push_back(words.dump());
    return samples;
}
