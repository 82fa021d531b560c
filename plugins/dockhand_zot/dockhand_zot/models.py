"""The results of zot's extensions.

Attributes have the names that Dockhand uses elsewhere, not always those of zot. Sizes are in bytes,
as numbers, although zot sends them as text. A time in the year 1 means that zot does not know the
time; the attribute is then None.

Follows: zot's GraphQL schema, and its API documentation.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, SecretStr
from pydantic.alias_generators import to_pascal

from dockhand_core import Platform

__all__ = [
    "CVE",
    "ApiKey",
    "Extension",
    "ImageSummary",
    "Layer",
    "ManifestSummary",
    "NewApiKey",
    "Package",
    "Referrer",
    "RepositoryInfo",
    "RepositorySummary",
    "SearchResult",
    "ServerInfo",
    "Severity",
    "Signature",
    "Vulnerabilities",
]


class Severity(StrEnum):
    """The severity of a vulnerability. Severities can be compared: UNKNOWN is the lowest."""

    UNKNOWN = "UNKNOWN"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @property
    def rank(self) -> int:
        """The severity as a number, from 0 (UNKNOWN) to 4 (CRITICAL)."""
        return list(Severity).index(self)

    def __lt__(self, other: str) -> bool:
        return self.rank < Severity(other).rank

    def __le__(self, other: str) -> bool:
        return self.rank <= Severity(other).rank

    def __gt__(self, other: str) -> bool:
        return self.rank > Severity(other).rank

    def __ge__(self, other: str) -> bool:
        return self.rank >= Severity(other).rank


def _severity(value: object) -> object:
    """The severity; None for an image without vulnerabilities: zot sends NONE, '' or null."""
    if value in (None, "", "NONE"):
        return None
    return value if value in set(Severity) else Severity.UNKNOWN


def _time(value: object) -> object:
    return None if isinstance(value, str) and value.startswith("0001-01-01T00:00:00") else value


def _event_time(value: object) -> object:
    """The time of an event; zot sends the year 1 or 1970 for an event that never happened."""
    return None if isinstance(value, str) and value.startswith("1970-01-01T00:00:00") else value


def _platform(value: object) -> object:
    """The platform in zot's `Os` and `Arch`; None for an artifact, which has neither."""
    if not isinstance(value, dict):
        return value
    os, architecture = value.get("Os"), value.get("Arch")
    return Platform(os=os, architecture=architecture) if os and architecture else None


def _platforms(value: object) -> object:
    if not isinstance(value, list):
        return value or ()
    return tuple(found for found in map(_platform, value) if found)


def _present(value: object) -> object:
    """The items of a list that are not null; no items if zot sends null instead of a list."""
    return [item for item in value if item is not None] if isinstance(value, list) else value or ()


def _text(value: object) -> object:
    return value if value is not None else ""


def _specified(value: object) -> object:
    """A text that may be missing; zot sends null or `Not Specified` then."""
    return "" if value in (None, "Not Specified") else value


def _number(value: object) -> object:
    return value if value not in (None, "") else 0


Time = Annotated[datetime | None, BeforeValidator(_time)]
EventTime = Annotated[datetime | None, BeforeValidator(_event_time), BeforeValidator(_time)]
Text = Annotated[str, BeforeValidator(_text)]
MaybeText = Annotated[str, BeforeValidator(_specified)]
Number = Annotated[int, BeforeValidator(_number)]
Flag = Annotated[bool, BeforeValidator(bool)]
MaybePlatform = Annotated[Platform | None, BeforeValidator(_platform)]
Worst = Annotated[Severity | None, BeforeValidator(_severity)]


class _Model(BaseModel):
    model_config = ConfigDict(
        frozen=True, populate_by_name=True, alias_generator=to_pascal, defer_build=True
    )


class Layer(_Model):
    """A layer: its digest, and its size in bytes."""

    digest: Text = ""
    size: Number = 0


class Signature(_Model):
    """A signature: its author, the tool that made it (`cosign`, `notation`), and zot's verdict.

    `trusted` is true if zot trusts the signature.
    """

    tool: Text = ""
    trusted: Flag = Field(False, alias="IsTrusted")
    author: Text = ""


class Vulnerabilities(_Model):
    """The number of vulnerabilities of an image, in total and by severity."""

    worst: Worst = Field(None, alias="MaxSeverity")
    count: Number = 0
    unknown: Number = Field(0, alias="UnknownCount")
    low: Number = Field(0, alias="LowCount")
    medium: Number = Field(0, alias="MediumCount")
    high: Number = Field(0, alias="HighCount")
    critical: Number = Field(0, alias="CriticalCount")


class Referrer(_Model):
    """A referrer: a manifest whose subject is the image."""

    media_type: Text = ""
    artifact_type: Text = ""
    size: Number = 0
    digest: Text = ""
    annotations: Annotated[
        dict[str, str],
        BeforeValidator(
            lambda v: v if isinstance(v, dict) else {a["Key"]: a["Value"] for a in v or ()}
        ),
    ] = Field(default_factory=dict)


class ManifestSummary(_Model):
    """A manifest of an image, which has one manifest for each platform."""

    digest: Text = ""
    config_digest: Text = ""
    last_updated: Time = None
    size: Number = 0
    signed: Flag = Field(False, alias="IsSigned")
    platform: MaybePlatform = None
    download_count: Number = 0
    layers: Annotated[tuple[Layer, ...], BeforeValidator(_present)] = ()
    artifact_type: Text = ""


