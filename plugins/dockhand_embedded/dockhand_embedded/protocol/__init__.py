"""Endpoints of the OCI Distribution Specification, over any storage."""
