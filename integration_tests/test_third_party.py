"""A plugin by somebody else, installed from its wheel: its names work beside and inside those of core."""

import json
import subprocess
from collections.abc import Callable

Run = Callable[..., subprocess.CompletedProcess[str]]


def test_its_recipe_trains_its_attention_in_a_model_of_core(setwise: Run):
    result = setwise("train", "guest/stripes", "--json")

    assert result.returncode == 0, result.stderr
    ending = json.loads(result.stdout.splitlines()[-1])
    assert ending["final"]["test"]["accuracy"] > 0.9


def test_its_attention_takes_the_place_of_cores_in_a_recipe_of_core(setwise: Run):
    result = setwise("train", "setwise/digits", "model.attention.name=guest/mean", "trainer.max_steps=3")

    assert result.returncode == 0, result.stderr


def test_its_command_runs(setwise: Run):
    result = setwise("guest", "draw", "--split", "val")

    assert result.returncode == 0, result.stderr
    assert set(result.stdout.split()) <= {"########", "........", "#.#.#.#.", ".#.#.#.#"}
    assert len(result.stdout.split()) == 8
