"""Finding recipes and reading what they say about themselves."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.errors import ConfigError, UnknownNameError
from setwise.recipes import open_recipe, parse_description
from setwise.registry import Registry, load_registry

Install = Callable[..., Path]

PLUGIN = "from setwise.plugin import *\n@hookimpl\ndef setwise_recipes():\n    yield RecipeSource('{}')\n"
SMALL = """\
# Digits in 20 seconds
#
#   Test accuracy 0.97 on 2 cores.
# Not in any paper.
seed: 3
# not part of the description
"""


@pytest.fixture
def registry(install: Install) -> Registry:
    """Two plugins with recipes; both have one called "shared"."""
    for name, recipes in {
        "demo": {"quick-digits": SMALL, "shared": "seed: 1\n"},
        "more": {"shared": "seed: 2\n"},
    }.items():
        files = {f"{name}_plugin/recipes/{recipe}.yaml": text for recipe, text in recipes.items()}
        source = PLUGIN.format(f"{name}_plugin")
        notes = {f"{name}_plugin/recipes/NOTES.md": "no recipe"}
        install(
            f"setwise-{name}", name, {f"{name}_plugin/__init__.py": source, **files, **notes}, target=f"{name}_plugin"
        )
    return load_registry(only=("demo", "more"))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALL, ("Digits in 20 seconds", "  Test accuracy 0.97 on 2 cores.\nNot in any paper.")),
        ("# One line", ("One line", "")),
        ("#\n# Second line\n", ("", "Second line")),
        ("seed: 1\n# late\n", ("", "")),
        ("", ("", "")),
    ],
)
def test_leading_comment_is_summary_and_description(text: str, expected: tuple[str, str]):
    assert parse_description(text) == expected


def test_recipes_are_the_yaml_files_of_the_folders(registry: Registry):
    recipes = [recipe for recipe in registry.recipes() if recipe.plugin in ("demo", "more")]

    assert [recipe.qualified for recipe in recipes] == ["demo/quick-digits", "demo/shared", "more/shared"]
    assert [recipe.summary for recipe in recipes] == ["Digits in 20 seconds", "", ""]
    assert recipes[0].description == "  Test accuracy 0.97 on 2 cores.\nNot in any paper."


@pytest.mark.parametrize("name", ["demo/quick-digits", "quick-digits"])
def test_recipe_is_opened_by_name(registry: Registry, name: str):
    recipe = open_recipe(name, registry)

    assert (recipe.name, recipe.text) == ("demo/quick-digits", SMALL)
    assert recipe.label.endswith("demo_plugin/recipes/quick-digits.yaml")


def test_problems_of_a_recipe_name_its_file(registry: Registry):
    recipe = open_recipe("demo/quick-digits", registry)

    with pytest.raises(ConfigError, match=re.escape(f"{recipe.label}:5: model: missing")):
        recipe.load(registry=registry)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("shared", 'the recipe "shared" is ambiguous; write demo/shared or more/shared'),
        ("demo/quick-digit", 'unknown recipe "demo/quick-digit"; did you mean "demo/quick-digits"?'),
        ("quick-diggits", 'unknown recipe "quick-diggits"; did you mean "quick-digits"?'),
    ],
)
def test_recipe_that_cannot_be_meant(registry: Registry, name: str, message: str):
    with pytest.raises(UnknownNameError) as caught:
        open_recipe(name, registry)

    assert str(caught.value) == message


@pytest.mark.parametrize("file", ["mine.yaml", "mine.yml", "mine"])
def test_file_is_a_recipe(registry: Registry, tmp_path: Path, file: str):
    path = tmp_path / file
    path.write_text("\ufeffseed: 5\n", encoding="utf-8")

    recipe = open_recipe(str(path), registry)

    assert (recipe.name, recipe.label, recipe.text) == ("local/mine", str(path), "seed: 5\n")


def test_file_wins_over_a_recipe_of_its_name(registry: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    Path("quick-digits").write_text("seed: 5\n")

    assert open_recipe("quick-digits", registry).name == "local/quick-digits"


def test_config_of_a_run_stands_for_its_recipe(registry: Registry, make_run: Callable[..., object], tmp_path: Path):
    make_run("demo/quick-digits/20251120-182500-a1b2c3")

    recipe = open_recipe(str(tmp_path / "runs/demo/quick-digits/20251120-182500-a1b2c3/config.yaml"), registry)

    assert recipe.name == "demo/quick-digits"


def test_folder_is_no_recipe(registry: Registry, tmp_path: Path):
    with pytest.raises(UnknownNameError, match=f"{tmp_path} is a folder: give the YAML file in it"):
        open_recipe(str(tmp_path), registry)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "there is no such file"),
        (b"seed: \xe4\n", "the file is not UTF-8 text (invalid continuation byte at byte 6)"),
        ("folder", "the file cannot be read: Is a directory"),
    ],
)
def test_file_that_cannot_be_read(registry: Registry, tmp_path: Path, content: object, message: str):
    file = tmp_path / "my.yaml"
    if isinstance(content, bytes):
        file.write_bytes(content)
    elif content:
        file.mkdir()

    with pytest.raises(ConfigError) as caught:
        open_recipe(str(file), registry)

    assert str(caught.value) == f"{file}: {message}"


def test_recipe_with_broken_characters_is_listed_but_not_opened(registry: Registry, install: Install):
    site = install("setwise-bad", "bad", {"bad_plugin/__init__.py": PLUGIN.format("bad_plugin")}, target="bad_plugin")
    recipes = site / "bad_plugin" / "recipes"
    recipes.mkdir()
    (recipes / "latin.yaml").write_bytes(b"# F\xfcr alle\nseed: 1\n")
    registry = load_registry(only=("bad",))

    assert [recipe.summary for recipe in registry.recipes() if recipe.plugin == "bad"] == ["F\ufffdr alle"]
    with pytest.raises(ConfigError, match="is not UTF-8"):
        open_recipe("bad/latin", registry)
