#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""The server's memory is bounded, as it says itself, and does not grow under load: after a first
while its resident size stays what it is, whole and degraded. BRAID_LONG=1 makes it half an hour."""
from braid_system import LONG, MIB, SANITIZE, Fio, check, main, need_tools, say

SECONDS = 900 if LONG else 8


def load(server, seconds):
    # Writes and reads of all sizes; nothing is verified here, so that it is as much as can be.
    Fio(server, "--verify=0", "--rw=randrw", "--bsrange=1-512k", "--ba=1", "--norandommap",
        "--time_based", f"--runtime={seconds}", size=128 * MIB).wait(seconds + 60)
    return server.memory()


def memory(world):
    need_tools("fio")
    server = world.array(6, 6, 48 * MIB)
    first = load(server, 5)
    for what in ("clean", "degraded"):
        last = load(server, SECONDS)
        say(f"{what}: {first // MIB} MiB resident at first, {last // MIB} MiB after {SECONDS} s more")
        # A sanitizer keeps what was freed for a while.
        check(last - first < (400 if SANITIZE else 16) * MIB, "the server's memory grows")
        status = server.status()
        check(status["memory_bytes"] <= status["memory_bytes_max"] > 0, "its own figure has a bound")
        if what == "clean":
            server.fail(3)
            first = load(server, 3)
    check("memory" in server.braid("status").stdout.lower(), "status tells of memory")
    server.stop()


if __name__ == "__main__":
    main(memory)
