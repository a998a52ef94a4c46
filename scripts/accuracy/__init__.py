"""The measured accuracy of the bundles: what docs/accuracy.md reports."""
