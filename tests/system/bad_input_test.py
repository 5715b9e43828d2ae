#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Bad input at the front door: each gets an error that names the thing and the reason, nobody
crashes, and what was on the members stays on them. The rows are (what, words to find, how)."""
import os
import shutil
import socket

from braid_system import (CLI, KIB, MIB, PLUGIN, Failed, check, main, need_tools, run, say, sha256_of,
                          server_environment)

SIZE = 16 * MIB


def refused(words, expected, env=None):
    """The command ends with an error of its own, in words, before long."""
    done = run(*words, ok=None, timeout=20, env=env)
    what = " ".join(str(word) for word in words[:6])
    check(done.returncode > 0, f"{what} ...: status {done.returncode}\n{done.stdout}")
    check(done.returncode < 126, f"{what} ... crashed: {done.returncode}\n{done.stdout}")
    text = done.stdout.lower()
    for word in expected:
        check(str(word).lower() in text, f"{what} ...: nothing about '{word}' in:\n{done.stdout}")


class Front:
    def __init__(self, world):
        self.world = world
        self.paths = world.members(4, SIZE)
        world.create(self.paths, 5)
        self.other = world.members(4, SIZE)
        world.create(self.other, 5)

    def serve(self, *words):
        return ["nbdkit", "-f", "-U", self.world.unique("never.sock"), PLUGIN, *words]

    def damaged(self, count, damage):
        """Copies of the members; `damage` is done to the first `count` of them."""
        folder = self.world.unique("damaged")
        os.mkdir(folder)
        paths = [shutil.copy(path, folder) for path in self.paths]
        for path in paths[:count]:
            damage(path)
        return paths


def overwrite(begin, size):
    def damage(path):
        with open(path, "r+b") as file:
            file.seek(begin)
            file.write(os.urandom(size))
    return damage


def truncate(size):
    return lambda path: os.truncate(path, size)


def plugin_refusals(front, world):
    paths = front.paths
    directory = world.unique("directory")
    os.mkdir(directory)
    existing = world.file(0, "existing")
    rows = [
        ("no member at all", [], []),
        ("an unknown parameter", ["colour=blue", *paths], ["colour"]),
        ("a doubled parameter", [*paths, f"socket={world.path('a')}", f"socket={world.path('b')}"], ["socket"]),
        ("a bad boolean", [*paths, "readonly=perhaps"], ["perhaps"]),
        ("a volume that is not there", [*paths, "volume=nowhere"], ["nowhere"]),
        ("a member given twice", [*paths, paths[1]], [os.path.basename(paths[1])]),
        ("members of two arrays", [*paths[:2], *front.other[2:]], []),
        ("a member that is not there", [*paths[:3], world.path("absent")], ["absent", "no such file"]),
        ("a directory", [*paths[:3], directory], [directory]),
        ("too few members", paths[:2], []),
        ("an empty file", [*paths[:3], world.file(0)], []),
        ("a file that is no member", [*paths[:3], world.file(SIZE)], []),
        ("a socket path that exists", [*paths, f"socket={existing}"], [existing]),
        ("a socket path that is too long", [*paths, "socket=/tmp/" + "x" * 200], ["long"]),
        ("two corrupt superblocks", front.damaged(2, overwrite(4096, 256)), []),
        ("two truncated members", front.damaged(2, truncate(6 * MIB)), []),
        ("two members cut inside the metadata", front.damaged(2, truncate(6 * KIB)), []),
    ]
    if os.geteuid() != 0:
        unreadable = front.damaged(1, lambda path: os.chmod(path, 0))
        rows.append(("an unreadable file", unreadable, ["permission denied"]))
    for what, words, expected in rows:
        try:
            refused(front.serve(*words), expected, env=server_environment())
        except Failed as reason:
            raise Failed(f"{what}: {reason}") from None
    say(f"nbdkit: {len(rows)} mistakes refused")


def busy_members(front, world):
    server = world.serve(front.paths)
    refused(front.serve(*front.paths), ["use"], env=server_environment())
    refused([CLI, "create", "--level", 5, *front.paths], [])
    refused([CLI, "create", "--level", 5, "--force", *front.paths], [])
    server.check_alive()
    # Operators' mistakes at the control socket.
    for words in (("member", "fail", "17"), ("member", "remove", "0"), ("member", "replace", "1", "/absent"),
                  ("member", "add", world.file(MIB)), ("member", "add", front.other[0]),
                  ("member", "fail", "no-such-member"), ("scrub", "stop")):
        refused([CLI, *words, "--socket", server.control], [])
    server.fail(0)
    refused([CLI, "member", "fail", "1", "--socket", server.control], [])
    server.check_alive()
    check(server.status()["health"] == "degraded", "one member is lost, and no more")
    server.stop()
    refused([CLI, "status", "--socket", server.control], [])
    say("members in use and operators' mistakes refused")


def damaged_but_served(front, world):
    """What one lost member can make good is served."""
    before = None
    for what, count, damage in (("a corrupt superblock", 1, overwrite(4096, 256)),
                                ("a truncated member", 1, truncate(6 * MIB)),
                                ("a first slot of garbage on every member", 4, overwrite(64 * KIB, 4096))):
        paths = front.damaged(count, damage)
        try:
            server = world.serve(paths)
        except Failed as reason:
            raise Failed(f"{what}: {reason}") from None
        before = before or server.sha256()
        check(server.sha256() == before, f"{what}: the bytes changed")
        server.stop()
    say("single damaged members served around")


def create_refusals(front, world):
    size = SIZE

    def files(count, size=size):
        return world.members(count, size)

    def with_file_system():
        paths = files(4, 32 * MIB)
        run("mkfs.ext4", "-q", "-F", paths[2])
        return paths

    twice = files(3)
    rows = [
        ("level 7", ["--level", 7, *files(4)], []),
        ("no level", files(4), []),
        ("an odd strip", ["--level", 5, "--strip-size", "5000", *files(4)], []),
        ("a small strip", ["--level", 5, "--strip-size", "2K", *files(4)], []),
        ("a large strip", ["--level", 5, "--strip-size", "32M", *files(4)], []),
        ("an unknown rotation", ["--level", 5, "--layout", "sideways", *files(4)], ["sideways"]),
        ("too few members for RAID-6", ["--level", 6, *files(2)], []),
        ("one member", ["--level", 5, *files(1)], []),
        ("small members", ["--level", 5, *files(4, MIB)], []),
        ("a member twice", ["--level", 5, *twice, twice[0]], [os.path.basename(twice[0])]),
        ("a directory", ["--level", 5, *files(3), world.folder], [world.folder]),
        ("a file that is not there", ["--level", 5, *files(3), world.path("absent")], ["absent"]),
        ("an impossible size", ["--level", 5, "--size", "many", *files(3)], []),
        ("volumes larger than the array", ["--level", 5, "--volume", "a:100G", *files(4)], []),
        ("two volumes of one name", ["--level", 5, "--volume", "a:8M", "--volume", "a:8M", *files(4)], []),
        ("an array", ["--level", 5, *front.paths], []),
        ("a file system", ["--level", 5, *with_file_system()], ["ext4"]),
    ]
    for what, words, expected in rows:
        held = [word for word in words if isinstance(word, str) and os.path.isfile(word)]
        digests = [sha256_of(path) for path in held]
        try:
            refused([CLI, "create", *words], expected)
        except Failed as reason:
            raise Failed(f"create, {what}: {reason}") from None
        check([sha256_of(path) for path in held] == digests, f"create, {what}: wrote to a member")
    plan = files(4)
    digests = [sha256_of(path) for path in plan]
    run(CLI, "create", "--level", 5, "--dry-run", *plan)
    check([sha256_of(path) for path in plan] == digests, "a dry run wrote to a member")
    say(f"create: {len(rows)} mistakes refused, nothing written")


def garbage_at_the_control_socket(front, world):
    server = world.serve(front.paths)
    for text in (b"\0\1\2" * 1000, b"GET / HTTP/1.1\r\n\r\n", b"POST /v1/members HTTP/1.1\r\nContent-Length: 99999999\r\n\r\n",
                 b"DELETE /v1/%00%ff HTTP/1.1\r\nHost: x\r\n\r\n", b"GET /" + b"a" * 70000 + b" HTTP/1.1\r\n\r\n", b""):
        with socket.socket(socket.AF_UNIX) as link:
            link.settimeout(1)
            link.connect(server.control)
            try:
                link.sendall(text)
                link.recv(4096)
            except OSError:
                pass    # hanging up is a good answer as well
        server.check_alive()
    check(server.status()["health"] == "clean", "the control socket still answers")
    check(os.stat(server.control).st_mode & 0o777 == 0o600, "only its owner may use the socket")
    run("curl", "--silent", "--fail", "--unix-socket", server.control, "http://braid/v1/status")
    server.stop()
    check(not os.path.exists(server.control), "a clean stop removes the socket")
    say("garbage at the control socket did no harm")


def bad_input(world):
    need_tools("curl", "mkfs.ext4")
    front = Front(world)
    create_refusals(front, world)
    plugin_refusals(front, world)
    damaged_but_served(front, world)
    garbage_at_the_control_socket(front, world)
    busy_members(front, world)


if __name__ == "__main__":
    main(bad_input)
