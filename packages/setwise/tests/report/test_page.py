from __future__ import annotations

import base64
import re
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from setwise.errors import SetwiseError
from setwise.report import write_report
from setwise.train.runs import RunFolder

MakeRun = Callable[..., RunFolder]

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(17))
VOID = {"br", "hr", "img", "input", "link", "meta"}
HOSTILE = "<script>alert(1)</script>\"'&<!--"


class Page(HTMLParser):
    """A page as a browser reads it: its tags with attributes, its text, and the tables as lists of rows."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.source = path.read_text(encoding="utf-8")
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.tables: dict[str, list[list[str]]] = {}
        self._open: list[str] = []
        self._heading = ""
        self.feed(self.source)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "h2":
            self._heading = ""
        if tag == "tr":
            self.tables.setdefault(self._heading, []).append([])
        if tag in {"td", "th"}:
            self.tables[self._heading][-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self._open and self._open[-1] == "style":
            return
        self.text += data
        if self._open and self._open[-1] == "h2":
            self._heading += data
        if self._open and self._open[-1] in {"td", "th"}:
            self.tables[self._heading][-1][-1] += data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.tags if name == tag]


def page_of(run: RunFolder) -> Page:
    return Page(write_report(run))


def test_finished_run_is_told_from_title_to_checkpoints(make_run: MakeRun):
    run = make_run()
    for step, sizes in (7, {"model": 5_300}), (13, {"model": 700_000, "optimizer": 1_400_000}):
        folder = run.checkpoints_path / f"{step:08d}"
        folder.mkdir(parents=True)
        for name, size in sizes.items():
            (folder / f"{name}.safetensors").write_bytes(bytes(size))
    (run.checkpoints_path / "00000017.tmp").mkdir()

    page = page_of(run)

    for text in (
        "npt/breast-cancer",
        "Attention between the rows of a table.\nTest AUROC at least 0.98.",
        "done",
        "It reached its number of steps.",
        "val/loss 0.3 at step 13",
    ):
        assert text in page.text
    assert page.tables["Final metrics"] == [
        ["", "val", "test"],
        ["loss", "0.3", "0.35"],
        ["accuracy", "0.75", "0.71"],
    ]
    assert page.tables["Checkpoints"] == [
        ["step", "size", "holds"],
        ["7", "5.3 kB", "weights"],
        ["13", "2.1 MB", "weights and state of training (the best)"],
    ]


def test_environment_lists_what_run_json_says(make_run: MakeRun, run_info: dict[str, Any]):
    page = page_of(
        make_run(info={**run_info, "new_key": [1, "two"], "git_revision": None, "sessions": [{}, {}]}, records=[])
    )

    assert page.tables["Environment"] == [
        ["Device", "device cpu, name Some Processor, memory 3.0 GiB, threads 2"],
        ["Precision", "bf16-mixed"],
        ["Reason for the precision", "the processor has bf16 matrix units"],
        ["Seed", "5"],
        ["Parameters", "1,234,567"],
        ["Time of training", "1:02:03"],
        ["Started", "2025-11-20T18:25:00+0000"],
        ["Finished", "2025-11-20T18:26:03+0000"],
        ["Versions", "python 3.11.7, setwise 0.1.0"],
        ["Data fingerprint (sha256)", "f" * 64],
        ["New key", "1, two"],
        ["Sessions", "2 (stopped and resumed)"],
    ]


def test_configuration_is_shown_to_the_letter(make_run: MakeRun):
    config = (
        "# a comment: with a colon\nmodel:\n  name: npt/npt\n  layers: [3, 5]\n  - odd: 'x: y'\n  text: |\n    a < b\n"
    )

    page = page_of(make_run(config=config, records=[]))

    assert config.rstrip("\n") in page.text
    assert "<i># a comment: with a colon</i>\n<b>model</b>:" in page.source


def test_page_needs_no_network_and_no_script(make_run: MakeRun):
    run = make_run()
    run.plots_path.mkdir()
    (run.plots_path / "attention.png").write_bytes(PNG)

    page = page_of(run)

    assert not page.of("script")
    assert not page.of("link")
    links = [
        value for _, attributes in page.tags for name, value in attributes.items() if name in {"src", "xlink:href"}
    ]
    assert len(links) > 1
    assert all(str(link).startswith(("data:image/png;base64,", "#")) for link in links)
    assert not re.search(r"url\((?!#)|@import", page.source)
    (policy,) = (meta["content"] for meta in page.of("meta") if "http-equiv" in meta)
    assert str(policy).startswith("default-src 'none'")


def test_identifiers_of_shapes_mean_the_same_in_all_curves(make_run: MakeRun):
    source = page_of(make_run()).source
    definitions: dict[str, set[str]] = {}
    for identifier, content in re.findall(r' id="([mp]\w+)"(.*?)</(?:clipPath|defs)>', source, flags=re.DOTALL):
        definitions.setdefault(identifier, set()).add(content)

    assert len(definitions) > 1
    assert {len(contents) for contents in definitions.values()} == {1}
    assert '<g id="' not in source


def test_plots_are_embedded_with_their_names_and_curves_only_once(make_run: MakeRun):
    run = make_run()
    run.plots_path.mkdir()
    (run.plots_path / "attention <rows>.png").write_bytes(PNG)

    page = page_of(run)

    (image,) = page.of("img")
    assert base64.b64decode(str(image["src"]).removeprefix("data:image/png;base64,")) == PNG
    assert image["alt"] == "attention <rows>"
    assert "attention <rows>" in page.text
    assert len(page.of("svg")) == 3
    assert (run.plots_path / "curve-loss.png").exists()


def test_everything_is_escaped(make_run: MakeRun, run_info: dict[str, Any]):
    info = {**run_info, "versions": {HOSTILE: HOSTILE}, HOSTILE: HOSTILE, "error": HOSTILE}
    info |= dict.fromkeys(("recipe", "description", "status", "stop_reason", "device"), HOSTILE)
    info["best"] = {"step": 7, "value": HOSTILE, "monitor": HOSTILE}
    records = [{"step": 7, "split": HOSTILE, HOSTILE: 0.5}]
    run = make_run(info=info, records=records, config=f"{HOSTILE}: {HOSTILE}\n# {HOSTILE}\nkey: {HOSTILE}\n")

    page = page_of(run)

    assert not page.of("script")
    assert "<script" not in page.source
    assert page.text.count(HOSTILE) >= 12


@pytest.mark.parametrize(
    ("status", "reason", "text"),
    [
        ("running", None, "The run has not ended, or was killed"),
        ("stopped", "SIGTERM", "It was asked to stop (SIGTERM) and can be resumed."),
        ("done", "patience", "stopped improving"),
        ("failed", "error", "An error ended it."),
        ("done", "some_new_reason", "Stop reason: some_new_reason."),
    ],
)
def test_end_of_the_run_is_told_in_words(
    make_run: MakeRun, run_info: dict[str, Any], status: str, reason: str | None, text: str
):
    assert text in page_of(make_run(info={**run_info, "status": status, "stop_reason": reason}, records=[])).text


def test_run_in_progress_shows_the_last_metrics(make_run: MakeRun, run_records: list[dict[str, Any]]):
    page = page_of(make_run(records=run_records[:3]))

    assert page.tables["Metrics so far"] == [["", "train", "val"], ["loss", "0.4", "0.8"], ["accuracy", "", "0.5"]]
    assert "up to step 13" in page.text


@pytest.mark.parametrize(
    "records",
    [
        None,
        [],
        [{"step": 1, "split": "train", "loss": 0.5}],
        [{"step": 1, "split": "train", "loss": None}],
        [{"step": 0, "split": "val"}],
        [{"step": 3, "split": "test", "loss": None, "final": True}],
    ],
    ids=["no file", "nothing", "one record", "one null", "no values", "final only"],
)
def test_sparse_runs_give_a_page(make_run: MakeRun, records: list[dict[str, Any]] | None):
    page = page_of(make_run(info={}, records=records, config=None))

    assert "20251120-182500-a1b2c3" in page.text
    assert "unknown" in page.text


def test_page_of_an_unchanged_run_is_unchanged(make_run: MakeRun):
    run = make_run()
    first = write_report(run).read_bytes()

    assert write_report(run).read_bytes() == first


@pytest.mark.parametrize("name", ["run.json", "metrics.jsonl", "config.yaml", "plots/attention.png"])
def test_damaged_file_is_named_and_the_old_report_stays(make_run: MakeRun, name: str):
    run = make_run()
    run.report_path.write_text("old")
    (run.path / name).parent.mkdir(exist_ok=True)
    (run.path / name).write_bytes(b"\xff\x00\n\xff\n")

    with pytest.raises(SetwiseError, match=re.escape(name)):
        write_report(run)

    assert run.report_path.read_text() == "old"


def test_page_follows_the_colour_scheme_and_prints_light(make_run: MakeRun):
    source = page_of(make_run(records=[])).source

    assert "@media screen and (prefers-color-scheme: dark)" in source
    assert "@media print" in source
