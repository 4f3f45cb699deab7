"""What a dataset holds, as typed fields: all that a model or a task needs to know of the data to be built.

A :class:`DataSpec` is stored with every run as JSON, so a trained model can be loaded, and its predictions put back
into the units of the data, where the data itself is not.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from setwise.errors import DataError, suggest


@dataclass(frozen=True)
class Continuous:
    """A real number per item, standardised as ``(x - mean) / std``.

    Attributes:
        name: name of the column.
        mean: mean subtracted, in the units of the data.
        std: positive scale divided by, in the units of the data.
    """

    name: str
    mean: float = 0.0
    std: float = 1.0

    def __post_init__(self) -> None:
        if not math.isfinite(self.mean):
            raise DataError(f'field "{self.name}": mean={self.mean} must be a finite number')
        if not (math.isfinite(self.std) and self.std > 0):
            raise DataError(
                f'field "{self.name}": std={self.std} must be a finite number above 0; use 1 for a constant'
            )


@dataclass(frozen=True)
class Categorical:
    """One of several categories per item, encoded as its index in ``categories``.

    Attributes:
        name: name of the column.
        categories: the labels, in the order of their codes.
    """

    name: str
    categories: tuple[str, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "categories", tuple(self.categories))
        if not self.categories:
            raise DataError(f'field "{self.name}" has no categories; a categorical field needs at least 1')
        _refuse_duplicates(self.categories, f'categories of field "{self.name}"')

    @property
    def num_categories(self) -> int:
        """Number of categories."""
        return len(self.categories)


@dataclass(frozen=True)
class Image:
    """An image of shape (channels, height, width), in pixels.

    Attributes:
        name: key of the image in an item.
    """

    name: str
    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        _require_positive(self, "channels", "height", "width")


@dataclass(frozen=True)
class Tokens:
    """A sequence of token ids.

    Attributes:
        name: key of the sequence in an item.
        vocab_size: number of different tokens; ids are in [0, vocab_size).
        length: number of tokens a model reads at once.
    """

    name: str
    vocab_size: int
    length: int

    def __post_init__(self) -> None:
        _require_positive(self, "vocab_size", "length")


@dataclass(frozen=True)
class PointSet:
    """A set of points, each a vector.

    Attributes:
        name: key of the set in an item.
        dim: width of a point.
    """

    name: str
    dim: int

    def __post_init__(self) -> None:
        _require_positive(self, "dim")


Field = Continuous | Categorical | Image | Tokens | PointSet

_FIELDS: dict[str, type[Field]] = {
    "continuous": Continuous,
    "categorical": Categorical,
    "image": Image,
    "tokens": Tokens,
    "point_set": PointSet,
}


@dataclass(frozen=True)
class DataSpec:
    """The fields of a dataset: what a model reads and what it is to predict.

    Attributes:
        inputs: fields the model reads.
        targets: fields it predicts; empty where the data is its own target (language modelling, generation).

    Raises:
        DataError: there is no field at all, or two fields have one name.

    Example:
        >>> spec = DataSpec((Continuous("age", mean=40.0, std=10.0),), (Categorical("ill", ("no", "yes")),))
        >>> DataSpec.from_json(spec.to_json()) == spec
        True
    """

    inputs: tuple[Field, ...]
    targets: tuple[Field, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "inputs", tuple(self.inputs))
        object.__setattr__(self, "targets", tuple(self.targets))
        if not self.columns:
            raise DataError("a DataSpec needs at least one field in inputs or targets")
        _refuse_duplicates([field.name for field in self.columns], "field names")

    @property
    def columns(self) -> tuple[Field, ...]:
        """All fields, inputs first: the order of the columns in every batch of a table."""
        return self.inputs + self.targets

    def to_json(self) -> str:
        """Return the JSON text that :meth:`from_json` reads back to an equal spec."""
        fields = {"inputs": _fields_to_records(self.inputs), "targets": _fields_to_records(self.targets)}
        return json.dumps(fields, indent=2, ensure_ascii=False, allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> DataSpec:
        """Read a spec that :meth:`to_json` wrote.

        Raises:
            DataError: the text is not JSON, or does not describe a spec.
        """
        try:
            record = json.loads(text)
        except json.JSONDecodeError as error:
            raise DataError(f"a data spec must be JSON: {error}") from error
        if not isinstance(record, dict) or set(record) != {"inputs", "targets"}:
            raise DataError('a data spec must be a JSON object with exactly the keys "inputs" and "targets"')
        return cls(*(tuple(_field_from_record(field) for field in record[key]) for key in ("inputs", "targets")))


def _fields_to_records(fields: Sequence[Field]) -> list[dict[str, Any]]:
    kinds = {field_type: kind for kind, field_type in _FIELDS.items()}
    return [{"kind": kinds[type(field)], **asdict(field)} for field in fields]


def _field_from_record(record: Mapping[str, Any]) -> Field:
    options = dict(record)
    kind = options.pop("kind", None)
    if kind not in _FIELDS:
        hint = suggest(str(kind), _FIELDS)
        raise DataError(f'unknown kind of field "{kind}"; allowed: {", ".join(_FIELDS)}{hint}')
    if "categories" in options:
        options["categories"] = tuple(options["categories"])
    try:
        return _FIELDS[kind](**options)
    except TypeError as error:
        raise DataError(f"field {dict(record)} does not describe a {kind} field: {error}") from error


def _refuse_duplicates(names: Sequence[str], what: str) -> None:
    duplicates = sorted(name for name, count in Counter(names).items() if count > 1)
    if duplicates:
        raise DataError(f"{what} must be unique; given more than once: {', '.join(duplicates)}")


def _require_positive(field: Field, *attributes: str) -> None:
    for attribute in attributes:
        value = getattr(field, attribute)
        if value < 1:
            raise DataError(f'field "{field.name}": {attribute}={value} must be at least 1')
