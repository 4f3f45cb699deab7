"""``setwise data``: fetch and verify datasets, before a training needs them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from setwise.cli.output import OutputParameter
from setwise.component import Component
from setwise.config import load_component
from setwise.errors import DataError, UnknownNameError
from setwise.recipes import open_recipe
from setwise.registry import default_registry


def fetch(name: str, /, *options: str, output: OutputParameter) -> None:
    """Download and prepare a dataset, so that training works without a network.

    Args:
        name: a dataset, or a recipe, for the dataset it uses.
        options: option=value of the dataset; with a recipe, overrides of it.
    """
    _, facts = _prepare(name, options)
    output.document(facts)
    for key, value in facts.items():
        output.line(f"{key}: {value}")


def verify(name: str, /, *options: str, fingerprint: str | None = None, output: OutputParameter) -> None:
    """Read a dataset again and compare its fingerprint, the SHA-256 of the data used, with an earlier one.

    Args:
        name: a dataset, or a recipe, for the dataset it uses.
        options: option=value of the dataset; with a recipe, overrides of it.
        fingerprint: what to compare with, such as "data_fingerprint" in the run.json of a run.
    """
    dataset, facts = _prepare(name, options)
    if fingerprint is not None and facts["fingerprint"] != fingerprint:
        raise DataError(f"{dataset} has the fingerprint {facts['fingerprint']}, not {fingerprint}: it has changed")
    output.document(facts)
    output.line(f"{dataset}: {facts['fingerprint']}{'' if fingerprint is None else ' as expected'}")


def _prepare(name: str, options: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """Prepare a dataset; return its name and what there is to know of it."""
    component, seed = _find_dataset(name, options)
    data = component.build(seed=seed)
    data.prepare()
    return component.name, {
        "dataset": component.name,
        "items": ", ".join(f"{data.num_items(split)} {split}" for split in data.splits),
        "inputs": len(data.spec.inputs),
        "targets": ", ".join(field.name for field in data.spec.targets) or "none",
        "fingerprint": data.fingerprint(),
    }


def _find_dataset(name: str, options: Sequence[str]) -> tuple[Component, int]:
    """Return a dataset with its options, and the seed it is used with."""
    registry = default_registry()
    try:
        registry.get("datasets", name)
    except UnknownNameError as unknown_dataset:
        try:
            recipe = open_recipe(name, registry)
        except UnknownNameError:
            raise unknown_dataset from None
        config = recipe.load(options, registry)
        return config.data, config.seed
    return load_component("datasets", name, options, registry), 0
