"""``setwise evaluate``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from setwise.cli.output import OutputParameter
from setwise.train.runs import open_run


def evaluate(
    run: str,
    *,
    split: Annotated[list[str], Parameter(consume_multiple=True)] | None = None,
    step: int | None = None,
    device: str = "auto",
    folder: Annotated[Path, Parameter(name="--runs")] = Path("runs"),
    output: OutputParameter,
) -> None:
    """Evaluate the best weights of a run.

    Args:
        run: folder or id of the run, or "latest".
        split: splits to evaluate, such as val test; all that the data has when not given.
        step: evaluate the checkpoint of this step instead of the best.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        folder: where runs are.
    """
    opened = open_run(run, folder)
    from setwise.train.session import load_run  # imports torch: after the run was found

    trained = load_run(opened, device=device, step=step)
    results = {name: trained.evaluate(name) for name in split or trained.data.splits}
    if output.json:
        output.document(results)
    else:
        names = dict.fromkeys(name for values in results.values() for name in values)
        output.table(
            [
                {"split": split, **{name: f"{values[name]:.6g}" if name in values else "" for name in names}}
                for split, values in results.items()
            ]
        )
