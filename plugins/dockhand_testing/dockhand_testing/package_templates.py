"""The files of a new plugin, made from the templates in the folder `templates`.

The templates of a kind are in a folder of its name, and those of all kinds in `common`. In the name
of a template, `PACKAGE` stands for the name of the import package, and `dot_` at the beginning of
a part for a dot.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from importlib import metadata, resources
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

from dockhand_testing.plugin_names import PluginNames

__all__ = ["render_package", "write_package"]

_SUFFIX = ".jinja"


def render_package(
    kind: str, names: PluginNames, *, description: str, author: str
) -> dict[str, str]:
    """Render the files of a package.

    Args:
        kind: the kind of plugin: the name of a folder in `templates`.
        names: the names of the plugin.
        description: what the package is, in one line.
        author: the author, for the licence.

    Returns:
        the text of each file, by its path, with `/` between its parts.
    """
    import jinja2

    environment = jinja2.Environment(
        autoescape=False,  # noqa: S701  # no HTML: Python, TOML and Markdown
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["toml"] = _toml_string
    values = {
        "kind": kind,
        "names": names,
        "name": names.name,
        "package": names.package,
        "Class": names.class_prefix,
        "description": description,
        "author": author,
        "year": datetime.now(UTC).year,
        "dockhand_version": ".".join(metadata.version("dockhand-core").split(".")[:2]),
    }
    templates = resources.files("dockhand_testing") / "templates"
    files = {}
    for folder in ("common", kind):
        for path, template in _templates(templates / folder, PurePosixPath()):
            text = environment.from_string(template.read_text("utf-8")).render(values)
            files[_file_name(path, names)] = text
    return dict(sorted(files.items()))


def _templates(
    folder: Traversable, path: PurePosixPath
) -> Iterator[tuple[PurePosixPath, Traversable]]:
    for entry in folder.iterdir():
        if entry.is_dir():
            yield from _templates(entry, path / entry.name)
        elif entry.name.endswith(_SUFFIX):
            yield path / entry.name, entry


def _file_name(path: PurePosixPath, names: PluginNames) -> str:
    parts = [
        f".{part[4:]}" if part.startswith("dot_") else part.replace("PACKAGE", names.package)
        for part in path.parts
    ]
    return "/".join(parts).removesuffix(_SUFFIX)


def _toml_string(text: str) -> str:
    """Write a text without control characters as a string of TOML."""
    return json.dumps(text, ensure_ascii=False)


def write_package(folder: Path, files: Mapping[str, str]) -> None:
    """Write files into a new folder: all of them, or if one cannot be written, none.

    Args:
        folder: the folder; it does not exist, or is empty.
        files: the text of each file, by its path in the folder.

    Raises:
        FileExistsError: there is a file of this name, or the folder is not empty.
        OSError: a file cannot be written.
    """
    if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        raise FileExistsError(f"{folder} exists, and is not a folder")
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"the folder {folder} exists, and is not empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    # written beside it, and renamed when everything is there
    with tempfile.TemporaryDirectory(
        prefix=f".{folder.name}-", dir=folder.parent, ignore_cleanup_errors=True
    ) as beside:
        made = Path(beside) / folder.name
        made.mkdir()
        for path, text in files.items():
            file = made / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, "utf-8", newline="\n")
        if folder.exists():
            folder.rmdir()
        made.rename(folder)
