import json

import pytest

from setwise.data.spec import Categorical, Continuous, DataSpec, Image, PointSet, Tokens
from setwise.errors import DataError

FIELDS = (
    Continuous("age", mean=1 / 3, std=0.1),
    Categorical("größe", ("klein", 'say "big"')),
    Image("image", channels=3, height=5, width=7),
    Tokens("tokens", vocab_size=257, length=11),
    PointSet("points", dim=2),
)


def test_json_round_trip_is_exact():
    spec = DataSpec(FIELDS[:3], FIELDS[3:])

    assert DataSpec.from_json(spec.to_json()) == spec


def test_columns_are_inputs_then_targets():
    assert DataSpec(FIELDS[:2], FIELDS[2:]).columns == FIELDS


def test_num_categories_counts_the_labels():
    assert Categorical("suit", ("clubs", "hearts", "spades")).num_categories == 3


def test_same_name_in_inputs_and_targets_is_refused():
    with pytest.raises(DataError, match="field names must be unique; given more than once: age"):
        DataSpec((Continuous("age"),), (Categorical("age", ("young", "old")),))


def test_spec_without_fields_is_refused():
    with pytest.raises(DataError, match="at least one field"):
        DataSpec(())


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Continuous("x", std=0.0), 'field "x": std=0.0 must be a finite number above 0'),
        (lambda: Continuous("x", std=float("nan")), "std=nan must be"),
        (lambda: Continuous("x", mean=float("inf")), "mean=inf must be a finite number"),
        (lambda: Categorical("x", ()), 'field "x" has no categories'),
        (lambda: Categorical("x", ("a", "b", "a")), 'categories of field "x" must be unique; .*: a'),
        (lambda: Image("x", 3, 0, 7), 'field "x": height=0 must be at least 1'),
        (lambda: Tokens("x", 0, 7), "vocab_size=0 must be at least 1"),
        (lambda: PointSet("x", -1), "dim=-1 must be at least 1"),
    ],
)
def test_impossible_fields_are_refused(build, message):
    with pytest.raises(DataError, match=message):
        build()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "must be JSON"),
        ("[]", 'exactly the keys "inputs" and "targets"'),
        ('{"inputs": []}', 'exactly the keys "inputs" and "targets"'),
        (
            json.dumps({"inputs": [{"kind": "continous", "name": "x"}], "targets": []}),
            'unknown kind of field "continous"; allowed: .*; did you mean "continuous"',
        ),
        (
            json.dumps({"inputs": [{"kind": "tokens", "name": "x"}], "targets": []}),
            "does not describe a tokens field: .*vocab_size",
        ),
    ],
)
def test_text_that_is_no_spec_is_refused(text, message):
    with pytest.raises(DataError, match=message):
        DataSpec.from_json(text)
