"""`dockhand new-plugin` writes complete packages, which are clean and whose tests pass."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import time
import tomllib
from collections.abc import Sequence
from pathlib import Path

import httpx
import pytest
from command_line import CommandLine
from dockhand_testing import package_templates
from dockhand_testing.package_templates import render_package, write_package
from dockhand_testing.plugin_names import OWN_PACKAGES, PluginNames
from dockhand_testing.scaffold import Kind
from json_forms import check

ROOT = Path(__file__).parents[2]
KINDS = [kind.value for kind in Kind]
LONGEST = "a-name-with-thirty-characters1"


@pytest.fixture
def dockhand(tmp_path: Path) -> CommandLine:
    """Provide the command `dockhand`, in an empty folder."""
    return CommandLine(tmp_path)


def rendered(kind: str, name: str) -> dict[str, str]:
    return render_package(
        kind, PluginNames.of(name), description="An example", author="Alice Smith"
    )


def python(*arguments: str | Path, cwd: Path, paths: Sequence[Path] = ()) -> str:
    """Run a module of Python that has to succeed; return its output."""
    path = os.pathsep.join([*map(str, paths), *(each for each in sys.path if each)])
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("DOCKHAND", "PYTEST"))}
    done = subprocess.run(
        [sys.executable, "-m", *map(str, arguments)],
        cwd=cwd, env={**environment, "PYTHONPATH": path}, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    return done.stdout


def announce(site: Path, project: str) -> None:
    """Write what pip would install of a package besides its code: its entry points."""
    table = tomllib.loads(project)["project"]
    info = site / f"{table['name'].replace('-', '_')}-{table['version']}.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(
        f"Metadata-Version: 2.4\nName: {table['name']}\nVersion: {table['version']}\n"
    )
    points = table["entry-points"]["dockhand"].items()
    lines = [f"{name} = {value}" for name, value in points]
    (info / "entry_points.txt").write_text("\n".join(["[dockhand]", *lines, ""]))


@pytest.mark.parametrize("kind", KINDS)
def test_tests_of_the_new_package_pass(kind: str, tmp_path: Path) -> None:
    folder, site = tmp_path / "package", tmp_path / "site"
    files = rendered(kind, "my-vault")
    write_package(folder, files)
    announce(site, files["pyproject.toml"])
    output = python("pytest", "-q", "-p", "no:cacheprovider", cwd=folder, paths=[folder, site])
    assert re.search(r"\d+ passed", output), output
    assert "failed" not in output
    assert "skipped" not in output or kind == "registry", output


EXAMPLE = """
import json, pathlib, sys
from dockhand_testing import build_image, reply
from dockhand_testing.scripted_registry import run_scripted_registry

def answer(request):
    if request.path == "/login":
        assert json.loads(request.body) == {"role": "ci", "secret": "s3cret-text"}
        return reply(200, b'{"token": "a-token", "expires_in": 300}')
    if request.path == "/api/projects":
        return reply(200, b'{"projects": [{"name": "infra", "repositories": 3}]}')

toml, code = (pathlib.Path(name).read_text() for name in ("readme.toml", "readme.py"))
pathlib.Path("secret.txt").write_text("s3cret-text")
with run_scripted_registry() as registry:
    registry.push(build_image(), "library/app", "v1")
    registry.answer = answer
    for host in ("registry", "login"):
        toml = toml.replace(f"https://{host}.example.com", registry.url)
    pathlib.Path("dockhand.toml").write_text(toml)
    exec(code, {})
    print([request.headers.get("authorization") for request in registry.requests][-1])
