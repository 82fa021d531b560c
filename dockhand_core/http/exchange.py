"""The exchange of one call: URL, credentials, redirects, retries, errors, log line.

An exchange is a generator over six primitives, which both runners perform. Credentials and the
connection's own headers are sent to its origin and nowhere else, and https never becomes http.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

import httpx

from dockhand_core.auth import FETCH, SCOPES, AuthDriver
from dockhand_core.errors import (
    ConnectionFailed,
    DockhandError,
    PluginError,
    ResponseInvalid,
    Timeout,
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
)
from dockhand_core.http.bodies import ReplyStream, UploadBody
from dockhand_core.http.error_replies import error_from_reply
from dockhand_core.http.headers import retry_after
from dockhand_core.http.urls import PORTS, one_line, origin_of, redacted_url, resolve_url

__all__ = ["Exchange", "Receive", "RegistryEndpoint", "Send"]

ERROR_LIMIT = 64 << 10
MAX_REDIRECTS = 5


@dataclass(frozen=True, slots=True)
class Send:
    """A request to send; the reply's body is left unread."""

    request: httpx.Request


@dataclass(frozen=True, slots=True)
class Receive:
    """A body to read up to a limit, and to close; a longer one is cut, or ResponseTooLarge."""

    stream: ReplyStream
    limit: int
    cut: bool = False


Exchange = Generator[Send | Receive | Discard | Sleep | Blocking | Until, Any, Reply]


