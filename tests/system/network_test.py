#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, each on a machine of its own (namespaces.py), that speak TLS over TCP: copies and a file
system beside fio, a cable that is pulled, one of two cables, a clock that goes wrong, and strangers.

usage: network_test.py copy|filesystem|cut|channels|clock|strangers LEVEL
"""
import hashlib
import os
import random
import socket
import ssl
import sys
import time

import nbd

from braid_cluster import BLOCK, Cluster
from braid_system import (CLI, MIB, PLUGIN, SANITIZE, check, end, end_of, main, need_tools, run, say,
                          server_environment, sha256_of, start, wait_until)
from history import Load, check_busy, check_no_errors, judge, read_all, silence
from namespaces import Network

PORT = 10810
PLACES = [(1000, 64)]  # sectors that histories are of
CUT = 3  # seconds


def machine(number):
    return f"node{number}"


def three_machines(world, level, strangers=(), members=6, within=lambda number: [], cables=1, **options):
    """`within`: of a node's number, further words before its command."""
    network = Network(world, [*map(machine, (1, 2, 3)), *strangers], cables)
    key = world.unique("key")
    run(CLI, "cluster", "keygen", key)
    addresses = [[f"{network.address(machine(number), cable)}:{PORT}" for cable in range(1, cables + 1)]
                 for number in (1, 2, 3)]
    cluster = Cluster(world, level, members, addresses=addresses, key=key,
                      prefix=lambda number: [*network.words(machine(number)), *within(number)], **options).start()
    say("three machines serve the array")
    return network, cluster


class FioLoad:
    """fio that writes and verifies until it is stopped; a mismatch ends it."""

    def __init__(self, node, volume="", offset=0, size=16 * MIB):
        need_tools("fio")
        self.node, self.log_path = node, node.world.unique("fio.log")
        with open(self.log_path, "wb") as log:
            self.process = node.world.background(
                ["fio", "--name=load", "--ioengine=nbd", f"--uri={node.uri_of(volume)}", "--rw=randwrite", "--bs=4k",
                 "--iodepth=8", f"--offset={offset}", f"--size={size}", "--loops=10000", "--verify=crc32c",
                 "--verify_backlog=64", "--verify_fatal=1", "--verify_state_save=0"],
                stdout=log, stderr=log, cwd=node.world.folder)

    def check_running(self):
        check(self.process.poll() is None,
              f"fio at node {self.node.number} ended with {self.process.returncode}\n{end_of(self.log_path)}")

    def stop(self):
        self.check_running()
        end(self.process)


def copied_in_and_out(world, level):
    """nbdcopy in at one node and out at the others, while fio verifies what it writes through both."""
    need_tools("nbdcopy")
    _, cluster = three_machines(world, level, options=["--volume", "data:32M"])
    size = 8 * MIB
    loads = [FioLoad(cluster.nodes[index], offset=(2 + index) * size, size=size) for index in (0, 1)]
    for turn in range(3):
        image = world.random_file(size)
        run("nbdcopy", "--flush", image, cluster.nodes[turn].uri)
        for other in (1, 2):
            out = world.unique("copy")
            run("nbdcopy", cluster.nodes[(turn + other) % 3].uri, out)
            check(sha256_of(out, size) == sha256_of(image), f"in at node {turn + 1}, out {other} further")
            os.unlink(out)
        os.unlink(image)
    for load in loads:
        load.stop()
    cluster.stop()
    cluster.check_parity()


def files_of(rng, count=200):
    """Names and contents: many small files, a few large ones."""
    files = {f"folder{index % 7}/file{index}": rng.randbytes(rng.choice((0, 100, 5000, 70000)))
             for index in range(count)}
    files["large"] = rng.randbytes(8 * MIB + 17)
    return files


def check_files(folder, files):
    for name, data in files.items():
        with open(os.path.join(folder, name), "rb") as file:
            check(hashlib.sha256(file.read()).digest() == hashlib.sha256(data).digest(), f"{name} is as it was written")


