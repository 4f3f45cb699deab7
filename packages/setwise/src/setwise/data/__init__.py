"""Data: what a dataset is, stateless sampling, the download cache, and the built-in tables, images and texts."""
