"""The page about testing: it names every suite, and its test files pass as they stand."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

from setwise import testing

PAGE = (Path(__file__).parent.parent / "docs" / "testing.md").read_text(encoding="utf-8")


def test_page_names_every_suite():
    suites = [name for name in testing.__all__ if name.endswith("Suite")]

    assert suites == sorted(set(re.findall(r"^\| \[`(\w+)`\]", PAGE, re.MULTILINE)))


def test_files_of_the_page_pass(python: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path):
    files = re.findall(r'^```python title="([^"]+)"\n(.*?)^```$', PAGE, re.MULTILINE | re.DOTALL)
    for title, text in files:
        (tmp_path / title).write_text(text, encoding="utf-8")

    result = python(
        f"import pytest, sys; sys.exit(pytest.main(['-p', 'no:cacheprovider', *{[t for t, _ in files]!r}]))"
    )

    assert len(files) == 3
    assert result.returncode == 0, result.stdout
