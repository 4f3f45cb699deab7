"""``python -m setwise``."""

from setwise.cli.main import run

run()
