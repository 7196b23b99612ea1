"""Starts one command and measures it: seconds, processor seconds, largest resident memory.

A process of its own, and a small one, run with `-I -S`: the kernel counts what a process held before `exec`
as its own, so a child started by a large parent would seem to be as large (getrusage(2), `ru_maxrss`).
"""

import json
import os
import sys
import time


def main() -> None:
    """`launch.py RESULT STDOUT STDERR COMMAND…`: writes the measurements to the file RESULT as JSON."""
    result, stdout, stderr, *command = sys.argv[1:]
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    files = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
        (os.POSIX_SPAWN_OPEN, 1, stdout, flags, 0o644),
        (os.POSIX_SPAWN_OPEN, 2, stderr, flags, 0o644),
    ]
    began = time.perf_counter()
    pid = os.posix_spawnp(command[0], command, os.environ, file_actions=files)
    _, status, usage = os.wait4(pid, 0)
    seconds = time.perf_counter() - began
    measured = {
        "seconds": seconds,
        "cpu_s": usage.ru_utime + usage.ru_stime,
        "memory_mb": usage.ru_maxrss * 1024 / 1e6,
        "code": os.waitstatus_to_exitcode(status),
    }
    with open(result, "w") as file:
        json.dump(measured, file)


main()
