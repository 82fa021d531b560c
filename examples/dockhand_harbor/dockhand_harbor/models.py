"""The objects of Harbor's API, with the fields that are of use to programs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, AliasPath, BaseModel, BeforeValidator, Field, SecretStr

from dockhand_core.models import Digest

__all__ = ["Artifact", "Project", "RepositoryInfo", "Robot", "Tag"]


def _no_year_1(value: datetime) -> datetime | None:
    return None if value.year == 1 else value


def _expiry(value: Any) -> Any:
    return None if value == -1 else value


Time = Annotated[datetime, AfterValidator(_no_year_1)]  # Harbor writes `never` as the year 1


class Project(BaseModel, frozen=True):
    """A project, the first component of the names of its repositories.

    Attributes:
        id: the number that Harbor gave it.
        name: the name.
        public: whether everybody may pull, without an account.
        repositories: the number of its repositories.
        created: time of its creation.
        registry_id: for a proxy cache, the number of the registry that it caches; otherwise None.
    """

    id: int = Field(validation_alias="project_id")
    name: str
    public: bool = Field(default=False, validation_alias=AliasPath("metadata", "public"))
    repositories: int = Field(default=0, validation_alias="repo_count")
    created: datetime | None = Field(default=None, validation_alias="creation_time")
    registry_id: int | None = None


class RepositoryInfo(BaseModel, frozen=True):
    """A repository, as Harbor describes it.

    Attributes:
        name: the whole name, `project/repository`.
        artifacts: the number of its artifacts.
        pulls: the number of pulls so far.
        created, updated: times of the first and of the latest change.
    """

    name: str
    artifacts: int = Field(default=0, validation_alias="artifact_count")
    pulls: int = Field(default=0, validation_alias="pull_count")
    created: datetime | None = Field(default=None, validation_alias="creation_time")
    updated: datetime | None = Field(default=None, validation_alias="update_time")


class Tag(BaseModel, frozen=True):
    """A tag of an artifact.

    Attributes:
        name: the name.
        pushed_at: time of the push.
        pulled_at: time of the latest pull, or None if there was none.
    """

    name: str
    pushed_at: Time | None = Field(default=None, validation_alias="push_time")
    pulled_at: Time | None = Field(default=None, validation_alias="pull_time")


class Artifact(BaseModel, frozen=True):
    """A manifest or index in Harbor.

    Attributes:
        digest: the digest.
        media_type: the media type of the manifest.
        size: size in bytes, with all blobs.
        pushed_at: time of the push.
        pulled_at: time of the latest pull, or None if there was none.
        tags: the tags that point to it.
    """

    digest: Digest
    media_type: str = Field(default="", validation_alias="manifest_media_type")
    size: int = 0
    pushed_at: Time | None = Field(default=None, validation_alias="push_time")
    pulled_at: Time | None = Field(default=None, validation_alias="pull_time")
    tags: Annotated[tuple[Tag, ...], BeforeValidator(lambda value: value or ())] = ()


class Robot(BaseModel, frozen=True):
    """A robot account that was just created; Harbor shows its secret only now.

    Attributes:
        id: the number that Harbor gave it.
        name: the whole name to log in with, such as `robot$project+name`.
        secret: the password.
        expires_at: time at which it expires, or None if it never does.
    """

    id: int
    name: str
    secret: SecretStr
    expires_at: Annotated[datetime | None, BeforeValidator(_expiry)] = None
