// SPDX-License-Identifier: BSD-3-Clause
// Operators add nodes and remove them while the array is served: the files first, then the order, at any
// node. What was ordered of one who dies in the middle is ordered again, and nobody who serves is thrown
// out for what another one does not know.
#include <string>
#include <vector>

#include "tests/cluster/node_death_kit.h"

namespace braid::sim {
namespace {

SimNodesOptions that_can_die() {
    SimNodesOptions how;
    how.own_loops = true;
    return how;
}

class NodeChangesTest : public NodeReturnKit {
  protected:
    NodeChangesTest() : NodeReturnKit(that_can_die()) {}

    Checked<Unit> order(NodeOrder what, std::uint32_t at, std::uint32_t node) {
        return loop().run_until_done(nodes_.array(at).order_node(what, node + 1));
    }
    void expect_done(const Checked<Unit>& done) {
        ASSERT_TRUE(done) << done.error().text << nodes_.logs();
    }
    static void expect_refused(const Checked<Unit>& done, const std::string& why) {
        const std::string text = done ? "done" : done.error().text;
        EXPECT_NE(text.find(why), std::string::npos) << text;
    }
    std::set<std::uint32_t> all_but(std::uint32_t left_out = ~0U) const {
        std::set<std::uint32_t> nodes;
        for (std::uint32_t node = 0; node != nodes_.nodes(); ++node) {
            if (node != left_out) nodes.insert(node);
        }
        return nodes;
    }
    void set_files(const std::set<std::uint32_t>& nodes) {
        for (const std::uint32_t node : all_but()) nodes_.set_file(node, nodes);
    }
    std::uint32_t any_of(const std::set<std::uint32_t>& nodes) {
        return *std::next(nodes.begin(), static_cast<std::ptrdiff_t>(below(nodes.size())));
    }
    std::size_t known_at(std::uint32_t node) { return nodes_.array(node).status().nodes.size(); }
    std::uint32_t who_decides() {
        for (const std::uint32_t node : all_but()) {
            if (nodes_.is_up(node) && nodes_.has_begun(node) && nodes_.node(node).is_master()) {
                return node;
            }
        }
        return ~0U;
    }
    /// @param but_for  whose server dies: what its clients had asked is never answered
    void begin_clients(std::uint32_t but_for = ~0U) {
        nodes_.start();
        loop().run_for(seconds(1));
        for (const std::uint32_t node : all_but(but_for)) begin_clients_of(node, 200);
        loop().run_for(millis(below(300)));
    }
    void begin_clients_of(std::uint32_t node, std::uint32_t requests) {
        for (int i = 0; i != 2; ++i) {
            ++working_;
            loop().tasks().spawn(client(node, requests));
        }
    }
    /// As whoever decides sees it.
    bool is_needed(std::uint32_t node) {
        loop().run_for(seconds(2));
        for (const NodeStatus& of : nodes_.array(who_decides()).status().nodes) {
            if (of.id == node + 1) return of.needed;
        }
        return true;
    }
    /// A machine more, whose server waits; nothing but the files is needed, and the order.
    std::uint32_t add_machine() {
        const std::uint32_t added = nodes_.add_machine();
        set_files(all_but());
        return added;
    }
    void serve(std::uint32_t node) {
        come_in(node);
        begin_clients_of(node, 30);
    }
    /// Its server begins anew by itself where others had taken that start for gone.
    void come_in(std::uint32_t node) {
        for (int starts = 0; starts != 5; ++starts) {
            if (!nodes_.is_up(node)) nodes_.begin(node);
            nodes_.run_until([&] { return nodes_.has_begun(node); }, "it is let in");
            if (nodes_.refusal(node).empty()) return;
            nodes_.end(node);
        }
        ADD_FAILURE() << "node " << node << " is not let in";
    }
    /// A victim that is not the one who decides, and has left in order.
    void leave(std::uint32_t victim) {
        clients_.let_fail_at(victim);
        expect_done(order(NodeOrder::stop, any_of(all_but(victim)), victim));
        nodes_.run_until([&] { return nodes_.is_left(victim); }, "its server ends");
        nodes_.end(victim);
    }
    /// The first nodes, which are all that there are.
    void expect_whole_at(std::uint32_t count) {
        const auto is_whole = [&] {
            for (std::uint32_t node = 0; node != count; ++node) {
                const ArrayStatus status = nodes_.array(node).status();
                if (status.health != Health::clean || status.in_doubt) return false;
            }
            return true;
        };
        nodes_.run_until(is_whole, "all is clean");
        loop().run_for(seconds(3));
        for (std::uint32_t node = 0; node != count; ++node) {
            ASSERT_FALSE(nodes_.ends(node)) << node << nodes_.logs();
            const ArrayStatus status = nodes_.array(node).status();
            EXPECT_EQ(status.bad_bytes, 0u) << node;
            EXPECT_EQ(status.nodes.size(), count) << node;
            for (const NodeStatus& of : status.nodes) EXPECT_FALSE(of.excluded) << of.id;
        }
    }
    void end_all_servers(const std::set<std::uint32_t>& serving) {
        end_load();
        for (const std::uint32_t node : serving) {
            if (nodes_.is_up(node)) (void)loop().run_until_done(nodes_.array(node).stop());
        }
        nodes_.end_servers();
    }
    void expect_log(std::uint32_t node, const std::string& text) {
        EXPECT_NE(nodes_.log(node).find(text), std::string::npos) << nodes_.log(node);
    }
};

/// It serves; and when all begin anew it is one of them.
TEST_P(NodeChangesTest, ANodeIsAdded) {
    begin_clients();
    const std::uint32_t added = add_machine();
    if (below(2) == 0) nodes_.begin(added);  // it waits, or comes later
    expect_done(order(NodeOrder::add, any_of(all_but(added)), added));
    for (const std::uint32_t node : all_but(added)) {
        ASSERT_EQ(known_at(node), nodes_.nodes()) << node;
        EXPECT_TRUE(nodes_.array(node).status().nodes[added].excluded) << node;
    }
    serve(added);
    expect_refused(order(NodeOrder::add, any_of(all_but()), added), "serves");
    end_load();
    wait_until_whole();
    expect_whole();
    clients_.check(nodes_.nodes());
    nodes_.stop(static_cast<std::uint32_t>(below(nodes_.nodes())));
    nodes_.expect_parity();
    nodes_.start();
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// A disk at the new node takes the place of one at another.
TEST_P(NodeChangesTest, AMemberGoesToANodeThatWasAdded) {
    begin_clients();
    const std::uint32_t added = add_machine();
    expect_done(order(NodeOrder::add, 0, added));
    serve(added);
    const auto platter = nodes_.make_platter();
    expect_done(loop().run_until_done(nodes_.array(added).replace_member(
        MemberName("0"), nodes_.disk_at(added, platter, "new"), Force::no)));
    nodes_.run_until([&] { return is_everywhere(0, MemberState::in_sync); }, "it is rebuilt");
    end_load();
    clients_.check(nodes_.nodes());
    for (const std::uint32_t node : all_but()) {
        const MemberRecord* const record =
            nodes_.array(node).configuration().member(MemberIndex{0});
        ASSERT_NE(record, nullptr);
        EXPECT_EQ(record->home, added + 1) << node;
    }
    expect_refused(order(NodeOrder::remove, 0, added), "--drain");
    nodes_.stop(0);
}

/// Nothing changes before all files agree.
TEST_P(NodeChangesTest, ItWaitsForTheFiles) {
    begin_clients();
    const std::uint32_t added = nodes_.add_machine();
    const std::set<std::uint32_t> others = all_but(added);
    const std::uint32_t late = any_of(others);
    for (const std::uint32_t node : others) {
        if (node != late) nodes_.set_file(node, all_but());
    }
    expect_refused(order(NodeOrder::add, any_of(others), added),
                   fmt::format("node {}: its cluster's file has no node {}", late + 1, added + 1));
    for (const std::uint32_t node : others) EXPECT_EQ(known_at(node), others.size());
    nodes_.set_file(late, all_but());
    nodes_.hold_file(late);  // on a file system that hangs
    expect_refused(order(NodeOrder::add, any_of(others), added), "not all nodes have answered");
    nodes_.release_file(late);
    loop().run_for(seconds(1));
    expect_done(order(NodeOrder::add, any_of(others), added));
    expect_done(order(NodeOrder::add, any_of(others), added));  // it has not come yet
    serve(added);
    end_load();
    clients_.check(nodes_.nodes());
    expect_whole();
    nodes_.stop(0);
}

/// Two operators, at two nodes.
TEST_P(NodeChangesTest, TwoOrdersAtATimeAreCarriedOutOneAfterTheOther) {
    begin_clients();
    const std::set<std::uint32_t> before = all_but();
    const std::uint32_t first = nodes_.add_machine();
    const std::uint32_t second = nodes_.add_machine();
    set_files(all_but());
    using Done = std::optional<Checked<Unit>>;
    const auto keep = [](Task<Checked<Unit>> ordered, std::shared_ptr<Done> to) -> Task<void> {
        to->emplace(co_await ordered);
    };
    std::vector<std::shared_ptr<Done>> all;
    for (const std::uint32_t added : {first, second}) {
        all.push_back(std::make_shared<Done>());
        loop().tasks().spawn(
            keep(nodes_.array(any_of(before)).order_node(NodeOrder::add, added + 1), all.back()));
        loop().run_for(Nanos{below(3'000'000)});
    }
    nodes_.run_until([&] { return all[0]->has_value() && all[1]->has_value(); }, "both are done");
    for (const auto& done : all) expect_done(**done);
    for (const std::uint32_t node : before) EXPECT_EQ(known_at(node), nodes_.nodes()) << node;
    serve(second);
    serve(first);
    end_load();
    expect_whole_at(nodes_.nodes());
    clients_.check(nodes_.nodes());
    nodes_.stop(0);
}

/// All stop, while the file of one cannot be read.
TEST_P(NodeChangesTest, AStopWaitsForNoOrder) {
    nodes_.start();
    const std::uint32_t added = add_machine();
    const std::set<std::uint32_t> others = all_but(added);
    const std::uint32_t late = any_of(others);
    nodes_.hold_file(late);
    expect_refused(order(NodeOrder::add, 0, added), "not all nodes have answered");
    expect_refused(order(NodeOrder::add, 0, added), "is just being read");
    for (const std::uint32_t node : others) {
        (void)loop().run_until_done(nodes_.array(node).stop());
    }
    nodes_.release_file(late);
    nodes_.end_servers();
}

/// Its server is started again and again: no start of it comes in, and nobody minds.
TEST_P(NodeChangesTest, ANodeIsRemoved) {
    begin_clients();
    const std::uint32_t added = add_machine();
    expect_done(order(NodeOrder::add, 0, added));
    serve(added);
    const std::set<std::uint32_t> others = all_but(added);
    const auto remove = [&] { return order(NodeOrder::remove, any_of(others), added); };
    expect_refused(order(NodeOrder::remove, added, added), "is the one that was asked");
    expect_refused(remove(), "have it leave first");
    leave(added);
    expect_refused(remove(), "still has node");
    come_in(added);  // a refusal has changed nothing
    leave(added);
    for (const std::uint32_t node : others) nodes_.set_file(node, others);
    if (below(2) == 0) nodes_.begin(added);
    expect_done(remove());
    for (const std::uint32_t node : others) EXPECT_EQ(known_at(node), others.size()) << node;
    expect_refused(remove(), "there is no node");
    if (!nodes_.is_up(added)) nodes_.begin(added);
    loop().run_for(seconds(20));
    EXPECT_FALSE(nodes_.has_begun(added));
    nodes_.cancel(added);
    for (const std::uint32_t node : others) nodes_.set_file(node, all_but());
    expect_refused(order(NodeOrder::add, 0, added), "give the new one another id");
    end_load();
    expect_whole_at(added);
    clients_.check(added);
    end_all_servers(others);
}

/// Its members are lost, and in nobody's way: the next fences begin, and other nodes come back.
TEST_P(NodeChangesTest, ADeadNodeIsRemovedWithItsMembers) {
    const std::uint32_t victim = choose_victim();
    begin_clients(victim);
    nodes_.kill(victim, below(2) == 0 ? Dies::process : Dies::host);
    const std::set<std::uint32_t> others = all_but(victim);
    nodes_.run_until([&] { return nodes_.array(master_).status().nodes[victim].excluded; },
                     "it is out");
    loop().run_for(seconds(3));  // its record of the write intent is empty
    for (const std::uint32_t node : others) nodes_.set_file(node, others);
    expect_done(order(NodeOrder::remove, any_of(others), victim));
    // Another one goes and comes, where the level allows it.
    for (const std::uint32_t node : others) {
        if (is_needed(node) || node == master_) continue;
        end_load();
        nodes_.kill(node, Dies::process);
        loop().run_for(seconds(5));
        come_in(node);
        break;
    }
    end_load();
    loop().run_for(seconds(30));
    for (const std::uint32_t node : others) {
        const ArrayStatus status = nodes_.array(node).status();
        EXPECT_EQ(status.bad_bytes, 0u) << node;
        EXPECT_EQ(status.nodes.size(), others.size()) << node;
        read_all(node);
    }
    end_all_servers(others);
}

/// Some know of it then, and some do not. They go on all the same, and the same order sees to the rest.
TEST_P(NodeChangesTest, TheOneWhoDecidesDiesInTheMiddle) {
    begin_clients(master_);
    const std::uint32_t victim = master_;
    if (is_needed(victim)) return end_all_servers(all_but());
    const std::uint32_t added = add_machine();
    const bool removes = below(2) == 0;
    if (removes) {
        expect_done(order(NodeOrder::add, 0, added));
        loop().run_for(seconds(1));
        set_files(all_but(added));
    }
    const auto done = std::make_shared<std::optional<Checked<Unit>>>();
    const auto keep = [](Task<Checked<Unit>> ordered,
                         std::shared_ptr<std::optional<Checked<Unit>>> to) -> Task<void> {
        to->emplace(co_await ordered);
    };
    const NodeOrder what = removes ? NodeOrder::remove : NodeOrder::add;
    nodes_.loop_of(0).tasks().spawn(keep(nodes_.array(0).order_node(what, added + 1), done));
    loop().run_for(Nanos{below(12'000'000)});
    nodes_.kill(victim, below(2) == 0 ? Dies::process : Dies::host);
    const auto another_decides = [&] {
        const std::uint32_t now = who_decides();
        return now != ~0U && nodes_.log(now).find("has begun with") != std::string::npos;
    };
    nodes_.run_until(another_decides, "another one decides");
    loop().run_for(seconds(3));
    std::set<std::uint32_t> others = all_but(victim);
    others.erase(added);
    for (const std::uint32_t node : others) {
        EXPECT_FALSE(nodes_.ends(node)) << node << ": " << nodes_.log(node);
    }
    nodes_.begin(victim);
    loop().run_for(seconds(15));
    if (nodes_.has_begun(victim) && !nodes_.refusal(victim).empty()) nodes_.end(victim);
    const Checked<Unit> again = order(what, any_of(others), added);
    if (!removes) {
        expect_done(again);
        serve(added);
    } else if (!again) {
        expect_refused(again, "there is no node");  // all were told already
    }
    come_in(victim);
    end_load();
    const std::uint32_t count = removes ? added : nodes_.nodes();
    expect_whole_at(count);
    clients_.check(count);
    if (removes) end_all_servers(all_but(added));
    if (!removes) end_all_servers(all_but());
}

/// A node that has left is removed; then the one who decides dies.
TEST_P(NodeChangesTest, WhoWasRemovedIsInNobodysWay) {
    begin_clients();
    const std::uint32_t added = add_machine();
    expect_done(order(NodeOrder::add, 0, added));
    serve(added);
    leave(added);
    loop().run_for(seconds(15));
    const std::set<std::uint32_t> others = all_but(added);
    for (const std::uint32_t node : others) nodes_.set_file(node, others);
    expect_done(order(NodeOrder::remove, 0, added));
    end_load();
    const std::uint32_t victim = who_decides();
    if (is_needed(victim)) return end_all_servers(others);
    nodes_.kill(victim, Dies::host);
    nodes_.run_until([&] { return who_decides() != ~0U; }, "another one decides");
    loop().run_for(seconds(3));
    come_in(victim);
    expect_whole_at(added);
    clients_.check(added);
    end_all_servers(others);
}

/// One that was away, with a file that is older or newer than the cluster.
TEST_P(NodeChangesTest, ANodeComesBackWithAnotherFile) {
    const std::uint32_t victim = choose_victim();
    begin_clients(victim);
    nodes_.kill(victim, Dies::process);
    nodes_.run_until([&] { return nodes_.array(master_).status().nodes[victim].excluded; },
                     "the others go on");
    const std::uint32_t added = add_machine();
    nodes_.begin(victim);  // its file has one more, which nobody has ordered yet
    come_in(victim);
    expect_log(victim, "none of the cluster's");
    loop().run_for(seconds(1));
    expect_done(order(NodeOrder::add, victim, added));
    nodes_.kill(victim, Dies::process);
    loop().run_for(seconds(5));
    nodes_.set_file(victim, all_but(added));
    nodes_.begin(victim);  // its file lacks one
    loop().run_for(seconds(10));
    EXPECT_FALSE(nodes_.has_begun(victim));
    expect_log(who_decides(), "its cluster's file has no node");
    nodes_.set_file(victim, all_but());  // which it reads again
    come_in(victim);
    serve(added);
    end_whole(victim);
}

/// Some wait already, with what the files had before.
TEST_P(NodeChangesTest, TheFilesChangeWhileTheStartIsWaitedFor) {
    nodes_.start();
    nodes_.stop(0);
    const auto late = static_cast<std::uint32_t>(below(nodes_.nodes()));
    for (std::uint32_t node = 0; node <= master_; ++node) {
        if (node != late) nodes_.begin(node);
    }
    loop().run_for(millis(below(3000)));
    const std::uint32_t added = add_machine();
    nodes_.begin(added);
    loop().run_for(millis(below(3000)));
    nodes_.begin(late);
    for (const std::uint32_t node : all_but()) come_in(node);
    expect_whole_at(nodes_.nodes());
    end_all_servers(all_but());
}

/// All start, and their files differ.
TEST_P(NodeChangesTest, AStartWithFilesThatDifferSaysSo) {
    nodes_.start();
    nodes_.stop(0);
    (void)nodes_.add_machine();
    const std::uint32_t other = static_cast<std::uint32_t>(below(master_));
    nodes_.set_file(other, all_but());
    for (std::uint32_t node = 0; node <= master_; ++node) nodes_.begin(node);
    nodes_.run_until([&] { return nodes_.has_begun(master_); }, "it is refused");
    EXPECT_NE(nodes_.refusal(master_).find("make them alike"), std::string::npos)
        << nodes_.refusal(master_);
    nodes_.set_file(other, all_but(master_ + 1));
    nodes_.lose_power();
    for (std::uint32_t node = 0; node <= master_; ++node) nodes_.begin(node);
    for (std::uint32_t node = 0; node <= master_; ++node) come_in(node);
    clients_.check(master_ + 1);
    for (std::uint32_t node = 0; node <= master_; ++node) {
        (void)loop().run_until_done(nodes_.array(node).stop());
    }
    nodes_.end_servers();
}

INSTANTIATE_TEST_SUITE_P(Seeds, NodeChangesTest, testing::ValuesIn(death_shapes(seeds_of(6, 60))));

}  // namespace
}  // namespace braid::sim
