"""Images whose stripes run one way or the other."""

import hashlib

import torch
from torch import Tensor

from guest_setwise.config import StripesOptions
from setwise.data.dataset import AbstractDataModule, require_indices, require_split
from setwise.data.spec import Categorical, DataSpec, Image
from setwise.errors import DataError
from setwise.seeding import derive_seed

SPLITS = ("train", "val", "test")


class Stripes(AbstractDataModule):
    """Every image is drawn from the seed, its split and its index alone."""

    def __init__(self, options: StripesOptions, *, seed: int) -> None:
        super().__init__(seed=seed)
        self.options = options
        self._images: dict[str, tuple[Tensor, Tensor]] = {}

    def prepare(self) -> None:
        self._images = {split: self._draw(split) for split in SPLITS}

    @property
    def splits(self) -> tuple[str, ...]:
        self._require_prepared()
        return SPLITS

    @property
    def spec(self) -> DataSpec:
        self._require_prepared()
        direction = Categorical("direction", ("horizontal", "vertical"))
        return DataSpec((Image("image", channels=1, height=8, width=8),), (direction,))

    def num_items(self, split: str, epoch: int = 0) -> int:
        require_split(split, self.splits)
        return self.options.num_items

    def item(self, split: str, epoch: int, index: int) -> dict[str, Tensor]:
        require_indices([index], self.num_items(split), split)
        images, directions = self._images[split]
        return {"image": images[index], "direction": directions[index]}

    def fingerprint(self) -> str:
        images = (self._images[split][0] for split in self.splits)
        return hashlib.sha256(b"".join(image.numpy().tobytes() for image in images)).hexdigest()

    def _require_prepared(self) -> None:
        if not self._images:
            raise DataError("guest/stripes is not prepared; call prepare() first")

    def _draw(self, split: str) -> tuple[Tensor, Tensor]:
        generator = torch.Generator().manual_seed(derive_seed(self.seed, "stripes", split))
        directions = torch.randint(2, (self.options.num_items,), generator=generator)
        vertical = (torch.arange(8) % 2).float().expand(8, 8)
        clean = torch.where(directions.bool()[:, None, None], vertical, vertical.T).unsqueeze(1)
        return clean + self.options.noise * torch.randn(clean.shape, generator=generator), directions