def a_file_system_beside_fio(world, level):
    """A file system is made and filled through one node, and looked at through another one, while fio works
    on another volume through the third."""
    need_tools("mkfs.ext4", "fsck.ext4", "nbdfuse")
    _, cluster = three_machines(world, level, options=["--volume", "files:96M", "--volume", "load:32M"])
    load, rng = FioLoad(cluster.nodes[2], "load"), random.Random(level)
    files = files_of(rng)
    for turn, node in enumerate(cluster.nodes[:2]):
        file = world.nbdfuse(node.uri_of("files"))
        device = world.loop_device(file)
        if turn == 0:
            run("mkfs.ext4", "-q", "-F", device)
        run("fsck.ext4", "-f", "-n", device)
        folder = world.mount(device, "ext4")
        if turn == 0:
            for name, data in files.items():
                os.makedirs(os.path.dirname(os.path.join(folder, name)), exist_ok=True)
                with open(os.path.join(folder, name), "wb") as target:
                    target.write(data)
        else:
            check_files(folder, files)
        run("umount", folder)
        run("fsck.ext4", "-f", "-n", device)
        run("losetup", "--detach", device)
        world.unfuse(file)
        say(f"{'filled' if turn == 0 else 'looked at'} through node {node.number}")
    load.stop()
    cluster.stop()
    cluster.check_parity()


def a_cable_is_pulled(world, level):
    """For three seconds, at the switch and then at the machine itself: a pause, and no error."""
    network, cluster = three_machines(world, level)
    load = Load(cluster, PLACES, seed=level)
    time.sleep(1)
    cut = [(2, lambda: network.unplug(machine(2)), lambda: network.plug(machine(2))),
           (3, lambda: network.run(machine(3), "ip", "link", "set", "net", "down"),
            lambda: network.run(machine(3), "ip", "link", "set", "net", "up"))]
    requests = []
    for number, pull, put in cut:
        pull()
        time.sleep(CUT)
        put()
        for node in cluster.nodes:  # each waits until it is answered
            requests += read_all(node, PLACES)
        load.check_running()
        say(f"node {number} was cut off, and all nodes answer again")
    back = time.monotonic_ns()
    time.sleep(1)
    requests += load.stop()
    check_no_errors(requests)
    check_busy(requests)
    judge(requests)
    for number in (1, 2, 3):
        check(any(one.begin > back for one in requests if one.node == number), f"clients of node {number} go on")
    for number, _, _ in cut:
        pause = silence(requests, number)
        check(pause > CUT - 1, f"the cable was out, but node {number} answered all the time")
        say(f"clients of node {number} saw nothing for {pause:.1f} s")
    for node in cluster.nodes:
        states = [member["state"] for member in node.status()["members"]]
        check(set(states) == {"in_sync"}, f"a cable costs no member its place, but they are {states}")
    cluster.stop()
    cluster.check_parity()


def one_of_two_cables_is_pulled(world, level):
    """At one machine after the other, one and then the other one of its two: heartbeats come by the one that is left, so
    that nobody is excluded, the data follows, clients see a pause at most, and the status says which is out."""
    network, cluster = three_machines(world, level, cables=2, patient=False)
    load = Load(cluster, PLACES, seed=level)
    requests, longest = [], 0.0

    def up(number, cable):
        """As the one says that has connected, which is the one with the higher number."""
        of, at = sorted((number, number % 3 + 1))
        node = next(one for one in cluster.nodes[at - 1].status()["nodes"] if one["id"] == of)
        return {channel["address"]: channel["up"] for channel in node["channels"]}[
            f"{network.address(machine(of), cable)}:{PORT}"]

    def all_up():
        """Else one that is only just coming back may be the last one between two nodes."""
        return all(channel["up"] for node in cluster.nodes for one in node.status()["nodes"] for channel in one["channels"])
    for number, cable in ((1, 1), (2, 2), (3, 1), (3, 2)):
        wait_until(all_up, "all channels are up", 20)
        network.unplug(machine(number), cable)
        begin = time.monotonic()
        for node in cluster.nodes:  # each waits until it is answered
            requests += read_all(node, PLACES)
        longest = max(longest, time.monotonic() - begin)
        wait_until(lambda: not up(number, cable), "the channel is down", 20)
        check(up(number, 3 - cable), "and the other one is not")
        network.plug(machine(number), cable)
        load.check_running()
    time.sleep(1)
    requests += load.stop()
    check_no_errors(requests)
    judge(requests)
    for node in cluster.nodes:
        check("excluded" not in node.log(), f"nobody is excluded\n{node.log()}")
    say(f"clients waited for {longest:.1f} s at most")
    cluster.stop()
    cluster.check_parity()


