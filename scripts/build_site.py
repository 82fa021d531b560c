"""Assemble the pages of the site in `build/docs`, and build `site/` from them.

The pages are those of `docs/`, the documents and READMEs of the repository, and the reference,
which is made from the code. A link to a file that is a page of the site leads to that page; a link
to another file of the repository becomes plain text.

With `--pages`, only assemble the pages.
"""

from __future__ import annotations

import json
import os
import posixpath
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

from api_pages import MODULES, api
from contract_pages import contracts
from example_pages import example_sources, filled, with_source
from reference_pages import reference

ROOT = Path(__file__).parents[1]
BUILD = ROOT / "build"
DOCUMENTS = {
    "README.md": "overview.md",
    "CHANGELOG.md": "changelog.md",
    "CONTRIBUTING.md": "contributing.md",
    "SECURITY.md": "security.md",
    "benchmarks/README.md": "benchmarks.md",
}
# The generator makes index.html of README.md, too, so the page of the command `index` has another
# name.
_COMMANDS = {
    "docs/commands/README.md": "commands/index.md",
    "docs/commands/index.md": "commands/dockhand-index.md",
}
_LINK = re.compile(r"(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
FENCE = re.compile(r"^( *)(`{3,})[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)
_NOTE = re.compile(r"^ *<!-- (?:not run|exit)\b.*-->\n", re.MULTILINE)  # for the tests


def sources() -> dict[str, str]:
    """The path in the site of each page, by the path of its file in the repository."""
    found = dict(DOCUMENTS)
    for readme in sorted(ROOT.glob("plugins/*/README.md")):
        found[f"plugins/{readme.parent.name}/README.md"] = (
            f"packages/{readme.parent.name.replace('_', '-')}.md"
        )
    found |= example_sources()
    for page in sorted((ROOT / "docs").rglob("*.md")):
        found[page.relative_to(ROOT).as_posix()] = page.relative_to(ROOT / "docs").as_posix()
    return found | _COMMANDS


def pages() -> dict[str, str]:
    """Make all pages: the text of each, by its path in the site.

    Raises:
        SystemExit: a link leads to nothing.
    """
    places = sources()
    made = {
        place: _linked((ROOT / source).read_text("utf-8"), source, places)
        for source, place in places.items()
    }
    for source, place in places.items():
        made[place] = filled(made[place], source)
    for source, place in example_sources().items():
        made[place] = with_source(made[place], (ROOT / source).parent)
    made |= reference() | api() | {"reference/contracts.md": contracts()}
    made["overview.md"] = made["overview.md"].replace("# Dockhand\n", "# Overview\n", 1)
    made["packages/index.md"] = _packages(places)
    return made


def _linked(text: str, source: str, places: dict[str, str]) -> str:
    """Rewrite the links of a page that lead to other files of the repository."""

    def replaced(match: re.Match[str]) -> str:
        image, shown, target = match.groups()
        path, mark, anchor = target.partition("#")
        if re.match(r"[a-z]+:", target) or not path:
            return match[0]
        file = posixpath.normpath(posixpath.join(posixpath.dirname(source), path))
        if file in places:
            return f"{image}[{shown}]({_relative(places[file], places[source])}{mark}{anchor})"
        if file.startswith("docs/"):
            in_site = file.removeprefix("docs/")
            made = in_site.startswith(("reference/", "packages/")) or in_site in places.values()
            if not made and not (ROOT / file).exists():
                sys.exit(f"{source}: the link {target} leads to nothing")
            return f"{image}[{shown}]({_relative(in_site, places[source])}{mark}{anchor})"
        if not (ROOT / file).exists():
            sys.exit(f"{source}: the link {target} leads to nothing")
        return shown

    text = _NOTE.sub("", text)
    parts, end = [], 0
    for fence in FENCE.finditer(text):
        parts += [_LINK.sub(replaced, text[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _LINK.sub(replaced, text[end:])])


def _relative(target: str, source: str) -> str:
    return posixpath.relpath(target, posixpath.dirname(source) or ".")


def _packages(places: dict[str, str]) -> str:
    lines = ["# Packages", "", "Each package has its page, which is also its README.", ""]
    lines += ["| Package | |", "|---|---|"]
    for source, place in places.items():
        if source.startswith("plugins/"):
            project = tomllib.loads((ROOT / source).with_name("pyproject.toml").read_text("utf-8"))
            about = project["project"]["description"]
            lines.append(f"| [`{Path(place).stem}`]({Path(place).name}) | {about} |")
    return "\n".join([*lines, ""])


def configuration() -> dict[str, Any]:
    """The settings of the site, with the pages that have no line of their own in its navigation."""
    settings: dict[str, Any] = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))
    places = list(sources().values())
    commands = {p for p in places if p.startswith("commands/")} - {"commands/index.md"}
    made = {
        "PACKAGES": ["packages/index.md", *(p for p in places if p.startswith("packages/"))],
        "COMMANDS": ["commands/index.md", *sorted(commands, key=_command)],
        "EXAMPLES": _section(places, "examples", "index", "programs"),
        "REGISTRIES": _section(places, "registries", "index", "distribution", "zot", last="others"),
        "API": ["reference/api/index.md", *(f"reference/api/{name}.md" for name in MODULES)],
    }
    settings["project"]["nav"] = _filled(settings["project"]["nav"], made)
    # relative to the file, which stands in build/
    settings["project"]["docs_dir"] = "docs"
    settings["project"]["site_dir"] = "site"
    handler = settings["project"]["plugins"]["mkdocstrings"]["handlers"]["python"]
    handler["paths"] = ["..", *(f"../plugins/{path.name}" for path in ROOT.glob("plugins/dock*"))]
    return settings


def _command(page: str) -> str:
    return Path(page).stem.removeprefix("dockhand-")


def _section(places: list[str], folder: str, *first: str, last: str = "") -> list[str]:
    """The pages of a folder, some of them first, and one last."""
    names = {Path(place).stem: place for place in places if Path(place).parent.name == folder}
    middle = sorted(names.keys() - {*first, last})
    return [names[name] for name in (*first, *middle, last) if name in names]


def _filled(nav: Any, made: dict[str, list[str]]) -> Any:
    if isinstance(nav, list):
        return [_filled(each, made) for each in nav]
    if isinstance(nav, dict):
        return {title: _filled(each, made) for title, each in nav.items()}
    return made.get(nav, nav)


def assemble(folder: Path) -> None:
    """Write all pages, and the pictures that they show, into an empty folder."""
    shutil.copytree(ROOT / "docs", folder, ignore=shutil.ignore_patterns("*.md"))
    for place, text in pages().items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, "utf-8")


