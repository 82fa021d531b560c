"""Artifacts: files and folders that are pushed and pulled, as oras does it."""
