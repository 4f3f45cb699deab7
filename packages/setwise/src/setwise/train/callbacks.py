"""Callbacks: the one way to extend the Trainer besides a Task."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from setwise.train.trainer import Trainer


class AbstractCallback:
    """Something that watches a run. Every method does nothing unless a subclass overrides it.

    A callback that remembers anything a resumed run needs returns it from :meth:`state_dict`; it is stored as JSON
    in every checkpoint under the callback's class name.
    """

    def on_fit_start(self, trainer: Trainer) -> None:
        """Training begins or goes on; ``trainer.state`` says where."""

    def on_step_end(self, trainer: Trainer) -> None:
        """One optimizer step is done. Runs in the hot path: no host synchronisation here."""

    def on_log(self, trainer: Trainer, record: Mapping[str, Any]) -> None:
        """A line of metrics was written (``record["split"]`` says whose)."""

    def on_checkpoint(self, trainer: Trainer, folder: Path) -> None:
        """A checkpoint stands complete in ``folder``. Main process only."""

    def on_fit_end(self, trainer: Trainer, reason: str) -> None:
        """Training ended or stopped for ``reason``; also called when an error ends it (``reason="error"``)."""

    def state_dict(self) -> dict[str, Any]:
        """Return JSON values to be stored in checkpoints."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take back what :meth:`state_dict` returned."""
