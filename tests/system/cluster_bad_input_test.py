#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Mistakes of people who run several nodes: each gets an error that names the thing, the reason and the way
out; the other nodes go on, or wait and say for what; and nothing is lost. What a file alone can get wrong,
and with which words it is refused, is in tests/cluster/config_test.cpp."""
import contextlib
import os
import random
import signal
import time

from braid_cluster import MEMBER, Cluster, Node, free_ports, pattern, somebody_listens
from braid_system import CLI, MIB, PATIENCE, PLUGIN, check, end, end_of, main, run, say, server_environment, \
    sha256_of, start, wait_until
from history import SECTOR, Load, at_the_crash, check_busy, check_no_errors, judge, read_all

PLACES = [(1000, 64)]  # sectors that histories are of
HISTORY = []  # of them since the array was made, up to the first crash
KEPT, DATA = 16 * MIB, pattern("kept", MIB)


class Stray:
    """A server with a file of its own, at sockets of its own."""

    def __init__(self, world, text, number):
        self.config, self.log_path = world.unique("stray.toml"), world.unique("stray-nbdkit.log")
        self.control = world.unique("stray.control")
        with open(self.config, "w") as file:
            file.write(text)
        with open(self.log_path, "wb") as log:
            self.process = start(["nbdkit", "-f", "--exit-with-parent", "-U", world.unique("stray.sock"), PLUGIN,
                                  f"config={self.config}", f"node={number}", f"socket={self.control}"],
                                 stdout=log, stderr=log, env=server_environment())
        world.undo.callback(end, self.process)

    def log(self):
        return end_of(self.log_path, 1 << 20)

    def is_refused(self, *words):
        """It ends by itself, with an error; a crash would have another status."""
        status = self.process.wait(30 * PATIENCE)
        check(status == 1, f"it ended with {status}\n{self.log()}")
        self.says("error: ", *words)

    def waits(self, *words):
        """It says all of the words, in its log or to braid status, and does not end."""
        def text():
            shown = run(CLI, "status", "--socket", self.control, ok=None).stdout
            return self.log() + shown
        try:
            wait_until(lambda: all(word in text() for word in words), f"it says {words}")
        finally:
            check(self.process.poll() is None, f"it ended with {self.process.returncode}\n{self.log()}")

    def says(self, *words):
        for word in words:
            check(word in self.log(), f"nothing about '{word}' in:\n{self.log()}")


def text_of(cluster):
    with open(cluster.config) as file:
        return file.read()


def changed(text, before, after):
    check(before in text, f"{before} is in the file")
    return text.replace(before, after)


def put(node, at):
    client = node.connect()
    client.pwrite(DATA, at)
    client.flush()
    client.shutdown()


def check_kept(node, at):
    client = node.connect()
    check(client.pread(MIB, at) == DATA, f"node {node.number} has what was written")
    client.shutdown()


def ended_well(requests):
    check_no_errors(requests)
    check_busy(requests)
    HISTORY.extend(requests)
    judge(HISTORY)


def digests(paths):
    return [sha256_of(path) for path in paths]


def wait_until_free(cluster):
    for address in cluster.addresses:
        wait_until(lambda: not somebody_listens(address[len("unix:"):]), f"nobody is at {address}")


def wrong_numbers(world, cluster):
    text = text_of(cluster)
    for number in ("0", "32", "-1", "abc", "4294967297"):
        Stray(world, text, number).is_refused(f"node={number}", "1 to 31")
    Stray(world, text, 9).is_refused(cluster.config.replace("cluster.toml", ""), "there is no node 9",
                                     "the nodes of the file are 1, 2, 3")
    Stray(world, changed(text, "id = 3", "id = 2"), 2).is_refused("id: 2 is the node of line", "its own number")
    say("wrong numbers of nodes are refused")


def addresses_that_lead_nowhere(world):
    """One's own has to be right; another's may become so."""
    key, ports = world.path("key"), free_ports(3)
    run(CLI, "cluster", "keygen", key)
    names = ["127.0.0.1", "nowhere.invalid", "127.0.0.1"]
    cluster = Cluster(world, 5, 6, addresses=[f"{name}:{port}" for name, port in zip(names, ports)], key=key)
    address, text = cluster.addresses[1], text_of(cluster)
    Stray(world, text, 2).is_refused(address, "the name", "give an address instead")
    Stray(world, text.replace("nowhere.invalid", "192.0.2.1"), 2).is_refused(
        "192.0.2.1", "no address of this machine", "ip address")
    # Node 3 is the one that connects to the others.
    waiting = Stray(world, text, 3)
    waiting.waits(f"node 2: {address}: the name", "give an address instead", f"waits for node 1 ({cluster.addresses[0]}),"
                  f" node 2 ({address})", "serves nothing yet")
    other = Stray(world, text, 1)
    waiting.waits("node 1 is connected")
    other.waits(f"waits for node 2 ({address})")
    for one in (waiting, other):
        end(one.process)
    say("addresses that lead nowhere are told of")


def strangers_at_a_cluster(world, cluster):
    """Servers with the number or the name of somebody else, or his members, beside one that works."""
    text = text_of(cluster)
    cluster.start()
    first, second, third = cluster.nodes
    put(first, KEPT)
    load = Load(cluster, PLACES)

    def elsewhere(number):
        own = changed(text, cluster.addresses[number - 1], "unix:" + world.unique("elsewhere.sock"))
        return own.replace("members", "#members")
    twin = Stray(world, elsewhere(3), 3)
    for number, node in ((1, first), (2, second)):
        twin.waits(f"node {number}: {cluster.addresses[number - 1]}: it says: node 3 is connected already",
                   "if two servers run as node 3, stop one of them", "waits for node 1 (")
        check("if two servers run as node 3, stop one of them" in node.log(), f"node {number} says it, too")
    other = Stray(world, changed(elsewhere(3), '"test"', '"other"'), 3)
    for number, node in ((1, first), (2, second)):
        other.waits(f"node {number}: {cluster.addresses[number - 1]}: it says: it belongs to cluster \"other\", and "
                    "this node to \"test\": see to the name and the addresses", "waits for node 1 (")
        check('it belongs to cluster "other"' in node.log(), f"node {number} says it, too")
    for one in (twin, other):
        end(one.process)
    # Where node 3 is reached, but with the members of node 1.
    claims = changed(elsewhere(3).replace("#members", "members"), cluster.paths[2], "/nobody")
    claims = claims.replace(cluster.paths[0], "/another").replace("/nobody", cluster.paths[0])
    Stray(world, claims, 3).is_refused(cluster.paths[0], "is in use by another process", "stop that one first")

    fresh = world.members(3, MEMBER)
    done = run(CLI, "create", "--level", 6, *cluster.paths, ok=False)
    check(cluster.paths[0] in done.stdout and "in use" in done.stdout, done.stdout)
    for node in cluster.nodes:
        for words in ([], ["--force"]):
            done = node.braid("create", "--level", 6, *words, ok=False)
            check("serves array" in done.stdout and "already" in done.stdout and "another server" in done.stdout,
                  f"node {node.number}: {done.stdout}")
        done = node.braid("create", "--level", 6, "--force", *fresh, ok=False)
        check("leave out the paths" in done.stdout, done.stdout)

    load.check_running()
    ended_well(load.stop() + read_all(third, PLACES))
    for node in cluster.nodes:
        check_kept(node, KEPT)
        check("the connection to node" not in node.log(), f"node {node.number} kept its connections\n{node.log()}")
    cluster.stop()
    cluster.check_parity()
    say("strangers did no harm, and heard why")


def a_member_of_two(world, cluster):
    """Two files name one path: who comes second is refused, and the others wait for him."""
    text = text_of(cluster)
    before = digests(cluster.paths)
    first = Stray(world, text, 1)
    first.waits("waits for node 2 (")
    # The file of node 2 says nothing of the members of node 1.
    own = changed(text, cluster.paths[0], "/elsewhere").replace(cluster.paths[1], cluster.paths[0])
    Stray(world, own, 2).is_refused(cluster.paths[0], "is in use by another process", "stop that one first")
    third = Stray(world, text, 3)
    third.waits("node 1 is connected", f"waits for node 2 ({cluster.addresses[1]})")
    check(digests(cluster.paths) == before, "nothing was written")
    second = Stray(world, text, 2)  # as it should be
    for one in (first, second, third):
        wait_until(lambda: "members, 0 lost" in one.log(), "all serve")
    for one in (first, second, third):
        one.process.terminate()
    for one in (first, second, third):
        check(one.process.wait(60 * PATIENCE) == 0, one.log())
    wait_until_free(cluster)
    cluster.check_parity()
    say("a member of two nodes is opened by one")


def members_of_another_array(world, cluster):
    """All servers end, each says which array has which members, and no byte of any changes."""
    text, other = text_of(cluster), world.members(6, MEMBER)
    run(CLI, "create", "--level", 5, *other)
    fresh = world.members(6, MEMBER)
    paths = [*cluster.paths, *other, *fresh]
    before = digests(paths)
    of_two = ("belong to different arrays", "give those of one array only")
    of_none = ("holds no md superblock", "leave it out")
    for what, roles, source, words in (("all members of node 2", (1, 4), other, of_two),
                                       ("half of them", (4,), other, of_two),
                                       ("those of all other nodes", (0, 1, 3, 4), other, of_two),
                                       ("a member of none", (4,), fresh, of_none)):
        wrong = text
        for role in roles:
            wrong = changed(wrong, f'"{cluster.paths[role]}"', f'"{source[role]}"')
        servers = [Stray(world, wrong, number) for number in (1, 2, 3)]
        for one in servers:
            one.is_refused(*words, *(f"node2:{source[role]}" for role in roles if role % 3 == 1))
        check(digests(paths) == before, f"{what}: a member was written to")
        wait_until_free(cluster)
    cluster.start()
    check_kept(cluster.nodes[1], KEPT)
    cluster.stop()
    say("members of another array are refused on all nodes")


def an_exclusive_volume_that_is_none(world, cluster):
    """One node's file names it: that node is refused. It takes the array with it, as any that stops."""
    text = text_of(cluster)
    servers = [Stray(world, ('exclusive = ["nothing"]\n' if number == 2 else "") + text, number)
               for number in (1, 2, 3)]
    servers[1].is_refused(f"{servers[1].config}: exclusive: this array has no volume nothing", "it has data")
    for one in (servers[0], servers[2]):
        wait_until(lambda: "stops on all nodes" in one.log() or "has stopped on all nodes, cleanly" in one.log(),
                   "the others say that it stops")
        one.process.terminate()  # it ends by itself, perhaps
    for one in (servers[0], servers[2]):
        check(one.process.wait(60 * PATIENCE) == 0, one.log())
    wait_until_free(cluster)
    cluster.start()
    check_kept(cluster.nodes[1], KEPT)
    cluster.stop()
    cluster.check_parity()
    say("a volume that is none is refused")


