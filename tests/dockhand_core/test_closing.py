"""`close()` of drivers and loggers is called once, even if another `close()` fails."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import Any, ClassVar

import httpx
import pytest
import structlog
from dockhand_distribution import DistributionDriver

from dockhand_core import AsyncDockhand, AuthDriver, Dockhand, DockhandError, PluginError, hookimpl
from dockhand_core.logs import LogSettings, make_logger

pytestmark = pytest.mark.usefixtures("clean")

CONFIG = {
    "connections": {
        "main": {
            "driver": "closing",
            "base_uri": "http://127.0.0.1:9",
            "auth": {"driver": "closing"},
            "logging": {"driver": "closing"},
        }
    }
}


class Closing:
    """A base class that records calls of `close`; the class named by `broken` raises there."""

    closed: ClassVar[list[str]] = []
    broken: ClassVar[str] = ""

    def close(self) -> None:
        name = type(self).__name__
        self.closed.append(name)
        if name == self.broken:
            raise RuntimeError("the disk is full")


class ClosingDriver(Closing, DistributionDriver):
    pass


class ClosingAuth(Closing, AuthDriver):
    pass


class ClosingLogger(Closing):
    def bind(self, **_: Any) -> ClosingLogger:
        return self

    def info(self, *_: Any, **__: Any) -> None:
        pass

    warning = info


class Coroutines(ClosingDriver):
    async def close(self) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        self.closed.append("Coroutines")


class Plugin:
    def __init__(self, driver: type = ClosingDriver) -> None:
        self.driver = driver

    @hookimpl
    def dockhand_registry_drivers(self) -> dict[str, Any]:
        return {"closing": self.driver}

    @hookimpl
    def dockhand_auth_drivers(self) -> dict[str, Any]:
        return {"closing": ClosingAuth}

    @hookimpl
    def dockhand_log_drivers(self) -> dict[str, Any]:
        return {"closing": lambda settings, connection: ClosingLogger()}


ALL = ["ClosingDriver", "ClosingAuth", "ClosingLogger"]


@pytest.fixture(autouse=True)
def nothing_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    Closing.closed.clear()
    monkeypatch.setattr(Closing, "broken", "")


def test_a_manager_closes_the_plugins_of_its_connections() -> None:
    with Dockhand(CONFIG) as dockhand:
        dockhand.plugins.register(Plugin())
        client = dockhand.connection()
        assert Closing.closed == []
    assert Closing.closed == ALL
    client.close()
    assert Closing.closed == ALL


def test_an_async_manager_closes_them_too() -> None:
    async def main() -> None:
        async with AsyncDockhand(CONFIG) as dockhand:
            dockhand.plugins.register(Plugin())
            client = dockhand.connection()
        await client.close()

    asyncio.run(main())
    assert Closing.closed == ALL


def test_disconnect_closes_the_auth_driver_with_its_tokens() -> None:
    with Dockhand(CONFIG) as dockhand:
        dockhand.plugins.register(Plugin())
        dockhand.connection()
        dockhand.disconnect()
        assert Closing.closed == ["ClosingAuth"]
    assert Closing.closed == ["ClosingAuth", "ClosingDriver", "ClosingLogger"]


@pytest.mark.parametrize("world", ["sync", "async"])
def test_the_next_use_after_disconnect_makes_a_new_auth_driver(url: str, world: str) -> None:
    made: list[AuthDriver] = []

    class CountingAuth(AuthDriver):
        def __init__(self, settings: Any) -> None:
            super().__init__(settings)
            made.append(self)

    class CountingPlugin(Plugin):
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"closing": CountingAuth}

    config = {"connections": {"main": {**CONFIG["connections"]["main"], "base_uri": url}}}
    counts = []

    async def main() -> None:
        async with AsyncDockhand(config) as dockhand:
            dockhand.plugins.register(CountingPlugin())
            client = dockhand.connection()
            for step in (dockhand.disconnect, client.reset, client.ping, client.ping):
                await step()
                counts.append(len(made))

    if world == "async":
        asyncio.run(main())
    else:
        with Dockhand(config) as dockhand:
            dockhand.plugins.register(CountingPlugin())
            client = dockhand.connection()
            for step in (dockhand.disconnect, client.reset, client.ping, client.ping):
                step()
                counts.append(len(made))
    assert counts == [1, 1, 2, 2]
    assert Closing.closed == ["ClosingDriver", "ClosingLogger"]


def test_a_closed_client_makes_no_auth_driver(url: str) -> None:
    made: list[AuthDriver] = []

    class CountingAuth(AuthDriver):
        def __init__(self, settings: Any) -> None:
            made.append(self)

    class CountingPlugin(Plugin):
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"closing": CountingAuth}

    with Dockhand(CONFIG) as dockhand:
        dockhand.plugins.register(CountingPlugin())
        client = dockhand.connection()
        client.reset()
    with pytest.raises(DockhandError, match="this client is closed"):
        client.ping()
    assert len(made) == 1


@pytest.mark.parametrize("broken", ALL)
def test_a_failure_does_not_skip_the_others(broken: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Closing, "broken", broken)
    dockhand = Dockhand(CONFIG)
    dockhand.plugins.register(Plugin())
    dockhand.connection()
    with pytest.raises(PluginError, match=f"{broken}.close: RuntimeError: the disk is full"):
        dockhand.close()
    assert Closing.closed == ALL


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_failure_does_not_skip_other_connections(
    world: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Closing, "broken", "ClosingDriver")
    table = CONFIG["connections"]["main"]
    config = {"connections": {"one": table, "two": table}}

    async def main() -> None:
        async with AsyncDockhand(config) as dockhand:
            dockhand.plugins.register(Plugin())
            dockhand.connection("one")
            dockhand.connection("two")

    with pytest.raises(PluginError):
        if world == "async":
            asyncio.run(main())
        with Dockhand(config) as dockhand:
            dockhand.plugins.register(Plugin())
            dockhand.connection("one")
            dockhand.connection("two")
    assert Closing.closed == [*ALL, *ALL]


def test_a_coroutine_function_is_awaited_by_the_async_client() -> None:
    async def main() -> None:
        async with AsyncDockhand(CONFIG) as dockhand:
            dockhand.plugins.register(Plugin(Coroutines))
            dockhand.connection()

    asyncio.run(main())
    assert Closing.closed == ["Coroutines", "ClosingAuth", "ClosingLogger"]


def test_a_coroutine_function_is_refused_by_the_sync_client() -> None:
    dockhand = Dockhand(CONFIG)
    dockhand.plugins.register(Plugin(Coroutines))
    dockhand.connection()
    with pytest.raises(
        PluginError, match="Coroutines.close: close.. is a coroutine function, which is for async"
    ):
        dockhand.close()
    assert Closing.closed == ["ClosingAuth", "ClosingLogger"]


class Sink(Closing):
    """An object that a structlog logger writes to."""

    def msg(self, *_: Any) -> None:
        pass

    debug = info = warning = error = critical = msg


@pytest.mark.parametrize("wrapper", ["make_logger", "BoundLogger"])
def test_the_object_behind_a_structlog_logger_is_closed(wrapper: str) -> None:
    def make(settings: LogSettings, connection: str) -> Any:
        if wrapper == "make_logger":
            return make_logger(settings, connection, [], logger=Sink())
        return structlog.wrap_logger(Sink(), wrapper_class=structlog.BoundLogger)

    class LogPlugin(Plugin):
        @hookimpl
        def dockhand_log_drivers(self) -> dict[str, Any]:
            return {"closing": make}

    with Dockhand(CONFIG) as dockhand:
        dockhand.plugins.register(LogPlugin())
        dockhand.connection()
    assert Closing.closed == ["ClosingDriver", "ClosingAuth", "Sink"]


class SlowLogger(ClosingLogger):
    """A logger that sends its lines when it is closed, which takes a while."""

    def close(self) -> None:
        time.sleep(0.3)
        super().close()


def test_an_async_client_does_not_block_while_a_logger_is_closed() -> None:
    class LogPlugin(Plugin):
        @hookimpl
        def dockhand_log_drivers(self) -> dict[str, Any]:
            return {"closing": lambda *_: SlowLogger()}

    async def main() -> float:
        dockhand = AsyncDockhand(CONFIG)
        dockhand.plugins.register(LogPlugin())
        dockhand.connection()
        closing = asyncio.ensure_future(dockhand.close())
        longest, last = 0.0, time.monotonic()
        while not closing.done():
            await asyncio.sleep(0.01)
            longest, last = max(longest, time.monotonic() - last), time.monotonic()
        await closing
        return longest

    longest = asyncio.run(main())
    assert Closing.closed[-1] == "SlowLogger"
    assert longest < 0.25


class BrokenTransport(httpx.MockTransport):
    def __init__(self) -> None:
        super().__init__(lambda request: httpx.Response(200))

    def close(self) -> None:
        raise OSError("cannot close")

    async def aclose(self) -> None:
        raise OSError("cannot close")


@pytest.mark.parametrize("world", ["sync", "async"])
def test_plugins_are_closed_even_if_the_transport_fails(world: str) -> None:
    class Driver(ClosingDriver):
        @classmethod
        def transport(cls, settings: Any) -> Any:
            return BrokenTransport()

    async def main() -> None:
        async with AsyncDockhand(CONFIG) as dockhand:
            dockhand.plugins.register(Plugin(Driver))
            await dockhand.connection().ping()

    with pytest.raises(PluginError, match=r"BrokenTransport.*cannot close"):
        if world == "async":
            asyncio.run(main())
        with Dockhand(CONFIG) as dockhand:
            dockhand.plugins.register(Plugin(Driver))
            dockhand.connection().ping()
    assert Closing.closed == ["Driver", "ClosingAuth", "ClosingLogger"]


def test_an_awaitable_of_a_plain_function_is_described_as_what_it_is() -> None:
    class Returning(ClosingDriver):
        def close(self) -> Any:
            return asyncio.sleep(0)

    dockhand = Dockhand(CONFIG)
    dockhand.plugins.register(Plugin(Returning))
    dockhand.connection()
    with pytest.raises(PluginError, match=r"Returning.close: close\(\) returned a coroutine"):
        dockhand.close()


@pytest.mark.parametrize("kind", ["driver", "auth"])
def test_an_async_client_closes_drivers_in_a_thread(kind: str) -> None:
    threads: list[str] = []

    class Noting(ClosingDriver if kind == "driver" else ClosingAuth):  # type: ignore[misc]
        def close(self) -> None:
            threads.append(threading.current_thread().name)

    class ThreadPlugin(Plugin):
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"closing": Noting if kind == "auth" else ClosingAuth}

    async def main() -> None:
        async with AsyncDockhand(CONFIG) as dockhand:
            dockhand.plugins.register(ThreadPlugin(Noting if kind == "driver" else ClosingDriver))
            dockhand.connection()

    asyncio.run(main())
    assert len(threads) == 1
    assert threads[0] != "MainThread"


@pytest.mark.parametrize("world", ["sync", "async"])
def test_a_logger_cannot_be_closed_by_a_generator(world: str) -> None:
    class GeneratorLogger(ClosingLogger):
        def close(self) -> Any:
            yield

    class AsyncGeneratorAuth(ClosingAuth):
        async def close(self) -> Any:
            yield

    class LogPlugin(Plugin):
        @hookimpl
        def dockhand_log_drivers(self) -> dict[str, Any]:
            return {"closing": lambda *_: GeneratorLogger()}

    class AuthPlugin(Plugin):
        @hookimpl
        def dockhand_auth_drivers(self) -> dict[str, Any]:
            return {"closing": AsyncGeneratorAuth}

    async def main(plugin: Plugin) -> None:
        async with AsyncDockhand(CONFIG) as dockhand:
            dockhand.plugins.register(plugin)
            dockhand.connection()

    for plugin, text in [
        (LogPlugin(), "GeneratorLogger.close: close.. is a generator function, which only drivers"),
        (AuthPlugin(), "AsyncGeneratorAuth.close: close.. is an async generator function"),
    ]:
        with pytest.raises(PluginError, match=text):
            if world == "async":
                asyncio.run(main(plugin))
            with Dockhand(CONFIG) as dockhand:
                dockhand.plugins.register(plugin)
                dockhand.connection()


def test_an_auth_driver_drops_its_cached_tokens() -> None:
    auth = AuthDriver(None)

    def obtain() -> Any:
        return "token", 60.0
        yield

    def token() -> str:
        flow = auth.cached_token("key", obtain)
        with pytest.raises(StopIteration) as end:
            next(flow)
        return str(end.value.value)

    assert token() == "token"
    assert "token" in repr([vars(cache) for cache in vars(auth).values() if cache])
    auth.close()
    assert "_tokens_" not in "".join(vars(auth))
    assert token() == "token"


def test_drivers_without_resources_need_no_close() -> None:
    assert DistributionDriver(DistributionDriver.Settings(base_uri="http://r")).close() is None
    assert AuthDriver(None).close() is None
