"""Orders, draws and partitions that are functions of a seed and an epoch, never of what was drawn before."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int

from setwise.errors import DataError
from setwise.seeding import derive_seed


def shuffled(num_items: int, seed: int, epoch: int) -> Int[np.ndarray, " items"]:
    """Return a permutation of ``range(num_items)`` that is a function of (num_items, seed, epoch).

    Example:
        >>> sorted(shuffled(5, seed=0, epoch=3).tolist())
        [0, 1, 2, 3, 4]
    """
    return np.random.default_rng(derive_seed(seed, "order", epoch)).permutation(num_items)


def item_generator(seed: int, split: str, epoch: int, index: int) -> np.random.Generator:
    """Return a fresh generator for what is random within one item (augmentation, crops).

    Example:
        >>> a, b = (item_generator(0, "train", 2, 7).random() for _ in range(2))
        >>> a == b
        True
    """
    return np.random.default_rng(derive_seed(seed, "item", split, epoch, index))


def stratified_sets(
    strata: Int[np.ndarray, " rows"], set_size: int, *, seed: int, epoch: int, split: str = "train"
) -> list[Int[np.ndarray, " set"]]:
    """Partition rows at random into ``ceil(rows / set_size)`` sets that all have the same mix of strata.

    Rows are shuffled, ordered by stratum, and dealt to the sets in turn like cards. A run of L consecutive cards
    reaches every set floor(L / sets) or ceil(L / sets) times, so the sizes of any two sets differ by at most 1, and
    so do their numbers of rows of any stratum, or of any range of adjacent strata: with strata numbered by (split,
    class), both the splits and the classes within a split are balanced.

    Args:
        strata: (rows,) number of the stratum of each row, at least 0.
        set_size: largest number of rows of a set.
        seed: with ``epoch`` and ``split``, what the partition is a function of.
        epoch: see ``seed``.
        split: see ``seed``.

    Returns:
        The row indices of each set, in random order.

    Raises:
        DataError: ``set_size`` is less than 1.

    Example:
        >>> [sorted(rows.tolist()) for rows in stratified_sets(np.zeros(3, int), 5, seed=0, epoch=0)]
        [[0, 1, 2]]
    """
    if set_size < 1:
        raise DataError(f"set_size={set_size} must be at least 1")
    num_rows = len(strata)
    num_sets = -(-num_rows // set_size)
    if num_rows == 0:
        return []
    generator = np.random.default_rng(derive_seed(seed, "sets", split, epoch))
    shuffle = generator.permutation(num_rows)
    dealt = shuffle[_stable_argsort(strata[shuffle])]
    # Which set gets the odd row of a stratum is drawn too: dealing from set 0 on would always favour the first ones.
    set_of_card = generator.permutation(num_sets)[np.arange(num_rows) % num_sets]
    set_of_row = np.empty(num_rows, dtype=np.int64)
    set_of_row[dealt] = set_of_card
    grouped = shuffle[_stable_argsort(set_of_row[shuffle])]
    bounds = np.cumsum(np.bincount(set_of_card, minlength=num_sets))[:-1]
    return np.split(grouped, bounds)


def stratified_sample(
    strata: Int[np.ndarray, " rows"], size: int, *, seed: int, number: int
) -> Int[np.ndarray, " sample"]:
    """Return ``size`` random rows with the mix of strata of all rows, in ascending order.

    Shuffled rows are ordered by stratum and taken at equal distances, from a random start: a stratum of L rows gives
    ``L * size / rows`` of them, rounded up or down.

    Args:
        strata: (rows,) number of the stratum of each row, at least 0.
        size: number of rows to draw, at most all.
        seed: with ``number``, what the sample is a function of.
        number: tells several samples of one seed apart.

    Raises:
        DataError: ``size`` is not in [0, rows].
    """
    num_rows = len(strata)
    if not 0 <= size <= num_rows:
        raise DataError(f"cannot draw size={size} rows of {num_rows}; size must be at least 0 and at most {num_rows}")
    if size == 0:
        return np.empty(0, dtype=np.int64)
    generator = np.random.default_rng(derive_seed(seed, "sample", number))
    shuffle = generator.permutation(num_rows)
    ordered = shuffle[_stable_argsort(strata[shuffle])]
    start = int(generator.integers(num_rows))  # in whole numbers, where rounding cannot take a row twice
    return np.sort(ordered[(np.arange(size) * num_rows + start) // size])


def _stable_argsort(keys: Int[np.ndarray, " rows"]) -> Int[np.ndarray, " rows"]:
    """Sort small whole numbers; numpy's stable sort is a linear-time radix sort up to 16 bits."""
    if keys.max() < 2**16:
        keys = keys.astype(np.uint16)
    return np.argsort(keys, kind="stable")
