# SPDX-License-Identifier: BSD-3-Clause
"""What the benches over NBD share: an nbdkit of their own, and fio against it."""
import json
import os
import subprocess
import sys
import time

TICKS = os.sysconf("SC_CLK_TCK")


class Server:
    def __init__(self, folder, name, words, level=None):
        self.name, self.level = name, level
        self.socket, self.control = f"{folder}/{name}.sock", f"{folder}/{name}.control"
        pid_file = f"{folder}/{name}.pid"
        for path in (self.socket, pid_file):    # of one that was killed
            if os.path.exists(path):
                os.unlink(path)
        control = [f"socket={self.control}"] if level else []
        self.log = open(f"{folder}/{name}.log", "wb")
        self.process = subprocess.Popen(
            ["nbdkit", "-f", "--exit-with-parent", "-U", self.socket, "-P", pid_file, *words, *control],
            stdout=self.log, stderr=self.log)
        while not os.path.exists(pid_file):
            if self.process.poll() is not None:
                sys.exit(f"nbdkit for {name} ended:\n{open(self.log.name).read()}")
            time.sleep(0.01)

    def cpu_seconds(self):
        with open(f"/proc/{self.process.pid}/stat") as text:
            fields = text.read().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def start_fio(self, options, seconds, size):
        return start_fio([(self, options)], seconds, size)

    def fio(self, options, seconds, size):
        return fio([(self, options)], seconds, size, [self])[0]

    def fill(self, size):
        subprocess.run(["fio", "--name=fill", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={self.socket}",
                        "--rw=write", "--bs=1m", "--iodepth=8", f"--size={size}", "--thread"],
                       check=True, stdout=subprocess.DEVNULL, cwd=os.path.dirname(self.socket))

    def stop(self):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def start_fio(jobs, seconds, size):
    """One fio for all `jobs`, which are servers with options for fio: they begin together."""
    words = ["fio", "--name=global", "--ioengine=nbd", "--thread", f"--size={size}", "--time_based",
             f"--runtime={round(seconds * 1000)}ms", "--randrepeat=0", "--norandommap", "--group_reporting",
             "--output-format=json"]
    for server, options in jobs:
        words += [f"--name={server.name}", "--new_group", f"--uri=nbd+unix:///?socket={server.socket}",
                  *options.split()]
    return subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
                            cwd=os.path.dirname(jobs[0][0].socket))


def fio(jobs, seconds, size, servers):
    """What came of each job; the CPU time is that of all `servers`, for each operation of all jobs."""
    before = sum(server.cpu_seconds() for server in servers)
    process = start_fio(jobs, seconds, size)
    try:
        output, errors = process.communicate()
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
    if process.returncode != 0:
        sys.exit(f"fio failed on {', '.join(server.name for server, _ in jobs)}:\n{output}\n{errors}")
    used = sum(server.cpu_seconds() for server in servers) - before
    sides = [job["write" if "write" in options else "read"]
             for job, (_, options) in zip(json.loads(output[output.index("{"):])["jobs"], jobs, strict=True)]
    cpu_us = used * 1e6 / max(sum(side["total_ios"] for side in sides), 1)
    return [{"iops": side["iops"], "mib": side["bw_bytes"] / (1 << 20), "latency_us": side["clat_ns"]["mean"] / 1000,
             "cpu_us": cpu_us} for side in sides]
