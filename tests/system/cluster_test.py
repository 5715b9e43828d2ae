#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Three nodes, three servers, one array: clients of each read and write the same volumes."""
import json
import os
import random
import sys
import threading

import nbd

from braid_system import (CLI, GIB, MIB, PLUGIN, Failed, check, end, end_of, main, run, sha256_of,
                          server_environment, start, uri_of, wait_until)

MEMBER = 64 * MIB
BLOCK = 4096


class Node:
    """One server of a cluster."""

    def __init__(self, cluster, number):
        self.cluster, self.number, world = cluster, number, cluster.world
        self.socket = world.path(f"nbd{number}.sock")
        self.control = world.path(f"control{number}.sock")
        self.pid_file, self.log_path = world.unique("pid"), world.unique(f"node{number}-nbdkit.log")
        self.uri = uri_of(self.socket)
        for path in (self.socket, self.control):
            if os.path.exists(path):
                os.unlink(path)
        with open(self.log_path, "wb") as log:
            self.process = start(["nbdkit", "-f", "--exit-with-parent", "-U", self.socket, "-P", self.pid_file,
                                  *cluster.tools(number), PLUGIN, f"config={cluster.config}",
                                  f"node={number}", f"socket={self.control}"],
                                 stdout=log, stderr=log, env=server_environment())
        world.undo.callback(end, self.process)

    def log(self):
        return end_of(self.log_path)

    def serves(self):
        check(self.process.poll() is None,
              f"node {self.number} ended with {self.process.returncode}\n{self.log()}")
        return os.path.exists(self.pid_file) and "serves the array" in self.log() or "RAID-" in self.log()

    def connect(self, volume="0"):
        handle = nbd.NBD()
        handle.set_export_name(volume)
        handle.connect_uri(self.uri)
        return handle

    def braid(self, *words, **options):
        return run(CLI, *words, "--socket", self.control, **options)

    def status(self):
        return json.loads(self.braid("status", "--json").stdout)


class Cluster:
    def __init__(self, world, level, members, nodes=3, addresses=None, key=None):
        self.world, self.nodes, self.count = world, [], nodes
        self.paths = world.members(members, MEMBER)
        self.config = world.path("cluster.toml")
        addresses = addresses or [f"unix:{world.path(f'bus{node}.sock')}" for node in range(1, nodes + 1)]
        with open(self.config, "w") as file:
            file.write('name = "test"\n' + (f'key = "{key}"\n' if key else ""))
            for node in range(1, nodes + 1):
                own = [path for index, path in enumerate(self.paths) if index % nodes == node - 1]
                file.write(f'\n[[node]]\nid = {node}\naddresses = ["{addresses[node - 1]}"]\n'
                           f"members = {json.dumps(own)}\n")
        run(CLI, "create", "--level", level, *self.paths)

    def tools(self, number):
        return []

    def start(self):
        self.nodes = [Node(self, number) for number in range(1, self.count + 1)]
        wait_until(lambda: all(node.serves() for node in self.nodes), "all nodes serve", 60)
        return self

    def stop(self):
        """In order: one node leaves, and the array stops on all."""
        for node in self.nodes:
            node.process.terminate()
        for node in self.nodes:
            status = node.process.wait(60)
            check(status == 0, f"node {node.number} stopped with {status}\n{node.log()}")

    def check_parity(self):
        done = run(CLI, "check", *self.paths)
        say_line = done.stdout.strip().splitlines()[-1]
        print("    braid check:", say_line)


def pattern(seed, size):
    return random.Random(str(seed)).randbytes(size)


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


CASES = {"bytes": same_bytes_everywhere, "blocks": same_blocks_at_once}


def cluster(world):
    CASES[sys.argv[1]](world, int(sys.argv[2]))


main(cluster)
