"""Generic models around any registered attention: ``model.attention.name`` says which."""

from setwise.models.causal_lm import CausalLM
from setwise.models.encoder import Encoder

__all__ = ["CausalLM", "Encoder"]
