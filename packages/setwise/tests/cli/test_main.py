"""The frame of the command line: options of all commands, lazy imports, errors as messages, exit codes."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from setwise.cli.main import COMMANDS, main
from setwise.discovery import RESERVED_NAMES

Install = Callable[..., Path]

PLUGIN = """
from setwise.plugin import CommandSpec, Ref, hookimpl


@hookimpl
def setwise_commands():
    yield CommandSpec("echo", Ref("demo_commands:echo"), "Say what it was given")
    yield CommandSpec("fail", Ref("demo_commands:fail"), "Raise an error")
"""
COMMAND_FILE = """
from setwise.cli.output import OutputParameter
from setwise.errors import ConfigError, SetwiseError


def echo(recipe: str, *overrides: str, times: int = 1, output: OutputParameter) -> int:
    print(times, recipe, *overrides, output.json, output.quiet)
    return 75


def fail(error: str) -> None:
    raise {
        "config": ConfigError("2 problems in the configuration:\\n  one\\n  two"),
        "bug": KeyError("x"),
        "silent": AssertionError(),
        "interrupt": KeyboardInterrupt(),
        "file": PermissionError(13, "Permission denied", "runs"),
        "disk": OSError(28, "No space left on device"),
        "network": OSError("timed out"),
    }[error]
