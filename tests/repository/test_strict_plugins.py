"""The start of programs that call plugins: broken plugins, `--strict`, and plugins' settings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import dockhand_celery
import dockhand_token_server
import dockhand_webhook
import pytest
from authority import write_authority
from celery import Celery

from dockhand_core import ConfigError, Dockhand, PluginError, Plugins

Install = Callable[[str, Mapping[str, str], Mapping[str, str]], None]

REASON = "vault (dockhand-vault 1.2.3): cannot be loaded: RuntimeError: no vault"
# A plugin that writes its settings to a file.
CONFIGURED = """
from pathlib import Path
from dockhand_core import hookimpl
@hookimpl
def dockhand_configure(settings, dockhand):
    Path("settings").write_text(f"{settings['channel']} {dockhand!r}")
@hookimpl
def dockhand_event(event): ...
"""
HANDLER = "from dockhand_core import hookimpl\n@hookimpl\ndef dockhand_event(event): ...\n"
RAISES = "raise RuntimeError('no vault')"
LAZY = """
from dockhand_core import hookimpl
@hookimpl
def dockhand_auth_drivers():
    return {"lazy": "not_there:Auth"}
"""
PROGRAMS: dict[str, list[str]] = {
    "embedded": ["dockhand_embedded", "--root", ":memory:", "--port", "0"],
    "webhook": ["dockhand_webhook", "--anonymous", "--port", "0"],
    "token_server": ["dockhand_token_server", "--config", "authority.toml", "--port", "0"],
    "work": ["dockhand_webhook", "work"],
    "celery": ["dockhand_celery", "--app", "tasks:app"],
}


@pytest.fixture
def site(package: Install, clean: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Install packages where the programs find them, with a handler, and settings for each."""
    path = os.pathsep.join([str(clean / "site"), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    write_authority(clean)
    (clean / "tasks.py").write_text("from celery import Celery\napp = Celery(broker='memory://')\n")
    package("dockhand-audit", {"audit": "fake_audit"}, {"fake_audit": HANDLER})
    return package


@contextmanager
def started(name: str, *options: str) -> Iterator[subprocess.Popen[str]]:
    """Start a program, and terminate it at the end."""
    command = [sys.executable, "-m", *PROGRAMS[name], *options]
    with (
        Path("stderr").open("w") as errors,
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True) as process,
    ):
        try:
            yield process
        finally:
            process.terminate()


def output_of_start(name: str, *options: str) -> tuple[str, str]:
    """The line that a program prints when it has started, and its standard error."""
    with started(name, *options) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
    assert process.returncode == 0
    return line, Path("stderr").read_text()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_broken_plugin_is_heard_at_start(site: Install, name: str) -> None:
    site(
        "dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": "raise RuntimeError('no vault')"}
    )
    line, errors = output_of_start(name)
    assert line.startswith(("listening on ", "working for ", "handing out for "))
    assert f"WARNING dockhand.plugins: {REASON}\n" in errors
    assert errors.count(REASON) == 1


@pytest.mark.parametrize(
    ("name", "source"), [*((name, RAISES) for name in PROGRAMS), ("work", LAZY)]
)
def test_strict_refuses_a_broken_plugin(site: Install, name: str, source: str) -> None:
    site("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": source})
    with started(name, "--strict") as process:
        out, _ = process.communicate(timeout=60)
    errors = Path("stderr").read_text()
    assert process.returncode == 2
    assert out == ""
    last = errors.splitlines()[-1]
    assert last.startswith("--strict: not started, because of vault (dockhand-vault 1.2.3): ")
    assert "DOCKHAND_DISABLE_PLUGINS" in last
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_strict_variable_refuses_a_broken_plugin(
    site: Install, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    site("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": RAISES})
    monkeypatch.setenv("DOCKHAND_STRICT_PLUGINS", "1")
    with started(name) as process:
        process.communicate(timeout=60)
    errors = Path("stderr").read_text()
    assert process.returncode == 2
    last = errors.splitlines()[-1]
    assert last.startswith("DOCKHAND_STRICT_PLUGINS: not started, because of vault (dockhand-vault")
    assert "Traceback" not in errors


