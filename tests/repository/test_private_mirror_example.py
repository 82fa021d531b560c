"""`examples/private_mirror.py` as a process, between registries of several kinds."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from dockhand_testing import BuiltImage, ScriptedRegistry, build_image, build_index, reply
from dockhand_testing.contracts.samples import push_image, push_index
from registries import crane_registry, distribution, embedded

from dockhand_core import ImageIndex, RegistryClient, connect

PROGRAM = Path(__file__).parents[2] / "examples" / "private_mirror.py"
NULL = {"driver": "null"}


class Mirror:
    """A folder with the program's settings; the target is an embedded registry."""

    def __init__(self, folder: Path, source: str) -> None:
        self.folder, self.host = folder, source.removeprefix("http://")
        self.connections = f'[connections.source]\nbase_uri = "{source}"\nretries = 0\n'
        self.connections += "rate_limit_timeout = 0\n"

    def write(self, *tables: str) -> None:
        """Write the settings, with these tables of images."""
        images = "".join(f"[[images]]\n{table}\n" for table in tables)
        top = 'target = "private"\ndigests = "digests.json"\n'
        (self.folder / "mirror.toml").write_text(top + images)
        target = '[connections.private]\ndriver = "embedded"\nroot = "private"\n'
        (self.folder / "dockhand.toml").write_text(self.connections + target)

    def run(self, *options: str) -> subprocess.CompletedProcess[str]:
        """Run the program."""
        command = [sys.executable, str(PROGRAM), "mirror.toml", *options]
        return subprocess.run(
            command, cwd=self.folder, capture_output=True, text=True, check=False, timeout=100
        )

    def target(self) -> RegistryClient:
        """A client of the target."""
        return connect(str(self.folder / "private"), driver="embedded", logging=NULL)

    def tags(self, repository: str) -> dict[str, str]:
        """The tags of the target, each with its digest."""
        with self.target() as target:
            return {
                tag: target.manifest_head(repository, tag).digest for tag in target.tags(repository)
            }

    def digests(self) -> Any:
        """The file of digests."""
        return json.loads((self.folder / "digests.json").read_text())


def image_of(text: str) -> BuiltImage:
    """Build an image with a layer of its own."""
    return build_image(layers=[{"text": text.encode()}])


@pytest.fixture
def mirror(clean: Path, scripted_registry: ScriptedRegistry) -> Mirror:
    return Mirror(clean, scripted_registry.url)


def fetched(registry: ScriptedRegistry, since: int) -> list[str]:
    """The paths of manifests that were fetched by GET since a number of requests."""
    return [
        request.target
        for request in registry.requests[since:]
        if request.method == "GET" and "/manifests/" in request.target
    ]


def test_new_and_moved_tags_are_copied(mirror: Mirror, scripted_registry: ScriptedRegistry) -> None:
    first = scripted_registry.push(image_of("one"), "team/app", "1.0", "other")
    second = scripted_registry.push(image_of("two"), "team/app", "1.1")
    mirror.write(f'source = "{mirror.host}/team/app"\nrepository = "mirror/app"\ntags = ["1.*"]')
    planned = mirror.run("--dry-run")
    assert (planned.returncode, planned.stderr) == (0, "")
    assert sorted(planned.stdout.splitlines()) == [
        f"@private/mirror/app:1.0@{first.digest}: would be copied",
        f"@private/mirror/app:1.1@{second.digest}: would be copied",
    ]
    assert fetched(scripted_registry, 0) == []
    assert not (mirror.folder / "digests.json").exists()
    done = mirror.run()
    assert (done.returncode, done.stderr) == (0, "")
    assert mirror.tags("mirror/app") == {"1.0": first.digest, "1.1": second.digest}
    assert mirror.digests()["mirror/app:1.0"]["target"] == first.digest
    before = len(scripted_registry.requests)
    again = mirror.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert fetched(scripted_registry, before) == []
    moved = scripted_registry.push(image_of("three"), "team/app", "1.1")
    third = mirror.run()
    assert third.returncode == 0
    assert third.stdout.startswith(f"@private/mirror/app:1.1@{moved.digest}: copied, ")
    assert mirror.tags("mirror/app") == {"1.0": first.digest, "1.1": moved.digest}
    with mirror.target() as target:  # a copy that was lost at the target comes again
        target.delete_manifest("mirror/app", first.digest)
    assert mirror.run().returncode == 0
    assert mirror.tags("mirror/app")["1.0"] == first.digest


