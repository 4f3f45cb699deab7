"""YAML 1.2 and overrides as data that knows where it came from."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from setwise.document import Document, dump_yaml, shown

SCALARS = [
    ("1e-3", 1e-3),
    ("1E3", 1000.0),
    ("-.5", -0.5),
    ("3.", 3.0),
    ("+12", 12),
    ("010", 10),
    ("0o14", 12),
    ("0x1F", 31),
    ("1_000", "1_000"),
    ("1:30", "1:30"),
    ("on", "on"),
    ("yes", "yes"),
    ("No", "No"),
    ("true", True),
    ("FALSE", False),
    ("tRue", "tRue"),
    ("~", None),
    ("Null", None),
    ("", None),
    ("2001-12-14", "2001-12-14"),
    ("'1e-3'", "1e-3"),
    ('"5"', "5"),
    ("!!str 5", "5"),
    ("=", "="),
    (".inf", math.inf),
    ("-.INF", -math.inf),
]


@pytest.mark.parametrize(("text", "value"), SCALARS)
def test_scalars_are_those_of_yaml_1_2(text: str, value: object):
    document = Document.parse(f"key: {text}\n")

    assert (document.data, type(document.data["key"])) == ({"key": value}, type(value))


def test_nan_is_read():
    assert math.isnan(Document.parse("key: .nan").data["key"])


PROBLEMS = {
    "list": ("- a\n- b\n", 1, "the top level is a list; it must be a mapping of sections to their values"),
    "word": ("\nrecipe\n", 2, 'the top level is "recipe"; it must be a mapping of sections to their values'),
    "tab": ("model:\n\tname: x\n", 2, "this is not YAML: indentation must be spaces, not tabs"),
    "bracket": (
        "seed: 1\nmodel: [a\n",
        3,
        "this is not YAML: while parsing a flow sequence expected ',' or ']', but got '<stream end>'",
    ),
    "control character": (
        "seed: \x01\n",
        1,
        "this is not YAML: unacceptable character #x0001: special characters are not allowed "
        'in "<unicode string>", position 6',
    ),
    "alias": (
        "seed: &seed 5\nmodel: *seed\n",
        2,
        "this is not YAML: aliases (*name) are not supported; write the value out",
    ),
    "two documents": (
        "seed: 1\n---\nseed: 2\n",
        2,
        "this is not YAML: expected a single document in the stream but found another document",
    ),
    "number as key": ("a:\n  5: b\n", 2, "a: a key must be a name; put it in quotes if it is meant to be one"),
    "list as key": ("[a]: b\n", 1, "the top level: a key must be a name; put it in quotes if it is meant to be one"),
    "merge key": ("a:\n  <<: {b: 1}\n", 2, "a.<<: merge keys (<<) are not part of YAML 1.2; write the values out"),
    "duplicate key": ("a:\n  b: 1\n  c: 2\n  b: 3\n", 4, "a.b: this key is already on line 2; keep one of them"),
    "tag": (
        "a: !!python/name:os.system x\n",
        1,
        'the tag tag:yaml.org,2002:python/name:os.system does not fit "x"; write a plain value',
    ),
    "tag that does not fit": ("a: !!int x\n", 1, 'the tag tag:yaml.org,2002:int does not fit "x"; write a plain value'),
}


@pytest.mark.parametrize(("text", "line", "message"), PROBLEMS.values(), ids=PROBLEMS.keys())
def test_problem_has_a_line_and_a_message(text: str, line: int, message: str):
    assert Document.parse(text).problems == [(line, "", message)]


def test_quoted_merge_key_is_a_name():
    assert Document.parse('"<<": 1').data == {"<<": 1}


def test_what_is_sound_is_read_beside_what_is_not():
    document = Document.parse("a: 1\na: 2\nb: {5: 3, c: 4}\n")

    assert document.data == {"a": 1, "b": {"c": 4}}
    assert len(document.problems) == 2


def test_every_path_has_the_line_of_its_key():
    document = Document.parse("a:\n\n  b: [1,\n    2]\n  c:\n    d\n")

    assert document.lines == {
        (): 1,
        ("a",): 1,
        ("a", "b"): 3,
        ("a", "b", 0): 3,
        ("a", "b", 1): 4,
        ("a", "c"): 5,
    }
    assert document.origin(("a", "x", "y")) == (1, "")


TEXT = """\
model:
  name: net
  dim: 3
  attention: {name: heads, num_heads: 5}