@pytest.mark.parametrize("name", ["webhook", "work", "token_server"])
def test_programs_configure_plugins(site: Install, name: str) -> None:
    site("dockhand-slack", {"slack": "fake_slack"}, {"fake_slack": CONFIGURED})
    Path("dockhand.toml").write_text(
        '[connections.main]\nbase_uri = "http://r"\n'
        '[connections.other]\nbase_uri = "${NOT_SET}"\n'
        '[plugins.slack]\nchannel = "#ops"\n'
    )
    line, errors = output_of_start(name)
    assert line
    assert Path("settings").read_text() == "#ops <Dockhand main>"
    assert "plugins cannot use the connection 'other': connections.other.base_uri: " in errors


@pytest.mark.parametrize("name", ["webhook", "work", "token_server"])
@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("[plugins.slack]\n", "plugin 'slack': dockhand_configure failed: KeyError: 'channel'"),
        ("[plugins.mail]\n", "plugins.mail: no plugin named 'mail' is installed or registered"),
    ],
)
def test_programs_refuse_wrong_settings_of_plugins(
    site: Install, name: str, table: str, message: str
) -> None:
    site("dockhand-slack", {"slack": "fake_slack"}, {"fake_slack": CONFIGURED})
    Path("dockhand.toml").write_text(table)
    with started(name) as process:
        out, _ = process.communicate(timeout=60)
    errors = Path("stderr").read_text()
    assert (process.returncode, out) == (2, "")
    assert errors.splitlines()[-1].startswith(message)
    assert "Traceback" not in errors


def webhook(plugins: Plugins | None) -> None:
    dockhand_webhook.create_app(plugins, anonymous=True)


def token_server(plugins: Plugins | None) -> None:
    dockhand_token_server.create_app("authority.toml", plugins=plugins)


def celery(plugins: Plugins | None) -> None:
    dockhand_celery.register_handlers(Celery(broker="memory://"), plugins)


@pytest.mark.parametrize("create", [webhook, token_server, celery])
def test_applications_configure_plugins(
    site: Install, create: Callable[[Plugins | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    site("dockhand-slack", {"slack": "fake_slack"}, {"fake_slack": CONFIGURED})
    monkeypatch.setenv("DOCKHAND_PLUGINS__SLACK__CHANNEL", "#ops")
    create(None)
    assert Path("settings").read_text() == "#ops <Dockhand without connections>"
    with Dockhand({"plugins": {"slack": {"channel": "#all"}}}) as dockhand:
        create(dockhand.plugins)
    assert Path("settings").read_text() == "#all <Dockhand without connections>"
    tables = {"slack": {"channel": "#all"}, "mail": {}}
    dockhand = Dockhand({"plugins": tables})
    with dockhand, pytest.raises(ConfigError, match=r"plugins\.mail: no plugin named 'mail'"):
        create(dockhand.plugins)


@pytest.mark.parametrize("create", [webhook, token_server, celery])
def test_applications_refuse_broken_plugins_in_strict_mode(
    site: Install, create: Callable[[Plugins | None], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    site("dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": RAISES})
    plugins = Plugins()
    create(plugins)
    monkeypatch.setenv("DOCKHAND_STRICT_PLUGINS", "yes")
    for given in (plugins, None):
        with pytest.raises(PluginError, match="DOCKHAND_STRICT_PLUGINS: not started, because of"):
            create(given)


def test_strict_starts_without_broken_plugins(
    site: Install, monkeypatch: pytest.MonkeyPatch
) -> None:
    site(
        "dockhand-vault", {"vault": "fake_vault"}, {"fake_vault": "raise RuntimeError('no vault')"}
    )
    monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "vault")
    line, errors = output_of_start("webhook", "--strict")
    assert line
    assert "cannot be loaded" not in errors


def test_the_receiver_lists_its_handlers(site: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "handlers: audit/dockhand_event\n" in output_of_start("webhook")[1]
    assert "handlers: called by other processes\n" in output_of_start("webhook", "--no-dispatch")[1]
    monkeypatch.setenv("DOCKHAND_DISABLE_PLUGINS", "audit")
    assert "handlers: none\n" in output_of_start("webhook")[1]
