"""Storage of repositories: in a folder of OCI Image Layouts, or in memory."""
