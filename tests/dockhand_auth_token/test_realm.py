"""Realms: token endpoints that may and may not receive credentials."""

from __future__ import annotations

import pytest
from dockhand_auth_token import RealmNotAllowed
from dockhand_auth_token.realm import check_realm

from dockhand_core.http.addresses import host_of, literal_address, parse_address, refusals

NAMES = {
    "registry.example.com": ["93.184.216.34"],
    "auth.example.com": ["93.184.216.35"],
    "inside.example.com": ["10.0.0.7"],
    "both.example.com": ["93.184.216.36", "169.254.169.254"],
    "registry.inside.example.com": ["10.0.0.7"],
    "localhost": ["127.0.0.1", "::1"],
    "mapped.example.com": ["::ffff:127.0.0.1"],
    "carrier.example.com": ["100.64.0.1"],
}


def judge(realm: str, registry: str) -> None:
    """Check a realm, and then the addresses of its host as a transport does."""
    rule = check_realm(realm, registry, None)
    assert rule is not None
    host = host_of(realm)
    literal = literal_address(host)
    found = [literal] if literal else map(parse_address, NAMES[host])
    with refusals(rule):
        rule.check(host, found)


PUBLIC = "https://registry.example.com/v2/"
LOCAL = "http://127.0.0.1:5000/v2/"


@pytest.mark.parametrize(
    ("realm", "registry"),
    [
        ("https://auth.example.com/token", PUBLIC),
        ("https://registry.example.com:8443/token", PUBLIC),
        ("https://auth.example.com/token", "http://registry.example.com/v2/"),
        ("http://auth.example.com/token", "http://registry.example.com/v2/"),
        ("http://localhost:5001/token", LOCAL),
        ("http://127.0.0.9/token", LOCAL),
        ("http://[::1]:5001/token", LOCAL),
        ("http://mapped.example.com/token", LOCAL),
        ("http://registry.inside.example.com:81/token", "http://registry.inside.example.com/v2/"),
        ("http://inside.example.com/token", "http://10.0.0.7:5000/v2/"),
    ],
)
def test_public_and_own_hosts_are_allowed(realm: str, registry: str) -> None:
    judge(realm, registry)


@pytest.mark.parametrize(
    ("realm", "registry", "why"),
    [
        ("http://auth.example.com/token", PUBLIC, "https to http"),
        ("https://10.0.0.1/token", PUBLIC, "private address"),
        ("https://inside.example.com/token", PUBLIC, "private address"),
        ("https://both.example.com/token", PUBLIC, "private address"),
        ("https://localhost/token", PUBLIC, "private address"),
        ("https://127.0.0.1/token", PUBLIC, "private address"),
        ("https://2130706433/token", PUBLIC, "private address"),
        ("https://0x7f.1/token", PUBLIC, "private address"),
        ("https://127。0。0。1/token", PUBLIC, "private address"),
        ("https://[64:ff9b::a9fe:a9fe]/token", PUBLIC, "private address"),
        ("https://[::127.0.0.1]/token", PUBLIC, "private address"),
        ("https://[2002:a00:1::]/token", PUBLIC, "private address"),
        ("https://１２７.０.０.１/token", PUBLIC, "not a URL"),
        ("https://auth.exa\u00admple.com/token", PUBLIC, "not a URL"),
        ("https://mapped.example.com/token", PUBLIC, "private address"),
        ("https://carrier.example.com/token", PUBLIC, "private address"),
        ("https://[fe80::1]/token", PUBLIC, "private address"),
        ("https://0.0.0.0/token", PUBLIC, "private address"),
        ("http://169.254.169.254/latest", "http://registry.example.com/v2/", "private address"),
        ("http://10.0.0.1/token", LOCAL, "private address"),
        ("http://localhost/token", "http://10.0.0.7:5000/v2/", "private address"),
        # This registry may resolve to a private address, but its owner could forge that in DNS.
        ("http://10.0.0.7/token", "http://registry.inside.example.com/v2/", "private address"),
        ("ftp://auth.example.com/token", PUBLIC, "not an http or https URL"),
        ("https://user:pw@auth.example.com/", PUBLIC, "not an http or https URL"),
        ("/token", PUBLIC, "not an http or https URL"),
        ("https://[", PUBLIC, "not a URL"),
    ],
)
def test_private_hosts_and_other_schemes_are_refused(realm: str, registry: str, why: str) -> None:
    with pytest.raises(RealmNotAllowed, match=why) as caught:
        judge(realm, registry)
    assert "pw" not in str(caught.value)


def test_configured_realms_replace_the_check_of_addresses() -> None:
    """A configured realm may have any address, but an https registry needs an https realm."""
    allowed = ["https://auth.example.com", "https://10.0.0.1:8080", "http://auth.example.com"]
    assert check_realm("https://auth.example.com:443/token", PUBLIC, allowed) is None
    check_realm("https://10.0.0.1:8080/token", PUBLIC, allowed)
    check_realm("http://auth.example.com/token", LOCAL, allowed)
    for realm in ("https://registry.example.com/token", "https://10.0.0.1/token",
                  "https://auth.example.com:8443/"):  # fmt: skip
        with pytest.raises(RealmNotAllowed, match="not among") as caught:
            check_realm(realm, PUBLIC, allowed)
        assert caught.value.realm in str(caught.value)
    with pytest.raises(RealmNotAllowed, match="https to http"):
        check_realm("http://auth.example.com/token", PUBLIC, allowed)
    with pytest.raises(RealmNotAllowed):
        check_realm("https://auth.example.com/", PUBLIC, [])
