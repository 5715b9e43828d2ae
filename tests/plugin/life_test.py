#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server's life: how it starts, in the background as well, what it refuses and in which words,
and that it stops cleanly, with clients that idle, that work, and that read no replies."""
import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "system"))
import nbd
from braid_system import (CLI, MIB, PATIENCE, PLUGIN, SANITIZE, check, main, run, say, server_environment, start,
                          wait_until)

SIZE = 16 * MIB


def connect(server):
    client = nbd.NBD()
    client.connect_unix(server.socket)
    return client


def check_clean(world, paths):
    """The members say of themselves that they were stopped cleanly: the next start says nothing else."""
    server = world.serve(paths)
    log = server.log().lower()
    for word in ("unclean", "not stopped", "resync", "crash"):
        check(word not in log, f"a clean stop left traces:\n{log}")
    check(not server.walks(), "something has to be made good after a clean stop")
    server.stop()


def stop_quickly(server, seconds=20):
    begin = time.monotonic()
    server.stop()
    took = time.monotonic() - begin
    check(took < seconds * PATIENCE, f"the stop took {took:.1f} s")
    check(not os.path.exists(server.control), "the control socket is still there")


def refusals(world, paths):
    other = world.members(4, SIZE)
    link, hard = world.path("symbolic"), os.path.join(os.path.dirname(paths[0]), "hard")
    os.symlink(paths[1], link)
    os.link(paths[1], hard)
    for what, words, expected in (
            ("help", ["help"], None),
            ("misspelt", [*paths, "sokcet=x"], 'did you mean "socket"'),
            ("no such parameter", [*paths, "colour=x"], "the parameters are member, socket"),
            ("twice", [*paths, "volume=a", "volume=b"], "volume= is given twice"),
            ("a link", [*paths, link], "one and the same file"),
            ("a hard link", [*paths, hard], "one and the same file"),
            ("no such volume", [*paths, "volume=x"], "no such volume; it has data"),
            ("an empty file", [world.file(0)], "is empty"),
            ("no array", other, ""),
            ("a busy socket", [*paths, f"socket={world.file(0, 'plain')}"], "there is a file of this name"),
            ("a long socket", [*paths, "socket=/tmp/" + "s" * 150], "the kernel takes 107"),
            ("a folder that is not there", [*paths, "socket=/no/such/folder/s"], "No such file"),
    ):
        done = run("nbdkit", "-U", world.unique("sock"), PLUGIN, *words, ok=None, env=server_environment())
        if expected is None:
            check(done.returncode == 0 and "socket=PATH" in done.stdout, f"{what}: {done.stdout}")
        else:
            check(done.returncode == 1 and expected in done.stdout,
                  f"{what}: status {done.returncode}, not '{expected}' but\n{done.stdout}")
    environment = dict(server_environment() or os.environ, BRAID_KERNEL="no-such-kernel")
    done = run("nbdkit", "-U", world.unique("sock"), PLUGIN, *paths, ok=None, env=environment)
    check(done.returncode == 1 and "BRAID_KERNEL" in done.stdout, f"BRAID_KERNEL: {done.stdout}")
    os.unlink(hard)
    say("mistakes are refused in words that help")


def dump(_world):
    text = run("nbdkit", "--dump-plugin", PLUGIN, env=server_environment()).stdout
    for word in ("name=braid", "braid_version=", "braid_kernel=", "braid_kernels_usable=", "braid_io_uring=",
                 "max_thread_model=parallel", "magic_config_key=member"):
        check(word in text, f"--dump-plugin says nothing of {word}\n{text}")


def background(world, paths):
    """Without -f: errors reach the terminal before the fork, and relative paths stay right."""
    name, pid_file = world.unique("nbd.sock"), world.unique("pid")
    folder = os.path.dirname(paths[0])
    run("nbdkit", "-U", name, "-P", pid_file, PLUGIN, *map(os.path.basename, paths), "socket=relative.sock",
        cwd=folder, env=server_environment())
    wait_until(lambda: os.path.exists(pid_file) and os.path.getsize(pid_file) > 0, "the pid file is written")
    with open(pid_file) as text:
        pid = int(text.read())
    try:
        run(CLI, "status", "--socket", os.path.join(folder, "relative.sock"))
        run("nbdinfo", f"nbd+unix:///?socket={name}")
    finally:
        os.kill(pid, signal.SIGTERM)
        wait_until(lambda: not os.path.exists(f"/proc/{pid}"), "the server in the background ends")
    check(not os.path.exists(os.path.join(folder, "relative.sock")), "the socket is still there")
    check_clean(world, paths)
    say("in the background it works as well")


def idle_clients(world, paths):
    server = world.serve(paths)
    clients = [connect(server) for _ in range(3)]
    clients[0].pwrite(b"x" * 5000, 0)
    stop_quickly(server)
    check_clean(world, paths)
    say("stops although clients are connected")


def working_clients(world, paths):
    """Each write that was answered must be there afterwards."""
    server = world.serve(paths)
    answered = {}

    def work(number):
        client = connect(server)
        count = 0
        while True:
            count += 1
            try:
                client.pwrite(count.to_bytes(8, "little") * 512, number * MIB)
            except nbd.Error:
                return
            answered[number] = count

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    wait_until(lambda: len(answered) == 4 and min(answered.values()) > 20, "the clients work")
    stop_quickly(server)
    for worker in workers:
        worker.join()
    check_clean(world, paths)
    server = world.serve(paths)
    client = connect(server)
    for number, count in answered.items():
        found = int.from_bytes(client.pread(8, number * MIB), "little")
        check(found in (count, count + 1), f"write {count} was answered, {found} is there")
    client.shutdown()
    server.stop()
    say("stops under load, and what was answered is there")


def greedy_client(server):
    """Asks for 64 times 1 MiB and reads nothing of it."""
    link = socket.socket(socket.AF_UNIX)
    link.connect(server.socket)
    link.recv(18)                                       # NBDMAGIC IHAVEOPT flags
    link.sendall((3).to_bytes(4, "big"))                # fixed newstyle, no zeroes
    link.sendall(b"IHAVEOPT" + (1).to_bytes(4, "big") + (0).to_bytes(4, "big"))  # EXPORT_NAME ""
    link.recv(10)
    for cookie in range(64):
        link.sendall(bytes.fromhex("25609513") + bytes(4) + cookie.to_bytes(8, "big") + bytes(8) +
                     MIB.to_bytes(4, "big"))
    return link


def deaf_client(world, paths):
    server = world.serve(paths)
    link = greedy_client(server)
    time.sleep(0.5)
    stop_quickly(server)
    link.close()
    check_clean(world, paths)
    say("stops although a client reads no replies")


def vanished_reader(world, paths):
    """nbdkit 1.32 fails an assertion here; plugin/assertion_guard.h tells of it."""
    server = world.serve(paths)
    for _ in range(3):
        link = greedy_client(server)
        time.sleep(0.2)
        link.close()
        time.sleep(0.2)
        server.check_alive()
    survivor = connect(server)
    survivor.pwrite(b"s" * 4096, 0)
    check(survivor.pread(4096, 0) == b"s" * 4096, "the others go on")
    survivor.shutdown()
    stop_quickly(server)
    check_clean(world, paths)
    say("a reader that vanishes takes nobody with it")


def killed_client(world, paths):
    """A client dies in the middle of writes: nobody else minds, and parity is true."""
    server = world.serve(paths)
    program = ("import nbd, sys; c = nbd.NBD(); c.connect_unix(sys.argv[1]); print('up', flush=True)\n"
               "while True:\n"
               "    for i in range(16): c.aio_pwrite(nbd.Buffer.from_bytearray(bytearray(b'k' * 300001)), i * 400000)\n"
               "    c.poll(100)\n")
    for _ in range(4):
        client = start([sys.executable, "-c", program, server.socket], stdout=subprocess.PIPE)
        client.stdout.readline()
        time.sleep(0.1)
        client.kill()
        client.wait()
        client.stdout.close()
        server.check_alive()
    survivor = connect(server)
    survivor.pwrite(b"s" * 4096, 0)
    check(survivor.pread(4096, 0) == b"s" * 4096, "the others go on")
    server.check_scrub_is_clean()
    stop_quickly(server)
    say("killed clients do no harm")


def free(path):
    with open(path, "rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except OSError:
            return False


def left_behind_socket(world, paths):
    server = world.serve(paths)
    control = server.control
    server.kill()
    check(os.path.exists(control), "kill -9 leaves the socket behind")
    wait_until(lambda: free(paths[0]), "the kernel takes down the killed server's io_uring, and its locks")
    run("nbdkit", "-U", "-", PLUGIN, *paths, f"socket={control}", "--run", f"{CLI} status --socket {control}",
        env=server_environment())
    check(not os.path.exists(control), "the socket is removed after a clean stop")
    say("a dead server's socket is replaced")


def life(world):
    paths = world.members(4, SIZE)
    world.create(paths, 5)
    dump(world)
    if not SANITIZE:    # with its library preloaded even `nbdkit file /absent` waits for ever in exit()
        refusals(world, paths)
    background(world, paths)
    idle_clients(world, paths)
    working_clients(world, paths)
    deaf_client(world, paths)
    if SANITIZE != "thread":    # which rightly calls the sleeping threads leaks
        vanished_reader(world, paths)
    killed_client(world, paths)
    if not SANITIZE:    # LD_PRELOAD would reach the shell of --run
        left_behind_socket(world, paths)


if __name__ == "__main__":
    main(life)
