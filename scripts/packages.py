"""Build the wheel and the sdist of every package, check them, and use them on every Python.

    python scripts/packages.py              # on every supported Python that is installed
    python scripts/packages.py 3.12 3.13    # on these

The files are in `dist/`, ready for a release. A plugin is used alone with the core in an empty
environment: this finds dependencies that a package does not name, and plugins without an entry
point. The tests cannot find them, since they run in an editable installation of everything.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from distributions import Distribution, build
from environments import Interpreter, clean_environment, run
from package_programs import import_program, program_for
from pythons import find_pythons, supported_versions

ROOT = Path(__file__).parents[1]
CORE = "dockhand-core"

_AUTHORITY = """
issuer = "my_auth"
services = ["my_registry"]
private_key = "keys/private.pem"
users = "htpasswd"
[[rules]]
user = "alice"
repository = "team/**"
actions = ["pull", "push", "delete"]
[[rules]]
user = "alice"
type = "registry"
name = "catalog"
actions = ["*"]
"""


def use_packages(interpreter: Interpreter, packages: list[Distribution]) -> None:
    """Use each plugin alone, import all modules, and use the command, with one Python."""
    interpreter.download(packages)
    for package in packages:
        if package.name != CORE:
            use_alone(interpreter, package)
    requirements = [each.name + each.all_extras for each in packages]
    everything = interpreter.environment("everything", *requirements, "pytest")
    run(everything / "python", "-c", import_program([each.name for each in packages]))
    programs = interpreter.environment("command", f"{CORE}[cli,distribution,token]")
    use_command(interpreter.folder / "work", everything / "python", programs / "dockhand")
    start_plugins(interpreter, everything / "dockhand")
    print(f"Python {interpreter.version}: {len(packages)} packages work", flush=True)


def use_alone(interpreter: Interpreter, package: Distribution) -> None:
    """Use a plugin in an environment that has nothing but the plugin and its requirements."""
    beside, code = program_for(package.name)
    python = interpreter.environment(package.name, package.name, *beside) / "python"
    if package.name == "dockhand-auth-jwt":
        run(python, "-m", "dockhand_auth_jwt", "keys", ".", cwd=interpreter.folder)
    run(python, "-c", code, cwd=interpreter.folder)


@contextmanager
def server(folder: Path, python: Path, module: str, *options: str) -> Iterator[str]:
    """Run a server, and provide its host and port."""
    command: list[str | Path] = [python, "-m", module, "--port", "0", *options]
    with subprocess.Popen(  # noqa: S603
        command, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().strip().removeprefix("listening on http://")
        finally:
            process.terminate()


def use_command(folder: Path, python: Path, program: Path) -> None:
    """Log in to a registry with a token server; push, list, copy and prune with `dockhand`.

    Args:
        folder: a new folder.
        python: the interpreter of an environment that has the servers.
        program: the command, in an environment that has nothing but wheels.
    """
    import bcrypt

    folder.mkdir()
    run(python, "-m", "dockhand_auth_jwt", "keys", "keys", cwd=folder)
    (folder / "authority.toml").write_text(_AUTHORITY)
    (folder / "htpasswd").write_bytes(b"alice:" + bcrypt.hashpw(b"s3cret", bcrypt.gensalt(4)))
    (folder / "password").write_text("s3cret\n")
    (folder / "file").write_text("some bytes")
    with (
        server(folder, python, "dockhand_token_server") as authority,
        server(
            folder, python, "dockhand_embedded", "--root", ":memory:",
            "--token-realm", f"http://{authority}/token", "--token-service", "my_registry",
            "--token-issuer", "my_auth", "--token-certificate", "keys/certificate.pem",
        ) as host,
    ):  # fmt: skip
        image = f"{host}/team/app"

        def dockhand(*arguments: str, stdin: str | None = None) -> str:
            done = subprocess.run(  # noqa: S603
                [program, *arguments],
                cwd=folder,
                env={"PATH": os.environ["PATH"], "HOME": str(folder)},
                input=stdin,
                capture_output=True,
                text=True,
                check=False,
            )
            if done.returncode:
                sys.exit(f"failed: dockhand {' '.join(arguments)}: {done.stderr}")
            return done.stdout

        dockhand("login", host, "-u", "alice", "--password-stdin", stdin="s3cret\n")
        dockhand("artifact", "push", f"{image}:v1", "file")
        dockhand("pull", f"{image}:v1", "app.tar")
        dockhand("push", "app.tar", f"{image}:v2")
        (folder / "file").write_text("other bytes")
        dockhand("artifact", "push", f"{image}:v3", "file")
        assert dockhand("tags", image).split() == ["v1", "v2", "v3"]
        dockhand("cp", f"{image}:v1", f"{host}/team/copy:v1")
        assert dockhand("ls", host).split() == ["team/app", "team/copy"]
        dockhand("prune", image, "--tags", "*", "--keep", "v3", "--yes")
        assert dockhand("tags", image).split() == ["v3"]
        dockhand("logout", host)


def start_plugins(interpreter: Interpreter, program: Path) -> None:
    """Start a plugin of each kind with `dockhand new-plugin`; install them, and run their tests.

    They are installed into an environment that has nothing but their requirements.

    Args:
        interpreter: the Python.
        program: the command `dockhand`, with the package dockhand-testing.
    """
    folder = interpreter.folder / "plugins"
    folder.mkdir()
    names = [f"new-{kind}" for kind in ("auth", "registry", "events", "logger", "commands")]
    for name in names:
        run(program, "new-plugin", name.removeprefix("new-"), name, "-o", name, cwd=folder)
        source = folder / name
        run(
            sys.executable,
            "-m",
            "build",
            "--wheel",
            "--no-isolation",
            "-o",
            interpreter.wheels,
            source,
        )
    requirements = [f"dockhand-{name}[test]" for name in names]
    programs = interpreter.environment("new-plugins", *requirements)
    run(programs / "dockhand", "plugins", "--check", cwd=folder)
    for name in names:  # `pytest`, unlike `python -m pytest`, imports the installed package
        run(programs / "pytest", "-q", "-p", "no:cacheprovider", cwd=folder / name)


def main(wanted: list[str]) -> None:
    """Build and check all packages, and use them on the wanted versions of Python."""
    pythons = find_pythons(wanted or supported_versions(ROOT))
    if missing := [version for version in wanted if version not in pythons]:
        sys.exit(f"not installed: Python {', '.join(missing)}")
    packages = build(ROOT, ROOT / "dist")
    print(f"{len(packages)} wheels and {len(packages)} sdists built and checked", flush=True)
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(os.cpu_count()) as pool:
        interpreters = [Interpreter(*each, Path(folder) / each[0]) for each in pythons.items()]
        for done in [pool.submit(use_packages, each, packages) for each in interpreters]:
            done.result()
    left_out = [each for each in supported_versions(ROOT) if each not in pythons]
    if left_out:
        print(f"left out: Python {', '.join(left_out)}", flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
