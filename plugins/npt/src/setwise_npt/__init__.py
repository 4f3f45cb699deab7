"""Non-Parametric Transformers (Kossen et al., 2021)."""
