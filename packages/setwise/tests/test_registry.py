"""Discovery of plugins, one by one, and lookup of what they register.

Plugins are made-up distributions on `sys.path` (fixture `install`), or records put together by hand where only the
lookup is at stake. Other plugins may be installed, so tests look at statuses by name.
"""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.discovery import LoadedPlugin, PluginStatus
from setwise.errors import UnknownNameError
from setwise.plugin import ModelSpec, Ref, TaskSpec
from setwise.registry import KINDS, Registry, default_registry, load_registry

HEAD = "from setwise.plugin import *\n"
MODEL = 'ModelSpec("{}", Ref("nowhere:build"), Ref("nowhere:Options"), "A model")'
GOOD = f"{HEAD}@hookimpl\ndef setwise_models():\n    yield {MODEL.format('net')}\n"

Install = Callable[..., Path]


def status_of(name: str, **keywords: object) -> PluginStatus:
    [status] = [status for status in load_registry(**keywords).plugins if status.name == name]  # type: ignore[arg-type]
    return status


def loaded(name: str, status: str = "ok", reason: str = "", **records: tuple[object, ...]) -> LoadedPlugin:
    return LoadedPlugin(PluginStatus(name, f"setwise-{name}", "2.3", status, reason), records)  # type: ignore[arg-type]


def model(name: str) -> ModelSpec:
    return ModelSpec(name, Ref("nowhere:build"), Ref("nowhere:Options"), "A model")


def test_core_registers_through_its_entry_point():
    status = status_of("setwise")

    assert (status.distribution, status.status, status.reason) == ("setwise", "ok", "")
    assert "setwise_optimizers" in status.hooks


def test_sound_plugin_adds_its_names(install: Install):
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD}, version="3.1")

    registry = load_registry()

    assert status_of("demo") == PluginStatus("demo", "setwise-demo", "3.1", "ok", "", ("setwise_models",))
    assert registry.get("models", "demo/net").qualified == "demo/net"
    assert registry.get("models", "net") is registry.get("models", "demo/net")


def test_module_without_hooks_is_a_sound_plugin(install: Install):
    install("setwise-demo", "demo", {"demo_plugin.py": "NOTHING = 1\n"})

    assert status_of("demo") == PluginStatus("demo", "setwise-demo", "1.0")


def test_names_of_distributions_are_normalised(install: Install):
    install("Setwise_Demo", "demo", {"demo_plugin.py": GOOD})

    assert status_of("demo").distribution == "setwise-demo"


BROKEN = {
    "missing import": (
        "import no_such_module\n",
        "cannot import broken: ModuleNotFoundError: No module named 'no_such_module'",
    ),
    "syntax error": ("def\n", "cannot import broken: SyntaxError: invalid syntax (broken.py, line 1)"),
    "exit at import": ("import sys\nsys.exit(3)\n", "cannot import broken: SystemExit: 3"),
    "error of several lines": (
        "raise ImportError('one\\n  two')\n",
        "cannot import broken: ImportError: one two",
    ),
    "raising hook": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    raise RuntimeError('no luck')\n",
        "setwise_models raised RuntimeError: no luck",
    ),
    "hook that raises half way": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    yield {MODEL.format('net')}\n    raise KeyError(5)\n",
        "setwise_models raised KeyError: 5",
    ),
    "typo": (
        f"{HEAD}@hookimpl\ndef setwise_modles():\n    return []\n",
        'there is no hook setwise_modles; did you mean "setwise_models"?',
    ),
    "no marker": (
        "def setwise_models():\n    return []\n",
        "setwise_models is named like a hook but is not marked with @hookimpl",
    ),
    "parameters": (
        f"{HEAD}@hookimpl\ndef setwise_models(registry, dim=4):\n    return []\n",
        "setwise_models(registry, dim) has parameters; the hooks of setwise take none",
    ),
    "wrapper": (
        f"{HEAD}@hookimpl(wrapper=True)\ndef setwise_models():\n    return (yield)\n",
        "setwise_models is marked as a wrapper; a hook of setwise is a plain function",
    ),
    "implemented twice": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    return []\n"
        '@hookimpl(specname="setwise_models")\ndef more():\n    return []\n',
        "setwise_models is implemented twice",
    ),
    "no return value": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    pass\n",
        "setwise_models returned None (NoneType); it must return an iterable of ModelSpec",
    ),
    "a record alone": (
        f"{HEAD}@hookimpl\ndef setwise_recipes():\n    return RecipeSource('json')\n",
        "setwise_recipes returned RecipeSource(package='json', folder='recipes') (RecipeSource); "
        "it must return an iterable of RecipeSource",
    ),
    "record of another kind": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    yield 'net'\n",
        "setwise_models returned an item 'net' (str); all must be ModelSpec",
    ),
    "name twice": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    yield {MODEL.format('net')}\n    yield {MODEL.format('net')}\n",
        "setwise_models returned net more than once",
    ),
    "name with a slash": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    yield {MODEL.format('demo/net')}\n",
        "setwise_models: the name 'demo/net' (str) must match [a-z0-9][a-z0-9-]*",
    ),
    "target without Ref": (
        f'{HEAD}@hookimpl\ndef setwise_commands():\n    yield CommandSpec("go", print, "Go")\n',
        'setwise_commands: run of "go" is <built-in function print> (builtin_function_or_method); it must be a Ref',
    ),
    "malformed Ref": (
        f"{HEAD}@hookimpl\ndef setwise_models():\n    yield ModelSpec('net', Ref('nowhere'), Ref('a:b'), '')\n",
        'setwise_models raised ValueError: Ref("nowhere") must have the form "package.module:name"',
    ),
    "recipes missing from the wheel": (
        f"{HEAD}@hookimpl\ndef setwise_recipes():\n    yield RecipeSource('json')\n",
        'setwise_recipes: the package "json" has no folder "recipes"',
    ),
}


