"""Reading, checking and writing run configurations, against a registry of made-up components."""

import math
import pickle
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import pytest
from pydantic import BeforeValidator, Field, ValidationError

from setwise.component import problem_at
from setwise.config import (
    Component,
    Options,
    RunConfig,
    Slot,
    TrainerConfig,
    dump_config,
    load_component,
    load_config,
    parse_duration,
)
from setwise.discovery import LoadedPlugin, PluginStatus
from setwise.errors import ConfigError, PluginError, UnknownNameError
from setwise.plugin import (
    AttentionSpec,
    ComponentSpec,
    DatasetSpec,
    ModelSpec,
    OptimizerSpec,
    Ref,
    ScheduleSpec,
    TaskSpec,
)
from setwise.registry import Registry


class HeadsOptions(Options):
    num_heads: int = Field(4, ge=1)
    dropout: float = Field(0.0, ge=0, lt=1)


class WindowOptions(Options):
    window: int


class NetOptions(Options):
    dim: int = Field(description="the width of a token")
    attention: Annotated[Component, Slot("attentions", default="demo/heads")]
    mixer: Annotated[Component, Slot("attentions")] | None = None
    activation: Literal["relu", "gelu"] = "relu"
    set_size: int | Literal["all"] | None = None
    betas: tuple[float, float] = (0.9, 0.999)


class PlainOptions(Options):
    lr: float = Field(1e-3, gt=0)
    note: str = ""


class NamedOptions(Options):
    name: str = "taken"


def build(options: Options, **keywords: Any) -> tuple[Options, dict[str, Any]]:
    return options, keywords


PARTS = {each.__name__: each for each in (HeadsOptions, WindowOptions, NetOptions, PlainOptions, NamedOptions)}


@pytest.fixture(scope="module")
def registry() -> Registry:
    module = ModuleType("demo_parts")
    vars(module).update(PARTS, build=build, not_options=3)
    sys.modules["demo_parts"] = module

    def spec(record: type[ComponentSpec], name: str, options: str, build: str = "demo_parts:build") -> ComponentSpec:
        return record(name, Ref(build), Ref(f"demo_parts:{options}"), "")

    demo = {
        "models": (spec(ModelSpec, "net", "NetOptions"),),
        "attentions": (
            spec(AttentionSpec, "heads", "HeadsOptions"),
            spec(AttentionSpec, "window", "WindowOptions"),
            spec(AttentionSpec, "torn", "HeadsOptions", "no_such_module:build"),
            spec(AttentionSpec, "lost", "NoSuchOptions"),
            spec(AttentionSpec, "wrong", "not_options"),
            spec(AttentionSpec, "named", "NamedOptions"),
        ),
        "datasets": (spec(DatasetSpec, "rows", "PlainOptions"),),
        "tasks": (spec(TaskSpec, "guess", "PlainOptions"),),
        "optimizers": (spec(OptimizerSpec, "descend", "PlainOptions"),),
    }
    core = {"schedules": (spec(ScheduleSpec, "constant", "PlainOptions"),)}
    return Registry(
        [
            LoadedPlugin(PluginStatus("setwise", "setwise", "1.0"), core),
            LoadedPlugin(PluginStatus("demo", "setwise-demo", "1.0"), demo),
        ]
    )


SMALL = """\
model: {name: demo/net, dim: 7}
data: demo/rows
task: demo/guess
optimizer: demo/descend
trainer: {max_steps: 5}
"""


def options_of(config: RunConfig, section: str) -> Any:
    return getattr(config, section).options


