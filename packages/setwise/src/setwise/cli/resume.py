"""``setwise resume``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setwise.cli.output import OutputParameter
from setwise.train.runs import open_run


def resume(
    run: str,
    *overrides: str,
    folder: Annotated[Path, Parameter(name="--runs")] = Path("runs"),
    output: OutputParameter,
) -> int:
    """Go on with a run from its newest sound checkpoint, to the bits it would have reached undisturbed.

    Args:
        run: folder or id of the run, or "latest".
        overrides: changes to its trainer, such as trainer.max_time=2h or, to train on, trainer.max_steps=500.
        folder: where runs are.
    """
    opened = open_run(run, folder)
    from setwise.cli.training import announce, conclude, progress  # imports torch: after the run was found
    from setwise.train import session

    result = session.resume(
        opened,
        overrides=overrides,
        callbacks=[progress(output)],
        announce=lambda line: announce(output, line),
    )
    return conclude(result, output)
