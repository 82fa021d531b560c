"""Push an image for two platforms, list, pull and copy it, and delete it.

Without settings, both registries are folders on this machine. The connection `main` requires a
token for each request; Dockhand signs these tokens itself. The registry of `main` sends
notifications to a receiver, which calls a hook with each event.

If DOCKHAND_BASE_URI is set (with DOCKHAND_AUTH_DRIVER, DOCKHAND_USERNAME and so on), `main` is the
registry at that URL.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import logging
import os
import random
import re
import sys
import tarfile
import tempfile
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

from dockhand_auth_jwt import SigningKey, TokenService
from event_receiver import EventReceiver

from dockhand_core import (
    AsyncDockhand,
    Descriptor,
    Dockhand,
    DockhandConfig,
    DockhandError,
    ImageIndex,
    ImageManifest,
    Platform,
    Plugins,
    RegistryClient,
    Scope,
    Unauthorized,
    Unsupported,
    connect,
)
from dockhand_core.config import load_config
from dockhand_core.models import media

REPOSITORY = "dockhand-demo/hello"
PLATFORMS = ("linux/amd64", "linux/arm64/v8")
LOG_FILE = Path("dockhand-demo.log")

EMBEDDED_MAIN = """\
driver = "embedded"
root = "main"
token_realm = "http://localhost:5001/token"
token_service = "demo_registry"
token_issuer = "demo_authority"
token_certificate = "keys/certificate.pem"
notifications = [{{ url = "{notify}/main", token = "{token}" }}]

[connections.main.auth]
driver = "jwt"
private_key = "keys/private.pem"
authority_name = "demo_authority"
registry_name = "demo_registry"
subject = "the demo"

[connections.main.logging]
driver = "stdlib"
level = "info"
"""
REMOTE_MAIN = """\
driver = "distribution"  # the environment adds base_uri
logging = { driver = "stdlib", level = "info" }
"""
CONFIG = """
default = "main"

[connections.main]
{main}
[connections.mirror]
driver = "embedded"
root = "mirror"
timeout = 5.0
logging = {{ driver = "stdlib", level = "info" }}
"""


class ShortFormatter(logging.Formatter):
    """A formatter that shows a request in less than a line of a terminal."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the method, status, bytes and path; digests and upload ids are shortened."""
        fields = record.__dict__["dockhand"]
        path = re.sub(r"([0-9a-f]{8})[0-9a-f-]{24,}", r"\1…", fields["path"])
        status, count = fields.get("status", "failed"), fields.get("bytes", 0)
        return f"   {record.name}: {fields['method']:5} {status} {count:7} bytes  {path}"


