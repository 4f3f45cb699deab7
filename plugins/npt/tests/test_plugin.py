"""What the plugin registers, and that its small recipe gives the metrics it promises; suites of core check the rest."""

from __future__ import annotations

from pathlib import Path

import pytest

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
