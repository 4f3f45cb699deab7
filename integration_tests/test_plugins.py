"""Plugins side by side: each alone, all together, one missing, and broken ones by somebody else in between."""

import json
import subprocess
from collections.abc import Callable
from importlib.metadata import Distribution
from pathlib import Path
from typing import Any

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

REGISTERS_ADAMW = """
from setwise.plugin import OptimizerSpec, Ref, hookimpl

@hookimpl
def setwise_optimizers():
    yield OptimizerSpec("adamw", Ref("nowhere:build"), Ref("nowhere:Options"), "Another AdamW")
"""


def answer(result: subprocess.CompletedProcess[str]) -> Any:
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def names(listed: list[dict[str, str]], plugin: str) -> set[tuple[str, str]]:
    return {(row["kind"], row["name"]) for row in listed if row["name"].split("/")[0] == plugin}


@pytest.fixture
def first_party(installed: dict[str, Distribution]) -> list[str]:
    return [name for name in installed if name != "setwise"]


@pytest.fixture
def broken(install_fake: Callable[..., Path]) -> list[Path]:
    """Distributions of which each is wrong in its own way."""
    hook = "from setwise.plugin import hookimpl\n\n@hookimpl\ndef setwise_{}():\n    {}\n"
    return [
        install_fake("crash", {"crash.py": "raise RuntimeError('no such device')"}, plugin="crash", module="crash"),
        install_fake("absent", {}, plugin="absent", module="absent"),
        install_fake("typo", {"typo.py": hook.format("modles", "return []")}, plugin="typo", module="typo"),
        install_fake("raises", {"raises.py": hook.format("models", "1 / 0")}, plugin="raises", module="raises"),
        install_fake("first-twin", {"one.py": REGISTERS_ADAMW}, plugin="twin", module="one"),
        install_fake("second-twin", {"two.py": REGISTERS_ADAMW}, plugin="twin", module="two", version="2.5"),
        install_fake("future", {"future.py": ""}, plugin="future", module="future", group="setwise.plugins.v2"),
    ]


def test_all_plugins_load_together(setwise: Run, installed: dict[str, Distribution]):
    statuses = answer(setwise("plugins", "--json"))

    assert {row["plugin"]: row["status"] for row in statuses} == dict.fromkeys(installed, "ok")
    assert {row["plugin"]: row["version"] for row in statuses} == {
        name: distribution.version for name, distribution in installed.items()
    }


def test_each_plugin_alone_offers_the_names_it_offers_with_all(setwise: Run, site_without: Run, first_party: list[str]):
    together = answer(setwise("list", "--json"))

    for plugin in first_party:
        others = [name for name in first_party if name != plugin]
        alone = answer(setwise("list", "--json", site=site_without(*others)))
        assert names(alone, plugin) == names(together, plugin) != set()
        assert names(alone, "setwise") == names(together, "setwise") != set()


def test_core_works_without_any_plugin(setwise: Run, site_without: Callable[..., Path], first_party: list[str]):
    listed = answer(setwise("list", "--json", site=site_without(*first_party)))

    assert {row["name"].split("/")[0] for row in listed} == {"setwise"}


def test_missing_plugin_says_what_to_install(setwise: Run, site_without: Callable[..., Path]):
    result = setwise("train", "npt/breast-cancer", site=site_without("npt"))

    assert result.returncode == 2
    assert "pip install setwise-npt" in result.stderr
    assert "Traceback" not in result.stderr


def test_each_broken_plugin_costs_one_line(setwise: Run, broken: list[Path], installed: dict[str, Distribution]):
    result = setwise("plugins", path=broken)

    lines = result.stdout.splitlines()
    assert result.returncode == 0
    assert len(lines) == 1 + len(installed) + len(broken)
    for plugin, *words in [
        ("crash", "failed", "RuntimeError: no such device"),
        ("absent", "failed", "No module named 'absent'"),
        ("typo", "failed", "setwise_modles", 'did you mean "setwise_models"'),
        ("raises", "failed", "setwise_models", "ZeroDivisionError"),
        ("twin", "conflict", "first-twin 1.0", "second-twin 2.5"),
        ("future", "incompatible", "v2"),
        ("npt", "ok"),
    ]:
        [*found] = [line for line in lines if line.split()[0] == plugin]
        assert found
        assert all(word in line for line in found for word in words)


def test_broken_plugins_take_no_name_away(setwise: Run, broken: list[Path]):
    sound, beside_broken = setwise("list", "--json"), setwise("list", "--json", path=broken)

    assert answer(beside_broken) == answer(sound)
    assert beside_broken.stderr.startswith("not loaded: absent, crash, future, raises, twin")


def test_first_party_plugin_that_breaks_leaves_core_usable(setwise: Run, tmp_path: Path):
    (tmp_path / "shadow").mkdir()
    (tmp_path / "shadow" / "setwise_npt.py").write_text("raise ImportError('half installed')\n")

    listed = setwise("list", "--json", path=[tmp_path / "shadow"])
    trained = setwise("train", "npt/breast-cancer", path=[tmp_path / "shadow"])

    assert names(answer(listed), "setwise")
    assert not names(answer(listed), "npt")
    assert trained.returncode == 2
    assert "failed to load" in trained.stderr
    assert "half installed" in trained.stderr


def test_another_plugin_changes_no_recipe(python: Run, install_fake: Callable[..., Path], first_party: list[str]):
    """Recipes write names in full, so that a plugin with the same bare name does not make theirs ambiguous."""
    rival = install_fake("rival", {"rival.py": REGISTERS_ADAMW}, plugin="rival", module="rival")
    resolve = """
from setwise.config import dump_config
from setwise.recipes import open_recipe
from setwise.registry import default_registry
registry = default_registry()
for recipe in registry.recipes():
    print(recipe.qualified, dump_config(open_recipe(recipe.qualified, registry).load()))
"""

    alone, beside_rival = python(resolve), python(resolve, path=[rival])

    assert all(f"{plugin}/" in alone.stdout for plugin in first_party)
    assert (beside_rival.stdout, beside_rival.stderr) == (alone.stdout, alone.stderr)