def message_of(text: str, registry: Registry, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load_config(text, overrides, registry, label="r.yaml")
    return str(caught.value)


def test_names_are_qualified_and_defaults_filled_in(registry: Registry):
    config = load_config(SMALL.replace("demo/rows", "rows"), registry=registry)

    assert config.data.name == "demo/rows"
    assert config.schedule.name == "setwise/constant"
    assert options_of(config, "model").attention == Component(
        "attentions", "demo/heads", HeadsOptions(), registry.get("attentions", "heads").spec
    )
    assert config.seed == 0


def test_component_builds_with_its_options_and_the_keywords_of_its_kind(registry: Registry):
    config = load_config(SMALL, ["data.lr=0.5"], registry)

    assert config.data.build(seed=3) == (PlainOptions(lr=0.5), {"seed": 3})


def test_every_problem_is_told_at_once_with_its_place(registry: Registry):
    text = """\
# A recipe
model:
  name: demo/net
  dmi: 8
  attention:
    name: heads
    num_heads: 0
    dropuot: 0.5
  betas: [a, 1]
  set_size: al
  activation: rleu
data: demo/rows
data: 4
task: demo/gess
optimizer:
  name: demo/descend
  lr: true
trainer:
  max_steps: 1e5
  patience: 4.5
  eval_splits: val
  tf32: on
  device: 1
schedule: 4
sed: 4
"""
    overrides = ["trainer.max_time=12", "trainer.keep=", "model", "model.attention.dropout=x", "seed=-5"]

    assert (
        message_of(text, registry, *overrides)
        == """\
22 problems in the configuration:
  r.yaml:2: model.dim: missing; give the width of a token
  r.yaml:4: model.dmi: unknown key; did you mean "dim"?
  r.yaml:7: model.attention.num_heads: given 0, must be at least 1
  r.yaml:8: model.attention.dropuot: unknown key; did you mean "dropout"?
  r.yaml:9: model.betas.0: given "a", must be a number
  r.yaml:10: model.set_size: given "al", must be an integer or all; did you mean "all"?
  r.yaml:11: model.activation: given "rleu", must be one of relu, gelu; did you mean "relu"?
  r.yaml:13: data: this key is already on line 12; keep one of them
  r.yaml:14: task: unknown task "demo/gess"; did you mean "demo/guess"?
  r.yaml:17: optimizer.lr: given true, must be a number
  r.yaml:19: trainer.max_steps: given 100000.0, must be an integer
  r.yaml:20: trainer.patience: given 4.5, must be an integer
  r.yaml:21: trainer.eval_splits: given "val", must be a list
  r.yaml:22: trainer.tf32: given "on", must be true or false
  r.yaml:23: trainer.device: given 1, must be a string
  r.yaml:24: schedule: given 4, must be the name of one of the schedules, or a mapping
  r.yaml:25: sed: unknown key; did you mean "seed"?
  override trainer.max_time=12: trainer.max_time: given 12, must be a string
  override trainer.keep=: there is no value after the =; write null for none
  override model: an override has the form path.to.key=value
  override model.attention.dropout=x: model.attention.dropout: given "x", must be a number
  override seed=-5: seed: given -5, must be at least 0"""
    )


@pytest.mark.parametrize("text", ["", "# nothing but a comment\n", "null\n"])
def test_empty_file_lacks_every_section(registry: Registry, text: str):
    message = message_of(text, registry)

    assert message.splitlines()[0] == "5 problems in the configuration:"
    assert re.findall(r"(\w+): missing", message) == ["model", "data", "task", "optimizer", "trainer"]


def test_key_on_another_line_than_its_value_is_told_by_the_key(registry: Registry):
    text = SMALL.replace("{max_steps: 5}", "\n  max_steps:\n\n\n    x")

    assert message_of(text, registry) == 'r.yaml:6: trainer.max_steps: given "x", must be an integer'


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("trainer.max_steps=11", "trainer.max_steps", 11),
        ("trainer.eval_splits=[val, test]", "trainer.eval_splits", ["val", "test"]),
        ("trainer.patience=null", "trainer.patience", None),
        ("trainer.clip_norm=1e-1", "trainer.clip_norm", 0.1),
        ("data.lr=5", "data.options.lr", 5.0),
        ("data.note=a=b", "data.options.note", "a=b"),
        ("data.note='-x y'", "data.options.note", "-x y"),
        ("data={name: demo/rows, lr: 7}", "data.options.lr", 7.0),
        ("model.betas=[0.5, 0.25]", "model.options.betas", (0.5, 0.25)),
        ("model.attention.num_heads=3", "model.options.attention.options.num_heads", 3),
        ("model.mixer=window", "error", "override model.mixer=window: model.mixer.window: missing"),
        ("model.mixer.window=3", "error", "override model.mixer.window=3: model.mixer.name: missing; name one of"),
        ("trainer.max_steps.x=5", "error", "override trainer.max_steps.x=5: trainer.max_steps is 5, not a section"),
        ("seed=true", "error", "override seed=true: seed: given true, must be an integer"),
    ],
)
def test_override(registry: Registry, override: str, path: str, value: object):
    if path == "error":
        assert str(value) in message_of(SMALL, registry, override)
        return
    found: Any = load_config(SMALL, [override], registry)
    for key in path.split("."):
        found = getattr(found, key)
    assert found == value


