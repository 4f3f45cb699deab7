"""The command `setwise acme draw`."""


def draw(index: int = 0, *, split: str = "train") -> None:
    """Print an image of stripes, dark pixels as #.

    Args:
        index: which image.
        split: of which split.
    """
    from acme_setwise.config import StripesOptions
    from acme_setwise.stripes import Stripes

    for row in Stripes(StripesOptions(noise=0.0), seed=0).item(split, 0, index)["image"][0]:
        print("".join("#" if pixel else "." for pixel in row))
