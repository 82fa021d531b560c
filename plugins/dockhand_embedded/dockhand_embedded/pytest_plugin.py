"""The pytest fixture `oci_registry`: a registry on a real port, for the tests of other projects.

pytest loads this module in every run if the package is installed, so it imports little.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from dockhand_core import RegistryClient

__all__ = ["OciRegistry", "oci_registry"]


@dataclass(frozen=True)
class OciRegistry:
    """A registry that runs during a test.

    Attributes:
        url: the URL of the registry, such as `http://127.0.0.1:40123`.
        host: the host and port for image references, such as `127.0.0.1:40123`.
        client: a client that is connected to the registry.
    """

    url: str
    host: str
    client: RegistryClient


@pytest.fixture
def oci_registry() -> Iterator[OciRegistry]:
    """An empty OCI registry in memory, on a free loopback port, for one test."""
    try:
        import uvicorn
    except ImportError:
        pytest.fail('oci_registry needs uvicorn: pip install "dockhand-embedded[server]"')
    from dockhand_core import connect
    from dockhand_core.server import listen
    from dockhand_embedded.app import create_app

    config = uvicorn.Config(
        create_app(":memory:"),
        log_config=None,
        access_log=False,
        lifespan="off",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        host = f"127.0.0.1:{listener.getsockname()[1]}"
        # Nothing has to wait for the server: the socket is already listening, so a client that
        # connects early waits in the backlog.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with connect(f"http://{host}", logging={"driver": "null"}) as client:
                yield OciRegistry(f"http://{host}", host, client)
        finally:
            server.should_exit = True
            thread.join(10)