def reserved_where_nobody_else_is(world, cluster):
    alone = world.array(5, 3, MEMBER)
    for words in (("reserve", "data"), ("release", "data"), ("reserve", "nothing")):
        done = alone.braid(*words, ok=False)
        check("this server is alone" in done.stdout and "nobody" in done.stdout, f"{words}: {done.stdout}")
    alone.check_alive()
    alone.stop()
    waiting = Node(cluster, 1)
    wait_until(lambda: os.path.exists(waiting.control), "the control socket is there")
    for order in ("reserve", "release"):
        done = waiting.braid(order, "data", ok=False)
        check("there is no array here yet: waits for node 2 (" in done.stdout, done.stdout)
    waiting.process.terminate()
    check(waiting.process.wait(60 * PATIENCE) == 1, f"it never served\n{waiting.log()}")
    # A cluster of one node may reserve: its clients are the only ones there are.
    single = Cluster(world, 5, 3, nodes=1, addresses=["unix:" + world.path("single.sock")])
    single.start()
    node = single.nodes[0]
    node.braid("reserve", "data")
    put(node, KEPT)
    node.braid("release", "data")
    check_kept(node, KEPT)
    done = node.braid("reserve", "nothing", ok=False)
    check("there is no volume nothing" in done.stdout and "braid volume list" in done.stdout, done.stdout)
    single.stop()
    say("orders to reserve are answered where nobody else is")