def a_clock_goes_wrong(world, level):
    """That of node 2 goes at a fifth of its rate, so that its lease is longer than the others wait for. It is cut off,
    and they go on, and write. By its lease it answers what was there before; with reads = "strict" it does not."""
    check(b"old" in read_after_the_others_wrote(world, level, "lease"), "this test would show nothing")
    answered = read_after_the_others_wrote(world, level, "strict")
    check(not answered, f"what the others replaced is read: {answered}")


def read_after_the_others_wrote(world, level, reads):
    """What node 2 answers then, which is cut off."""
    slow = os.environ["BRAID_SLOW_CLOCK"]
    network, cluster = three_machines(
        world, level, patient=False, settings=f'reads = "{reads}"\n',
        within=lambda number: ["env", f"LD_PRELOAD={slow}"] if number == 2 else [])
    other, reader = cluster.nodes[0].connect(), cluster.nodes[1].connect()
    blocks = range(0, 64 * BLOCK * 16, BLOCK * 16)  # at members of all nodes
    for at in blocks:
        other.pwrite(b"old".ljust(BLOCK), at)
    begin = time.monotonic()
    for at in blocks:
        check(reader.pread(3, at) == b"old", "what was written is read")
    say(f"{len(blocks)} reads in {time.monotonic() - begin:.3f} s")
    network.unplug(machine(2))
    wait_until(lambda: cluster.nodes[0].excludes(2) and cluster.nodes[2].excludes(2), "it is excluded", 10)
    for at in blocks:
        other.pwrite(b"new".ljust(BLOCK), at)
    data = [nbd.Buffer(3) for _ in blocks]
    cookies = [reader.aio_pread(into, at) for into, at in zip(data, blocks)]
    until = time.monotonic() + 2
    while time.monotonic() < until:
        reader.poll(100)
    answered = [bytes(into.to_bytearray()) for into, cookie in zip(data, cookies)
                if reader.aio_command_completed(cookie)]
    check(b"new" not in answered, "it is cut off")
    network.plug(machine(2))
    wait_until(lambda: "has excluded this start of node 2" in cluster.nodes[1].log(), "it hears of it", 30)
    cluster.nodes[1].wait_for_end()
    cluster.stop([cluster.nodes[0], cluster.nodes[2]])
    return answered


def whole_log(node):
    return end_of(node.log_path, 1 << 24)


def connections_lost(node):
    return whole_log(node).count("the connection to node")


def tells(node, *words):
    return any(all(word in line for word in words) for line in whole_log(node).splitlines())


def a_third_node(world, network, name, key, addresses):
    """A server on the stranger's machine that says it is node 3, which is the one that connects to all
    others."""
    config = world.path(f"{name}.toml")
    with open(config, "w") as file:
        file.write('name = "test"\n' + (f'key = "{key}"\n' if key else ""))
        for number, address in enumerate(addresses, 1):
            file.write(f'\n[[node]]\nid = {number}\naddresses = ["{address}"]\n')
    log_path = world.unique(f"{name}-nbdkit.log")
    with open(log_path, "wb") as log:
        process = start([*network.words("stranger"), "nbdkit", "-f", "--exit-with-parent",
                         "-U", world.path(f"{name}.sock"), PLUGIN, f"config={config}", "node=3"],
                        stdout=log, stderr=log, env=server_environment())
    world.undo.callback(end, process)
    return process, log_path


def all_that_comes(connection, limit=4096):
    """What the other side says before it hangs up."""
    data = b""
    try:
        while len(data) < limit:
            part = connection.recv(limit)
            if not part:
                break
            data += part
    except ConnectionResetError:
        pass
    return data


