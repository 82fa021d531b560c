"""The driver fulfils the contract of registry drivers, and Harbor's operations work at a fake."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, ClassVar

import pytest
from dockhand_harbor import (
    AccessInvalid,
    AsyncHarborClient,
    Conflict,
    HarborClient,
    PreconditionFailed,
)
from dockhand_testing import CUT, RegistryDriverContract, ScriptedRegistry, build_image, reply
from fake_harbor import ADMIN, ROBOT, FakeHarbor

from dockhand_core import (
    AsyncDockhand,
    ConnectionFailed,
    Denied,
    Dockhand,
    ManifestUnknown,
    NameInvalid,
    NotFound,
    RetentionPolicy,
    Unauthorized,
    connect,
)


@pytest.fixture
def harbor(scripted_registry: ScriptedRegistry) -> Iterator[FakeHarbor]:
    fake = FakeHarbor(scripted_registry)
    yield fake
    fake.close()


def client(harbor: FakeHarbor, account: tuple[str, str] = ADMIN, **changed: Any) -> HarborClient:
    table = harbor.table(account) | changed
    url = table.pop("base_uri")
    found = connect(url, **table)
    assert isinstance(found, HarborClient)
    return found


class TestHarborDriver(RegistryDriverContract):
    """The contract, at a fake Harbor that lets the robot account in."""

    driver = "harbor"
    settings: ClassVar = {"page_size": 2}
    namespace = "team"

    @pytest.fixture
    def base(self, harbor: FakeHarbor) -> str:
        """The URL of the fake."""
        return harbor.url

    def table(self, **settings: Any) -> dict[str, Any]:
        auth = {"driver": "basic", "username": ROBOT[0], "password": ROBOT[1]}
        return {"driver": self.driver, "auth": auth, **settings}


def test_projects(harbor: FakeHarbor) -> None:
    with client(harbor, page_size=2) as registry:
        assert [project.name for project in registry.projects()] == ["2024", "library", "team"]
        assert [project.name for project in registry.projects(public=True)] == ["library"]
        found = registry.project("2024")
        assert (found.id, found.public, found.repositories) == (3, False, 0)
        assert found.created == datetime(2024, 1, 31, 12, tzinfo=UTC)
        with pytest.raises(NotFound):
            registry.project("unknown")
        with pytest.raises(NameInvalid):
            registry.project("team/app")


def test_create_and_delete_a_project(harbor: FakeHarbor) -> None:
    with client(harbor) as registry:
        assert registry.create_project("new", public=True).public
        with pytest.raises(Conflict) as caught:
            registry.create_project("new")
        assert caught.value.status == 409
        registry.delete_project("new")
        with pytest.raises(NotFound):
            registry.delete_project("new")
        registry.push_artifact("team/app", "latest", [])
        with pytest.raises(PreconditionFailed):
            registry.delete_project("team")
    with client(harbor, ROBOT) as registry, pytest.raises(Denied):
        registry.create_project("other")


def test_creation_is_not_repeated(harbor: FakeHarbor, scripted_registry: ScriptedRegistry) -> None:
    """If the reply is lost, there may be an object already."""
    with client(harbor) as registry:
        scripted_registry.then([CUT], [CUT], method="POST")
        with pytest.raises(ConnectionFailed):
            registry.create_project("new")
        with pytest.raises(ConnectionFailed):
            registry.create_robot("team", "new")
    assert [each.method for each in harbor.requests].count("POST") == 2


def test_repositories_of_a_project(harbor: FakeHarbor) -> None:
    with client(harbor, page_size=1) as registry:
        for name in ("library/x", "team/a", "team/deep/b"):
            registry.push_artifact(name, "latest", [])
        assert [each.name for each in registry.project_repositories("team")] == [
            "team/a",
            "team/deep/b",
        ]
        with pytest.raises(NotFound):
            list(registry.project_repositories("unknown"))


def test_slashes_are_encoded_twice(harbor: FakeHarbor) -> None:
    with client(harbor, ROBOT) as registry:
        registry.push_artifact("team/deep/app", "v1", [])
        [artifact] = registry.artifacts("team/deep/app")
        assert [tag.name for tag in artifact.tags] == ["v1"]
        assert artifact.pulled_at is None
    path = "/api/v2.0/projects/team/repositories/deep%252Fapp/artifacts"
    assert path in [each.path for each in harbor.requests]


def test_a_repository_needs_a_project(harbor: FakeHarbor) -> None:
    with client(harbor) as registry, pytest.raises(NameInvalid, match="project/repository"):
        list(registry.artifacts("app"))


@pytest.mark.parametrize("driver", ["basic", "token"])
def test_catalog_is_for_administrators(harbor: FakeHarbor, driver: str) -> None:
    """A robot account's list comes from the API, without a sign in the result."""
    with client(harbor) as registry:
        for name in ("team/a", "team/b", "team/c"):
            registry.push_artifact(name, "latest", [])
        assert list(registry.repositories()) == ["team/a", "team/b", "team/c"]
    assert not any(each.path == "/api/v2.0/repositories" for each in harbor.requests)
    table = harbor.table(ROBOT, driver)
    with client(harbor, ROBOT, auth=table["auth"], page_size=2) as registry:
        assert list(registry.repositories()) == ["team/a", "team/b", "team/c"]
        page = registry.repository_page(limit=2, after="team/a")
        assert (page.items, page.next) == (("team/b", "team/c"), None)
    assert any(each.path == "/api/v2.0/repositories" for each in harbor.requests)


