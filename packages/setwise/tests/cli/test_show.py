"""`setwise show`."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.cli.main import main

Install = Callable[..., Path]

PLUGIN = """
from setwise.plugin import *


@hookimpl
def setwise_models():
    yield ModelSpec("net", Ref("nowhere:build"), Ref("demo_plugin.config:NetOptions"), "A network")


@hookimpl
def setwise_datasets():
    options = Ref("demo_plugin.config:NoOptions")
    yield DatasetSpec("net", Ref("nowhere:build"), options, "Data", licence="CC0", size=7, offline=True)


@hookimpl
def setwise_recipes():
    yield RecipeSource("demo_plugin")
"""
CONFIG = """
from typing import Annotated, Literal
from pydantic import Field
from setwise.config import Component, Options, Slot


class NoOptions(Options):
    pass


class Inner(Options):
    share: float = Field(0.5, ge=0, lt=1, description="a share")


class NetOptions(Options):
    dim: int = Field(gt=1, description="the width")
    attention: Annotated[Component, Slot("attentions", default="setwise/mha")] = Field(description="the mixer")
    activation: Literal["relu", "gelu"] = Field("relu", description="the bend")
    size: int | Literal["all"] | None = None
    betas: tuple[float, float] = (0.9, 0.999)
    names: tuple[str, ...] = ()
    inner: Inner = Inner()
    maybe: Inner | None = None
"""
RECIPE = "# A quick one\n# More of it.\nmodel: net\n"


@pytest.fixture
def demo(install: Install) -> Path:
    files = {
        "demo_plugin/__init__.py": PLUGIN,
        "demo_plugin/config.py": CONFIG,
        "demo_plugin/recipes/quick.yaml": RECIPE,
    }
    return install("setwise-demo", "demo", files, target="demo_plugin")


def test_component_is_shown_with_all_its_options(demo: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", "demo/net", "--kind", "models"]) == 0

    assert (
        capsys.readouterr().out
        == """\
demo/net (models): A network

option       type                    default       description
dim          integer > 1             (required)    the width
attention    one of the attentions   setwise/mha   the mixer
activation   relu or gelu            relu          the bend
size         integer or all or null  null
betas        [number, number]        [0.9, 0.999]
names        [string, ...]           []
inner        section                 {share: 0.5}
inner.share  number >= 0, < 1        0.5           a share
maybe        section or null         null
maybe.share  number >= 0, < 1        0.5           a share
"""
    )


def test_things_of_one_name_are_all_shown(demo: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", "demo/net"]) == 0

    shown = capsys.readouterr().out
    assert "demo/net (models): A network\n" in shown
    assert "\n\ndemo/net (datasets): Data\nlicence: CC0\nsize: 7\noffline: True\n\nno options\n" in shown


def test_recipe_is_shown_as_it_is(demo: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["show", "quick"]) == 0

    file = demo / "demo_plugin" / "recipes" / "quick.yaml"
    assert capsys.readouterr().out == f"demo/quick (recipes): A quick one\nfile: {file}\n\n{RECIPE}"


def test_json_has_everything(demo: Path, capsys: pytest.CaptureFixture[str]):
    main(["show", "demo/net", "--kind", "models", "--json"])
    [component] = json.loads(capsys.readouterr().out)
    main(["show", "quick", "--json"])
    [recipe] = json.loads(capsys.readouterr().out)

    assert (component["kind"], component["name"], component["options"][0]["option"]) == ("models", "demo/net", "dim")
    assert (recipe["kind"], recipe["description"], recipe["text"]) == ("recipes", "More of it.", RECIPE)


def test_schema_of_a_component_and_of_a_recipe(demo: Path, capsys: pytest.CaptureFixture[str]):
    main(["show", "demo/net", "--kind", "models", "--schema"])
    component = json.loads(capsys.readouterr().out)
    main(["show", "quick", "--schema"])
    recipe = json.loads(capsys.readouterr().out)

    assert component["properties"]["dim"] == {
        "description": "the width",
        "exclusiveMinimum": 1,
        "title": "Dim",
        "type": "integer",
    }
    assert {"model", "data", "task", "optimizer", "schedule", "trainer", "seed"} == recipe["properties"].keys()


ERRORS = {
    "several things": (
        ["demo/net", "--schema"],
        'setwise: "demo/net" names 2 things; add --kind models or datasets\n',
    ),
    "misspelt": (["demo/nett"], 'setwise: unknown name "demo/nett"; did you mean "demo/net"?\n'),
    "nothing near": (["zzzzz"], 'setwise: unknown name "zzzzz"; see "setwise list"\n'),
    "plugin to install": (
        ["dual-attention/x"],
        'setwise: unknown name "dual-attention/x": the plugin "dual-attention" is not installed; '
        "run: pip install setwise-dual-attention\n",
    ),
    "unknown kind": (
        ["demo/net", "--kind", "zzz"],
        'setwise: unknown kind "zzz"; the kinds are models, attentions, datasets, tasks, optimizers, schedules, '
        "recipes\n",
    ),
}


@pytest.mark.parametrize(("arguments", "message"), ERRORS.values(), ids=ERRORS.keys())
def test_name_that_cannot_be_shown(
    demo: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: list[str],
    message: str,
):
    monkeypatch.setenv("SETWISE_PLUGINS", "demo")

    assert main(["show", *arguments]) == 2
    assert message in capsys.readouterr().err
