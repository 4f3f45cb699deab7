"""The pages about hooks: every hook has one, it states the signature and the record, and its example works."""

import dataclasses
import inspect
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise import plugin

PAGES = Path(__file__).parent.parent / "docs" / "hooks"
HOOKS = {name: function for name, function in vars(plugin.HookSpecs).items() if name.startswith("setwise_")}
BLOCK = re.compile(r'^```(\w+)(?: title="([^"]+)")?\n(.*?)^```$', re.MULTILINE | re.DOTALL)


def blocks(hook: str) -> list[tuple[str, str, str]]:
    """(language, title, text) of every code block of a hook's page."""
    return BLOCK.findall((PAGES / f"{hook}.md").read_text(encoding="utf-8"))


def signature(hook: str) -> str:
    """The hook as a plugin writes it: without `self`."""
    returned = inspect.signature(HOOKS[hook]).return_annotation
    return f"def {hook}() -> {returned}:\n"


def record(hook: str) -> type:
    returned = str(inspect.signature(HOOKS[hook]).return_annotation)
    return getattr(plugin, returned.removeprefix("Iterable[").removesuffix("]"))


def test_there_is_one_page_per_hook():
    assert {file.stem for file in PAGES.glob("setwise_*.md")} == HOOKS.keys()


@pytest.mark.parametrize("hook", HOOKS)
def test_page_states_the_exact_signature(hook: str):
    assert ("python", "", signature(hook)) in blocks(hook)


@pytest.mark.parametrize("hook", HOOKS)
def test_page_describes_every_field_of_the_record(hook: str):
    text = (PAGES / f"{hook}.md").read_text(encoding="utf-8")
    described = re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE)

    assert f"`{record(hook).__name__}`" in text
    assert described == [field.name for field in dataclasses.fields(record(hook))]


@pytest.mark.parametrize("hook", HOOKS)
def test_example_of_the_page_works(
    hook: str,
    install_fake: Callable[..., Path],
    python: Callable[..., subprocess.CompletedProcess[str]],
    setwise: Callable[..., subprocess.CompletedProcess[str]],
):
    parts = [part for part in blocks(hook) if part[2] != signature(hook)]
    files = {title: text for _, title, text in parts if title}
    site = install_fake("setwise-acme", files, plugin="acme", module="acme.plugin")
    programs = [text for language, title, text in parts if language == "python" and not title]
    sessions = [text for language, _, text in parts if language == "console"]

    assert programs or sessions
    for program in programs:
        result = python(program, path=[site])
        assert result.returncode == 0, result.stderr
    for session in sessions:
        command, expected = session.split("\n", 1)
        result = setwise(*shlex.split(command.removeprefix("$ setwise ")), path=[site])
        assert (result.returncode, result.stdout) == (0, expected), result.stderr
