"""The handler fulfils its contract, and copies between two registries in folders."""

from __future__ import annotations

import contextlib
import io
import re
import threading
import tomllib
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dockhand_mirror import mirror
from dockhand_mirror.hooks import MirrorPlugin, plugin
from dockhand_testing import EventHandlerContract, build_artifact, build_image, build_index, reply

from dockhand_core import (
    AsyncDockhand,
    ConfigError,
    ConnectionFailed,
    Dockhand,
    DockhandError,
    RegistryClient,
    Unsupported,
)
from dockhand_core.events import ManifestPushed, RegistryBaseEvent, TagDeleted

README = Path(__file__).parent.parent / "README.md"
MARK = {"User-Agent": "dockhand-mirror"}
APP = "library/app"
IMAGE = build_image("linux/amd64")
OTHER = build_image("linux/amd64", layers=[{"etc/motd": b"other"}])
INDEX = build_index("linux/amd64", "linux/arm64")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror, "PAUSES", (0.01,))


@pytest.fixture
def connections(tmp_path: Path) -> dict[str, Any]:
    return {
        "main": {"driver": "embedded", "root": str(tmp_path / "main")},
        "backup": {"driver": "embedded", "root": str(tmp_path / "backup"), "headers": MARK},
    }


class Mirrored:
    """Two registries, and a mirror of one to the other."""

    def __init__(self, connections: Mapping[str, Any], **settings: Any) -> None:
        table = {"from": ["main"], "to": "backup", **settings}
        self.dockhand = Dockhand({"connections": connections, "plugins": {"under-test": table}})
        self.plugin = MirrorPlugin()
        self.dockhand.plugins.register(self.plugin, name="under-test")
        self.source = self.dockhand.connection("main")
        self.target = self.dockhand.connection("backup")

    def pushed(self, tag: str | None, digest: str | None = None, **values: Any) -> None:
        """Call the handler with the event of a push."""
        values = {"action": "push", "tag": tag, "digest": digest, **values}
        self.plugin.dockhand_event(ManifestPushed(**event_values(values)))

    def deleted(self, tag: str) -> None:
        """Call the handler with the event of a deleted tag."""
        values = event_values({"action": "delete", "tag": tag})
        self.plugin.dockhand_event(TagDeleted(**values))

    @property
    def copied(self) -> dict[str, list[str]]:
        """The tags of each repository at the target."""
        return tags_of(self.target)


def event_values(values: dict[str, Any]) -> dict[str, Any]:
    common = {"id": "1", "timestamp": datetime.now(UTC), "repository": APP, "connection": "main"}
    return {**common, **values}


def tags_of(client: RegistryClient) -> dict[str, list[str]]:
    return {name: list(client.tags(name)) for name in client.repositories()}


@pytest.fixture
def make(connections: dict[str, Any]) -> Iterator[Any]:
    with contextlib.ExitStack() as stack:

        def make(**settings: Any) -> Mirrored:
            mirrored = Mirrored(connections, **settings)
            stack.callback(mirrored.dockhand.close)
            return mirrored

        yield make


class TestMirrorHandler(EventHandlerContract):
    """The contract of event handlers, with the tag of the sample events at the source."""

    handler = plugin
    settings: ClassVar = {"from": ["main"], "to": "backup", "deletions": True}

    @pytest.fixture
    def dockhand_config(self, connections: dict[str, Any]) -> Iterator[dict[str, Any]]:
        config = {"connections": connections}
        with Dockhand(config) as dockhand:
            IMAGE.push(dockhand.connection("main"), APP, "v1")
            self.target = dockhand.connection("backup")
            yield config

    def state(self) -> object:
        return tags_of(self.target)

    def handled(self, event: RegistryBaseEvent) -> bool:
        return isinstance(event, ManifestPushed) and self.state() == {APP: ["v1"]}


def test_tag_is_copied(make: Any) -> None:
    mirrored = make()
    INDEX.push(mirrored.source, APP, "v1")
    mirrored.pushed("v1", INDEX.digest)
    assert mirrored.target.manifest(APP, "v1").raw == INDEX.raw
    assert mirrored.target.image(APP, "v1", platform="linux/arm64").layers


