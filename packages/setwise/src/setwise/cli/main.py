"""The entry of the command line: global options, lazily imported commands, and errors as messages."""

from __future__ import annotations

import os
import sys
import traceback as tracebacks
from collections.abc import Sequence
from typing import Annotated

from cyclopts import App, CycloptsError, Parameter

from setwise.cli.output import Output
from setwise.errors import SetwiseError, UnknownNameError, suggest
from setwise.registry import ENVIRONMENT_VARIABLE, Registry, default_registry

COMMANDS = {
    "list": (
        "setwise.cli.list:list_names",
        "List what can be named: models, datasets, recipes, ...",
    ),
    "show": ("setwise.cli.show:show", "Show a component with its options, or a recipe."),
    "train": ("setwise.cli.train:train", "Train a recipe."),
    "resume": ("setwise.cli.resume:resume", "Go on with a stopped run."),
    "evaluate": ("setwise.cli.evaluate:evaluate", "Evaluate the best weights of a run."),
    "predict": ("setwise.cli.predict:predict", "Predict for the rows of a file with the best weights of a run."),
    "runs": ("setwise.cli.runs:runs", "List runs and compare them."),
    "report": ("setwise.cli.report:report", "Write the report of a run."),
    "plugins": ("setwise.cli.plugins:plugins", "List the installed plugins and what became of each."),
    "doctor": ("setwise.cli.doctor:doctor", "Check the installation: versions, device, plugins, folders."),
}
DATA_COMMANDS = {
    "fetch": ("setwise.cli.data:fetch", "Download and prepare a dataset."),
    "verify": ("setwise.cli.data:verify", "Check that the data on this machine is sound."),
}


def run() -> None:
    """Run the command line of this process and exit."""
    # Read when torch is imported: its threads wait for each other asleep instead of in a loop, which where others use
    # the cores too takes several times as long.
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    sys.exit(main(sys.argv[1:]))


def main(tokens: Sequence[str]) -> int:
    """Run a command and return the exit code: 0 done, 1 a bug, 2 bad input, 75 stopped and resumable.

    Args:
        tokens: what follows ``setwise`` on the command line.
    """
    options = tokens[: tokens.index("--")] if "--" in tokens else tokens
    if "--no-plugins" in options:
        # In the environment, so that processes started by this one, such as data workers, load no plugins either.
        os.environ[ENVIRONMENT_VARIABLE] = ""
        default_registry.cache_clear()
    show_traceback = "--traceback" in options
    try:
        code = build_app(default_registry()).meta(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader, such as `head`, has had enough. Python would complain once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        if show_traceback:
            tracebacks.print_exc()
        print(_message(error, show_traceback), file=sys.stderr)
        return 2 if isinstance(error, SetwiseError | CycloptsError | OSError) else 1
    return code if isinstance(code, int) else 0


def build_app(registry: Registry) -> App:
    """Return the cyclopts application with all commands, of which none is imported yet."""
    app = App(
        name="setwise",
        help="Attention over sets: train, evaluate and share models that attend over datapoints, positions, relations.",
        version=_version,
        help_format="plaintext",
        result_action="return_value",
        default_parameter=Parameter(negative=()),  # a flag that is off needs no second flag to turn it off
    )
    app.meta.suppress_keyboard_interrupt = app.suppress_keyboard_interrupt = False  # main() has its own exit code
    for name, (target, summary) in COMMANDS.items():
        app.command(target, name=name, help=summary)
    data = App(name="data", help="Fetch and verify datasets.")
    for name, (target, summary) in DATA_COMMANDS.items():
        data.command(target, name=name, help=summary)
    app.command(data)
    for plugin, commands in registry.commands().items():
        group = App(name=plugin, help=f"Commands of the plugin {plugin}.")
        for command in commands:
            group.command(command.run.target, name=command.name, help=command.summary)
        app.command(group)

    @app.meta.default
    def launch(
        *tokens: Annotated[str, Parameter(show=False, allow_leading_hyphen=True)],
        json: Annotated[bool, Parameter(help="Write results as JSON.", show_default=False)] = False,
        quiet: Annotated[bool, Parameter(help="Write results only.", show_default=False)] = False,
        traceback: Annotated[bool, Parameter(help="Show where an error comes from.", show_default=False)] = False,
        no_plugins: Annotated[bool, Parameter(help="Use what core brings, only.", show_default=False)] = False,
    ) -> object:
        _require_command(app, tokens)
        command, bound, injected = app.parse_args(tokens, exit_on_error=False, print_error=False)
        output = Output(json=json, quiet=quiet, traceback=traceback)
        return command(*bound.args, **bound.kwargs, **dict.fromkeys(injected, output))

    return app


def _require_command(app: App, tokens: Sequence[str]) -> None:
    """Refuse an unknown command here, because cyclopts would import all commands to word the error."""
    if tokens and not tokens[0].startswith("-") and tokens[0] not in app:
        names = [name for name in app if not name.startswith("-")]
        near = suggest(tokens[0], names) or f"; the commands are {', '.join(names)}"
        raise UnknownNameError(f'unknown command "{tokens[0]}"{near}')


def _version() -> str:
    import setwise

    return setwise.__version__


def _message(error: Exception, show_traceback: bool) -> str:
    if isinstance(error, SetwiseError | CycloptsError):
        return f"setwise: {error}"
    if isinstance(error, OSError):
        return f"setwise: {error.strerror or error}{f': {error.filename}' if error.filename else ''}"
    what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    where = "" if show_traceback else "; add --traceback to see where, and please report it"
    return f"setwise: this is a bug: {what}{where}"
