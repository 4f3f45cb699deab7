"""Attention over sets."""