def test_later_override_wins(registry: Registry):
    assert load_config(SMALL, ["seed=3", "seed=5"], registry).seed == 5


NETWORK = SMALL.replace(
    "{name: demo/net, dim: 7}", "\n  name: demo/net\n  dim: 7\n  attention: {name: demo/heads, num_heads: 3}"
)


@pytest.mark.parametrize("order", [1, -1])
def test_changing_a_name_keeps_only_what_other_overrides_set(registry: Registry, order: int):
    overrides = ["model.attention.name=window", "model.attention.window=5"][::order]

    attention = options_of(load_config(NETWORK, overrides, registry), "model").attention

    assert (attention.name, attention.options) == ("demo/window", WindowOptions(window=5))


@pytest.mark.parametrize("name", ["heads", "demo/heads"])
def test_repeating_a_name_keeps_the_options(registry: Registry, name: str):
    config = load_config(NETWORK, [f"model.attention.name={name}"], registry)

    assert options_of(config, "model").attention.options.num_heads == 3


def test_overriding_a_section_by_a_name_drops_its_options(registry: Registry):
    config = load_config(NETWORK, ["model.attention=heads"], registry)

    assert options_of(config, "model").attention.options.num_heads == 4


def test_changing_an_outer_name_keeps_overrides_of_inner_sections(registry: Registry):
    message = message_of(NETWORK, registry, "model.attention.num_heads=2", "model.name=rows")

    assert message == 'override model.name=rows: model.name: unknown model "rows"; there is demo/net'


SLOT_PROBLEMS = {
    "{name: 5}": "r.yaml:1: model.attention.name: given 5, must be a string",
    "torn/heads": 'r.yaml:1: model.attention: unknown attention "torn/heads"; did you mean "demo/heads"?',
    "{name: window}": "r.yaml:1: model.attention.window: missing",
    "lost": (
        "r.yaml:1: model.attention: demo/lost cannot be used: importing demo_parts:NoSuchOptions failed: "
        'module "demo_parts" has no "NoSuchOptions" (from Ref("demo_parts:NoSuchOptions"))'
    ),
    "wrong": "r.yaml:1: model.attention: demo/wrong cannot be used: demo_parts:not_options is not a pydantic model",
    "named": (
        "r.yaml:1: model.attention: demo/named cannot be used: demo_parts:NamedOptions has a field "
        '"name", which names the component'
    ),
}


@pytest.mark.parametrize(("value", "message"), SLOT_PROBLEMS.items())
def test_slot_tells_what_is_wrong_with_a_component(registry: Registry, value: str, message: str):
    assert message_of(SMALL.replace("dim: 7", f"dim: 7, attention: {value}"), registry) == message


def test_slot_without_a_default_asks_for_a_name(registry: Registry):
    message = message_of(SMALL.replace("data: demo/rows", "data: {lr: 1}"), registry)

    assert message == "r.yaml:2: data.name: missing; name one of the datasets"


def test_slot_takes_a_component_of_its_kind_only(registry: Registry):
    attention = load_component("attentions", "heads", ["num_heads=2"], registry)
    task = load_component("tasks", "guess", [], registry)

    assert NetOptions(dim=3, attention=attention).attention is attention
    with pytest.raises(ValidationError, match="Input should be one of the attentions"):
        NetOptions(dim=3, attention=task)


