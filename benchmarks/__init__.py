"""Comparisons of Dockhand with HTTP libraries and other clients; run `python -m benchmarks`."""