class JsonFormatter(logging.Formatter):
    """A formatter that shows a request as a JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        """Return all fields of the request as JSON."""
        return json.dumps({"logger": record.name, **record.__dict__["dockhand"]})


def configure_logging() -> None:
    """Log the requests of `main` to a file, and print the requests of `mirror`."""
    logging.basicConfig(format="   %(name)s: %(message)s")
    for name, handler, formatter in (
        ("main", logging.FileHandler(LOG_FILE, mode="w", encoding="utf-8"), JsonFormatter()),
        ("mirror", logging.StreamHandler(sys.stdout), ShortFormatter()),
    ):
        logger = logging.getLogger(f"dockhand.{name}")
        logger.setLevel(logging.INFO)
        logger.propagate = False
        handler.setFormatter(formatter)
        logger.addHandler(handler)


def print_title(text: str) -> None:
    """Print the title of the next step."""
    print(f"── {text}", flush=True)


def progress_bar(label: str) -> Callable[[int, int | None], None]:
    """Return a progress function for uploads and downloads, which prints a bar."""

    def show(done: int, total: int | None) -> None:
        if done != total and not sys.stdout.isatty():
            return
        share = done / total if total else 1.0
        bar = "█" * int(share * 30)
        print(f"\r   {label:15} [{bar:30}] {done / 1e6:6.2f} MB", end="", flush=True)
        if done == total:
            print(flush=True)

    return show


def make_keys(folder: Path) -> None:
    """Make the key that signs tokens, and the certificate that the registry trusts."""
    key = SigningKey.generate()
    (folder / "keys").mkdir()
    (folder / "keys" / "private.pem").write_bytes(key.private_pem())
    (folder / "keys" / "certificate.pem").write_bytes(key.self_signed_certificate("demo_authority"))
    print(f"   {key!r}")


def show_drivers(plugins: Plugins) -> None:
    """Print the drivers that the installed plugins provide."""
    for kind in ("registry", "auth", "log"):
        drivers = sorted(name for plugin in plugins for name in plugin.provides.get(kind, ()))
        print(f"   {kind} drivers: {', '.join(drivers)}")


def show_refusals(config: DockhandConfig, folder: Path) -> None:
    """Push without a token, with a token for another repository, and with an unknown key."""
    key = SigningKey.load(folder / "keys" / "private.pem")
    service = TokenService(key, issuer="demo_authority", audience="demo_registry")
    narrow = service.builder().related_to("alice").with_scope(Scope.read("alice/app"))
    options = config.connection("main")[1].options
    settings = {name: value for name, value in options.items() if name.startswith("token_")}
    settings["token_certificate"] = folder / settings["token_certificate"]
    for attempt, auth in (
        ("no token", {"driver": "null"}),
        ("a token for alice/app", {"driver": "bearer", "token": service.sign(narrow)}),
        (
            "another authority's token",
            {
                "driver": "jwt",
                "private_key": SigningKey.generate().private_pem().decode(),
                "authority_name": "demo_authority",
                "registry_name": "demo_registry",
            },
        ),
    ):
        root = str(folder / "main")
        with connect(root, driver="embedded", auth=auth, **settings) as registry:
            try:
                registry.put_manifest(REPOSITORY, "v1", ImageIndex(manifests=()))
            except Unauthorized as error:
                reason = f"{attempt}: {error.status} {error.code}, {error.errors[0]['message']}"
                print(f"   {textwrap.shorten(reason, 97, placeholder=' …')}")


def make_layer(seed: int) -> tuple[bytes, str]:
    """Make a compressed layer of about 2 MiB; return it and the digest of the uncompressed tar."""
    data = random.Random(seed).randbytes(2 << 20)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("usr/share/hello")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    plain = buffer.getvalue()
    return gzip.compress(plain, 1, mtime=0), f"sha256:{hashlib.sha256(plain).hexdigest()}"


def push(registry: RegistryClient) -> ImageIndex:
    """Push an image for each platform, and push an index of these images under three tags."""
    entries = []
    for seed, name in enumerate(PLATFORMS):
        platform = Platform.parse(name)
        blob, diff_id = make_layer(seed)
        config = json.dumps(
            {
                "os": platform.os,
                "architecture": platform.architecture,
                "variant": platform.variant,
                "config": {"Entrypoint": ["/hello"], "Labels": {"made-by": "dockhand"}},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
        layer = registry.upload_blob(REPOSITORY, blob, progress=progress_bar(name))
        kept = registry.upload_blob(REPOSITORY, config)
        manifest = ImageManifest(
            config=Descriptor(media_type=media.OCI_CONFIG, digest=kept.digest, size=len(config)),
            layers=(
                Descriptor(media_type=media.OCI_LAYER_GZIP, digest=layer.digest, size=len(blob)),
            ),
        )
        registry.put_manifest(REPOSITORY, manifest.digest, manifest)
        entries.append(manifest.descriptor().model_copy(update={"platform": platform}))
    index = ImageIndex(manifests=tuple(entries))
    for tag in ("v1", "v1.0", "latest"):
        registry.put_manifest(REPOSITORY, tag, index)
    print(f"   index {index.digest[:19]}… with the tags v1, v1.0, latest")
    return index


def list_content(registry: RegistryClient) -> None:
    """List the tags page by page, and the repositories with one iterator."""
    pages = [registry.tag_page(REPOSITORY, limit=2)]
    while pages[-1].has_more:
        pages.append(registry.tag_page(REPOSITORY, limit=2, after=pages[-1].next))
    print(f"   pages of tags: {' | '.join(', '.join(page.items) for page in pages)}")
    found = [name for name in registry.repositories() if name == REPOSITORY]
    print(f"   among the repositories: {', '.join(found)}")


def pull(registry: RegistryClient, folder: Path) -> None:
    """Choose the image of a platform, read its configuration, and download its layer."""
    image = registry.image(REPOSITORY, "latest", platform="linux/arm64")
    config = registry.image_config(REPOSITORY, image)
    print(f"   {config.platform}: {image.size} bytes, labels {config.labels}", flush=True)
    layer, file = image.layers[0], folder / "layer.tar.gz"
    registry.download_blob(REPOSITORY, layer.digest, file, progress=progress_bar(file.name))


async def copy_to_mirror(config: DockhandConfig) -> None:
    """Copy the images of all platforms at the same time, with the async client."""
    async with AsyncDockhand(config) as dockhand:
        source, target = dockhand.connection("main"), dockhand.connection("mirror")

        async def copy(entry: Descriptor) -> None:
            manifest = await source.manifest(REPOSITORY, entry)
            assert isinstance(manifest, ImageManifest)
            data = await source.read_blob(REPOSITORY, manifest.config.digest)
            await target.upload_blob(REPOSITORY, data)
            for layer in manifest.layers:
                async with source.open_blob(REPOSITORY, layer.digest) as blob:
                    await target.upload_blob(REPOSITORY, blob, digest=layer.digest)
            await target.put_manifest(REPOSITORY, entry.digest, manifest)

        index = await source.manifest(REPOSITORY, "v1")
        assert isinstance(index, ImageIndex)
        await asyncio.gather(*(copy(entry) for entry in index.manifests))
        await target.put_manifest(REPOSITORY, "v1", index)


def delete(registry: RegistryClient, index: ImageIndex) -> None:
    """Delete one tag, then delete the manifests, which deletes the other tags."""
    try:
        registry.delete_tag(REPOSITORY, "v1.0")
        tags = ", ".join(sorted(registry.tags(REPOSITORY)))
        print(f"   deleted the tag v1.0; tags left: {tags}")
    except Unsupported as error:
        print(f"   {error}")
    for digest in (index.digest, *(entry.digest for entry in index.manifests)):
        registry.delete_manifest(REPOSITORY, digest)
    print(f"   deleted the manifests by digest; tags left: {list(registry.tags(REPOSITORY))}")


def main() -> int:
    """Run all steps of the demo."""
    start = time.perf_counter()
    remote = os.environ.get("DOCKHAND_BASE_URI")
    configure_logging()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dockhand-demo-")))
        receiver = None
        main_table = REMOTE_MAIN
        if not remote:
            print_title("Make a key to sign tokens, and a certificate for the registry")
            make_keys(folder)
            receiver = stack.enter_context(EventReceiver(folder / "inbox.db"))
            main_table = EMBEDDED_MAIN.format(notify=receiver.url, token=receiver.token)
        file = folder / "dockhand.toml"
        file.write_text(CONFIG.format(main=main_table))
        config = load_config(file)
        dockhand = stack.enter_context(Dockhand(config))
        print_title("Drivers of the installed plugins")
        show_drivers(dockhand.plugins)
        registry = dockhand.connection()
        registry.ping()
        print(f"   main is {registry!r}; its requests are logged to {LOG_FILE}")
        if not remote:
            print_title("Push without a valid token")
            show_refusals(config, folder)
        print_title("Push an image for two platforms to main")
        index = push(registry)
        print_title("List tags and repositories")
        list_content(registry)
        print_title("Choose a platform and download its layer, which is verified")
        pull(registry, folder)
        print_title("Copy the image to mirror with the async client; the requests to mirror:")
        asyncio.run(copy_to_mirror(config))
        print_title("Ask for a platform that the image lacks")
        try:
            registry.image(REPOSITORY, "v1", platform="windows/amd64")
        except DockhandError as error:
            print(textwrap.indent(textwrap.fill(f"{type(error).__name__}: {error}", 90), "   "))
        print_title("Delete a tag, then everything")
        delete(registry, index)
        if receiver is not None:
            print_title("Events that main sent meanwhile; the hook was called with each")
            receiver.show()
    print(f"Done in {time.perf_counter() - start:.1f} s.", end=" ")
    if remote:
        print(f"main was {remote}.")
    else:
        print("On a real registry: DOCKHAND_BASE_URI=http://localhost:5000 make demo")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DockhandError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
