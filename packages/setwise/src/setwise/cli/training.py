"""What ``setwise train`` and ``setwise resume`` share: how a run is shown while it goes and when it ends."""

from __future__ import annotations

from rich.console import Console

from setwise.cli.output import Output
from setwise.report import write_report
from setwise.train.files import json_text
from setwise.train.progress import ProgressCallback, metrics_table
from setwise.train.session import RunResult

STOPPED = 75
"""Exit code of a run that was stopped and can be resumed (``EX_TEMPFAIL``)."""


def progress(output: Output) -> ProgressCallback:
    """Return the callback that shows progress the way the user wants it."""
    return ProgressCallback(mode="quiet" if output.quiet else "json" if output.json else "auto")


def announce(output: Output, line: str) -> None:
    """Say what was chosen before training begins."""
    if not output.quiet:
        output.line(line)


def conclude(result: RunResult, output: Output) -> int:
    """Write the report, say how the run ended, and return the exit code."""
    if result.is_main:
        report = write_report(result.run)
        folder = str(result.run.path)
        if output.json:
            print(json_text({"run": folder, "reason": result.reason, "final": result.final, "report": str(report)}))
        elif result.finished:
            Console().print(metrics_table(result.run.metrics()))
            output.line(f"Report     {report}")
        else:
            output.line(f"Stopped by {result.reason}. To go on: setwise resume {folder}")
    return 0 if result.finished else STOPPED
