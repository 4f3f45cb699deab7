"""`setwise data fetch` and `setwise data verify`, on a table and on a dataset that counts what is asked of it."""

import hashlib
import json
from pathlib import Path

import pytest

from setwise.cli.main import main

RECIPE = """\
model: setwise/encoder
data: {{name: setwise/table, path: {path}, target: kind, test_fraction: 0.25, val_fraction: 0.25}}
task: setwise/classification
optimizer: setwise/adamw
trainer: {{max_steps: 5}}
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "animals.csv"
    rows = [f"{height}.5,{'cat' if height % 2 else 'dog'}" for height in range(28)]
    path.write_text("\n".join(["height,kind", *rows]))
    return path


def fetch(capsys: pytest.CaptureFixture[str], *arguments: str) -> dict[str, object]:
    assert main(["data", "fetch", *arguments, "--json"]) == 0
    return json.loads(capsys.readouterr().out)


def test_fetch_tells_what_the_data_is(table: Path, capsys: pytest.CaptureFixture[str]):
    options = (f"path={table}", "target=kind", "test_fraction=0.25", "val_fraction=0.25")
    facts = fetch(capsys, "table", *options)

    assert facts["dataset"] == "setwise/table"
    assert facts["items"] == "14 train, 7 val, 7 test"
    assert (facts["inputs"], facts["targets"]) == (1, "kind")
    assert len(str(facts["fingerprint"])) == hashlib.sha256().digest_size * 2


def test_recipe_stands_for_the_data_it_uses(table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    recipe = tmp_path / "mine.yaml"
    recipe.write_text(RECIPE.format(path=table))

    facts = fetch(capsys, str(recipe), "data.val_fraction=0.5")

    assert facts["items"] == "7 train, 14 val, 7 test"


def test_facts_are_lines_without_json(table: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "fetch", "table", f"path={table}", "target=kind"]) == 0

    assert capsys.readouterr().out.startswith("dataset: setwise/table\nitems: ")


def test_verify_compares_fingerprints(table: Path, capsys: pytest.CaptureFixture[str]):
    options = (f"path={table}", "target=kind")
    fingerprint = str(fetch(capsys, "table", *options)["fingerprint"])

    assert main(["data", "verify", "table", *options, "--fingerprint", fingerprint]) == 0
    assert capsys.readouterr().out == f"setwise/table: {fingerprint} as expected\n"
    table.write_text(table.read_text().replace("0.5,dog", "0.25,dog", 1))
    assert main(["data", "verify", "table", *options, "--fingerprint", fingerprint]) == 2
    message = capsys.readouterr().err
    assert message.startswith("setwise: setwise/table has the fingerprint ")
    assert message.endswith(f", not {fingerprint}: it has changed\n")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tabel"], 'setwise: unknown dataset "tabel"; did you mean "table"?'),
        (["table", "targt=x"], 'override targt=x: targt: unknown key; did you mean "target"?'),
        (["no.yaml"], "setwise: no.yaml: there is no such file"),
    ],
)
def test_wrong_input_is_told(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]):
    assert main(["data", "fetch", *arguments]) == 2
    assert message in capsys.readouterr().err
