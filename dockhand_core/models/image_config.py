"""Image configs: how an image was built and how it runs.

Follows: OCI Image Specification 1.1, "Image Configuration".
"""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from pydantic import (
    AliasGenerator,
    BaseModel,
    BeforeValidator,
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


def _none_if_invalid(value: Any, handler: ModelWrapValidatorHandler[Any]) -> Any:
    """Replace an invalid date by None, because some builders write empty or truncated dates."""
    try:
        return handler(value)
    except ValidationError:
        return None


def _none_to_false(value: object) -> object:
    return False if value is None else value


Created = Annotated[datetime | None, WrapValidator(_none_if_invalid)]


class HistoryEntry(BaseModel):
    """One step of an image's build.

    Attributes:
        created: time of the step, or None if the config has no valid time.
        created_by: command that the step ran.
        author: author of the step.
        comment: comment on the step.
        empty_layer: True if the step added no layer to the image.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    created: Created = None
    created_by: str | None = None
    author: str | None = None
    comment: str | None = None
    empty_layer: Annotated[bool, BeforeValidator(_none_to_false)] = False


def _pascal_case(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


class _Runtime(BaseModel):
    """The object `config` of an image config."""

    model_config = ConfigDict(
        defer_build=True,
        frozen=True,
        extra="allow",
        alias_generator=AliasGenerator(alias=_pascal_case),
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
    """The object `rootfs` of an image config."""

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow")

    type: str | None = None
    diff_ids: tuple[str, ...] | None = None


class ImageConfig(BaseModel):
    """An image config: how an image was built and how it runs.

    Attributes:
        architecture: processor architecture in Go's names, such as `amd64`.
        os: operating system, such as `linux`.
        variant: variant of the architecture, such as `v8`.
        os_version: version of the operating system, such as `10.0.20348.1` for a Windows build.
        os_features: features of the operating system that the image requires.
        created: time of the build, or None if the config has no valid time.
        author: author of the image.
        runtime: the JSON object `config`; read its fields with properties such as `env`.
        rootfs: the JSON object `rootfs`; read its digests with the property `diff_ids`.
        history: steps of the build.
        raw: the exact bytes of the config, as received.
    """

    model_config = ConfigDict(defer_build=True, frozen=True, extra="allow", populate_by_name=True)

    architecture: str | None = None
    os: str | None = None
    variant: str | None = None
    os_version: str | None = Field(default=None, alias="os.version")
    os_features: tuple[str, ...] | None = Field(default=None, alias="os.features")
    created: Created = None
    author: str | None = None
    runtime: _Runtime | None = Field(default=None, alias="config")
    rootfs: _RootFs | None = None
    history: tuple[HistoryEntry, ...] | None = ()
    raw: bytes = Field(default=b"", exclude=True, repr=False)

    @property
    def platform(self) -> Platform | None:
        """The platform that the image runs on; None if the OS or architecture is absent."""
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
    def _runtime(self) -> _Runtime:
        return self.runtime or _Runtime()

    @property
    def labels(self) -> dict[str, str]:
        """The image's labels."""
        return self._runtime.labels or {}

    @property
    def env(self) -> dict[str, str]:
        """The environment variables, name to value; if a name is repeated, the last value."""
        pairs = (entry.partition("=") for entry in self._runtime.env or ())
        return {name: value for name, _, value in pairs}

    @property
    def entrypoint(self) -> list[str]:
        """The entrypoint: the program that runs, with its first arguments."""
        return self._runtime.entrypoint or []

    @property
    def cmd(self) -> list[str]:
        """The default command, or the default arguments of the entrypoint."""
        return self._runtime.cmd or []

    @property
    def working_dir(self) -> str:
        """The working directory of the command; empty if the image sets none."""
        return self._runtime.working_dir or ""

    @property
    def user(self) -> str:
        """The user that runs the command; empty if the image sets none."""
        return self._runtime.user or ""

    @property
    def exposed_ports(self) -> list[str]:
        """The ports that the image exposes, such as `8080/tcp`, sorted."""
        return sorted(self._runtime.exposed_ports or ())

    @property
    def diff_ids(self) -> tuple[str, ...]:
        """The digests of the uncompressed layers."""
        return (self.rootfs.diff_ids if self.rootfs else None) or ()

    @classmethod
    def parse(cls, raw: bytes) -> ImageConfig:
        """Parse the bytes of an image config.

        Raises:
            ManifestInvalid: the bytes are not JSON in the form of an image config; the message
                names the invalid field.
        """
        try:
            body = _OBJECT.validate_json(raw)
            return cls.model_validate({**body, "raw": raw})
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "body"
            raise ManifestInvalid(f"the image config's {where}: {first['msg']}") from None


_OBJECT = TypeAdapter(dict[str, Any], config=ConfigDict(defer_build=True))