def test_last_repository_is_gone(harbor: FakeHarbor, scripted_registry: ScriptedRegistry) -> None:
    """Harbor's catalog refuses a position that was deleted."""
    with client(harbor) as registry:
        registry.push_artifact("team/c", "latest", [])
        scripted_registry.then(reply(400), path="/v2/_catalog")
        assert registry.repository_page(limit=1, after="team/b").items == ("team/c",)


@pytest.mark.parametrize("account", [(ROBOT[0], "wrong"), None])
def test_wrong_password_is_no_short_list(
    harbor: FakeHarbor, account: tuple[str, str] | None
) -> None:
    """Harbor's API treats a wrong password as no account, and lists what is public."""
    changed = {} if account else {"auth": {"driver": "null"}}
    with client(harbor, account or ADMIN, **changed) as registry:
        for read in (registry.projects, registry.repositories):
            with pytest.raises(Unauthorized, match="`basic`"):
                list(read())
        assert [project.name for project in registry.projects(public=True)] == ["library"]


def test_delete_a_tag(harbor: FakeHarbor) -> None:
    harbor.immutable = {"v1"}
    with client(harbor, ROBOT) as registry:
        registry.push_artifact("team/app", "latest", [])
        registry.delete_tag("team/app", "latest")
        assert list(registry.tags("team/app")) == []
        with pytest.raises(ManifestUnknown):
            registry.delete_tag("team/app", "latest")
        with pytest.raises(PreconditionFailed) as caught:
            registry.delete_tag("team/app", "v1")
        assert caught.value.status == 412


def test_tag_that_an_earlier_attempt_deleted(
    harbor: FakeHarbor, scripted_registry: ScriptedRegistry
) -> None:
    """The reply to the first DELETE was lost; the second finds no tag."""
    with client(harbor, ROBOT) as registry:
        scripted_registry.then([CUT], reply(404), path="/tags/v1")
        registry.delete_tag("team/app", "v1")
    assert [each.method for each in harbor.requests if each.path.endswith("/tags/v1")] == [
        "DELETE",
        "DELETE",
    ]


def test_retention_uses_push_times_and_finds_untagged(harbor: FakeHarbor) -> None:
    policy = RetentionPolicy(tags=["*"], keep_last=1, untagged_older_than="1d")
    with client(harbor, ROBOT, page_size=1) as registry:
        for tag, time in (("b", "2024-03-01"), ("a", "2024-02-01"), ("c", "2024-01-01")):
            registry.push_artifact("team/app", tag, [], annotations={"tag": tag})
            harbor.pushed[tag] = f"{time}T00:00:00.000Z"
        created = {"org.opencontainers.image.created": "2024-01-01T00:00:00Z"}
        untagged = registry.push_artifact("team/app", "d", [], annotations=created)
        registry.delete_tag("team/app", "d")
        plan = registry.plan_retention("team/app", policy)
        assert untagged.digest in {each.digest for each in plan.delete}
        registry.apply_retention(plan)
        assert list(registry.tags("team/app")) == ["b"]
        assert len(list(registry.artifacts("team/app"))) == 1


def test_retention_without_the_api(harbor: FakeHarbor, scripted_registry: ScriptedRegistry) -> None:
    """Without the right to list artifacts, ages are those in manifests; tokens are an error."""
    policy = RetentionPolicy(tags=["*"], keep_newer_than="1d")
    created = {"org.opencontainers.image.created": "2024-01-01T00:00:00Z"}
    with client(harbor, ROBOT) as registry:
        registry.push_artifact("team/app", "v1", [], annotations=created)
        scripted_registry.then(reply(403), path="/artifacts")
        [deletion] = registry.plan_retention("team/app", policy).delete
        assert deletion.tags == ("v1",)
    with (
        client(harbor, auth=harbor.table(ROBOT, "token")["auth"]) as registry,
        pytest.raises(Unauthorized, match="`basic`"),
    ):
        registry.plan_retention("team/app", policy)


