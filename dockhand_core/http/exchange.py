"""The exchange of one call for its reply, with credentials, redirects, retries and logging.

An exchange is a generator that yields the effects listed in `Exchange`, which both runners perform.
Credentials, the connection's own headers, and the headers of a driver's call are sent only to the
connection's own origin (scheme, host and port), except headers that tell about the body, such as
`Range`. A redirect or link from https to http raises `ResponseInvalid`.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from dockhand_core.auth import SCOPES, AuthDriver
from dockhand_core.errors import (
    ConnectionFailed,
    DockhandError,
    PluginError,
    ResponseInvalid,
)
from dockhand_core.flow import (
    JSON_LIMIT,
    Blocking,
    BytesSource,
    Call,
    Discard,
    Reply,
    RetryPolicy,
    Sleep,
    Until,
    VerifiedSource,
)
from dockhand_core.flow.checks import described
from dockhand_core.http.addresses import ADDRESSES
from dockhand_core.http.auth_flow import authenticate, close_steps
from dockhand_core.http.bodies import BodyCollector, ReplyStream, UploadBody, check_coding
from dockhand_core.http.error_replies import ERROR_LIMIT, decoded_body, error_from_reply
from dockhand_core.http.exchange_errors import explained_errors, translated_errors
from dockhand_core.http.headers import retry_after
from dockhand_core.http.rate_limits import TOO_MANY_REQUESTS, RateLimits, Turns
from dockhand_core.http.redirects import (
    MAX_REDIRECTS,
    check_target,
    harmless_headers,
    redirect_target,
    target_addresses,
)
from dockhand_core.http.secrets import Secrets
from dockhand_core.http.urls import is_relative, origin_of, redacted_url, resolve_url
from dockhand_core.logs import FetchLog, RequestLog

_FLAT = frozenset({"catalog", "tags"})  # kinds whose replies are JSON lists of strings

__all__ = ["Exchange", "Receive", "RegistryEndpoint", "Send"]


@dataclass(frozen=True, slots=True)
class Send:
    """Send a request, and leave the reply's body unread."""

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Receive:
    """Read a body into memory, and close it.

    Attributes:
        stream: the body.
        limit: maximum size of the body in bytes.
        cut: whether to cut a body that exceeds `limit`; otherwise `ResponseTooLarge` is raised.
        flat: whether the body is a JSON list of strings (see `BodyCollector`).
    """

    stream: ReplyStream
    limit: int
    cut: bool = False
    flat: bool = False


Exchange = Generator[Send | Receive | Discard | Sleep | Blocking | Until, Any, Reply]


