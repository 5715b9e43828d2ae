#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""braid restore, and what braid examine shows before it: members whose md superblocks were zeroed,
as firmware does, come back with their data and their volumes, and nothing is written unasked."""
import json
import os
import subprocess
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from braid_system import CLI, MIB, check, main, run, say, sha256_of, wait_until

SIZE = 16 * MIB
SUPERBLOCK = 4096


def braid(*words):
    return subprocess.run([CLI, *map(str, words)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)


def answered(answer, *words):
    """At a terminal, where somebody types the answer."""
    terminal, its_end = os.openpty()
    with subprocess.Popen([CLI, *map(str, words)], stdin=its_end, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True) as process:
        os.close(its_end)
        os.write(terminal, answer.encode())
        output = process.communicate(timeout=60)[0]
    os.close(terminal)
    check(process.returncode == 0, f"{words}: status {process.returncode}\n{output}")
    return output


def works(*words):
    done = braid(*words)
    check(done.returncode == 0, f"{words}: status {done.returncode}\n{done.stdout}")
    return done.stdout


def says(text, *words):
    for word in words:
        check(str(word) in text, f"nothing of '{word}' in:\n{text}")


def digests(paths):
    return [sha256_of(path) for path in paths]


def refused(paths, *words, options=()):
    before = digests(paths)
    done = braid("restore", *options, *paths)
    check(done.returncode == 1, f"status {done.returncode}\n{done.stdout}")
    says(done.stdout, *words)
    check(digests(paths) == before, "refused, but written to")


def write_at(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(content)


def zero_superblocks(paths):
    for path in paths:
        write_at(path, SUPERBLOCK, bytes(4096))


def uri_of(server, volume):
    return server.uri.replace("/?", f"/{volume}?")


def fill(world, server, volume):
    size = int(run("nbdinfo", "--size", uri_of(server, volume)).stdout)
    path = world.unique("content")
    with open(path, "wb") as file:
        file.write(os.urandom(size))
    run("nbdcopy", "--flush", path, uri_of(server, volume))
    return sha256_of(path)


def content(world, server, volume):
    path = world.unique("read")
    run("nbdcopy", uri_of(server, volume), path)
    return sha256_of(path)


def made(world):
    paths = world.members(4, SIZE)
    works("create", "--level", 5, "--strip-size", "128K", "--name", "home", "--volume", "one:4M",
          "--volume", "two:6M", *paths)
    server = world.serve(paths)
    sums = {volume: fill(world, server, volume) for volume in ("one", "two")}
    return paths, server, sums


def shown(paths):
    """Everything that the slots say, for people and for programs."""
    done = braid("examine", *paths)
    check(done.returncode == 1, "it would not start")
    says(done.stdout, "holds no md superblock", "array", "home", "RAID-5 of 4 members, 96 stripes, strips of 128 KiB",
         "cleanly stopped", "member 2, in_sync", "from byte 4194304 on", "volume    one", "volume    two",
         "braid restore puts the superblock back")
    json_text = subprocess.run([CLI, "examine", "--json", *paths], stdout=subprocess.PIPE, text=True).stdout
    facts = json.loads(json_text)
    for role, member in enumerate(facts["members"]):
        check(member["superblock"] is None, member)
        told = member["slot_says"]
        check((told["role"], told["state"], told["level"], told["member_count"]) == (role, "in_sync", 5, 4), told)
        check((told["strip_size"], told["stripes"], told["data_offset"]) == (128 * 1024, 96, 4 * MIB), told)
        check(told["clean"] and not told["in_use"] and told["epoch"] > 1, told)
        check([volume["name"] for volume in told["volumes"]] == ["one", "two"], told)
        check(told["volumes"][1]["offset"] == told["volumes"][0]["size"], told)


def restores(world):
    paths, server, sums = made(world)
    server.stop()
    before = digests(paths)
    zero_superblocks(paths)
    shown(paths)
    refused(paths, "then array home", "would start", "nothing was written: say --yes")
    says(works("restore", "--dry-run", *paths), "gets its superblock, bytes 4096 to 8191", "volume    two",
         "this is a dry run")
    check(digests(paths) != before, "a dry run wrote")
    says(works("restore", "--yes", *reversed(paths)), "the superblocks are written", "serve it: nbdkit braid")
    check(digests(paths) == before, "the superblocks are to the byte what they were")
    says(works("restore", *paths), "nothing to do: every member has its superblock")
    server = world.serve(paths)
    check({volume: content(world, server, volume) for volume in sums} == sums, "the content of both volumes")
    server.stop()
    zero_superblocks(paths[:1])
    says(works("restore", "--yes", *paths), f"{paths[1]}: has its superblock", "the superblocks are written")
    says(works("examine", *paths), "would start\n")
    say("put back, with data and volumes")


def asks(world):
    paths, server, _ = made(world)
    server.stop()
    before = digests(paths)
    zero_superblocks(paths)
    zeroed = digests(paths)
    for no in ("n\n", "\n", "yes, why not\n", "\x04"):  # the last one ends the input
        text = answered(no, "restore", *paths)
        says(text, "then array home", "Write the superblocks? [y/N]", "nothing was written")
        check("the superblocks are written" not in text, text)
        check(digests(paths) == zeroed, f"written to after {no!r}")
    says(answered("y\n", "restore", *paths), "Write the superblocks? [y/N]", "the superblocks are written")
    check(digests(paths) == before, "not put back after a yes")
    say("asked first")


def after_a_crash(world):
    paths, server, sums = made(world)
    server.kill()
    before = digests(paths)
    zero_superblocks(paths)
    says(works("restore", "--yes", *paths), "in use by braid, or not stopped cleanly")
    check(digests(paths) == before, "also what says that it was not stopped cleanly")
    server = world.serve(paths)
    wait_until(lambda: not server.status()["tasks"], "the recovery is done")
    check({volume: content(world, server, volume) for volume in sums} == sums, "the content of both volumes")
    server.stop()
    say("put back after a crash")


def looks_first(world):
    paths, server, _ = made(world)
    server.kill()
    # One that the array went on without: its slot is from the past.
    server = world.serve(paths[:3])
    server.stop()
    zero_superblocks(paths)
    refused(paths, paths[3], "when the array is served, give it back with: braid member add", options=["--yes", "--force"])
    says(works("restore", "--dry-run", *paths[:3]), "would start degraded")
    refused(paths[:2], "of its 4 members are usable", options=["--yes"])
    write_at(paths[0], SUPERBLOCK + 1000, b"firmware was here")
    refused(paths[:3], paths[0], "bytes of something else where its md superblock would lie", options=["--yes"])
    write_at(paths[0], SUPERBLOCK + 1000, bytes(17))
    run("mkswap", "-f", paths[1])  # writes the first 4096 bytes only
    refused(paths[:3], paths[1], "(swap)", "something else may have used it since", options=["--yes"])
    says(works("restore", "--yes", "--force", *paths[:3]), "note", "(swap)", "the superblocks are written")
    done = subprocess.run(["flock", paths[0], CLI, "restore", "--yes", *paths[:3]], stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, text=True)
    check(done.returncode == 1, done.stdout)
    says(done.stdout, paths[0], "is in use by another process")
    empty = world.file(SIZE)
    refused([*paths[:2], empty], empty, "has neither an md superblock nor a valid configuration", options=["--yes"])
    done = braid("restore")
    check(done.returncode == 2, "no members")
    say("looked first")


def restore(world):
    restores(world)
    asks(world)
    after_a_crash(world)
    looks_first(world)


if __name__ == "__main__":
    main(restore)
