"""``setwise predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from setwise.cli.output import OutputParameter
from setwise.errors import DataError
from setwise.train.runs import open_run

if TYPE_CHECKING:
    import pandas as pd

_SUFFIXES = (".csv", ".tsv", ".parquet")


def predict(
    run: str,
    *,
    input: Path,  # --input is the option's name
    to: Annotated[Path | None, Parameter(name="--output")] = None,
    step: int | None = None,
    device: str = "auto",
    folder: Annotated[Path, Parameter(name="--runs")] = Path("runs"),
    output: OutputParameter,
) -> None:
    """Predict for the rows of a file with the best weights of a run.

    The result has the rows and columns of the input and columns of predictions beside them.

    Args:
        run: folder or id of the run, or "latest".
        input: a .csv, .tsv or .parquet file with the input columns of the training data.
        to: where the result goes, a .csv, .tsv or .parquet file; printed as CSV when not given.
        step: use the checkpoint of this step instead of the best.
        device: auto, cpu, cuda, cuda:INDEX or mps.
        folder: where runs are.
    """
    opened = open_run(run, folder)
    if to is not None and to.resolve() == input.resolve():
        raise DataError(f"--output {to} is the input file itself; choose another name so that nothing is lost")
    if to is not None and to.suffix not in _SUFFIXES:
        raise DataError(f"--output {to} must end in one of {', '.join(_SUFFIXES)}")
    from setwise.data.sources import read_file  # imports pandas and torch: after the run was found
    from setwise.train.session import load_run

    frame = read_file(input)
    predicted = load_run(opened, device=device, step=step).predict(frame)
    if to is not None:
        _write(predicted, to)
        output.note(f"{len(predicted)} predictions written to {to}")
    elif output.json:
        output.document(predicted.to_dict(orient="records"))
    else:
        print(predicted.to_csv(index=False), end="")


def _write(frame: pd.DataFrame, path: Path) -> None:
    """Write a table so that a crash or a full disk leaves no half of it."""
    temporary = path.with_name(path.name + ".tmp")
    try:
        if path.suffix == ".parquet":
            frame.to_parquet(temporary, index=False)
        else:
            frame.to_csv(temporary, index=False, sep="\t" if path.suffix == ".tsv" else ",")
        temporary.replace(path)
    except ImportError as error:
        raise DataError(f'writing {path} needs pyarrow: pip install "setwise[parquet]"') from error
    except OSError as error:
        raise DataError(f"cannot write {path}: {error.strerror}; choose another place with --output") from error
    finally:
        temporary.unlink(missing_ok=True)
