"""Every transport, and an authority for certificates."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from typing import Any

import pytest
import trustme
from raw_servers import CARRIERS, Authority, Carrier, Make

from dockhand_core.http.transports import TransportOptions


@pytest.fixture(params=CARRIERS, ids="-".join)
def make(request: pytest.FixtureRequest) -> Iterator[Make]:
    kind, name = request.param
    made: list[Carrier] = []

    def build(**options: Any) -> Carrier:
        options.setdefault("verify", False)  # loading the usual authorities takes its time
        made.append(Carrier(kind, TransportOptions(name=name, **options)))
        return made[-1]

    yield build
    for carrier in made:
        carrier.shut()
    gc.collect(1)  # what was leaked warns now, and warnings are errors


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    folder = tmp_path_factory.mktemp("tls")
    ca = trustme.CA()
    made = Authority(ca, folder, folder / "ca.pem", folder / "cert.pem", folder / "key.pem")
    ca.cert_pem.write_to_path(str(made.bundle))
    issued = ca.issue_cert("client@example.test")
    made.cert.write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    issued.private_key_pem.write_to_path(str(made.key))
    trustme.CA().cert_pem.write_to_path(str(folder / "other.pem"))
    return made
