"""Every hook, setting, variable, command, error and public name is on a page of the site."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import dockhand_testing
import pytest
from build_site import FENCE, ROOT, pages, sources
from dockhand_cli.main import root_command

from dockhand_core import DockhandError, Plugins, hookspecs
from dockhand_core.config import ConnectionConfig, load_config
from dockhand_core.events import EVENTS


@cache
def made() -> dict[str, str]:
    return pages()


def headings(name: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", made()[name], re.MULTILINE)


def section(name: str, heading: str) -> str:
    found = re.search(
        rf"^(#+) {re.escape(heading)}\n(.*?)(?=^##|\Z)", made()[name], re.MULTILINE | re.DOTALL
    )
    assert found, f"{name} has no section {heading}"
    return found[2]


def packages() -> Iterator[str]:
    yield "dockhand_core"
    yield from (path.parent.name for path in sorted(ROOT.glob("plugins/*/pyproject.toml")))


def modules() -> Iterator[Any]:
    """All modules of the packages."""
    for name in packages():
        folder = ROOT / name if name == "dockhand_core" else ROOT / "plugins" / name / name
        for path in folder.rglob("*.py"):
            if path.stem != "__main__":
                dotted = ".".join(path.relative_to(folder.parent).with_suffix("").parts)
                yield importlib.import_module(dotted.removesuffix(".__init__"))


@pytest.mark.parametrize("hook", [name for name in hookspecs.__all__ if name[:9] == "dockhand_"])
def test_hook(hook: str) -> None:
    text = section("reference/hooks.md", hook)
    for argument in inspect.signature(getattr(hookspecs, hook)).parameters:
        assert f"{argument}:" in text


@pytest.mark.parametrize("kind", ["registry", "auth"])
def test_settings_of_drivers(kind: str) -> None:
    plugins = Plugins()
    title = {"registry": "Driver", "auth": "Auth driver"}[kind]
    for name in plugins.names(kind):
        driver = plugins.driver(kind, name)
        if not driver.__module__.startswith(tuple(packages())):
            continue  # of another package that is installed
        text = section("reference/settings.md", f"{title} `{name}`")
        for setting in driver.Settings.model_fields:
            assert f"| `{setting}` |" in text


def test_settings_of_connections() -> None:
    text = section("reference/settings.md", "A connection")
    for setting in ConnectionConfig.model_fields:
        assert f"| `{setting}` |" in text


def test_variables() -> None:
    """Every variable that the code names is on the page."""
    files = [*ROOT.glob("dockhand_core/**/*.py"), *ROOT.glob("plugins/*/*/**/*.py")]
    code = "\n".join(path.read_text("utf-8") for path in files)
    found = set(re.findall(r"\bDOCKHAND_[A-Z]+(?:_[A-Z]+)*\b(?!__)", code))
    # the variable of a shell's completion, which typer names; the prefix of any connection
    found -= {"DOCKHAND_COMPLETE", "DOCKHAND_CONNECTIONS"}
    text = made()["reference/environment.md"]
    assert not {
        name
        for name in found
        if f"`{name}`" not in text and f"`{name.removesuffix('_FILE')}`" not in text
    }


def test_variables_of_plugins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of the page sets the table of a plugin."""
    text = section("reference/environment.md", "Plugins")
    for name, value in re.findall(r"^export (\w+)='?([^'\n]+)'?$", text, re.MULTILINE):
        monkeypatch.setenv(name, value)
    monkeypatch.chdir(tmp_path)
    table = {"channel": "#releases", "token_file": "/run/secrets/notifier"}
    assert load_config().plugins == {"notifier": table}


@pytest.mark.parametrize("name", EVENTS)
def test_event(name: str) -> None:
    text = section("reference/events.md", name)
    assert f"`{EVENTS[name].hook}`" in text
    own = EVENTS[name].__annotations__
    assert all(f"`{attribute}`" in text for attribute in own if attribute != "hook")


