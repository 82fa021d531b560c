"""The README: its examples work, and it names every option."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from django.conf import settings
from dockhand_webhook import Receiver
from dockhand_webhook.__main__ import _parser
from dockhand_webhook.snippets import distribution_section
from notifications import DISTRIBUTION, envelope, push

from dockhand_core import DockhandError, EventInvalid, Plugins
from dockhand_core.events import EventParsers

README = Path(__file__).parents[2] / "plugins" / "dockhand_webhook" / "README.md"
TEXT = README.read_text("utf-8")
HANDLER, MOUNTED, FASTAPI, DJANGO, PARSER = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)


def test_options_in_the_readme_are_those_of_the_program() -> None:
    parser = _parser()
    [commands] = [each for each in parser._actions if isinstance(each.choices, dict)]
    known = set(parser._option_string_actions)
    assert isinstance(commands.choices, dict)
    for command in commands.choices.values():
        known |= set(command._option_string_actions)
    named = set(re.findall(r"(?<![-|])--[a-z][a-z-]+", TEXT))
    assert named <= known
    assert {each for each in known if each.startswith("--")} - named <= {
        "--help",
        "--host",
        "--verbose",
        "--url",
    }
    for command in commands.choices:
        assert re.search(rf"python -m dockhand_webhook {command}\b|`{command}`", TEXT), command


def test_the_configuration_section_is_the_printed_one() -> None:
    [shown] = re.findall(r"```yaml\n(.*?)```", TEXT, re.DOTALL)
    url = "http://127.0.0.1:8080/dockhand/notify/staging"
    assert yaml.safe_load(shown) == yaml.safe_load(distribution_section(url, "dhn_…"))


async def _post(app: Any, path: str) -> int:
    transport = httpx.ASGITransport(app)
    async with httpx.AsyncClient(transport=transport, base_url="http://a") as client:
        reply = await client.post(
            path, content=envelope(push()),
            headers={"content-type": DISTRIBUTION, "authorization": "Bearer s3cret"},
        )  # fmt: skip
        return reply.status_code


def test_the_examples_of_handlers_and_mounting_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN", "s3cret")
    names: dict[str, Any] = {}
    exec(compile(HANDLER + MOUNTED, str(README), "exec"), names)
    receiver: Receiver = names["receiver"]
    if not settings.configured:
        settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DEBUG=False)
    exec(compile(DJANGO, str(README), "exec"), names)

    async def post_to_both() -> None:
        async with receiver.lifespan():
            assert await _post(names["app"], "/hooks/dockhand/notify") == 202
            assert await _post(names["application"], "/dockhand/notify") == 202
            while receiver.counts().waiting:
                await asyncio.sleep(0.01)

    asyncio.run(post_to_both())
    assert set(receiver.counts().handlers) == {
        "audit/dockhand_event",
        "audit/dockhand_manifest_pushed",
    }
    assert receiver.counts().delivered == 4
    assert capsys.readouterr().out.count("team/app v1 sha256:4b") == 2


def test_the_example_of_a_lifespan_in_fastapi_works(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DOCKHAND_NOTIFY_TOKEN", "s3cret")
    names: dict[str, Any] = {}
    exec(compile(HANDLER + FASTAPI, str(README), "exec"), names)
    app, receiver = names["app"], names["receiver"]

    async def post() -> None:
        async with app.router.lifespan_context(app):
            assert await _post(app, "/hooks/dockhand/notify") == 202
            while receiver.counts().waiting:
                await asyncio.sleep(0.01)
        with pytest.raises(DockhandError, match="this manager is closed"):
            names["dockhand"].locate("localhost:5000/app")

    asyncio.run(post())
    assert receiver.counts().delivered == 2
    assert capsys.readouterr().out.count("team/app v1 sha256:4b") == 1


def test_the_example_of_a_parser_works() -> None:
    names: dict[str, Any] = {}
    exec(compile(PARSER, str(README), "exec"), names)
    plugins = Plugins()
    plugins.register(names["QuayPlugin"]())
    with pytest.raises(EventInvalid, match="not yet"):
        EventParsers(plugins).parse({"Content-Type": "application/x-quay"}, b"")
