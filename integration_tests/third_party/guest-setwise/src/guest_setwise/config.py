"""Options, free of torch."""

from pydantic import Field

from setwise.config import Options


class MeanOptions(Options):
    """Attention by averaging."""

    bias: bool = Field(True, description="add a bias to what is read")


class StripesOptions(Options):
    """Images of stripes."""

    num_items: int = Field(256, ge=1, description="images per split")
    noise: float = Field(0.1, ge=0, description="standard deviation of the noise on every pixel")
