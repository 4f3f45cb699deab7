"""An encoder over the tokens of an item: the columns of a table's row, or the patches of an image."""

from __future__ import annotations

from typing import final

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from setwise.attention import make_norm
from setwise.data.spec import Categorical, Continuous, DataSpec, Image
from setwise.errors import ConfigError
from setwise.models.stack import build_blocks
from setwise.options import EncoderOptions


@final
class Encoder(nn.Module):
    """Embed an item as tokens, let them attend to each other, and read the prediction off their mean.

    Called with the inputs of a batch as keywords: ``image=`` (batch, channels, height, width), or
    ``values=, codes=, missing=`` (batch, columns). Returns (batch, outputs): a logit for each category of a
    categorical target, or a standardised value for each continuous one.

    Args:
        data: one image, or the columns of a table; and the targets.
        options: width, depth, and which attention.

    Raises:
        ConfigError: the data is neither, or the image cannot be cut into patches.

    Example:
        >>> spec = DataSpec((Continuous("height"), Continuous("weight")), (Categorical("kind", ("cat", "dog")),))
        >>> model = Encoder(spec, EncoderOptions(dim=8, num_layers=1))
        >>> values = torch.randn(3, 2)
        >>> model(values=values, codes=torch.zeros(3, 2).long(), missing=torch.zeros(3, 2).bool()).shape
        torch.Size([3, 2])
    """

    def __init__(self, data: DataSpec, options: EncoderOptions) -> None:
        super().__init__()
        self.embedding = _build_embedding(data, options)
        self.blocks = build_blocks(options, causal=False)
        self.norm = make_norm(options.norm, options.dim)
        self.head = nn.Linear(options.dim, _num_outputs(data))

    def forward(self, **inputs: Tensor) -> Float[Tensor, "batch outputs"]:
        """Return logits or standardised values."""
        x = self.embedding(**inputs)
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x).mean(dim=1))


class CellEmbedding(nn.Module):
    """Embed each cell of a table's rows as a token: ``value * scale[column]``, or a row per category, plus a bias.

    All columns share one table of vectors, so a batch is one lookup whatever the number of columns.

    Args:
        columns: the input columns.
        dim: width of a token.
    """

    first: Tensor
    missing_slot: Tensor
    is_continuous: Tensor

    def __init__(self, columns: tuple[Continuous | Categorical, ...], dim: int) -> None:
        super().__init__()
        is_continuous = torch.tensor([isinstance(column, Continuous) for column in columns])
        sizes = torch.tensor([c.num_categories if isinstance(c, Categorical) else 1 for c in columns])
        first = (sizes + 1).cumsum(0) - sizes - 1
        self.register_buffer("first", first, persistent=False)
        self.register_buffer("missing_slot", first + sizes, persistent=False)
        self.register_buffer("is_continuous", is_continuous, persistent=False)
        self.table = nn.Parameter(torch.randn(int((sizes + 1).sum()), dim) * dim**-0.5)
        self.bias = nn.Parameter(torch.randn(len(columns), dim) * dim**-0.5)

    def forward(
        self,
        values: Float[Tensor, "batch columns"],
        codes: Int[Tensor, "batch columns"],
        missing: Bool[Tensor, "batch columns"],
    ) -> Float[Tensor, "batch columns dim"]:
        """Return one token a cell; a missing cell has a vector of its own."""
        slots = torch.where(missing, self.missing_slot, self.first + codes)
        scale = torch.where(self.is_continuous & ~missing, values, torch.ones_like(values))
        return F.embedding(slots, self.table) * scale[..., None] + self.bias


class PatchEmbedding(nn.Module):
    """Cut an image into square patches, project each, and add a learned position (Dosovitskiy et al., 2021, eq. 1).

    Args:
        image: size of the images.
        patch_size: side of a patch, in pixels.
        dim: width of a token.

    Raises:
        ConfigError: the patch does not divide the image.
    """

    def __init__(self, image: Image, patch_size: int, dim: int) -> None:
        super().__init__()
        if image.height % patch_size or image.width % patch_size:
            common = [p for p in range(1, image.height + 1) if image.height % p == 0 == image.width % p]
            raise ConfigError(
                f"patch_size={patch_size} must divide the image's {image.height} x {image.width} pixels; "
                f"try one of {common}"
            )
        self.name, self.patch_size = image.name, patch_size
        self.project = nn.Linear(image.channels * patch_size**2, dim)
        num_patches = (image.height // patch_size) * (image.width // patch_size)
        self.position = nn.Parameter(torch.randn(num_patches, dim) * 0.02)

    def forward(self, **inputs: Float[Tensor, "batch channels height width"]) -> Float[Tensor, "batch patches dim"]:
        """Return one token a patch, row by row."""
        side = self.patch_size
        patches = rearrange(inputs[self.name], "b c (h p) (w q) -> b (h w) (c p q)", p=side, q=side)
        return self.project(patches) + self.position


def build_encoder(options: EncoderOptions, *, data: DataSpec) -> Encoder:
    """Build the model that recipes name ``setwise/encoder``."""
    return Encoder(data, options)


def _build_embedding(data: DataSpec, options: EncoderOptions) -> nn.Module:
    images = [field for field in data.inputs if isinstance(field, Image)]
    if len(images) == 1 == len(data.inputs):
        return PatchEmbedding(images[0], options.patch_size, options.dim)
    columns = tuple(field for field in data.inputs if isinstance(field, Continuous | Categorical))
    if columns and len(columns) == len(data.inputs):
        return CellEmbedding(columns, options.dim)
    found = ", ".join(f"{field.name} ({type(field).__name__})" for field in data.inputs)
    raise ConfigError(f"setwise/encoder reads one image, or the columns of a table; the data has: {found}")


def _num_outputs(data: DataSpec) -> int:
    if len(data.targets) == 1 and isinstance(data.targets[0], Categorical):
        return data.targets[0].num_categories
    if data.targets and all(isinstance(target, Continuous) for target in data.targets):
        return len(data.targets)
    found = ", ".join(f"{target.name} ({type(target).__name__})" for target in data.targets) or "none"
    raise ConfigError(f"setwise/encoder predicts one categorical target or continuous ones; the data has: {found}")
