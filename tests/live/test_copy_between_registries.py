"""Copies between real registries in every direction, of what real clients have pushed there.

Each copy is compared, digest by digest, with those that `crane copy` and `regctl image copy` leave.
The clients are offline: they can reach the registries on loopback, but no other server.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from dockhand_testing.contracts.samples import config_of, push_blob
from registries import Clients, crane_registry, distribution, embedded, zot

from dockhand_core import (
    Digest,
    ImageIndex,
    ImageManifest,
    RegistryClient,
    async_connect,
    connect,
)
from dockhand_core.models import media

pytestmark = pytest.mark.live

KINDS = ("distribution-2.8", "distribution-3.1", "zot", "crane", "embedded")
IMAGES = {"buildah": "v1", "skopeo": "v1", "chart": "0.1.0"}  # repository and tag
SIGNED = "buildah"
REFERRERS_TAG = re.compile(r"sha256-[0-9a-f]{64}")
# cosign and helm take no part of their work to servers on the internet.
OFFLINE = {"HTTPS_PROXY": "http://127.0.0.1:9", "NO_PROXY": "127.0.0.1"}
TO_LOG = ("--tlog-upload=false", "--allow-http-registry", "--yes")
VERIFY = ("--key", "cosign.pub", "--insecure-ignore-tlog", "--allow-http-registry")


@dataclass
class Site:
    """A running registry.

    Attributes:
        kind: one of `KINDS`.
        url: its URL.
        folder: the folder for its data.
        client: a client of Dockhand for it.
        digests: the digest of each seeded image, by repository.
    """

    kind: str
    url: str
    folder: Path
    client: RegistryClient
    digests: dict[str, Digest] = field(default_factory=dict)

    @property
    def host(self) -> str:
        """The host and the port, as in a reference."""
        return self.url.removeprefix("http://")

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a connection to it."""
        driver = "zot" if self.kind == "zot" else "distribution"
        return {"driver": driver, "logging": {"driver": "null"}}


