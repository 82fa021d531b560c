"""A registry that requires client certificates, and clients with right and wrong ones."""

import asyncio
import contextlib
import io
import json
import os
import re
import socket
import ssl
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import trustme
import uvicorn
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from dockhand_cli.main import main
from dockhand_embedded.app import create_app
from dockhand_mutual_tls import (
    CertificateExpired,
    CertificateRefused,
    CertificateUnusable,
    KeyMismatch,
    MutualTLSError,
    NoCertificate,
    RegistryNotTrusted,
    check,
    read_certificate,
)
from dockhand_mutual_tls.certificate import ClientCertificate
from dockhand_mutual_tls.check import refusal

from dockhand_core import AsyncDockhand, ConfigError, ConnectionFailed, Dockhand
from dockhand_core.config import DockhandConfig
from dockhand_core.server import listen

README = Path(__file__).parent.parent / "README.md"
NOW = datetime.now(UTC)
DAY = timedelta(days=1)


@dataclass
class Place:
    """A registry behind mutual TLS, and the files of its clients.

    Attributes:
        folder: the folder of the files.
        url: the registry's URL.
        ca: the CA of the registry and its clients, whose certificate is `ca.pem`.
        other: another CA, whose certificate is `other.pem`.
    """

    folder: Path
    url: str
    ca: trustme.CA
    other: trustme.CA = field(default_factory=trustme.CA)

    def issue(
        self, ca: trustme.CA | None = None, start: timedelta = -DAY, end: timedelta = 9 * DAY
    ) -> tuple[bytes, bytes]:
        """Issue a client's certificate, and return it and its key in PEM."""
        issued = (ca or self.ca).issue_cert(
            common_name="nightly-clean-up",
            not_before=NOW + start,
            not_after=NOW + end,
        )
        return issued.cert_chain_pems[0].bytes(), issued.private_key_pem.bytes()

    def write(self, cert: bytes, key: bytes) -> None:
        """Replace both files, as kubelet does for a secret: by one link to a new folder."""
        new = self.folder / f"..{len(list(self.folder.iterdir()))}"
        new.mkdir()
        (new / "client.pem").write_bytes(cert)
        (new / "client.key").write_bytes(key)
        link = self.folder / "..new"
        link.symlink_to(new)
        link.replace(self.folder / "..data")
        for name in ("client.pem", "client.key"):
            if not (self.folder / name).exists():
                (self.folder / name).symlink_to(self.folder / "..data" / name)

    def config(self, **changes: Any) -> DockhandConfig:
        """The settings of a connection; a change to None leaves the setting out."""
        table = {
            "base_uri": self.url,
            "verify": "ca.pem",
            "client_cert": "client.pem",
            "client_key": "client.key",
            "retries": 0,
            **changes,
        }
        table = {key: value for key, value in table.items() if value is not None}
        return DockhandConfig.parse({"connections": {"main": table}}, base=self.folder)


@pytest.fixture(scope="module")
def registry() -> Iterator[tuple[str, trustme.CA]]:
    """Serve a registry that requires certificates of a CA."""
    ca = trustme.CA(organization_name="Example")
    config = uvicorn.Config(create_app(":memory:"), log_config=None, lifespan="off", ws="none")
    config.load()
    config.ssl = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    config.ssl.verify_mode = ssl.CERT_REQUIRED
    ca.configure_trust(config.ssl)
    ca.issue_cert("localhost").configure_cert(config.ssl)
    server = uvicorn.Server(config)
    with listen("127.0.0.1", 0) as listener:
        arguments = {"sockets": [listener]}
        thread = threading.Thread(target=server.run, kwargs=arguments, daemon=True)
        thread.start()
        yield f"https://localhost:{listener.getsockname()[1]}", ca
        server.should_exit = True
        thread.join()


@pytest.fixture
def place(registry: tuple[str, trustme.CA], tmp_path: Path) -> Place:
    url, ca = registry
    made = Place(tmp_path, url, ca)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    made.other.cert_pem.write_to_path(str(tmp_path / "other.pem"))
    made.write(*made.issue())
    return made


Ping = Callable[[], None]


@pytest.fixture(params=["sync", "async"])
def open_ping(request: pytest.FixtureRequest) -> Iterator[Callable[[DockhandConfig], Ping]]:
    """Provide a function that opens a connection, and returns its method `ping`."""
    with contextlib.ExitStack() as stack:

        def connect(config: DockhandConfig) -> Ping:
            if request.param == "sync":
                return stack.enter_context(Dockhand(config)).connection().ping
            runner = stack.enter_context(asyncio.Runner())
            manager = AsyncDockhand(config)
            stack.callback(lambda: runner.run(manager.close()))
            return lambda: runner.run(manager.connection().ping())

        yield connect


