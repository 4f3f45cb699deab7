import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from setwise.data.sampling import item_generator, shuffled, stratified_sample, stratified_sets
from setwise.errors import DataError

seeds = st.integers(0, 2**63 - 1)
strata = st.lists(st.integers(0, 4), min_size=1, max_size=97).map(np.array)


def spread(counts) -> int:
    return max(counts) - min(counts)


@given(num_items=st.integers(0, 101), seed=seeds, epoch=st.integers(0, 10**9))
def test_shuffled_is_a_permutation_and_a_function_of_its_arguments(num_items, seed, epoch):
    order = shuffled(num_items, seed, epoch)

    assert sorted(order) == list(range(num_items))
    assert (order == shuffled(num_items, seed, epoch)).all()


def test_shuffled_differs_between_epochs_and_seeds():
    orders = {tuple(shuffled(53, seed, epoch)) for seed in range(3) for epoch in range(5)}

    assert len(orders) == 15


def test_every_position_is_equally_likely_for_an_item():
    positions = [int(np.flatnonzero(shuffled(5, 0, epoch) == 2)[0]) for epoch in range(1000)]

    # 200 expected each, standard deviation 12.6
    assert all(140 < count < 260 for count in np.bincount(positions, minlength=5))


def test_item_generators_of_different_items_are_different():
    keys = [
        (seed, split, epoch, index)
        for seed in (0, 1)
        for split in ("train", "val")
        for epoch in (0, 1)
        for index in (0, 1)
    ]

    draws = {item_generator(*key).random() for key in keys}

    assert len(draws) == 16
    assert item_generator(*keys[7]).random() in draws


def draw_everything():
    rows = np.arange(13) % 3
    sets = stratified_sets(rows, 5, seed=0, epoch=0)
    draws = [shuffled(11, 0, 0), *sets, stratified_sample(rows, 5, seed=0, number=0)]
    return [*map(tuple, draws), item_generator(0, "train", 0, 0).random()]


def test_the_global_generator_is_neither_read_nor_moved():
    np.random.seed(2)
    expected, first = np.random.random(), draw_everything()
    np.random.seed(2)
    second = draw_everything()

    assert np.random.random() == expected
    assert first == second


@given(strata=strata, set_size=st.integers(1, 101), seed=seeds, epoch=st.integers(0, 99))
def test_stratified_sets_partition_the_rows_evenly(strata, set_size, seed, epoch):
    sets = stratified_sets(strata, set_size, seed=seed, epoch=epoch)

    assert sorted(np.concatenate(sets)) == list(range(len(strata)))
    assert len(sets) == -(-len(strata) // set_size)
    assert spread([len(rows) for rows in sets]) <= 1
    for low in range(5):
        for high in range(low, 5):  # any range of adjacent strata, single ones among them
            inside = (strata >= low) & (strata <= high)
            assert spread([int(inside[rows].sum()) for rows in sets]) <= 1


def test_stratified_sets_are_a_function_of_seed_split_and_epoch():
    rows = np.arange(30) % 3

    def key(**which):
        return tuple(map(tuple, stratified_sets(rows, 7, **{"seed": 0, "epoch": 0, **which})))

    assert key() == key()
    assert len({key(), key(seed=1), key(epoch=1), key(split="val")}) == 4


def test_which_rows_share_a_set_is_random():
    together = sum(
        any({0, 1} <= set(rows) for rows in stratified_sets(np.zeros(20, int), 5, seed=0, epoch=epoch))
        for epoch in range(1000)
    )

    assert 150 < together < 270  # chance 4/19, so 210 expected, standard deviation 13


def test_no_set_is_favoured_with_the_odd_row():
    sizes = np.array(
        [[len(rows) for rows in stratified_sets(np.zeros(7, int), 3, seed=0, epoch=e)] for e in range(300)]
    )

    assert (sizes == 3).any(axis=0).all()


def test_strata_numbered_above_65535_are_kept_apart():
    rows = np.array([70_000, 4_464] * 6)  # equal modulo 2**16

    sets = stratified_sets(rows, 2, seed=0, epoch=0)

    assert all(set(rows[members]) == {70_000, 4_464} for members in sets)


def test_no_rows_give_no_sets():
    assert stratified_sets(np.zeros(0, int), 3, seed=0, epoch=0) == []


def test_set_size_zero_is_refused():
    with pytest.raises(DataError, match="set_size=0 must be at least 1"):
        stratified_sets(np.zeros(5, int), 0, seed=0, epoch=0)


@given(data=st.data(), strata=strata, seed=seeds)
def test_stratified_sample_has_the_size_and_the_mix_asked_for(data, strata, seed):
    size = data.draw(st.integers(0, len(strata)))

    sample = stratified_sample(strata, size, seed=seed, number=0)

    assert len(np.unique(sample)) == len(sample) == size
    for stratum in range(5):
        expected = (strata == stratum).sum() * size / len(strata)
        assert abs((strata[sample] == stratum).sum() - expected) < 1


def test_stratified_sample_draws_every_row_equally_often():
    rows = np.array([0, 0, 0, 1, 1])
    counts = sum(np.bincount(stratified_sample(rows, 2, seed=0, number=n), minlength=5) for n in range(1000))

    assert all(330 < count < 470 for count in counts)  # 400 expected, standard deviation 15.5


@pytest.mark.parametrize("size", [-1, 6])
def test_sample_larger_than_the_rows_is_refused(size):
    with pytest.raises(DataError, match=f"cannot draw size={size} rows of 5"):
        stratified_sample(np.zeros(5, int), size, seed=0, number=0)
