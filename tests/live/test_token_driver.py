"""The auth driver `token`, used with registries that trust the tokens of the token server."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from authority import USERS, registry_auth, token_server, write_authority
from dockhand_testing.contracts.samples import push_image
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
REFUSALS = (Unauthorized, Denied)
MakeClient = Callable[..., RegistryClient]


@pytest.fixture(params=[*DISTRIBUTION, "zot"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[str, str]]:
    """Start a registry; provide its URL, and the name of the registry driver for it."""
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
def make_client(site: tuple[str, str], tmp_path: Path) -> Iterator[MakeClient]:
    """Provide a function that creates a client for a user, or with other settings for `auth`.

    Without a user and settings, the client is anonymous.
    """
    empty = tmp_path / "empty.json"
    empty.write_text("{}")
    with ExitStack() as stack:

        def make(user: str | None, **auth: Any) -> RegistryClient:
            if user is not None:
                auth = {"username": user, "password": USERS[user]}
            settings = {"driver": "token", **(auth or {"config": str(empty)})}
            url, driver = site
            return stack.enter_context(connect(url, driver=driver, auth=settings, logging=QUIET))

        yield make


def test_two_users_and_an_anonymous_client(make_client: MakeClient, site: tuple[str, str]) -> None:
    alice, bob, anonymous = make_client("alice"), make_client("bob"), make_client(None)
    shared = push_image(alice, "alice/shared", "v1")
    public = push_image(alice, "public/tool", "v1")
    assert alice.manifest("alice/shared", "v1").raw == shared.raw
    mounted = alice.mount_blob("alice/copy", shared.layers[0].digest, "alice/shared")
    assert isinstance(mounted, PushResult)
    # bob may pull from alice/shared and push to bob/*
    assert bob.manifest("alice/shared", "v1").raw == shared.raw
    push_image(bob, "bob/app", "v1")
    for operation in (
        lambda: bob.upload_blob("alice/shared", b"data"),
        lambda: bob.delete_manifest("alice/shared", shared.digest),
        lambda: alice.manifest("bob/app", "v1"),
        lambda: anonymous.manifest("alice/shared", "v1"),
        lambda: anonymous.upload_blob("public/tool", b"data"),
    ):
        with pytest.raises(REFUSALS):
            operation()
    assert anonymous.manifest("public/tool", "v1").raw == public.raw
    alice.delete_manifest("alice/shared", shared.digest)
    assert not alice.manifest_exists("alice/shared", "v1")
    if (
        site[1] == "distribution"
    ):  # zot demands another scope for lists of repositories, which these rules do not grant
        assert "public/tool" in list(alice.repositories())
        with pytest.raises(REFUSALS):
            list(bob.repositories())


def test_wrong_password(make_client: MakeClient) -> None:
    wrong = make_client(None, username="alice", password="wrong")
    assert wrong.is_online()
    with pytest.raises(Unauthorized, match="no token for these credentials"):
        wrong.manifest("alice/app", "v1")


def test_credentials_in_dockers_configuration(
    make_client: MakeClient, site: tuple[str, str], tmp_path: Path
) -> None:
    host = site[0].removeprefix("http://")
    auth = b64encode(f"alice:{USERS['alice']}".encode()).decode()
    config = tmp_path / "config.json"
    config.write_text(json.dumps({"auths": {host: {"auth": auth}}}))
    push_image(make_client(None, config=str(config)), "alice/app", "v1")
    assert make_client("alice").manifest_exists("alice/app", "v1")


def test_async_client(make_client: MakeClient, site: tuple[str, str]) -> None:
    import asyncio

    manifest = push_image(make_client("alice"), "alice/app", "v1")
    auth = {"driver": "token", "username": "alice", "password": USERS["alice"]}

    async def main() -> None:
        async with async_connect(site[0], driver=site[1], auth=auth, logging=QUIET) as registry:
            manifests = await asyncio.gather(
                *(registry.manifest("alice/app", "v1") for _ in range(8))
            )
            assert {found.raw for found in manifests} == {manifest.raw}
            pushed = await registry.upload_blob("alice/app", b"x" * (1 << 20))
            assert pushed.uploaded

    asyncio.run(main())