def test_tag_moved_meanwhile(make: Any) -> None:
    """The present image of the tag is copied, also by an old event that is replayed."""
    mirrored = make()
    IMAGE.push(mirrored.source, APP, "v1")
    OTHER.push(mirrored.source, APP, "v1")
    for image in (IMAGE, OTHER, IMAGE):
        mirrored.pushed("v1", image.digest)
        assert mirrored.target.manifest_head(APP, "v1").digest == OTHER.digest


def test_tag_deleted_meanwhile(make: Any) -> None:
    mirrored = make()
    mirrored.pushed("v1", IMAGE.digest)
    assert mirrored.copied == {}


def test_tag_deleted_during_its_copy(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    mirrored = make()
    IMAGE.push(mirrored.source, APP, "v1")
    copy = RegistryClient.copy

    def delete_and_copy(source: RegistryClient, name: str, tag: str, **options: Any) -> Any:
        source.delete_tag(name, tag)
        return copy(source, name, tag, **options)

    monkeypatch.setattr(RegistryClient, "copy", delete_and_copy)
    mirrored.pushed("v1", IMAGE.digest)  # nothing is left to do
    assert mirrored.copied == {}


def test_tag_written_after_its_event(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Distribution sends the event first."""
    monkeypatch.setattr(mirror, "PAUSES", (0.05,) * 100)
    mirrored = make()
    OTHER.push(mirrored.source, APP, "v1")
    late = threading.Timer(0.2, IMAGE.push, (mirrored.source, APP, "v1"))
    late.start()
    mirrored.pushed("v1", IMAGE.digest)
    late.join()
    assert mirrored.target.manifest_head(APP, "v1").digest == IMAGE.digest


def test_image_of_an_index_waits_for_its_tag(make: Any) -> None:
    mirrored = make()
    INDEX.push(mirrored.source, APP, "v1")
    mirrored.pushed(None, INDEX.manifest.manifests[0].digest)
    mirrored.pushed(None, INDEX.digest)
    mirrored.pushed(None, None)
    assert mirrored.copied == {}


def test_referrer_follows_its_subject(make: Any) -> None:
    mirrored = make(to_repository="copy/{repository}")
    INDEX.push(mirrored.source, APP, "v1")
    sbom = build_artifact({"sbom.json": b"{}"}, artifact_type="a/sbom", subject=INDEX)
    note = build_artifact({"note": b"ok"}, artifact_type="a/note", subject=sbom)
    sbom.push(mirrored.source, APP)
    mirrored.pushed(None, sbom.digest)
    assert mirrored.copied == {}, "the subject was not copied"
    mirrored.pushed("v1", INDEX.digest)
    referrers = mirrored.target.referrers("copy/library/app", INDEX.digest)
    assert [each.digest for each in referrers.manifests] == [sbom.digest]
    note.push(mirrored.source, APP)
    mirrored.pushed(None, note.digest)
    assert mirrored.target.manifest_exists("copy/library/app", note.digest)


def test_cosigns_tag_follows_its_subject(make: Any) -> None:
    mirrored = make()
    signature = f"{INDEX.digest.replace(':', '-')}.sig"
    INDEX.push(mirrored.source, APP, "v1")
    OTHER.push(mirrored.source, APP, signature)
    mirrored.pushed(signature, OTHER.digest)
    assert mirrored.copied == {}
    mirrored.pushed("v1", INDEX.digest)
    assert mirrored.copied == {APP: [signature, "v1"]}
    IMAGE.push(mirrored.source, APP, signature)
    mirrored.pushed(signature, IMAGE.digest)
    assert mirrored.target.manifest_head(APP, signature).digest == IMAGE.digest


def test_without_referrers(make: Any) -> None:
    mirrored = make(referrers=False)
    sbom = build_artifact({"sbom.json": b"{}"}, subject=IMAGE)
    signature = f"{IMAGE.digest.replace(':', '-')}.sig"
    IMAGE.push(mirrored.source, APP, "v1")
    sbom.push(mirrored.source, APP, signature)
    mirrored.pushed("v1", IMAGE.digest)
    mirrored.pushed(None, sbom.digest)
    mirrored.pushed(signature, sbom.digest)
    assert mirrored.copied == {APP: ["v1"]}
    assert not mirrored.target.manifest_exists(APP, sbom.digest)


@pytest.mark.parametrize(
    ("repositories", "tags", "copied"),
    [
        (["library/*"], ["*"], {APP: ["latest", "v1"]}),
        (["team/**", "library/app"], ["v*"], {APP: ["v1"], "team/a/b": ["v1"]}),
        (["team/*"], ["*"], {}),
        (["**"], ["lat?st"], {APP: ["latest"], "team/a/b": ["latest"]}),
        (["library.app"], ["*"], {}),
    ],
)
def test_patterns(make: Any, repositories: Any, tags: Any, copied: Any) -> None:
    mirrored = make(repositories=repositories, tags=tags)
    for repository in (APP, "team/a/b"):
        IMAGE.push(mirrored.source, repository, "v1", "latest")
        for tag in ("v1", "latest"):
            mirrored.pushed(tag, IMAGE.digest, repository=repository)
    assert mirrored.copied == copied


def test_pushes_of_mirrors_are_ignored(make: Any) -> None:
    mirrored = make()
    IMAGE.push(mirrored.source, APP, "v1")
    mirrored.pushed("v1", IMAGE.digest, request_user_agent="dockhand-mirror")
    assert mirrored.copied == {}
    mirrored.pushed("v1", IMAGE.digest, request_user_agent="docker/29")
    assert mirrored.copied == {APP: ["v1"]}


def test_connection_of_an_event(make: Any) -> None:
    mirrored = make()
    IMAGE.push(mirrored.source, APP, "v1")
    mirrored.pushed("v1", IMAGE.digest, connection="another")
    assert mirrored.copied == {}
    mirrored.pushed("v1", IMAGE.digest, connection=None)
    assert mirrored.copied == {APP: ["v1"]}


def test_deletions(make: Any) -> None:
    mirrored = make(deletions=True)
    IMAGE.push(mirrored.source, APP, "v1", "v2")
    mirrored.pushed("v1", IMAGE.digest)
    mirrored.pushed("v2", IMAGE.digest)
    mirrored.deleted("v1")
    assert mirrored.copied == {APP: ["v1", "v2"]}, "the source still has the tag, or has it again"
    mirrored.source.delete_tag(APP, "v1")
    mirrored.deleted("v1")
    mirrored.deleted("v1")
    assert mirrored.copied == {APP: ["v2"]}


def test_deletions_are_not_mirrored_by_default(make: Any) -> None:
    mirrored = make()
    IMAGE.push(mirrored.target, APP, "v1")
    mirrored.deleted("v1")
    assert mirrored.copied == {APP: ["v1"]}


def test_target_that_cannot_delete_tags(make: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no error, because no later attempt would succeed."""
    mirrored = make(deletions=True)

    def refuse(repository: str, tag: str) -> None:
        raise Unsupported(f"{repository} {tag}: no deletion of tags")

    monkeypatch.setattr(mirrored.target, "delete_tag", refuse)
    mirrored.deleted("v1")


def test_broken_target_raises(make: Any, connections: dict[str, Any]) -> None:
    """The receiver calls the handler again."""
    broken = {"driver": "distribution", "base_uri": "http://127.0.0.1:9", "retries": 0}
    connections["backup"] = {**broken, "headers": MARK}
    mirrored = make()
    IMAGE.push(mirrored.source, APP, "v1")
    with pytest.raises(ConnectionFailed):
        mirrored.pushed("v1", IMAGE.digest)


def test_refused_manifest_is_dropped(
    make: Any, connections: dict[str, Any], scripted_registry: Any, caplog: Any
) -> None:
    connections["backup"] = {
        "driver": "distribution",
        "base_uri": scripted_registry.url,
        "headers": MARK,
    }
    refusal = b'{"errors": [{"code": "MANIFEST_INVALID", "message": "unknown type"}]}'
    mirrored = make()
    IMAGE.push(mirrored.source, APP, "v1")
    scripted_registry.then(reply(400, refusal), method="PUT", path="/manifests/")
    mirrored.pushed("v1", IMAGE.digest)
    assert "library/app v1 cannot be mirrored" in caplog.text
    mirrored.pushed("v1", IMAGE.digest)
    assert mirrored.target.manifest_exists(APP, "v1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"from": ["mian"]}, "from and to: there is no connection 'mian'"),
        ({"to": "nowhere"}, "from and to: there is no connection 'nowhere'"),
        ({"from": []}, "from: "),
        ({"from": "main"}, "from: "),
        ({"from": ["main", "backup"]}, "to: 'backup' is also in from"),
        ({"to": "main", "from": ["backup"]}, 'needs headers = { User-Agent = "dockhand-mirror" }'),
        ({"to_repository": "copy"}, "to_repository: has to contain {repository}"),
        ({"to_repository": "Copy/{repository}"}, "to_repository: "),
        ({"tag": ["v*"]}, "unknown key 'tag'"),
    ],
)
def test_wrong_settings(make: Any, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        make(**settings)
    assert "plugin 'under-test'" in str(raised.value)


def test_managers_of_a_process(connections: dict[str, Any]) -> None:
    """Managers without the table change nothing; the newest open one with the table is used."""
    own = MirrorPlugin()
    tables = {"plugins": {"own": {"from": ["main"], "to": "backup"}}}
    push = ManifestPushed(**event_values({"action": "push", "tag": "v1"}))
    own.dockhand_event(push)  # no manager: nothing to do
    with Dockhand({"connections": connections, **tables}) as first:
        first.plugins.register(own, name="own")
        IMAGE.push(first.connection("main"), APP, "v1")
        with Dockhand({"connections": connections}) as second:
            second.plugins.register(own, name="own")
        with Dockhand({"connections": connections, **tables}) as third:
            third.plugins.register(own, name="own")
        own.dockhand_event(push)
        assert tags_of(first.connection("backup")) == {APP: ["v1"]}
    with pytest.raises(DockhandError, match="closed"):
        own.dockhand_event(push)


@pytest.mark.parametrize("name", ["mirror", "own"])
def test_manager_of_an_asyncio_program(
    connections: dict[str, Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the plugin that is installed, and with one that is registered by hand."""
    at_exit: list[Callable[[], None]] = []
    monkeypatch.setattr("atexit.register", at_exit.append)
    used = plugin if name == "mirror" else MirrorPlugin()
    table = {"from": ["main"], "to": "backup"}
    manager = AsyncDockhand({"connections": connections, "plugins": {name: table}})
    if name == "own":
        manager.plugins.register(used, name="own")
    with Dockhand({"connections": connections}) as dockhand:
        IMAGE.push(dockhand.connection("main"), APP, "v1")
        for tag in ("v1", "v2"):
            push = event_values({"action": "push", "tag": tag})
            used.dockhand_event(ManifestPushed(**push))
        assert tags_of(dockhand.connection("backup")) == {APP: ["v1"]}
    (close,) = at_exit
    close()
    with pytest.raises(DockhandError, match="closed"):
        used.dockhand_event(ManifestPushed(**event_values({"action": "push", "tag": "v1"})))


def test_readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The program of the README prints what the comment promises, and its settings are right."""
    blocks = dict(re.findall(r"```(toml|python)\n(.*?)```", README.read_text(), re.DOTALL))
    monkeypatch.chdir(tmp_path)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(blocks["python"], "README.md", "exec"), {})
    promised = re.findall(r"^\s*print\(.*\)  # (.*)$", blocks["python"], re.MULTILINE)
    assert promised == printed.getvalue().splitlines() == ["['v1']"]
    with Dockhand(tomllib.loads(blocks["toml"])) as dockhand:
        assert dockhand.connections == ("main", "backup")
    rows = set(re.findall(r"^\| `(\w+)` \|", README.read_text(), re.MULTILINE))
    assert rows == {field.alias or name for name, field in mirror.Settings.model_fields.items()}
