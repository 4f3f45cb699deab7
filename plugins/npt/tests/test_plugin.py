"""What the plugin registers: torch-free, complete, and good for its recipes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from setwise.component import Options, load_reference
from setwise.config import load_config
from setwise.registry import Registry, load_registry
from setwise.train.session import train


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def _ours(registry: Registry, kind: str) -> list[str]:
    return [entry.qualified for entry in registry.entries(kind) if entry.plugin == "npt"]


def test_components_are_registered_under_their_names(registry: Registry):
    assert _ours(registry, "models") == ["npt/npt"]
    assert _ours(registry, "tasks") == ["npt/masked-modelling"]
    assert _ours(registry, "optimizers") == ["npt/lamb", "npt/lookahead-adam"]
    assert _ours(registry, "schedules") == [
        "npt/flat-and-anneal",
        "npt/linear-warmup",
        "npt/polynomial",
        "npt/cosine-cyclic",
    ]


@pytest.mark.parametrize("kind", ["models", "tasks", "optimizers", "schedules"])
def test_every_option_of_every_component_is_described_and_its_code_can_be_imported(registry: Registry, kind: str):
    for entry in registry.entries(kind):
        if entry.plugin == "npt":
            options = load_reference(entry.qualified, entry.spec, "config")
            assert issubclass(options, Options)
            assert [name for name, field in options.model_fields.items() if not field.description] == []
            assert callable(load_reference(entry.qualified, entry.spec, "build"))


def test_registration_and_options_do_without_torch():
    program = "import json, sys, setwise_npt.plugin, setwise_npt.config; print(json.dumps(sorted(sys.modules)))"
    output = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
    assert {"torch", "numpy", "pandas"}.isdisjoint(json.loads(output))


def test_recipes_are_valid_and_described(registry: Registry):
    recipes = [recipe for recipe in registry.recipes() if recipe.plugin == "npt"]
    assert {recipe.name for recipe in recipes} == {"breast-cancer", "breast-cancer-paper"}
    for recipe in recipes:
        load_config(recipe.path.read_text(encoding="utf-8"), registry=registry, label=recipe.qualified)
        assert "Hardware and time:" in recipe.description


def test_the_small_recipe_trains_and_evaluates(registry: Registry, tmp_path: Path):
    (recipe,) = (r for r in registry.recipes() if r.qualified == "npt/breast-cancer")
    small = [
        "model.column_dim=4",
        "model.num_layers=2",
        "model.num_heads=2",
        "trainer.max_steps=3",
        "trainer.device=cpu",
    ]
    config = load_config(recipe.path.read_text(encoding="utf-8"), small, registry)
    result = train(config, name="npt/breast-cancer", runs=tmp_path, registry=registry)
    assert result.finished
    assert result.final is not None
    assert result.final.keys() == {"val", "test"}
    assert result.final["test"].keys() == {"loss", "accuracy", "auroc"}
