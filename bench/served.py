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
        return subprocess.Popen(
            ["fio", "--name=bench", "--ioengine=nbd", f"--uri=nbd+unix:///?socket={self.socket}", "--thread",
             f"--size={size}", "--time_based", f"--runtime={round(seconds * 1000)}ms", "--randrepeat=0", "--norandommap",
             "--group_reporting", "--output-format=json", *options.split()],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=os.path.dirname(self.socket))

    def fio(self, options, seconds, size):
        before = self.cpu_seconds()
        process = self.start_fio(options, seconds, size)
        output, errors = process.communicate()
        if process.returncode != 0:
            sys.exit(f"fio failed on {self.name}:\n{output}\n{errors}")
        used = self.cpu_seconds() - before
        job = json.loads(output[output.index("{"):])["jobs"][0]
        side = job["write" if "write" in options else "read"]
        return {"iops": side["iops"], "mib": side["bw_bytes"] / (1 << 20),
                "latency_us": side["clat_ns"]["mean"] / 1000,
                "cpu_us": used * 1e6 / max(side["total_ios"], 1)}

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
