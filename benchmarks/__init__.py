"""Ratios against raw HTTP libraries and peers, each measured in one run: `python -m benchmarks`."""
