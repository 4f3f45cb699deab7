"""Checkpoints: folders of safetensors and JSON, complete or not there, verified when read.

A checkpoint is written to ``<step>.tmp/``, synced to disk and renamed; only then are old ones removed.
``manifest.json`` holds the size and sha256 of every file, so one that was cut short or damaged is found out and named.
Nothing that is loaded is a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from setwise.errors import CheckpointError

FORMAT = 1
REPLACED = ".replaced.tmp"
REMOVED = ".removed.tmp"


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint folder holds.

    Attributes:
        step: number of finished optimizer steps.
        model: the model's state dict, on the CPU.
        optimizer: the optimizer's state dict; None when only weights were kept.
        state: JSON values of the Trainer and its callbacks.
    """

    step: int
    model: dict[str, Tensor]
    optimizer: dict[str, Any] | None
    state: dict[str, Any]


class CheckpointStore:
    """The checkpoints of one run.

    Args:
        root: the folder that holds one folder a checkpoint, named by its step in eight digits.

    Example:
        >>> import tempfile, torch
        >>> store = CheckpointStore(Path(tempfile.mkdtemp()))
        >>> _ = store.save(7, model={"weight": torch.ones(2)}, optimizer=None, state={"note": "hello"})
        >>> store.load(7).state["note"]
        'hello'
    """

    def __init__(self, root: Path) -> None:
        self.root = root

    def folder(self, step: int) -> Path:
        """Return the folder of the checkpoint at ``step``."""
        return self.root / f"{step:08d}"

    def steps(self, *, resumable: bool = False) -> list[int]:
        """Return the steps at which checkpoints stand, oldest first; ``resumable`` leaves out bare weights."""
        found = [p for p in self.root.glob("*") if p.name.isdigit()] if self.root.exists() else []
        return sorted(int(p.name) for p in found if not resumable or _is_resumable(p))

    def save(
        self, step: int, *, model: Mapping[str, Tensor], optimizer: Mapping[str, Any] | None, state: Mapping[str, Any]
    ) -> Path:
        """Write a checkpoint; an older one at the same step is replaced.

        Args:
            step: number of finished optimizer steps.
            model: state dict of the model.
            optimizer: state dict of the optimizer, or None to keep the weights alone.
            state: JSON values.

        Returns:
            The folder.

        Raises:
            CheckpointError: the disk is full or not writable, or the state has values of other kinds; nothing
                half-written is left, older checkpoints stand.
        """
        target, temporary = self.folder(step), self.root / f"{step:08d}.tmp"
        tensors: dict[str, Tensor] = {}
        weights, aliases = _unshare(model)
        document: dict[str, Any] = {"format": FORMAT, "step": step, "aliases": aliases, "state": dict(state)}
        if optimizer is not None:
            document["optimizer"] = _split(optimizer, tensors, "optimizer")
        try:
            text = json.dumps(document)
        except (TypeError, ValueError) as error:
            raise CheckpointError(f"the state of a callback cannot be saved: {error}; return JSON values") from error
        try:
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir(parents=True)
            _write_tensors(temporary / "model.safetensors", weights)
            if optimizer is not None:
                _write_tensors(temporary / "optimizer.safetensors", tensors)
            _write_text(temporary / "state.json", text)
            entries = {f.name: {"size": f.stat().st_size, "sha256": _hash(f)} for f in sorted(temporary.iterdir())}
            _write_text(temporary / "manifest.json", json.dumps(entries))
            _sync(temporary)
            self._put_in_place(temporary, target)
        except (OSError, SafetensorError) as error:
            shutil.rmtree(temporary, ignore_errors=True)
            left = self.steps(resumable=True)
            raise CheckpointError(
                f"cannot write the checkpoint {target}: {error}; free space or make the folder writable, then resume"
                + (f" from step {left[-1]}, which is safe" if left else "")
            ) from error
        return target

    def _put_in_place(self, temporary: Path, target: Path) -> None:
        replaced = target.with_name(target.name + REPLACED)
        if target.exists():  # the same step again: a stop right after the best weights were kept
            target.rename(replaced)
        temporary.rename(target)
        _sync(self.root)
        shutil.rmtree(replaced, ignore_errors=True)

    def recover(self) -> None:
        """Put back a checkpoint that a killed process had moved away to replace it. For the process that trains."""
        for replaced in self.root.glob(f"*{REPLACED}"):
            target = replaced.with_name(replaced.name.removesuffix(REPLACED))
            if not target.exists():
                replaced.rename(target)

    def load(self, step: int) -> Checkpoint:
        """Read and verify the checkpoint at ``step``.

        Raises:
            CheckpointError: it is missing, cut short, or damaged; the message names the file.
        """
        folder = self.folder(step)
        _verify(folder)
        document = json.loads((folder / "state.json").read_text(encoding="utf-8"))
        if document["format"] != FORMAT:
            raise CheckpointError(
                f"{folder} has format {document['format']}, this version reads {FORMAT}; use the setwise that wrote it"
            )
        model = load_file(folder / "model.safetensors")
        for alias, name in document["aliases"].items():
            model[alias] = model[name]
        optimizer = None
        if "optimizer" in document:
            optimizer = _join(document["optimizer"], load_file(folder / "optimizer.safetensors"))
        return Checkpoint(step, model, optimizer, document["state"])

    def state(self, step: int) -> Mapping[str, Any]:
        """Return the JSON values of a checkpoint without verifying it; none when they cannot be read."""
        try:
            return json.loads((self.folder(step) / "state.json").read_text(encoding="utf-8"))["state"]
        except (OSError, ValueError, KeyError):
            return {}

    def problem_of(self, step: int) -> str | None:
        """Return what is wrong with the checkpoint at ``step``, or None when it is sound."""
        try:
            _verify(self.folder(step))
        except CheckpointError as error:
            return str(error)
        return None

    def load_newest(self, *, resumable: bool = True) -> tuple[Checkpoint, list[str]]:
        """Read the newest sound checkpoint.

        Args:
            resumable: whether it must be one that training can go on from; False takes bare weights too.

        Returns:
            The checkpoint, and a message for each newer one that was damaged and passed over.

        Raises:
            CheckpointError: there is none.
        """
        problems: list[str] = []
        for step in reversed(self.steps(resumable=resumable)):
            try:
                return self.load(step), problems
            except CheckpointError as error:
                problems.append(str(error))
        detail = "".join(f"\n  {problem}" for problem in problems)
        raise CheckpointError(f"no checkpoint below {self.root} can be resumed; start again with setwise train{detail}")

    def prune(self, keep: Collection[int]) -> None:
        """Remove all checkpoints whose step is not in ``keep``, and what an interrupted save left behind."""
        for step in self.steps():
            if step not in keep:
                # Renamed first: one that is removed by half would look like a damaged one.
                self.folder(step).rename(self.folder(step).with_name(f"{step:08d}{REMOVED}"))
        for leftover in self.root.glob("*.tmp"):
            shutil.rmtree(leftover)


