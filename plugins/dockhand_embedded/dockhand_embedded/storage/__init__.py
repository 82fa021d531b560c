"""Storage of repositories: in a folder of OCI Image Layouts, or in memory."""

__all__ = ["GRACE", "UPLOAD_AGE"]

# Here, because the program's help shows them, and loads no storage.
GRACE = 3600.0  # seconds without a new blob, after which garbage is collected
UPLOAD_AGE = 24 * 3600.0  # seconds without a new byte after which an upload is deleted
