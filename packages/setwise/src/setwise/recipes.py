"""Recipes: complete configurations in the package data of plugins, or in a file of the user's.

A recipe is a YAML file. The first line of its leading comment is its summary; the other lines say what it reproduces,
the metric to expect, the hardware and the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING

from setwise.errors import ConfigError, UnknownNameError
from setwise.plugin import RecipeSource

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

    from setwise.config import RunConfig
    from setwise.registry import Registry

_SUFFIXES = (".yaml", ".yml")


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe that a plugin brings.

    Attributes:
        plugin: name of the plugin.
        name: name of the file without its suffix.
        path: the file, which may also be inside an archive.
        summary: first line of the leading comment.
        description: the other lines of the leading comment.
    """

    plugin: str
    name: str
    path: Traversable
    summary: str
    description: str

    @property
    def qualified(self) -> str:
        """The name that is unique among all plugins, ``<plugin>/<name>``."""
        return f"{self.plugin}/{self.name}"


@dataclass(frozen=True)
class Recipe:
    """The text of a recipe that a user named.

    Attributes:
        name: what runs of it are filed under: ``<plugin>/<recipe>``, or ``local/<file>`` for a file of the user's.
        label: what messages call it, usually the path of its file.
        text: the YAML.
    """

    name: str
    label: str
    text: str

    def load(self, overrides: Sequence[str] = (), registry: Registry | None = None) -> RunConfig:
        """Return the configuration with overrides applied; see :func:`setwise.config.load_config`."""
        from setwise.config import load_config

        return load_config(self.text, overrides, registry, label=self.label)


def open_recipe(given: str, registry: Registry) -> Recipe:
    """Return the recipe that a user means.

    Args:
        given: ``<plugin>/<recipe>``, a bare name that only one plugin has, or the path of a YAML file. The
            ``config.yaml`` of a run stands for the recipe of that run.
        registry: where names are looked up.

    Raises:
        ConfigError: the file cannot be read.
        UnknownNameError: no recipe, or more than one, has the name.

    Example:
        >>> from setwise.registry import default_registry
        >>> open_recipe("no-such-file.yaml", default_registry())
        Traceback (most recent call last):
        ...
        setwise.errors.ConfigError: no-such-file.yaml: there is no such file
    """
    path = Path(given)
    if given.endswith(_SUFFIXES) or path.is_file():
        return Recipe(_name_of_file(path), given, read_text(path, given))
    try:
        entry = registry.recipe(given)
    except UnknownNameError as error:
        if path.is_dir():
            raise UnknownNameError(f"{error}; {given} is a folder: give the YAML file in it") from None
        raise
    return Recipe(entry.qualified, str(entry.path), read_text(entry.path, str(entry.path)))


def find_recipes(plugin: str, source: RecipeSource) -> list[RecipeEntry]:
    """Return the recipes in a folder of package data, sorted by name."""
    paths = [path for path in files(source.package).joinpath(source.folder).iterdir() if path.name.endswith(_SUFFIXES)]
    return [_entry(plugin, path) for path in sorted(paths, key=lambda path: path.name)]


def parse_description(text: str) -> tuple[str, str]:
    """Return the summary and the description in the leading comment of a recipe.

    Example:
        >>> parse_description("# Digits with a small encoder\\n#\\n# Takes 20 s on 2 cores.\\nseed: 1\\n")
        ('Digits with a small encoder', 'Takes 20 s on 2 cores.')
    """
    comment = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        comment.append(line[1:].removeprefix(" ").rstrip())
    summary, *description = comment or [""]
    return summary, "\n".join(description).strip("\n")


def read_text(path: Traversable | Path, label: str) -> str:
    """Return the text of a file.

    Raises:
        ConfigError: it cannot be read, or is not UTF-8; the message calls the file ``label``.
    """
    try:
        return path.read_bytes().decode("utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{label}: there is no such file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{label}: the file is not UTF-8 text ({error.reason} at byte {error.start})") from None
    except OSError as error:
        raise ConfigError(f"{label}: the file cannot be read: {error.strerror}") from error


def _entry(plugin: str, path: Traversable) -> RecipeEntry:
    # A recipe with broken characters must not keep the others from being listed; loading it reports them.
    text = path.read_bytes().decode("utf-8-sig", errors="replace")
    return RecipeEntry(plugin, path.name.rpartition(".")[0], path, *parse_description(text))


def _name_of_file(path: Path) -> str:
    if path.name == "config.yaml" and path.with_name("run.json").exists():
        return "/".join(path.resolve().parts[-4:-2])  # runs/<plugin>/<recipe>/<run>/config.yaml
    return f"local/{path.stem}"
