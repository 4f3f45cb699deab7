"""Reference tensors of the published code, and how its tables and weights read in ours."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from torch import Tensor
from torch.nn.functional import pad

from setwise_npt.block import MultiheadAttentionBlock
from setwise_npt.columns import ColumnOutputs, Columns
from setwise_npt.config import BlockOptions, NptOptions
from setwise_npt.model import NonParametricTransformer

_FOLDER = Path(__file__).parent / "goldens"
_BLOCK_PARTS = {
    "q": "query",
    "k": "key",
    "v": "value",
    "mix": "mix",
    "res": "residual",
    "ln_att": "attention_norm",
    "ln_ff": "feed_forward_norm",
}
_EMBEDDINGS = {"type_embed": "embedding.types", "index_embed": "embedding.index", "embed_ln": "embedding.norm"}


@dataclass(frozen=True)
class Golden:
    """One file of reference tensors; of an attention block, one variant of it."""

    name: str
    config: dict[str, Any]
    tensors: dict[str, Tensor]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose name starts with a prefix, without it."""
        return {name.removeprefix(prefix): t for name, t in self.tensors.items() if name.startswith(prefix)}

    @property
    def columns(self) -> Columns:
        """The table's columns; the published code writes 1 for a number."""
        sizes = tuple(0 if size == 1 else size for size in self.config["cols"])
        return Columns(sizes, tuple(self.config["targets"]))

    def table(self, prefix: str, columns: Columns | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Return values, codes and mask tokens, each (1, rows, columns), of the encoded columns ``<prefix>.<j>``.

        Without mask tokens a hidden category shows as zeros, and a hidden number is a 0 like any other.
        """
        values, codes, masked = [], [], []
        for j, size in enumerate((columns or self.columns).sizes):
            x = self.tensors[f"{prefix}.{j}"]
            slots = x[:, : max(1, size)]
            values.append(torch.zeros(len(x)) if size else slots[:, 0])
            codes.append(slots.argmax(1) if size else torch.zeros(len(x), dtype=torch.int64))
            masked.append(x[:, -1] == 1 if x.shape[1] > slots.shape[1] else (slots == 0).all(1))
        return torch.stack(values, 1)[None], torch.stack(codes, 1)[None], torch.stack(masked, 1)[None]

    def outputs(self) -> ColumnOutputs:
        """Return the predictions ``y.<j>``, each (rows, outputs), as a model's outputs for one set."""
        columns = self.columns
        y = [self.tensors[f"y.{j}"][None] for j in range(len(columns))]
        numeric = torch.cat([y[j] for j in columns.numeric] or [y[0][..., :0]], dim=2)
        buckets = []
        for width, members in columns.buckets:
            buckets.append(
                torch.stack([pad(y[j], (0, width - columns.sizes[j]), value=-torch.inf) for j in members], 2)
            )
        return ColumnOutputs(numeric, tuple(buckets))

    def block(self) -> MultiheadAttentionBlock:
        """Build the attention block, with its weights, in evaluation mode."""
        config = self.config
        options = BlockOptions(**self._block_options())
        block = MultiheadAttentionBlock(
            config["dim_emb"], options, query_dim=config["dim_q"], context_dim=config["dim_kv"]
        )
        block.load_state_dict(_block_state(self.under("w."), with_feed_forward=options.feed_forward))
        return block.eval()

    def model(self) -> NonParametricTransformer:
        """Build the model, with its weights, in evaluation mode."""
        config = self.config
        options = NptOptions(
            **self._block_options(),
            column_dim=config["E"],
            num_layers=config["depth"],
            mask_token=config.get("mask_column", True),
            type_embedding=config.get("type_embedding", True),
            index_embedding=config.get("index_embedding", True),
            embedding_norm=config.get("embedding_ln", False),
        )
        model = NonParametricTransformer(self.columns, options)
        model.load_state_dict(self.state("w."))
        return model.eval()

    def state(self, prefix: str) -> dict[str, Tensor]:
        """Bring the weights of a model, or their gradients, into our layout."""
        weights, columns = self.under(prefix), self.columns
        everywhere = range(len(columns))
        state = {
            "embedding.table": torch.cat([weights[f"in_embed.{j}.weight"].T for j in everywhere]),
            "embedding.bias": torch.stack([weights[f"in_embed.{j}.bias"] for j in everywhere]),
        }
        for name, tensor in weights.items():
            part, _, rest = name.partition(".")
            if part in _EMBEDDINGS:
                state[f"{_EMBEDDINGS[part]}.{rest}"] = tensor
        for layer in range(self.config["depth"]):
            block = _block_state(self.under(f"{prefix}block.{layer}."), with_feed_forward=True)
            state |= {f"blocks.{layer}.{name}": tensor for name, tensor in block.items()}
        if columns.numeric:
            for kind in ("weight", "bias"):
                state[f"heads.numeric_{kind}"] = torch.cat([weights[f"out_embed.{j}.{kind}"] for j in columns.numeric])
        for number, bucket in enumerate(columns.buckets):
            for kind in ("weight", "bias"):
                heads = [weights[f"out_embed.{j}.{kind}"] for j in bucket.columns]
                padded = [torch.cat([t, t.new_zeros(bucket.width - len(t), *t.shape[1:])]) for t in heads]
                state[f"heads.buckets.{number}.{kind}"] = torch.stack(padded)
        return state

    def _block_options(self) -> dict[str, Any]:
        config = self.config
        norm = "pre" if config.get("pre_ln", True) else "post"
        return {
            "num_heads": config["heads"],
            "norm": norm if config.get("ln", True) else "none",
            "norm_eps": config.get("ln_eps", 1e-12),
            "score_norm": config.get("att_norm", "softmax"),
            "mix_heads": config.get("mix_heads", True),
            "residual_projection": config.get("sep_res", True),
            "feed_forward": not config.get("ablate_rff", False),
            "feed_forward_depth": config.get("rff_depth", 1),
        }


def _block_state(weights: Mapping[str, Tensor], *, with_feed_forward: bool) -> dict[str, Tensor]:
    state = {}
    for name, tensor in weights.items():
        part, _, rest = name.partition(".")
        if part in _BLOCK_PARTS:
            state[f"{_BLOCK_PARTS[part]}.{rest}"] = tensor
        elif with_feed_forward:  # the published block without the feed-forward part has the weights of one, unused
            number, _, rest = rest.partition(".")
            state[f"feed_forward.{3 * int(number)}.{rest}"] = tensor
    return state


def _read(path: Path) -> list[Golden]:
    with safe_open(path, "pt") as file:
        config = json.loads(file.metadata()["config"])
        tensors = {name: file.get_tensor(name) for name in list(file.keys())}
    whole = Golden(path.stem, config, tensors)
    if config["kind"] != "mab":
        return [whole]
    inputs = {name: tensors[name] for name in ("X", "Y")}
    return [
        Golden(f"{path.stem}-{name}", config | variant, inputs | whole.under(f"{name}."))
        for name, variant in config["variants"].items()
    ]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test that asks for ``<kind>_golden`` on everything of that kind in ``goldens/``."""
    for fixture in metafunc.fixturenames:
        kind, _, suffix = fixture.rpartition("_")
        if kind and suffix == "golden":
            files = [golden for path in sorted(_FOLDER.glob("*.safetensors")) for golden in _read(path)]
            cases = [golden for golden in files if golden.config["kind"] == kind]
            metafunc.parametrize(fixture, cases, ids=[golden.name for golden in cases])