@pytest.mark.parametrize(("source", "reason"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_plugin_costs_its_own_names_only(install: Install, source: str, reason: str):
    install("setwise-broken", "broken", {"broken.py": source})
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD})

    registry = load_registry()
    [broken] = [status for status in registry.plugins if status.name == "broken"]

    assert (broken.status, broken.reason) == ("failed", reason)
    assert broken.error is not None
    assert [entry.qualified for entry in registry.entries("models") if entry.plugin in ("broken", "demo")] == [
        "demo/net"
    ]


def test_interrupt_during_discovery_is_not_a_broken_plugin(install: Install):
    install("setwise-broken", "broken", {"broken.py": "raise KeyboardInterrupt\n"})

    with pytest.raises(KeyboardInterrupt):
        load_registry()


@pytest.mark.parametrize(
    ("plugin", "target", "reason"),
    [
        ("Demo", "demo_plugin", "plugin: the name 'Demo' (str) must match [a-z0-9][a-z0-9-]*"),
        ("train", "demo_plugin", '"train" is a word of the command line; the plugin needs another name'),
        (
            "demo",
            "demo_plugin:plugin",
            'the entry point is "demo_plugin:plugin", but it must name a module of hooks: drop the ":"',
        ),
    ],
)
def test_entry_point_must_name_a_module_under_a_free_name(install: Install, plugin: str, target: str, reason: str):
    install("setwise-demo", plugin, {"demo_plugin.py": GOOD}, target=target)

    assert (status_of(plugin).status, status_of(plugin).reason) == ("failed", reason)


def test_hooks_are_found_without_touching_lazy_attributes(install: Install):
    lazy = (
        "\n\ndef __getattr__(name):\n    raise RuntimeError(name)\n\n\ndef __dir__():\n    return ['setwise_tasks']\n"
    )
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD + lazy})

    assert status_of("demo").hooks == ("setwise_models",)


def test_two_distributions_with_one_name_are_both_refused(install: Install):
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD}, version="1.2")
    install("squatter", "demo", {"squatter_plugin.py": "raise RuntimeError('must not be imported')\n"}, version="0.7")

    registry = load_registry()
    statuses = {status.distribution: status for status in registry.plugins if status.name == "demo"}

    assert {status.status for status in statuses.values()} == {"conflict"}
    assert (
        statuses["setwise-demo"].reason
        == 'the name "demo" is claimed by setwise-demo 1.2 and squatter 0.7; uninstall all but one'
    )
    assert (
        statuses["squatter"].reason
        == 'the name "demo" is claimed by squatter 0.7 and setwise-demo 1.2; uninstall all but one'
    )
    assert "demo/net" not in {entry.qualified for entry in registry.entries("models")}


