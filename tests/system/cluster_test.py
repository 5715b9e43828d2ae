#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, three servers, one array: clients of each read and write the same volumes."""
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time

import nbd

from braid_cluster import BLOCK, MEMBER, Cluster, Node, Writing, free_ports, pattern
from braid_system import (CLI, MIB, PATIENCE, PLUGIN, Failed, check, end, end_of, main, need_tools, run, say,
                          sha256_of, server_environment, start, wait_until)

TURNS = int(os.environ.get("BRAID_TURNS", "4"))  # of a case that has any number of them


def same_bytes_everywhere(world, level):
    """What is written through one node is read through every other one; at once, and after a stop."""
    cluster = Cluster(world, level, 6).start()
    clients = [node.connect() for node in cluster.nodes]
    size = clients[0].get_size()
    check(all(client.get_size() == size for client in clients), "one size everywhere")
    rng, content = random.Random(level), {}
    for step in range(300):
        block = rng.randrange(size // BLOCK - 64) if step % 3 else rng.randrange(64)
        count = rng.choice([1, 1, 2, 5, 64])
        data = pattern((level, step), count * BLOCK)
        clients[step % 3].pwrite(data, block * BLOCK)
        for at in range(count):
            content[block + at] = data[at * BLOCK:(at + 1) * BLOCK]
        found = clients[(step + 1) % 3].pread(count * BLOCK, block * BLOCK)
        check(found == data, f"step {step}: node {(step + 1) % 3 + 1} reads what node {step % 3 + 1} wrote")
    clients[1].flush()
    for client in clients:
        client.shutdown()
    cluster.stop()
    cluster.check_parity()
    cluster.start()
    for number, node in enumerate(cluster.nodes):
        client = node.connect()
        for block, data in content.items():
            check(client.pread(BLOCK, block * BLOCK) == data, f"node {number + 1}, block {block}")
        client.shutdown()
    cluster.stop()


def same_blocks_at_once(world, level):
    """Clients of all nodes write the same few blocks: each reads whole blocks of somebody's, and all read
    the same in the end."""
    cluster = Cluster(world, level, 6).start()
    errors = []

    def work(number):
        try:
            client, rng = cluster.nodes[number].connect(), random.Random(number)
            for step in range(400):
                block = rng.randrange(16)
                client.pwrite(bytes([number * 64 + step % 64]) * BLOCK, block * BLOCK)
                found = client.pread(BLOCK, rng.randrange(16) * BLOCK)
                if found != found[:1] * BLOCK:
                    errors.append(f"node {number + 1} read a torn block")
            client.flush()
            client.shutdown()
        except Exception as error:  # pylint: disable=broad-except
            errors.append(f"node {number + 1}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    check(not errors, "; ".join(errors[:3]))
    images = []
    for node in cluster.nodes:
        client = node.connect()
        images.append(client.pread(16 * BLOCK, 0))
        client.shutdown()
    check(images[0] == images[1] == images[2], "all nodes read the same")
    cluster.stop()
    cluster.check_parity()


def copied_in_and_out(world, level):
    """nbdcopy in at one node and out at another, while fio verifies what it writes through the third."""
    need_tools("nbdcopy", "fio")
    cluster = Cluster(world, level, 6).start()
    size = 24 * MIB
    image = world.random_file(size)
    load = world.background(
        ["fio", "--name=load", "--ioengine=nbd", f"--uri={cluster.nodes[2].uri}", "--rw=randrw", "--bs=4k",
         "--iodepth=8", f"--offset={2 * size}", f"--size={size}", "--verify=crc32c", "--verify_backlog=64",
         "--verify_state_save=0",
         "--loops=100", "--output=/dev/null"])
    target = cluster.nodes[0].connect()
    with open(image, "rb") as file:
        for at in range(0, size, MIB):
            target.pwrite(file.read(MIB), at)
    target.flush()
    target.shutdown()
    for node in (1, 2, 0):
        client = cluster.nodes[node].connect()
        with open(image, "rb") as file:
            for at in range(0, size, MIB):
                check(client.pread(MIB, at) == file.read(MIB), f"node {node + 1} gives the same bytes at {at}")
        client.shutdown()
    out = world.unique("copy")
    run("nbdcopy", cluster.nodes[1].uri, out)
    check(sha256_of(out, size) == sha256_of(image), "nbdcopy from another node")
    run("nbdcopy", image, cluster.nodes[1].uri)
    check(load.poll() is None, "fio goes on")
    end(load)
    cluster.stop()
    cluster.check_parity()


def two_writers_verify(world, level):
    """fio with verification through two nodes at once, each on every other strip: their blocks share rows,
    and so parity."""
    need_tools("fio")
    cluster = Cluster(world, level, 6).start()
    jobs = []
    for number in (0, 1):
        jobs.append(world.background(
            ["fio", "--name=half", "--ioengine=nbd", f"--uri={cluster.nodes[number].uri}", "--rw=write:64k",
             "--bs=64k", "--iodepth=8", f"--offset={number * 64}k", "--size=48m", "--io_size=24m", "--loops=4",
             "--verify=crc32c", "--do_verify=1", "--verify_fatal=1", "--verify_state_save=0",
             f"--output={world.unique('fio.txt')}"]))
    for job in jobs:
        check(job.wait(100) == 0, "fio verifies what it wrote")
    cluster.stop()
    cluster.check_parity()


SLOT = 16 * 1024  # every third one is of one client: all of them write to each strip
SLOTS = 240
NBDSH = """
import random
rng = random.Random(7)
slots = range({first}, {slots}, 3)
content = lambda slot, turn: random.Random(f"{{slot}} {{turn}}").randbytes({slot})
if {writes}:
    for turn in range(4):
        for slot in rng.sample(slots, len(slots)):
            part = rng.randrange(1, {slot})
            data = content(slot, turn)
            h.pwrite(data[part:], slot * {slot} + part)
            h.pwrite(data[:part], slot * {slot})
            assert h.pread({slot}, slot * {slot}) == data, (slot, turn)
    h.flush()
for slot in slots:
    assert h.pread({slot}, slot * {slot}) == content(slot, 3), slot
print("nbdsh is content")
"""


def clients_of_each_node(world, level):
    """qemu-io, fio and nbdsh as they come, each at a node of its own, in slots that lie between each other's;
    then each of them looks at what it wrote through another node."""
    need_tools("qemu-io", "fio", "nbdsh")
    cluster = Cluster(world, level, 6).start()

    def qemu_io(node, writes):
        words = []
        for turn in range(4 if writes else 0):
            for slot in range(0, SLOTS, 3):
                # Some at once; then all are waited for.
                words += ["-c", f"aio_write -q -P {1 + (slot + turn) % 255} {slot * SLOT} {SLOT}"]
                if slot % 24 == 0:
                    words += ["-c", "aio_flush"]
            words += ["-c", "aio_flush"]
        words += ["-c", "flush"] if writes else []
        for slot in range(0, SLOTS, 3):
            words += ["-c", f"read -q -P {1 + (slot + 3) % 255} {slot * SLOT} {SLOT}"]
        return ["qemu-io", "-f", "raw", *words, node.uri]

    def fio(node, writes):
        words = ["--rw=write:32k", "--do_verify=1", "--loops=6", "--end_fsync=1"] if writes else ["--rw=read:32k"]
        return ["fio", "--name=slots", "--ioengine=nbd", f"--uri={node.uri}", "--bs=16k", f"--offset={SLOT}",
                f"--size={(SLOTS - 3) * SLOT}", f"--io_size={(SLOTS // 3 - 1) * SLOT}", "--iodepth=8",
                "--verify=crc32c", "--verify_fatal=1", "--verify_state_save=0", *words]

    def nbdsh(node, writes):
        return ["nbdsh", "--uri", node.uri, "--command",
                NBDSH.format(first=2, slots=SLOTS, slot=SLOT, writes=writes)]

    clients = (qemu_io, fio, nbdsh)
    for turn, writes in enumerate((True, False, False)):
        running = []
        for number, client in enumerate(clients):
            path = world.unique(f"{client.__name__}.txt")
            with open(path, "wb") as log:
                running.append((client, path, world.background(
                    client(cluster.nodes[(number + turn) % 3], writes), stdout=log, stderr=log, cwd=world.folder)))
        for client, path, process in running:
            status = process.wait(100 * PATIENCE)
            # qemu-io says what differs, and ends with 0 all the same.
            check(status == 0 and "failed" not in end_of(path), f"{client.__name__}: {status}\n{end_of(path)}")
        say("written" if writes else f"read {turn} further")
    cluster.stop()
    cluster.check_parity()


def a_node_is_killed(world, level):
    """kill -9 of one. Of RAID-6 the others go on with their clients, and what those of the dead one wrote is there,
    but for the last, perhaps. Of RAID-5, where it has more members than may be lost, the others wait for it; when
    it has begun anew, without what it had in memory, their servers end. When they are started again, as by a
    supervisor, the array is served again by all, and what was flushed is there."""
    cluster = Cluster(world, level, 6, patient=False).start()
    if level == 6:
        return killed_and_done_without(cluster, cluster.nodes[1])
    data = pattern("flushed", MIB)
    client = cluster.nodes[0].connect()
    client.pwrite(data, 5 * MIB)
    client.flush()
    victim = cluster.nodes[level % 3]
    victim.process.kill()
    victim.process.wait()
    others = [node for node in cluster.nodes if node is not victim]
    waits = f"node {victim.number} cannot be reached for {cluster.gone_after()} s: the array waits for it"
    wait_until(lambda: any(waits in node.log() for node in others), "somebody says for whom it waits", 30)
    again = Node(cluster, victim.number)
    for node in others:
        node.wait_for_end()
        check("the array stops on all nodes" in node.log(), f"node {node.number} says who has begun anew\n{node.log()}")
        check("this server ends: started anew on all nodes" in node.log(), f"and what is to be done\n{node.log()}")
    cluster.nodes[victim.number - 1] = again  # it has ended as well, if the others still had their array as it came
    cluster.supervise()
    for node in cluster.nodes:
        client = node.connect()
        check(client.pread(MIB, 5 * MIB) == data, "what was flushed is there")
        client.shutdown()
    wait_until(lambda: not cluster.nodes[2].status()["tasks"], "the resync ends")
    cluster.stop()
    cluster.check_parity()


def killed_and_done_without(cluster, victim):
    def kill():
        victim.process.kill()
        victim.process.wait()
    writing = the_others_go_on(cluster, victim, kill)
    own = writing[victim.number - 1]
    own.thread.join()
    check(own.error is not None, "the clients of the dead one notice")
    it_comes_back(cluster, victim, writing)


def the_master_is_killed(world, level):
    """kill -9 of the one that decides: another one comes to decide. It comes back, and does not decide any more; then
    the new one is killed as well."""
    cluster = Cluster(world, level, 6, patient=False).start()
    check(cluster.decides() == 3, "the highest decides")
    killed_and_done_without(cluster, cluster.nodes[2])
    cluster.start()
    load = [Writing(node, 4096 + 64 * node.number, 64) for node in cluster.nodes]
    for victim, follows in ((3, 2), (2, 3)):
        node = cluster.nodes[victim - 1]
        node.process.kill()
        node.process.wait()
        load[victim - 1].thread.join()
        cluster.nodes[victim - 1] = Node(cluster, victim)  # at once
        wait_until(cluster.nodes[victim - 1].serves, "it is let in", 60)
        wait_until(lambda: all(node.status()["health"] == "clean" for node in cluster.nodes), "it is rebuilt", 120)
        check(cluster.decides() == follows, f"node {follows} decides")
    load[0].end()
    say(f"pause of the one that stayed, of two masters killed and started at once: {load[0].longest:.2f} s")
    for node in cluster.nodes:
        check(not node.status().get("bad_bytes"), "no row is lost")
        for one in load:
            one.check_through(node)
    cluster.stop()
    cluster.check_parity()


def operators_take_nodes_out(world, level):
    """braid node kill and resume, and a start without a node by order and by itself, with clients of the others."""
    cluster = Cluster(world, level, 6, patient=False).start()
    first, second, third = cluster.nodes

    def order(node, *words, refused=None):
        done = node.braid(*words, ok=refused is None)
        check((refused or "") in done.stdout, f"{words}: {done.stdout}")
        return done.stdout

    load = [Writing(node, 4096 + 64 * node.number, 64) for node in (first, third)]
    order(first, "node", "kill", "1", refused="is the one that was asked")
    order(first, "node", "kill", "7", refused="there is no node 7")
    order(first, "node", "resume", "2", refused="was not killed")
    order(first, "node", "kill", "2")
    second.wait_for_end()
    listed = order(first, "node", "list")
    check("killed" in listed and "was killed by an operator" in listed, listed)
    again = cluster.nodes[1] = Node(cluster, 2)
    wait_until(lambda: "braid node resume 2" in third.log(), "it waits in vain", 30)
    check(not again.serves(), "it is not let in")
    order(first, "node", "resume", "2")
    wait_until(again.serves, "it is let in", 60)
    wait_until(lambda: all(node.status()["health"] == "clean" for node in cluster.nodes), "it is whole", 120)
    for one in load:
        one.end()
    for node in cluster.nodes:
        for one in load:
            one.check_through(node)
    cluster.stop()
    cluster.check_parity()
    # One is not there any more: the one that would have decided.
    cluster.nodes = [Node(cluster, 1), Node(cluster, 2)]
    first, second = cluster.nodes
    for node in cluster.nodes:
        wait_until(lambda: "waits for node 3" in node.braid("status", ok=None).stdout, "it says for whom it waits", 30)
    order(first, "start", "--without", "2", refused="is connected")
    order(first, "start", "--without", "3")
    for node in cluster.nodes:
        wait_until(node.serves, "it serves without", 60)
        for one in load:
            one.check_through(node)
    check(cluster.decides() == 2, "the highest that is there decides")
    order(first, "start", "--without", "3", refused="waits for nobody")

    def let_third_in():
        cluster.nodes.append(Node(cluster, 3))
        wait_until(cluster.nodes[2].serves, "it is let in", 60)
        wait_until(lambda: all(node.status()["health"] == "clean" for node in cluster.nodes), "it is whole", 120)
        cluster.stop()
        cluster.check_parity()

    let_third_in()
    # The same, and nobody says so.
    cluster.start_wait_ms, cluster.settings = 1500, "lease_ms = 3000\n"    # and so it waits for 6 s
    cluster.write_config()
    cluster.nodes = [Node(cluster, 1), Node(cluster, 2)]
    for node in cluster.nodes:
        wait_until(node.serves, "it serves by itself", 60)
        for one in load:
            one.check_through(node)
    check("starts without node 3: it has not come" in cluster.nodes[0].log(), cluster.nodes[0].log())
    let_third_in()


def nodes_leave(world, level):
    """braid node stop: one node after the other leaves while clients write through all, by an order at itself or at
    another one, and is started again; the one that decides in every other turn. Its server ends with 0, its
    clients see nothing but that it is shut down, those of the others a pause, and nothing is lost."""
    cluster = Cluster(world, level, 6, patient=False).start()
    pauses = {True: [], False: []}  # by whether it decided
    for turn in range(TURNS):
        decides = cluster.decides()
        number = decides if turn % 2 == 0 else decides % 3 + 1
        victim = cluster.nodes[number - 1]
        asked = cluster.nodes[(number - 1 + turn // 2) % 3]
        load = [Writing(node, 4096 + 64 * node.number, 64) for node in cluster.nodes]
        time.sleep(1)
        for one in load:
            one.longest = 0.0
        if asked is victim:
            victim.braid("node", "stop")
        else:
            asked.braid("node", "stop", str(number))
        victim.wait_for_end()  # and with 0
        own = load[number - 1]
        own.thread.join()
        check(isinstance(own.error, nbd.Error) and own.error.errno in ("ESHUTDOWN", "ENOTCONN", None),
              f"its clients see that it is shut down: {own.error!r}")
        check("left by order" in victim.log() and "ERROR" not in victim.log(), victim.log()[-4000:])
        time.sleep(1)
        pauses[number == decides].append(max(one.longest for one in load if one is not own))
        for node in cluster.nodes:
            if node is victim:
                continue
            shown = node.status()
            check(shown["health"] == "degraded" and not shown["tasks"], f"nothing is resynced: {shown['tasks']}")
            check(not shown.get("bad_bytes") and not shown["in_doubt"], "no row is lost, nor in doubt")
            check("left by order" in node.braid("node", "list").stdout, "it says why it is out")
            check("ERROR" not in node.log(), node.log()[-4000:])
            own.check_through(node)
        again = cluster.nodes[number - 1] = Node(cluster, number)
        wait_until(again.serves, "it is let in", 60)
        wait_until(cluster.is_whole, "it is whole", 120)
        check("is rebuilt whole" not in "".join(node.log() for node in cluster.nodes), "it gets what it missed")
        for one in load:
            if one is not own:
                one.end()
        for node in cluster.nodes:
            for one in load:
                one.check_through(node)
        # A trace of each turn would be taken for one of the next.
        check("again and again" not in "".join(node.log() for node in cluster.nodes), "it is let in at once")
    for decided, longest in pauses.items():
        longest.sort()
        say(f"pause of the others, of {len(longest)} nodes that left and {'decided' if decided else 'did not decide'}: "
            f"p50 {longest[len(longest) // 2] * 1000:.0f} ms, max {longest[-1] * 1000:.0f} ms")
    cluster.stop()
    cluster.check_parity()


def the_master_is_paused(world, level):
    a_node_is_paused(world, level, 3)


def a_node_is_paused(world, level, number=2):
    """SIGSTOP for so long that the others go on without it, and then SIGCONT: it tells its clients nothing old, and
    ends when it hears what became of it. Started anew it is let in."""
    cluster = Cluster(world, level, 6, patient=False).start()
    victim = cluster.nodes[number - 1]
    reader = victim.connect()
    writing = the_others_go_on(cluster, victim, lambda: os.kill(victim.process.pid, signal.SIGSTOP))
    # Of what the others wrote meanwhile. It is asked before it goes on, and answers when it knows.
    asked = [(block, nbd.Buffer(BLOCK)) for one in writing if one.node is not victim for block in one.written]
    cookies = [(block, data, reader.aio_pread(data, block * BLOCK)) for block, data in asked]
    os.kill(victim.process.pid, signal.SIGCONT)
    wait_until(lambda: f"has excluded this start of node {number}" in victim.log(), "it hears of it", 30)
    current = {block: data for one in writing for block, data in one.written.items()}
    for block, data, cookie in cookies:
        try:
            while not reader.aio_command_completed(cookie):
                reader.poll(-1)
            check(data.to_bytearray() == current[block], f"block {block} as it was before the others went on")
        except nbd.Error:
            pass  # it does not know
    writing[number - 1].thread.join()
    check(writing[number - 1].error is not None, "its clients notice")
    victim.wait_for_end()  # by itself
    it_comes_back(cluster, victim, writing)


def the_others_go_on(cluster, victim, away):
    """Clients of all nodes write, each its own blocks; `away` ends the victim. What was acknowledged, by whichever
    node, is there; nothing is resynced, and no row is lost."""
    writing = [Writing(node, 64 * node.number, 64) for node in cluster.nodes]
    survivors = [node for node in cluster.nodes if node is not victim]
    time.sleep(1)
    away()
    for node in survivors:
        wait_until(lambda: "excluded" in node.log(), f"node {node.number} says who is excluded", 30)
    time.sleep(2)
    for one in writing:
        if one.node is not victim:
            one.end()
    say(f"pause of the others: {max(one.longest for one in writing if one.node is not victim):.2f} s")
    for node in survivors:
        for one in writing:
            one.check_through(node)
        shown = node.status()
        check(shown["health"] == "degraded" and not shown["tasks"], f"nothing is resynced: {shown['tasks']}")
        check(not shown.get("bad_bytes"), "no row is lost")
        states = [member["state"] for member in shown["members"]]
        wanted = ["missing" if node is victim else "in_sync" for node in cluster.nodes] * 2
        check(states == wanted, f"its members are missing: {states}")
        check([one["excluded"] for one in shown["nodes"]] == [node is victim for node in cluster.nodes],
              f"{shown['nodes']}")
    return writing


def it_comes_back(cluster, victim, writing):
    """Its server is started anew while the others write: it is let in, its clients write, too, and its members are
    rebuilt, without any order. Then it is killed and started again at once. The others notice a pause at most."""
    survivors = [node for node in cluster.nodes if node is not victim]
    load = [Writing(node, 1024 + 64 * node.number, 64) for node in survivors]
    again = cluster.nodes[victim.number - 1] = Node(cluster, victim.number)
    begin = time.monotonic()
    wait_until(again.serves, "it is let in", 60)
    say(f"let in {time.monotonic() - begin:.2f} s after its server was started")
    own = Writing(again, 2048, 64)
    wait_until(lambda: all(node.status()["health"] == "clean" for node in cluster.nodes), "it is rebuilt", 120)
    say(f"its members are in sync after {time.monotonic() - begin:.2f} s")
    missed = [int(size) for node in survivors for size in re.findall(r"is back: it missed (\d+) bytes", node.log())]
    check(len(missed) == 2 * len(survivors), f"both of its members missed something that is known, say both: {missed}")
    say(f"they missed {missed[0] + missed[1]} bytes of {2 * MEMBER}")
    for node in survivors:
        check("is rebuilt whole" not in node.log(), f"nothing is rebuilt whole: {node.log()[-4000:]}")
    again.process.kill()
    again.process.wait()
    own.thread.join()
    again = cluster.nodes[victim.number - 1] = Node(cluster, victim.number)
    begin = time.monotonic()
    wait_until(again.serves, "it is let in again", 60)
    say(f"killed and started at once: let in after {time.monotonic() - begin:.2f} s")
    wait_until(lambda: all(node.status()["health"] == "clean" for node in cluster.nodes), "it is rebuilt again", 120)
    for one in load:
        one.end()
    say(f"pause of the others: {max(one.longest for one in load):.2f} s")
    for node in cluster.nodes:
        shown = node.status()
        check(not shown.get("bad_bytes") and not any(one["excluded"] for one in shown["nodes"]), f"{shown}")
        for one in [*writing, *load, own]:
            one.check_through(node)
    cluster.stop()
    cluster.check_parity()
    cluster.start()
    for one in [*writing, *load, own]:
        one.check_through(cluster.nodes[0])
    cluster.stop()


def a_member_is_replaced(world, level):
    """Orders through a node that does not decide; load on all meanwhile."""
    cluster = Cluster(world, level, 6).start()
    data = pattern("content", 4 * MIB)
    client = cluster.nodes[1].connect()
    client.pwrite(data, 0)
    cluster.nodes[0].braid("member", "fail", "3")
    for node in cluster.nodes:
        wait_until(lambda: node.status()["health"] == "degraded", "all nodes know it")
        other = node.connect()
        check(other.pread(4 * MIB, 0) == data, "computed from the others")
        other.shutdown()
    fresh = world.file(MEMBER, "fresh")
    cluster.nodes[1].braid("member", "replace", "3", fresh)
    wait_until(lambda: all(node.status()["health"] == "clean" for node in cluster.nodes), "it is rebuilt", 60)
    for node in cluster.nodes:
        other = node.connect()
        other.pwrite(data[:64 * BLOCK], 64 * BLOCK * node.number)
        other.shutdown()
    client.flush()
    client.shutdown()
    cluster.stop()
    cluster.paths = [fresh if index == 3 else path for index, path in enumerate(cluster.paths)]
    cluster.check_parity()


def paused_as_it_is_let_in(world, level):
    """A node that begins anew hangs just as it is let in, for longer than the others wait. Its server does not end:
    it has served nobody yet, begins anew by itself, and is let in."""
    cluster = Cluster(world, level, 6, patient=False).start()
    client = cluster.nodes[0].connect()
    data = pattern("content", MIB)
    client.pwrite(data, 0)
    rng, began_anew = random.Random(level), 0
    is_let_in = "node 2 has begun anew, and is let in"
    for _ in range(3):  # who flaps is let in later each time
        cluster.kill([cluster.nodes[1]])
        wait_until(lambda: cluster.nodes[0].excludes(2), "the others go on", 30)
        with open(cluster.nodes[2].log_path, "rb") as log:
            log.seek(0, os.SEEK_END)
            again = cluster.nodes[1] = Node(cluster, 2)
            said, until = b"", time.monotonic() + 30
            while is_let_in.encode() not in said:
                check(time.monotonic() < until, f"it is not let in\n{cluster.nodes[2].log()}")
                time.sleep(0.001)  # wait_until() would look too late
                said += log.read()
        time.sleep(rng.random() * 0.02)
        os.kill(again.process.pid, signal.SIGSTOP)
        time.sleep(2)
        os.kill(again.process.pid, signal.SIGCONT)
        # Where it served already it is excluded as any other one.
        wait_until(lambda: again.process.poll() is not None or cluster.is_whole(), "it is let in", 60)
        if again.process.poll() is not None:
            check("this server ends: started anew, it is let in again" in again.log(), f"it served\n{again.log()}")
            cluster.supervise()
            wait_until(cluster.is_whole, "it is let in", 60)
        began_anew += again.log().count("this node begins anew")
        check(client.pread(MIB, 0) == data, "the others go on")
    say(f"{began_anew} times it began anew by itself")
    client.shutdown()
    cluster.stop()
    cluster.check_parity()


def a_disk_is_moved(world, level):
    """Node 2 leaves, a client of another one writes, and one of node 2's two disks is put into node 1: it comes back
    there with what it missed alone. Then node 2 comes without it; all of that is so after the next start as well."""
    cluster = Cluster(world, level, 6, patient=False).start()
    moved = cluster.paths[1]
    data = pattern("content", MIB)
    client = cluster.nodes[0].connect()
    client.pwrite(data, 0)
    client.flush()
    cluster.nodes[1].braid("node", "stop")
    cluster.nodes[1].wait_for_end()
    missed = pattern("missed", MIB)
    client.pwrite(missed, 16 * MIB)
    cluster.nodes[0].braid("member", "add", moved)
    wait_until(lambda: cluster.nodes[2].status()["members"][1]["state"] == "in_sync", "it is in sync again", 60)
    logs = "".join(cluster.nodes[number].log() for number in (0, 2))
    check("is rebuilt whole" not in logs, f"it gets what it missed\n{logs}")
    cluster.homes[1] = 1
    cluster.write_config()
    cluster.nodes[1] = Node(cluster, 2)
    wait_until(cluster.is_whole, "node 2 is let in without it", 60)
    for node in cluster.nodes:
        check([one["home"] for one in node.status()["members"]] == [1, 1, 3, 1, 2, 3], "all know where members are")
    client.shutdown()
    cluster.stop()
    cluster.check_parity()
    cluster.start()
    check([one["home"] for one in cluster.nodes[2].status()["members"]] == [1, 1, 3, 1, 2, 3], "and so it stays")
    client = cluster.nodes[1].connect()
    check(client.pread(MIB, 0) == data and client.pread(MIB, 16 * MIB) == missed, "nothing is lost")
    client.shutdown()
    cluster.stop()


def over_tcp_with_a_key(world, level):
    """TLS with the cluster's key; whoever has another one, or none, gets nothing."""
    key, wrong = world.path("key"), world.path("wrong")
    run(CLI, "cluster", "keygen", key)
    run(CLI, "cluster", "keygen", wrong)
    ports = free_ports(3)
    cluster = Cluster(world, level, 6, addresses=[f"127.0.0.1:{port}" for port in ports], key=key).start()
    data = pattern("content", MIB)
    client = cluster.nodes[0].connect()
    client.pwrite(data, 0)
    other = cluster.nodes[1].connect()
    check(other.pread(MIB, 0) == data, "over TCP with TLS")
    with open(cluster.config) as file:
        text = file.read()
    stranger = world.path("stranger.toml")
    with open(stranger, "w") as file:
        file.write(text.replace(f'"{key}"', f'"{wrong}"').replace("members", "#members"))
    intruder = start(["nbdkit", "-f", "--exit-with-parent", "-U", world.path("intruder.sock"), PLUGIN,
                      f"config={stranger}", "node=2"],
                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=server_environment())
    world.undo.callback(end, intruder)
    text = intruder.communicate(timeout=60)[0].decode()
    check(intruder.returncode != 0, "a second node 2 cannot begin")
    check("in use" in text, f"the port is taken, and that is said: {text}")
    for port in ports:
        with socket.create_connection(("127.0.0.1", port)) as garbage:
            garbage.sendall(b"GET / HTTP/1.1\r\n\r\n" * 10)
            garbage.settimeout(30)
            try:
                check(len(garbage.recv(4096)) < 100, "garbage gets an alert at most")
            except ConnectionResetError:
                pass
    check(other.pread(MIB, 0) == data, "and nobody noticed")
    client.shutdown()
    other.shutdown()
    cluster.stop()
    cluster.check_parity()


def the_key_is_replaced(world, level):
    """At one node alone: it is started with another key, and is not let in, as the logs say; nobody else notices. With
    the former one it is. Then at all nodes, while they are stopped."""
    key, new, old = world.path("key"), world.path("new"), world.path("old")
    run(CLI, "cluster", "keygen", key)
    run(CLI, "cluster", "keygen", new)
    cluster = Cluster(world, level, 6, addresses=[f"127.0.0.1:{port}" for port in free_ports(3)], key=key,
                      patient=False).start()
    data = pattern("content", MIB)
    client = cluster.nodes[0].connect()
    client.pwrite(data, 0)
    os.rename(key, old)
    os.rename(new, key)
    cluster.kill([cluster.nodes[1]])
    cluster.nodes[1] = Node(cluster, 2)
    for node in cluster.nodes[:2]:
        wait_until(lambda: "has another key" in node.log(), f"node {node.number} tells of it", 30)
    wait_until(lambda: cluster.nodes[0].excludes(2), "the others go on", 30)
    check(not cluster.nodes[1].is_served(), "it is not let in")
    check(client.pread(MIB, 0) == data, "and nobody noticed")
    cluster.nodes[1].process.terminate()
    cluster.nodes[1].process.wait(60 * PATIENCE)
    os.rename(key, new)
    os.rename(old, key)
    cluster.nodes[1] = Node(cluster, 2)
    wait_until(cluster.is_whole, "with the former key it is let in", 60)
    client.shutdown()
    cluster.stop()
    os.rename(new, key)
    cluster.start()
    client = cluster.nodes[2].connect()
    check(client.pread(MIB, 0) == data, "with the new key at all nodes")
    client.shutdown()
    cluster.stop()
    cluster.check_parity()


def refused(action):
    """What the client is told."""
    try:
        action()
    except nbd.Error as error:
        return error.string
    raise Failed("it was not refused")


def a_volume_is_reserved(world, level):
    """By an order, and by the first client of an exclusive one: others are kept out, and told by whom."""
    cluster = Cluster(world, level, 6, options=("--volume", "shared:64M", "--volume", "own:64M"),
                      exclusive=["own"]).start()
    first, second, third = cluster.nodes
    clients = [node.connect("shared") for node in cluster.nodes]
    clients[1].pwrite(pattern(1, MIB), 0)
    first.braid("reserve", "shared")
    check(clients[0].pread(MIB, 0) == pattern(1, MIB), "the holder reads what was there")
    before = first.status()
    for step in range(64):
        clients[0].pwrite(pattern((2, step), BLOCK), step * BLOCK)
    for client in clients[1:]:
        check("Operation not permitted" in refused(lambda c=client: c.pread(BLOCK, 0)), "a read is refused")
        check("Operation not permitted" in refused(lambda c=client: c.pwrite(bytes(BLOCK), 0)), "and a write")
        client.flush()
    check("node 1" in second.log(), "the log names who has it")
    check(before["volumes"][0]["reservation"]["holds"], "the status shows it")
    for node in cluster.nodes:
        volume = node.status()["volumes"][0]
        check(volume["reservation"] == {"node": 1, "holds": True, "mode": "shared", "requests_waiting": 0},
              f"node {node.number} shows who has it: {volume}")
        picture = node.braid("status").stdout
        check("(reserved by node 1)" in picture, f"and so does the picture\n{picture}")
    refused(lambda: third.connect("shared"))
    wait_until(lambda: "braid release shared" in third.log(), "the log says what would help")
    answer = second.braid("reserve", "shared", ok=False)
    check(answer.returncode == 1 and "reserved by node 1" in answer.stdout, answer.stdout)
    answer = second.braid("release", "shared", ok=False)
    check(answer.returncode == 1 and "reserved by node 1" in answer.stdout, answer.stdout)
    answer = first.braid("reserve", "nothing", ok=False)
    check(answer.returncode == 1 and "there is no volume nothing" in answer.stdout, answer.stdout)
    first.braid("release", "shared")
    for step in range(64):
        check(clients[2].pread(BLOCK, step * BLOCK) == pattern((2, step), BLOCK), "all is read elsewhere")

    own = second.connect("own")
    own.pwrite(pattern(3, MIB), 0)
    refused(lambda: first.connect("own"))
    wait_until(lambda: "volume own is reserved by node 2" in first.log(), "the log names who has it")
    own.shutdown()
    wait_until(lambda: first.status()["volumes"][1]["reservation"]["node"] is None, "it is let go of")
    own = first.connect("own")
    check(own.pread(MIB, 0) == pattern(3, MIB), "the next one reads what was written")
    own.shutdown()

    # Under load: it goes from node to node, and nobody's bytes are lost.
    errors = []

    def work(number):
        try:
            for step in range(40):
                data, place = pattern((number, step), 4 * BLOCK), (number * 40 + step) * 4 * BLOCK
                for _ in range(2000):
                    try:
                        clients[number].pwrite(data, place)
                        break
                    except nbd.Error as error:
                        if "Operation not permitted" not in error.string:
                            raise
                        time.sleep(0.01)
        except Exception as error:  # pylint: disable=broad-except
            errors.append(f"node {number + 1}: {error}")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for turn in range(12):
        node = cluster.nodes[turn % 3]
        node.braid("reserve", "shared")
        node.braid("release", "shared")
    for thread in threads:
        thread.join()
    check(not errors, "; ".join(errors[:3]))
    for number in range(3):
        for step in range(40):
            place = (number * 40 + step) * 4 * BLOCK
            found = clients[(number + 1) % 3].pread(4 * BLOCK, place)
            check(found == pattern((number, step), 4 * BLOCK), f"node {number + 1}, step {step}")
    for client in clients:
        client.shutdown()
    cluster.stop()
    cluster.check_parity()


def from_nothing(world, level):
    """Servers on empty members wait, and say for what; braid create makes the array, given to a node that does
    not decide; what a member holds is not lost unasked."""
    need_tools("mkfs.ext4")
    cluster = Cluster(world, level, 6, made=False)
    run("mkfs.ext4", "-q", "-F", cluster.paths[4])  # node 2's second one
    first = Node(cluster, 1)
    wait_until(lambda: os.path.exists(first.control), "the control socket is there")

    def waits_for(node, phase, *missing):
        start = node.status()["start"]
        away = [one["id"] for one in start["nodes"] if not one["connected"]]
        return start["phase"] == phase and away == list(missing)

    wait_until(lambda: waits_for(first, "nodes", 2, 3), "node 1 waits for the others")
    text = first.braid("status").stdout
    for words in ("serves nothing yet", "waits for node 2 (unix:", "not connected since ", "decides about the array"):
        check(words in text, f"the status has no '{words}':\n{text}")
    for words in (["scrub", "start"], ["member", "add", world.file(MEMBER)], ["rebuild"], ["volume", "list"],
                  ["create", "--level", level]):
        done = first.braid(*words, ok=False)
        check("waits for node 2" in done.stdout, f"{words}: {done.stdout}")

    second = Node(cluster, 2)
    wait_until(lambda: waits_for(first, "nodes", 3), "node 2 is there, for node 1")
    second.process.terminate()
    check(second.process.wait(60 * PATIENCE) == 1, f"it never served\n{second.log()}")
    check("told to stop while it waited for" in second.log(), second.log())
    check(not os.path.exists(second.control), "its control socket is still there")
    wait_until(lambda: waits_for(first, "nodes", 2, 3), "node 2 is gone, for node 1")

    cluster.nodes = [first, Node(cluster, 2), Node(cluster, 3)]
    for node in cluster.nodes:
        wait_until(lambda: os.path.exists(node.control) and waits_for(node, "array"), "there is no array")
        check("braid create" in node.braid("status").stdout, "the status says what to do")
        check("braid create" in node.log(), "so does the log")
    # The one that decides, too, may come and go.
    cluster.nodes[2].process.terminate()
    check(cluster.nodes[2].process.wait(60 * PATIENCE) == 1, cluster.nodes[2].log())
    wait_until(lambda: waits_for(first, "nodes", 3), "node 3 is gone, for node 1")
    check("waits for node 3" in first.braid("create", "--level", level, ok=False).stdout, "nobody decides")
    planned = world.background([CLI, "create", "--level", level, "--force", "--dry-run", "--wait", "--socket",
                                first.control], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    cluster.nodes[2] = Node(cluster, 3)
    text = planned.communicate(timeout=60 * PATIENCE)[0].decode()
    check(planned.returncode == 0 and "this is a dry run" in text, f"it waited until node 3 was there: {text}")
    check(waits_for(first, "array"), "node 3 is there again, and there is no array")
    before = [sha256_of(path) for path in cluster.paths]
    done = first.braid("create", "--level", level, ok=False)
    for words in (f"node2:{cluster.paths[4]}: holds a file system (ext4)", "--force"):
        check(words in done.stdout, f"the refusal has no '{words}':\n{done.stdout}")
    done = first.braid("create", "--level", "5", "--force", ok=False)
    check("node 1 has 2 of the members, and RAID-5 may lose 1" in done.stdout, done.stdout)
    done = first.braid("create", "--level", level, "--force", "--dry-run")
    check("node 3    members 2, 5: without it there is no redundancy" in done.stdout, done.stdout)
    check([sha256_of(path) for path in cluster.paths] == before, "nothing was written")
    done = first.braid("create", "--level", level, cluster.paths[0], ok=False)
    check("leave out the paths" in done.stdout, done.stdout)
    done = first.braid("create", "--level", level, "--force", "--name", "nothing", "--volume", "a:16M", "--volume",
                       "b:32M")
    say(done.stdout)
    check(f"member 4  node2:{cluster.paths[4]}" in done.stdout, done.stdout)

    cluster.wait_until_all_serve()
    done = first.braid("create", "--level", level, ok=False)
    check("already" in done.stdout, done.stdout)
    data = pattern("from nothing", MIB)
    writer = cluster.nodes[0].connect("b")
    writer.pwrite(data, 3 * MIB)
    writer.flush()
    for node in cluster.nodes[1:]:
        check(node.status()["start"] is None and node.status()["array"]["name"] == "nothing", "it serves")
        reader = node.connect("b")
        check(reader.pread(MIB, 3 * MIB) == data, f"node {node.number} reads what node 1 wrote")
        reader.shutdown()
    writer.shutdown()
    cluster.stop()
    cluster.check_parity()


def a_witness_breaks_ties(world, level):
    """Four members on two nodes, and a witness on a third, made by braid create on the running servers. One server
    after the other is killed, that of the witness, too: clients of the others notice a pause. With a half and
    without the witness the array goes on; with a half alone it starts only if it was in force as that."""
    cluster = Cluster(world, level, 4, made=False, patient=False)
    witness = world.file(8 * MIB, "witness")
    cluster.paths.append(witness)
    cluster.homes = [1, 2, 1, 2, 3]
    cluster.write_config()
    cluster.nodes = [Node(cluster, number) for number in (1, 2, 3)]
    first = cluster.nodes[0]
    wait_until(lambda: os.path.exists(first.control), "the control socket is there")
    done = first.braid("create", "--wait", "--level", level, "--witness", witness)
    for words in (f"witness   node3:{witness}", "node 3    the witness: without it nothing is missing",
                  "node 1    members 0, 2: without it there is no redundancy"):
        check(words in done.stdout, f"no '{words}':\n{done.stdout}")
    cluster.wait_until_all_serve()
    check("witness" in first.braid("status").stdout, "the status shows it")
    for victim in cluster.nodes[:]:
        load = {node.number: Writing(node, 64 * node.number, 64) for node in cluster.nodes}
        time.sleep(1)
        victim.process.kill()
        victim.process.wait()
        load[victim.number].thread.join()
        others = [node for node in cluster.nodes if node is not victim]
        for node in others:
            wait_until(lambda: node.excludes(victim.number), f"node {node.number} says who is excluded", 30)
        time.sleep(1)
        for node in others:
            load[node.number].end()
        say(f"node {victim.number} is killed: pause of the others "
            f"{max(load[node.number].longest for node in others):.2f} s")
        cluster.wait_until_gone(victim.number)
        cluster.nodes[victim.number - 1] = Node(cluster, victim.number)
        wait_until(cluster.is_whole, "all is whole again", 120)
        for one in load.values():
            one.check_through(first if first.process.poll() is None else cluster.nodes[0])
    # A half goes, then the witness: the other half needs nobody.
    cluster.kill(cluster.nodes[1:2])
    third, first = cluster.nodes[2], cluster.nodes[0]
    wait_until(lambda: first.excludes(2) and third.excludes(2), "node 2 is excluded", 30)
    wait_until(lambda: first.status()["health"] == "degraded", "node 1 is told that it is in force", 30)
    cluster.kill([third])
    wait_until(lambda: first.excludes(3), "node 3 is excluded", 30)
    last = Writing(first, 512, 64)
    time.sleep(1)
    last.end()
    check(not first.status().get("bad_bytes"), "no row is lost")
    cluster.nodes[1:] = [Node(cluster, 2), Node(cluster, 3)]
    wait_until(cluster.is_whole, "all is whole again", 120)
    for node in cluster.nodes:
        last.check_through(node)
    cluster.stop()
    done = run(CLI, "check", *cluster.paths)
    say("braid check: " + done.stdout.strip().splitlines()[-1])


CASES = {"begins": from_nothing, "witness": a_witness_breaks_ties, "operators": operators_take_nodes_out, "leave": nodes_leave,
         "reserved": a_volume_is_reserved, "bytes": same_bytes_everywhere,
         "blocks": same_blocks_at_once, "copy": copied_in_and_out,
         "verify": two_writers_verify, "killed": a_node_is_killed, "master_killed": the_master_is_killed,
         "master_paused": the_master_is_paused, "paused": a_node_is_paused,
         "replaced": a_member_is_replaced, "moved": a_disk_is_moved, "let_in": paused_as_it_is_let_in,
         "tls": over_tcp_with_a_key, "key": the_key_is_replaced, "clients": clients_of_each_node}


def cluster(world):
    CASES[sys.argv[1]](world, int(sys.argv[2]))


main(cluster)
