"""The configuration of an image.

Follows: OCI Image Specification 1.1, "Image Configuration".
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AliasGenerator,
    BaseModel,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    WrapValidator,
)
from pydantic.functional_validators import ModelWrapValidatorHandler

from dockhand_core.errors import ManifestInvalid
from dockhand_core.models.platform import Platform

__all__ = ["HistoryEntry", "ImageConfig"]


def _or_none(value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
    """Builders leave dates empty or half-written; an image is not unreadable for that."""
    try:
        return handler(value)
    except ValidationError:
        return None


Moment = Annotated[datetime | None, WrapValidator(_or_none)]


class HistoryEntry(BaseModel):
    """One step of the build."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    created: Moment = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: bool = False


def _pascal(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


class _Runtime(BaseModel):
    """The object under `config`."""

    model_config = ConfigDict(
        defer_build=True, frozen=True, extra="allow", alias_generator=AliasGenerator(alias=_pascal)
    )

    user: str | None = None
    env: list[str] | None = None
    entrypoint: list[str] | None = None
    cmd: list[str] | None = None
    working_dir: str | None = None
    labels: dict[str, str] | None = None
    exposed_ports: dict[str, Any] | None = None
    volumes: dict[str, Any] | None = None
    stop_signal: str | None = None


class _RootFs(BaseModel):
    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    type: str | None = None
    diff_ids: tuple[str, ...] | None = None


class ImageConfig(BaseModel):
    """How an image was made and how it is run. `raw` keeps the exact bytes."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow", populate_by_name=True)

    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    os_version: str | None = Field(default=None, alias="os.version")
    os_features: tuple[str, ...] | None = Field(default=None, alias="os.features")
    created: Moment = None
    author: str | None = None
    runtime: _Runtime | None = Field(default=None, alias="config")
    rootfs: _RootFs | None = None
    history: tuple[HistoryEntry, ...] | None = ()
    raw: bytes = Field(default=b"", exclude=True, repr=False)

    @property
    def platform(self) -> Platform | None:
        """What the image runs on; None for an artifact that does not say."""
        if not self.os or not self.architecture:
            return None
        return Platform(
            os=self.os,
            architecture=self.architecture,
            variant=self.variant or None,
            os_version=self.os_version,
            os_features=self.os_features,
        )

    @property
    def _run(self) -> _Runtime:
        return self.runtime or _Runtime()

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels."""
        return self._run.labels or {}

    @property
    def env(self) -> dict[str, str]:
        """The environment, name to value; of a name given twice the last counts."""
        pairs = (entry.partition("=") for entry in self._run.env or ())
        return {name: value for name, _, value in pairs}

    @property
    def entrypoint(self) -> list[str]:
        """The command's fixed part."""
        return self._run.entrypoint or []

    @property
    def cmd(self) -> list[str]:
        """The command, or the arguments to the entrypoint."""
        return self._run.cmd or []

    @property
    def working_dir(self) -> str:
        """Where the command starts; empty where the image does not say."""
        return self._run.working_dir or ""

    @property
    def user(self) -> str:
        """Who runs the command; empty where the image does not say."""
        return self._run.user or ""

    @property
    def exposed_ports(self) -> list[str]:
        """The ports that the image listens on, such as `8080/tcp`."""
        return sorted(self._run.exposed_ports or ())

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the uncompressed layers."""
        return (self.rootfs.diff_ids if self.rootfs else None) or ()

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """The configuration that some bytes are.

        Raises:
            ManifestInvalid: they are not a JSON object of that form; the message says where.
        """
        try:
            body = _OBJECT.validate_json(raw)
            return cls.model_validate({**body, "raw": raw})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise ManifestInvalid(f"the image config's {where}: {first['msg']}") from None


_OBJECT = TypeAdapter(dict[str, Any], config=ConfigDict(defer_build=True))
