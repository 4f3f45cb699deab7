"""What core registers can be imported, and its options are what recipes need."""

import pytest

from setwise.component import Options, load_reference
from setwise.registry import KINDS, Entry, load_registry

ENTRIES = [entry for kind in KINDS for entry in load_registry(disabled=True).entries(kind)]


def name(entry: Entry) -> str:
    return f"{entry.kind}:{entry.name}"


def test_core_brings_something_of_every_kind():
    assert {entry.kind for entry in ENTRIES} == set(KINDS)


@pytest.mark.parametrize("entry", ENTRIES, ids=name)
def test_options_are_described(entry: Entry):
    options = load_reference(entry.qualified, entry.spec, "config")

    assert issubclass(options, Options)
    assert [key for key, field in options.model_fields.items() if not field.description] == []


@pytest.mark.parametrize("entry", ENTRIES, ids=name)
def test_code_can_be_imported(entry: Entry):
    assert callable(load_reference(entry.qualified, entry.spec, "build"))


@pytest.mark.parametrize("entry", ENTRIES, ids=name)
def test_summary_is_one_short_line(entry: Entry):
    assert 0 < len(entry.spec.summary) <= 100
    assert "\n" not in entry.spec.summary


@pytest.mark.parametrize("entry", [entry for entry in ENTRIES if entry.kind == "optimizers"], ids=name)
def test_optimizers_have_a_learning_rate(entry: Entry):
    assert "lr" in load_reference(entry.qualified, entry.spec, "config").model_fields
