"""The command `setwise guest draw`."""


def draw(index: int = 0, *, split: str = "train") -> None:
    """Print an image of stripes, dark pixels as #.

    Args:
        index: which image.
        split: of which split.
    """
    from guest_setwise.config import StripesOptions
    from guest_setwise.stripes import Stripes

    data = Stripes(StripesOptions(noise=0.0), seed=0)
    data.prepare()
    for row in data.item(split, 0, index)["image"][0]:
        print("".join("#" if pixel else "." for pixel in row))
