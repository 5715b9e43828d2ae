#!/usr/bin/python3
# SPDX-License-Identifier: BSD-3-Clause
"""kill -9 at random moments, over and over: nothing acknowledged is lost, nothing else changes.

A client of our own (torture_writer.cpp) writes over several connections and kills nbdkit with SIGKILL
in the middle; it knows what each sector may hold afterwards. nbdkit starts again on the same members,
sometimes without one or two of them, sometimes to be killed at once, and the volume is compared; what
reads as an error must be on the list of bad rows, and on it only what cannot be known. When all
members are there, a scrub must find all parity true, and so must `braid check` after a clean stop.

Everything that is drawn comes from the seed, which is printed; the moments of the kills are what the
machine makes of them. `--seed` and the other options repeat a run.
"""
import argparse
import collections
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile

from braid_system import (BUILD, CLI, KIB, MIB, PATIENCE, PLUGIN, SANITIZE, Skip, check, main, run, say,
                          server_environment, start, wait_until)

WRITER = os.environ.get("BRAID_TORTURE_WRITER", os.path.join(BUILD, "tests", "system", "torture_writer"))
ROUNDS_OF_AN_ARRAY = 12
REGIONS = (256 * KIB, MIB, 4 * MIB, 16 * MIB)
REGIONS_IN_FIELD_MAX = 64       # the list of bad rows has a bound
RULE_NONE, RULE_TORN, RULE_TOUCHED = 0, 1, 2