def test_a_failing_tag_or_image_does_not_stop_the_others(
    mirror: Mirror, scripted_registry: ScriptedRegistry
) -> None:
    broken = scripted_registry.push(image_of("broken"), "team/app", "broken")
    scripted_registry.push(image_of("good"), "team/app", "good")
    layer = broken.manifest.layers[0].digest
    wrong = reply(200, b"other bytes")
    scripted_registry.answer = lambda request: (
        wrong if request.method == "GET" and layer in request.target else None
    )
    app, absent = f'source = "{mirror.host}/team/app"', f'source = "{mirror.host}/team/absent"'
    mirror.write(f'{absent}\ntags = ["*"]', f'{app}\ntags = ["absent", "none-*", "broken", "good"]')
    done = mirror.run()
    assert done.returncode == 1
    assert list(mirror.tags("team/app")) == ["good"]
    lines = done.stderr.splitlines()
    assert [line.split(": ")[:2] for line in lines] == [
        [f"{mirror.host}/team/absent", "NameUnknown"],
        ["@private/team/app:none-*", "DockhandError"],
        ["@private/team/app:absent", "ManifestUnknown"],
        ["@private/team/app:broken", "DigestMismatch"],
    ]
    scripted_registry.answer = lambda _: None
    scripted_registry.push(image_of("good"), "team/absent", "v1")
    mirror.write(f'{absent}\ntags = ["*"]', f'{app}\ntags = ["broken", "good"]')
    assert mirror.run().returncode == 0
    assert mirror.tags("team/app")["broken"] == broken.digest


def test_a_rate_limit_leaves_the_rest_of_that_registry(
    mirror: Mirror, scripted_registry: ScriptedRegistry, clean: Path
) -> None:
    scripted_registry.push(image_of("one"), "team/app", "1.0", "1.1")
    limited = reply(429, b"{}", Retry_After="7200")
    scripted_registry.then(*[limited] * 20, method="GET", path="/manifests/")
    app, other = f'source = "{mirror.host}/team/app"', f'source = "{mirror.host}/team/other"'
    with embedded(clean / "second") as url, connect(url, logging=NULL) as second:
        image = push_image(second, "free/app", "v1")
        free = f'source = "{url.removeprefix("http://")}/free/app"'
        mirror.write(*(f'{table}\ntags = ["1.0", "1.1"]' for table in (app, other)),
                     f'{free}\ntags = ["v*"]')  # fmt: skip
        done = mirror.run()
    assert done.returncode == 3
    lines = done.stderr.splitlines()
    assert lines[-1] == f"{mirror.host}/team/other: left for the next run"
    assert f"{mirror.host}/team/app: TooManyRequests: " in done.stderr
    assert not any("/team/other/" in request.target for request in scripted_registry.requests)
    assert mirror.tags("free/app") == {"v1": image.digest}


def test_newest_platforms_and_pinned_digests(
    mirror: Mirror, scripted_registry: ScriptedRegistry
) -> None:
    days = [f"2024-01-0{day}T00:00:00Z" for day in range(1, 4)]
    images = [build_image(labels={"day": day}, created=day) for day in days]
    for number, built in enumerate(images):
        scripted_registry.push(built, "team/app", f"1.{number}")
    index = scripted_registry.push(build_index("linux/amd64", "linux/arm64"), "team/multi", "v1")
    pinned = f'pinned = {{ "stable" = "{images[0].digest}", "gone" = "sha256:{"0" * 64}" }}'
    mirror.write(
        f'source = "@source/team/app"\ntags = ["1.*"]\nnewest = 2\n{pinned}',
        'source = "@source/team/multi"\ntags = ["v1"]\nplatforms = ["linux/arm64"]',
    )
    done = mirror.run()
    assert done.returncode == 1
    assert "@private/team/app:gone: ManifestUnknown: " in done.stderr
    assert mirror.tags("team/app") == {
        "1.1": images[1].digest,
        "1.2": images[2].digest,
        "stable": images[0].digest,
    }
    with mirror.target() as target:
        copied = target.manifest("team/multi", "v1")
    assert isinstance(copied, ImageIndex)
    assert [str(each.platform) for each in copied.manifests] == ["linux/arm64"]
    known = mirror.digests()["team/multi:v1"]
    assert (known["source"], known["target"]) == (index.digest, copied.digest)
    scripted_registry.push(images[2], "team/app", "stable")  # moves at the source, not here
    before = len(scripted_registry.requests)
    mirror.write(
        f'source = "@source/team/app"\ntags = ["1.*"]\nnewest = 2\n{pinned.partition(",")[0]} }}',
        'source = "@source/team/multi"\ntags = ["v1"]\nplatforms = ["linux/arm64"]',
    )
    again = mirror.run()
    assert (again.returncode, again.stdout, again.stderr) == (0, "", "")
    assert fetched(scripted_registry, before) == []
    assert mirror.tags("team/app")["stable"] == images[0].digest
    # with other settings, the image is copied again
    mirror.write('source = "@source/team/multi"\ntags = ["v1"]')
    assert mirror.run().returncode == 0
    assert mirror.tags("team/multi")["v1"] == index.digest


