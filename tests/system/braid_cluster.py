# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, three servers, one array: what the tests of several nodes share."""
import json
import os
import random
import socket
import subprocess
import threading
import time

import nbd

from braid_system import (CLI, MIB, PLUGIN, SANITIZE, Failed, Server, check, end, end_of, run, say,
                          server_environment, start, uri_of, wait_until)

MEMBER = 64 * MIB
BLOCK = 4096


class Node:
    """One server of a cluster."""

    def __init__(self, cluster, number):
        self.cluster, self.number, world = cluster, number, cluster.world
        self.world = world
        self.socket = world.path(f"nbd{number}.sock")
        self.control = world.path(f"control{number}.sock")
        self.pid_file, self.log_path = world.unique("pid"), world.unique(f"node{number}-nbdkit.log")
        self.uri = uri_of(self.socket)
        for path in (self.socket, self.control):
            if os.path.exists(path):
                os.unlink(path)
        with open(self.log_path, "wb") as log:
            self.process = start([*cluster.prefix(number), "nbdkit", "-f", "--exit-with-parent", "-U", self.socket,
                                  "-P", self.pid_file, PLUGIN, f"config={cluster.config}",
                                  f"node={number}", f"socket={self.control}"],
                                 stdout=log, stderr=log, env=server_environment())
        world.undo.callback(end, self.process)

    def log(self):
        return end_of(self.log_path)

    def wait_for_end(self):
        # With a sanitizer it may be stuck for ever, and that is not waited for as long.
        for seconds in (20, 100) if SANITIZE else (60,):
            try:
                status = self.process.wait(seconds)
                break
            except subprocess.TimeoutExpired:
                if Server.is_stuck_in_exit(self):
                    self.process.kill()
                    self.process.wait()
                    return
        else:
            raise Failed(f"node {self.number} did not stop\n{self.log()}")
        check(status == 0, f"node {self.number} stopped with {status}\n{self.log()}")

    def serves(self):
        check(self.process.poll() is None,
              f"node {self.number} ended with {self.process.returncode}\n{self.log()}")
        return "serves the array" in self.log() or " members, " in self.log()

    def uri_of(self, volume):
        return self.uri.replace("///", f"///{volume}")

    def connect(self, volume=""):
        handle = nbd.NBD()
        handle.connect_uri(self.uri_of(volume))
        return handle

    def braid(self, *words, **options):
        return run(CLI, *words, "--socket", self.control, **options)

    def status(self):
        return json.loads(self.braid("status", "--json").stdout)

    def status_if_any(self):
        """None of a server that has not begun to answer, or has ended."""
        done = self.braid("status", "--json", ok=None)
        return json.loads(done.stdout) if done.returncode == 0 else None

    def is_served(self):
        shown = self.status_if_any()
        return bool(shown) and shown["start"] is None

    def excludes(self, number):
        shown = self.status_if_any()
        return bool(shown) and any(one["id"] == number and one["excluded"] for one in shown.get("nodes", ()))