def test_robot(harbor: FakeHarbor) -> None:
    with client(harbor) as registry:
        robot = registry.create_robot("team", "deploy", access=["repository:pull", "tag:list"])
        assert robot.name == "robot$team+deploy"
        assert "new-secret" not in repr(robot)
        assert robot.expires_at == datetime.fromtimestamp(2_000_000_000, UTC)
        assert registry.create_robot("team", "forever", days=-1).expires_at is None
        assert harbor.robots[0]["permissions"][0]["access"] == [
            {"resource": "repository", "action": "pull"},
            {"resource": "tag", "action": "list"},
        ]
        with client(harbor, (robot.name, robot.secret.get_secret_value())) as as_robot:
            as_robot.ping()
            with pytest.raises(Denied):
                as_robot.create_robot("team", "more")
        with pytest.raises(Conflict):
            registry.create_robot("team", "deploy")
        with pytest.raises(AccessInvalid, match="resource:action"):
            registry.create_robot("team", "x", access="pull")
        registry.delete_robot(robot)
        with client(harbor, (robot.name, "new-secret")) as gone, pytest.raises(Unauthorized):
            gone.ping()


@pytest.mark.parametrize("driver", ["basic", "token"])
@pytest.mark.parametrize("source", ["file", "variable in the file", "environment", "shell"])
def test_robot_names_pass_unharmed(
    harbor: FakeHarbor, driver: str, source: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `$` of name and secret means nothing in TOML, in variables and in single quotes."""
    for name in [each for each in os.environ if each.startswith("DOCKHAND_")]:
        monkeypatch.delenv(name)
    name, secret = ROBOT
    file = f'[connections.default]\ndriver = "harbor"\nbase_uri = "{harbor.url}"\n'
    if source == "file":
        file += f'auth = {{ driver = "{driver}", username = "{name}", password = "{secret}" }}\n'
    elif source == "variable in the file":
        monkeypatch.setenv("HARBOR_SECRET", secret)
        file += f'auth = {{ driver = "{driver}", username = "{name}", password = '
        file += '"${HARBOR_SECRET}" }\n'
    else:
        if source == "shell":
            script = f"printf '%s\\n%s' '{name}' '{secret}'"
            printed = subprocess.run(
                ["sh", "-c", script], capture_output=True, text=True, check=True
            )
            name, secret = printed.stdout.split("\n")
        monkeypatch.setenv("DOCKHAND_AUTH_DRIVER", driver)
        monkeypatch.setenv("DOCKHAND_USERNAME", name)
        monkeypatch.setenv("DOCKHAND_PASSWORD", secret)
    (tmp_path / "dockhand.toml").write_text(file)
    monkeypatch.chdir(tmp_path)
    with Dockhand() as dockhand:
        registry = dockhand.connection("default", HarborClient)
        registry.ping()
        registry.push_artifact("team/app", "latest", [])
        assert list(registry.tags("team/app")) == ["latest"]
    if driver == "token":
        asked = [each for each in harbor.requests if each.path == "/service/token"]
        assert {each.query["account"] for each in asked} == {ROBOT[0]}


def test_an_artifact_has_all_its_tags(
    harbor: FakeHarbor, scripted_registry: ScriptedRegistry
) -> None:
    scripted_registry.push(build_image(), "team/app", "v1", "v2")
    with client(harbor) as registry:
        [artifact] = registry.artifacts("team/app")
        assert {tag.name for tag in artifact.tags} == {"v1", "v2"}


def test_asyncio(harbor: FakeHarbor) -> None:
    config = {"connections": {"main": harbor.table(ADMIN) | {"page_size": 1}}}

    async def run() -> None:
        async with AsyncDockhand(config) as dockhand:
            registry = dockhand.connection("main", AsyncHarborClient)
            assert (await registry.create_project("new")).name == "new"
            names = [each.name async for each in registry.projects()]
            assert names == ["2024", "library", "new", "team"]
            assert (await registry.project("new")).id == 4
            await registry.delete_project("new")
            await registry.push_artifact("team/a", "v1", [])
            assert [each.name async for each in registry.project_repositories("team")] == ["team/a"]
            assert len([each async for each in registry.artifacts("team/a")]) == 1
            robot = await registry.create_robot("team", "ci2")
            await registry.delete_robot(robot.id)

    asyncio.run(run())