"""


def readme_blocks(files: dict[str, str], language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", files["README.md"], re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize(
    ("kind", "printed"),
    [
        ("auth", "['v1']\nBearer a-token\n"),
        ("registry", "infra 3\n['v1']\nNone\n"),
        ("logger", "None\n"),
    ],
)
def test_example_of_the_readme_runs(kind: str, printed: str, tmp_path: Path) -> None:
    folder, site, work = tmp_path / "package", tmp_path / "site", tmp_path / "work"
    files = rendered(kind, "my-vault")
    write_package(folder, files)
    announce(site, files["pyproject.toml"])
    work.mkdir()
    (work / "readme.toml").write_text(readme_blocks(files, "toml")[0])
    (work / "readme.py").write_text(readme_blocks(files, "python")[0])
    (work / "example.py").write_text(EXAMPLE)
    assert python("example", cwd=work, paths=[folder, site]) == printed
    if kind == "logger":
        assert json.loads((work / "requests.log").read_text())["status"] == 200


def test_example_of_the_readme_of_events_runs(tmp_path: Path) -> None:
    folder, site, work = tmp_path / "package", tmp_path / "site", tmp_path / "work"
    files = rendered("events", "my-quay")
    write_package(folder, files)
    announce(site, files["pyproject.toml"])
    work.mkdir()
    (work / "dockhand.toml").write_text(readme_blocks(files, "toml")[0])
    serve, post = (block for block in readme_blocks(files, "sh")[1:3])
    (line,) = serve.splitlines()
    command = [sys.executable, *line.replace("8080", "0").split()[1:]]
    path = os.pathsep.join([str(folder), str(site), *(each for each in sys.path if each)])
    with subprocess.Popen(
        command, cwd=work, env={**os.environ, "PYTHONPATH": path}, stdout=subprocess.PIPE, text=True
    ) as server:
        try:
            assert server.stdout is not None
            url = server.stdout.readline().split()[-1]
            headers = dict(re.findall(r"-H '([\w-]+): ([^']+)'", post))
            (body,) = re.findall(r"-d '([^']+)'", post)
            reply = httpx.post(f"{url}/dockhand/notify", headers=headers, content=body)
            assert reply.status_code == 202, reply.text
            code = readme_blocks(files, "python")[0]
            (work / "example.py").write_text(code)
            deadline = time.monotonic() + 60
            rows = "[]"
            while rows == "[]" and time.monotonic() < deadline:
                rows = python("example", cwd=work, paths=[folder, site]).strip()
        finally:
            server.terminate()
    assert rows == f"[('1/0', 'library/app', 'v1', 'sha256:{'1' * 64}')]"


def need_linter(name: str) -> None:
    """Skip the test if a linter is not installed; if the variable CI is `true`, fail the test."""
    if importlib.util.find_spec(name) is None:
        message = f"{name} is not installed: `make lint` installs it"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)


def test_new_packages_are_clean_for_mypy(tmp_path: Path) -> None:
    need_linter("mypy")
    for kind in KINDS:
        files = rendered(kind, f"my-{kind}")
        assert tomllib.loads(files["pyproject.toml"])["tool"]["mypy"]["strict"] is True
        write_package(tmp_path / kind, files)
        cache = tmp_path / "cache"  # one for all kinds, which is faster
        output = python("mypy", "--cache-dir", cache, ".", cwd=tmp_path / kind)
        assert "no issues found" in output


@pytest.mark.parametrize("name", ["x", "project", "zebra", "my-vault", LONGEST])
def test_new_packages_are_clean_for_ruff(name: str, tmp_path: Path) -> None:
    """ruff reads the settings in each package's own `pyproject.toml`."""
    need_linter("ruff")
    for kind in KINDS:
        write_package(tmp_path / kind, rendered(kind, name))
    python("ruff", "check", "--no-cache", ".", cwd=tmp_path)
    python("ruff", "format", "--no-cache", "--check", ".", cwd=tmp_path)


@pytest.mark.parametrize("kind", KINDS)
def test_files_of_every_package(kind: str) -> None:
    files = rendered(kind, "my-vault")
    assert {
        ".github/workflows/test.yml", ".gitignore", "LICENSE", "README.md", "pyproject.toml",
        "dockhand_my_vault/__init__.py", "dockhand_my_vault/hooks.py", "dockhand_my_vault/py.typed",
    } < files.keys()  # fmt: skip
    assert any(path.startswith("tests/test_") for path in files)
    assert "${{ matrix.python }}" in files[".github/workflows/test.yml"]
    assert "Alice Smith" in files["LICENSE"]
    assert "An example" in files["README.md"]
    for text in files.values():
        assert not re.search(r"\{%|%\}|jinja", text)
        assert "\r" not in text
        assert text == "" or text.endswith("\n")
        assert not text.endswith("\n\n")


def test_texts_of_the_author_are_quoted() -> None:
    description, author = 'Vault "α\\n" {{ name }}', 'O\'Neill \\ "x"'
    files = render_package("auth", PluginNames.of("vault"), description=description, author=author)
    project = tomllib.loads(files["pyproject.toml"])["project"]
    assert project["description"] == description
    assert project["authors"] == [{"name": author}]
    assert description in files["README.md"]


