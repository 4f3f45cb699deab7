"""The conformance suite of datasets."""

from __future__ import annotations

import copy
import pickle
import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from setwise.data.dataset import AbstractDataModule
from setwise.data.spec import Categorical, DataSpec, Field, Image, PointSet, Tokens
from setwise.errors import DataError
from setwise.testing.claims import expect, expect_equal, expect_error
from setwise.testing.component import AbstractComponentSuite
from setwise.testing.randomness import expect_no_global_randomness

SPLITS = ("train", "val", "test")
"""The splits there can be, in their order."""

_CODES = {0: "train", 1: "val", 2: "test"}


class DataSuite(AbstractComponentSuite):
    """What every dataset promises, most of all that items are functions of (seed, split, epoch, index).

    Attributes:
        name: name of a registered dataset; or override :meth:`build`.
        options: its options, as in a recipe. Choose a small one.
        seed: seed of the data.
        epochs: epochs that are looked at.
        most_items: most items that are looked at of a split and epoch, spread over it.

    Example:
        >>> class TestIris(DataSuite):
        ...     name = "setwise/table"
        ...     options = {"sklearn": "iris"}
        >>> TestIris().test_batch_is_the_collation_of_its_items()
    """

    kind = "datasets"
    seed: ClassVar[int] = 3
    epochs: ClassVar[tuple[int, ...]] = (0, 1)
    most_items: ClassVar[int] = 7

    def build(self, *, seed: int) -> AbstractDataModule:
        """Return a new instance of the dataset, not prepared yet."""
        return self.component().build(seed=seed)

    def prepared(self) -> AbstractDataModule:
        """Return a new instance with the suite's seed, prepared."""
        data = self.build(seed=self.seed)
        data.prepare()
        return data

    def row_ids(self, item: Any, split: str) -> Mapping[int, str]:
        """Return which rows of the source an item holds, and the split of each; empty where that is not known.

        The default reads ``row_id`` and, for sets that mix splits, ``split``, as tables serve them.
        """
        if not isinstance(item, Mapping) or "row_id" not in item:
            return {}
        rows = torch.as_tensor(item["row_id"]).flatten().tolist()
        if "split" not in item:
            return dict.fromkeys(rows, split)
        codes = torch.as_tensor(item["split"]).flatten().tolist()
        return {row: _CODES[code] for row, code in zip(rows, codes, strict=True) if code in _CODES}

    def test_needs_prepare_first(self) -> None:
        """Everything but ``prepare`` says so when it was not called."""
        data = self.build(seed=self.seed)
        for what, ask in {
            "spec": lambda: data.spec,
            "splits": lambda: data.splits,
            "num_items": lambda: data.num_items("train"),
            "item": lambda: data.item("train", 0, 0),
            "fingerprint": data.fingerprint,
        }.items():
            with expect_error(DataError, f"{what} before prepare()"):
                ask()

    def test_preparing_again_changes_nothing(self) -> None:
        """A second ``prepare`` leaves data, splits and fingerprint as they are."""
        data = self.prepared()
        before = [data.fingerprint(), data.splits, data.item("train", 0, 0)]
        data.prepare()
        after = [data.fingerprint(), data.splits, data.item("train", 0, 0)]
        expect_equal(after, before, "a second prepare() must change nothing")

    def test_splits_are_known_and_have_items(self) -> None:
        """The splits are some of train, val and test, in this order, and none is empty."""
        data = self.prepared()
        expected = tuple(split for split in SPLITS if split in data.splits)
        expect(data.splits == expected, f"splits are {data.splits}; they must be some of {SPLITS}, in this order")
        for split in data.splits:
            for epoch in self.epochs:
                num_items = data.num_items(split, epoch)
                expect(num_items > 0, f'split "{split}" is listed but has no items in epoch {epoch}; leave it out')

    def test_items_are_functions_of_seed_split_epoch_and_index(self) -> None:
        """Items are equal whatever was asked for before: in another order, again, in another instance."""
        data, other = self.prepared(), self.prepared()
        places = list(self._places(data))
        # Copied, because an item may be a view of memory that a faulty dataset goes on to change.
        first = {place: copy.deepcopy(data.item(*place)) for place in places}
        claim = "an item must be a function of (seed, split, epoch, index) alone, but {} gave another {}"
        for place in reversed(places):
            expect_equal(data.item(*place), first[place], claim.format("asking again", place))
        for place in places[1::2] + places[::2]:
            expect_equal(other.item(*place), first[place], claim.format("a second instance, asked differently,", place))

    def test_copy_in_another_process_serves_the_same_items(self) -> None:
        """A pickled copy, as data workers get it, gives equal items."""
        data = self.prepared()
        try:
            sent = pickle.loads(pickle.dumps(data))
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            raise AssertionError(f"data must be picklable, because workers get a copy of it: {error}") from error
        for place in self._places(data):
            expect_equal(sent.item(*place), data.item(*place), f"a pickled copy gave another {place}")

    def test_order_is_a_permutation_and_a_function_of_the_epoch(self) -> None:
        """``order`` lists every item once, equally in every instance and at every call."""
        data, other = self.prepared(), self.prepared()
        for split in data.splits:
            orders = [np.asarray(data.order(split, epoch)) for epoch in self.epochs]
            for epoch, order in zip(self.epochs, orders, strict=True):
                expected = np.arange(data.num_items(split, epoch))
                once = np.array_equal(np.sort(order), expected)
                expect(once, f'order("{split}", {epoch}) must list each of the {len(expected)} items exactly once')
            for epoch, order in reversed(list(zip(self.epochs, orders, strict=True))):
                claim = f'order("{split}", {epoch}) must be a function of (seed, epoch), but'
                expect(np.array_equal(data.order(split, epoch), order), f"{claim} a second call gave another order")
                expect(np.array_equal(other.order(split, epoch), order), f"{claim} another instance has another order")

    def test_batch_is_the_collation_of_its_items(self) -> None:
        """``batch`` equals ``collate`` of each ``item``, in the order of the indices."""
        data = self.prepared()
        for split in data.splits:
            for epoch in self.epochs:
                indices = self._indices(data, split, epoch)[::-1]
                batch = data.batch(split, epoch, indices)
                collated = data.collate([data.item(split, epoch, index) for index in indices])
                expect_equal(batch, collated, f'batch("{split}", {epoch}, …) must equal collate() of its items')

    def test_collating_does_not_write_to_items(self) -> None:
        """``collate`` leaves the items as they are, because they may be views of the dataset."""
        data = self.prepared()
        for split in data.splits:
            items = [data.item(split, 0, index) for index in self._indices(data, split, 0)]
            before = copy.deepcopy(items)
            data.collate(items)
            expect_equal(items, before, "collate() must not write to the items")

    def test_uses_no_global_randomness(self) -> None:
        """Preparing and serving draw from no generator that the process shares, and seed none."""

        def serve() -> list[Any]:
            data = self.prepared()
            served = [data.fingerprint(), *(data.item(*place) for place in self._places(data))]
            for split in data.splits:
                served += [list(data.order(split, 0)), data.batch(split, 0, self._indices(data, split, 0))]
            return served

        expect_no_global_randomness("a dataset", serve)

    def test_fingerprint_is_a_stable_sha256(self) -> None:
        """The fingerprint has 64 hexadecimal digits and is the same for every instance, before and after use."""
        data, other = self.prepared(), self.prepared()
        before = data.fingerprint()
        valid = isinstance(before, str) and re.fullmatch("[0-9a-f]{64}", before) is not None
        expect(valid, f"the fingerprint must be a sha256 of 64 lower-case hexadecimal digits, got {before!r}")
        for place in self._places(data):
            data.item(*place)
        expect(data.fingerprint() == before, "the fingerprint changed when items were served")
        expect(other.fingerprint() == before, "another instance of the same data has another fingerprint")

    def test_spec_survives_json(self) -> None:
        """The spec that is stored with a run reads back as an equal one."""
        spec = self.prepared().spec
        expect(DataSpec.from_json(spec.to_json()) == spec, "the spec differs after to_json() and from_json()")

    def test_items_fit_the_spec(self) -> None:
        """Images, tokens, points and labels have the shapes and ranges that the spec declares."""
        data = self.prepared()
        for place in self._places(data):
            item = data.item(*place)
            for number, field in enumerate(data.spec.columns):
                value = _value_of(item, field, number)
                problem = None if value is None else _misfit(field, value)
                expect(problem is None, f'"{field.name}" of item {place} does not fit the spec: {problem}')

    def test_splits_are_disjoint(self) -> None:
        """No row of the source is in two splits, as far as items say which rows they hold."""
        data = self.prepared()
        first = data.splits[0]
        if not self.row_ids(data.item(first, 0, 0), first):
            pytest.skip("items do not say which rows of the source they hold")
        home: dict[int, str] = {}
        for split in data.splits:
            for index in range(data.num_items(split)):
                for row, owner in self.row_ids(data.item(split, 0, index), split).items():
                    both = f"{home.get(row)} and {owner}"
                    expect(home.setdefault(row, owner) == owner, f"row {row} of the source is in two splits: {both}")

    def test_unknown_split_and_item_are_data_errors(self) -> None:
        """What does not exist is refused with a DataError."""
        data = self.prepared()
        with expect_error(DataError, 'num_items("no-such-split")'):
            data.num_items("no-such-split")
        with expect_error(DataError, 'item("no-such-split", 0, 0)'):
            data.item("no-such-split", 0, 0)
        for split in data.splits:
            past = data.num_items(split)
            with expect_error(DataError, f'item("{split}", 0, {past}), one past the last,'):
                data.item(split, 0, past)

    def _places(self, data: AbstractDataModule) -> Iterator[tuple[str, int, int]]:
        """Yield (split, epoch, index) of some items of each split, epochs taking turns."""
        for split in data.splits:
            indices = {epoch: self._indices(data, split, epoch) for epoch in self.epochs}
            for number in range(self.most_items):
                yield from ((split, epoch, found[number]) for epoch, found in indices.items() if number < len(found))

    def _indices(self, data: AbstractDataModule, split: str, epoch: int) -> list[int]:
        num_items = data.num_items(split, epoch)
        return np.unique(np.linspace(0, num_items - 1, min(num_items, self.most_items)).round()).astype(int).tolist()


