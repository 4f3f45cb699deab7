"""The suite of datasets passes a sound dataset, and each of its tests fails on one with one fault, naming it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor

from setwise.data.dataset import AbstractDataModule, require_indices, require_split
from setwise.data.sampling import item_generator
from setwise.data.spec import Categorical, Continuous, DataSpec, Image, PointSet, Tokens
from setwise.errors import DataError
from setwise.testing import DataSuite

SIZES = {"train": 13, "val": 5, "test": 3}


class Sound(AbstractDataModule):
    """A number with noise that is new in every epoch, and the number of its row."""

    start: ClassVar = {"train": 0, "val": 13, "test": 18}  # first rows of the splits

    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.ready = False

    def prepare(self) -> None:
        self.ready = True

    def require_prepared(self) -> None:
        if not self.ready:
            raise DataError("call prepare() first")

    @property
    def spec(self) -> DataSpec:
        self.require_prepared()
        return DataSpec((Continuous("x"),))

    @property
    def splits(self) -> tuple[str, ...]:
        self.require_prepared()
        return tuple(SIZES)

    def num_items(self, split: str, epoch: int = 0) -> int:
        require_split(split, self.splits)
        return SIZES[split]

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        require_indices([index], self.num_items(split, epoch), split)
        noise = item_generator(self.seed, split, epoch, index).standard_normal()
        return {"x": torch.tensor(noise, dtype=torch.float32), "row_id": torch.tensor(self.start[split] + index)}

    def fingerprint(self) -> str:
        self.require_prepared()
        return "0" * 64


class ReadyWithoutPrepare(Sound):
    def require_prepared(self) -> None:
        pass


class ChangingWhenPreparedAgain(Sound):
    times = 0

    def prepare(self) -> None:
        super().prepare()
        self.times += 1

    def fingerprint(self) -> str:
        return f"{self.times:064d}"


class WithSplitsInAnotherOrder(Sound):
    @property
    def splits(self) -> tuple[str, ...]:
        return tuple(reversed(super().splits))


class WithEmptySplit(Sound):
    def num_items(self, split: str, epoch: int = 0) -> int:
        return 0 if split == "test" else super().num_items(split, epoch)


class RememberingCalls(Sound):
    calls = 0

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        self.calls += 1
        return super().item(split, epoch, index) | {"x": torch.tensor(float(self.calls))}


class RememberingPositions(Sound):
    """A stream: the noise of an item is what comes next."""

    stream: np.random.Generator | None = None

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        self.stream = self.stream or np.random.default_rng(self.seed)
        return super().item(split, epoch, index) | {"x": torch.tensor(self.stream.random())}


class DependingOnTheInstance(Sound):
    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.shift = np.random.default_rng().random()

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        item = super().item(split, epoch, index)
        return item | {"x": item["x"] + self.shift}


class WithLambda(Sound):
    def __init__(self, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.transform = lambda x: x


class ForgettingItsSeedWhenSent(Sound):
    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "seed": 0}


class RepeatingItems(Sound):
    def order(self, split: str, epoch: int) -> Sequence[int]:
        return [0, *range(self.num_items(split) - 1)]


class ShufflingAnew(Sound):
    def order(self, split: str, epoch: int) -> np.ndarray:
        return np.random.default_rng().permutation(self.num_items(split, epoch))


class BatchingInOrderOfIndices(Sound):
    def batch(self, split: str, epoch: int, indices: Sequence[int] | np.ndarray) -> Any:
        return super().batch(split, epoch, sorted(indices))


class NormalisingWhenCollating(Sound):
    def collate(self, items: Sequence[Any]) -> Any:
        for item in items:
            item["x"] /= 2
        return super().collate(items)


class DrawingFromPython(Sound):
    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        return super().item(split, epoch, index) | {"x": torch.tensor(random.random())}


class SeedingNumPy(Sound):
    def prepare(self) -> None:
        super().prepare()
        np.random.seed(self.seed)


class WithShortFingerprint(Sound):
    def fingerprint(self) -> str:
        return super().fingerprint()[:40]


class WithFingerprintOfTheInstance(Sound):
    def fingerprint(self) -> str:
        return f"{id(self):064x}"


class WithFingerprintOfUse(RememberingCalls):
    def fingerprint(self) -> str:
        return f"{self.calls:064d}"


class ServingAnotherField(Sound):
    """What the spec declares is set by the test."""

    field: Any = None
    value: Any = None

    @property
    def spec(self) -> DataSpec:
        return DataSpec((self.field,))

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        return {self.field.name: self.value}


class WithLeakingSplits(Sound):
    start: ClassVar = {"train": 0, "val": 12, "test": 18}


class RaisingKeyErrors(Sound):
    def num_items(self, split: str, epoch: int = 0) -> int:
        return SIZES[split]


class WrappingIndices(Sound):
    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        return super().item(split, epoch, index % self.num_items(split, epoch))


def suite_of(data: Callable[..., AbstractDataModule]) -> DataSuite:
    class Suite(DataSuite):
        def build(self, *, seed: int) -> AbstractDataModule:
            return data(seed=seed)

    return Suite()


class TestSound(DataSuite):
    def build(self, *, seed: int) -> AbstractDataModule:
        return Sound(seed=seed)


class Fault(NamedTuple):
    """A dataset that breaks a promise, and what a test of the suite has to say of it."""

    data: type[Sound]
    words: str


FAULTS = {
    "test_needs_prepare_first": [Fault(ReadyWithoutPrepare, "spec before prepare() must raise DataError; nothing was")],
    "test_preparing_again_changes_nothing": [
        Fault(ChangingWhenPreparedAgain, "a second prepare() must change nothing: at [0]"),
    ],
    "test_splits_are_known_and_have_items": [
        Fault(WithSplitsInAnotherOrder, "splits are ('test', 'val', 'train'); they must be some of"),
        Fault(WithEmptySplit, 'split "test" is listed but has no items in epoch 0'),
    ],
    "test_items_are_functions_of_seed_split_epoch_and_index": [
        Fault(
            RememberingCalls, "must be a function of (seed, split, epoch, index) alone, but asking again gave another"
        ),
        Fault(RememberingPositions, "must be a function of (seed, split, epoch, index) alone, but asking again"),
        Fault(DependingOnTheInstance, "must be a function of (seed, split, epoch, index) alone, but a second instance"),
    ],
    "test_copy_in_another_process_serves_the_same_items": [
        Fault(WithLambda, "data must be picklable, because workers get a copy of it"),
        Fault(ForgettingItsSeedWhenSent, "a pickled copy gave another ('train', 0, 0)"),
    ],
    "test_order_is_a_permutation_and_a_function_of_the_epoch": [
        Fault(RepeatingItems, 'order("train", 0) must list each of the 13 items exactly once'),
        Fault(ShufflingAnew, "must be a function of (seed, epoch), but a second call gave another order"),
    ],
    "test_batch_is_the_collation_of_its_items": [
        Fault(BatchingInOrderOfIndices, 'batch("train", 0, …) must equal collate() of its items: at x'),
    ],
    "test_collating_does_not_write_to_items": [
        Fault(NormalisingWhenCollating, "collate() must not write to the items")
    ],
    "test_uses_no_global_randomness": [
        Fault(DrawingFromPython, "a dataset must not depend on global randomness, it does on that of Python"),
        Fault(SeedingNumPy, "a dataset must use no global randomness, it drew from or seeded that of NumPy"),
    ],
    "test_fingerprint_is_a_stable_sha256": [
        Fault(WithShortFingerprint, "the fingerprint must be a sha256 of 64 lower-case hexadecimal digits, got '000"),
        Fault(WithFingerprintOfTheInstance, "another instance of the same data has another fingerprint"),
        Fault(WithFingerprintOfUse, "the fingerprint changed when items were served"),
    ],
    "test_splits_are_disjoint": [Fault(WithLeakingSplits, "row 12 of the source is in two splits: train and val")],
    "test_unknown_split_and_item_are_data_errors": [
        Fault(RaisingKeyErrors, 'num_items("no-such-split") must raise DataError; it raised KeyError'),
        Fault(WrappingIndices, 'item("train", 0, 13), one past the last, must raise DataError; nothing was raised'),
    ],
}


@pytest.mark.parametrize(
    ("test", "fault"),
    [
        pytest.param(test, fault, id=f"{fault.data.__name__}-{test}")
        for test, faults in FAULTS.items()
        for fault in faults
    ],
)
def test_fault_is_found_and_named(test: str, fault: Fault, expect_bite: Callable[..., None]) -> None:
    expect_bite(suite_of(fault.data), test, fault.words)


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        (Image("image", 1, 3, 5), torch.zeros(3, 5), "shape (3, 5) instead of (1, 3, 5)"),
        (Image("image", 1, 3, 5), torch.zeros(1, 3, 5).byte(), "torch.uint8 instead of a floating-point dtype"),
        (PointSet("points", 2), torch.zeros(7, 3), "shape (7, 3) instead of (points, 2)"),
        (Tokens("tokens", 11, 5), torch.full((5,), 11), "codes are not all in [0, 11)"),
        (Tokens("tokens", 11, 5), torch.zeros(5), "torch.float32 instead of torch.int64"),
        (Categorical("kind", ("a", "b")), torch.tensor(-1), "codes are not all in [0, 2)"),
        (Continuous("size"), torch.tensor(torch.nan), "not all numbers are finite"),
    ],
)
def test_items_that_do_not_fit_the_spec_are_found(
    field: Any, value: Tensor, words: str, expect_bite: Callable[..., None]
) -> None:
    data = type("Data", (ServingAnotherField,), {"field": field, "value": value})

    expect_bite(suite_of(data), "test_items_fit_the_spec", f'"{field.name}" of item ... does not fit the spec: {words}')


def test_spec_that_json_changes_is_found(expect_bite: Callable[..., None]) -> None:
    class Changed(DataSpec):
        def to_json(self) -> str:
            return DataSpec((Continuous("y"),)).to_json()

    class Data(Sound):
        @property
        def spec(self) -> DataSpec:
            return Changed((Continuous("x"),))

    expect_bite(suite_of(Data), "test_spec_survives_json", "the spec differs after to_json() and from_json()")


def test_every_test_of_the_suite_finds_a_fault(tests_of: Callable[[type], set[str]]) -> None:
    assert FAULTS.keys() | {"test_items_fit_the_spec", "test_spec_survives_json"} == tests_of(DataSuite)


def test_rows_of_sets_belong_to_their_own_split(expect_bite: Callable[..., None]) -> None:
    class Sets(Sound):
        """Each set has all rows; a row's split code depends on the set it is asked in."""

        def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
            codes = torch.tensor([0, 0, 1, -1]) if split == "train" else torch.tensor([0, 1, 1, -1])
            return {"row_id": torch.tensor([5, 7, 11, -1]), "split": codes}

    expect_bite(suite_of(Sets), "test_splits_are_disjoint", "row 7 of the source is in two splits: train and val")


def test_splits_of_items_without_rows_are_not_compared(run_suite_test: Callable[..., None]) -> None:
    class Rowless(Sound):
        def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
            return {"x": super().item(split, epoch, index)["x"]}

    with pytest.raises(pytest.skip.Exception, match="do not say which rows"):
        run_suite_test(suite_of(Rowless), "test_splits_are_disjoint")


def test_large_splits_are_sampled() -> None:
    class Large(Sound):
        asked: ClassVar[list[int]] = []

        def num_items(self, split: str, epoch: int = 0) -> int:
            return 10_007

        def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
            self.asked.append(index)
            return {"x": torch.tensor(0.0)}

    suite_of(Large).test_items_fit_the_spec()

    assert set(Large.asked) == {0, 1668, 3335, 5003, 6671, 8338, 10006}