@pytest.mark.parametrize(
    ("text", "name"),
    [("vault", "vault"), ("dockhand-vault", "vault"), ("my_vault", "my-vault"), ("s3", "s3")],
)
def test_names(text: str, name: str) -> None:
    names = PluginNames.of(text)
    assert names.name == name
    assert names.distribution == f"dockhand-{name}"
    assert names.package.isidentifier()


@pytest.mark.parametrize(
    "text",
    ["", "Vault", "3d", "a--b", "-a", "a-", "a b", "../x", "ü", "a.b", "x\n", LONGEST + "2",
     "zot", "dockhand-zot", "auth_basic"],
)  # fmt: skip
def test_names_that_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="choose another name|is not usable"):
        PluginNames.of(text)


def test_own_packages_are_complete() -> None:
    folders = {path.parent.name for path in ROOT.glob("plugins/*/pyproject.toml")}
    assert {
        folder.removeprefix("dockhand_").replace("_", "-") for folder in folders
    } <= OWN_PACKAGES


def test_command_writes_the_package(dockhand: CommandLine) -> None:
    lines = dockhand.lines("new-plugin", "auth", "vault")
    folder = dockhand.folder / "dockhand-vault"
    assert (folder / "dockhand_vault" / "driver.py").read_text().startswith('"""The auth driver')
    assert lines == [
        "dockhand-vault has 10 files; its README says what to change. Next:",
        "  cd dockhand-vault",
        "  python -m pip install -e '.[test]'",
        "  python -m pytest",
    ]
    found = dockhand.json(
        "new-plugin", "events", "quay", "-o", "new/quay", "--author", "Bob", "--description", "Quay"
    )
    check(found, "new-plugin", "dockhand_testing")
    new = dockhand.folder / "new" / "quay"
    assert found["folder"] == str(new)
    assert sorted(found["files"]) == sorted(
        path.relative_to(new).as_posix() for path in new.rglob("*") if path.is_file()
    )
    assert list(new.parent.iterdir()) == [new]  # no temporary folder is left
    assert " Bob\n" in (new / "LICENSE").read_text()
    assert new.stat().st_mode == (dockhand.folder / "new").stat().st_mode  # as umask says


def test_command_refuses(dockhand: CommandLine) -> None:
    used = dockhand.folder / "dockhand-vault"
    used.mkdir()
    (used / "notes.txt").write_text("mine")
    (dockhand.folder / "file").write_text("mine")

    def error(*arguments: str) -> str:
        return dockhand.error("new-plugin", *arguments, code=2)

    assert "not empty; choose another one with --output" in error("auth", "vault")
    assert "not a folder" in error("auth", "vault", "-o", "file")
    assert "is not usable" in error("auth", "Vault!")
    assert "one of Dockhand's own packages" in error("registry", "zot")
    assert "dockhand has a command prune already" in error("commands", "prune")
    assert "--author must be one line" in error("auth", "x", "--author", "a\nb")
    assert "--description must be one line" in error("auth", "x", "--description", " ")
    assert "'auth', 'registry', 'events', 'logger', 'commands'" in error("nonsense", "x")
    assert sorted(path.name for path in dockhand.folder.iterdir()) == ["dockhand-vault", "file"]
    assert [path.name for path in used.iterdir()] == ["notes.txt"]


def test_command_warns_of_names_in_use(dockhand: CommandLine) -> None:
    done = dockhand.run("new-plugin", "auth", "basic")
    assert done.stderr.startswith("warning: an installed package has the auth driver basic already")
    assert dockhand.run("new-plugin", "logger", "json").stderr.startswith("warning: ")


def test_nothing_is_left_if_a_file_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="name too long"):
        write_package(tmp_path / "new", {"a.py": "x = 1\n", f"{'b' * 300}.py": ""})
    assert list(tmp_path.iterdir()) == []


def test_empty_folder_is_used(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    write_package(tmp_path / "new", {"sub/a.py": "x = 1\n"})
    assert (tmp_path / "new" / "sub" / "a.py").read_text() == "x = 1\n"


def test_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "new").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_package(tmp_path / "new", {"a.py": ""})
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_kinds_have_templates() -> None:
    folder = Path(package_templates.__file__).parent / "templates"
    assert {path.name for path in folder.iterdir()} == {*KINDS, "common"}


def test_json_document_is_one_line_in_a_pipe(dockhand: CommandLine) -> None:
    (line,) = dockhand.lines("new-plugin", "logger", "lines", "--json")
    assert json.loads(line)["package"] == "dockhand_lines"