def test_nobody_takes_the_name_of_core(install: Install):
    install("squatter", "setwise", {"squatter_plugin.py": GOOD})

    statuses = {status.distribution: status for status in load_registry().plugins if status.name == "setwise"}

    assert statuses["setwise"].status == "ok"
    assert statuses["squatter"].status == "conflict"
    assert statuses["squatter"].reason == 'the name "setwise" belongs to setwise itself; uninstall squatter'


@pytest.mark.parametrize(
    ("generation", "reason"),
    [
        (
            "v2",
            "setwise-demo 1.0 is written for plugin API v2 and this setwise has v1; "
            "upgrade setwise, or install a version of setwise-demo that has v1",
        ),
        (
            "v0",
            "setwise-demo 1.0 is written for plugin API v0 and this setwise has v1; "
            "install a version of setwise-demo that has v1",
        ),
    ],
)
def test_plugin_of_another_generation_is_incompatible_and_not_imported(install: Install, generation: str, reason: str):
    source = {"demo_plugin.py": "raise RuntimeError('must not be imported')\n"}
    install("setwise-demo", "demo", source, group=f"setwise.plugins.{generation}")

    assert (status_of("demo").status, status_of("demo").reason) == ("incompatible", reason)


def test_plugin_of_two_generations_counts_as_ours(install: Install):
    folder = install("setwise-demo", "demo", {"demo_plugin.py": GOOD})
    [entry_points] = folder.glob("*.dist-info/entry_points.txt")
    entry_points.write_text(f"{entry_points.read_text()}\n[setwise.plugins.v2]\ndemo = demo_plugin\n")

    assert status_of("demo").status == "ok"


def test_distribution_found_twice_counts_once_and_the_first_wins(install: Install):
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD}, version="1.0", site="late")
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD}, version="2.0", site="early")

    assert status_of("demo").version == "2.0"


def test_distribution_without_metadata_is_still_told_of(install: Install):
    folder = install("setwise-demo", "demo", {"demo_plugin.py": "import no_such_module\n"})
    [metadata] = folder.glob("*.dist-info/METADATA")
    metadata.unlink()

    status = status_of("demo")

    assert (status.distribution, status.version) == ("(a distribution without METADATA)", "(unknown version)")
    assert status.status == "failed"


def test_damaged_entry_points_of_others_do_no_harm(install: Install):
    folder = install("other", "x", {"other.py": ""}, group="console_scripts")
    [entry_points] = folder.glob("*.dist-info/entry_points.txt")
    entry_points.write_text("[console_scripts]\nthis is no entry point\n")

    assert status_of("setwise").status == "ok"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("demo", {"demo": "ok", "other": "disabled", "setwise": "ok"}),
        (" demo , other,", {"demo": "ok", "other": "ok", "setwise": "ok"}),
        ("", {"demo": "disabled", "other": "disabled", "setwise": "ok"}),
    ],
)
def test_environment_variable_chooses_plugins(
    install: Install, monkeypatch: pytest.MonkeyPatch, value: str, expected: dict[str, str]
):
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD})
    install("setwise-other", "other", {"other_plugin.py": GOOD})
    monkeypatch.setenv("SETWISE_PLUGINS", value)

    statuses = {status.name: status.status for status in load_registry().plugins if status.name in expected}

    assert statuses == expected


def test_disabled_plugin_is_not_imported_and_says_what_left_it_out(install: Install, monkeypatch: pytest.MonkeyPatch):
    install("setwise-demo", "demo", {"demo_plugin.py": "raise RuntimeError\n"})
    monkeypatch.setenv("SETWISE_PLUGINS", "setwise")

    assert status_of("demo").reason == "left out by SETWISE_PLUGINS=setwise"
    monkeypatch.setenv("SETWISE_PLUGINS", "")
    assert status_of("demo").reason == 'left out by --no-plugins or SETWISE_PLUGINS=""'
    assert status_of("demo", only=("setwise",)).reason == "left out by only=setwise"
    assert status_of("demo", disabled=True).reason == "left out by --no-plugins"
    assert "demo_plugin" not in sys.modules


def test_choosing_a_plugin_that_is_not_installed_is_told(install: Install):
    install("setwise-demo", "demo", {"demo_plugin.py": GOOD})

    status = status_of("demmo", only=("demmo",))

    assert (status.status, status.distribution) == ("failed", "")
    assert status.reason == 'only=demmo names a plugin that is not installed; did you mean "demo"?'


