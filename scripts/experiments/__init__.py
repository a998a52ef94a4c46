"""Sets of data for experiments, made of a few real volumes."""
