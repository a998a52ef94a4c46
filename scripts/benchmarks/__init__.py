"""What ``scripts/benchmark.py`` measures, one comparison a module."""
