"""Every example in the help texts runs, in a shell, against an embedded registry.

The examples' hosts and connections are replaced by a registry at a free port; the connections
`@staging`, `@production` and `main` are in a `dockhand.toml`.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from archives import make_image, push, push_platforms
from command_line import CommandLine
from dockhand_cli import exit_codes
from dockhand_webhook import Backoff, Inbox
from dockhand_webhook.inbox.dead_letters import UnreadableNotification
from help_examples import all_commands, examples_of, shell_environment
from notifications import DISTRIBUTION, envelope
from notifications import push as push_event
from terminal import Terminal

from dockhand_core import ArtifactFile, RegistryClient, RetentionPolicy
from dockhand_core.errors import EventInvalid
from dockhand_core.events.distribution import DistributionParser

EXAMPLES = [
    example
    for words, command in all_commands().items()
    if not words.startswith("zot ")  # zot alone has what they ask for
    for example in examples_of(command)
]
TYPED = {  # the answers to questions, on a terminal
    "dockhand login localhost:5000": [("User", "alice\n"), ("Password", "secret\n")],
    "dockhand blob rm localhost:5000": [("yes to delete", "yes\n")],
}
SERVERS = ("dockhand serve", "dockhand events work", "dockhand events tail")
STARTED = r"listening on http|handlers: audit|.*team/app"  # lines
HANDLER = """
from dockhand_core import hookimpl

@hookimpl
def dockhand_event(event):
    print("handled", event.repository, flush=True)
"""
CONFIGURATION = """
default = "staging"
[connections.staging]
driver = "distribution"
base_uri = "http://HOST"
[connections.production]
driver = "distribution"
base_uri = "http://HOST"
[connections.main]
driver = "distribution"
base_uri = "http://HOST"
auth = { driver = "jwt", private_key = "keys/private.pem", authority_name = "my_auth", registry_name = "my_registry" }
"""  # noqa: E501


class Prepared:
    """The folder of an example, and the registry with the images that examples name.

    Args:
        folder: the folder.
        host: the registry's host and port.
        registry: a client of the registry.
    """

    def __init__(self, folder: Path, host: str, registry: RegistryClient) -> None:
        self._folder, self._host, self._registry = folder, host, registry
        (folder / "dockhand.toml").write_text(CONFIGURATION.replace("HOST", host))
        for name in ("manual.pdf", "sbom.spdx.json", "notes.txt", "layer.tar.gz", "password.txt"):
            (folder / name).write_text(f"{name}\n")
        (folder / "site").mkdir()
        (folder / "site" / "index.html").write_text("<p>Hello")
        for repository in ("app", "team/app", "library/nginx"):
            index = push_platforms(registry, repository, "v1")
            for tag in ("v2", "v1.2.3", "1.27", "latest", "pr-7"):
                registry.put_manifest(repository, tag, index)
            self.manifests = [str(index.manifests[0].digest), str(index.manifests[2].digest)]
            push(registry, repository, "v1-amd64", make_image("amd64"))
            push(registry, repository, "v1-arm64", make_image("arm64"))
        registry.push_artifact("docs", "v1", [ArtifactFile(b"Start here.", name="start.txt")])
        self.layer = str(registry.image("app", "v1", platform="linux/amd64").layers[0].digest)
        self.blob = str(registry.upload_blob("app", b"a blob of no manifest").digest)

    def files_for(self, example: str) -> None:
        """Write the files that an example reads."""
        if re.match("dockhand (push app|cp oci-archive)", example):
            self._registry.save_image("app", "v1", self._folder / "app.tar", format="oci-archive")
        elif "push layout/" in example:
            self._registry.save_image("app", "v1", self._folder / "layout", format="oci")
        elif "manifest put" in example:
            manifest = self._registry.manifest("app", "v1")
            (self._folder / "manifest.json").write_bytes(manifest.raw)
        elif "--apply" in example:
            plan = self._registry.plan_retention(
                "team/app", RetentionPolicy(tags=["pr-*"], keep_last=1)
            )
            (self._folder / "plan.json").write_text(plan.to_json())
        elif "dockhand token" in example:
            command = CommandLine(self._folder)
            command.out("keys")
        elif "events" in example:
            asyncio.run(self._write_inbox())
            self._install_handler()
        elif "serve authority" in example:
            CommandLine(self._folder).out("keys")
            (self._folder / "authority.toml").write_text(
                'issuer = "my_auth"\nservices = ["my_registry"]\nprivate_key = "keys/private.pem"\n'
            )

    def _install_handler(self) -> None:
        """Install a plugin that handles events, as a package on Python's path."""
        (self._folder / "audit.py").write_text(HANDLER)
        package = self._folder / "audit-1.0.dist-info"
        package.mkdir()
        (package / "METADATA").write_text("Metadata-Version: 2.1\nName: audit\nVersion: 1.0\n")
        (package / "entry_points.txt").write_text("[dockhand]\naudit = audit\n")

    async def _write_inbox(self) -> None:
        """Make an inbox with an event, and with four dead letters that can be tried again."""
        inbox = Inbox(self._folder / "inbox.db")
        await inbox.delivery_queue("a", Backoff(), 15.0).register(["audit/dockhand_event"])
        [event] = DistributionParser().parse({}, envelope(push_event()))
        await inbox.store("staging", [event])
        for _ in range(4):
            body = envelope(push_event())
            letter = UnreadableNotification({"content-type": DISTRIBUTION}, body, len(body))
            await inbox.store_unreadable("staging", letter, EventInvalid("too large"))
        inbox.close()

    def replace(self, example: str) -> str:
        """Replace the hosts, ports and digests of an example."""
        for host in ("localhost:5000", "docker.io", "ghcr.io"):
            example = example.replace(host, self._host)
        example = re.sub(r"--port \d+", "--port 0", example)
        if "dockhand blob" in example:
            digest = self.blob if " rm " in example else self.layer
            return re.sub(r"sha256:\w+", digest, example)
        digests = iter(self.manifests)
        return re.sub(r"sha256:\w+…?", lambda _: next(digests), example)


