"""The layers of core: which part may import which, read from the source; what an import does, seen in a new process.

A part is a module or folder directly below `setwise`. Imports inside functions and under TYPE_CHECKING count as well:
a layer that needs another one late still depends on it.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import setwise

SOURCE = Path(setwise.__file__).parent

# The foundation may be imported by every part, and may itself import nothing heavier than this.
FOUNDATION = {
    "builtin",
    "component",
    "config",
    "discovery",
    "document",
    "errors",
    "options",
    "plugin",
    "problems",
    "recipes",
    "registry",
    "seeding",
}
FOUNDATION_THIRD_PARTY = {"pluggy", "pydantic", "pydantic_core", "yaml"}

# Every other part: the parts it may import besides itself and the foundation.
LAYERS = {
    "device": set(),
    "attention": {"device"},
    "data": {"device"},
    "models": {"attention", "data"},
    "tasks": {"attention", "data"},
    "train": {"data", "device", "tasks"},
    "report": {"train"},
    "testing": {"attention", "data", "device", "models", "report", "tasks", "train"},
    "cli": {"attention", "data", "device", "models", "report", "tasks", "testing", "train"},
}

HEAVY = {"matplotlib", "numpy", "pandas", "sklearn", "torch", "torchmetrics", "torchvision"}


class Import(NamedTuple):
    file: str
    line: int
    part: str  # the importing part of setwise
    module: str  # the imported module, with the imported name where it may be a module too

    @property
    def root(self) -> str:
        return self.module.partition(".")[0]

    @property
    def imported_part(self) -> str:
        return self.module.split(".")[1]

    def __str__(self) -> str:
        return f"{self.file}:{self.line} imports {self.module}"


def imported_modules(node: ast.Import | ast.ImportFrom, package: list[str]) -> Iterator[str]:
    """Absolute names of what one statement imports; `package` is where relative imports start."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    else:
        base = package[: len(package) - node.level + 1] if node.level else []
        yield from (".".join(filter(None, [*base, node.module, alias.name])) for alias in node.names)


def all_imports() -> list[Import]:
    found = []
    for file in sorted(SOURCE.rglob("*.py")):
        path = file.relative_to(SOURCE)
        package = ["setwise", *path.parts[:-1]]
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import | ast.ImportFrom):
                part = path.parts[0].removesuffix(".py")
                found += [Import(str(path), node.lineno, part, module) for module in imported_modules(node, package)]
    return found


IMPORTS = all_imports()
INTERNAL = [item for item in IMPORTS if item.root == "setwise" and "." in item.module]


def test_every_part_has_a_layer():
    parts = {item.part for item in IMPORTS}

    assert parts - {"__init__", "__main__"} <= FOUNDATION | LAYERS.keys()


@pytest.mark.parametrize("part", LAYERS)
def test_part_imports_only_lower_layers(part: str):
    allowed = LAYERS[part] | FOUNDATION | {part}

    assert [str(item) for item in INTERNAL if item.part == part and item.imported_part not in allowed] == []


def test_foundation_imports_only_itself_and_light_libraries():
    allowed = FOUNDATION_THIRD_PARTY | sys.stdlib_module_names

    assert [str(item) for item in INTERNAL if item.part in FOUNDATION and item.imported_part not in FOUNDATION] == []
    assert [
        str(item) for item in IMPORTS if item.part in FOUNDATION and item.root != "setwise" and item.root not in allowed
    ] == []


def test_device_is_torch_only():
    allowed = {"setwise", "torch"} | sys.stdlib_module_names

    assert [str(item) for item in IMPORTS if item.part == "device" and item.root not in allowed] == []


def test_nothing_imports_the_command_line_or_the_test_kit():
    users = [item for item in INTERNAL if item.imported_part in {"cli", "testing"}]

    assert [str(item) for item in users if item.part not in {"__main__", "cli", item.imported_part}] == []


@pytest.mark.parametrize(
    "module",
    [
        "setwise",
        "setwise.plugin",
        "setwise.registry",
        "setwise.config",
        "setwise.recipes",
        "setwise.builtin",
        "setwise.cli.main",
    ],
)
def test_import_is_light(module: str):
    code = f"import {module}, sys; print(sorted({HEAVY!r} & sys.modules.keys()))"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert result.stdout.strip() == "[]"


def test_importing_every_module_changes_no_global_state():
    code = """
import importlib, os, pkgutil, random, signal, logging
import numpy, rich.style, torch, setwise  # rich itself draws a random number when it is imported
def state():
    return (dict(os.environ), random.getstate(), str(numpy.random.get_state()), torch.get_rng_state().tolist(),
            torch.get_default_dtype(), torch.get_num_threads(), torch.backends.cuda.matmul.allow_tf32,
            torch.are_deterministic_algorithms_enabled(), list(logging.getLogger().handlers),
            [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)])
before = state()
names = [module.name for module in pkgutil.walk_packages(setwise.__path__, "setwise.")]
for name in names:
    if not name.endswith("__main__"):
        importlib.import_module(name)
assert len(names) > 10, names
assert state() == before
"""

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)

    assert result.returncode == 0, result.stderr
