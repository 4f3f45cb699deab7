from __future__ import annotations

import hashlib
import json
import resource
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest
import torch

from setwise.errors import CheckpointError
from setwise.train.checkpoint import CheckpointStore


@pytest.fixture
def store(tmp_path: Path) -> CheckpointStore:
    return CheckpointStore(tmp_path / "checkpoints")


def save(store: CheckpointStore, step: int) -> Path:
    return store.save(
        step, model={"weight": torch.full((5,), float(step))}, optimizer={"state": {}}, state={"step": step}
    )


def test_everything_comes_back_as_it_was(store: CheckpointStore) -> None:
    moments = torch.randn(3, 2)
    optimizer = {
        "state": {0: {"step": torch.tensor(7.0), "exp_avg": moments}, 3: {"slow": None}},
        "param_groups": [{"lr": 1e-3, "betas": (0.9, 0.999), "params": [0, 3], "name": "all", "amsgrad": False}],
    }
    model = {"half": torch.randn(2, 3).bfloat16(), "empty": torch.zeros(0, 5), "count": torch.tensor(3)}
    store.save(12, model=model, optimizer=optimizer, state={"note": [1, None, 0.1]})
    loaded = store.load(12)
    assert loaded.state == {"note": [1, None, 0.1]}
    assert loaded.model.keys() == model.keys()
    assert all(torch.equal(loaded.model[name], value) for name, value in model.items())
    assert loaded.model["half"].dtype == torch.bfloat16
    assert loaded.optimizer is not None
    assert torch.equal(loaded.optimizer["state"][0].pop("exp_avg"), moments)
    assert loaded.optimizer["state"] == {0: {"step": torch.tensor(7.0)}, 3: {"slow": None}}
    assert loaded.optimizer["param_groups"] == optimizer["param_groups"]


def test_tied_and_strided_weights_are_saved_once_and_come_back_under_all_their_names(store: CheckpointStore) -> None:
    tied = torch.randn(4, 3)
    store.save(1, model={"embedding": tied, "head": tied, "turned": tied.T}, optimizer=None, state={})
    loaded = store.load(1).model
    assert torch.equal(loaded["head"], tied)
    assert torch.equal(loaded["turned"], tied.T)


def test_files_are_the_documented_ones_and_none_is_a_pickle(store: CheckpointStore) -> None:
    folder = save(store, 3)
    assert folder.name == "00000003"
    names = {path.name for path in folder.iterdir()}
    assert names == {"model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"}
    unsafe = {"state": {0: {"lock": threading.RLock()}}}
    with pytest.raises(CheckpointError, match="Lock at optimizer/state/0/lock"):
        store.save(4, model={}, optimizer=unsafe, state={})
    assert store.steps() == [3]
    assert not list(store.root.glob("*.tmp"))


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "state.json", "manifest.json"])
@pytest.mark.parametrize("damage", ["cut", "flipped", "gone"])
def test_damage_is_found_named_and_passed_over(store: CheckpointStore, name: str, damage: str) -> None:
    save(store, 1)
    file = save(store, 2) / name
    content = bytearray(file.read_bytes())
    if damage == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        content[len(content) // 2] ^= 0xFF
        file.write_bytes(content)
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=name):
        store.load(2)
    checkpoint, (problem,) = store.load_newest()
    assert checkpoint.step == 1
    assert name in problem


def test_when_all_are_damaged_each_is_named(store: CheckpointStore) -> None:
    for step in (1, 2):
        (save(store, step) / "state.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"(?s)no checkpoint.*00000002.*00000001"):
        store.load_newest()


def test_bare_weights_are_loaded_but_not_resumed(store: CheckpointStore) -> None:
    save(store, 1)
    store.save(2, model={"weight": torch.ones(1)}, optimizer=None, state={})
    assert store.steps() == [1, 2]
    assert store.steps(resumable=True) == [1]
    assert store.load(2).optimizer is None
    assert store.load_newest()[0].step == 1


def test_an_interrupted_save_is_not_a_checkpoint_and_is_swept_away(store: CheckpointStore) -> None:
    save(store, 1)
    unfinished = store.root / "00000002.tmp"
    unfinished.mkdir()
    (unfinished / "model.safetensors").write_bytes(b"half")
    assert store.steps() == [1]
    store.prune({1})
    assert not unfinished.exists()
    assert store.steps() == [1]


def test_state_that_json_cannot_say_is_refused_and_leaves_nothing(store: CheckpointStore) -> None:
    with pytest.raises(CheckpointError, match=r"set is not JSON serializable"):
        store.save(1, model={}, optimizer=None, state={"seen": {1, 2}})
    assert not store.root.exists()


def test_a_removal_that_was_cut_short_leaves_no_damaged_checkpoint(
    store: CheckpointStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(store, 1)
    save(store, 2)
    with monkeypatch.context() as patched:
        patched.setattr("setwise.train.checkpoint.shutil.rmtree", lambda folder: (folder / "manifest.json").unlink())
        store.prune({1})
    assert store.steps() == [1]
    store.prune({1})
    assert [path.name for path in store.root.iterdir()] == ["00000001"]


def test_a_checkpoint_of_a_later_format_is_refused(store: CheckpointStore) -> None:
    folder = save(store, 1)
    document = json.loads((folder / "state.json").read_text())
    text = json.dumps({**document, "format": 99})
    (folder / "state.json").write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["state.json"] = {"size": len(text), "sha256": hashlib.sha256(text.encode()).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CheckpointError, match="format 99"):
        store.load(1)


def test_saving_the_same_step_again_replaces_it(store: CheckpointStore) -> None:
    save(store, 1)
    store.save(1, model={"weight": torch.zeros(1)}, optimizer={}, state={"again": True})
    assert store.load(1).state == {"again": True}
    assert [path.name for path in store.root.iterdir()] == ["00000001"]


def test_a_full_disk_leaves_the_older_checkpoint_and_nothing_half_written(tmp_path: Path) -> None:
    program = """
        import resource, signal, sys
        from pathlib import Path
        import torch
        from setwise.errors import CheckpointError
        from setwise.train.checkpoint import CheckpointStore
        store = CheckpointStore(Path(sys.argv[1]))
        store.save(1, model={"weight": torch.zeros(10)}, optimizer={}, state={})
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
        try:
            store.save(2, model={"weight": torch.zeros(100_000)}, optimizer={}, state={})
        except CheckpointError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), str(tmp_path)], capture_output=True, text=True, check=True
    )
    assert "cannot write the checkpoint" in done.stdout
    assert "free space" in done.stdout
    assert "step 1, which is safe" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]
    assert CheckpointStore(tmp_path).load(1).step == 1
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 100_000  # the limit was the other process's own
