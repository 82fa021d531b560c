"""Errors say what to do next, in the same line."""

from __future__ import annotations

from command_line import CommandLine
from registries import free_port

from dockhand_core import RegistryClient


def test_what_is_not_found(dockhand: CommandLine, host: str, registry: RegistryClient) -> None:
    registry.push_artifact("team/app", "v1", [], artifact_type="application/vnd.example")
    error = dockhand.error("tags", f"{host}/team/none", code=3)
    assert error.endswith(f"; `dockhand ls {host}` lists the repositories")
    error = dockhand.error("inspect", f"{host}/team/app:v2", code=3)
    assert error.endswith(f"; `dockhand tags {host}/team/app` lists the tags")
    error = dockhand.error("tags", host, code=2)
    assert f"`dockhand ls {host}`" in error


def test_wrong_addresses(dockhand: CommandLine, host: str) -> None:
    port = free_port()
    error = dockhand.error("tags", f"localhost:{port}/app", code=5)
    assert error.endswith(f"check that localhost:{port} is right, and that the registry runs")
    (dockhand.folder / "dockhand.toml").write_text(
        f'[connections.secure]\ndriver = "distribution"\nbase_uri = "https://{host}"\n'
    )
    error = dockhand.error("ls", "secure", code=5)
    assert error.endswith(f'use a connection with base_uri = "http://{host}"')


def test_one_of_several_things(dockhand: CommandLine, host: str, registry: RegistryClient) -> None:
    registry.push_artifact("team/app", "v1", [], artifact_type="application/vnd.example")
    error = dockhand.error("rm", f"{host}/team/app:v1", f"{host}/team/app:none", code=1)
    assert error.startswith(f"{host}/team/app:none: HEAD ")
    assert error.endswith(f"; `dockhand tags {host}/team/app` lists the tags")
    assert list(registry.tags("team/app")) == []
    port = free_port()
    registry.push_artifact("team/app", "v1", [], artifact_type="application/vnd.example")
    done = dockhand.run("cp", "--all-tags", f"{host}/team/app", f"localhost:{port}/app", code=5)
    of_tag, at_end = done.stderr.splitlines()
    assert of_tag.endswith(f"check that localhost:{port} is right, and that the registry runs")
    assert at_end == "error: 1 of 1 tag failed"