def _value_of(item: Any, field: Field, number: int) -> Tensor | None:
    """Return what an item holds under a field, or None where its layout is the dataset's own."""
    if not isinstance(item, Mapping):
        return None
    if {"values", "codes"} <= item.keys():
        return item["codes" if isinstance(field, Categorical) else "values"][..., number]
    found = item.get(field.name)
    return found if isinstance(found, Tensor) else None


def _misfit(field: Field, value: Tensor) -> str | None:
    """Return what is wrong with a value of a field, or None."""
    shape = tuple(value.shape)
    if isinstance(field, Image) and shape != (field.channels, field.height, field.width):
        return f"shape {shape} instead of {(field.channels, field.height, field.width)}"
    if isinstance(field, PointSet) and (value.dim() != 2 or shape[-1] != field.dim):
        return f"shape {shape} instead of (points, {field.dim})"
    if isinstance(field, Categorical | Tokens):
        limit = field.num_categories if isinstance(field, Categorical) else field.vocab_size
        if value.dtype != torch.int64:
            return f"{value.dtype} instead of torch.int64"
        return None if bool(((value >= 0) & (value < limit)).all()) else f"codes are not all in [0, {limit})"
    if not value.is_floating_point():
        return f"{value.dtype} instead of a floating-point dtype"
    return None if bool(value.isfinite().all()) else "not all numbers are finite"
