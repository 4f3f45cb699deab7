"""Reading tables: a file, an OpenML dataset, or one of those that come with scikit-learn."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import numpy as np
import pandas as pd

from setwise.data.columns import require_unique_names
from setwise.data.locations import cache_folder, find_path, is_offline, writing
from setwise.errors import DataError

if TYPE_CHECKING:
    from setwise.options import TableOptions

_SEPARATORS = {"comma": ",", "semicolon": ";", "tab": "\t", "whitespace": r"\s+"}
_COMPRESSIONS = {".gz", ".bz2", ".xz", ".zip", ".zst"}


@dataclass(frozen=True)
class SourceTable:
    """A table as it was read.

    Attributes:
        frame: the rows.
        targets: names of the columns to be predicted where the source says so; empty where the user must.
    """

    frame: pd.DataFrame
    targets: tuple[str, ...] = ()


def read_source(options: TableOptions) -> SourceTable:
    """Read the table that the options name.

    Raises:
        DataError: it is not there, or cannot be read.
    """
    if options.path is not None:
        return SourceTable(read_file(options.path, separator=options.separator, columns=options.columns))
    if options.openml is not None:
        return _read_openml(options.openml, options.openml_version)
    if options.sklearn is not None:
        return _read_sklearn(options.sklearn)
    raise DataError("a table needs one of data.path, data.openml and data.sklearn")


def read_file(path: str | Path, *, separator: str | None = None, columns: tuple[str, ...] = ()) -> pd.DataFrame:
    """Read a table from a text file or a parquet file.

    Args:
        path: the file, possibly compressed (``.csv.gz``), also looked up in ``SETWISE_DATA``.
        separator: ``"comma"``, ``"semicolon"``, ``"tab"`` or ``"whitespace"``; None for tabs in ``.tsv`` files and
            commas in all others.
        columns: names of the columns, for a text file whose first line is data; empty where it has the names.

    Raises:
        DataError: the file is not there, is empty, or is not such a table.
    """
    file = find_path(path)
    if file.is_dir():
        raise DataError(f"{file} is a folder; data.path must name one file, such as {file / 'table.csv'}")
    suffixes = [suffix for suffix in file.suffixes if suffix.lower() not in _COMPRESSIONS]
    kind = suffixes[-1].lower() if suffixes else ""
    if kind in (".parquet", ".pq"):
        return _guarded(file, lambda: _read_parquet(file))
    character = _SEPARATORS[separator or ("tab" if kind == ".tsv" else "comma")]
    return _guarded(file, lambda: _read_text(file, character, columns))


def _read_text(file: Path, separator: str, columns: tuple[str, ...]) -> pd.DataFrame:
    if not columns:
        # pandas would rename the second of two equal names; the line of names is therefore read as data first.
        header = pd.read_csv(file, sep=separator, header=None, nrows=1, dtype=str, keep_default_na=False)
        names = [name.strip() for name in header.iloc[0]]
        if "" in names:
            raise DataError(
                f"column {names.index('') + 1} of {file} has no name in the first line; name it, or give the names of "
                "all columns in data.columns and remove that line"
            )
        require_unique_names(names)
    frame = pd.read_csv(
        file,
        sep=separator,
        names=list(columns) or None,
        na_values=["?"],
        skipinitialspace=True,
        index_col=False,
        low_memory=False,  # reading in pieces may give one column two types
    )
    return frame.rename(columns=str.strip)


def _read_parquet(file: Path) -> pd.DataFrame:
    try:
        import pyarrow.parquet as parquet
    except ImportError as error:
        raise DataError(f'reading {file} needs pyarrow: pip install "setwise[parquet]"') from error
    return parquet.read_table(file).to_pandas()


def _guarded(file: Path, read: Callable[[], pd.DataFrame]) -> pd.DataFrame:
    """Turn what a reader raises for a bad file into one message."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", pd.errors.ParserWarning)  # pandas drops cells without a column
            return read()
    except pd.errors.EmptyDataError as error:
        raise DataError(f"{file} is empty; a table needs a line of column names and at least one row") from error
    except UnicodeDecodeError as error:
        raise DataError(f"{file} is not UTF-8 text ({error}); convert it, for example with iconv") from error
    except OSError as error:
        raise DataError(f"cannot read {file}: {error}") from error
    except (ValueError, pd.errors.ParserWarning) as error:  # ParserError and pyarrow's errors are ValueErrors
        raise DataError(f"{file} cannot be read as a table: {error}") from error


def _read_sklearn(name: str) -> SourceTable:
    from sklearn import datasets

    bunch: Any = getattr(datasets, f"load_{name}")(as_frame=True)
    frame: pd.DataFrame = bunch.frame
    labels = bunch.get("target_names")
    if labels is not None and all(isinstance(label, str) for label in labels):
        frame = frame.assign(target=np.asarray(labels, dtype=object)[frame["target"]])
    return SourceTable(frame, ("target",))


def _read_openml(dataset: int | str, version: int | None) -> SourceTable:
    """Read an OpenML dataset; scikit-learn keeps what it downloads in our cache folder."""
    from sklearn.datasets import fetch_openml

    folder = cache_folder("openml")
    # scikit-learn cannot be told to stay offline. The note says that all it needs for this dataset is in its cache.
    note = folder / f"{quote(str(dataset), safe='')}-{version or 'active'}.json"
    if is_offline() and not note.exists():
        raise DataError(
            f"the OpenML dataset {dataset} is not in the cache folder {folder}, and SETWISE_OFFLINE forbids the "
            "network; unset it to download the dataset, or copy that folder from a machine that has it"
        )
    which: dict[str, Any] = {"data_id": dataset} if isinstance(dataset, int) else {"name": dataset}
    if isinstance(dataset, str):
        which["version"] = version or "active"
    try:
        bunch: Any = fetch_openml(**which, data_home=str(folder), as_frame=True, parser="auto")
    except (OSError, ValueError) as error:
        raise DataError(f"cannot get the OpenML dataset {dataset}: {error}") from error
    targets = tuple(str(name) for name in bunch.target_names)
    with writing(note):
        note.write_text(json.dumps({"targets": targets}), encoding="utf-8")
    return SourceTable(bunch.frame, targets)
