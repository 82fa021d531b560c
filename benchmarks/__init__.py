"""Benchmarks against raw HTTP libraries and peers: `python -m benchmarks` prints ratios."""