@dataclass
class RegistryEndpoint:
    """The registry of a connection, and the settings of exchanges with it.

    Args:
        base: the registry's URL without `/v2/` and without a slash at the end.
        make_auth: makes the auth driver; called again when it is used after `take_auth`.
        log: a structlog logger.
        user_agent: the value of the header `User-Agent`.
        headers: the connection's own headers, sent only to the registry's origin.
        timeout: maximum time in seconds to connect, for each send, and for each receive. A body
            that is read into memory may take four times as long in total, plus the time that its
            size requires (see `BodyCollector`).
        retry: the retry policy.
        commit_timeout: maximum time in seconds to wait for the reply that ends an upload, if it is
            longer than `timeout`; None for ten times `timeout`.
        upload_origins: URLs of other origins that may receive uploads, whatever their addresses.
        secrets: the secrets of the settings; those that are sent or received are added.
        rate_limit_timeout: total time in seconds that a call may wait because of replies with
            status 429; 0 to raise each of them as an error.
        auth_name: the auth driver's name, for the log.
        log_fetches: whether requests of the auth driver's own are logged, with the level `debug`.

    Attributes:
        origin: scheme, host and port of `base`.
        limits: the pauses after replies with status 429.
    """

    base: str
    make_auth: Callable[[], AuthDriver]
    log: Any
    user_agent: str = "dockhand"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold secrets
    timeout: float = 30.0
    commit_timeout: float | None = None
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    upload_origins: tuple[str, ...] = ()
    secrets: Secrets = field(default_factory=Secrets)
    rate_limit_timeout: float = 300.0
    auth_name: str = ""
    log_fetches: bool = False

    def __post_init__(self) -> None:
        self._auth: AuthDriver | None = self.make_auth()
        self._auth_lock = threading.Lock()
        self._closed = False
        self.origin = origin_of(self.base)
        self._upload_origins = frozenset(map(origin_of, self.upload_origins))
        self.timeouts = httpx.Timeout(self.timeout).as_dict()
        self.limits = RateLimits(self.rate_limit_timeout)
        longer = max(self.timeout, self.commit_timeout or 10 * self.timeout)
        self._commit_timeouts = httpx.Timeout(self.timeout, read=longer).as_dict()
        self._always = [
            ("User-Agent", self.user_agent),
            ("Accept-Encoding", "identity"),  # a compressed body would not match its digest
        ]
        # Servers read the first of two, so one in `headers` replaces ours at the registry.
        named = any(name.lower() == "user-agent" for name in self.headers)
        self._at_home = self._always[1:] if named else self._always

    @property
    def registry(self) -> tuple[object, str]:
        """The registry's origin and path, which are equal for connections to one registry."""
        return (self.origin, urlsplit(self.base).path)

    def collector(self, effect: Receive) -> BodyCollector:
        """The collector of a body that is read into memory, with the limits that apply to it."""
        return BodyCollector(
            effect.stream, effect.limit, self.timeout * 4, cut=effect.cut, flat=effect.flat
        )

    @property
    def auth(self) -> AuthDriver:
        """The auth driver; made anew at its first use after `take_auth`."""
        found = self._auth
        if found is None:
            with self._auth_lock:
                if self._closed:
                    raise DockhandError("this client is closed")
                found = self._auth
                if found is None:
                    found = self._auth = self.make_auth()
        return found

    def take_auth(self, *, last: bool = False) -> AuthDriver | None:
        """Remove the auth driver, with its cached tokens, and return it to be closed.

        Args:
            last: whether the client is closed, so that no auth driver is made any more.

        Returns:
            The auth driver, or None if none was made since the last call.
        """
        with self._auth_lock:
            self._closed = self._closed or last
            taken, self._auth = self._auth, None
        return taken

    def close_auth(
        self, auth: AuthDriver, steps: Generator[Any, Any, Any]
    ) -> Generator[Any, Any, None]:
        """Run the steps of an auth driver's `close`. A 429 is not waited for: closing ends soon."""
        turns = Turns(self.limits, self.retry, wait=False)
        name = f"{type(auth).__qualname__}.close"
        return close_steps(name, steps, lambda request: self._fetch(request, turns))

    def after_fork(self) -> None:
        """Replace the lock and forget all pauses: a thread of the parent may have held a lock."""
        self._auth_lock = threading.Lock()
        self.limits.after_fork()

    def exchange(self, call: Call) -> Exchange:
        """Send a call, with retries, and return its reply or raise its error."""
        url = place = self._url(call)
        turns = Turns(self.limits, self.retry, wait=not call.once)
        sent = failed = 0
        while True:
            yield from turns.take(place)
            sent += 1
            record = RequestLog(self.log, call, url, sent, self.secrets)
            wait: float | None
            try:
                response = yield from self._follow(call, url, turns)
                stream = ReplyStream(response, record.done)
                status, headers = response.status_code, response.headers
                place = str(response.request.url)
                limited = turns.repeats(place, status, headers)
                if status in call.expect:
                    reply = Reply(status, headers, place, attempts=sent)
                    if call.stream:
                        reply.unread = stream
                    else:
                        reply.body = yield Receive(stream, call.limit, flat=call.kind in _FLAT)
                    check_coding(call, reply)
                    return reply
                again = self.retry.repeats_status(status, repeatable=call.repeatable)
                if limited:
                    wait = 0.0  # `turns` waits
                elif status == TOO_MANY_REQUESTS or not again or call.once:
                    wait = None
                else:
                    failed += 1
                    wait = self.retry.wait(failed, retry_after(headers))
                    place = url
                body = yield from _error_body(stream, status)
            except ConnectionFailed as error:
                again = self.retry.repeats_failure(error, repeatable=call.repeatable)
                if isinstance(call.body, VerifiedSource) and call.body.failure is error:
                    again = False  # the source of the body failed, not this registry
                failed += 1
                wait = self.retry.wait(failed) if again and not call.once else None
                place = url
                record.failed(error, wait)
                if wait is None:
                    raise
            except DockhandError as error:
                record.failed(error, None)  # for example, the reply was rejected here
                raise
            else:
                if wait is None:
                    raise error_from_reply(
                        method=call.method,
                        url=place,
                        kind=call.kind,
                        repository=call.repository,
                        status=status,
                        headers=headers,
                        body=body,
                        attempts=sent,
                        redirected=origin_of(place) != self.origin,
                        secrets=self.secrets,
                        refusals=call.refusals,
                    )
            yield Sleep(wait)

    def _url(self, call: Call) -> str:
        path = call.path
        with explained_errors(call):
            if is_relative(path):
                url = f"{self.base}/v2/{path}"
            elif path.startswith("/"):
                url = resolve_url(self.base + "/", path)
            else:
                url = path
            if call.query:
                # appended: the query of an upload's Location must stay unchanged
                url += ("&" if "?" in url else "?") + urlencode(call.query)
            return url

    def _follow(self, call: Call, url: str, turns: Turns) -> Generator[Any, Any, httpx.Response]:
        for hop in range(MAX_REDIRECTS + 1):
            own_origin = (hop == 0 and is_relative(call.path)) or check_target(
                call, url, self.base, self.origin
            )
            if hop > 0 or not is_relative(call.path):  # a URL that the registry chose
                self.secrets.remember_query(url)
            if hop > 0:
                yield from turns.take(url)
            with explained_errors(call):
                request = self._request(call, url, own_origin)
            if not own_origin:
                request.extensions[ADDRESSES] = target_addresses(
                    call, url, self.base, self._upload_origins
                )
            with translated_errors(call.method, url, request, self.secrets):
                with_credentials = own_origin and not call.anonymous
                if with_credentials:
                    steps = self._authenticate(request, turns, call.expect)
                else:
                    steps = self._send(request)
                response: httpx.Response = yield from steps
            target = redirect_target(call, response)
            if target is None:
                return response
            yield Discard(ReplyStream(response))
            url = resolve_url(url, target)
        where = f"{call.method} {redacted_url(url)}"
        raise ResponseInvalid(f"{where}: more than {MAX_REDIRECTS} redirects")

    def _request(self, call: Call, url: str, own_origin: bool) -> httpx.Request:
        if own_origin:
            headers = [*self._at_home, *call.headers.items(), *self.headers.items()]
        else:
            headers = [*self._always, *harmless_headers(call).items()]
        timeouts = self._commit_timeouts if call.commit else self.timeouts
        extensions = {"timeout": timeouts, SCOPES: call.scopes}
        try:
            target = httpx.URL(url)
            if call.body is None:
                return httpx.Request(call.method, target, headers=headers, extensions=extensions)
            if isinstance(call.body, BytesSource) and call.progress is None:
                return httpx.Request(
                    call.method,
                    target,
                    headers=headers,
                    content=call.body.data,
                    extensions=extensions,
                )
            # httpx adds neither Host nor Content-Length for a stream. Without Content-Length the
            # transfer encoding would be chunked, and some registries lose such bodies.
            headers.append(("Host", target.netloc.decode("ascii")))
            headers.append(("Content-Length", str(call.body.size)))
            body = UploadBody(call.body, call.progress)
            return httpx.Request(
                call.method, target, headers=headers, stream=body, extensions=extensions
            )
        except (httpx.InvalidURL, ValueError) as error:
            raise ResponseInvalid(
                f"{call.method} {redacted_url(url)}: not a URL: {error}"
            ) from None

    def _send(self, request: httpx.Request) -> Generator[Any, Any, httpx.Response]:
        response: httpx.Response = yield Send(request)
        if not isinstance(response, httpx.Response):  # from a transport of a driver's own
            raise PluginError(
                f"the transport returned {described(response)}, not an httpx.Response"
            )
        response.request = request
        return response

    def _authenticate(
        self, request: httpx.Request, turns: Turns, expect: frozenset[int]
    ) -> Generator[Any, Any, httpx.Response]:
        target, before = request.url, frozenset(request.headers.raw)

        def send(step: httpx.Request) -> Generator[Any, Any, httpx.Response]:
            self.secrets.remember_request(step, before)
            if step.url is not target and step.url != target:  # comparing them is slow
                self.secrets.remember_query(str(step.url), target.query.decode())
            return self._send(step)

        def fetch(step: httpx.Request) -> Generator[Any, Any, httpx.Response]:
            return self._fetch(step, turns)

        return authenticate(
            self.auth,
            request,
            origin=self.origin,
            refusal_expected=401 in expect,
            send=send,
            fetch=fetch,
        )

    def _fetch(self, request: httpx.Request, turns: Turns) -> Generator[Any, Any, httpx.Response]:
        request.extensions = {**request.extensions, "timeout": self.timeouts}
        url = str(request.url)
        self.secrets.remember_fetch(request)
        while True:
            yield from turns.take(url)
            log = self.log if self.log_fetches else None
            record = FetchLog(log, self.auth_name, request.method, url, self.secrets)
            try:
                with translated_errors(request.method, url, request, self.secrets):
                    response = yield from self._send(request)
                    body = yield Receive(ReplyStream(response), JSON_LIMIT)
            except DockhandError as error:
                record.failed(error)
                raise
            record.done(response.status_code)
            if not turns.repeats(url, response.status_code, response.headers, futile=1):
                break
        body = decoded_body(response.headers, body, JSON_LIMIT)
        self.secrets.remember_document(body)
        kept = [(k, v) for k, v in response.headers.multi_items() if k != "content-encoding"]
        return httpx.Response(response.status_code, headers=kept, content=body, request=request)


def _error_body(stream: ReplyStream, status: int) -> Generator[Any, Any, bytes]:
    """Read the body of an error reply, up to a limit."""
    try:
        body: bytes = yield Receive(stream, ERROR_LIMIT, cut=True)
    except ConnectionFailed:
        # Distribution 2.8 announces a body for a 416 and sends less: the status counts.
        if status != 416:
            raise
        return b""
    return body