def test_accepted(place: Place, open_ping: Callable[[DockhandConfig], Ping]) -> None:
    open_ping(place.config())()
    found = check(place.config())
    assert "CN=nightly-clean-up" in found.subject
    assert "O=Example" in found.issuer
    assert abs(found.not_after - (NOW + 9 * DAY)) < timedelta(seconds=2)
    assert not found.due


def test_renewed_on_disk(place: Place, open_ping: Callable[[DockhandConfig], Ping]) -> None:
    """A client that is open uses the new certificate, without any call."""
    place.write(*place.issue(start=-2 * DAY, end=-DAY))
    ping = open_ping(place.config())
    with pytest.raises(ConnectionFailed):
        ping()
    place.write(*place.issue())
    ping()


def test_half_renewed(place: Place, open_ping: Callable[[DockhandConfig], Ping]) -> None:
    ping = open_ping(place.config())
    ping()
    new, _ = place.issue()
    (place.folder / "..data" / "client.pem").write_bytes(new)
    ping()  # with the old one
    with pytest.raises(KeyMismatch, match=r"client\.key: this key does not belong"):
        check(place.config())


def test_no_certificate(place: Place, open_ping: Callable[[DockhandConfig], Ping]) -> None:
    config = place.config(client_cert=None, client_key=None)
    with pytest.raises(ConnectionFailed):
        open_ping(config)()
    with pytest.raises(NoCertificate, match="'main': set client_cert"):
        check(config)


def test_certificate_of_another_ca(
    place: Place, open_ping: Callable[[DockhandConfig], Ping]
) -> None:
    place.write(*place.issue(place.other))
    with pytest.raises(ConnectionFailed):
        open_ping(place.config())()
    with pytest.raises(CertificateRefused, match="does not trust the certificate"):
        check(place.config())


def test_registry_of_another_ca(place: Place, open_ping: Callable[[DockhandConfig], Ping]) -> None:
    config = place.config(verify="other.pem")
    with pytest.raises(ConnectionFailed):
        open_ping(config)()
    with pytest.raises(RegistryNotTrusted, match=r"`verify` has to name.*other\.pem"):
        check(config)


def test_registry_of_another_name(place: Place) -> None:
    config = place.config(base_uri=place.url.replace("localhost", "127.0.0.1"))
    with pytest.raises(RegistryNotTrusted, match=r"127\.0\.0\.1"):
        check(config)


def test_ca_that_is_missing(place: Place) -> None:
    with pytest.raises(RegistryNotTrusted, match=r"absent\.pem: No such file"):
        check(place.config(verify="absent.pem"))


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        (-2 * DAY, -DAY, "expired at .* is the program that renews it running"),
        (DAY, 2 * DAY, "valid from .* is the clock of this machine right"),
    ],
)
def test_certificate_at_another_time(
    place: Place, start: timedelta, end: timedelta, message: str
) -> None:
    place.write(*place.issue(start=start, end=end))
    with pytest.raises(CertificateExpired, match=message):
        check(place.config())


def test_unusable_files(place: Place) -> None:
    cert, key = place.issue()
    private = serialization.load_pem_private_key(key, None)
    encrypted = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"password"),
    )
    for pair, message in (
        ((b"not PEM", key), r"client\.pem: no certificate in PEM"),
        ((cert, b"not PEM"), r"client\.key: no private key in PEM"),
        ((cert, encrypted), r"client\.key: the private key is encrypted"),
    ):
        place.write(*pair)
        with pytest.raises(CertificateUnusable, match=message):
            check(place.config())
    with pytest.raises(CertificateUnusable, match=r"absent\.pem: No such file"):
        check(place.config(client_cert="absent.pem"))


def self_signed(key: rsa.RSAPrivateKey, *usages: x509.ObjectIdentifier) -> tuple[bytes, bytes]:
    """Make a certificate that has no name but a URI, as those of SPIFFE, and its key in PEM."""
    name = x509.UniformResourceIdentifier("spiffe://example.org/clean-up")
    made = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "Test")]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(NOW - DAY)
        .not_valid_after(NOW + DAY)
        .add_extension(x509.SubjectAlternativeName([name]), critical=True)
    )
    if usages:
        made = made.add_extension(x509.ExtendedKeyUsage(usages), critical=False)
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return made.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM), private


