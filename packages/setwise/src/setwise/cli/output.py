"""Where commands write: tables on a terminal, plain lines in a pipe, JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from cyclopts import Parameter

from setwise.train.files import finite


@dataclass(frozen=True)
class Output:
    """How the user wants to be told.

    Attributes:
        json: results are one JSON document on standard output, and nothing else is.
        quiet: results only, no notes or progress.
        traceback: errors show where they come from.

    Example:
        >>> Output().table([{"name": "setwise/adamw", "summary": "Adam"}, {"name": "setwise/sgd", "summary": ""}])
        name           summary
        setwise/adamw  Adam
        setwise/sgd
        >>> Output(json=True).table([{"name": "setwise/sgd"}])
        [
          {
            "name": "setwise/sgd"
          }
        ]
    """

    json: bool = False
    quiet: bool = False
    traceback: bool = False

    def line(self, text: str = "") -> None:
        """Write a line of a result, except with ``--json``, where :meth:`document` is the result."""
        if not self.json:
            print(text)

    def note(self, text: str) -> None:
        """Write to standard error what is not part of a result."""
        if not self.quiet:
            print(text, file=sys.stderr)

    def document(self, data: Any) -> None:
        """Write the result as JSON, with ``--json`` only."""
        if self.json:
            self.json_text(data)

    def json_text(self, data: Any) -> None:
        """Write JSON that the user asked for, with ``--json`` or not; NaN and infinities become ``null``."""
        print(json.dumps(finite(data), indent=2, ensure_ascii=False, default=str))

    def table(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Write rows of the same keys: a table, or with ``--json`` a list of objects."""
        if self.json:
            self.json_text(list(rows))
        elif rows:
            cells = [[str(value) for value in row.values()] for row in rows]
            (_draw_table if sys.stdout.isatty() else _print_columns)(list(rows[0]), cells)


OutputParameter = Annotated[Output, Parameter(parse=False)]
"""Type of the parameter ``output`` of a command. The user sets it with ``--json``, ``--quiet`` and ``--traceback``."""


def _draw_table(names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell) for cell in row))  # Text: square brackets in a cell are no markup
    Console().print(table)


def _print_columns(names: Sequence[str], cells: Sequence[Sequence[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(names, *cells, strict=True)]
    for row in (names, *cells):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
