"""A registry on a socket, and the command `dockhand` in a folder of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from command_line import CommandLine
from dockhand_embedded.pytest_plugin import OciRegistry

from dockhand_core import RegistryClient, connect


@pytest.fixture
def dockhand(tmp_path: Path) -> CommandLine:
    """Provide the command `dockhand`, in an empty folder."""
    return CommandLine(tmp_path)


@pytest.fixture
def host(oci_registry: OciRegistry) -> str:
    """Start an embedded registry; provide its host and port, as in a reference."""
    return oci_registry.url.removeprefix("http://")


@pytest.fixture
def registry(oci_registry: OciRegistry) -> Iterator[RegistryClient]:
    """Connect the library to the registry, to push images and to look at them."""
    with connect(oci_registry.url, logging={"driver": "null"}) as client:
        yield client
