"""Secrets that an auth driver gets elsewhere are in no error and no log line."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Generator
from typing import Any

import pytest
from pydantic import SecretStr
from wrong_drivers import Drivers, refused, use

from dockhand_core import (
    AsyncDockhand,
    AsyncRegistryClient,
    AuthDriver,
    Dockhand,
    DockhandError,
    PluginError,
    RegistryClient,
    RegistryDriver,
    hookimpl,
)

pytestmark = [
    pytest.mark.usefixtures("clean"),
    pytest.mark.parametrize("world", ["sync", "async"]),
]

Steps = Generator[Any, Any, Any]
SECRET = "correct-horse"


class Failing(AuthDriver):
    """A driver with a secret of a file, which it quotes in errors."""

    class Settings(AuthDriver.Settings):
        step: str = ""

    def __init__(self, settings: Any) -> None:
        super().__init__(settings)
        self.hide_secret(SECRET)
        self.fail("constructor")

    def fail(self, step: str) -> None:
        if self.settings.step == step:
            raise OSError(f"cannot use {SECRET}")

    def auth_flow(self, request: Any) -> Steps:
        self.fail("auth_flow")
        yield request

    def close(self) -> None:
        self.fail("close")


@pytest.mark.parametrize("step", ["constructor", "auth_flow", "close"])
def test_a_hidden_secret_is_in_no_error(url: str, world: str, step: str) -> None:
    auth = {"driver": "wrong", "step": step}
    text = refused(world, Drivers(auth=Failing), base_uri=url, auth=auth)
    assert "OSError: cannot use ..." in text


def test_a_hidden_secret_is_not_in_the_cause_either(url: str, world: str) -> None:
    auth = {"driver": "wrong", "step": "close"}
    with pytest.raises(PluginError) as caught:
        use(world, Drivers(auth=Failing), base_uri=url, auth=auth)
    assert str(caught.value.__cause__) == "cannot use ..."


def test_a_driver_without_a_connection_may_hide_secrets_too(world: str) -> None:
    assert AuthDriver(None).hide_secret(world) == world


def test_many_requests_do_not_displace_a_hidden_secret(
    serve: Callable[[Callable[..., Any]], str], world: str
) -> None:
    class Numbered(Failing):
        count = 0

        def auth_flow(self, request: Any) -> Steps:
            self.count += 1
            if self.count == 200:
                raise OSError(f"cannot use {SECRET}")
            request.headers["Authorization"] = f"Numbered session-{self.count:05}"
            yield request

    def operation(client: Any) -> Any:
        async def ping_often() -> None:
            for _ in range(200):
                await client.ping()

        if world == "async":
            return ping_often()
        for _ in range(200):
            client.ping()
        return None

    url = serve(lambda *_: (200, {}, b"{}"))
    text = refused(world, Drivers(auth=Numbered), operation, base_uri=url)
    assert "OSError: cannot use ..." in text


def test_a_token_of_the_cache_is_in_no_error(url: str, world: str) -> None:
    class Caching(AuthDriver):
        def auth_flow(self, request: Any) -> Steps:
            token = yield from self.cached_token("key", self._obtain)
            raise OSError(f"cannot use {token}")
            yield request

        def _obtain(self) -> Steps:
            yield from self.blocking(str)
            return SECRET, 60.0

    assert "OSError: cannot use ..." in refused(world, Drivers(auth=Caching), base_uri=url)


NAMED_LIKE_SECRETS = (
    "password passphrase client_secret sessionToken token assertion credential signature api_key "
    "apiKey jwt session session_id sessionId sid cookie"
)


@pytest.mark.parametrize("received", [False, True])
@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (NAMED_LIKE_SECRETS, "cannot use ..."),
        ("key pin user code side sessions token_type token_uri", f"cannot use {SECRET}"),
    ],
)
def test_fields_of_fetch_that_are_named_like_secrets_are_in_no_error(
    serve: Callable[[Callable[..., Any]], str], world: str, received: bool, names: str, shown: str
) -> None:
    class Asking(AuthDriver):
        def auth_flow(self, request: Any) -> Steps:
            document = {"outer": {name: SECRET}}
            url = f"{request.url.copy_with(path='/login')}?body={received}"
            reply = yield from self.fetch("POST", url, json={} if received else document)
            raise OSError(f"cannot use {SECRET}, {reply.status_code}")
            yield request

    for name in names.split():
        body = json.dumps({"outer": {name: SECRET}} if received else {}).encode()
        url = serve(lambda *_, body=body: (200, {}, body))
        assert shown in refused(world, Drivers(auth=Asking), base_uri=url), name


class WithSecret(AuthDriver):
    class Settings(AuthDriver.Settings):
        secret: SecretStr


class FailingConstructor(WithSecret):
    def __init__(self, settings: Any) -> None:
        raise OSError(f"cannot use {settings.secret.get_secret_value()}")


class FailingDriver(RegistryDriver):
    class Settings(RegistryDriver.Settings):
        secret: SecretStr

    @classmethod
    def quote(cls, settings: Any) -> Any:
        raise OSError(f"cannot use {settings.secret.get_secret_value()}")


class FailingClient(RegistryClient):
    def __init__(self, driver: Any, runner: Any, name: str) -> None:
        FailingDriver.quote(driver.settings)


class FailingAsyncClient(AsyncRegistryClient):
    def __init__(self, driver: Any, runner: Any, name: str) -> None:
        FailingDriver.quote(driver.settings)


@pytest.mark.parametrize("method", ["auth", "__init__", "base_uri", "transport", "client"])
def test_a_failure_to_make_a_connection_has_no_secret_of_the_settings(
    url: str, world: str, method: str
) -> None:
    if method == "auth":
        drivers, table = Drivers(auth=FailingConstructor), {"auth": {"driver": "wrong"}}
        table["auth"]["secret"] = SECRET
    else:
        quote: Any = FailingDriver.quote
        parts: dict[str, Any] = {}
        if method == "client":
            parts = {"client": FailingClient, "async_client": FailingAsyncClient}
        if method == "__init__":
            quote = lambda self, settings: FailingDriver.quote(settings)  # noqa: E731
        drivers = Drivers(registry=type("Wrong", (FailingDriver,), parts or {method: quote}))
        table = {"secret": SECRET}  # type: ignore[dict-item]
    assert "OSError: cannot use ..." in refused(world, drivers, base_uri=url, **table)


def test_a_constructor_that_fails_after_a_reset_has_no_secret(url: str, world: str) -> None:
    made: list[int] = []

    class Second(WithSecret):
        def __init__(self, settings: Any) -> None:
            made.append(1)
            if len(made) > 1:
                raise OSError(f"cannot use {settings.secret.get_secret_value()}")

    def operation(client: Any) -> Any:
        async def main() -> None:
            await client.reset()
            await client.ping()

        if world == "async":
            return main()
        client.reset()
        return client.ping()

    table = {"auth": {"driver": "wrong", "secret": SECRET}}
    text = refused(world, Drivers(auth=Second), operation, base_uri=url, **table)
    assert "auth driver 'wrong': OSError: cannot use ..." in text


def test_the_warning_about_a_failing_logger_has_no_secret(
    url: str, world: str, capsys: pytest.CaptureFixture[str]
) -> None:
    class FailingLogger:
        def bind(self, **_: Any) -> FailingLogger:
            return self

        def info(self, *_: Any, **__: Any) -> None:
            raise OSError(f"the {world} collector refuses {SECRET}")

        warning = info

    drivers = Drivers(auth=Failing, log=lambda *_: FailingLogger())
    use(world, drivers, base_uri=url)
    assert f"OSError: the {world} collector refuses ...; log lines" in capsys.readouterr().err


def test_settings_of_a_plugin_are_in_no_error_of_its_hook(world: str) -> None:
    class Configured:
        @hookimpl
        def dockhand_configure(self, settings: Any) -> None:
            raise OSError(f"cannot use {settings['token']}")

    make: Any = Dockhand if world == "sync" else AsyncDockhand
    dockhand = make({"plugins": {"audit": {"token": SECRET}}})
    with pytest.raises(DockhandError, match=r"cannot use \.\.\."):
        dockhand.plugins.register(Configured(), name="audit")
    closed = dockhand.close()
    if world == "async":
        asyncio.run(closed)