@dataclass
class RegistryEndpoint:
    """A registry's URL, with all that an exchange with it needs; both runners use it.

    Args:
        base: the registry's URL without `/v2/` and without a slash at the end.
        make_auth: makes the auth driver; called again to forget its tokens.
        log: a structlog logger.
        user_agent: the header `User-Agent`.
        headers: the connection's own headers, sent to its origin only.
        timeout: seconds for each of connecting, sending and receiving; a body that is parsed has
            four times as long.
        retry: the retry policy.

    Attributes:
        auth: the auth driver.
        origin: scheme, host and port of `base`.
    """

    base: str
    make_auth: Callable[[], AuthDriver]
    log: Any
    user_agent: str = "dockhand"
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)  # may be secrets
    timeout: float = 30.0
    retry: RetryPolicy = field(default_factory=RetryPolicy)

    def __post_init__(self) -> None:
        self.auth = self.make_auth()
        self.origin = origin_of(self.base)
        # No timeout while waiting for a free connection: that is not the registry's fault.
        self.timeouts = httpx.Timeout(self.timeout, pool=None).as_dict()
        self._always = [
            ("User-Agent", self.user_agent),
            ("Accept-Encoding", "identity"),  # digests are of the stored bytes
        ]

    def forget_tokens(self) -> AuthDriver:
        """Replace the auth driver, and with it every cached token. Returns the old one."""
        old, self.auth = self.auth, self.make_auth()
        return old

    def exchange(self, call: Call) -> Exchange:
        """Send a call, with retries, and return its reply or raise its error."""
        url = self._url(call)
        attempt = 0
        while True:
            attempt += 1
            record = RequestLog(self.log, call, url, attempt)
            try:
                response = yield from self._follow(call, url)
                stream = ReplyStream(response, record.done)
                status, headers = response.status_code, response.headers
                if status in call.expect:
                    reply = Reply(status, headers, str(response.request.url), attempts=attempt)
                    if headers.get("content-encoding", "identity") != "identity":
                        yield Discard(ReplyStream(response))
                        raise ResponseInvalid(
                            f"{call.method} {redacted_url(url)}: the body is encoded as "
                            f"{headers['content-encoding'][:40]!r}, although identity was asked for"
                        )
                    if call.stream:
                        reply.unread = stream
                    else:
                        reply.body = yield Receive(stream, call.limit)
                    return reply
                asked = retry_after(headers)
                again = self.retry.repeats_status(status, repeatable=call.repeatable)
                wait = self.retry.wait(attempt, asked) if again and not call.once else None
                body = yield Receive(stream, ERROR_LIMIT, cut=True)
            except ConnectionFailed as error:
                again = self.retry.repeats_failure(error, repeatable=call.repeatable)
                wait = self.retry.wait(attempt) if again and not call.once else None
                record.failed(error, wait)
                if wait is None:
                    raise
            except DockhandError as error:
                record.failed(error, None)  # a reply that is refused is logged, too
                raise
            else:
                if wait is None:
                    raise error_from_reply(
                        method=call.method,
                        url=str(response.request.url),
                        kind=call.kind,
                        repository=call.repository,
                        status=status,
                        headers=headers,
                        body=self._without_secrets(body, response.request),
                        attempts=attempt,
                    )
            yield Sleep(wait)

    def _without_secrets(self, body: bytes, request: httpx.Request) -> bytes:
        """The body of an error reply, without credentials that it may repeat."""
        for name in ("Authorization", *self.headers):
            value = request.headers.get(name, "")
            for secret in (value, value.partition(" ")[2]):
                if len(secret) >= 4:
                    body = body.replace(secret.encode(), b"...")
        return body

    def _url(self, call: Call) -> str:
        path = call.path
        if path.startswith(("http://", "https://")):
            url = path
        elif path.startswith("/"):
            url = resolve_url(self.base + "/", path)
        else:
            url = f"{self.base}/v2/{path}"
        if call.query:
            # appended: the query of an upload's Location must stay unchanged
            url += ("&" if "?" in url else "?") + urlencode(call.query)
        return url

    def _follow(self, call: Call, url: str) -> Generator[Any, Any, httpx.Response]:
        for hop in range(MAX_REDIRECTS + 1):
            # a path that was built here always leads to the connection's own origin
            at_home = hop == 0 and not call.path.startswith(("/", "http"))
            if not at_home:
                self._check_target(call, url)
                at_home = origin_of(url) == self.origin
            request = self._request(call, url, at_home)
            with translated_errors(call.method, url, request):
                known = at_home and not call.anonymous
                steps = self._authenticate(request) if known else self._send(request)
                response: httpx.Response = yield from steps
            target = self._redirect(call, response)
            if target is None:
                return response
            yield Discard(ReplyStream(response))
            url = resolve_url(url, target)
        where = f"{call.method} {redacted_url(url)}"
        raise ResponseInvalid(f"{where}: more than {MAX_REDIRECTS} redirects")

    def _check_target(self, call: Call, url: str) -> None:
        scheme = url.partition(":")[0].lower()
        if scheme not in PORTS or (scheme == "http" and self.origin[0] == "https"):
            raise ResponseInvalid(
                f"{call.method}: the registry at {self.base} leads to {redacted_url(url)}, "
                "which is not followed: https never becomes http. A proxy in front of it must set "
                "X-Forwarded-Proto, or the registry must send relative URLs",
                repository=call.repository,
            )

    def _request(self, call: Call, url: str, at_home: bool) -> httpx.Request:
        headers = [*self._always, *call.headers.items()]
        if at_home and self.headers:
            headers += self.headers.items()
        extensions = {"timeout": self.timeouts, SCOPES: call.scopes}
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
            # httpx adds neither header for a stream. With a length the body is not chunked: some
            # registries lose chunked bodies.
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
        response.request = request
        return response

    def _authenticate(self, request: httpx.Request) -> Generator[Any, Any, httpx.Response]:
        """Run the auth driver's flow: its requests, its fetches, its blocking calls."""
        flow = self.auth.auth_flow(request)
        target = request.url
        response: httpx.Response | None = None
        answer: Any = None
        try:
            step = self._step(flow.send, None)
            while True:
                if isinstance(step, Blocking | Until) or step.extensions.get(FETCH):
                    try:
                        aside = isinstance(step, Blocking | Until)
                        answer = (yield step) if aside else (yield from self._fetch(step))
                    except Exception as error:
                        step = self._step(flow.throw, error)
                        continue
                elif step.url is not target and origin_of(str(step.url)) != self.origin:
                    raise PluginError(
                        f"{type(self.auth).__name__} sent the request to another origin, "
                        f"{redacted_url(str(step.url))}: use fetch"
                    )
                else:
                    if response is not None:
                        yield Discard(ReplyStream(response))
                    step.extensions = {**request.extensions, **step.extensions}
                    answer = response = yield from self._send(step)
                step = self._step(flow.send, answer)
        except StopIteration:
            if response is None:
                raise PluginError(f"{type(self.auth).__name__} did not send the request") from None
            return response
        except BaseException:
            if response is not None:
                yield Discard(ReplyStream(response))
            raise
        finally:
            flow.close()

    def _step(self, resume: Callable[[Any], Any], answer: Any) -> Any:
        """The auth driver's next step; an exception becomes a `PluginError`."""
        try:
            return resume(answer)
        except (StopIteration, DockhandError):
            raise
        except Exception as error:
            name = type(self.auth).__name__
            raise PluginError(f"{name}: {type(error).__name__}: {error}") from error

    def _fetch(self, request: httpx.Request) -> Generator[Any, Any, httpx.Response]:
        request.extensions = {**request.extensions, "timeout": self.timeouts}
        with translated_errors(request.method, str(request.url), request):
            response = yield from self._send(request)
            body = yield Receive(ReplyStream(response), JSON_LIMIT)
        kept = [(k, v) for k, v in response.headers.multi_items() if k != "content-encoding"]
        return httpx.Response(response.status_code, headers=kept, content=body, request=request)

    def _redirect(self, call: Call, response: httpx.Response) -> str | None:
        reads = call.method in ("GET", "HEAD")
        follow = (301, 302, 303, 307, 308) if reads else (307, 308)
        if response.status_code not in follow or response.status_code in call.expect:
            return None
        target: str | None = response.headers.get("location")
        return target


