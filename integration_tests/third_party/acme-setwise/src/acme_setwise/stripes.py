"""Images whose stripes run one way or the other."""

import hashlib

import torch
from torch import Tensor

from acme_setwise.config import StripesOptions
from setwise.data.dataset import AbstractDataModule, require_index, require_split
from setwise.data.spec import Categorical, DataSpec, Image
from setwise.seeding import derive_seed


class Stripes(AbstractDataModule):
    """Every item is drawn from its split and index alone."""

    splits = ("train", "val", "test")
    spec = DataSpec(
        (Image("image", channels=1, height=8, width=8),), (Categorical("direction", ("horizontal", "vertical")),)
    )

    def __init__(self, options: StripesOptions, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.options = options

    def prepare(self) -> None:
        """Nothing to download."""

    def num_items(self, split: str, epoch: int = 0) -> int:
        require_split(split, self.splits)
        return self.options.num_items

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        require_index(index, self.num_items(split), split)
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stripes", split, index))
        direction = torch.randint(2, (), generator=generator)
        rows = (torch.arange(8) % 2).float().expand(8, 8)
        image = rows if direction else rows.T
        return {
            "image": (image + self.options.noise * torch.randn(8, 8, generator=generator)).unsqueeze(0),
            "direction": direction,
        }

    def fingerprint(self) -> str:
        return hashlib.sha256(f"stripes {self.seed} {self.options!r}".encode()).hexdigest()
