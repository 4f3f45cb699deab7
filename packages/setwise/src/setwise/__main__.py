"""``python -m setwise``."""

from setwise.cli.main import run

if __name__ == "__main__":
    run()
