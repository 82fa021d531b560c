"""An authority for the tests: its files, the endpoint served alone, and a registry's `auth`."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from dockhand_auth_jwt import SigningKey
from registries import HTPASSWD, PASSWORD, announced

SERVICE = "my_registry"
ISSUER = "my_auth"
USERS = {"alice": PASSWORD, "bob": "builder"}
# bob's is of "builder"
_HTPASSWD = HTPASSWD + "bob:$2b$04$qdXQsO7gqzKHCozPcHtSkuj7dzUeyN/hPDWLFn3KyWLvNlG48jrWu\n"

# As in the documentation, and a group.
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
    """An authority's files in a folder; gives `authority.toml`.

    Args:
        folder: made if it is not there.
        lines: more of `authority.toml`, before the rules.
        key: what signs; a new one unless given.
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
    """The endpoint, served alone; its URL, without a path. The file `log` says what it granted."""
    with (
        (config.parent / "log").open("wb") as log,
        announced("dockhand_token_server", "--config", str(config), "--verbose", stderr=log) as url,
    ):
        yield url


def registry_auth(folder: Path, url: str) -> dict[str, Any]:
    """The section `auth` of a registry that trusts an authority."""
    # crane refuses the address of loopback as a realm, but not its name
    realm = url.replace("127.0.0.1", "localhost") + "/token"
    bundle = str(folder / "bundle.pem")
    token = {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}
    return {"token": token}
