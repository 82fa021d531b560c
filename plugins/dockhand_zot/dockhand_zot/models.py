"""What zot's extensions answer. Attributes are named as in the rest of Dockhand.

Sizes, which zot sends as text, are numbers; a time that it sends as the year 1 is None.

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
    """How bad a vulnerability is; they compare in that order."""

    UNKNOWN = "UNKNOWN"
    LOW = "LOW"
    MEDIUM = "MEDIUM"
    HIGH = "HIGH"
    CRITICAL = "CRITICAL"

    @property
    def rank(self) -> int:
        """Its place from 0, UNKNOWN, to 4, CRITICAL."""
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
    """zot says nothing, or NONE, of an image without vulnerabilities."""
    if value in (None, "", "NONE"):
        return None
    return value if value in set(Severity) else Severity.UNKNOWN


def _time(value: object) -> object:
    return None if isinstance(value, str) and value.startswith("0001-01-01T00:00:00") else value


def _platform(value: object) -> object:
    """zot's `Os` and `Arch`; an artifact has neither."""
    if not isinstance(value, dict):
        return value
    os, architecture = value.get("Os"), value.get("Arch")
    return Platform(os=os, architecture=architecture) if os and architecture else None


def _platforms(value: object) -> object:
    if not isinstance(value, list):
        return value or ()
    return tuple(found for found in map(_platform, value) if found)


def _present(value: object) -> object:
    """zot sends null for an empty list, and null for what is not there in one."""
    return [item for item in value if item is not None] if isinstance(value, list) else value or ()


def _text(value: object) -> object:
    return value if value is not None else ""


def _number(value: object) -> object:
    return value if value not in (None, "") else 0


Time = Annotated[datetime | None, BeforeValidator(_time)]
Text = Annotated[str, BeforeValidator(_text)]
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
    """A signature: the tool (`cosign`, `notation`), whether it is trusted, and by whom it is."""

    tool: Text = ""
    trusted: Flag = Field(False, alias="IsTrusted")
    author: Text = ""


class Vulnerabilities(_Model):
    """How many vulnerabilities an image has, by severity."""

    worst: Worst = Field(None, alias="MaxSeverity")
    count: Number = 0
    unknown: Number = Field(0, alias="UnknownCount")
    low: Number = Field(0, alias="LowCount")
    medium: Number = Field(0, alias="MediumCount")
    high: Number = Field(0, alias="HighCount")
    critical: Number = Field(0, alias="CriticalCount")


class Referrer(_Model):
    """A manifest that refers to another one."""

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
    """A manifest of an image: one, or one for each platform."""

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
    """What zot knows of an image.

    Attributes:
        repository, tag, digest, media_type: which it is.
        size: of it all, in bytes.
        pushed_at, tagged_at, last_pulled_at: when; None where zot does not know.
        last_updated: when it was built, as its configuration says.
        pushed_by: a user's name.
        manifests: one for each platform.
        vulnerabilities: as far as a scanner is on.
        title, description, …: what its annotations or labels say.
    """

    repository: Text = Field("", alias="RepoName")
    tag: Text = ""
    digest: Text = ""
    media_type: Text = ""
    artifact_type: Text = ""
    size: Number = 0
    download_count: Number = 0
    last_pulled_at: Time = Field(None, alias="LastPullTimestamp")
    pushed_at: Time = Field(None, alias="PushTimestamp")
    pushed_by: Text = ""
    tagged_at: Time = Field(None, alias="TaggedTimestamp")
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
    """What zot knows of a repository; `starred` and `bookmarked` are the asking user's."""

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
    """What a search found: a part of a name finds repositories, `repository:tag` finds images."""

    repositories: Annotated[tuple[RepositorySummary, ...], BeforeValidator(_present)] = Field(
        (), alias="Repos"
    )
    images: Annotated[tuple[ImageSummary, ...], BeforeValidator(_present)] = ()
    layers: Annotated[tuple[Layer, ...], BeforeValidator(_present)] = ()


class Package(_Model):
    """A package that has a vulnerability; `fixed_version` is empty where no fix is known."""

    name: Text = ""
    path: Text = Field("", alias="PackagePath")
    installed_version: Text = ""
    fixed_version: Text = ""


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
    """A part of a registry's API beyond the specification; zot has one, with many endpoints."""

    model_config = ConfigDict(frozen=True)

    name: str
    url: Text = ""
    description: Text = ""
    endpoints: Annotated[tuple[str, ...], BeforeValidator(_present)] = ()


class ApiKey(BaseModel):
    """An API key, without the key itself, which nobody is shown twice."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    id: str = Field(alias="uuid")
    label: Text = ""
    scopes: Annotated[tuple[str, ...], BeforeValidator(_present)] = ()
    created_at: Time = Field(None, alias="createdAt")
    expires_at: Time = Field(None, alias="expirationDate")
    last_used_at: Time = Field(None, alias="lastUsed")
    expired: Flag = Field(False, alias="isExpired")


class NewApiKey(ApiKey):
    """An API key that was just made: `api_key` is the secret, shown this once."""

    api_key: SecretStr = Field(alias="apiKey")


class ServerInfo(BaseModel):
    """What a zot says of itself.

    Attributes:
        version: its release, such as `v2.1.20`.
        commit, binary_type, spec_version: of the program, and of the specification it follows.
        auth: how one can log in: `htpasswd`, `bearer`, `ldap`, `openid`, `apikey` …, and what is
            to be known of each.
    """

    model_config = ConfigDict(frozen=True, populate_by_name=True)

    version: Text = Field("", alias="releaseTag")
    commit: Text = ""
    binary_type: Text = Field("", alias="binaryType")
    spec_version: Text = Field("", alias="distSpecVersion")
    auth: Annotated[dict[str, Any], BeforeValidator(lambda v: v if isinstance(v, dict) else {})] = (
        Field(default_factory=dict)
    )
