"""Parts of help texts."""

from __future__ import annotations

__all__ = ["HOST_HELP", "IMAGE_HELP", "REPOSITORY_HELP", "examples"]

HOST_HELP = "the registry's host, with a port if it has one; docker.io is Docker Hub"
IMAGE_HELP = "the image: HOST/REPOSITORY:TAG, @CONNECTION/REPOSITORY:TAG, or with @DIGEST"
REPOSITORY_HELP = "the repository: HOST/REPOSITORY or @CONNECTION/REPOSITORY"


def examples(*lines: str) -> str:
    """The examples at the end of a command's help, each a whole command line.

    A test runs the command lines, and the pages of the documentation show them.
    """
    return "\n\n".join(("Examples:", *lines))
