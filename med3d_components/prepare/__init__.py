"""Bring scans and labels of other people into the layout of a training set; no packed bundle carries this."""