def test_component_whose_code_cannot_be_imported(registry: Registry):
    torn = load_component("attentions", "torn", [], registry)

    with pytest.raises(PluginError) as caught:
        torn.build(dim=3, causal=False)
    assert str(caught.value) == (
        "demo/torn cannot be used: importing no_such_module:build failed: No module named 'no_such_module'"
    )


def test_load_component_reports_all_problems(registry: Registry):
    with pytest.raises(ConfigError) as caught:
        load_component("models", "net", ["dmi=3", "attention.num_heads=x"], registry)
    assert str(caught.value) == (
        "3 problems in the configuration:\n"
        "  demo/net: dim: missing; give the width of a token\n"
        '  override dmi=3: dmi: unknown key; did you mean "dim"?\n'
        '  override attention.num_heads=x: attention.num_heads: given "x", must be an integer'
    )


def test_load_component_of_an_unknown_name(registry: Registry):
    with pytest.raises(UnknownNameError, match='unknown model "nte"; did you mean "net"'):
        load_component("models", "nte", [], registry)


def seconds_of(value: object) -> object:
    return parse_duration(value) if isinstance(value, str) else value


class StrictOptions(Options):
    count: int = 0
    share: float = 0.0
    flag: bool = False
    text: str = ""
    path: Path = Path()
    pair: tuple[int, int] = (0, 0)
    names: frozenset[str] = frozenset()
    default: dict[str, Any] = Field({"type": "int"})
    seconds: Annotated[float, BeforeValidator(seconds_of)] = 0.0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", True),
        ("count", "1"),
        ("count", 1.0),
        ("share", True),
        ("share", "0.5"),
        ("share", math.inf),
        ("share", math.nan),
        ("flag", 1),
        ("flag", "true"),
        ("text", 5),
        ("pair", [True, 2]),
        ("pair", [1, 2, 3]),
        ("names", "abc"),
    ],
)
def test_options_do_not_coerce(field: str, value: object):
    with pytest.raises(ValidationError):
        StrictOptions.model_validate({field: value})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("share", 1, 1.0),
        ("path", "a/b", Path("a/b")),
        ("pair", [3, 5], (3, 5)),
        ("names", ["a", "b"], frozenset({"a", "b"})),
        ("seconds", "2m", 120.0),
    ],
)
def test_options_take_what_yaml_can_say(field: str, value: object, expected: object):
    assert getattr(StrictOptions.model_validate({field: value}), field) == expected


def test_options_keep_their_defaults_and_do_not_change():
    options = StrictOptions()

    assert options.default == {"type": "int"}
    with pytest.raises(ValidationError, match="frozen"):
        options.count = 3  # type: ignore[misc]


def test_unknown_key_lists_the_keys_when_none_is_near():
    with pytest.raises(ValidationError, match="unknown key; the keys are num_heads, dropout"):
        HeadsOptions(zzz=3)  # type: ignore[call-arg]


def test_message_with_braces_is_shown_as_it_is():
    error = ValidationError.from_exception_data("x", [problem_at(("a",), "inconsistent", "{message} {a}", 5)])

    assert error.errors()[0]["msg"] == "{message} {a}"


TRAINERS = {
    "{}": "trainer.max_steps: exactly one of max_steps and max_epochs must be given; neither is given",
    "{max_steps: 5, max_epochs: 3}": "trainer.max_steps: exactly one of max_steps and max_epochs must be given; "
    "both are given",
    "{max_steps: 5, batch_size: 7, micro_batch_size: 3}": "trainer.micro_batch_size: given 3, must divide batch_size=7",
    "{max_steps: 5, batch_size: 7, micro_batch_size: 14}": "trainer.micro_batch_size: given 14, "
    "must divide batch_size=7",
    "{max_steps: 5, clip_norm: 1, clip_value: 1}": "trainer.clip_value: clip_norm and clip_value are both given; "
    "keep one of them",
    "{max_steps: 5, monitor: loss}": 'trainer.monitor: given "loss", must be <split>/<metric>, such as val/loss',
    "{max_steps: 5, monitor: test/loss}": 'trainer.monitor: given "test/loss", but "test" is not one of '
    "eval_splits=[val]",
    "{max_steps: 5, eval_splits: [], patience: 3}": 'trainer.monitor: given "val/loss", but "val" is not one of '
    "eval_splits=[]",
    "{max_steps: 5, max_time: 90}": "trainer.max_time: given 90, must be a string",
    "{max_steps: 5, max_time: 2hours}": 'trainer.max_time: given "2hours", must be a duration in days, hours, minutes '
    "and seconds such as 2h30m or 90s",
    "{max_steps: 5, precision: 16}": "trainer.precision: given 16, must be one of auto, 32, bf16-mixed, 16-mixed; "
    'did you mean "16-mixed"?',
    "{max_steps: 5, precision: b16-mixed}": 'trainer.precision: given "b16-mixed", must be one of auto, 32, '
    'bf16-mixed, 16-mixed; did you mean "bf16-mixed"?',
}


