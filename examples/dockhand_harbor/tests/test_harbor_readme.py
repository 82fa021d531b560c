"""The README's code runs at the fake Harbor, and the receiver takes Harbor's requests."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
from dockhand_harbor.notifications import HarborEvent
from dockhand_testing import ScriptedRegistry
from dockhand_webhook import create_app
from fake_harbor import REPOSITORY, ROBOT, FakeHarbor, cloud, data, default

from dockhand_core import Dockhand, hookimpl
from dockhand_core.events import ManifestPushed, RegistryBaseEvent

README = (Path(__file__).parents[1] / "README.md").read_text("utf-8")
QUOTA = default("QUOTA_EXCEED", {"repository": REPOSITORY, "custom_attributes": {"Details": "all"}})


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def promised(code: str) -> list[str]:
    """The output that comments behind calls of print promise."""
    return re.findall(r"print\(.*\)  # (.*)", code)


def test_code(
    scripted_registry: ScriptedRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    harbor = FakeHarbor(scripted_registry)
    del harbor.projects["2024"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HARBOR_SECRET", ROBOT[1])
    [table] = blocks("toml")
    Path("dockhand.toml").write_text(table.replace("https://harbor.example.com", harbor.url))
    code = blocks("python")
    assert len(code) == 3
    for block in code[:2]:
        exec(block.replace("https://harbor.example.com", harbor.url), {})
        assert capsys.readouterr().out.splitlines() == promised(block)
    harbor.close()


def test_notifications_reach_handlers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Both formats are accepted with Harbor's "Auth Header"; the README's handler is called."""
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN", "s3cret")
    seen: list[RegistryBaseEvent] = []
    names: dict[str, Any] = {}
    handled = asyncio.Event()
    exec(blocks("python")[2], names)

    class Handlers:
        @hookimpl
        async def dockhand_event(self, event: RegistryBaseEvent) -> None:
            names["dockhand_event"](event)
            seen.append(event)
            if len(seen) == 2:
                handled.set()

    async def run(dockhand: Dockhand) -> None:
        app = create_app(dockhand, inbox=tmp_path / "inbox.db")
        transport = httpx.ASGITransport(app)
        async with (
            app.lifespan(app),
            httpx.AsyncClient(transport=transport, base_url="http://receiver") as client,
        ):

            async def notify(body: bytes, kind: str, token: str = "s3cret") -> int:
                headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
                path = "/dockhand/notify/harbor"
                return (await client.post(path, content=body, headers=headers)).status_code

            pushed = cloud("harbor.artifact.pushed", data())
            assert await notify(pushed, "application/cloudevents+json", "wrong") == 401
            assert await notify(pushed, "application/cloudevents+json") == 202
            assert await notify(pushed, "application/cloudevents+json") == 202  # sent again
            assert await notify(QUOTA, "application/json") == 202
            async with asyncio.timeout(30):
                await handled.wait()

    with Dockhand({}) as dockhand:
        dockhand.plugins.register(Handlers(), name="handlers")
        asyncio.run(run(dockhand))
    assert [type(event) for event in seen] == [ManifestPushed, HarborEvent]
    assert {event.connection for event in seen} == {"harbor"}
    assert "team/deep/app: all" in capfd.readouterr().out
