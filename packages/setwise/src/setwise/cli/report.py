"""``setwise report``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setwise.cli.output import OutputParameter
from setwise.train.runs import open_run


def report(
    run: str, *, folder: Annotated[Path, Parameter(name="--runs")] = Path("runs"), output: OutputParameter
) -> None:
    """Write the report of a run anew and print where it is; a run that is going on gives a report of what there is.

    Args:
        run: folder or id of the run, or "latest".
        folder: where runs are.
    """
    from setwise.report import write_report  # draws, which takes a moment to import

    path = str(write_report(open_run(run, folder)))
    output.document({"report": path})
    output.line(path)
