"""The commands about the vulnerabilities that zot's scanner found."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, TypedDict

import typer
from dockhand_cli import session_of
from dockhand_cli.arguments import ConnectionArgument, ImageArgument, RepositoryArgument
from dockhand_cli.completion import complete_image, complete_platform
from dockhand_cli.exit_codes import UsageError
from dockhand_cli.help_texts import examples

from dockhand_zot.commands.clients import (
    zot_client,
    zot_image,
    zot_repository,
)
from dockhand_zot.commands.images import TAGGED, write_images

if TYPE_CHECKING:
    from dockhand_zot import CVE, Package

__all__ = ["Vulnerabilities", "app"]

app = typer.Typer()
_CVE_HELP = "the id of the vulnerability, such as CVE-2021-44228"


class VulnerablePackage(TypedDict):
    """A package that has a vulnerability.

    Attributes:
        path: path of the package in the image, or null.
        installed_version: the version that is installed.
        fixed_version: the version that has a fix, or null if none is known.
    """

    name: str
    path: str | None
    installed_version: str
    fixed_version: str | None


class Vulnerability(TypedDict):
    """A vulnerability.

    Attributes:
        id: the identifier, such as `CVE-2023-0464`.
        severity: `UNKNOWN`, `LOW`, `MEDIUM`, `HIGH` or `CRITICAL`.
        title: the title.
        description: the description.
        reference: URL of the advisory.
        packages: the packages that have it.
    """

    id: str
    severity: str
    title: str
    description: str
    reference: str
    packages: list[VulnerablePackage]


class Vulnerabilities(TypedDict):
    """The document of `dockhand zot cve --json` and `dockhand zot cve-diff --json`.

    Attributes:
        cves: the vulnerabilities, the most severe first.
    """

    cves: list[Vulnerability]


@app.command(
    epilog=examples(
        "dockhand zot cve @staging/team/app:v1",
        "dockhand zot cve @staging/team/app:v1 --severity critical --json",
    )
)
def cve(
    context: typer.Context,
    image: ImageArgument,
    severity: Annotated[
        str | None,
        typer.Option(
            metavar="SEVERITY", help="only this severity: critical, high, medium, low or unknown"
        ),
    ] = None,
    search: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="only those with this text in id, title or packages"),
    ] = None,
) -> None:
    """List the vulnerabilities of an image, the most severe first."""
    client, repository, reference = zot_image(context, image)
    _write(context, client.cves(repository, reference, severity=severity, search=search))


@app.command(epilog=examples("dockhand zot cve-diff @staging/team/app:v1 @staging/team/app:v2"))
def cve_diff(
    context: typer.Context,
    image: Annotated[str, typer.Argument(help=TAGGED, autocompletion=complete_image)],
    other: Annotated[
        str, typer.Argument(help="another image of the same zot", autocompletion=complete_image)
    ],
    platform: Annotated[
        str | None,
        typer.Option(
            metavar="OS/ARCH[/VARIANT]",
            help="the platform to compare, such as linux/amd64",
            autocompletion=complete_platform,
        ),
    ] = None,
) -> None:
    """List the vulnerabilities that IMAGE has and OTHER does not, the most severe first."""
    first, second = zot_image(context, image), zot_image(context, other)
    if first.client.driver.identity() != second.client.driver.identity():
        raise UsageError(f"{image} and {other} are in different registries; zot compares its own")
    _write(context, first.client.cve_diff(first.image, second.image, platform=platform))


@app.command(epilog=examples("dockhand zot images-with CVE-2021-44228 staging"))
def images_with(
    context: typer.Context,
    cve: Annotated[str, typer.Argument(help=_CVE_HELP)],
    connection: ConnectionArgument = None,
) -> None:
    """List the images, in any repository, that have a vulnerability."""
    write_images(context, zot_client(context, connection).images_with_cve(cve))


@app.command(epilog=examples("dockhand zot fixed CVE-2021-44228 @staging/team/app"))
def fixed(
    context: typer.Context,
    cve: Annotated[str, typer.Argument(help=_CVE_HELP)],
    repository: RepositoryArgument,
) -> None:
    """List the images of a repository that a vulnerability does not affect.

    It was fixed in these images, or they never had it.
    """
    place = zot_repository(context, repository)
    write_images(context, place.client.images_with_cve_fixed(cve, place.repository))


def _write(context: typer.Context, cves: list[CVE]) -> None:
    output = session_of(context).output
    if output.as_json:
        output.document(Vulnerabilities(cves=list(map(_form, cves))))
        return
    output.table(
        ("ID", "SEVERITY", "PACKAGES", "TITLE"),
        (
            (each.id, str(each.severity), ", ".join(map(_package_text, each.packages)), each.title)
            for each in cves
        ),
    )


def _form(cve: CVE) -> Vulnerability:
    return Vulnerability(
        id=cve.id,
        severity=str(cve.severity),
        title=cve.title,
        description=cve.description,
        reference=cve.reference,
        packages=[
            VulnerablePackage(
                name=package.name,
                path=package.path or None,
                installed_version=package.installed_version,
                fixed_version=package.fixed_version or None,
            )
            for package in cve.packages
        ],
    )


def _package_text(package: Package) -> str:
    hint = f" (fixed in {package.fixed_version})" if package.fixed_version else ""
    return f"{package.name} {package.installed_version}{hint}"
