from typing import ClassVar

from setwise.testing import AttentionSuite


class TestMultiHead(AttentionSuite):
    name = "setwise/mha"


class TestGroupedWithoutBias(AttentionSuite):
    name = "setwise/mha"
    options: ClassVar = {"num_heads": 6, "num_kv_heads": 2, "head_dim": 5, "bias": False, "dropout": 0.3}


class TestCausalRotary(AttentionSuite):
    name = "setwise/mha"
    options: ClassVar = {"num_heads": 3, "rope": True}
    causal = True


class TestScaledDotProductKernels(AttentionSuite):
    name = "setwise/mha"
    options: ClassVar = {"rope": True, "backend": "sdpa"}