class Torture:
    """One array on its way through many crashes."""

    def __init__(self, world, rng, level, folder, figures):
        self.world, self.rng, self.level, self.figures = world, rng, level, figures
        self.lost_max = 2 if level == 6 else 1
        count = rng.choice((5, 6)) if level == 6 else rng.choice((3, 4, 5))
        self.strip = rng.choice((4 * KIB, 16 * KIB, 64 * KIB))
        # The larger ones take their time to be rebuilt; the volume is small, to be compared quickly.
        self.member_size = rng.choice((16, 32, 192)) * MIB
        volume = rng.choice((8, 24, 48)) * MIB
        self.region = rng.choice(REGIONS)
        self.folder = folder
        self.paths = [self.file(f"m{index}") for index in range(count)]
        self.broken = set()             # roles that may not be in sync
        self.absent = {}                # role -> its file, which was taken away
        self.out_of_doubt = True        # nothing is in doubt
        self.lost_in_doubt = 0          # members that were lost while something was in doubt, at most
        self.left = False               # a member has, since the last verify
        self.bad_rows = 0
        self.state = world.unique("state")
        self.listed = world.unique("bad")
        volume = min(volume, (self.member_size - 6 * MIB) * (count - self.lost_max))
        world.create(self.paths, level, "--strip-size", self.strip, "--volume", f"data:{volume}")
        self.server = None
        self.serve()
        self.size = self.server.status()["volumes"][0]["size"]
        data = count - self.lost_max
        self.writer("init", "--size", self.size, "--strip", self.strip, "--data", data)
        say(f"RAID-{level} of {count} members of {self.member_size // MIB} MiB in {folder}, strips of "
            f"{self.strip // KIB} KiB, {volume // MIB} MiB of data, regions of {self.region // KIB} KiB")

    def file(self, name):
        path = os.path.join(self.folder, f"{self.world.count}-{name}")
        self.world.count += 1
        with open(path, "wb") as file:
            file.truncate(self.member_size)
        return path

    def present(self):
        return [path for role, path in enumerate(self.paths) if role not in self.absent]

    def serve(self):
        self.server = self.world.serve(self.present(), f"intent_region={self.region}", "intent=on")

    def writer(self, mode, *words):
        done = run(WRITER, mode, "--state", self.state, *words, ok=None, timeout=240)
        check(done.returncode == 0, f"torture_writer {mode} {words}: {done.stdout}")
        return json.loads(done.stdout) if done.stdout else {}

    # --- what happens between two crashes

    def note_members(self, status=None):
        """Which members are in sync is the server's word."""
        for member in (status or self.server.status())["members"]:
            if member["role"] is not None and member["state"] == "in_sync":
                self.broken.discard(member["role"])
            elif member["role"] is not None:
                self.broken.add(member["role"])

    def order(self, *words, may_say=None):
        """An order that a kill may overtake, or that may be refused for one reason."""
        done = self.server.braid(*words, ok=None)
        if done.returncode == 0 or (may_say and may_say in done.stdout):
            return
        check("hung up" in done.stdout or "no server at" in done.stdout, f"braid {words} was refused: {done.stdout}")
        wait_until(lambda: self.server.process.poll() is not None, "the killed server is gone")

    def operators(self, rng, while_writing):
        """Background work that the crash is to interrupt. Returns what to call it."""
        choice = rng.choice(("nothing", "nothing", "scrub", "region", "fail", "replace"))
        if choice == "region":
            self.region = rng.choice(REGIONS)
            if while_writing:
                self.order("intent", "--region", self.region)
            return f"regions of {self.region // KIB} KiB"
        if choice == "scrub" and while_writing and not self.broken:
            self.order("scrub", "start", may_say="scrub when it is done")
            return "a scrub"
        if choice == "fail" and while_writing and not self.broken:
            role = rng.randrange(len(self.paths))
            self.broken.add(role)
            self.lost_in_doubt = max(self.lost_in_doubt, 1)
            self.left = True
            self.order("member", "fail", role, "--force")  # also while rows are in doubt
            return f"member {role} fails"
        if choice == "replace" and not while_writing and self.broken:
            return self.give_back(rng)
        return "nothing"

    def insist(self, *words):
        """An order that would cost rows is refused first, with what it would cost, and then forced."""
        done = self.server.braid(*words, ok=None)
        if done.returncode != 0:
            check("--force" in done.stdout, f"braid {words} was refused: {done.stdout}")
            self.server.braid(*words, "--force")

    def give_back(self, rng):
        """A lost member comes back, or a new one takes its place."""
        role = rng.choice(sorted(self.broken))
        state = self.server.member(role)["state"]
        if state not in ("faulty", "missing"):
            return f"member {role} is {state}"
        old = self.absent.pop(role, None)
        if old is not None and rng.random() < 0.5:
            self.insist("member", "add", old)
            return f"member {role} comes back"
        self.paths[role] = self.file("new")
        self.insist("member", "replace", role, self.paths[role])
        return f"member {role} is replaced"

    def write(self, rng, kill):
        """Runs the writer until it has killed the server; `kill` False: until it has written."""
        field = min(self.size, REGIONS_IN_FIELD_MAX * self.region, rng.choice((self.size, self.size // 4, 2 * MIB)))
        field -= field % (64 * KIB)
        first = rng.randrange((self.size - field) // (64 * KIB) + 1) * 64 * KIB
        # Writes to single bad rows cut the list into pieces, and it has a bound.
        after = rng.choice((0, 10, 50)) if self.bad_rows else rng.choice((0, 1, 10, 200, 2000, 8000))
        if SANITIZE:
            after //= 10
        words = ["run", "--state", self.state, "--socket", self.server.socket, "--seed", rng.randrange(1 << 32),
                 "--kill", self.server.process.pid if kill else 0, "--after", after, "--first", first,
                 "--field", field, "--connections", rng.randint(1, 4), "--depth", rng.choice((1, 4, 16, 32)),
                 "--flush-every", rng.choice((5, 50, 1000)),
                 "--errors-allowed", 1 if self.bad_rows or not self.out_of_doubt else 0]
        process = start([WRITER, *words], stdout=subprocess.PIPE, text=True)
        try:
            doing = self.operators(rng, while_writing=True) if kill else "nothing"
            output = process.communicate(timeout=240 * PATIENCE)[0]
        finally:
            process.kill()
            process.wait()
        check(process.returncode == 0, f"torture_writer {words}: {output}")
        figures = json.loads(output)
        for name, value in figures.items():
            self.figures[name] += value
        return f"{figures['acknowledged']} requests, {figures['in_flight']} in flight, {doing}"

    def crash(self, rng):
        """Writes and is killed; returns what happened, and whether nothing was marked then."""
        how = rng.choice(("writing",) * 6 + ("stopping", "quiet"))
        if how == "quiet":
            wait_until(self.is_out_of_doubt, "the recovery is done", 120)
        self.lost_in_doubt = max(self.lost_in_doubt, len(self.broken))
        if how == "writing":
            told = self.write(rng, kill=True)
            self.out_of_doubt = False
            return f"killed after {told}", False
        told = self.write(rng, kill=False)
        if how == "quiet":
            # The marks are taken away by themselves once everything is flushed.
            wait_until(lambda: self.server.status()["intent"]["marks"] == 0, "no marks are left", 60)
            self.server.kill()
            return f"killed in quiet after {told}", True
        self.out_of_doubt = False
        self.server.process.terminate()
        self.linger(rng, self.server.process)
        self.server.kill()
        return f"killed while it stopped after {told}", False

    @staticmethod
    def linger(rng, process):
        """Until the process has ended, or a random moment has come."""
        try:
            process.wait(rng.uniform(0, 0.06) * PATIENCE)
        except subprocess.TimeoutExpired:
            pass

    def lose(self, rng):
        """Takes members away while nobody serves them. Returns their roles."""
        room = self.lost_max - len(self.broken)
        if room <= 0 or rng.random() < 0.5:
            return []
        here = [role for role in range(len(self.paths)) if role not in self.broken]
        roles = rng.sample(here, rng.randint(1, room))
        for role in roles:
            self.absent[role] = self.paths[role]
            self.broken.add(role)
            self.left = True
        if not self.out_of_doubt:
            self.lost_in_doubt = max(self.lost_in_doubt, len(self.broken))
        return roles

    def start_and_kill(self, rng):
        """A start that does not come to its end."""
        with open(self.world.unique("nbdkit.log"), "wb") as log:
            process = start(["nbdkit", "-f", "--exit-with-parent", "-U", self.world.unique("nbd.sock"), PLUGIN,
                             *self.present()], stdout=log, stderr=log, env=server_environment())
            self.linger(rng, process)
            process.kill()
            process.wait()

    # --- what must hold afterwards

    def is_out_of_doubt(self, status=None):
        """Recovery is done: every row is true, or known to be bad."""
        status = status or self.server.status()
        resyncs = any(task["kind"] == "resyncing" for task in status["tasks"])
        return not resyncs and not (status["recovery"] and status["recovery"]["stripes_left"])

    def rule(self):
        if self.lost_in_doubt == 0:
            return RULE_NONE
        return RULE_TORN if self.level == 6 and self.lost_in_doubt == 1 else RULE_TOUCHED

    def bad_ranges(self):
        return json.loads(self.server.braid("volume", "bad", "--json").stdout)

    def verify(self, heal):
        """Every sector holds what it may hold; bad rows are the listed ones. Recovery is done."""
        # Of two lost members' strips in one row neither can be written alone: parity cannot tell both.
        heal = heal and len(self.broken) < 2
        bad, marks = self.bad_ranges(), self.server.status()["intent"]["marks"]
        with open(self.listed, "w") as file:
            for each in bad["bad"]:
                check(each["volume"] == "data", f"bad rows of volume {each['volume']}")
                file.write(f"{each['offset']} {each['size']}\n")
        told = sum(each["size"] for each in bad["bad"])
        check(told == bad["bad_bytes"], f"{bad['bad_bytes']} bad bytes, of which {told} are listed")
        found = self.writer("verify", "--socket", self.server.socket, "--bad", self.listed, "--rule", self.rule(),
                            "--region", max(REGIONS), "--out-of-doubt", 1, "--unmarked", 0 if marks else 1, "--heal", 1 if heal else 0,
                            "--left", 1 if self.left else 0)
        self.left = False
        self.figures["bad_rows"] += max(0, found["bad_rows"] - self.bad_rows)
        self.bad_rows = found["bad_rows"] - found["healed"]
        if heal:
            left = self.bad_ranges()["bad_bytes"]
            check(left == 0, f"all bad rows were rewritten, but {left} bytes are still bad")
        self.out_of_doubt, self.lost_in_doubt = True, 0
        return found

    def verify_can_fail(self):
        """The comparison is worth something: it does not agree with just anything."""
        state = self.world.unique("state")
        data = len(self.paths) - self.lost_max
        run(WRITER, "init", "--state", state, "--size", self.size, "--strip", self.strip, "--data", data)
        done = run(WRITER, "verify", "--state", state, "--socket", self.server.socket, "--bad", self.listed, ok=False)
        check("holds write" in done.stdout, f"a state that knows of no writes: {done.stdout}")

    def look(self):
        """At what it does just after the start. Whether it is in the middle of a recovery."""
        status = self.server.status()
        self.note_members(status)
        if any(member["state"] == "rebuilding" for member in status["members"]):
            self.figures["seen_in_rebuild"] += 1
        recovers = bool(status["recovery"] and status["recovery"]["stripes_left"])
        self.figures["seen_in_recovery"] += recovers
        return recovers

    def check_array(self, rng, heal=True):
        """Waits for the recovery and compares everything."""
        wait_until(self.is_out_of_doubt, "the recovery is done", 120)
        self.server.check_alive()
        status = self.server.status()
        if status["recovery"]:
            self.figures["rows_wrong"] += status["recovery"]["rows_wrong"]
        found = self.verify(heal)
        self.note_members()
        if not self.broken:
            self.server.check_scrub_is_clean()
        return found

    def check_offline(self):
        """A clean stop, and then `braid check` has to agree."""
        self.server.wait_for_idle()
        self.stop_and_check()
        self.serve()

    def stop_and_check(self):
        bad = self.bad_ranges()["bad_bytes"]
        self.server.stop()
        done = run(CLI, "check", *self.present(), ok=None)
        # Parity is true in any case; rows that cannot be known are told of by text and status.
        check(done.returncode == (1 if bad else 0) and "all parity was true" in done.stdout
              and ("cannot be known" in done.stdout) == (bad > 0),
              f"braid check: status {done.returncode} with {bad} bad bytes\n{done.stdout}")
        self.figures["checks"] += 1

    def round(self, number):
        rng = random.Random(self.rng.getrandbits(64))
        self.figures["rounds"] += 1
        before = self.operators(rng, while_writing=False)
        how, quiet = self.crash(rng)
        lost = self.lose(rng)
        if rng.random() < 0.2:
            self.start_and_kill(rng)
            how += ", and again when it started"
        self.serve()
        if self.look() and rng.random() < 0.5:
            self.server.kill()
            self.serve()
            self.look()
            how += ", and again when it recovered"
        text = f"{number}: {how}"
        if before != "nothing":
            text += f" (before: {before})"
        if lost:
            text += f"; without {' and '.join(map(str, lost))}"
            self.figures["rounds_with_loss"] += 1
        if rng.random() < 0.25:
            say(text + "; on with it")
            return
        if quiet:
            recovery = self.server.status()["recovery"]
            check(not recovery or recovery["stripes"] == 0, f"nothing was marked, but there was {recovery}")
        found = self.check_array(rng, heal=rng.random() < 0.7)
        if found["bad_rows"]:
            text += f"; {found['bad_rows']} bad rows"
        if self.broken and rng.random() < 0.7:
            text += "; " + self.give_back(rng)
            if rng.random() < 0.6:
                self.server.wait_for_idle()
                self.note_members()
        if not self.broken and rng.random() < 0.3:
            self.check_offline()
            text += "; braid check agrees"
        say(text)

    def finish(self):
        """All members come back, all is healed, and the array is stopped cleanly."""
        wait_until(self.is_out_of_doubt, "the recovery is done", 120)
        self.verify(heal=True)
        self.note_members()
        while self.broken:
            self.give_back(self.rng)
            self.server.wait_for_idle()
            self.note_members()
        self.verify(heal=True)          # what could not be, with two members lost
        self.server.wait_for_health("clean")
        self.server.check_scrub_is_clean()
        self.verify(heal=False)
        check(self.bad_rows == 0, f"{self.bad_rows} rows are bad though all members are there and all was written anew")
        self.verify_can_fail()
        self.stop_and_check()
        for path in {*self.paths, *self.absent.values()}:
            os.unlink(path)


def torture(world, options):
    if not os.path.exists(WRITER):
        raise Skip("torture_writer was not built: it needs libnbd-dev")
    say(f"replay: tests/system/torture_test.py --seed {options.seed} --rounds {options.rounds}"
        + (f" --level {options.level}" if options.level else "") + (f" --disk {options.disk}" if options.disk else ""))
    rng = random.Random(options.seed)
    figures = collections.Counter()
    disk = None
    if options.disk:
        os.makedirs(options.disk, exist_ok=True)
        disk = tempfile.mkdtemp(prefix="braid-torture.", dir=options.disk)
        world.undo.callback(shutil.rmtree, disk, ignore_errors=True)
    left, arrays = options.rounds, 0
    while left > 0:
        level = options.level or rng.choice((4, 5, 5, 6, 6))
        arrays += 1
        folder = disk if disk and arrays % 3 == 0 else world.folder
        array = Torture(world, random.Random(rng.getrandbits(64)), level, folder, figures)
        for _ in range(min(left, ROUNDS_OF_AN_ARRAY)):
            array.round(figures["rounds"] + 1)
        left -= ROUNDS_OF_AN_ARRAY
        array.finish()
    say(f"{arrays} arrays: " + ", ".join(f"{name} {value}" for name, value in figures.items()))
    if options.json:
        with open(options.json, "w") as file:
            json.dump({"seed": options.seed, "arrays": arrays, **figures}, file, indent=1)


def parse():
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument("--level", type=int, choices=(4, 5, 6), help="of all arrays (drawn)")
    parser.add_argument("--disk", metavar="FOLDER", help="every third array lies there, the others on tmpfs")
    parser.add_argument("--json", metavar="FILE", help="writes the figures there")
    return parser.parse_args()


if __name__ == "__main__":
    main(torture, parse())
