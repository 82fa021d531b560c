"""The auth driver `token` against registries whose authority is the token endpoint."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from authority import USERS, registry_auth, token_server, write_authority
from images import push_image
from registries import DISTRIBUTION, distribution, zot

from dockhand_core import (
    Denied,
    PushResult,
    RegistryClient,
    Unauthorized,
    async_connect,
    connect,
)

pytestmark = pytest.mark.live
QUIET = {"driver": "null"}
REFUSED = (Unauthorized, Denied)
Open = Callable[..., RegistryClient]


@pytest.fixture(params=[*DISTRIBUTION, "zot"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """A registry's URL, and the driver for it."""
    folder = tmp_path / "authority"
    with token_server(write_authority(folder)) as endpoint:
        auth = registry_auth(folder, endpoint)
        if request.param == "zot":
            token = auth["token"]
            bearer = {
                "realm": token["realm"], "service": token["service"],
                "cert": token["rootcertbundle"],
            }  # fmt: skip
            with zot(tmp_path / "zot", auth={"bearer": bearer}) as url:
                yield url, "zot"
        else:
            with distribution(request.param, tmp_path / "registry", auth=auth) as url:
                yield url, "distribution"


@pytest.fixture
def client(site: tuple[str, str], tmp_path: Path) -> Iterator[Open]:
    """Makes clients: of a user, or of nobody."""
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")
    with ExitStack() as stack:

        def made(user: str | None, **auth: Any) -> RegistryClient:
            if user is not None:
                auth = {"username": user, "password": USERS[user]}
            settings = {"driver": "token", **(auth or {"config": str(nothing)})}
            url, driver = site
            return stack.enter_context(connect(url, driver=driver, auth=settings, logging=QUIET))

        yield made


def test_two_users_and_nobody(client: Open, site: tuple[str, str]) -> None:
    alice, bob, nobody = client("alice"), client("bob"), client(None)
    shared = push_image(alice, "alice/shared", "v1")
    public = push_image(alice, "public/tool", "v1")
    assert alice.manifest("alice/shared", "v1").raw == shared.raw
    mounted = alice.mount_blob("alice/copy", shared.layers[0].digest, "alice/shared")
    assert isinstance(mounted, PushResult)
    # bob may read what is shared with him, and write what is his.
    assert bob.manifest("alice/shared", "v1").raw == shared.raw
    push_image(bob, "bob/app", "v1")
    for refused in (
        lambda: bob.upload_blob("alice/shared", b"data"),
        lambda: bob.delete_manifest("alice/shared", shared.digest),
        lambda: alice.manifest("bob/app", "v1"),
        lambda: nobody.manifest("alice/shared", "v1"),
        lambda: nobody.upload_blob("public/tool", b"data"),
    ):
        with pytest.raises(REFUSED):
            refused()
    assert nobody.manifest("public/tool", "v1").raw == public.raw
    alice.delete_manifest("alice/shared", shared.digest)
    assert not alice.manifest_exists("alice/shared", "v1")
    if site[1] == "distribution":  # zot's list is of another scope, which these rules have not
        assert "public/tool" in list(alice.repositories())
        with pytest.raises(REFUSED):
            list(bob.repositories())


def test_wrong_password(client: Open) -> None:
    wrong = client(None, username="alice", password="wrong")
    assert wrong.is_online()
    with pytest.raises(Unauthorized, match="no token for these credentials"):
        wrong.manifest("alice/app", "v1")


def test_dockers_configuration(client: Open, site: tuple[str, str], tmp_path: Path) -> None:
    host = site[0].removeprefix("http://")
    auth = b64encode(f"alice:{USERS['alice']}".encode()).decode()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    push_image(client(None, config=str(config)), "alice/app", "v1")
    assert client("alice").manifest_exists("alice/app", "v1")


def test_async_client(client: Open, site: tuple[str, str]) -> None:
    import asyncio

    manifest = push_image(client("alice"), "alice/app", "v1")
    auth = {"driver": "token", "username": "alice", "password": USERS["alice"]}

    async def main() -> None:
        async with async_connect(site[0], driver=site[1], auth=auth, logging=QUIET) as registry:
            found = await asyncio.gather(*(registry.manifest("alice/app", "v1") for _ in range(8)))
            assert {each.raw for each in found} == {manifest.raw}
            pushed = await registry.upload_blob("alice/app", b"x" * (1 << 20))
            assert pushed.uploaded

    asyncio.run(main())