@pytest.mark.parametrize(("trainer", "message"), TRAINERS.items())
def test_trainer_options_must_fit_together(registry: Registry, trainer: str, message: str):
    assert message_of(SMALL.replace("{max_steps: 5}", trainer), registry).removeprefix("r.yaml:5: ") == message


def test_trainer_problems_of_several_fields_are_told_at_once(registry: Registry):
    message = message_of(SMALL.replace("{max_steps: 5}", "{micro_batch_size: 3, monitor: x}"), registry)

    assert message.startswith("3 problems in the configuration:")


def test_training_without_evaluation_needs_no_monitor():
    assert TrainerConfig(max_steps=5, eval_splits=[]).monitor == "val/loss"


@pytest.mark.parametrize("value", ["32", "'32'"])
def test_precision_32_may_be_written_as_a_number(registry: Registry, value: str):
    assert load_config(SMALL, [f"trainer.precision={value}"], registry).trainer.precision == "32"


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90.0), ("2h30m", 9000.0), ("1d", 86400.0), ("1m0.5s", 60.5), (" 3h ", 10800.0)]
)
def test_duration(text: str, seconds: float):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "90", "h", "30m2h", "-5s", "0s", "1w"])
def test_text_that_is_no_duration(text: str):
    with pytest.raises(ConfigError):
        parse_duration(text)


def test_dump_is_read_back_to_an_equal_configuration(registry: Registry):
    overrides = ["data.lr=1.7976931348623157e+308", "data.note='on'", "trainer.precision=32", "model.set_size=all"]
    config = load_config(SMALL, overrides, registry)

    assert load_config(dump_config(config), registry=registry) == config


def test_dump_has_every_default_and_short_lists_on_a_line(registry: Registry):
    lines = dump_config(load_config(SMALL, registry=registry)).splitlines()

    assert lines[:10] == [
        "model:",
        "  name: demo/net",
        "  dim: 7",
        "  attention:",
        "    name: demo/heads",
        "    num_heads: 4",
        "    dropout: 0.0",
        "  mixer: null",
        "  activation: relu",
        "  set_size: null",
    ]
    assert "  final_splits: [val, test]" in lines


def test_configuration_survives_pickling(registry: Registry):
    config = load_config(SMALL, registry=registry).trainer

    assert pickle.loads(pickle.dumps(config)) == config


def test_json_schema_names_the_kind_of_a_slot():
    schema = RunConfig.model_json_schema()

    assert schema["required"] == ["model", "data", "task", "optimizer", "trainer"]
    assert schema["properties"]["schedule"]["default"] == "setwise/constant"
    assert schema["properties"]["model"]["x-setwise-kind"] == "models"


def test_file_is_named_in_messages(registry: Registry, tmp_path: Path):
    file = tmp_path / "my.yaml"
    file.write_text(SMALL.replace("max_steps", "max_stps") + "sede: 3\n", encoding="utf-8")

    with pytest.raises(ConfigError) as caught:
        load_config(file, registry=registry)

    assert str(caught.value) == (
        "2 problems in the configuration:\n"
        f'  {file}:5: trainer.max_stps: unknown key; did you mean "max_steps"?\n'
        f'  {file}:6: sede: unknown key; did you mean "seed"?'
    )


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
        load_config(file, registry=registry)

    assert str(caught.value) == f"{file}: {message}"
