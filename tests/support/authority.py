"""A token authority for tests: its files, its server, and the `auth` section of a registry."""

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

# The groups and rules of `authority.toml`; the rules are those of the README.
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
        lines: more lines for `authority.toml`, placed before the rules.
        key: the private key; by default a new one.
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
    """Run a token server in a process of its own, and provide its URL without a path.

    The server logs every token that it issues in the file `log`, in the folder of `config`.
    """
    with (
        (config.parent / "log").open("wb") as log,
        running_server(
            "dockhand_token_server", "--config", str(config), "--verbose", stderr=log
        ) as url,
    ):
        yield url


def registry_auth(folder: Path, url: str) -> dict[str, Any]:
    """Return the `auth` section for a registry that trusts the authority at `url`."""
    # crane refuses a realm at the address 127.0.0.1, but not one at localhost
    realm = url.replace("127.0.0.1", "localhost") + "/token"
    bundle = str(folder / "bundle.pem")
    token = {"realm": realm, "service": SERVICE, "issuer": ISSUER, "rootcertbundle": bundle}
    return {"token": token}