class ImageSummary(_Model):
    """An image with the details that zot stores.

    Attributes:
        repository, tag, digest, media_type: the identity of the image.
        size: the total size of the image, in bytes.
        pushed_at, tagged_at, last_pulled_at: times; None if zot does not know them.
        last_updated: the time of the build, from the image's config.
        pushed_by: the name of the user who pushed the image.
        manifests: one manifest for each platform.
        vulnerabilities: the numbers of vulnerabilities, if zot's scanner is on.
        title, description, …: values of the image's annotations or labels.
    """

    repository: Text = Field("", alias="RepoName")
    tag: Text = ""
    digest: Text = ""
    media_type: Text = ""
    artifact_type: Text = ""
    size: Number = 0
    download_count: Number = 0
    last_pulled_at: EventTime = Field(None, alias="LastPullTimestamp")
    pushed_at: EventTime = Field(None, alias="PushTimestamp")
    pushed_by: Text = ""
    tagged_at: EventTime = Field(None, alias="TaggedTimestamp")
    last_updated: Time = None
    signed: Flag = Field(False, alias="IsSigned")
    signatures: Annotated[tuple[Signature, ...], BeforeValidator(_present)] = Field(
        (), alias="SignatureInfo"
    )
    manifests: Annotated[tuple[ManifestSummary, ...], BeforeValidator(_present)] = ()
    referrers: Annotated[tuple[Referrer, ...], BeforeValidator(_present)] = ()
    vulnerabilities: Vulnerabilities | None = None
    title: Text = ""
    description: Text = ""
    licenses: Text = ""
    labels: Text = ""
    source: Text = ""
    documentation: Text = ""
    vendor: Text = ""
    authors: Text = ""


class RepositorySummary(_Model):
    """A repository with the details that zot stores.

    `starred` and `bookmarked` tell whether the logged-in user has starred or bookmarked it.
    """

    name: Text = ""
    last_updated: Time = None
    size: Number = 0
    platforms: Annotated[tuple[Platform, ...], BeforeValidator(_platforms)] = ()
    vendors: Annotated[tuple[str, ...], BeforeValidator(_present)] = ()
    newest_image: ImageSummary | None = None
    download_count: Number = 0
    star_count: Number = 0
    starred: Flag = Field(False, alias="IsStarred")
    bookmarked: Flag = Field(False, alias="IsBookmarked")
    rank: Number = 0


class RepositoryInfo(_Model):
    """A repository with all of its images."""

    summary: RepositorySummary
    images: Annotated[tuple[ImageSummary, ...], BeforeValidator(_present)] = ()


class SearchResult(_Model):
    """The results of `global_search`: repositories or images, depending on the search text."""

    repositories: Annotated[tuple[RepositorySummary, ...], BeforeValidator(_present)] = Field(
        (), alias="Repos"
    )
    images: Annotated[tuple[ImageSummary, ...], BeforeValidator(_present)] = ()
    layers: Annotated[tuple[Layer, ...], BeforeValidator(_present)] = ()


class Package(_Model):
    """A package that has a vulnerability.

    `fixed_version` is empty if no fix is known, `path` if zot does not know it.
    """

    name: Text = ""
    path: MaybeText = Field("", alias="PackagePath")
    installed_version: Text = ""
    fixed_version: MaybeText = ""


class CVE(_Model):
    """A vulnerability."""

    id: Text = ""
    title: Text = ""
    description: Text = ""
    reference: Text = ""
    severity: Annotated[
        Severity, BeforeValidator(lambda v: v if v in set(Severity) else Severity.UNKNOWN)
    ] = Severity.UNKNOWN
    packages: Annotated[tuple[Package, ...], BeforeValidator(_present)] = Field(
        (), alias="PackageList"
    )


class Extension(BaseModel):
    """An extension of a registry's API. zot has a single extension, with many endpoints."""

    model_config = ConfigDict(frozen=True)

    name: str
    url: Text = ""
    description: Text = ""
    endpoints: Annotated[tuple[str, ...], BeforeValidator(_present)] = ()


class ApiKey(BaseModel):
    """An API key without its secret. zot shows the secret only once, in `NewApiKey`."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str = Field(alias="uuid")
    label: Text = ""
    scopes: Annotated[tuple[str, ...], BeforeValidator(_present)] = ()
    created_at: Time = Field(None, alias="createdAt")
    expires_at: Time = Field(None, alias="expirationDate")
    last_used_at: Time = Field(None, alias="lastUsed")
    expired: Flag = Field(False, alias="isExpired")


class NewApiKey(ApiKey):
    """A newly created API key; `api_key` is its secret, which zot never shows again."""

    api_key: SecretStr = Field(alias="apiKey")


class ServerInfo(BaseModel):
    """The version of a zot server, and its ways to log in.

    Attributes:
        version: the release, such as `v2.1.20`.
        commit: the commit that the server was built from.
        binary_type: the kind of build.
        spec_version: the version of the Distribution specification that zot implements.
        auth: the ways to log in (`htpasswd`, `bearer`, `ldap`, `openid`, `apikey` …), with the
            details of each.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    version: Text = Field("", alias="releaseTag")
    commit: Text = ""
    binary_type: Text = Field("", alias="binaryType")
    spec_version: Text = Field("", alias="distSpecVersion")
    auth: Annotated[dict[str, Any], BeforeValidator(lambda v: v if isinstance(v, dict) else {})] = (
        Field(default_factory=dict)
    )
