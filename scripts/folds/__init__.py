"""A cross-validation: what its folds have in common, their scores together, and their networks as one."""
