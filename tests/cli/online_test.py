#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The commands that ask a running server, as a person uses them, and `braid check`."""
import contextlib
import json
import os
import pty
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import nbd
from braid_system import CLI, MIB, PATIENCE, PLUGIN, SANITIZE, check, main, run, say, start, wait_until

SIZE = 32 * MIB


def says(done, *words):
    for word in words:
        check(word in done.stdout, f"nothing of '{word}' in:\n{done.stdout}")
    check("\x1b" not in done.stdout, "colours although it is no terminal")
    return done.stdout


def refused(done, *words):
    check(0 < done.returncode < 126, f"status {done.returncode}:\n{done.stdout}")
    return says(done, *words)


def braid(*words, **options):
    return run(CLI, *words, ok=None, **options)


def no_server(world):
    refused(braid("status", env={key: value for key, value in os.environ.items() if key != "BRAID_SOCKET"}),
            "which server?", "BRAID_SOCKET")
    refused(braid("status", "--socket", world.path("absent")), "no server at", "socket=")
    refused(braid("status", "--socket", world.file(1)), "is not a socket")
    refused(braid("status", "--socket", "/tmp/" + "x" * 200), "too long")
    dead = world.unique("dead")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(dead)
    refused(braid("status", "--socket", dead), "nobody listens")
    refused(braid("status", "--socket", world.path("absent"), "--wathc"), "wathc")
    # Something else that answers, and something that hangs up.
    for answer, words in ((b"HTTP/1.0 200 OK\r\n\r\nhello", "is no braid server"), (b"", "hung up")):
        other = world.unique("other")
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(other)
            listener.listen()
            client = start([CLI, "status", "--socket", other], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            link = listener.accept()[0]
            link.recv(1000)
            link.sendall(answer)
            link.close()
            if not answer:
                listener.accept()[0].close()    # it looks why
            text = client.communicate(timeout=20 * PATIENCE)[0].decode()
            check(words in text and client.returncode == 1, text)
    say("what is no server is told from one")


def pictures(server):
    says(server.braid("status"), "RAID-6, 6 members", "health: clean", "   5  ", "volumes  data", "memory", "events")
    environment = dict(os.environ, BRAID_SOCKET=server.control)
    says(run(CLI, "status", env=environment), "health: clean")
    says(server.braid("volume", "list"), "data")
    check(json.loads(server.braid("volume", "list", "--json").stdout)["volumes"][0]["name"] == "data", "volume list")
    says(server.braid("rebuild"), "nothing to rebuild")
    says(server.braid("scrub", "status"), "no scrub runs")


def members(world, server):
    refused(server.braid("member", "fail", "17", ok=None), "no member \"17\"", server.paths[3])
    refused(server.braid("member", "remove", "0", ok=None))
    refused(server.braid("member", "replace", "1", world.path("absent"), ok=None), "No such file")
    refused(server.braid("member", "add", server.paths[0], ok=None), "member of this array already")
    refused(server.braid("member", "add", world.folder, ok=None), "directory")
    refused(server.braid("scrub", "stop", ok=None), "scrub")
    # By path, and by a path from elsewhere.
    says(server.braid("member", "fail", server.paths[1]), "faulty")
    says(server.braid("member", "fail", os.path.basename(server.paths[2]), cwd=os.path.dirname(server.paths[2])),
         "faulty")
    says(server.braid("status"), "DEGRADED: 2 members are lost", "xxxx")
    refused(server.braid("member", "fail", "0", ok=None))
    new = world.file(SIZE, "new")
    says(server.braid("member", "replace", "1", os.path.basename(new), cwd=os.path.dirname(new)), "takes the place")
    done = server.braid("rebuild", "--wait", ok=None)
    check(done.returncode == 1, f"a member is still lost, but: {done.stdout}")
    says(done, "a member is lost")
    server.braid("member", "add", world.file(SIZE, "spare"))
    says(server.braid("rebuild", "--wait"), "all members are in sync")
    says(server.braid("status"), "health: clean")
    uuid = server.member(4)["uuid"]
    server.braid("member", "fail", uuid)
    check(server.member(4)["state"] == "faulty", "fail by uuid")
    server.replace(4)
    server.braid("rebuild", "--wait")
    say("members fail and are replaced")


def intent(server):
    """Settings are shown, changed, refused, and kept; a hindrance is told."""
    says(server.braid("intent"), "intent ", "marks ", "records ", "flushes ")
    says(server.braid("status"), "intent ")
    says(server.braid("intent", "off"), "intent   off")
    check(server.status()["intent"]["on"] is False, "intent off")
    says(server.braid("intent", "on", "--region", "1M"), "intent   on", "each of 1 MiB")
    kept = json.loads(server.braid("intent", "--json").stdout)
    check(kept["intent"]["on"] and kept["intent"]["region"] == MIB, f"intent --json: {kept}")
    check(kept["recovery"] is None, "there was nothing to recover")
    refused(server.braid("intent", "--region", "1", ok=None), "64K to 1T")
    refused(server.braid("intent", "--region", "lots", ok=None), "is not a size")
    check(refused_status(server.braid("intent", "maybe", ok=None)) == 2, "on, off or nothing")
    check(server.status()["intent"]["region"] == MIB, "what was refused changed nothing")
    says(server.braid("volume", "bad"), "every byte can be read")
    none = json.loads(server.braid("volume", "bad", "--json").stdout)
    check(none["bad"] == [] and none["bad_bytes"] == 0, f"volume bad --json: {none}")
    say("the write intent is shown and changed")


def refused_status(done):
    refused(done)
    return done.returncode


def scrubs(server):
    says(server.braid("scrub", "start", "--wait"), "all parity was true")
    with open(server.status()["members"][2]["path"], "r+b") as file:
        file.seek(8 * MIB)
        file.write(os.urandom(4096))
    done = server.braid("scrub", "start", "--wait", ok=None)
    check(done.returncode == 1, f"a row is wrong, and the status is {done.returncode}: {done.stdout}")
    says(done, "1 rows were wrong, 0 of them repaired")
    says(server.braid("scrub", "start", "--repair", "--wait"), "1 rows were wrong, 1 of them repaired")
    says(server.braid("scrub", "start", "--wait"), "all parity was true")
    says(server.braid("scrub", "status"), "the last one")
    check(json.loads(server.braid("scrub", "status", "--json").stdout)["running"] is None, "no scrub runs")


def watching(world, server):
    """Events come as they happen, into a pipe and onto a terminal."""
    log = world.unique("watch")
    with open(log, "wb") as file:
        pipe = start([CLI, "status", "--watch", "--socket", server.control], stdout=file, stderr=file)
    lines = start([CLI, "status", "--watch", "--json", "--socket", server.control], stdout=subprocess.PIPE)
    first = json.loads(lines.stdout.readline())
    check(first["health"] == "clean", "the first line of JSON")
    master, slave = pty.openpty()
    terminal = start([CLI, "status", "--watch", "--socket", server.control], stdout=slave, stderr=slave)
    os.close(slave)
    shown = bytearray()
    states = [first["health"]]

    def read_terminal():
        with contextlib.suppress(OSError):
            while True:
                shown.extend(os.read(master, 65536))

    readers = [threading.Thread(target=read_terminal, daemon=True),
               threading.Thread(target=lambda: states.extend(json.loads(line)["health"] for line in lines.stdout),
                                daemon=True)]
    for reader in readers:
        reader.start()

    def terminal_shows(text):
        return text in shown

    wait_until(lambda: terminal_shows(b"health"), "the terminal shows the array")
    wait_until(lambda: b"health: clean" in open(log, "rb").read(), "the pipe gets the picture")
    begin = time.monotonic()
    server.fail(3)
    wait_until(lambda: terminal_shows(b"DEGRADED"), "the terminal shows it")
    wait_until(lambda: b"member 3" in open(log, "rb").read(), "the pipe gets the event")
    took = time.monotonic() - begin
    check(took < 3 * PATIENCE, f"events came after {took:.1f} s")
    wait_until(lambda: "degraded" in states, "the lines of JSON tell it")
    check(b"\x1b[H" in shown and b"\x1b[" in shown, "a terminal is drawn over")
    server.replace(3)
    server.braid("rebuild", "--wait")
    server.stop()
    for process in (pipe, lines, terminal):
        check(process.wait(20 * PATIENCE) == 1, "--watch ends with the server")
    with open(log) as text:
        check("the server has ended" in text.read(), "and says why")
    for reader in readers:
        reader.join()
    lines.stdout.close()
    os.close(master)
    say("--watch shows events as they come")


def offline(world, paths):
    def damage(index, offset):
        with open(paths[index], "r+b") as file:
            file.seek(offset)
            file.write(os.urandom(4096))

    def checked(status, *words):
        done = braid("check", *words, *paths)
        check(done.returncode == status, f"check {words}: status {done.returncode}, not {status}:\n{done.stdout}")
        return done

    says(checked(0), "all parity was true")
    damage(2, 8 * MIB)
    damage(4, 12 * MIB)
    before = [os.stat(path).st_mtime_ns for path in paths]
    says(checked(1), "2 rows were wrong", "--repair")
    check([os.stat(path).st_mtime_ns for path in paths] == before, "check without --repair wrote")
    says(checked(1, "--repair"), "2 rows were wrong, 2 of them repaired")
    says(checked(0), "all parity was true")
    done = braid("check", "--repair", *paths[1:])
    check(done.returncode == 2 and "member 0" in done.stdout, f"a member forgotten: {done.stdout}")
    checked(0)   # it did not become a stranger
    done = braid("check", *paths[:2])
    check(done.returncode == 2, f"too few members: {done.returncode}\n{done.stdout}")
    check(braid("check", world.path("absent")).returncode == 2, "no such file")
    server = world.serve(paths)
    done = braid("check", *paths)
    check(done.returncode == 2 and "in use" in done.stdout, f"a served array: {done.stdout}")
    server.stop()
    say("check finds, repairs and refuses")


def unclean(world):
    """A check of an array that was killed while it was written."""
    server = world.array(5, 4, SIZE)
    handle = nbd.NBD()
    handle.connect_uri(server.uri)
    handle.pwrite(os.urandom(16 * MIB), 0)    # its marks are not taken away at once
    server.kill()
    done = braid("check", *server.paths)
    check(done.returncode == 2, f"nothing may be written: {done.stdout}")
    says(done, "braid check --repair")
    check("made true again" not in done.stdout, "nothing is made true without --repair")
    readonly = world.serve(server.paths, "readonly=true")
    says(readonly.braid("status"), "read only", "intent   at rest")
    check(readonly.status()["in_doubt"] and readonly.status()["intent"]["on"], "in doubt, and the intent is on")
    says(readonly.braid("status"), "health: clean; parity of", "in doubt", "the resync waits: ", "reading only")
    done = readonly.braid("rebuild", "--wait", ok=None)
    check(done.returncode == 1, f"parity is in doubt, and nothing makes it true: {done.stdout}")
    says(done, "the resync waits: ", "reading only")
    check("made true again" not in readonly.log() and "stays so" in readonly.log(), readonly.log())
    readonly.stop()
    done = braid("check", "--repair", *server.paths)
    check(done.returncode in (0, 1), f"check --repair of an unclean array: {done.stdout}")
    says(done, "all parity was true")
    says(braid("check", *server.paths), "all parity was true")
    say("check --repair makes an unclean array true first")


def many_mismatches(world):
    """More than anybody would list one by one: all are named, neighbours together."""
    paths = world.members(4, SIZE)
    world.create(paths, 5, "--volume", "one:10M", "--volume", "two:10M")
    strip = 64 << 10
    with open(paths[1], "r+b") as file:
        for stripe in range(0, 100, 2):
            file.seek(4 * MIB + stripe * strip + 8192)
            file.write(os.urandom(8192))
    done = braid("check", *paths)
    check(done.returncode == 1, done.stdout)
    lines = [line for line in done.stdout.splitlines() if line.startswith("volume ")]
    check(len(lines) == 50, f"{len(lines)} of 50 places are named:\n{done.stdout}")
    # Stripe 98 is stripe 44 of volume two, whose first is stripe 54; stripes are of 192 KiB.
    first = 44 * 3 * strip + 8192
    ranges = ", ".join(f"{at} to {at + 8191}" for at in range(first, first + 3 * strip, strip))
    says(done, f"volume two, bytes {ranges}: ", "stripe 98, bytes 8192 to 16383 of its strips", "100 rows were wrong")
    say("every mismatch is named as bytes of a volume")


def crowd(world):
    server = world.array(5, 3, SIZE)
    links = []
    for _ in range(40):
        link = socket.socket(socket.AF_UNIX)
        link.connect(server.control)
        link.sendall(b"GET /v1/events?wait=60 HTTP/1.1\r\nHost: braid\r\n\r\n")
        links.append(link)
    refused(wait_until(lambda: next((done for done in [server.braid("status", ok=None)] if done.returncode), None),
                       "a command too many"), "32 connections are open already")
    for link in links:
        link.close()
    wait_until(lambda: server.braid("status", ok=None).returncode == 0, "the others are gone")
    server.stop()
    say("a connection too many gets an answer")


def locked_memory(world):
    """Without root's privileges, and with no memory that may be locked."""
    if os.geteuid() != 0 or SANITIZE:    # a sanitizer's preloaded library does not get through setpriv
        return
    paths = world.members(3, SIZE)
    world.create(paths, 5)
    for path in [world.folder, os.path.dirname(paths[0]), *paths]:
        os.chmod(path, 0o777)
    folder = os.path.join(os.path.dirname(paths[0]), "sockets")
    os.mkdir(folder)
    os.chmod(folder, 0o777)
    done = run("prlimit", "--memlock=65536:65536", "setpriv", "--reuid=65534", "--regid=65534", "--clear-groups",
               "--inh-caps=-all", "--bounding-set=-all", "nbdkit", "-f", "-U", os.path.join(folder, "nbd"), PLUGIN,
               *paths, "--run", "nbdinfo $uri", ok=None)
    check("io_uring_disabled" not in done.stdout, f"the wrong reason: {done.stdout}")
    check("RLIMIT_MEMLOCK is 64 KiB" in done.stdout, f"nothing of the limit: {done.stdout}")
    say("too little memory that may be locked is told as that")


def online(world):
    os.environ["LC_ALL"] = "C"   # bars of plain characters
    no_server(world)
    server = world.array(6, 6, SIZE)
    pictures(server)
    members(world, server)
    scrubs(server)
    intent(server)
    watching(world, server)
    paths = world.members(6, SIZE)
    world.create(paths, 6)
    offline(world, paths)
    unclean(world)
    many_mismatches(world)
    crowd(world)
    locked_memory(world)


if __name__ == "__main__":
    main(online)
