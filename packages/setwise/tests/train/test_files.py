from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from setwise.errors import SetwiseError
from setwise.train import files
from setwise.train.files import json_text, read_jsonl, read_text, write_atomically


def test_numbers_json_cannot_say_become_null_at_any_depth():
    document = {"a": math.nan, "b": [1, math.inf, {"c": -math.inf}], "d": (2.5, math.nan), "e": "NaN"}

    assert json.loads(json_text(document)) == {"a": None, "b": [1, None, {"c": None}], "d": [2.5, None], "e": "NaN"}


def test_write_replaces_the_old_content_and_leaves_nothing_behind(tmp_path: Path):
    path = tmp_path / "file.txt"
    path.write_text("old")

    write_atomically(path, "néw\n")

    assert path.read_bytes() == "néw\n".encode()
    assert list(tmp_path.iterdir()) == [path]


def test_failed_write_keeps_the_old_content_and_names_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(files.os, "fsync", full)

    with pytest.raises(SetwiseError, match=r"cannot write .*file\.txt \(No space left on device\)"):
        write_atomically(path, "new")

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_write_below_a_file_names_the_problem(tmp_path: Path):
    (tmp_path / "file").write_text("")

    with pytest.raises(SetwiseError, match="Not a directory"):
        write_atomically(tmp_path / "file" / "inner", b"new")


@pytest.mark.parametrize("content", [None, b"\xff\xfe\xff"])
def test_unreadable_text_is_named(tmp_path: Path, content: bytes | None):
    path = tmp_path / "config.yaml"
    if content is not None:
        path.write_bytes(content)

    with pytest.raises(SetwiseError, match=r"config\.yaml cannot be read"):
        read_text(path)


def test_last_line_cut_short_by_a_kill_is_left_out(tmp_path: Path):
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 7, "split": "train"}\n{"step": 11, "spl')

    assert read_jsonl(path) == [{"step": 7, "split": "train"}]


@pytest.mark.parametrize("damaged", ['{"step": 7, "spl', "[]", "null", '{"split": "val"}', '{"step": 7, "split": 3}'])
def test_damaged_line_is_named_by_its_number(tmp_path: Path, damaged: str):
    path = tmp_path / "metrics.jsonl"
    sound = '{"step": 7, "split": "train"}\n'
    path.write_text(f"{sound}{damaged}\n{sound}")

    with pytest.raises(SetwiseError, match=r"metrics\.jsonl:2 is damaged"):
        read_jsonl(path)