@contextmanager
def translated_errors(
    method: str, url: str, request: httpx.Request | None = None
) -> Iterator[None]:
    """Map httpx's exceptions to Dockhand's; an error of the request's body is raised itself."""
    where = f"{method} {redacted_url(url)}"
    try:
        yield
    except httpx.HTTPError as error:
        body = request.stream if request is not None else None
        if isinstance(body, UploadBody) and body.error is not None:
            raise body.error from None
        reason = one_line(str(error)) or type(error).__name__
        if isinstance(error, httpx.TimeoutException):
            failed: ConnectionFailed = Timeout(f"{where}: no answer in time ({reason})")
        else:
            failed = ConnectionFailed(f"{where}: {reason}")
        unsent = isinstance(error, httpx.ConnectError | httpx.ConnectTimeout | httpx.PoolTimeout)
        failed.unsent = unsent
        raise failed from None


class RequestLog:
    """The log line of a request, written when its reply was read, closed or failed.

    `bytes` is the size of both bodies together.
    """

    def __init__(self, log: Any, call: Call, url: str, attempt: int) -> None:
        self._log, self._attempt, self._call = log, attempt, call
        self._path = redacted_url(urlsplit(url).path)
        self._start = time.perf_counter()
        self._logged = False

    def _fields(self) -> dict[str, Any]:
        return {
            "method": self._call.method,
            "path": self._path,
            "milliseconds": round((time.perf_counter() - self._start) * 1000, 1),
            "attempt": self._attempt,
        }

    def done(self, status: int, count: int, error: BaseException | None) -> None:
        """Log a reply that was read or closed."""
        if isinstance(error, ConnectionFailed):
            return  # `failed` logs it
        self._logged = True
        body = self._call.body
        total = count + (body.size if body is not None else 0)
        self._log.info("request", status=status, bytes=total, **self._fields())

    def failed(self, error: DockhandError, wait: float | None) -> None:
        """Log a request without a complete or usable reply, unless its reply was logged."""
        if self._logged:
            return
        again = {} if wait is None else {"wait": round(wait, 2)}
        self._log.warning("request failed", error=str(error), **again, **self._fields())
