"""The receiver mounted in FastAPI, Starlette and Django, with a lifespan and without."""

from __future__ import annotations

import asyncio
import importlib
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import fastapi
import httpx
import pytest
from dockhand_webhook import Receiver, create_app
from notifications import DISTRIBUTION, envelope, push
from starlette.applications import Starlette
from starlette.routing import Mount
from webhook_receiver import EventRecorder, plugins_with

HEADERS = {"Content-Type": DISTRIBUTION, "Authorization": "Bearer t"}


class Mounted:
    """A receiver with a recording handler; requests go through the application that mounts it."""

    def __init__(self, folder: Path, recorder: EventRecorder, receiver: Receiver) -> None:
        self.folder, self.recorder, self.receiver = folder, recorder, receiver

    async def post(self, app: Any, path: str, *ids: str) -> int:
        """Post events with these ids to `path` of `app`, and return the status code."""
        body = envelope(*(push(id=each) for each in ids))
        async with client(app) as http:
            return (await http.post(path, content=body, headers=HEADERS)).status_code

    async def wait_for_events(self, *ids: str) -> None:
        """Wait until the handler was called with exactly these events."""
        async with asyncio.timeout(10):
            while len(self.recorder.events) < len(ids):
                await asyncio.sleep(0.005)
        assert [each.id for each in self.recorder.events] == list(ids)


def client(app: Any) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://app")


@asynccontextmanager
async def lifespan(app: Any) -> AsyncIterator[None]:
    """Run an application's lifespan, as a server does."""
    requests: asyncio.Queue[dict[str, str]] = asyncio.Queue()
    replies: asyncio.Queue[Any] = asyncio.Queue()
    task = asyncio.create_task(app({"type": "lifespan"}, requests.get, replies.put))
    for step in ("startup", "shutdown"):
        await requests.put({"type": f"lifespan.{step}"})
        reply = await asyncio.wait_for(replies.get(), 20)
        assert reply["type"] == f"lifespan.{step}.complete", reply
        if step == "startup":
            yield
    await task


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    recorder = EventRecorder()
    receiver = create_app(plugins_with(recorder=recorder), tmp_path / "inbox.db", tokens=["t"])
    return Mounted(tmp_path, recorder, receiver)


def test_mounted_in_fastapi(mounted: Mounted, run: Any) -> None:
    app = fastapi.FastAPI(lifespan=mounted.receiver.lifespan)

    @app.get("/")
    def own() -> str:
        return "mine"

    app.mount("/registry", mounted.receiver)

    async def main() -> None:
        async with lifespan(app):
            assert await mounted.post(app, "/registry/dockhand/notify/staging", "one") == 202
            await mounted.wait_for_events("one")
            async with client(app) as http:
                assert (await http.get("/")).json() == "mine"
                assert (await http.get("/registry/healthz")).json() == {"status": "ok"}
            assert await mounted.post(app, "/dockhand/notify", "two") == 404

    run(main())
    assert mounted.recorder.events[0].connection == "staging"


@pytest.mark.parametrize("prefix", ["", "/a/b"])
def test_mounted_in_starlette(mounted: Mounted, run: Any, prefix: str) -> None:
    app = Starlette(routes=[Mount(prefix, mounted.receiver)], lifespan=mounted.receiver.lifespan)

    async def main() -> None:
        for _ in range(2):  # the receiver can start again
            async with lifespan(app):
                assert await mounted.post(app, f"{prefix}/dockhand/notify", "one", "two") == 202
                await mounted.wait_for_events("one", "two")

    run(main())


def test_served_alone(mounted: Mounted, run: Any) -> None:
    async def main() -> None:
        async with lifespan(mounted.receiver):
            assert await mounted.post(mounted.receiver, "/dockhand/notify", "one") == 202
            await mounted.wait_for_events("one")

    run(main())


def test_events_stored_before_are_delivered_at_the_start(mounted: Mounted, run: Any) -> None:
    """They are delivered before any request arrives."""

    async def main() -> None:
        async with lifespan(mounted.receiver):
            pass
        without_handlers = create_app(plugins_with(), mounted.folder / "inbox.db", tokens=["t"])
        assert await mounted.post(without_handlers, "/dockhand/notify", "one") == 202
        assert mounted.recorder.events == []
        async with lifespan(mounted.receiver):
            await mounted.wait_for_events("one")

    run(main())


