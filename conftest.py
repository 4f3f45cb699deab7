"""Checks the shapes that signatures promise, in tests only.

Every module that annotates shapes with jaxtyping is imported so that each call of its functions is checked. The tests
that run outside the tree (nox session `wheel`) do not see this file: they test what users run, without checks.
"""

import functools
import inspect
import sys
import types
import typing
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import jaxtyping
import pytest

SOURCES = sorted(Path(__file__).parent.glob("*/*/src"))


def modules_with_shapes() -> list[str]:
    """Return the names of the modules below `SOURCES` that use jaxtyping; suites expect to be given wrong shapes."""
    files = [(source, file) for source in SOURCES for file in source.rglob("*.py") if "jaxtyping" in file.read_text()]
    names = [".".join(file.relative_to(source).with_suffix("").parts) for source, file in files]
    return [name.removesuffix(".__init__") for name in names if not name.startswith("setwise.testing")]


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Make a function check its shapes. Other types are left to the type checker."""
    hints, signature = typing.get_type_hints(function), inspect.signature(function)

    @functools.wraps(function)
    def checked(*args: Any, **kwargs: Any) -> Any:
        for name, value in signature.bind(*args, **kwargs).arguments.items():
            if not all(fits(each, hints.get(name)) for each in spread(value, signature.parameters[name].kind)):
                raise TypeError(f"{name} is not {hints[name]}")
        result = function(*args, **kwargs)
        if not fits(result, hints.get("return")):
            raise TypeError(f"the result is not {hints['return']}")
        return result

    return checked


def spread(value: Any, kind: Any) -> Iterable[Any]:
    """Return the values that one parameter holds: the hint of `*args` and `**kwargs` is that of each."""
    if kind is inspect.Parameter.VAR_KEYWORD:
        return value.values()
    return value if kind is inspect.Parameter.VAR_POSITIONAL else (value,)


def fits(value: Any, hint: Any) -> bool:
    """Return whether a value has the shape that a hint asks for, if it asks for one."""
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return any(fits(value, choice) for choice in typing.get_args(hint))
    if hint is type(None):
        return value is None
    if isinstance(hint, type) and issubclass(hint, jaxtyping.AbstractArray):
        return isinstance(value, hint)
    return True


# jaxtyping wants an import path, and pytest takes that of a conftest away again.
sys.modules["shape_checks"] = types.ModuleType("shape_checks")
sys.modules["shape_checks"].check = check  # pyright: ignore[reportAttributeAccessIssue]
jaxtyping.install_import_hook(modules_with_shapes(), "shape_checks.check")


@pytest.fixture(autouse=True)
def unchecked_when_wrong_on_purpose(request: pytest.FixtureRequest) -> Iterator[None]:
    """Let tests marked `wrong_shapes` see the errors that users see."""
    jaxtyping.config.update("jaxtyping_disable", request.node.get_closest_marker("wrong_shapes") is not None)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)
