"""The contract of registry drivers: the core's operations, and what concerns the driver itself."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Callable
from typing import Any, ClassVar

import pytest

from dockhand_core import (
    AsyncRegistryClient,
    ConnectionFailed,
    DigestMismatch,
    DockhandError,
    RegistryClient,
    RegistryDriver,
    ServerError,
    Timeout,
    TooManyRequests,
    Unauthorized,
    Unsupported,
)
from dockhand_testing.abilities import Abilities
from dockhand_testing.builders import build_image
from dockhand_testing.contracts.blobs import MISSING, BlobContract
from dockhand_testing.contracts.indexes import IndexContract
from dockhand_testing.contracts.lists import ListContract
from dockhand_testing.contracts.manifests import ManifestContract
from dockhand_testing.contracts.plugin_contract import (
    DriverContract,
    OpenClient,
    finish,
    valid_settings,
)
from dockhand_testing.contracts.referrers import ReferrerContract
from dockhand_testing.contracts.uploads import UploadContract
from dockhand_testing.rules import rule
from dockhand_testing.scripted_registry import ScriptedRegistry

__all__ = ["RegistryDriverContract"]

# The operations that a driver may lack, each with a call of it.
_CALLS: dict[str, Callable[[RegistryClient], object]] = {
    "delete_blob": lambda client: client.delete_blob("library/app", MISSING),
    "delete_manifest": lambda client: client.delete_manifest("library/app", MISSING),
    "delete_tag": lambda client: client.delete_tag("library/app", "v1"),
    "mount_blob": lambda client: client.mount_blob("library/app", MISSING, "library/base"),
    "referrers": lambda client: client.referrers("library/app", MISSING),
    "repository_page": lambda client: client.repository_page(limit=1),
    "start_upload": lambda client: client.start_upload("library/app"),
    "tag_page": lambda client: client.tag_page("library/app", limit=1),
}
# The error for each fault, of a connection that does not retry; None where there is none.
_ERRORS: dict[str, type[DockhandError] | None] = {
    "cut": ConnectionFailed,
    "stall": Timeout,
    "429": TooManyRequests,
    "503": ServerError,
    "redirect": None,
    "lie about length": ConnectionFailed,
    "wrong digest": DigestMismatch,
    "expired token": Unauthorized,
}


class RegistryDriverContract(
    BlobContract,
    UploadContract,
    ManifestContract,
    ListContract,
    ReferrerContract,
    IndexContract,
    DriverContract,
):
    """The contract of registry drivers: subclass it in the tests of a driver::

        class TestHarbor(RegistryDriverContract):
            driver = "harbor"
            unsupported = {"mount_blob"}

            @pytest.fixture
            def base(self):
                return "http://127.0.0.1:8080"        # a server of your own

    The tests push small images to repositories whose names begin with `namespace`. Without a
    fixture `base`, they run at the registry of the fixture `scripted_registry`.

    Attributes:
        driver: name of the driver.
        settings: the keys of the connection's table that are the driver's own, such as `root`.
        plugin: see `PluginContract`.
        can: the abilities of the registry, such as `Abilities(has_referrers=False)`.
        unsupported: operations that the driver does not have; they must raise `Unsupported`. Of:
            delete_blob, delete_manifest, delete_tag, mount_blob, referrers, repository_page,
            start_upload, tag_page; and `sha512` for a registry without these digests.
        speaks_oci: whether the driver reads manifests and blobs as the OCI Distribution
            Specification defines; then faults of the connection are tested, too.
        namespace: the beginning of the names of repositories.
    """

    kind = "registry"
    can: ClassVar[Abilities] = Abilities()
    unsupported: ClassVar[frozenset[str] | set[str]] = frozenset()
    speaks_oci: ClassVar[bool] = True
    namespace: ClassVar[str] = "dockhand-contract"

    @pytest.fixture(autouse=True)
    def _skip_unsupported(self, request: pytest.FixtureRequest) -> None:
        lacking = set(getattr(request.function, "needs", ())) & self.unsupported
        if lacking:
            pytest.skip(f"the driver does not support {', '.join(sorted(lacking))}")

    @pytest.fixture
    def base(self, driver_class: Any, request: pytest.FixtureRequest) -> str | None:
        """The registry's URL; override it with that of a server of your own.

        Returns:
            the URL, or None for a driver that is not reached by a URL.
        """
        if "base_uri" not in driver_class.Settings.model_fields or "base_uri" in self.settings:
            return None
        url: str = request.getfixturevalue("scripted_registry").url
        return url

    @pytest.fixture
    def own_settings(self, base: str | None) -> dict[str, Any]:
        """The driver's keys of the connection's table."""
        return {**self.settings, **({"base_uri": base} if base else {})}

    def table(self, **settings: Any) -> dict[str, Any]:
        """The connection's table for these settings of the driver."""
        return {"driver": self.driver, **settings}

    @pytest.fixture
    def abilities(self) -> Abilities:
        """The abilities of the registry."""
        return self.can

    @pytest.fixture
    def registry(
        self, mode: str, open_client: OpenClient, own_settings: dict[str, Any]
    ) -> RegistryClient:
        """A client of the registry, sync or async; the methods of both block."""
        return open_client(mode, **self.table(**own_settings))

    @pytest.fixture
    def repository(self, request: pytest.FixtureRequest) -> str:
        """The name of a repository that no other test uses."""
        name = request.node.originalname.removeprefix("test_").replace("_", "-")
        return f"{self.namespace}/{uuid.uuid4().hex[:8]}/{name}"

    @rule(
        "An operation that the driver does not have is Unsupported.",
        why="programs go on without it, or say what is missing",
        where="RegistryDriver: operations that are not overridden raise Unsupported",
    )
    def test_unsupported_operations(self, registry: RegistryClient) -> None:
        for name in sorted(self.unsupported - {"sha512"}):
            assert name in _CALLS, f"`unsupported` has {name!r}; it may have {', '.join(_CALLS)}"
            with pytest.raises(Unsupported):
                _CALLS[name](registry)

    @rule(
        "Every operation is a generator function.",
        why="the same flow serves blocking clients and asyncio",
        where="dockhand_core.flow",
    )
    def test_operations_are_flows(self, driver_class: Any) -> None:
        base: Any
        for name, base in vars(RegistryDriver).items():
            own = getattr(driver_class, name)
            if inspect.isfunction(base) and "Flow[" in str(base.__annotations__.get("return")):
                assert not inspect.iscoroutinefunction(own), f"{name} is `async def`"
                assert not inspect.isasyncgenfunction(own), f"{name} is an async generator"
                given = inspect.signature(base).parameters
                taken = inspect.signature(own).parameters
                missing = given.keys() - taken.keys()
                takes_all = any(each.kind is each.VAR_KEYWORD for each in taken.values())
                assert takes_all or not missing, f"{name} lacks the arguments {missing}"

    @rule(
        "A method that overrides one of a base class takes its arguments.",
        why="a helper whose name a base class has, too, breaks the operations that call it",
        where="docs/plugins/registry-driver.md, Flows",
    )
    def test_overridden_methods(self, driver_class: Any) -> None:
        for kind in driver_class.__mro__:
            for name, own in vars(kind).items():
                for base in kind.__mro__[1:]:
                    other = vars(base).get(name)
                    if name[:2] != "__" and inspect.isfunction(own) and inspect.isfunction(other):
                        refusal = _refusal(own, other)
                        assert refusal is None, (
                            f"{kind.__name__}.{name} cannot be called as {base.__name__}.{name}, "
                            f"which it overrides: {refusal}; a helper needs a name of its own"
                        )

    @rule(
        "The sync and the async client have the same methods.",
        why="a program that moves to asyncio finds the same operations",
        where="RegistryDriver.client and async_client",
    )
    def test_clients_are_alike(self, driver_class: Any) -> None:
        sync, asynchronous = driver_class.client, driver_class.async_client
        assert issubclass(sync, RegistryClient)
        assert issubclass(asynchronous, AsyncRegistryClient)
        own = {name for name in dir(sync) if not name.startswith("_")} - set(dir(RegistryClient))
        other = {name for name in dir(asynchronous) if not name.startswith("_")}
        other -= set(dir(AsyncRegistryClient))
        advice = "set client and async_client to classes with the same operations"
        assert not own - other, f"async_client lacks {sorted(own - other)}: {advice}"
        assert not other - own, f"client lacks {sorted(other - own)}: {advice}"

    @rule(
        "close() of the client and of the driver may be called again.",
        why="a connection and its manager may both be closed",
        where="RegistryDriver.close",
    )
    def test_close(
        self, registry: RegistryClient, driver_class: Any, own_settings: dict[str, Any]
    ) -> None:
        registry.ping()
        registry.close()
        registry.close()
        made = driver_class(valid_settings(driver_class, own_settings))
        for _ in range(2):
            finish(made.close())

    @rule(
        "Connections to the same registry have the same identity.",
        why="a retention plan is applied only where it was made",
        where="RegistryDriver.identity",
    )
    def test_identity(self, driver_class: Any, own_settings: dict[str, Any]) -> None:
        first = driver_class(valid_settings(driver_class, own_settings))
        second = driver_class(valid_settings(driver_class, own_settings))
        text = first.identity()
        assert isinstance(text, str)
        assert text
        if driver_class.identity is RegistryDriver.identity:
            assert text == second.identity()
        for made in (first, second):
            finish(made.close())

    @rule(
        "A fault of the connection is the error of its kind, and no bytes are taken for others.",
        why="programs decide by the error whether to try again",
        where="dockhand_core.errors",
    )
    @pytest.mark.parametrize("fault", _ERRORS)
    def test_faults(
        self,
        mode: str,
        fault: str,
        open_client: OpenClient,
        driver_class: Any,
        scripted_registry: ScriptedRegistry,
    ) -> None:
        settings = self._scripted_settings(driver_class, scripted_registry)
        image = scripted_registry.push(build_image(), "library/app", "v1")
        layer = image.manifest.layers[0].digest
        client = open_client(mode, **settings, retries=0, timeout=0.5)
        reads: dict[str, Callable[[], bytes]] = {
            "/blobs/": lambda: client.read_blob("library/app", layer),
            "/manifests/": lambda: client.manifest("library/app", image.digest).raw,
        }
        for path, read in reads.items():
            scripted_registry.then(fault, method="GET", path=path)
            error = _ERRORS[fault]
            if error is None:
                assert read() in (image.blobs[layer], image.raw)
            else:
                with pytest.raises(error):
                    read()
            assert not scripted_registry.unused, f"no GET of {path} was sent"

    @rule(
        "After a fault that passes, the operation is tried again and succeeds.",
        why="networks and registries fail for moments",
        where="the connection's setting `retries`",
    )
    @pytest.mark.parametrize("fault", ["cut", "429", "503"])
    def test_retries(
        self,
        mode: str,
        fault: str,
        open_client: OpenClient,
        driver_class: Any,
        scripted_registry: ScriptedRegistry,
    ) -> None:
        settings = self._scripted_settings(driver_class, scripted_registry)
        image = scripted_registry.push(build_image(), "library/app", "v1")
        client = open_client(mode, **settings, retries=2, timeout=5.0)
        scripted_registry.then(fault, method="GET", path="/manifests/")
        assert client.manifest("library/app", image.digest).raw == image.raw
        assert not scripted_registry.unused

    def _scripted_settings(self, driver_class: Any, registry: ScriptedRegistry) -> dict[str, Any]:
        if not self.speaks_oci or "base_uri" not in driver_class.Settings.model_fields:
            pytest.skip("the driver is not reached by a URL, or speaks another protocol")
        return self.table(**{**self.settings, "base_uri": registry.url})


def _refusal(own: Callable[..., Any], base: Callable[..., Any]) -> str | None:
    """The reason why a method cannot be called as the method `base` is, or None if it can be."""
    first, *rest = inspect.signature(base).parameters.values()  # the first is `self`
    positional = [
        None for each in (first, *rest) if each is first or each.kind is each.POSITIONAL_ONLY
    ]
    named = [
        each.name for each in rest if each.kind in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY)
    ]
    named += ["an_option" for each in rest if each.kind is each.VAR_KEYWORD]
    try:
        inspect.signature(own).bind(*positional, **dict.fromkeys(named))
    except TypeError as error:
        return str(error)
    return None