def test_kinds_of_certificates(place: Place) -> None:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    place.write(*self_signed(key, ExtendedKeyUsageOID.SERVER_AUTH))
    with pytest.raises(CertificateUnusable, match="not a certificate for clients"):
        check(place.config())
    place.write(*self_signed(key))
    found = read_certificate(place.folder / "client.pem", place.folder / "client.key")
    assert (found.subject, found.issuer) == ("spiffe://example.org/clean-up", "CN=Test")
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)
    place.write(*self_signed(weak))
    with pytest.raises(CertificateUnusable, match="KEY_TOO_SMALL"):
        check(place.config())


@pytest.mark.parametrize(
    ("alert", "kind"),
    [
        ("TLSV1_ALERT_UNKNOWN_CA", CertificateRefused),
        ("SSLV3_ALERT_BAD_CERTIFICATE", CertificateRefused),
        ("TLSV1_ALERT_ACCESS_DENIED", CertificateRefused),
        ("SSLV3_ALERT_CERTIFICATE_EXPIRED", CertificateExpired),
        ("TLSV13_ALERT_CERTIFICATE_REQUIRED", NoCertificate),
    ],
)
def test_alerts(alert: str, kind: type[MutualTLSError]) -> None:
    """Asyncio's servers send no alerts, which those in Go do."""
    error = ssl.SSLError(1, alert)
    error.reason = alert
    made = refusal(error, "registry.test:443", ClientCertificate("CN=a", "CN=b", NOW, NOW + DAY))
    assert type(made) is kind
    assert str(made).startswith("registry.test:443: the registry ")


def test_registry_that_is_down(place: Place) -> None:
    with listen("127.0.0.1", 0) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(ConnectionFailed, match=f"localhost:{port}: "):
        check(place.config(base_uri=f"https://localhost:{port}"))


def test_no_tls_at_this_port(place: Place) -> None:
    """A server that speaks plain HTTP refuses no certificate."""

    def answer(listener: socket.socket) -> None:
        accepted, _ = listener.accept()
        with accepted:
            accepted.recv(4096)
            accepted.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    with listen("127.0.0.1", 0) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        port = listener.getsockname()[1]
        with pytest.raises(ConnectionFailed, match=r"the TLS handshake failed .* port for https"):
            check(place.config(base_uri=f"https://127.0.0.1:{port}"))
        thread.join()


def test_host_name_that_cannot_be(place: Place) -> None:
    with pytest.raises(ConnectionFailed, match="label"):
        check(place.config(base_uri=f"https://{'a' * 70}.example.com"))


def test_file_that_vanishes_during_the_check(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    found = ClientCertificate("CN=a", "CN=b", NOW, NOW + DAY)
    module = sys.modules[check.__module__]  # its name is that of the function, too
    monkeypatch.setattr(module, "read_certificate", lambda *_: found)
    (place.folder / "client.key").unlink()
    with pytest.raises(CertificateUnusable, match="No such file"):
        check(place.config())


def test_plain_http(place: Place) -> None:
    with pytest.raises(NoCertificate, match="is not https"):
        check(place.config(base_uri="http://localhost:5000"))
    with pytest.raises(ConfigError, match="'main': base_uri: Invalid"):
        check(place.config(base_uri="https://[::1"))


@pytest.fixture
def run(
    place: Place, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """Provide a function that runs `dockhand check-tls` in the folder of the README's settings."""
    for name in [name for name in os.environ if name.startswith("DOCKHAND_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(place.folder)
    (settings,) = re.findall(r"```toml\n(.*?)```", README.read_text(), re.DOTALL)
    url = "https://registry.example.com"
    assert url in settings
    Path("dockhand.toml").write_text(settings.replace(url, place.url))

    def call(*arguments: str) -> tuple[int, str, str]:
        status = main(["check-tls", *arguments])
        written = capsys.readouterr()
        return status, written.out, written.err

    return call


def test_command(run: Callable[..., tuple[int, str, str]], place: Place) -> None:
    status, out, err = run()
    assert (status, err) == (0, "")
    assert re.fullmatch(r"main: .*CN=nightly-clean-up.* valid until \S+Z: accepted\n", out)
    place.write(*place.issue(start=-9 * DAY, end=DAY))
    status, out, err = run("@main", "--json")
    assert status == 0
    assert json.loads(out)["due"] is True
    assert "is it being renewed?" in err
    place.write(*place.issue(place.other))
    status, out, err = run("main")
    assert (status, out) == (1, "")
    assert "does not trust the certificate" in err


def test_readme(run: Callable[..., tuple[int, str, str]], place: Place) -> None:
    """The README's programs print what the comments behind `print(…)` promise."""
    program = "".join(re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL))
    promised = re.findall(r"^ *print\(.*\)  # (.*)$", program, re.MULTILINE)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(program, "README.md", "exec"), {"__name__": "readme"})
    assert len(promised) == 2
    assert printed.getvalue().splitlines() == promised
