"""Headers of tar files: the parts that archives of images and artifacts have in common.

Follows: POSIX.1-2017, "pax Interchange Format".
"""

from __future__ import annotations

import tarfile

__all__ = ["REFUSED_KINDS", "padding", "pax_fields"]

# The kinds of members that neither archives nor artifacts may have, as error messages name them.
REFUSED_KINDS = {
    tarfile.CHRTYPE: "a device",
    tarfile.BLKTYPE: "a device",
    tarfile.FIFOTYPE: "a pipe",
    tarfile.GNUTYPE_SPARSE: "a sparse file",
}


def padding(size: int) -> int:
    """The number of bytes between the end of a content and the next header."""
    return -size % tarfile.BLOCKSIZE


def pax_fields(data: bytes) -> dict[str, str] | None:
    """Parse the records of a pax header, each `<length> <key>=<value>` and a newline.

    `tarfile` parses such headers only while it reads a whole file, and of any size.

    Returns:
        the values by their keys; None if the header is malformed.
    """
    fields: dict[str, str] = {}
    start = 0
    while start < len(data):
        space = data.find(b" ", start, start + 9)
        digits = data[start:space]
        end = start + int(digits) if space > start and digits.isdigit() else 0
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if not space < end <= len(data) or data[end - 1 : end] != b"\n" or not equals:
            return None
        fields[key.decode("utf-8", "replace")] = value.decode("utf-8", "surrogateescape")
        start = end
    return fields