def test_without_a_lifespan_it_starts_with_the_first_request(mounted: Mounted, run: Any) -> None:
    app = Starlette(routes=[Mount("/x", mounted.receiver)])

    async def main() -> None:
        posts = (mounted.post(app, "/x/dockhand/notify", each) for each in ("one", "two", "three"))
        assert await asyncio.gather(*posts) == [202] * 3
        async with asyncio.timeout(10):
            while len(mounted.recorder.events) < 3:
                await asyncio.sleep(0.005)
        async with mounted.receiver.lifespan():  # the end of the lifespan stops the dispatcher
            pass

    run(main())
    assert sorted(each.id for each in mounted.recorder.events) == ["one", "three", "two"]


def test_the_first_request_with_a_locked_inbox_is_503(
    mounted: Mounted, run: Any, write_locked: Callable[[Path], AbstractContextManager[None]]
) -> None:
    async def main() -> None:
        with write_locked(mounted.folder / "inbox.db"):
            assert await mounted.post(mounted.receiver, "/dockhand/notify", "one") == 503
            async with client(mounted.receiver) as http:
                assert (await http.get("/healthz")).status_code == 503
        assert await mounted.post(mounted.receiver, "/dockhand/notify", "one") == 202
        await mounted.wait_for_events("one")
        async with mounted.receiver.lifespan():
            pass

    run(main())


def test_mounted_in_django(mounted: Mounted, run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    load = importlib.import_module  # an import statement is an error: Django has no types
    settings, http = load("django.conf").settings, load("django.http")

    def own(request: Any) -> Any:
        return http.HttpResponse("django's")

    urls: Any = SimpleNamespace(urlpatterns=[load("django.urls").path("own/", own)])
    monkeypatch.setitem(sys.modules, "urls_of_the_mounting_test", urls)
    if not settings.configured:
        settings.configure(LOGGING_CONFIG=None)
    override = load("django.test.utils").override_settings
    with override(ROOT_URLCONF="urls_of_the_mounting_test", ALLOWED_HOSTS=["*"]):
        inner = load("django.core.asgi").get_asgi_application()

        async def application(scope: Any, receive: Any, send: Any) -> None:
            notified = scope.get("path", "").startswith("/dockhand/")
            receives = scope["type"] == "lifespan" or notified
            await (mounted.receiver if receives else inner)(scope, receive, send)

        async def main() -> None:
            async with lifespan(application):
                assert await mounted.post(application, "/dockhand/notify/staging", "one") == 202
                await mounted.wait_for_events("one")
                async with client(application) as http:
                    assert (await http.get("/own/")).text == "django's"
                    assert (await http.get("/healthz")).status_code == 404

        run(main())


def test_the_handlers_are_those_of_the_manager(tmp_path: Path, run: Any) -> None:
    """The manager may be sync or async; the plugins registered before `create_app` are used."""
    from dockhand_core import AsyncDockhand, Dockhand

    for kind in (Dockhand, AsyncDockhand):
        recorder = EventRecorder()
        manager = kind()
        manager.plugins.register(recorder, name="recorder")
        app = create_app(manager, tmp_path / f"{kind.__name__}.db", tokens=["t"])
        mounted = Mounted(tmp_path, recorder, app)

        async def main(mounted: Mounted = mounted) -> None:
            async with lifespan(mounted.receiver):
                assert await mounted.post(mounted.receiver, "/dockhand/notify", "one") == 202
                await mounted.wait_for_events("one")

        run(main())


def test_without_dispatch_no_handler_is_called(tmp_path: Path, run: Any) -> None:
    recorder = EventRecorder()
    app = create_app(
        plugins_with(recorder=recorder), tmp_path / "inbox.db", tokens=["t"], dispatch=False
    )
    mounted = Mounted(tmp_path, recorder, app)

    async def main() -> None:
        async with lifespan(app):
            assert await mounted.post(app, "/dockhand/notify", "one") == 202

    run(main())
    assert recorder.events == []
    assert app.counts().received == 1
    assert app.counts().handlers == {}