def main() -> None:
    """Assemble the pages and build the site; any warning is an error."""
    for name in ("docs", "site"):
        shutil.rmtree(BUILD / name, ignore_errors=True)
    assemble(BUILD / "docs")
    (BUILD / "zensical.toml").write_text(toml(configuration()), "utf-8")
    if "--pages" in sys.argv[1:]:
        return
    done = subprocess.run(
        [sys.executable, "-m", "zensical", "build", "--clean", "--strict"],
        cwd=BUILD, env={**os.environ, "NO_COLOR": "1"}, check=False, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    )  # fmt: skip
    output = re.sub(r"\x1b\[[\d;]*m", "", done.stdout)
    if done.returncode or re.search(r"^griffe|warning", output, re.MULTILINE | re.IGNORECASE):
        sys.exit(output)
    localise(BUILD / "site")
    check_search(BUILD / "site")
    shutil.rmtree(ROOT / "site", ignore_errors=True)
    shutil.move(BUILD / "site", ROOT / "site")
    print(f"{len(list((ROOT / 'site').rglob('*.html')))} pages in {ROOT / 'site'}")


def localise(site: Path) -> None:
    """Load the script from the site that its pages would load from elsewhere.

    Raises:
        SystemExit: a page loads something else from elsewhere.
    """
    for page in site.rglob("*.html"):
        script = os.path.relpath(site / "assets" / "iframe-worker.js", page.parent)
        text = page.read_text("utf-8").replace("https://unpkg.com/iframe-worker/shim", script)
        if found := re.search(r'(?:src|<link[^>]* href)="https?:[^"]*"', text):
            sys.exit(f"{page}: {found[0]} is loaded from elsewhere")
        page.write_text(text, "utf-8")


def check_search(site: Path) -> None:
    """Check that the search finds every page.

    Raises:
        SystemExit: a page is not in the index of the search, or has no text there.
    """
    items = json.loads((site / "search.json").read_text("utf-8"))["items"]
    found = {item["location"].partition("#")[0] for item in items if item["text"]}
    pages = {page.relative_to(site).as_posix() for page in site.rglob("*.html")} - {"404.html"}
    if missing := pages - found:
        sys.exit(f"the search does not find {', '.join(sorted(missing))}")


def toml(settings: dict[str, Any]) -> str:
    """Write settings as TOML, with inline tables below the first level."""
    lines = []
    for name, table in settings.items():
        lines += [f"[{name}]", *(f"{_key(key)} = {_inline(each)}" for key, each in table.items())]
    return "\n".join([*lines, ""])


def _key(name: str) -> str:
    return name if re.fullmatch(r"[\w-]+", name) else f'"{name}"'


def _inline(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{_key(k)} = {_inline(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_inline, value)) + "]"
    if isinstance(value, bool):
        return str(value).lower()
    return str(value) if isinstance(value, int) else '"' + value.replace('"', '\\"') + '"'


if __name__ == "__main__":
    main()