@pytest.fixture
def prepared(tmp_path: Path, host: str, registry: RegistryClient) -> Prepared:
    return Prepared(tmp_path, host, registry)


@pytest.mark.parametrize("example", EXAMPLES)
def test_example(example: str, prepared: Prepared, dockhand: CommandLine) -> None:
    prepared.files_for(example)
    command = prepared.replace(example)
    dockhand.environment = shell_environment(dockhand)
    if example.startswith(SERVERS):
        _run_server(command, dockhand)
        return
    for beginning, answers in TYPED.items():
        if example.startswith(beginning) and "--" not in example:
            _run_on_terminal(command, answers, dockhand)
            return
    done = subprocess.run(
        ["sh", "-c", command], cwd=dockhand.folder, env=dockhand.environment,
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", check=False,
        timeout=60,
    )  # fmt: skip
    assert done.returncode == 0, f"{command}\n{done.stdout}{done.stderr}"


def _run_on_terminal(command: str, answers: list[tuple[str, str]], dockhand: CommandLine) -> None:
    terminal = Terminal(dockhand, *command.split()[1:])
    try:
        for question, answer in answers:
            terminal.wait_for(question)
            if question == "Password":
                terminal.wait_until_silent()
            terminal.type(answer)
        assert terminal.end() == 0, terminal.seen
    finally:
        terminal.close()


def _run_server(command: str, dockhand: CommandLine) -> None:
    """Run a program until it has started, and end it as a service manager does."""
    path = os.pathsep.join(filter(None, (str(dockhand.folder), os.environ.get("PYTHONPATH"))))
    with subprocess.Popen(
        ["sh", "-c", f"exec {command}"], cwd=dockhand.folder,
        env={**dockhand.environment, "PYTHONPATH": path, "DOCKHAND_NOTIFY_TOKEN": "t0ken"},
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        seen = ""
        for line in process.stdout:
            seen += line
            if re.match(STARTED, line):
                process.send_signal(signal.SIGTERM)
    assert re.search(STARTED, seen), seen
    assert process.returncode in {0, exit_codes.TERMINATED}


def test_shell_fails_with_the_command(prepared: Prepared, dockhand: CommandLine) -> None:
    """The shell of these tests reports the exit status of `dockhand`."""
    done = subprocess.run(
        ["sh", "-c", "dockhand tags @staging/none"], cwd=dockhand.folder,
        env=shell_environment(dockhand), capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (3, "")
