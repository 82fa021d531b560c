"""A small Harbor for the tests: its API and its rules of access, before the kit's registry.

It is written from Harbor's API description and source. It shows that the driver sends what these
ask for, not that Harbor answers like this.
"""

from __future__ import annotations

import json
import re
from base64 import b64decode
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

from dockhand_testing import ReceivedRequest, ScriptedRegistry, reply

from dockhand_core import RegistryError
from dockhand_core.flow import Flow, call

ADMIN = ("admin", "admin-secret")
ROBOT = ("robot$team+ci", "robot-secret$1")
TIME = "2024-01-31T12:00:00.000Z"
NEVER = "0001-01-01T00:00:00.000Z"
DIGEST = "sha256:" + "d" * 64
HOST = "harbor.example.com/team/deep/app"
REPOSITORY = {
    "date_created": 1706702400,
    "name": "deep/app",
    "namespace": "team",
    "repo_full_name": "team/deep/app",
    "repo_type": "private",
}


class FakeHarbor:
    """Harbor at the URL of a scripted registry.

    Attributes:
        projects: the projects by name, as the API shows them.
        robots: the robot accounts that were created.
        pushed: the push times of tags that have others than `TIME`.
        immutable: the tags that cannot be deleted, or pushed again.
        accounts: the passwords by name.
        version: the version in the system's information; shown to accounts only.
    """

    def __init__(self, registry: ScriptedRegistry) -> None:
        self.url = registry.url
        self.requests = registry.requests
        self.accounts = dict((ADMIN, ROBOT))
        self.projects: dict[str, dict[str, Any]] = {}
        self.robots: list[dict[str, Any]] = []
        self.pushed: dict[str, str] = {}
        self.immutable: set[str] = set()
        # This client, known by its header, reaches the registry behind Harbor.
        self._behind = registry.client(headers={"x-behind": "1"})
        registry.answer = self._answer
        for number, name in enumerate(("library", "team", "2024"), start=1):
            self._add_project(name, number == 1)

    def close(self) -> None:
        self._behind.close()

    def table(self, account: tuple[str, str], driver: str = "basic") -> dict[str, Any]:
        """The connection's table for an account."""
        auth = {"driver": driver, "username": account[0], "password": account[1]}
        return {"driver": "harbor", "base_uri": self.url, "auth": auth}

    def _add_project(self, name: str, public: bool) -> None:
        self.projects[name] = {
            "project_id": len(self.projects) + 1,
            "name": name,
            "metadata": {"public": str(public).lower()},
            "repo_count": 0,
            "creation_time": TIME,
        }

    # -- access ------------------------------------------------------------------------------

    def _answer(self, request: ReceivedRequest) -> bytes | None:
        if "x-behind" in request.headers:
            return None
        assert "x-harbor-csrf-token" not in request.headers
        assert "cookie" not in request.headers
        if request.path == "/service/token":
            assert request.query["service"] == "harbor-registry"
            account = self._basic(request)
            token = f"token-of-{account}".encode().hex()
            return reply(200, json.dumps({"token": token}).encode())
        if request.path.startswith("/api/v2.0/"):
            return self._api(request)
        return self._registry(request)

    def _basic(self, request: ReceivedRequest) -> str | None:
        """The account of a request; None for a wrong password, as for an anonymous client."""
        scheme, _, value = request.headers.get("authorization", "").partition(" ")
        if scheme != "Basic":
            return None
        name, _, password = b64decode(value).decode().partition(":")
        return name if self.accounts.get(name) == password else None

    def _registry(self, request: ReceivedRequest) -> bytes | None:
        given = request.headers.get("authorization", "")
        account = self._basic(request)
        if given.startswith("Bearer ") and request.path != "/v2/_catalog":
            account = bytes.fromhex(given[7:]).decode().removeprefix("token-of-")
        if account is None or (request.path == "/v2/_catalog" and account != ADMIN[0]):
            challenge = f'Bearer realm="{self.url}/service/token",service="harbor-registry"'
            if given or request.path == "/v2/_catalog":
                challenge = 'Basic realm="harbor"'
            return _error(401, "UNAUTHORIZED", WWW_Authenticate=challenge)
        found = re.fullmatch(r"/v2/.+/manifests/([^:]+)", request.path)
        if found and request.method == "DELETE":
            return _error(400, "UNSUPPORTED")
        if found and request.method == "PUT" and found[1] in self.immutable:
            return _error(412, "PRECONDITION")
        return None

    # -- the API -----------------------------------------------------------------------------

    def _api(self, request: ReceivedRequest) -> bytes:
        account = self._basic(request)
        path = request.path.removeprefix("/api/v2.0")
        document = json.loads(request.body or b"{}")
        if path == "/systeminfo":
            return _json({"auth_mode": "db_auth", **({"harbor_version": "v2"} if account else {})})
        if path == "/projects" and request.method == "GET":
            only_public = account is None or request.query.get("public") == "true"
            shown = [p for p in self.projects.values() if _public(p) or not only_public]
            return self._page(request, sorted(shown, key=lambda each: str(each["name"])))
        if path == "/repositories":
            names = list(self._behind.repositories())
            return self._page(request, [{"name": name, "artifact_count": 1} for name in names])
        if account is None:
            return _error(401, "UNAUTHORIZED")
        if path in ("/projects", "/robots"):
            assert request.headers["content-type"] == "application/json"
            create = self._create_project if path == "/projects" else self._create_robot
            return _error(403, "FORBIDDEN") if account != ADMIN[0] else create(document)
        for pattern, handle in (
            (r"/robots/(\d+)", self._delete_robot),
            (r"/projects/([^/]+)", self._project),
            (r"/projects/([^/]+)/repositories", self._repositories),
            (r"/projects/([^/]+)/repositories/([^/]+)/artifacts", self._artifacts),
            (
                r"/projects/([^/]+)/repositories/([^/]+)/artifacts/([^/]+)/tags/([^/]+)",
                self._delete_tag,
            ),
        ):
            found = re.fullmatch(pattern, path)
            if found:
                return self._called(handle, request, found.groups())
        return _error(404, "NOT_FOUND")

    def _called(
        self, handle: Callable[..., bytes], request: ReceivedRequest, parts: tuple[str, ...]
    ) -> bytes:
        try:
            return handle(request, *parts)
        except KeyError:
            return _error(404, "NOT_FOUND")
        except RegistryError as error:
            return _error(error.status or 500, "NOT_FOUND")

    def _create_project(self, document: dict[str, Any]) -> bytes:
        if document["project_name"] in self.projects:
            return _error(409, "CONFLICT")
        self._add_project(document["project_name"], document["metadata"]["public"] == "true")
        return reply(201)

    def _project(self, request: ReceivedRequest, name: str) -> bytes:
        by_name = request.headers.get("x-is-resource-name") == "true"
        numbers = {str(each["project_id"]): key for key, each in self.projects.items()}
        project = self.projects[name if by_name or not name.isdecimal() else numbers[name]]
        if request.method == "GET":
            return _json(project)
        if any(each.startswith(f"{name}/") for each in self._behind.repositories()):
            return _error(412, "PRECONDITION")
        del self.projects[name]
        return reply(200)

    def _create_robot(self, document: dict[str, Any]) -> bytes:
        assert document["level"] == "project"
        [permission] = document["permissions"]
        robot: dict[str, Any] = {
            "id": len(self.robots) + 7,
            "name": f"robot${permission['namespace']}+{document['name']}",
            "secret": "new-secret",
            "expires_at": -1 if document["duration"] == -1 else 2_000_000_000,
        }
        if robot["name"] in self.accounts:
            return _error(409, "CONFLICT")
        self.accounts[robot["name"]] = robot["secret"]
        self.robots.append({**document, **robot})
        return _json(robot, 201)

    def _delete_robot(self, request: ReceivedRequest, number: str) -> bytes:
        assert request.method == "DELETE"
        names = {str(each["id"]): each["name"] for each in self.robots}
        del self.accounts[names[number]]
        return reply(200)

    def _repositories(self, request: ReceivedRequest, project: str) -> bytes:
        if project not in self.projects:
            return _error(404, "NOT_FOUND")
        names = [n for n in self._behind.repositories() if n.startswith(f"{project}/")]
        return self._page(request, [{"name": n, "artifact_count": 1} for n in names])

    def _artifacts(self, request: ReceivedRequest, project: str, name: str) -> bytes:
        repository = _decoded(project, name)
        tags: dict[str, list[str]] = {}
        for tag in self._behind.tags(repository):
            tags.setdefault(self._behind.manifest_head(repository, tag).digest, []).append(tag)
        artifacts = [
            {
                "digest": digest,
                "manifest_media_type": "application/vnd.oci.image.manifest.v1+json",
                "size": 1,
                "push_time": TIME,
                "pull_time": NEVER,
                "tags": [
                    {"name": tag, "push_time": self.pushed.get(tag, TIME), "pull_time": NEVER}
                    for tag in tags.get(digest, [])
                ]
                or None,
            }
            for digest in self._behind.run(_digests(repository))
        ]
        return self._page(request, artifacts)

    def _delete_tag(
        self, request: ReceivedRequest, project: str, name: str, reference: str, tag: str
    ) -> bytes:
        assert request.method == "DELETE"
        assert reference == tag
        if tag in self.immutable:
            return _error(412, "PRECONDITION")
        self._behind.delete_tag(_decoded(project, name), tag)
        return reply(200)

    def _page(self, request: ReceivedRequest, items: list[Any]) -> bytes:
        number, size = int(request.query.get("page", 1)), int(request.query["page_size"])
        assert 1 <= size <= 100
        headers: dict[str, Any] = {"X_Total_Count": str(len(items))}
        if number * size < len(items):
            target = f"{request.path}?page={number + 1}&page_size={size}"
            headers["Link"] = f'<{target}>; rel="next"'
        return _json(items[(number - 1) * size : number * size], **headers)