class Sites:
    """The registries, each of which is started and seeded when it is first used."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self._folder, self._stack = folder, stack
        self._sites: dict[str, Site] = {}
        self._peers: set[tuple[str, str]] = set()
        self.clients = Clients(folder / "home", COSIGN_PASSWORD="", **OFFLINE)
        self._make_images(folder / "home")

    def _make_images(self, home: Path) -> None:
        """Make an image for two platforms, a Helm chart, and a key pair."""
        run = self.clients.run
        (home / "common").mkdir()
        (home / "common" / "data").write_bytes(os.urandom(2_000_000))
        for architecture in ("amd64", "arm64"):
            (home / architecture).mkdir()
            (home / architecture / "program").write_bytes(os.urandom(100_000))
            container = run("buildah", "from", "scratch").strip()
            for command in (
                ("config", "--arch", architecture, "--label", "made=by a test", container),
                ("add", "--quiet", container, "common", "/common"),
                ("commit", "--quiet", "--format", "oci", container, f"base-{architecture}"),
                ("add", "--quiet", container, architecture, "/bin"),
                ("commit", "--quiet", "--format", "oci", container, architecture),
                ("rm", container),
            ):
                run("buildah", *command)
        run("buildah", "manifest", "create", "both", "amd64", "arm64")
        run("buildah", "manifest", "push", "--all", "both", f"oci:{home / 'layout'}:v1")
        run("helm", "create", "chart")
        run("helm", "package", "chart")
        run("cosign", "generate-key-pair")
        (home / "predicate.json").write_text('{"made": "by a test"}')

    def get(self, kind: str) -> Site:
        """The registry of a kind; it is started and seeded on the first call."""
        if kind not in self._sites:
            folder = self._folder / kind
            folder.mkdir(exist_ok=True)  # an earlier test was skipped for the missing server
            url = self._stack.enter_context(_server(kind, folder))
            driver = "zot" if kind == "zot" else "distribution"
            client = self._stack.enter_context(
                connect(url, driver=driver, logging={"driver": "null"})
            )
            site = self._sites[kind] = Site(kind, url, folder, client)
            self._seed(site)
        return self._sites[kind]

    def _seed(self, site: Site) -> None:
        """Push the images with the clients that made them; sign one, and attach artifacts to it."""
        run, host = self.clients.run, site.host
        image = f"{host}/seed/{SIGNED}"
        run("regctl", "registry", "set", "--tls", "disabled", "--skip-check", host)
        run(
            "buildah", "manifest", "push", "--all", "--tls-verify=false",
            "both", f"docker://{image}:v1",
        )  # fmt: skip
        run(
            "skopeo", "copy", "--all", "--format", "v2s2", "--dest-tls-verify=false",
            "oci:layout:v1", f"docker://{host}/seed/skopeo:v1",
        )  # fmt: skip
        run("helm", "push", "chart-0.1.0.tgz", f"oci://{host}/seed", "--plain-http")
        for name, tag in IMAGES.items():
            site.digests[name] = site.client.manifest_head(f"seed/{name}", tag).digest
        signed = f"{image}@{site.digests[SIGNED]}"
        run("cosign", "sign", "--key", "cosign.key", "--recursive", *TO_LOG, signed)
        run(
            "cosign", "attest", "--key", "cosign.key", *TO_LOG,
            "--type", "custom", "--predicate", "predicate.json", signed,
        )  # fmt: skip
        run(
            "oras", "attach", "--plain-http", "--artifact-type", "application/vnd.example.sbom",
            f"{image}:v1", "predicate.json:application/json",
        )  # fmt: skip
        (sbom,) = site.client.referrers(f"seed/{SIGNED}", site.digests[SIGNED]).manifests
        run(  # a referrer of the referrer
            "regctl", "artifact", "put", "--subject", f"{image}@{sbom.digest}",
            "--artifact-type", "application/vnd.example.note", "--file", "predicate.json",
        )  # fmt: skip

    def copy_with_peers(self, source: Site, target: Site) -> None:
        """Copy every image with crane and with regctl; done once for each direction."""
        if (source.kind, target.kind) in self._peers:
            return
        self._peers.add((source.kind, target.kind))
        for name, tag in IMAGES.items():
            seed = f"{source.host}/seed/{name}:{tag}"
            self.clients.run(
                "crane",
                "copy",
                "--insecure",
                seed,
                f"{target.host}/crane-{source.kind}/{name}:{tag}",
            )
            self.clients.run(
                "regctl", "image", "copy", "--referrers", "--digest-tags", seed,
                f"{target.host}/regctl-{source.kind}/{name}:{tag}",
            )  # fmt: skip


def _server(kind: str, folder: Path) -> AbstractContextManager[str]:
    if kind == "zot":
        return zot(folder)
    if kind == "crane":
        return crane_registry(folder)
    if kind == "embedded":
        return embedded(folder)
    return distribution(kind.removeprefix("distribution-"), folder)


@pytest.fixture(scope="module")
def sites(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sites]:
    """Provide the registries, which are stopped at the end of the module."""
    with ExitStack() as stack:
        yield Sites(tmp_path_factory.mktemp("copies"), stack)


def content(client: RegistryClient, repository: str, reference: str) -> dict[Digest, bytes | int]:
    """The manifests that a reference reaches, and the sizes of their blobs, by digest."""
    document = client.manifest(repository, reference)
    found: dict[Digest, bytes | int] = {document.digest: document.raw}
    if isinstance(document, ImageManifest):
        for blob in (document.config, *document.layers):
            found[blob.digest] = client.blob_size(repository, blob.digest)
    else:
        for entry in document.manifests:
            found |= content(client, repository, entry.digest)
    return found


def all_content(client: RegistryClient, repository: str) -> dict[str, dict[Digest, bytes | int]]:
    """The content of all tags, and that of the referrers of each manifest, by tag or subject.

    The referrers tags of registries without the referrers API are left out: their indexes are made
    anew by each client, and not every registry has them.
    """
    found: dict[str, dict[Digest, bytes | int]] = {}
    for tag in client.tags(repository):
        if not REFERRERS_TAG.fullmatch(tag):
            found[tag] = content(client, repository, tag)
    subjects = [digest for each in found.values() for digest in each]
    for subject in subjects:  # grows while it is iterated over
        if subject in found:
            continue
        found[subject] = {}
        for referrer in client.referrers(repository, subject).manifests:
            found[subject] |= content(client, repository, referrer.digest)
        subjects += found[subject]
    return found


def copy(mode: str, source: Site, target: Site, repository: str, tag: str, **options: Any) -> Any:
    """Copy an image with a client of the kind `mode`, and return the result."""
    if mode == "sync":
        with (
            connect(source.url, **source.settings) as registry,
            connect(target.url, **target.settings) as mirror,
        ):
            to = registry if source is target else mirror
            return registry.copy(repository, tag, to=to, **options)

    async def run() -> Any:
        async with (
            async_connect(source.url, **source.settings) as registry,
            async_connect(target.url, **target.settings) as mirror,
        ):
            to = registry if source is target else mirror
            return await registry.copy(repository, tag, to=to, **options)

    return asyncio.run(run())


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("target_kind", KINDS)
@pytest.mark.parametrize("source_kind", KINDS)
def test_copy(sites: Sites, source_kind: str, target_kind: str, mode: str) -> None:
    source, target = sites.get(source_kind), sites.get(target_kind)
    sites.copy_with_peers(source, target)
    for name, tag in IMAGES.items():
        there = f"{mode}-{source_kind}/{name}"
        options = {"to_repository": there, "referrers": True}
        result = copy(mode, source, target, f"seed/{name}", tag, **options)
        assert result.digest == source.digests[name]
        assert result.dropped in ((), [])
        of_dockhand = all_content(target.client, there)
        assert of_dockhand == all_content(target.client, f"regctl-{source_kind}/{name}")
        assert of_dockhand == all_content(source.client, f"seed/{name}")
        assert of_dockhand[tag] == content(target.client, f"crane-{source_kind}/{name}", tag)
        again = copy(mode, source, target, f"seed/{name}", tag, **options)
        assert (again.digest, again.blobs_copied, again.bytes_copied) == (result.digest, 0, 0)
    signed = f"{target.host}/{mode}-{source_kind}/{SIGNED}"
    index = target.client.manifest(f"{mode}-{source_kind}/{SIGNED}", "v1")
    assert isinstance(index, ImageIndex)
    children = [f"{signed}@{entry.digest}" for entry in index.manifests]
    sites.clients.run("cosign", "verify", *VERIFY, f"{signed}:v1", *children)
    sites.clients.run("cosign", "verify-attestation", *VERIFY, "--type", "custom", f"{signed}:v1")
    pulled = sites.clients.home / f"pulled-{mode}-{source_kind}-{target_kind}"
    pulled.mkdir()
    sites.clients.run(
        "helm", "pull", f"oci://{target.host}/{mode}-{source_kind}/chart", "--version", "0.1.0",
        "--plain-http", "--destination", str(pulled),
    )  # fmt: skip
    packed = sites.clients.home / "chart-0.1.0.tgz"
    assert (pulled / packed.name).read_bytes() == packed.read_bytes()


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("target_kind", KINDS)
def test_copy_of_one_platform(sites: Sites, target_kind: str, mode: str) -> None:
    """The image for one platform is the one that crane copies."""
    source, target = sites.get("distribution-3.1"), sites.get(target_kind)
    there, name = f"{mode}-platform/{SIGNED}", f"seed/{SIGNED}"
    result = copy(mode, source, target, name, "v1", to_repository=there, platform="linux/arm64")
    sites.clients.run(
        "crane", "copy", "--insecure", "--platform", "linux/arm64",
        f"{source.host}/{name}:v1", f"{target.host}/crane-platform/{SIGNED}:v1",
    )  # fmt: skip
    copied = all_content(target.client, there)
    assert copied == all_content(target.client, f"crane-platform/{SIGNED}")
    assert result.digest in copied["v1"]


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("target_kind", KINDS)
def test_conversion(sites: Sites, target_kind: str, mode: str) -> None:
    """Docker images that are converted have the same layers, and other clients read them."""
    source, target = sites.get("distribution-2.8"), sites.get(target_kind)
    there = f"{mode}-converted/skopeo"
    result = copy(mode, source, target, "seed/skopeo", "v1", to_repository=there, convert="oci")
    assert result.digest != source.digests["skopeo"]
    assert target.client.manifest(there, "v1").media_type == media.OCI_INDEX
    for platform in ("linux/amd64", "linux/arm64"):
        old = source.client.image("seed/skopeo", "v1", platform=platform)
        new = target.client.image(there, "v1", platform=platform)
        assert old.media_type == media.DOCKER_MANIFEST
        assert (new.media_type, new.config.media_type) == (media.OCI_MANIFEST, media.OCI_CONFIG)
        assert [each.digest for each in new.layers] == [each.digest for each in old.layers]
        assert {each.media_type for each in new.layers} == {media.OCI_LAYER_GZIP}
    sites.clients.run("crane", "validate", "--insecure", "--remote", f"{target.host}/{there}:v1")
    sites.clients.run(
        "skopeo", "copy", "--all", "--preserve-digests", "--src-tls-verify=false",
        f"docker://{target.host}/{there}:v1", f"oci:converted-{mode}-{target_kind}:v1",
    )  # fmt: skip


@pytest.mark.parametrize("kind", KINDS)
def test_copy_through_a_folder(sites: Sites, kind: str, tmp_path: Path) -> None:
    """A registry in the process, without a server, receives images and gives them back."""
    site = sites.get(kind)
    with connect(str(tmp_path / "root"), driver="embedded", logging={"driver": "null"}) as folder:
        for name, tag in IMAGES.items():
            repository, back = f"seed/{name}", f"back/{name}"
            site.client.copy(repository, tag, to=folder, referrers=True)
            expected = all_content(site.client, repository)
            assert all_content(folder, repository) == expected
            folder.copy(repository, tag, to=site.client, to_repository=back, referrers=True)
            assert all_content(site.client, back) == expected


@pytest.mark.parametrize("target_kind", KINDS)
def test_copy_of_tags(sites: Sites, target_kind: str) -> None:
    """The tags that match are copied, and those of signatures with what they sign."""
    source, target = sites.get("distribution-3.1"), sites.get(target_kind)
    for tag in ("1.0", "1.1", "stable", "nightly"):
        source.client.copy(f"seed/{SIGNED}", "v1", to_repository="seed/many", to_reference=tag)
    copied = source.client.copy_tags("seed/many", to=target.client, tags=["1.*", "re:stab.*"])
    results = {result.tag: result.error for result in copied}
    assert results == {"1.0": None, "1.1": None, "stable": None}
    repository = "all-tags/many"
    tags = list(source.client.tags(f"seed/{SIGNED}"))
    assert len(tags) > 4  # the tags of cosign are among them
    for result in source.client.copy_tags(
        f"seed/{SIGNED}", to=target.client, to_repository=repository, referrers=True
    ):
        assert (result.tag, result.error) == ("v1", None)
    assert all_content(target.client, repository) == all_content(source.client, f"seed/{SIGNED}")


@pytest.mark.parametrize("mode", ["sync", "async"])
@pytest.mark.parametrize("target_kind", ["distribution-3.1", "zot", "embedded"])
def test_a_copy_that_fails_leaves_no_uploads(sites: Sites, target_kind: str, mode: str) -> None:
    """Distribution 2.8 is left out: it cannot cancel an upload whose request broke."""
    source, target = sites.get("crane"), sites.get(target_kind)

    def fail(done: int, _: int | None) -> None:
        if done > 500_000:
            raise ZeroDivisionError

    there = f"{mode}-failed/{SIGNED}"
    # The blob must be one that the target cannot mount, so it is new.
    data = os.urandom(8_000_000)
    config = push_blob(source.client, "failed", config_of(), media.OCI_CONFIG)
    layer = push_blob(source.client, "failed", data, media.OCI_LAYER)
    source.client.put_manifest("failed", "v1", ImageManifest(config=config, layers=(layer,)))
    with pytest.raises(ZeroDivisionError):
        copy(mode, source, target, "failed", "v1", to_repository=there, progress=fail)
    assert not target.client.manifest_exists(there, "v1")
    folders = [*target.folder.rglob("_uploads"), *target.folder.rglob(".uploads")]
    assert folders
    until = time.monotonic() + 10
    # A request that broke may still be at work, and remove its own files.
    while (left := leftovers(folders)) and time.monotonic() < until:
        time.sleep(0.05)
    assert left == []


def leftovers(folders: list[Path]) -> list[Path]:
    """The files of unfinished uploads in some folders."""
    files = [file for each in folders for file in each.rglob("*") if file.is_file()]
    # Distribution may write the state of its hash while the upload is being deleted.
    return [file for file in files if "hashstates" not in file.parts]