task: guess
seed: 7
"""

OVERRIDES = {
    "a number": (["seed=1e-3"], {"seed": 1e-3}),
    "the last of several": (["seed=1", "seed=2"], {"seed": 2}),
    "an equals sign in the value": (["seed=a=b"], {"seed": "a=b"}),
    "a list": (["seed=[val, -1]"], {"seed": ["val", -1]}),
    "a new section": (["data.split.seed=2"], {"data": {"split": {"seed": 2}}}),
    "a whole section": (["model={name: net}"], {"model": {"name": "net"}}),
    "an option of a bare name": (["task.weight=2"], {"task": {"name": "guess", "weight": 2}}),
    "another bare name": (["task=other"], {"task": "other"}),
    "another name for a bare one": (["task.name=other"], {"task": {"name": "other"}}),
    "another name": (["model.attention.name=window"], {("model", "attention"): {"name": "window"}}),
    "another name with options": (
        ["model.attention.size=2", "model.attention.name=window", "model.attention.step=3"],
        {("model", "attention"): {"size": 2, "name": "window", "step": 3}},
    ),
    "another outer name": (["model.name=tree"], {"model": {"name": "tree"}}),
    "another outer name with an inner option": (
        ["model.attention.num_heads=2", "model.name=tree"],
        {"model": {"name": "tree", "attention": {"num_heads": 2}}},
    ),
    "the same name": (["model.attention.name=heads"], {("model", "attention"): {"name": "heads", "num_heads": 5}}),
    "the same name, qualified": (
        ["model.attention.name=demo/heads"],
        {("model", "attention"): {"name": "demo/heads", "num_heads": 5}},
    ),
}


@pytest.mark.parametrize(("overrides", "expected"), OVERRIDES.values(), ids=OVERRIDES.keys())
def test_override_sets(overrides: list[str], expected: dict[str | tuple[str, ...], object]):
    document = Document.parse(TEXT)
    for override in overrides:
        document.override(override)

    assert document.problems == []
    for path, value in expected.items():
        found: object = document.data
        for key in (path,) if isinstance(path, str) else path:
            assert isinstance(found, dict)
            found = found[key]
        assert found == value


REFUSED = {
    "seed": "an override has the form path.to.key=value",
    "=5": "an override has the form path.to.key=value",
    "model..dim=5": "an override has the form path.to.key=value",
    "seed=": "there is no value after the =; write null for none",
    "seed= ": "there is no value after the =; write null for none",
    "seed.x=5": "seed is 7, not a section",
    "model.dim.x.y=5": "model.dim is 3, not a section",
    "seed=[": "this is not YAML: while parsing a flow node expected the node content, but found '<stream end>'",
    "seed={a: 1, a: 2}": "seed.a: this key is already on line 1; keep one of them",
    "seed=!x 5": 'the tag !x does not fit "5"; write a plain value',
}


@pytest.mark.parametrize(("override", "message"), REFUSED.items())
def test_override_that_makes_no_sense(override: str, message: str):
    document = Document.parse(TEXT)
    document.override(override)

    assert document.problems == [(0, override, message)]


def test_origin_is_the_override_that_set_a_value_last():
    document = Document.parse(TEXT)
    document.override("model.attention={name: window, size: 2}")
    document.override("model.attention.size=3")

    assert document.origin(("model", "attention", "size")) == (0, "model.attention.size=3")
    assert document.origin(("model", "attention", "name")) == (0, "model.attention={name: window, size: 2}")
    assert document.origin(("model", "dim")) == (3, "")


TEXTS = st.text(st.characters(codec="utf-8"))
PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(TEXTS, PLAIN, max_size=3))
def test_dump_is_read_back_exactly(data: dict[str, object]):
    document = Document.parse(dump_yaml(data))

    assert (document.data, document.problems) == (data, [])


@pytest.mark.parametrize("text", ["on", "1e-3", "0o14", "1:30", "~", "null", "a: b", "# c", "", " x ", "\n", "=", "<<"])
def test_text_that_looks_like_something_else_is_read_back_as_text(text: str):
    assert Document.parse(dump_yaml({"key": text})).data == {"key": text}


def test_short_lists_are_dumped_on_one_line():
    assert dump_yaml({"a": [1, 0.5, "x"], "b": {"c": []}, "d": [[1], {"e": 2}]}) == (
        "a: [1, 0.5, x]\nb:\n  c: []\nd:\n- [1]\n- e: 2\n"
    )


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, "null"), (True, "true"), (1e-5, "1e-05"), ("a", '"a"'), ({"a": [1, "b"]}, '{a: [1, "b"]}')],
)
def test_values_are_shown_as_yaml(value: object, text: str):
    assert shown(value) == text