def _public(project: dict[str, Any]) -> bool:
    return bool(project["metadata"]["public"] == "true")


def _decoded(project: str, name: str) -> str:
    """The repository in a path, whose slashes after the project are encoded twice."""
    assert "/" not in unquote(name), f"{name} is encoded once"
    return f"{project}/{unquote(unquote(name))}"


def _digests(repository: str) -> Flow[list[str]]:
    answer = yield from call("GET", f"{repository}/_dockhand/manifests/list")
    return list(answer.json()["manifests"])


def _json(document: Any, status: int = 200, **headers: Any) -> bytes:
    return reply(status, json.dumps(document).encode(), **headers)


def _error(status: int, code: str, **headers: str) -> bytes:
    entry = {"code": code, "message": f"said the test: {code.lower()}"}
    return reply(status, json.dumps({"errors": [entry]}).encode(), **headers)


# -- bodies of notifications --------------------------------------------------------------


def data(tag: str = "v1", **resource: Any) -> dict[str, Any]:
    resource = {"digest": DIGEST, "tag": tag, "resource_url": f"{HOST}:{tag}", **resource}
    return {"resources": [resource], "repository": REPOSITORY}


def default(kind: str, event_data: dict[str, Any]) -> bytes:
    """A notification in the format Default."""
    event = {"type": kind, "occur_at": 1706702400, "operator": "robot$team+ci"}
    return json.dumps({**event, "event_data": event_data}).encode()


def cloud(kind: str, event_data: dict[str, Any]) -> bytes:
    """A notification in the format CloudEvents, which is a structured one."""
    event = {
        "specversion": "1.0",
        "id": "4b2f89a6-548d-4c12-9993-a1f5790b97d2",
        "requestid": "2eedfab8-61d3-4f3c-8ec3-8f82d1ec4c84",
        "source": "/projects/1/webhook/policies/3",
        "type": kind,
        "datacontenttype": "application/json",
        "time": "2024-01-31T12:00:00Z",
        "operator": "robot$team+ci",
    }
    return json.dumps({**event, "data": event_data}).encode()
