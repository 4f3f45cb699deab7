from typing import ClassVar

from setwise.testing import ModelSuite


class TestEncoderOfRows(ModelSuite):
    name = "setwise/encoder"
    options: ClassVar = {"dim": 8, "num_layers": 1}
    data: ClassVar = {"name": "setwise/table", "sklearn": "diabetes"}
    task = "setwise/regression"


class TestEncoderOfImages(ModelSuite):
    name = "setwise/encoder"
    options: ClassVar = {
        "dim": 12,
        "num_layers": 2,
        "attention": {"name": "setwise/mha", "num_heads": 3},
        "dropout": 0.1,
    }
    data = "setwise/digits"
    task = "setwise/classification"


class TestCausalLanguageModel(ModelSuite):
    name = "setwise/causal-lm"
    options: ClassVar = {"dim": 16, "num_layers": 1, "attention": {"name": "setwise/mha", "rope": True}}
    data: ClassVar = {"name": "setwise/text", "source": "stdlib-prose", "length": 13}
    task = "setwise/language-modeling"