"""


@pytest.fixture
def demo(install: Install) -> None:
    install("setwise-demo", "demo", {"demo_plugin.py": PLUGIN, "demo_commands.py": COMMAND_FILE})


def test_help_lists_every_command(demo: None, capsys: pytest.CaptureFixture[str]):
    assert main(["--help"]) == 0

    shown = capsys.readouterr().out
    assert all(f" {name} " in shown for name in (*COMMANDS, "data", "demo"))
    assert all(option in shown for option in ("--json", "--quiet", "--traceback", "--no-plugins", "--version"))


def test_no_command_shows_the_help(capsys: pytest.CaptureFixture[str]):
    assert main([]) == 0
    assert "Usage: setwise COMMAND" in capsys.readouterr().out


def test_version(capsys: pytest.CaptureFixture[str]):
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == "0.1.0\n"


def test_help_of_a_plugin_names_its_commands_without_importing_them(demo: None, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "--help"]) == 0

    shown = capsys.readouterr().out
    assert "Say what it was given" in shown
    assert "demo_commands" not in sys.modules


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["npt/x"], "1 npt/x False False\n"),
        (["x", "trainer.max_steps=5", "a=-1e-3"], "1 x trainer.max_steps=5 a=-1e-3 False False\n"),
        (["x", "b=[1, -2]", "c={d: '-'}"], "1 x b=[1, -2] c={d: '-'} False False\n"),
        (["x", "a=b=c", "--times", "3", "d=--e"], "3 x a=b=c d=--e False False\n"),
        (["x", "a=1", "--json"], "1 x a=1 True False\n"),
        (["x", "--", "--json", "-q"], "1 x --json -q False False\n"),
    ],
)
def test_command_gets_its_tokens_unchanged(
    demo: None, capsys: pytest.CaptureFixture[str], arguments: list[str], printed: str
):
    assert main(["demo", "echo", *arguments]) == 75
    assert capsys.readouterr().out == printed


def test_options_of_all_commands_may_stand_first(demo: None, capsys: pytest.CaptureFixture[str]):
    assert main(["--quiet", "--json", "demo", "echo", "x"]) == 75
    assert capsys.readouterr().out == "1 x True True\n"


@pytest.mark.parametrize("option", ["--json", "--quiet"])
@pytest.mark.parametrize("command", ["train", "resume", "evaluate", "report"])
def test_options_of_all_commands_are_no_arguments_of_a_command(
    capsys: pytest.CaptureFixture[str], command: str, option: str
):
    assert main([command, "no-such.yaml", option]) == 2
    assert capsys.readouterr().err.startswith(
        ("setwise: no-such.yaml: there is no", 'setwise: "no-such.yaml" is no run')
    )


ERRORS = {
    "config": (2, "setwise: 2 problems in the configuration:\n  one\n  two\n"),
    "bug": (1, "setwise: this is a bug: KeyError: 'x'; add --traceback to see where, and please report it\n"),
    "silent": (1, "setwise: this is a bug: AssertionError; add --traceback to see where, and please report it\n"),
    "interrupt": (130, ""),
    "file": (2, "setwise: Permission denied: runs\n"),
    "disk": (2, "setwise: No space left on device\n"),
    "network": (2, "setwise: timed out\n"),
}


@pytest.mark.parametrize(("error", "outcome"), ERRORS.items())
def test_error_is_a_message_and_an_exit_code(
    demo: None, capsys: pytest.CaptureFixture[str], error: str, outcome: tuple[int, str]
):
    code = main(["demo", "fail", error])

    captured = capsys.readouterr()
    assert (code, captured.err) == outcome
    assert captured.out == ""


@pytest.mark.parametrize(("error", "last"), [("config", "  two"), ("bug", "setwise: this is a bug: KeyError: 'x'")])
def test_traceback_is_shown_on_request(demo: None, capsys: pytest.CaptureFixture[str], error: str, last: str):
    main(["demo", "fail", error, "--traceback"])

    lines = capsys.readouterr().err.splitlines()
    assert lines[0] == "Traceback (most recent call last):"
    assert any("demo_commands.py" in line for line in lines)
    assert lines[-1] == last


USAGE = {
    "unknown command": (["trian", "x"], 'setwise: unknown command "trian"; did you mean "train"?\n'),
    "unknown command of data": (["data", "fecth"], 'Unknown command "fecth". Did you mean "fetch"?'),
    "unknown command of a plugin": (["demo", "ecko"], 'Unknown command "ecko". Did you mean "echo"?'),
    "unknown option": (["demo", "echo", "x", "--tims", "3"], "Unknown option: --tims. Did you mean --times?"),
    "missing argument": (["demo", "echo"], "requires an argument"),
    "wrong type": (["demo", "echo", "x", "--times", "y"], "unable to convert"),
}


@pytest.mark.parametrize(("arguments", "message"), USAGE.values(), ids=USAGE.keys())
def test_wrong_usage_is_bad_input(demo: None, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


def test_unknown_command_is_told_without_importing_the_others():
    code = "import sys; from setwise.cli.main import main; code = main(['trian']); print(code, 'torch' in sys.modules)"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert result.stdout == "2 False\n"


def test_unknown_command_lists_the_commands_when_none_is_near(capsys: pytest.CaptureFixture[str]):
    main(["frobnicate"])

    message = capsys.readouterr().err
    assert message.startswith('setwise: unknown command "frobnicate"; the commands are ')
    assert "--help" not in message


@pytest.mark.parametrize("arguments", [["list", "--json"], ["plugins"]], ids=" ".join)
def test_reader_that_has_left_is_no_error(arguments: list[str]):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stdout:
        command = [sys.executable, "-m", "setwise", *arguments]
        result = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, text=True, check=False, timeout=60)

    assert (result.returncode, result.stderr) == (141, "")


def test_commands_and_reserved_names_of_plugins_agree():
    assert {*COMMANDS, "data", "local"} == RESERVED_NAMES


@pytest.mark.parametrize("command", ["--help", "plugins", "list"])
def test_command_works_when_every_plugin_is_broken(install: Install, capsys: pytest.CaptureFixture[str], command: str):
    install("setwise-broken", "broken", {"broken.py": "import no_such_module\n"})
    install("setwise-typo", "typo", {"typo.py": PLUGIN.replace("setwise_commands", "setwise_comands")})

    assert main([command]) == 0
    assert "setwise" in capsys.readouterr().out


@pytest.fixture
def restored_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SETWISE_PLUGINS", "demo")


def test_no_plugins_leaves_core_only(demo: None, restored_environment: None, capsys: pytest.CaptureFixture[str]):
    assert main(["demo", "echo", "x", "--no-plugins"]) == 2
    assert 'unknown command "demo"' in capsys.readouterr().err
    assert os.environ["SETWISE_PLUGINS"] == ""


def test_no_plugins_after_two_dashes_is_an_argument(
    demo: None, restored_environment: None, capsys: pytest.CaptureFixture[str]
):
    assert main(["demo", "echo", "x", "--", "--no-plugins"]) == 75
    assert capsys.readouterr().out == "1 x --no-plugins False False\n"


HEAVY = ("matplotlib", "numpy", "pandas", "sklearn", "torch", "torchmetrics")


@pytest.mark.parametrize(
    "arguments",
    [["--help"], ["list"], ["show", "setwise/encoder"], ["plugins"], ["train", "--help"], ["train", "no-such"]],
    ids=" ".join,
)
def test_command_imports_nothing_heavy(arguments: list[str]):
    code = f"import sys; from setwise.cli.main import main; main({arguments}); "
    code += f"print(*({set(HEAVY)} & sys.modules.keys()), file=sys.stderr)"

    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)

    assert result.stderr.splitlines()[-1] == ""
