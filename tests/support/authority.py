"""An authority for tests: its files, a token server process, and a registry's `auth` section."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dockhand_auth_jwt import SigningKey
from registries import HTPASSWD, PASSWORD, running_server

SERVICE = "my_registry"
ISSUER = "my_auth"
USERS = {"alice": PASSWORD, "bob": "builder"}
_HTPASSWD = HTPASSWD + "bob:$2b$04$qdXQsO7gqzKHCozPcHtSkuj7dzUeyN/hPDWLFn3KyWLvNlG48jrWu\n"

# The rules of the README, and a group.
RULES = """
[groups]
readers = ["bob"]

[[rules]]
user = "alice"
repository = "alice/*"
actions = ["pull", "push", "delete"]

[[rules]]
user = "*"
repository = "{user}/*"
actions = ["pull", "push"]

[[rules]]
user = "alice"
type = "registry"
name = "catalog"
actions = ["*"]

[[rules]]
group = "readers"
repository = "alice/shared"
actions = ["pull"]

[[rules]]
user = ""
repository = "public/*"
actions = ["pull"]

[[rules]]
user = "alice"
repository = "public/**"
actions = ["*"]
"""


def write_authority(folder: Path, *lines: str, key: SigningKey | None = None) -> Path:
    """Write an authority's files, and return the path of `authority.toml`.

    Args:
        folder: the folder of the files, created if it does not exist.
        lines: more lines of `authority.toml`, before the rules.
        key: the private key; a new one unless given.
    """
    folder.mkdir(parents=True, exist_ok=True)
    key = key or SigningKey.generate()
    (folder / "private.pem").write_bytes(key.private_pem())
    (folder / "bundle.pem").write_bytes(key.self_signed_certificate(ISSUER))
    (folder / "htpasswd").write_text(_HTPASSWD)
    settings = [
        f'issuer = "{ISSUER}"', f'services = ["{SERVICE}"]',
        'private_key = "private.pem"', 'users = "htpasswd"',
    ]  # fmt: skip
    file = folder / "authority.toml"
    file.write_text("\n".join([*settings, *lines]) + "\n" + RULES)
    return file


@contextmanager
def token_server(config: Path) -> Iterator[str]:
    """A token server in a process of its own; its URL without a path.

    It logs every issued token in the file `log` beside its settings.
    """
    with (
        (config.parent / "log").open("wb") as log,
        running_server(
            "dockhand_token_server", "--config", str(config), "--verbose", stderr=log
        ) as url,
    ):
        yield url


def registry_auth(folder: Path, url: str) -> dict[str, Any]:
    """The `auth` section of a registry that trusts the authority at a URL."""
    # crane refuses a loopback address as the host of a realm, but not its name
    realm = url.replace("127.0.0.1", "localhost") + "/token"
    bundle = str(folder / "bundle.pem")
    token = {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}
    return {"token": token}
