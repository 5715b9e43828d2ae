#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""Does the simulator find bugs? braid-sim-mutants has deliberate ones (engine/base/mutation.h); each
of those below must be found, as wrong data and not by luck of a crash of the simulator itself, by
seeds from 1 on (or FIRST_SEED) within its budget; and without any the same seeds must pass."""
import os
import subprocess
import sys
import time

BUDGET_SECONDS = 120  # of each; an idle machine needs some seconds in all
FOUND = 2             # wrong data
FOUND_CRASH = 1       # an assertion of the engine
FOUND_STUCK = 3       # it does not settle

MUST_BE_FOUND = [
    "intent-not-awaited", "intent-not-durable", "clean-before-flush", "doubt-forgotten",
    "degraded-trusts-doubt", "bad-rows-not-kept", "row-lock-dropped-early", "parity-not-written",
    "stale-member-accepted", "flush-skips-member", "resync-skips-last",
]
# Rare crossings: not from seed 1 on, so that a run is short.
FIRST_SEED = {"doubt-forgotten": 70}


def run(program, mutation, count, seconds):
    begin = time.monotonic()
    try:
        done = subprocess.run([program, "--mutation", mutation, "--seed",
                               str(FIRST_SEED.get(mutation, 1)), "--count", str(count)],
                              stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=seconds,
                              check=False)
        return done.returncode, done.stdout.decode(errors="replace"), time.monotonic() - begin
    except subprocess.TimeoutExpired:
        return None, "", time.monotonic() - begin


def main():
    program = os.environ["BRAID_SIM_MUTANTS"]
    failed = []
    code, output, seconds = run(program, "none", 8, 5 * BUDGET_SECONDS)
    print(f"none: exit code {code} after {seconds:.1f} s")
    if code != 0:
        print(output[-4000:])
        failed.append("none")
    for mutation in MUST_BE_FOUND:
        code, output, seconds = run(program, mutation, 1000, BUDGET_SECONDS)
        found = code in (FOUND, FOUND_CRASH, FOUND_STUCK)
        print(f"{mutation}: {'found' if found else 'NOT FOUND'}, exit code {code}, {seconds:.1f} s",
              flush=True)
        if not found:
            failed.append(mutation)
    if failed:
        print("failed:", ", ".join(failed))
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
