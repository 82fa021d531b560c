"""The pytest fixture `oci_registry`: a registry on a real port, for other people's tests.

pytest loads this module wherever the package is installed, so that it imports little.
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
    """A registry that runs while a test does.

    Attributes:
        url: where it is, such as `http://127.0.0.1:40123`.
        host: the same as image references have it, such as `127.0.0.1:40123`.
        client: a client that is connected to it.
    """

    url: str
    host: str
    client: RegistryClient


@pytest.fixture
def oci_registry() -> Iterator[OciRegistry]:
    """An empty OCI registry in memory, of the test's own, on a free loopback port."""
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
        # Whoever connects before the loop runs waits in the backlog: nothing has to be polled.
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        try:
            with connect(f"http://{host}", logging={"driver": "null"}) as client:
                yield OciRegistry(f"http://{host}", host, client)
        finally:
            server.should_exit = True
            thread.join(10)
