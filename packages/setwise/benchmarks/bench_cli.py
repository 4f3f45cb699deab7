"""CPU time of the commands that users wait for most, in new processes, against the budgets of the design.

Bytecode is compiled before the first measurement, as it is after the first use of an installation.
"""

from __future__ import annotations

import os
import resource
import statistics
import subprocess
import sys
import tempfile

BUDGETS = {"--help": 0.3, "list": 0.5}
"""Seconds of CPU time, user and system, that each command may take."""

REPEATS = 10


def cpu_seconds(arguments: list[str], environment: dict[str, str]) -> float:
    """Return user and system time of a new process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    command = [sys.executable, "-m", "setwise", *arguments]
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> int:
    exceeded = False
    with tempfile.TemporaryDirectory() as cache:
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = cache
        print(f"{'command':<16}{'median s':>10}{'most s':>10}{'budget s':>10}")
        for command, budget in BUDGETS.items():
            cpu_seconds([command], environment)
            seconds = [cpu_seconds([command], environment) for _ in range(REPEATS)]
            median = statistics.median(seconds)
            exceeded |= median > budget
            verdict = "  exceeded" if median > budget else ""
            print(f"setwise {command:<8}{median:>10.3f}{max(seconds):>10.3f}{budget:>10.3f}{verdict}")
    return int(exceeded)


if __name__ == "__main__":
    sys.exit(main())