def garbage(network, cluster, rng):
    """Bytes that are no TLS, or no TLS of ours: an alert at most, and the other side hangs up."""
    client_hello = bytes.fromhex("16030100c8010000c40303") + rng.randbytes(194)
    for number in (1, 2, 3):
        address = network.address(machine(number)), PORT
        for data in (b"GET / HTTP/1.1\r\n\r\n" * 10, rng.randbytes(65536), bytes(4096), client_hello,
                     b"\x16\x03\x03\xff\xff" + rng.randbytes(70000), b"\x16"):
            with network.connect("stranger", address) as connection:
                try:
                    connection.sendall(data)
                    connection.shutdown(socket.SHUT_WR)
                except OSError:
                    pass  # it has hung up already
                found = all_that_comes(connection)
                check(len(found) < 100, f"node {number} answers {data[:16]!r} with {len(found)} bytes: {found[:50]!r}")
        # A real client of TLS, that has no key.
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with network.connect("stranger", address) as connection:
            try:
                context.wrap_socket(connection)
                check(False, f"node {number} talks TLS to whoever comes")
            except (ssl.SSLError, OSError):
                pass
    say("garbage")


def many_that_say_nothing(network, number, count=60):
    """More than there is room for; all of them are hung up on."""
    address = network.address(machine(number)), PORT
    silent = [network.connect("stranger", address) for _ in range(count)]
    for connection in silent:
        check(len(all_that_comes(connection)) < 100, "who says nothing hears nothing")
        connection.close()
    say(f"{count} that said nothing were hung up on by node {number}")


def strangers(world, level):
    """A peer with a wrong key, one without a key, garbage, and many who say nothing: they get nothing, and
    clients of the nodes notice nothing."""
    network, cluster = three_machines(world, level, strangers=["stranger"])
    before = {node.number: connections_lost(node) for node in cluster.nodes}
    load = Load(cluster, PLACES, seed=level)
    own = network.address("stranger")

    wrong = world.path("wrong")
    run(CLI, "cluster", "keygen", wrong)
    of_others = [cluster.addresses_of(number)[0] for number in (1, 2)]
    with_wrong_key = a_third_node(world, network, "wrong", wrong, [*of_others, f"{own}:{PORT}"])
    for node in cluster.nodes[:2]:
        wait_until(lambda: tells(node, own, "has another key"), f"node {node.number} tells of a wrong key")

    # Without a key the addresses have to be of one machine: unix sockets that lead to the others.
    relays = [world.path(f"relay{number}.sock") for number in (1, 2)]
    for number, path in enumerate(relays, 1):
        network.relay("stranger", path, (network.address(machine(number)), PORT))
    without_key = a_third_node(world, network, "without", None,
                               [f"unix:{path}" for path in (*relays, world.path("without3.sock"))])
    for node in cluster.nodes[:2]:
        wait_until(lambda: tells(node, own, "does not talk as the nodes"), f"node {node.number} tells of no key")
    say("a wrong key, and no key")

    garbage(network, cluster, random.Random(level))
    many_that_say_nothing(network, 1)
    for process, log_path in (with_wrong_key, without_key):
        check(process.poll() is None, f"a stranger waits\n{end_of(log_path)}")
        for what in ("is connected", "serves", "members, "):
            check(what not in end_of(log_path, 1 << 24), f"a stranger got something\n{end_of(log_path)}")
        end(process)

    requests = load.stop()
    check_no_errors(requests)
    check_busy(requests)
    judge(requests)
    # Under a sanitizer nodes may well be silent to each other for too long.
    for node in cluster.nodes if not SANITIZE else ():
        check(connections_lost(node) == before[node.number], f"node {node.number} kept its connections")
    cluster.stop()
    cluster.check_parity()


CASES = {"copy": copied_in_and_out, "filesystem": a_file_system_beside_fio, "cut": a_cable_is_pulled,
         "channels": one_of_two_cables_is_pulled,
         "clock": a_clock_goes_wrong,
         "strangers": strangers}


def network(world):
    CASES[sys.argv[1]](world, int(sys.argv[2]))


if __name__ == "__main__":
    main(network)
