"""Fixtures: a client of each transport, and a certificate authority."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import trustme
from raw_servers import CertificateAuthority
from transport_client import TRANSPORTS, MakeClient, TransportClient

from dockhand_core.http.transports import TransportOptions


@pytest.fixture(params=TRANSPORTS, ids="-".join)
def make_client(request: pytest.FixtureRequest) -> Iterator[MakeClient]:
    """Provide a function that makes clients from transport options; they are closed afterwards."""
    kind, name = request.param
    made: list[TransportClient] = []

    def build(**options: Any) -> TransportClient:
        options.setdefault("verify", False)  # loading the system's authorities is slow
        made.append(TransportClient(kind, TransportOptions(name=name, **options)))
        return made[-1]

    yield build
    for client in made:
        client.shut_down()
    gc.collect(1)  # leaked objects warn now, which fails the test


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> CertificateAuthority:
    """Make a certificate authority; `other.pem` in its folder is the certificate of another one."""
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    made = CertificateAuthority(
        ca, folder, folder / "ca.pem", folder / "cert.pem", folder / "key.pem"
    )
    ca.cert_pem.write_to_path(str(made.bundle))
    issued = ca.issue_cert("client@example.test")
    made.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(made.key))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    return made


@pytest.fixture
def set_variables(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Unset the proxy variables, and provide a function that sets environment variables."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)

    def put(**names: str) -> None:
        for name, value in names.items():
            monkeypatch.setenv(name, value)

    return put
