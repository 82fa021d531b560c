"""The command `dockhand inspect`."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Annotated

import typer

from dockhand_cli.arguments import ImageArgument
from dockhand_cli.completion import complete_platform
from dockhand_cli.exit_codes import CommandFailed, UsageError
from dockhand_cli.help_texts import examples
from dockhand_cli.session import session_of

if TYPE_CHECKING:
    from dockhand_cli.output import Output
    from dockhand_core import ImageConfig, ImageIndex, ImageManifest, RegistryClient

app = typer.Typer()

_CONFIG_LIMIT = 8 << 20  # bytes


@app.command(
    epilog=examples(
        "dockhand inspect localhost:5000/app:v1",
        "dockhand inspect @staging/app:v1 --platform linux/arm64",
        "dockhand inspect localhost:5000/app:v1 --config",
        "dockhand inspect localhost:5000/app:v1 --raw",
    )
)
def inspect(
    context: typer.Context,
    image: ImageArgument,
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="OS/ARCH[/VARIANT]",
            help="of an index, the image of this platform",
            autocompletion=complete_platform,
        ),
    ] = None,
    config: Annotated[
        bool,
        typer.Option(
            "--config",
            help="the image's config as JSON; of an index, that of linux/amd64 unless --platform "
            "says otherwise. A configuration file is named before the command: "
            "dockhand --config FILE inspect",
        ),
    ] = False,
    raw: Annotated[
        bool,
        typer.Option(
            "--raw", help="the exact bytes of the manifest or index, or with --config of the config"
        ),
    ] = False,
) -> None:
    """Show an image or an index: digest, platforms, sizes, layers, labels and settings.

    In a pipe, the output of --raw is exactly the bytes that the registry stores, verified against
    their digest, without a line end added.
    """
    session = session_of(context)
    output = session.output
    if raw and output.as_json:
        raise UsageError("--raw and --json contradict each other")
    client, repository, reference = session.place(image)
    found: ImageManifest | ImageIndex
    if platform is not None:
        found = client.image(repository, reference, platform=platform)
    elif config:
        found = client.image(repository, reference)
    else:
        found = client.manifest(repository, reference)
    if config:
        assert not found.is_index
        data = client.read_blob(repository, found.config, max_size=_CONFIG_LIMIT)  # type: ignore[union-attr]
        if raw:
            _write_raw(output, data)
        else:
            output.document(_parsed(data, found.config.media_type))  # type: ignore[union-attr]
        return
    if raw:
        _write_raw(output, found.raw)
        return
    from dockhand_cli.inspection import inspection_of, show_inspection

    result = inspection_of(image, repository, found, _config_of(output, client, repository, found))
    if output.as_json:
        output.document(result)
    else:
        show_inspection(output, result)


def _write_raw(output: Output, data: bytes) -> None:
    from dockhand_cli.exact_bytes import show_text, write_stdout

    if output.is_terminal:
        show_text(data.decode(errors="backslashreplace"))
    else:
        write_stdout(data)


def _parsed(data: bytes, media_type: str) -> object:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise CommandFailed(
            f"the config, of the media type {media_type}, is not JSON; --raw writes its bytes"
        ) from None


def _config_of(
    output: Output,
    client: RegistryClient,
    repository: str,
    manifest: ImageManifest | ImageIndex,
) -> ImageConfig | None:
    """The config of an image; None for an index, for an artifact, and if it cannot be read."""
    from dockhand_core.errors import (
        DigestMismatch,
        ManifestInvalid,
        NotFound,
        ResponseTooLarge,
        SizeInvalid,
    )
    from dockhand_core.models import ImageIndex, media

    if isinstance(manifest, ImageIndex) or manifest.config.media_type not in media.IMAGE_CONFIGS:
        return None
    try:
        return client.image_config(repository, manifest)
    except (DigestMismatch, ManifestInvalid, NotFound, ResponseTooLarge, SizeInvalid) as error:
        output.warning(f"the image's config cannot be read: {error}")
        return None