class Cluster:
    """Not `patient`: nodes are excluded as soon as they are by default. `settings`: lines of the file.
    `prefix`: of a node's number, the words before its command; `options`: of braid create; not `made`: there
    is no array yet. `addresses`: of each node one, or several."""

    def __init__(self, world, level, members, nodes=3, addresses=None, key=None, size=MEMBER, options=(),
                 prefix=lambda number: [], exclusive=(), made=True, patient=True, settings=""):
        self.world, self.nodes, self.count, self.prefix = world, [], nodes, prefix
        self.paths = world.members(members, size)
        self.homes = [1 + index % nodes for index in range(members)]  # the node of each
        self.config, self.key, self.exclusive = world.path("cluster.toml"), key, exclusive
        self.patient, self.settings = patient, settings
        self.start_wait_ms = 0  # who is not there yet is slow
        self.removed = set()  # nodes that the file has no more
        self.addresses = addresses or [f"unix:{world.path(f'bus{node}.sock')}" for node in range(1, nodes + 1)]
        self.write_config()
        if made:
            run(CLI, "create", "--level", level, *options, *self.paths)

    def lease_ms(self):
        return 20000 if SANITIZE or self.patient else 1200

    def gone_after(self):
        """Seconds: a node that cannot be reached for so long, and is needed, is waited for, or gone."""
        return max(10, 4 * self.lease_ms() // 1000)

    def write_config(self):
        """Again if `paths`, `homes`, `count` or `removed` have changed."""
        with open(self.config, "w") as file:
            file.write('name = "test"\n' + (f'key = "{self.key}"\n' if self.key else ""))
            # Where all is slow nodes may well be silent for longer, and nobody is gone.
            if self.lease_ms() != 1200:
                file.write(f"lease_ms = {self.lease_ms()}\n")
            file.write(f"start_wait_ms = {self.start_wait_ms}\n")
            file.write(self.settings)
            if self.exclusive:
                file.write(f"exclusive = {json.dumps(self.exclusive)}\n")
            for node in set(range(1, self.count + 1)) - self.removed:
                own = [path for path, home in zip(self.paths, self.homes) if home == node]
                file.write(f'\n[[node]]\nid = {node}\naddresses = {json.dumps(self.addresses_of(node))}\n'
                           f"members = {json.dumps(own)}\n")

    def start(self):
        self.nodes = [Node(self, number) for number in range(1, self.count + 1)]
        return self.wait_until_all_serve()

    def wait_until_all_serve(self):
        wait_until(lambda: all(node.serves() for node in self.nodes), "all nodes serve", 60)
        return self

    def supervise(self):
        """As systemd does with Restart=always: who has ended is started anew, until all serve."""
        def all_serve():
            for at, node in enumerate(self.nodes):
                if node.process.poll() is not None:
                    self.wait_until_gone(node.number)
                    self.nodes[at] = Node(self, node.number)
            return all(node.is_served() for node in self.nodes)
        wait_until(all_serve, "all nodes serve again", 60)

    def stop(self, nodes=None):
        """In order: one node leaves, and the array stops on all. `nodes`: all of them, and which goes first."""
        for node in nodes or self.nodes:
            node.process.terminate()
        for node in self.nodes:
            node.wait_for_end()

    def is_whole(self):
        """All nodes serve, say so of each other, have all members in sync, and nothing is left to do."""
        shown = [node.status_if_any() for node in self.nodes]
        if not all(one and one["start"] is None and one["health"] == "clean" and not one["tasks"] for one in shown):
            return False
        return all(node["state"] in ("decides", "serves") for one in shown for node in one["nodes"])

    def kill(self, nodes):
        """As if the power went at one after the other. The kernel closes what a process had given to io_uring a
        moment after the process is gone; a server that is started in that moment is refused, as if
        another one listened at its address."""
        for node in nodes:
            node.process.kill()
            node.process.wait()
            time.sleep(random.random() / 10)
        for node in nodes:
            self.wait_until_gone(node.number)

    def wait_until_gone(self, number):
        """As kill() says; also of one that ended by itself without its last clients."""
        wait_until(lambda: not self.somebody_listens_for(number), f"node {number} is gone")

    def addresses_of(self, number):
        one = self.addresses[number - 1]
        return [one] if isinstance(one, str) else list(one)

    def somebody_listens_for(self, number):
        address = self.addresses_of(number)[0]
        if address.startswith("unix:"):
            return somebody_listens(address[len("unix:"):])
        port = address.rpartition(":")[2]
        return bool(run(*self.prefix(number), "ss", "-Hltn", f"sport = :{port}").stdout.strip())

    def decides(self):
        """The number of the node that does, as all say that are there."""
        said = {one["id"] for node in self.nodes if node.process.poll() is None
                for one in node.status()["nodes"] if one["decides"]}
        check(len(said) == 1, f"all say the same: {said}")
        return said.pop()

    def check_parity(self):
        done = run(CLI, "check", *self.paths)
        say("braid check: " + done.stdout.strip().splitlines()[-1])


class Writing:
    """Blocks of its own, one after the other, through a node; and how long the longest took."""

    def __init__(self, node, first, blocks):
        self.node, self.first, self.blocks = node, first, blocks
        self.written, self.begun, self.longest, self.error, self.over = {}, None, 0.0, None, False
        self.thread = threading.Thread(target=self.work)
        self.thread.start()

    def work(self):
        try:
            client, turn = self.node.connect(), 0
            while not self.over:
                block = self.first + turn % self.blocks
                data = pattern((self.node.number, turn), BLOCK)
                begin, self.begun = time.monotonic(), (block, data)
                client.pwrite(data, block * BLOCK)
                self.longest = max(self.longest, time.monotonic() - begin)
                self.written[block] = data
                check(client.pread(BLOCK, block * BLOCK) == data, f"block {block} is what was written last")
                turn += 1
            client.shutdown()
        except (nbd.Error, Failed) as error:
            self.error = error

    def end(self):
        self.over = True
        self.thread.join()
        if self.error:
            raise Failed(f"a client of node {self.node.number}: {self.error}\n{self.node.log()[-4000:]}")

    def check_through(self, node):
        """What was acknowledged is there; of what was begun last nobody knows."""
        client = node.connect()
        for block, data in self.written.items():
            found = client.pread(BLOCK, block * BLOCK)
            check(found == data or (block, found) == self.begun, f"node {node.number} has block {block}")
        client.shutdown()


def pattern(seed, size):
    return random.Random(str(seed)).randbytes(size)


def somebody_listens(path):
    with socket.socket(socket.AF_UNIX) as caller:
        return caller.connect_ex(path) == 0


def free_ports(count):
    listening = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in listening]
    for one in listening:
        one.close()
    return ports
