"""``setwise train``."""

from __future__ import annotations

from pathlib import Path

from setwise.cli.output import OutputParameter
from setwise.config import load_config
from setwise.recipes import open_recipe, parse_description
from setwise.registry import default_registry


def train(
    recipe: str,
    *overrides: str,
    runs: Path = Path("runs"),
    output: OutputParameter,
) -> int:
    """Train a recipe and report how it went. Stop it with Ctrl-C or SIGTERM; setwise resume goes on.

    Args:
        recipe: name of a recipe (see setwise list recipes), or a YAML file.
        overrides: changes to it, such as trainer.max_steps=100.
        runs: folder in which the run's folder is made.
    """
    opened = open_recipe(recipe, default_registry())
    config = load_config(opened.text, overrides, label=opened.label)
    from setwise.cli.training import announce, conclude, progress  # imports torch: after the recipe was checked
    from setwise.train import session

    result = session.train(
        config,
        name=opened.name,
        description="\n".join(parse_description(opened.text)).strip(),
        runs=runs,
        callbacks=[progress(output)],
        announce=lambda line: announce(output, line),
    )
    return conclude(result, output)
