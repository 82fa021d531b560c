"""Copies of images between repositories and registries."""
