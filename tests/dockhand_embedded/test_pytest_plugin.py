"""The pytest fixture `oci_registry`."""

from __future__ import annotations

import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from dockhand_embedded.pytest_plugin import OciRegistry
from dockhand_testing.contracts.samples import push_image

OTHER_TESTS = """
def test_mine(oci_registry):
    digest = oci_registry.client.upload_blob("a/b", b"data").digest
    assert oci_registry.client.read_blob("a/b", digest) == b"data"

def test_its_own(oci_registry):
    assert list(oci_registry.client.repositories()) == []
"""


def test_client_and_url(oci_registry: OciRegistry) -> None:
    manifest = push_image(oci_registry.client, "a/b", "v1")
    with urllib.request.urlopen(f"{oci_registry.url}/v2/a/b/manifests/v1") as reply:
        assert reply.read() == manifest.raw
    assert oci_registry.url == f"http://{oci_registry.host}"


def test_in_another_project(tmp_path: Path) -> None:
    """The fixture works without configuration, and leaves no files or warnings."""
    (tmp_path / "test_others.py").write_text(OTHER_TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider"]
    start = time.monotonic()
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "2 passed" in done.stdout, done.stdout + done.stderr
    assert time.monotonic() - start < 30


def test_loading_it_is_cheap() -> None:
    """If the package is installed, pytest loads the plugin in every run."""
    code = "import sys, pytest; before = set(sys.modules); import dockhand_embedded.pytest_plugin"
    code += "; print(*(set(sys.modules) - before))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {name.partition(".")[0] for name in done.stdout.split()}
    assert loaded.isdisjoint({"uvicorn", "httpx", "pydantic", "dockhand_core", "asyncio"})
