"""The main job from end to end: two registries, one image for two platforms.

Without settings, both registries are folders on this machine. `main` wants a token for whatever is
done with it, and Dockhand is the authority that signs them; what happens there is told to a
receiver, which calls a hook. With DOCKHAND_BASE_URI (and DOCKHAND_AUTH_DRIVER, DOCKHAND_USERNAME,
DOCKHAND_PASSWORD …) the connection `main` is a real one.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import io
import json
import os
import random
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import notified
from dockhand_auth_jwt import SigningKey, TokenService

from dockhand_core import (
    AsyncDockhand,
    Descriptor,
    Dockhand,
    DockhandConfig,
    DockhandError,
    ImageIndex,
    ImageManifest,
    Platform,
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

MAIN_ON_DISK = """\
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
driver = "console"
level = "info"
"""
MAIN_REAL = """\
driver = "distribution"  # the environment says where
logging = { driver = "console", level = "info" }
"""
CONFIG = """
default = "main"

[connections.main]
{main}
[connections.mirror]
driver = "embedded"
root = "mirror"
timeout = 5.0
logging = {{ driver = "json", level = "info" }}
"""


def title(text: str) -> None:
    """Say what comes next."""
    sys.stderr.flush()
    print(f"\n── {text} ", flush=True)


def bar(done: int, total: int | None) -> None:
    """A progress function, as uploads and downloads take it."""
    if done != total and not sys.stdout.isatty():
        return
    share = done / total if total else 1.0
    print(f"\r   [{'█' * int(share * 30):30}] {done / 1e6:6.2f} MB", end="", flush=True)
    if done == total:
        print(flush=True)


def authority(folder: Path) -> None:
    """Make the key that signs, and the certificate that the registry trusts."""
    key = SigningKey.generate()
    (folder / "keys").mkdir()
    (folder / "keys" / "private.pem").write_bytes(key.private_pem())
    (folder / "keys" / "certificate.pem").write_bytes(key.self_signed_certificate("demo_authority"))
    print(f"   {key!r}")


def strangers(config: DockhandConfig, folder: Path) -> None:
    """What happens to those whom the authority does not know, and to tokens for something else."""
    key = SigningKey.load(folder / "keys" / "private.pem")
    service = TokenService(key, issuer="demo_authority", audience="demo_registry")
    narrow = service.builder().related_to("alice").with_scope(Scope.read("alice/app"))
    table = config.connection("main")[1]
    door = {key: value for key, value in table.options.items() if key.startswith("token_")}
    door["token_certificate"] = folder / door["token_certificate"]
    for who, auth in (
        ("nobody", {"driver": "null"}),
        ("alice, for alice/app", {"driver": "bearer", "token": service.sign(narrow)}),
        (
            "another authority",
            {
                "driver": "jwt",
                "private_key": SigningKey.generate().private_pem().decode(),
                "authority_name": "demo_authority",
                "registry_name": "demo_registry",
            },
        ),
    ):
        quiet = {"driver": "null"}
        root = str(folder / "main")
        with connect(root, driver="embedded", auth=auth, logging=quiet, **door) as registry:
            try:
                registry.put_manifest(REPOSITORY, "v1", ImageIndex(manifests=()))
            except Unauthorized as error:
                print(f"   {who}: {str(error).partition(': ')[2]}")


def layer(seed: int) -> tuple[bytes, str]:
    """A layer of some two MiB, and the digest of what is in it uncompressed."""
    data = random.Random(seed).randbytes(2 << 20)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo("usr/share/hello")
        entry.size = len(data)
        tar.addfile(entry, io.BytesIO(data))
    plain = buffer.getvalue()
    return gzip.compress(plain, 1, mtime=0), f"sha256:{hashlib.sha256(plain).hexdigest()}"


def push(registry: RegistryClient) -> ImageIndex:
    """Build an image for each platform, push them, and an index over them."""
    entries = []
    for seed, name in enumerate(PLATFORMS):
        platform = Platform.parse(name)
        blob, diff_id = layer(seed)
        config = json.dumps(
            {
                "os": platform.os,
                "architecture": platform.architecture,
                "variant": platform.variant,
                "config": {"Entrypoint": ["/hello"], "Labels": {"made-by": "dockhand"}},
                "rootfs": {"type": "layers", "diff_ids": [diff_id]},
            }
        ).encode()
        print(f"   {name}", flush=True)
        pushed = registry.upload_blob(REPOSITORY, blob, progress=bar)
        kept = registry.upload_blob(REPOSITORY, config)
        manifest = ImageManifest(
            config=Descriptor(media_type=media.OCI_CONFIG, digest=kept.digest, size=len(config)),
            layers=(
                Descriptor(media_type=media.OCI_LAYER_GZIP, digest=pushed.digest, size=len(blob)),
            ),
        )
        registry.put_manifest(REPOSITORY, manifest.digest, manifest)
        entries.append(manifest.descriptor().model_copy(update={"platform": platform}))
    index = ImageIndex(manifests=tuple(entries))
    for tag in ("v1", "v1.0", "latest"):
        registry.put_manifest(REPOSITORY, tag, index)
    return index


def look(registry: RegistryClient) -> None:
    """List what is there, a page at a time and as a whole."""
    page = registry.tag_page(REPOSITORY, limit=2)
    while True:
        more = " …" if page.has_more else ""
        print(f"   a page of tags: {', '.join(page.items)}{more}")
        if not page.has_more:
            break
        page = registry.tag_page(REPOSITORY, limit=2, after=page.next)
    mine = [name for name in registry.repositories() if name == REPOSITORY]
    print(f"   among the repositories: {', '.join(mine)}")


def pull(registry: RegistryClient, folder: Path) -> None:
    """Pick a platform, and download its layer, verified as it arrives."""
    image = registry.image(REPOSITORY, "latest", platform="linux/arm64")
    config = registry.image_config(REPOSITORY, image)
    print(f"   {config.platform}: {image.size} bytes, labels {config.labels}", flush=True)
    path = registry.download_blob(
        REPOSITORY, image.layers[0].digest, folder / "layer.tar.gz", progress=bar
    )
    print(f"   {path.name}: {path.stat().st_size} bytes, sha256 verified")


async def mirror(config: DockhandConfig) -> None:
    """Copy all platforms from one connection to the other, at once, with the async client."""
    async with AsyncDockhand(config) as dockhand:
        source, target = dockhand.connection("main"), dockhand.connection("mirror")

        async def copy(entry: Descriptor) -> None:
            manifest = await source.manifest(REPOSITORY, entry)
            assert isinstance(manifest, ImageManifest)
            for blob in (manifest.config, *manifest.layers):
                async with source.open_blob(REPOSITORY, blob.digest) as data:
                    await target.upload_blob(REPOSITORY, data, digest=blob.digest)
            await target.put_manifest(REPOSITORY, entry.digest, manifest)

        index = await source.manifest(REPOSITORY, "v1")
        assert isinstance(index, ImageIndex)
        await asyncio.gather(*(copy(entry) for entry in index.manifests))
        await target.put_manifest(REPOSITORY, "v1", index)
        print(f"   the mirror has {[tag async for tag in target.tags(REPOSITORY)]}")


def clean_up(registry: RegistryClient, index: ImageIndex) -> None:
    """Delete a tag alone, then the manifests with all that leads to them."""
    try:
        registry.delete_tag(REPOSITORY, "v1.0")
        print(f"   tag v1.0 is gone; left: {', '.join(sorted(registry.tags(REPOSITORY)))}")
    except Unsupported as error:
        print(f"   {error}")
    for digest in (index.digest, *(entry.digest for entry in index.manifests)):
        registry.delete_manifest(REPOSITORY, digest)
    print(f"   manifests deleted by digest; tags left: {list(registry.tags(REPOSITORY))}")


def main() -> int:
    """Run it all."""
    start = time.perf_counter()
    real = os.environ.get("DOCKHAND_BASE_URI")
    with tempfile.TemporaryDirectory(prefix="dockhand-demo-") as name:
        folder = Path(name)
        if not real:
            title("Dockhand is the authority: a key, and a certificate for the registry")
            authority(folder)
        file = folder / "dockhand.toml"
        stack = contextlib.ExitStack()
        if real:
            receiver, table = None, MAIN_REAL
        else:
            receiver = stack.enter_context(notified.Receiver(folder / "inbox.db"))
            table = MAIN_ON_DISK.format(notify=receiver.url, token=receiver.token)
        file.write_text(CONFIG.format(main=table))
        config = load_config(file)
        with stack, Dockhand(config) as dockhand:
            title("installed plugins")
            for plugin in dockhand.plugins:
                print(f"   {plugin}")
            registry = dockhand.connection()
            registry.ping()
            print(f"   main is {registry!r}, {registry.api_version()}")
            if not real:
                title("whom the registry does not let in")
                strangers(config, folder)
            title("push an image for two platforms to main")
            index = push(registry)
            title("list what is there")
            look(registry)
            title("pick a platform, download it")
            pull(registry, folder)
            title("copy it to mirror, with the async client (its log is JSON)")
            asyncio.run(mirror(config))
            title("a mistake, and what is said about it")
            try:
                registry.image(REPOSITORY, "v1", platform="windows/amd64")
            except DockhandError as error:
                print(f"   {type(error).__name__}: {error}")
            title("delete")
            clean_up(registry, index)
            if receiver is not None:
                title("what main told of all this: each line a call of a hook, from the inbox")
                receiver.show()
    print(f"\nDone in {time.perf_counter() - start:.1f} s.", end=" ")
    if real:
        print("That was a real registry.")
    else:
        print("The same on a real registry: DOCKHAND_BASE_URI=http://localhost:5000 make demo")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except DockhandError as problem:
        sys.exit(f"{type(problem).__name__}: {problem}")