def test_errors() -> None:
    """Every exception with a public name has its section, and every code its row."""
    titles = set(headings("reference/errors.md"))
    list(modules())
    waiting: list[type[DockhandError]] = [DockhandError]
    missing = set()
    while waiting:
        each = waiting.pop()
        waiting += each.__subclasses__()
        package = importlib.import_module(each.__module__.partition(".")[0])
        public = each.__name__ in getattr(package, "__all__", ())
        if public and package.__name__ in set(packages()) and each.__name__ not in titles:
            missing.add(each.__name__)
    assert not missing


def test_commands() -> None:
    root = root_command()
    for name in root.commands:
        if getattr(root.commands[name], "imported", None) is None or name == "zot":
            page = made()[f"commands/{'dockhand-index' if name == 'index' else name}.md"]
            assert page.startswith(f"# `dockhand {name}`\n"), name


def public_modules() -> list[str]:
    """The modules of the list of the stable surface in `CONTRIBUTING.md`, and the plugins."""
    text = (ROOT / "CONTRIBUTING.md").read_text("utf-8")
    found = re.search(r"`dockhand_core` itself, (.*?)\n\n", text, re.DOTALL)
    assert found
    core = [f"dockhand_core{name}" for name in re.findall(r"`(\.[\w.]+)`", found[1])]
    return ["dockhand_core", *core, *(name for name in packages() if name != "dockhand_core")]


@pytest.mark.parametrize("name", public_modules())
def test_public_names(name: str) -> None:
    """Each public name of a module is described on the module's page, or the page says where."""
    text = made()[f"reference/api/{name}.md"]
    for each in importlib.import_module(name).__all__:
        assert re.search(rf"^::: {name}\.{each}$|^Described in .*`{each}`", text, re.MULTILINE), (
            each
        )


@pytest.mark.parametrize("name", public_modules())
def test_module_is_on_the_list_of_the_stable_surface(name: str) -> None:
    if name.startswith("dockhand_core"):
        short = name.replace("dockhand_core.http", ".http").replace(
            "dockhand_core.server", ".server"
        )
        text = made()["about/stable-surface.md"]
        assert f"[`{name}`]" in text or f"[`{short}`]" in text


def test_rules_of_contracts() -> None:
    """Each test of a contract of the kit is on the page, with its rule and the reason for it."""
    for name in dockhand_testing.__all__:
        if name.endswith("Contract"):
            contract = getattr(dockhand_testing, name)
            text = made()["reference/contracts.md"].partition(f"\n## {name}\n")[2]
            tests = [each for each in dir(contract) if each.startswith("test_")]
            assert tests
            for each in tests:
                assert re.search(rf"^\| `{each[5:]}` \| \S.* \| \S.* \|$", text, re.MULTILINE), each


def test_links() -> None:
    """Every link leads to a page, a heading or a picture of the site."""
    for name, text in made().items():
        plain = FENCE.sub("", text)
        plain = re.sub(r"`[^`\n]*`", "`", plain)
        for target in re.findall(r"\]\(([^)\s]+)\)", plain):
            if re.match(r"[a-z]+:", target):
                continue
            path, _, anchor = target.partition("#")
            linked = (
                (ROOT / name).parent.joinpath(path).resolve().relative_to(ROOT) if path else name
            )
            page = str(linked)
            if page not in made():
                assert (ROOT / "docs" / page).is_file(), f"{name}: {target}"
            elif anchor:
                anchors = [re.sub(r"[^\w -]", "", h.lower()).strip() for h in headings(page)]
                assert anchor in [each.replace(" ", "-") for each in anchors], f"{name}: {target}"


def test_every_page_is_in_the_navigation() -> None:
    from build_site import configuration

    text = repr(configuration()["project"]["nav"])
    missing = [page for page in made() if f"'{page}'" not in text]
    assert not missing


def test_every_page_has_a_place_of_its_own() -> None:
    """No two pages become one file, as README.md and index.md of a folder would."""
    assert len(set(sources().values())) == len(sources())
    assert not [page for page in made() if page.endswith("README.md")]


def test_sources_exist() -> None:
    assert all((ROOT / source).is_file() for source in sources())
