"""Retention: the plan of the tags and manifests to delete, and its application."""