def test_watch_repeats_until_it_is_stopped(
    mirror: Mirror, scripted_registry: ScriptedRegistry
) -> None:
    scripted_registry.push(image_of("one"), "team/app", "v1")
    mirror.write(f'source = "{mirror.host}/team/app"\ntags = ["v*"]')
    command = [sys.executable, str(PROGRAM), "mirror.toml", "--watch", "1"]
    with subprocess.Popen(
        command, cwd=mirror.folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("@private/team/app:v1@sha256:")
        scripted_registry.push(image_of("two"), "team/app", "v2")
        assert process.stdout.readline().startswith("@private/team/app:v2@sha256:")
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=30)
        assert (process.returncode, errors) == (130, "")


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('source = "a"', "images, table 1: give tags"),
        ('source = "docker.io/library/nginx:1"\ntags = ["1"]', "put its tag into tags"),
        ('source = "@none/app"\ntags = ["1"]', "no connection named 'none'"),
        ('source = "a"\ntag = ["1"]', "images, table 1: unknown key 'tag'; did you mean 'tags'?"),
        ('source = "a"\ntags = ["1"]\nnewest = 0', "images, table 1: newest"),
    ],
)
def test_wrong_settings(mirror: Mirror, table: str, message: str) -> None:
    mirror.write(table)
    done = mirror.run()
    assert done.returncode == 2
    assert done.stderr.startswith("ConfigError: ")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("content", ["", "[]", '{"team/app:v1": 1}', "{"])
def test_file_of_digests_that_is_another(mirror: Mirror, content: str) -> None:
    mirror.write('source = "a"\ntags = ["1"]')
    (mirror.folder / "digests.json").write_text(content)
    done = mirror.run()
    assert done.returncode == 2
    assert done.stderr.endswith("digests.json: this program has not written it; move it away\n")
    assert (mirror.folder / "digests.json").read_text() == content


@pytest.fixture(params=["distribution-2.8", "distribution-3.1", "crane"])
def real(request: pytest.FixtureRequest, clean: Path) -> Iterator[str]:
    """Provide the URL of a registry to mirror."""
    kind: str = request.param
    folder = clean / "source"
    folder.mkdir()
    running = (
        crane_registry(folder) if kind == "crane" else distribution(kind.partition("-")[2], folder)
    )
    with running as url:
        yield url


@pytest.mark.live
def test_from_real_registries(clean: Path, real: str) -> None:
    with connect(real, logging=NULL) as registry:
        index = push_index(registry, "team/app", "v1")
        sbom = registry.push_artifact(
            "team/app", None, [], artifact_type="application/x-notes", subject="v1"
        )
    mirror = Mirror(clean, real)
    mirror.write(f'source = "{mirror.host}/team/app"\ntags = ["v*"]\nreferrers = true')
    for _ in range(2):
        done = mirror.run()
        assert (done.returncode, done.stderr) == (0, "")
        assert mirror.tags("team/app") == {"v1": index.digest}
        with mirror.target() as target:
            found = target.referrers("team/app", index.digest).manifests
        assert [each.digest for each in found] == [sbom.digest]
