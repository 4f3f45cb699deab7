"""What core registers can be imported, and its options are what recipes need."""

import pytest

from setwise.component import Options, load_reference
from setwise.config import load_component
from setwise.errors import ConfigError
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


def test_mha_is_built_as_its_options_say():
    heads = ["num_heads=6", "num_kv_heads=3", "head_dim=4"]
    options = [*heads, "rope=true", "rope_base=100", "bias=false", "dropout=0.25"]
    layer = load_component("attentions", "setwise/mha", [*options, "backend=chunked"]).build(dim=7, causal=True)

    assert (layer.dim, layer.num_heads, layer.num_kv_heads, layer.head_dim, layer.causal) == (7, 6, 3, 4, True)
    assert (layer.rope.head_dim, layer.rope.base, layer.dropout, layer.backend) == (4, 100.0, 0.25, "chunked")
    assert layer.out.bias is None


@pytest.mark.parametrize("rope", ["true", "false"])
def test_mha_whose_heads_do_not_fit_is_told(rope: str):
    component = load_component("attentions", "setwise/mha", ["num_heads=4", f"rope={rope}"])

    with pytest.raises(ConfigError, match="num_heads=4 must divide dim=14; try 2 or 7"):
        component.build(dim=14, causal=False)
