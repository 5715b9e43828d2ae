#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""A fourth node comes, and takes the place of the first one, while clients write through all: nothing stands still, and
nothing is lost."""
import time

from braid_cluster import MEMBER, Cluster, Node, Writing, pattern
from braid_system import MIB, check, main, say, wait_until


def states_at(node):
    return {one["id"]: one["state"] for one in node.status()["nodes"]}


def refused(node, why, *words):
    done = node.braid(*words, ok=False)
    check(why in done.stdout, f"{words}: {done.stdout}")


def one_comes_and_one_goes(world):
    cluster = Cluster(world, 6, 6, patient=False).start()
    first = cluster.nodes[0]
    data = pattern("content", 4 * MIB)
    client = cluster.nodes[1].connect()
    client.pwrite(data, 0)
    load = [Writing(node, 4096 + 64 * node.number, 64) for node in cluster.nodes]
    refused(first, "has no node 4: add it there first", "node", "add", "4")
    check(set(states_at(first)) == {1, 2, 3}, "nothing has changed")

    cluster.count = 4
    cluster.addresses.append(f"unix:{world.path('bus4.sock')}")
    cluster.write_config()
    first.braid("node", "add", "4")
    check(states_at(cluster.nodes[2])[4] == "excluded", "it may come")
    fourth = Node(cluster, 4)
    cluster.nodes.append(fourth)
    wait_until(fourth.serves, "it is let in", 60)
    wait_until(lambda: all(set(states_at(node)) == {1, 2, 3, 4} for node in cluster.nodes), "all know of it")
    refused(first, "serves", "node", "add", "4")
    load.append(Writing(fourth, 4096 + 64 * 4, 64))

    cluster.removed = {1}
    cluster.write_config()
    refused(fourth, "--drain 1", "node", "remove", "1")
    refused(fourth, "there are 0 spares at other nodes", "node", "remove", "--drain", "1")
    refused(first, "is the one that was asked", "node", "remove", "--drain", "1")
    fresh = [world.file(MEMBER, f"fresh{number}") for number in range(2)]
    for path in fresh:
        fourth.braid("member", "add", path)
    time.sleep(1)
    load.pop(0).end()
    done = fourth.braid("node", "remove", "--drain", "1")
    say(done.stdout.strip())
    first.wait_for_end()
    for node in cluster.nodes[1:]:
        shown = node.status()
        check(shown["health"] == "clean" and not shown.get("bad_bytes"), f"it is whole: {shown['health']}")
        homes = [one["home"] for one in shown["members"] if one["role"] is not None]
        check(sorted(homes) == [2, 2, 3, 3, 4, 4], f"its members' roles are elsewhere: {homes}")
    wait_until(lambda: all(set(states_at(node)) == {2, 3, 4} for node in cluster.nodes[1:]), "it is none of them")
    refused(fourth, "there is no node 1", "node", "remove", "1")
    for one in load:
        one.end()
    say(f"longest write: {max(one.longest for one in load) * 1000:.0f} ms")
    for node in cluster.nodes[1:]:
        reader = node.connect()
        check(reader.pread(4 * MIB, 0) == data, "what was written first")
        reader.shutdown()
        for one in load:
            one.check_through(node)
        errors = [line for line in node.log().splitlines() if "ERROR" in line and "an operator said so" not in line]
        check(not errors, f"nothing else fails: {errors}")
    client.shutdown()
    # All that is so at the next start.
    cluster.nodes.pop(0)
    cluster.stop()
    cluster.paths = [fresh.pop() if home == 1 else path for path, home in zip(cluster.paths, cluster.homes)]
    cluster.homes = [4 if home == 1 else home for home in cluster.homes]
    cluster.write_config()
    cluster.nodes = [Node(cluster, number) for number in (2, 3, 4)]
    cluster.wait_until_all_serve()
    reader = cluster.nodes[2].connect()
    check(reader.pread(4 * MIB, 0) == data, "it is all there")
    reader.shutdown()
    cluster.stop()
    cluster.check_parity()


main(one_comes_and_one_goes)
