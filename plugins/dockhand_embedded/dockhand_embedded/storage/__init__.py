"""Storages: a folder of OCI Image Layouts, or memory."""