def _is_resumable(folder: Path) -> bool:
    """Whether a checkpoint was written with an optimizer; one whose manifest is damaged counts, so that it is named."""
    try:
        return "optimizer.safetensors" in json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return True


def _verify(folder: Path) -> None:
    if not folder.is_dir():
        raise CheckpointError(f"there is no checkpoint {folder}")
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{folder} is damaged: manifest.json cannot be read ({error})") from error
    for name, expected in manifest.items():
        file = folder / name
        size = file.stat().st_size if file.exists() else None
        if size != expected["size"]:
            found = "is missing" if size is None else f"has {size} bytes instead of {expected['size']}"
            raise CheckpointError(f"{folder} is damaged: {name} {found}")
        if _hash(file) != expected["sha256"]:
            raise CheckpointError(f"{folder} is damaged: the sha256 of {name} is not the one it was written with")


def _unshare(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Keep one name of each group of tied tensors; return the tensors and {other name: kept name}."""
    kept: dict[str, Tensor] = {}
    aliases: dict[str, str] = {}
    first: dict[tuple[Any, ...], str] = {}
    for name, value in state.items():
        key = (value.device, value.data_ptr(), value.shape, value.stride(), value.dtype)
        if value.numel() and key in first:
            aliases[name] = first[key]
        else:
            first[key] = name
            kept[name] = value
    return kept, aliases


def _split(tree: Any, tensors: dict[str, Tensor], path: str) -> Any:
    """Replace tensors in a tree by references and collect them; the rest becomes JSON that :func:`_join` reads back."""
    if isinstance(tree, Tensor):
        tensors[path] = tree
        return {"tensor": path}
    if isinstance(tree, Mapping):
        return {"items": [[key, _split(value, tensors, f"{path}/{key}")] for key, value in tree.items()]}
    if isinstance(tree, list | tuple):
        kind = "list" if isinstance(tree, list) else "tuple"
        return {kind: [_split(value, tensors, f"{path}/{index}") for index, value in enumerate(tree)]}
    if tree is None or isinstance(tree, bool | int | float | str):
        return tree
    raise CheckpointError(
        f"the optimizer's state has a {type(tree).__name__} at {path}; "
        "only tensors, numbers, strings, lists and dicts are saved"
    )


def _join(tree: Any, tensors: Mapping[str, Tensor]) -> Any:
    if not isinstance(tree, dict):
        return tree
    (kind, content), *_ = tree.items()
    if kind == "tensor":
        return tensors[content]
    if kind == "items":
        return {key: _join(value, tensors) for key, value in content}
    joined = [_join(value, tensors) for value in content]
    return joined if kind == "list" else tuple(joined)


def _write_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    save_file({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, path)
    _sync(path)


def _write_text(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