def test_discovery_imports_no_target(install: Install):
    site = install("setwise-demo", "demo", {"demo_plugin.py": GOOD, "nowhere.py": "raise RuntimeError\n"})
    code = "import sys; from setwise.registry import default_registry; default_registry().get('models', 'net'); "
    code += "print(sorted({'nowhere', 'torch', 'numpy'} & sys.modules.keys()))"

    result = subprocess.run([sys.executable, "-c", code], cwd=site, capture_output=True, text=True, check=True)

    assert result.stdout == "[]\n"


def test_default_registry_is_loaded_once():
    assert default_registry() is default_registry()


def test_entries_keep_the_order_of_their_plugin():
    registry = Registry([loaded("demo", models=(model("zeta"), model("alpha")))])

    assert [entry.qualified for entry in registry.entries("models")] == ["demo/zeta", "demo/alpha"]


def test_one_bare_name_may_be_used_by_two_kinds():
    task = TaskSpec("net", Ref("nowhere:build"), Ref("nowhere:Options"), "A task")
    registry = Registry([loaded("demo", models=(model("net"),), tasks=(task,))])

    assert registry.get("tasks", "net").spec is task
    assert registry.get("models", "net").kind == "models"


MISSING = {
    "nearest in the plugin": ("demo/nte", 'unknown model "demo/nte"; did you mean "demo/net"?{}'),
    "nearest bare name": ("nte", 'unknown model "nte"; did you mean "net"?{}'),
    "right name, wrong plugin": ("demos/net", 'unknown model "demos/net"; did you mean "demo/net"?{}'),
    "nothing near, known plugin": ("demo/q", 'unknown model "demo/q"; there is demo/net, demo/tree{}'),
    "nothing near": ("q", 'unknown model "q"; there is demo/net, demo/tree, other/tree{}'),
    "several": ("tree", 'the model "tree" is ambiguous; write demo/tree or other/tree'),
    "plugin to install": (
        "swarm/swarm",
        'unknown model "swarm/swarm": the plugin "swarm" is not installed; run: pip install setwise-swarm',
    ),
    "bare name of a plugin to install": (
        "posattn",
        'unknown model "posattn": the plugin "posattn" is not installed; run: pip install setwise-posattn',
    ),
    "failed": (
        "npt/npt",
        'unknown model "npt/npt": the plugin "npt" (setwise-npt 2.3) is installed but failed to load: no torch',
    ),
    "refused": (
        "twin/net",
        'unknown model "twin/net": the plugin "twin" (setwise-twin 2.3) is installed but was refused: two claim it',
    ),
    "incompatible": (
        "newer/net",
        'unknown model "newer/net": the plugin "newer" (setwise-newer 2.3) is installed but does not fit: has v2',
    ),
    "disabled": (
        "off/net",
        'unknown model "off/net": the plugin "off" (setwise-off 2.3) is disabled: left out by --no-plugins',
    ),
}


@pytest.mark.parametrize(("name", "message"), MISSING.values(), ids=MISSING.keys())
def test_missing_name_says_what_to_do(name: str, message: str):
    registry = Registry(
        [
            loaded("demo", models=(model("net"), model("tree"))),
            loaded("other", models=(model("tree"),)),
            loaded("npt", "failed", "no torch"),
            loaded("twin", "conflict", "two claim it"),
            loaded("newer", "incompatible", "has v2"),
            loaded("off", "disabled", "left out by --no-plugins"),
        ]
    )

    with pytest.raises(UnknownNameError) as caught:
        registry.get("models", name)

    assert str(caught.value) == message.format('; not loaded: npt, twin, newer (see "setwise plugins")')


def test_name_of_a_kind_that_nothing_registers():
    with pytest.raises(UnknownNameError) as caught:
        Registry([]).get("tasks", "x")

    assert str(caught.value) == 'unknown task "x"; no task is registered'


def test_unknown_kind_lists_the_kinds():
    with pytest.raises(UnknownNameError) as caught:
        Registry([]).entries("model")

    assert str(caught.value) == f'unknown kind "model"; the kinds are {", ".join(KINDS)}; did you mean "models"?'
