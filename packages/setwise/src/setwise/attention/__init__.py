"""Attention: the layer interface, one function with several backends, and the usual layers and blocks."""

from setwise.attention.base import AbstractAttention
from setwise.attention.blocks import AttentionBlock, FeedForward, make_norm
from setwise.attention.cache import KVCache
from setwise.attention.capture import capture, record
from setwise.attention.functional import attend, attention_weights
from setwise.attention.masks import causal_mask, combine_masks, padding_mask
from setwise.attention.multihead import MultiHeadAttention
from setwise.attention.rotary import RotaryEmbedding

__all__ = [
    "AbstractAttention",
    "AttentionBlock",
    "FeedForward",
    "KVCache",
    "MultiHeadAttention",
    "RotaryEmbedding",
    "attend",
    "attention_weights",
    "capture",
    "causal_mask",
    "combine_masks",
    "make_norm",
    "padding_mask",
    "record",
]
