#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""What an order looks at before it destroys anything: whether a disk is in use under another name,
what it holds at both ends, whether it can be written, and where data begins; on files, loop devices,
links and mounts, with real servers."""
import hashlib
import json
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
from braid_system import (CLI, KIB, MIB, PLUGIN, Skip, check, end, end_of, main, need_tools, run, say,
                          server_environment, sha256_of, start_nbdkit, wait_until)

SIZE = 24 * MIB


def says(done, *words):
    for word in words:
        check(word in done.stdout, f"nothing of '{word}' in:\n{done.stdout}")


def refused(done, *words):
    check(0 < done.returncode < 3, f"status {done.returncode}:\n{done.stdout}")
    says(done, *words)


def braid(*words, **options):
    return run(CLI, *words, ok=None, **options)


def try_to_serve(paths, *parameters, **options):
    """What nbdkit says of members that it does not serve."""
    return run("nbdkit", "-f", "-U", "-", PLUGIN, *paths, *parameters, ok=None, env=server_environment(), **options)


def order(server, *words, **options):
    return server.braid(*words, ok=None, **options)


def write_at(path, offset, content):
    with open(path, "r+b") as file:
        file.seek(offset if offset >= 0 else os.path.getsize(path) + offset)
        file.write(content)


def filled(world, level, count, *options):
    """A served array with random content, and its hash."""
    server = world.array(level, count, SIZE, *options)
    random = world.random_file(8 * MIB)
    run("nbdcopy", random, server.uri)
    server.wait_for_idle()
    return server, server.sha256()


def check_whole(server, content):
    server.wait_for_idle()
    server.wait_for_health("clean")
    check(server.sha256() == content, "the content has changed")
    server.check_scrub_is_clean()


def paths_are_the_kernels(world):
    near, far = world.unique("near"), world.unique("far")
    os.mkdir(near)
    os.makedirs(os.path.join(far, "deep"))
    os.symlink(os.path.join(far, "deep"), os.path.join(near, "link"))

    def by_link(name):
        return os.path.join(near, "link", "..", name)
    names = ["m0", "m1", "m2"]
    for folder in (near, far):
        for name in names:
            with open(os.path.join(folder, name), "wb") as file:
                file.truncate(SIZE)
    decoys = [sha256_of(os.path.join(near, name)) for name in names]
    run(CLI, "create", "--level", 5, *map(by_link, names))
    run(CLI, "examine", *(os.path.join(far, name) for name in names))
    server = world.serve([by_link(name) for name in names])
    check([member["path"] for member in server.status()["members"]] == [os.path.join(far, name) for name in names],
          "the members are not what the kernel finds")
    with open(os.path.join(far, "new"), "wb") as file:
        file.truncate(SIZE)
    server.braid("member", "replace", by_link("m1"), by_link("new"))
    server.braid("rebuild", "--wait")
    check(server.member(1)["path"] == os.path.join(far, "new"), server.member(1))
    server.stop()
    check(braid("check", by_link("m0"), by_link("new"), by_link("m2")).returncode == 0, "check by link")
    socket = by_link("control.sock")
    world.nbdkit(PLUGIN, by_link("m0"), by_link("new"), by_link("m2"), f"socket={socket}", env=server_environment())
    check(os.path.exists(os.path.join(far, "control.sock")), "the socket is not where the kernel would have it")
    says(braid("status", "--socket", socket), "health: clean")
    check([sha256_of(os.path.join(near, name)) for name in names] == decoys, "another file was written")
    say("paths are the kernel's")


def second_names(world):
    server, content = filled(world, 5, 3)
    member = server.paths[1]
    hard, soft = world.path("hard"), world.path("soft")
    os.link(member, hard)
    os.symlink(member, soft)
    names = [member, hard, soft]
    try:
        names += [world.loop_device(member), world.loop_device(member)]
    except Skip as reason:
        say(f"without loop devices: {reason}")
    bound = world.unique("bound")
    os.mkdir(bound)
    if run("mount", "--bind", os.path.dirname(member), bound, ok=None).returncode == 0:
        world.undo.callback(run, "umount", "--lazy", bound, ok=None)
        names.append(os.path.join(bound, os.path.basename(member)))
    else:
        say("without bind mounts")
    for name in names:
        for force in ([], ["--force"]):
            refused(order(server, "member", "add", name, *force), "is a member of this array already", member)
            refused(order(server, "member", "replace", 2, name, *force), "is a member of this array already")
    check(len(server.status()["members"]) == 3, "nothing was added")
    check_whole(server, content)
    # By any name, the member is found.
    says(order(server, "member", "fail", names[-1]), "faulty")
    check(server.member(1)["state"] == "faulty", "the member that the name leads to")
    server.stop()
    say("a second name of a member is refused")


def loops_on_one_file(world):
    """Both paths are loop devices, and only the file behind them is the same."""
    paths = world.members(3, SIZE)
    devices = [world.loop_device(path) for path in paths]
    twin = world.loop_device(paths[1])
    refused(braid("create", "--level", 5, *devices[:2], twin), devices[1], twin, "are the same file")
    run(CLI, "create", "--level", 5, *devices)
    server = world.serve(devices)
    content = server.sha256()
    for force in ([], ["--force"]):
        refused(order(server, "member", "add", twin, *force), "is a member of this array already", devices[1])
    refused(order(server, "member", "add", paths[1]), "is a member of this array already")
    check_whole(server, content)
    server.stop()
    refused(try_to_serve([*devices, twin]), "one and the same file")
    # Two halves of one file are two disks.
    file = world.file(4 * SIZE)
    parts = [world.loop_device(file, "--offset", str(n * SIZE), "--sizelimit", str(SIZE)) for n in range(4)]
    run(CLI, "create", "--level", 5, *parts[:3])
    server = world.serve(parts[:3])
    server.braid("member", "replace", 0, parts[3])
    server.braid("rebuild", "--wait")
    server.stop()
    say("loop devices are known by what lies behind them")


def replace_looks_first(world):
    server, content = filled(world, 5, 3)
    used = world.file(64 * MIB)
    run("mkfs.ext4", "-q", "-F", used)
    gpt = world.file(SIZE)
    write_at(gpt, -512, b"EFI PART")
    md = world.file(SIZE)
    write_at(md, (SIZE // 512 - 16) // 8 * 8 * 512, b"\xfc\x4e\x2b\xa9")
    zfs = world.file(SIZE)
    for uber in range(8):
        write_at(zfs, SIZE - 256 * KIB + 128 * KIB + uber * KIB, b"\x0c\xb1\xba\0\0\0\0\0")
    cases = [(used, "which would be lost"), (gpt, "a backup GPT"), (md, "md superblock of version 1.0"),
             (zfs, "ZFS labels"), (world.file(SIZE // 2), "needs at least"), (world.folder, "is a directory")]
    try:
        cases.append((world.loop_device(world.file(SIZE), "--read-only"), "read-only"))
    except Skip as reason:
        say(f"without a read-only loop device: {reason}")
    for path, words in cases:
        before = sha256_of(path) if os.path.isfile(path) else None
        for verb in (["replace", 1, path], ["add", path]):
            refused(order(server, "member", *verb), words)
            check(server.member(1)["state"] == "in_sync", f"{verb}: member 1 is {server.member(1)['state']}")
        check(before is None or sha256_of(path) == before, f"{path}: refused, but written to")
    check_whole(server, content)
    for path in (gpt, md, zfs):
        server.braid("member", "replace", 1, path, "--force")
        server.braid("rebuild", "--wait")
        server.braid("member", "fail", 1)
        server.braid("member", "remove", 1)
        server.replace(1)
        server.braid("rebuild", "--wait")
    check_whole(server, content)
    server.stop()
    say("replace looks at the new disk before it fails the old one")


def create_looks_at_the_end(world):
    def gpt(path):
        write_at(path, -512, b"EFI PART")

    def zfs(path):
        for label in (SIZE - 512 * KIB, SIZE - 256 * KIB):
            for uber in range(16):
                write_at(path, label + 128 * KIB + uber * KIB, b"\x0c\xb1\xba\0\0\0\0\0")

    def md(path):
        write_at(path, (SIZE // 512 - 16) // 8 * 8 * 512, b"\xfc\x4e\x2b\xa9")
    for fill, words in ((gpt, "GPT"), (zfs, "ZFS"), (md, "md superblock of version 1.0")):
        paths = world.members(3, SIZE)
        fill(paths[2])
        before = sha256_of(paths[2])
        refused(braid("create", "--level", 5, *paths), paths[2], words, "--force")
        check(sha256_of(paths[2]) == before, "refused, but written to")
        run(CLI, "create", "--level", 5, "--force", *paths)
        with open(paths[2], "rb") as file:
            file.seek(SIZE - MIB)
            check(not any(file.read(MIB)), f"{words} survived")
    say("create finds and wipes what lies at the end")


def data_stays_where_it_is(world):
    paths = world.members(3, SIZE)
    run(CLI, "create", "--level", 5, "--data-offset", "6M", *paths)
    server = world.serve(paths)
    run("nbdcopy", world.random_file(4 * MIB), server.uri)
    content = server.sha256()
    server.stop()
    for path in paths:
        write_at(path, 0, bytes(8192))   # firmware does that
    strips = [sha256_of_data(path, 6 * MIB) for path in paths]
    again = ["create", "--level", 5, "--assume-clean", "--force"]
    says(braid(*again, "--dry-run", *paths), "begins    at byte 6291456", "its configuration slot", "dry run")
    for words, *changes in (("that the data begins at byte 6291456, but --data-offset says 4194304",
                             "--data-offset", "4M"), ("strips of 131072 bytes", "--strip-size", "128K"),
                            ("right-symmetric", "--layout", "rs")):
        before = [sha256_of(path) for path in paths]
        refused(braid(*again, *changes, *paths), words, "--assume-clean keeps the data")
        check([sha256_of(path) for path in paths] == before, "refused, but written to")
    refused(braid(*again, paths[1], paths[0], paths[2]), "says that it is member 1")
    refused(braid("create", "--level", 5, "--data-offset", "5000", *paths, "--force"), "--data-offset")
    run(CLI, *again, *paths)
    check([sha256_of_data(path, 6 * MIB) for path in paths] == strips, "data was written")
    server = world.serve(paths)
    check(server.sha256() == content, "the content came back")
    server.check_scrub_is_clean()
    server.stop()
    # md's superblock knows it too.
    for path in paths:
        write_at(path, 143360, bytes(128 * KIB))
    says(braid(*again, "--dry-run", *paths), "begins    at byte 6291456", "its md superblock")
    run(CLI, *again, *paths)
    check([sha256_of_data(path, 6 * MIB) for path in paths] == strips, "data was written")
    # With nothing to go by, nothing behind the metadata is touched.
    for path in paths:
        write_at(path, 0, bytes(2 * MIB))
    strips = [sha256_of_data(path, 2 * MIB) for path in paths]
    run(CLI, *again[:-1], *paths)
    check([sha256_of_data(path, 2 * MIB) for path in paths] == strips, "data was written")
    say("--assume-clean leaves data where it is")


def sha256_of_data(path, offset):
    with open(path, "rb") as file:
        file.seek(offset)
        return hashlib.sha256(file.read()).hexdigest()


def read_only_members(world):
    paths = world.members(3, SIZE)
    run(CLI, "create", "--level", 5, *paths)
    before = [sha256_of(path) for path in paths]
    closed = []
    try:
        closed.append(world.loop_device(paths[1], "--read-only"))
    except Skip as reason:
        say(f"without a read-only loop device: {reason}")
    bound = world.unique("bound")
    os.mkdir(bound)
    mounted = run("mount", "--bind", os.path.dirname(paths[1]), bound, ok=None).returncode == 0
    if mounted:
        world.undo.callback(run, "umount", "--lazy", bound, ok=None)
        mounted = run("mount", "-o", "remount,ro,bind", bound, ok=None).returncode == 0
    if mounted:
        closed.append(os.path.join(bound, os.path.basename(paths[1])))
    else:
        say("without a read-only mount")
    if os.geteuid() != 0:
        os.chmod(paths[1], 0o400)
        closed.append(paths[1])
    for path in closed:
        members = [paths[0], path, paths[2]]
        refused(try_to_serve(members), path, "readonly=true")
        done = braid("check", "--repair", *members)
        check(done.returncode == 2, f"check --repair: status {done.returncode}")
        says(done, path, "without --repair")
        world.serve(members, "readonly=true").stop()  # it can be looked at
        check(braid("check", *members).returncode == 0, "and checked")
        refused(braid("create", "--level", 5, "--force", *members), path)
        check([sha256_of(one) for one in paths] == before, f"{path}: refused, but written to")
    os.chmod(paths[1], 0o600)
    say(f"{len(closed)} kinds of read-only members are refused, and not thrown out")


def large_sectors(world):
    files = world.members(3, SIZE)
    before = [sha256_of(path) for path in files]
    device = world.loop_device(files[2], "--sector-size", "8192")
    refused(braid("create", "--level", 5, "--force", *files[:2], device), device, "has sectors of 8192 bytes")
    check([sha256_of(path) for path in files] == before, "refused, but written to")
    say("large sectors are refused before anything is wiped")


def same_name(world):
    """A disk is pulled, and the next one has its name."""
    server, content = filled(world, 5, 3)
    server.braid("member", "fail", 1)
    path = server.paths[1]
    os.rename(path, path + ".pulled")
    with open(path, "wb") as file:
        file.truncate(SIZE)
    says(order(server, "member", "replace", 1, path), "takes the place")
    server.braid("rebuild", "--wait")
    check_whole(server, content)
    # And the same disk comes back without being removed first.
    server.braid("member", "fail", 0)
    says(order(server, "status"), "an operator said so")
    check(server.member(0)["notice"] == "an operator said so", server.member(0))
    server.braid("member", "add", server.paths[0])
    server.braid("rebuild", "--wait")
    check(server.member(0)["notice"] == "", server.member(0))
    check_whole(server, content)
    server.stop()
    say("a new disk may have the old one's name")


def old_paths(world):
    """The letters shift: what is there now comes before what was there once."""
    paths = world.members(5, SIZE)
    run(CLI, "create", "--level", 6, *paths)
    world.serve(paths).stop()
    os.rename(paths[0], paths[0] + ".dead")
    for index in range(1, 5):
        os.rename(paths[index], paths[index - 1])
    server = world.serve(paths[:4])
    says(order(server, "member", "fail", paths[0]), "faulty")
    check(server.member(0)["state"] == "missing" and server.member(1)["state"] == "faulty", "the live one was meant")
    refused(order(server, "member", "replace", paths[0], world.file(SIZE)), "may be any of 2 members", "missing",
            "faulty")
    server.stop()
    say("old paths do not shadow disks that are there")


def names_and_numbers(world):
    paths, spare = world.members(3, SIZE), world.file(SIZE)
    run(CLI, "create", "--level", 5, "--spare", spare, *paths)
    server = world.serve([*paths, spare])
    uuid = server.member(2)["uuid"].upper()
    check(uuid != uuid.lower(), "a uuid with letters")
    says(order(server, "member", "fail", uuid), "faulty")
    server.wait_for_health("clean")
    name = os.fsencode(world.unique("strange")) + b"-\xff\xfe%41"
    with open(name, "wb") as file:
        file.truncate(SIZE)
    done = order(server, "member", "add", os.fsdecode(name), errors="replace")
    check(done.returncode == 0, done.stdout)
    check([member["state"] for member in server.status()["members"]].count("spare") == 1, "it is a spare")
    done = order(server, "member", "remove", os.fsdecode(name), errors="replace")
    check(done.returncode == 0, done.stdout)
    server.braid("member", "add", another := world.file(SIZE))
    server.stop()
    # Without its spare, and then without a member: one is lost.
    paths = [server.paths[0], server.paths[1], spare]
    server = world.serve(paths)
    check(another not in [member["path"] for member in server.status()["members"] if member["open"]], "not here")
    says(order(server, "status"), "health: clean")
    server.braid("member", "fail", 0)
    says(order(server, "status"), "DEGRADED: 1 member is lost")
    server.stop()
    done = try_to_serve(paths, "intent_region=100K")
    check(done.returncode != 0, "100K is no power of two")
    says(done, "intent_region=100K", "power of two", "65536 and 131072")
    refused(braid("create", "--level", 5, "--strip-size", "4K", "--size", "4100K",
                  *(world.path(f"small{index}") for index in range(3))), "is too small")
    run(CLI, "create", "--level", 5, "--strip-size", "4K", "--size", "4104K",
        *(small := [world.path(f"small{index}") for index in range(3)]))
    facts = json.loads(run(CLI, "examine", "--json", *small).stdout)
    check(facts["arrays"][0]["starts"], "what is made can be served")
    say("names and numbers are what they are elsewhere")


def without_a_socket(world):
    """A server that takes no orders advises none that could not be given."""
    paths = world.members(3, SIZE)
    run(CLI, "create", "--level", 5, *paths)
    world.serve(paths[:2]).stop()
    deaf, log = start_nbdkit(world, world.unique("nbd.sock"), [PLUGIN, *paths], env=server_environment())
    end(deaf)
    advice = f"start the server with socket=PATH, then give it back with: braid member add {paths[2]}"
    check(advice in end_of(log), end_of(log))
    server = world.serve(paths)
    check("start the server with socket=PATH" not in server.log(), server.log())
    order(server, "member", "add", paths[2])
    server.wait_for_idle()
    server.wait_for_health("clean")
    server.stop()
    say("without a socket the way out begins with one")


def orders(world):
    os.environ["LC_ALL"] = "C"
    need_tools("nbdcopy", "mkfs.ext4")
    paths_are_the_kernels(world)
    second_names(world)
    replace_looks_first(world)
    create_looks_at_the_end(world)
    data_stays_where_it_is(world)
    read_only_members(world)
    same_name(world)
    old_paths(world)
    names_and_numbers(world)
    without_a_socket(world)
    for test in (loops_on_one_file, large_sectors):
        try:
            test(world)
        except Skip as reason:
            say(f"left out {test.__name__}: {reason}")


if __name__ == "__main__":
    main(orders)
