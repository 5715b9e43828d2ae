#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Clients of three nodes write and read the same few sectors, and write down what they see and when:
each sector has to look like one register. Meanwhile members fail, are replaced, and are rebuilt, and
parity is scrubbed. At the end the nodes are killed in the middle: what was flushed has to be there.

usage: history_test.py LEVEL [SECONDS [SEED]]

SECONDS of load, and two arrays at least; an hour with BRAID_LONG=1.
"""
import os
import random
import shutil
import sys
import time

from braid_cluster import Cluster
from braid_system import KIB, LONG, MIB, check, main, say, wait_until
from history import (Load, at_the_crash, check_busy, check_crash_judge, check_judge, check_no_errors, judge, places,
                     read_all)

MEMBERS = 6
SIZE = 16 * MIB
ROUND = 5  # seconds of load on one array


def wait_for(cluster, load, condition, what):
    def holds():
        load.check_running()
        return condition()
    wait_until(holds, what, 120)


def one_array(world, level, strip, rng, number):
    cluster = Cluster(world, level, MEMBERS, size=SIZE, options=["--strip-size", strip]).start()
    runs = places(MEMBERS - (2 if level == 6 else 1), strip, rng.randrange(SIZE // 2 // strip))
    say(f"round {number}: strips of {strip // KIB} KiB, sectors {runs}")
    load, pause = Load(cluster, runs, seed=rng.random()), ROUND / 4
    time.sleep(pause)
    lost = rng.sample(range(MEMBERS), 2 if level == 6 else 1)
    for role in lost:
        rng.choice(cluster.nodes).braid("member", "fail", role)
    time.sleep(pause)
    # A fresh disk is given to the node that has the old one.
    for role in lost:
        cluster.paths[role] = world.file(SIZE, "fresh")
        cluster.nodes[role % 3].braid("member", "replace", role, cluster.paths[role])
    wait_for(cluster, load, lambda: all(node.status()["health"] == "clean" for node in cluster.nodes),
             "the members are rebuilt")
    say(f"members {lost} failed, were replaced and rebuilt")
    decider = cluster.nodes[-1]
    decider.braid("scrub", "start")

    def scrubbed():
        status = decider.status()
        return not status["tasks"] and not status["scrub_waits"] and status["last_scrub"]
    wait_for(cluster, load, scrubbed, "the scrub ends")
    check(decider.status()["last_scrub"]["mismatches"] == 0, "the scrub finds nothing")
    time.sleep(pause)
    requests = load.stop()
    check_no_errors(requests)
    check_busy(requests)
    for node in cluster.nodes:
        requests += read_all(node, runs)

    load = Load(cluster, runs, seed=rng.random())
    time.sleep(pause)
    load.check_running()
    cluster.kill(rng.sample(cluster.nodes, 3))
    killed = load.stop()
    check(any(one.error for one in killed), "requests were in flight")
    requests += killed
    cluster.write_config()
    cluster.start()
    reads = at_the_crash(requests, [one for node in cluster.nodes for one in read_all(node, runs)])
    say("killed, and started again")
    check_judge(judge(requests + reads), rng)
    check_crash_judge(requests, reads, rng)
    wait_until(lambda: is_made_true(cluster.nodes[2].status()), "what was marked is made true", 120)
    cluster.stop()
    cluster.check_parity()
    # An hour has many rounds.
    for name in os.listdir(world.folder):
        path = world.path(name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)


def is_made_true(status):
    return not status["tasks"] and not (status["recovery"] and status["recovery"]["stripes_left"])


def histories(world, level, seconds, seed):
    say(f"seed {seed}")
    rng = random.Random(seed)
    until, number = time.monotonic() + seconds, 0
    while number < 2 or time.monotonic() < until:
        one_array(world, level, (4 * KIB, 64 * KIB)[number % 2], rng, number)
        number += 1


if __name__ == "__main__":
    words = [int(word) for word in sys.argv[1:]] + [None, None]
    load = max(words[1] or 0, 3600 if LONG else 0)
    main(histories, words[0], load, words[2] or random.randrange(1 << 32), seconds=7200)
