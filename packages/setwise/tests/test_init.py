"""The public names of the package are imported when they are used, not before."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import setwise


def declared_names() -> set[str]:
    """The names that type checkers see."""
    tree = ast.parse(Path(setwise.__file__).read_text(encoding="utf-8"))
    [block] = [node for node in tree.body if isinstance(node, ast.If)]
    imported = {alias.asname for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names}
    return {name for name in imported if name} | {"__version__"}


PUBLIC = declared_names()


@pytest.mark.parametrize("name", sorted(PUBLIC))
def test_every_declared_name_exists(name: str):
    assert getattr(setwise, name) is not None


def test_dir_lists_the_declared_names_and_no_others_that_are_public():
    code = "import setwise; print(*(name for name in dir(setwise) if not name.startswith('_')))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert set(result.stdout.split()) - {"annotations", "importlib", "TYPE_CHECKING", "Any"} == PUBLIC - {"__version__"}


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match='module "setwise" has no attribute "trainer"'):
        setwise.trainer  # type: ignore[attr-defined]  # noqa: B018