def paused(cluster):
    """Each server in turn reads nothing for a few seconds, under load: clients notice a pause, and no error."""
    cluster.start()
    load, requests = Load(cluster, PLACES), []
    for node in cluster.nodes:
        time.sleep(0.5)
        with stopped(node):
            time.sleep(3)
        for each in cluster.nodes:
            requests += read_all(each, PLACES)
        load.check_running()
    ended_well(requests + load.stop())
    say("pauses are waited for")


@contextlib.contextmanager
def stopped(node):
    os.kill(node.process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(node.process.pid, signal.SIGCONT)


def away_for_long(cluster, victim):
    """Without its members there is no array: the others wait, and go on when it does. No request fails."""
    empty(victim)
    load = Load(cluster, PLACES)
    time.sleep(1)
    others = [node for node in cluster.nodes if node is not victim]
    waits = f"node {victim.number} cannot be reached for {cluster.gone_after()} s: the array waits for it"
    with stopped(victim):
        wait_until(lambda: any(waits in whole(node) for node in others), "somebody says for whom it waits", 40)
        for node in others:
            shown = node.braid("status").stdout
            check("FAILED" not in shown and "cannot be reached: it is waited for" in shown, shown)
        load.check_running()
    wait_until(lambda: any(f"node {victim.number} is back after" in whole(node) for node in others), "it is back", 30)
    time.sleep(1)
    load.check_running()
    requests = load.stop()
    check_no_errors(requests)
    judge(requests + [one for node in cluster.nodes for one in read_all(node, PLACES)])
    for node in cluster.nodes:
        shown = node.status()
        check(not shown["tasks"] and not shown["bad_bytes"], f"nothing is to be made true: {shown['tasks']}")
    say(f"the array waited for node {victim.number}")


def away_for_too_long(cluster, victim):
    """So the file says. It is taken for gone: the others stop, and it stops when it hears of that. Who starts an array anew that
    stopped so finds what was flushed; what was acknowledged later may be in the memory of the nodes alone."""
    put(victim, 8 * MIB)
    empty(victim)
    load = Load(cluster, PLACES)
    time.sleep(1)
    others = [node for node in cluster.nodes if node is not victim]
    with stopped(victim):
        for node in others:
            wait_until(lambda: f"node {victim.number} cannot be reached for {cluster.gone_after()} s" in whole(node),
                       f"node {node.number} says who is gone", 40)
        for _, client, _ in load.clients:  # each refused request is a line of a log
            client.stdin.close()
    requests = load.stop()
    wait_until(lambda: "has taken this node for gone: the array stops on all nodes" in whole(victim),
               "it hears what became of it, and stops, too", 3)
    for node in cluster.nodes:
        node.wait_for_end()
        check("this server ends: started anew on all nodes" in whole(node), f"and what is to be done\n{node.log()}")
    cluster.supervise()
    for node in cluster.nodes:
        check_kept(node, 8 * MIB)
    judge(requests + at_the_crash(requests, [one for node in cluster.nodes for one in read_all(node, PLACES)]))
    wait_until(lambda: not cluster.nodes[2].status()["tasks"], "the resync ends", 60)
    say(f"node {victim.number} was away for too long, and nothing that was flushed is lost")


def empty(node):
    """A history begins: all of its sectors are zero."""
    client = node.connect()
    for first, length in PLACES:
        client.pwrite(bytes(length * SECTOR), first * SECTOR)
    client.flush()
    client.shutdown()


def whole(node):
    return end_of(node.log_path, 1 << 26)


def bad_input(world):
    cluster = Cluster(world, 5, 6)
    wrong_numbers(world, cluster)
    addresses_that_lead_nowhere(world)
    cluster.write_config()  # all clusters have theirs at one path
    strangers_at_a_cluster(world, cluster)
    a_member_of_two(world, cluster)
    members_of_another_array(world, cluster)
    reserved_where_nobody_else_is(world, cluster)
    cluster.patient = False  # else it takes four times twenty seconds until somebody is waited for
    cluster.write_config()
    paused(cluster)
    for number in (1, 2, 3):
        away_for_long(cluster, cluster.nodes[number - 1])
    cluster.stop()
    cluster.check_parity()
    cluster.settings = 'no_quorum = "error"\n'
    cluster.write_config()
    cluster.start()
    away_for_too_long(cluster, cluster.nodes[random.randrange(3)])
    cluster.stop()
    cluster.check_parity()
    an_exclusive_volume_that_is_none(world, cluster)


if __name__ == "__main__":
    main(bad_input)
