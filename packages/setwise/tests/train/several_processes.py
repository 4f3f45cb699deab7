"""Trains in the small world of conftest.py, in as many processes as were started; run by test_engine.py.

Arguments: strategy, and a JSON list of runs, each a folder with options of the Trainer, or "resume" among them.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path

from setwise.device import resolve_setup
from setwise.train.engine import build_engine


def main(strategy: str, runs: str) -> None:
    location = importlib.util.spec_from_file_location("world", Path(__file__).with_name("conftest.py"))
    assert location is not None
    assert location.loader is not None
    world = importlib.util.module_from_spec(location)
    location.loader.exec_module(world)
    for folder, options in json.loads(runs):
        resume = options.pop("resume", False)
        task = world.MedianSquaredError() if options.pop("median", False) else None
        engine = build_engine(resolve_setup("cpu", "32"), strategy)  # pyright: ignore[reportArgumentType]
        trainer = world.build_linear_trainer(Path(folder), engine=engine, task=task, **options)
        if resume:
            trainer.resume()
        trainer.fit()
        final = trainer.finish()
        if engine.is_main:
            (Path(folder) / "final.json").write_text(json.dumps(final))


if __name__ == "__main__":
    main(*sys.argv[1:])
