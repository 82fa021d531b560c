"""References of images: a host, a repository, and a tag or a digest.

Follows: the grammar of docker, which is the module `reference` of CNCF Distribution; OCI
Distribution Specification 1.1, "Pulling manifests", for the syntax of names and tags.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from dataclasses import dataclass

from dockhand_core.errors import DigestInvalid, NameInvalid, ReferenceInvalid, TagInvalid
from dockhand_core.models.digest import Digest, check_repository, check_tag

__all__ = [
    "DOCKER_HUB",
    "DOCKER_HUB_NAMES",
    "Reference",
    "check_text",
    "split_host",
    "split_repository",
]

DOCKER_HUB = "docker.io"
DOCKER_HUB_NAMES = frozenset({DOCKER_HUB, "index.docker.io", "registry-1.docker.io"})
_LABEL = "[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"{_LABEL}(?:\.{_LABEL})*")
_PORT = re.compile(r"[0-9]{1,5}")
_IMAGE_ID = re.compile(r"[a-f0-9]{64}")


@dataclass(frozen=True, slots=True)
class Reference:
    """The reference of an image, such as `registry.example.com:5000/library/nginx:1.27`.

    `str()` is the complete reference, which `parse` reads again.

    Args:
        host: host of the registry, with the port if one is given, such as `localhost:5000` or
            `[::1]:5000`. The names of Docker Hub, `index.docker.io` and `registry-1.docker.io`,
            become `docker.io`.
        repository: the repository's name; on `docker.io`, a name of one component is in `library/`.
        tag: the tag; None if only a digest is given, `latest` if neither is given.
        digest: the digest, or None. If a tag is given too, the digest is what is requested, and the
            tag is only a name.

    Raises:
        ReferenceInvalid: one of the parts is malformed; the message names it.
    """

    host: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    def __post_init__(self) -> None:
        host, port = split_host(self.host)
        if host.lower() in DOCKER_HUB_NAMES and port in (None, 443):
            object.__setattr__(self, "host", DOCKER_HUB)
            if isinstance(self.repository, str) and "/" not in self.repository:
                object.__setattr__(self, "repository", f"library/{self.repository}")
        try:
            check_repository(self.repository)
            if self.digest is not None:
                object.__setattr__(self, "digest", Digest(self.digest))
            elif self.tag is None:
                object.__setattr__(self, "tag", "latest")
            if self.tag is not None:
                check_tag(self.tag)
        except (NameInvalid, TagInvalid, DigestInvalid) as error:
            raise ReferenceInvalid(str(error)) from None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """Parse a reference by docker's rules.

        The form is `[host[:port]/]repository[:tag][@digest]`. The first component is a host if it
        contains a `.` or a `:`, or if it is `localhost`; otherwise the host is `docker.io`, and a
        repository of one component is in `library/`. The tag is `latest` if neither a tag nor a
        digest is given.

        Args:
            text: the reference.

        Raises:
            ReferenceInvalid: the text is not a reference; the message says which part is wrong. It
                does not show the text where this may contain a password.

        Follows: Distribution's `reference.ParseNormalizedNamed`.
        """
        check_text(text)
        if text.startswith("@"):
            raise ReferenceInvalid(
                "a reference begins with a host or a repository; `@connection/repository` can be "
                "used only where connections are configured, as in Dockhand.locate"
            )
        if _IMAGE_ID.fullmatch(text):
            raise ReferenceInvalid(
                f"{text!r} is the id of an image, not a reference: write repository@sha256:…"
            )
        host, slash, name = text.partition("/")
        is_host = host.startswith("[") or (
            "@" not in host and (host == "localhost" or "." in host or ":" in host)
        )
        if not (slash and is_host):
            host, name = DOCKER_HUB, text
        repository, tag, digest = split_repository(name)
        return cls(host, repository, tag, digest)

    def __str__(self) -> str:
        text = f"{self.host}/{self.repository}"
        if self.tag is not None:
            text += f":{self.tag}"
        return text if self.digest is None else f"{text}@{self.digest}"


def split_repository(text: str) -> tuple[str, str | None, Digest | None]:
    """Split `repository[:tag][@digest]`, and check the syntax of the parts.

    Raises:
        ReferenceInvalid: a part is malformed or missing. If there is an `@` without a digest, the
            text may contain a password, and the message does not show it.
    """
    name, at, encoded = text.partition("@")
    digest = _parse_digest(encoded) if at else None
    repository, colon, tag = name.partition(":")
    if not repository:
        raise ReferenceInvalid("the reference has no repository: host/repository:tag")
    if colon and "/" in tag:
        raise ReferenceInvalid(
            "the reference has a ':' in a component of the repository; only the first component, "
            "the host, has one for its port"
        )
    try:
        check_repository(repository)
        return repository, check_tag(tag) if colon else None, digest
    except NameInvalid as error:
        hint = ""
        if repository != repository.lower():
            hint = "; upper-case letters are allowed in tags only"
        elif "//" in repository or repository.startswith("/") or repository.endswith("/"):
            hint = "; a component is empty"
        raise ReferenceInvalid(f"{error}{hint}") from None
    except TagInvalid as error:
        raise ReferenceInvalid(str(error)) from None


def split_host(text: str) -> tuple[str, int | None]:
    """Split the host of a reference into name and port, and check the syntax of both.

    Returns:
        the name as it is written, or an IPv6 address in brackets in its shortest form; and the
        port, or None.

    Raises:
        ReferenceInvalid: the text is not `host`, `host:port` or `[IPv6 address]:port`. The message
            does not show the port, which may be a password whose host is missing.
    """
    if not isinstance(text, str):
        raise ReferenceInvalid(f"the host of a reference is a string, not {type(text).__name__}")
    name, colon, port = text.rpartition(":")
    if not colon or text.endswith("]"):
        name, colon, port = text, "", ""
    if name.startswith("[") and name.endswith("]"):
        try:
            address = ipaddress.IPv6Address(name[1:-1])
        except ValueError:
            address = None
        if address is None or address.scope_id is not None:
            raise ReferenceInvalid(
                "the host of the reference is not an IPv6 address in brackets, such as [::1]:5000"
            )
        name = f"[{address}]"
    elif ":" in name or not _HOST.fullmatch(name) or len(name) > 255:
        shown = f" {name!r}" if name and len(name) <= 160 and "@" not in text else ""
        raise ReferenceInvalid(
            f"the host{shown} of the reference is malformed: letters, digits, '.' and '-' are "
            "allowed, and an IPv6 address stands in brackets"
        )
    if not colon:
        return name, None
    if not _PORT.fullmatch(port) or not 0 < int(port) < 65536:
        raise ReferenceInvalid(f"the port of the host {name!r} is not a number from 1 to 65535")
    return name, int(port)


def check_text(text: str) -> None:
    """Refuse a text that cannot be a reference, with a message that does not show it."""
    if not isinstance(text, str):
        raise ReferenceInvalid(f"a reference is a string, not {type(text).__name__}")
    if not text:
        raise ReferenceInvalid("the reference is empty: [host/]repository[:tag] is expected")
    if len(text) > 2048:
        raise ReferenceInvalid(
            f"the reference has {len(text)} characters: a repository has 255 at most, a tag 128"
        )
    if "://" in text:
        raise ReferenceInvalid(
            "a reference has no scheme, and is no URL: write host/repository:tag instead"
        )
    if any(character.isspace() for character in text):
        raise ReferenceInvalid("the reference contains white space")


def _parse_digest(text: str) -> Digest:
    """Parse the part of a reference after its first `@`, and never show it."""
    with suppress(DigestInvalid):
        return Digest(text)
    algorithm, colon, encoded = text.partition(":")
    if colon and algorithm in ("sha256", "sha512") and "@" not in text and "/" not in text:
        length = 64 if algorithm == "sha256" else 128
        raise ReferenceInvalid(
            f"the digest of the reference is not {algorithm}: and {length} lower-case hex digits, "
            f"but has {len(encoded)} characters after the colon"
        )
    raise ReferenceInvalid(
        "the reference has no digest after '@', such as sha256:<64 hex digits>; credentials are "
        "settings of the connection, and have no place in a reference"
    )
