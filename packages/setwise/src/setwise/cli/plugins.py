"""``setwise plugins``: the installed plugins and what became of each."""

from __future__ import annotations

import sys
import traceback

from setwise.cli.output import OutputParameter
from setwise.registry import default_registry


def plugins(*, output: OutputParameter) -> None:
    """List the installed plugins, whether each could be loaded, and why not.

    With --traceback, also show where the failed ones failed.
    """
    statuses = default_registry().plugins
    output.table(
        [
            {
                "plugin": status.name,
                "distribution": status.distribution or "-",
                "version": status.version or "-",
                "status": status.status,
                "notes": status.reason or ", ".join(hook.removeprefix("setwise_") for hook in status.hooks),
            }
            for status in statuses
        ]
    )
    if output.traceback:
        for status in statuses:
            if status.error is not None:
                print(f"\n{status.name}:", file=sys.stderr)
                traceback.print_exception(status.error)
