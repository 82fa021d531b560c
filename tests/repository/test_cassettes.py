"""The cassettes contain recorded traffic and no secret."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from abilities import ABILITIES
from registries import PASSWORD

CASSETTES = Path(__file__).parents[2] / "cassettes"
FILES = sorted(CASSETTES.rglob("*.yaml"))
SECRETS = re.compile(
    r"authorization|proxy-auth|set-cookie|bearer |basic [a-z0-9+/=]{8}|private key|eyJ[\w-]{20}",
    re.IGNORECASE,
)


def test_there_are_some() -> None:
    folders = {path.parent.name for path in FILES}
    assert folders == {*ABILITIES, "token", "zot-extensions"} - {"embedded"}
    names = [{p.name for p in FILES if p.parent.name.endswith(v)} for v in ("2.8", "3.1")]
    assert names[0] == names[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: f"{p.parent.name}/{p.stem}")
def test_no_secret(path: Path) -> None:
    text = path.read_text("utf-8")
    # headers that ask for credentials or allow them are no secret, so they are removed first
    text = re.sub(
        r"(?i)www-authenticate|basic realm|authorization,content-type,x-zot-api-client"
        r"|authorization required|bearer realm",
        "",
        text,
    )
    assert [m[0] for m in SECRETS.finditer(text)] == []
    assert not re.search(r"zak_[0-9a-f]", text)  # an API key of zot
    assert PASSWORD not in text
    assert "127.0.0.1" not in text
    assert len(text) < 96 << 10
