"""Addresses: which ones are public, and which ones a rule allows."""

from __future__ import annotations

import ipaddress

import pytest

from dockhand_core import DockhandError
from dockhand_core.http.addresses import (
    AddressRefused,
    AddressRule,
    host_of,
    is_public,
    literal_address,
    parse_address,
    refusals,
)
from dockhand_core.http.urls import origin_of


@pytest.mark.parametrize(
    "text",
    [
        "93.184.216.34",
        "2606:4700::1",
        "::ffff:8.8.8.8",
        "64:ff9b::8.8.8.8",
        "::8.8.8.8",
        "::ffff:0:8.8.8.8",
        "2002:808:808::1",
        "2001:0:808:808::f7f7:f7f7",  # Teredo: server and client are 8.8.8.8
        "2606:4700::5efe:8.8.8.8",  # ISATAP
    ],
)
def test_public_addresses(text: str) -> None:
    assert is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize("inside", ["127.0.0.1", "10.0.0.1", "169.254.169.254", "0.0.0.0"])
@pytest.mark.parametrize(
    "form",
    [
        "{0}",
        "::ffff:{0}",
        "::ffff:0:{0}",
        "64:ff9b::{0}",
        "64:ff9b:1::{0}",
        "2002:{1}::1",
        "2001:0:808:808::{2}",
        "2001:0:{1}::f7f7:f7f7",
        "2606:4700::5efe:{0}",
        "2606:4700::200:5efe:{0}",
    ],
)
def test_private_addresses_in_every_form(form: str, inside: str) -> None:
    value = int(ipaddress.IPv4Address(inside))
    high, low = f"{value >> 16:x}", f"{value & 0xFFFF:x}"
    inverted = ~value & 0xFFFFFFFF
    text = form.format(inside, f"{high}:{low}", f"{inverted >> 16:x}:{inverted & 0xFFFF:x}")
    assert not is_public(ipaddress.ip_address(text)), text


@pytest.mark.parametrize(
    "text",
    [
        "::1", "::", "::127.0.0.1", "::10.0.0.1", "fe80::1", "fc00::1", "fec0::1", "ff02::1",
        "2001:db8::1", "5f00::1", "100.64.0.1", "192.168.1.1", "172.16.0.1", "224.0.0.1",
        "255.255.255.255",
    ],
)  # fmt: skip
def test_other_addresses_that_are_not_public(text: str) -> None:
    assert not is_public(ipaddress.ip_address(text))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", "127.0.0.1"),
        ("127.0.0.1.", "127.0.0.1"),
        ("2130706433", "127.0.0.1"),
        ("0x7f.1", "127.0.0.1"),
        ("0X7F000001", "127.0.0.1"),
        ("0177.0.0.01", "127.0.0.1"),
        ("0", "0.0.0.0"),
        ("::ffff:7f00:1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("LOCALHOST.", "127.0.0.1"),
        ("a.localhost", "127.0.0.1"),
        ("1.2.3.4.5", None),
        ("registry.test", None),
        ("0x7g", None),
        ("", None),
    ],
)
def test_hosts_that_are_addresses(host: str, address: str | None) -> None:
    found = literal_address(host)
    assert (None if found is None else str(found)) == address


def test_a_host_is_encoded_as_it_is_asked() -> None:
    assert host_of("https://FAß.example/x") == "xn--fa-hia.example"
    assert host_of("http://127。0。0。1/") == "127.0.0.1"
    assert host_of("http://[::1]:5000/") == "::1"
    for url in (
        "http://１２７.０.０.１/",
        "http://exam\u00adple.test/",
        "http:///x",
    ):
        with pytest.raises(ValueError, match="URL"):
            host_of(url)


def test_one_host_has_one_origin() -> None:
    assert origin_of("https://faß.example") == origin_of("https://xn--fa-hia.example:443/")
    assert origin_of("https://faß.example") != origin_of("https://fass.example")
    assert origin_of("http://１２７.０.０.１") != origin_of("http://127.0.0.1")


def rule(home: str) -> AddressRule:
    return AddressRule(home, lambda why: DockhandError(f"refused: {why}"))


@pytest.mark.parametrize(
    ("home", "host", "addresses"),
    [
        ("registry.test", "other.test", ["93.184.216.34", "2606:4700::1"]),
        ("registry.test", "registry.test", ["10.0.0.1"]),
        ("registry.test", "REGISTRY.test.", ["10.0.0.1"]),
        ("10.0.0.1", "other.test", ["10.0.0.1", "::ffff:10.0.0.1"]),
        ("127.0.0.1", "other.test", ["127.0.0.2", "::1"]),
        ("localhost", "other.test", ["::1"]),
        ("2130706433", "other.test", ["127.0.0.1"]),
    ],
)
def test_a_rule_allows_public_addresses_and_its_home(
    home: str, host: str, addresses: list[str]
) -> None:
    rule(home).check(host, map(parse_address, addresses))


@pytest.mark.parametrize(
    ("home", "host", "addresses"),
    [
        ("registry.test", "other.test", ["93.184.216.34", "10.0.0.1"]),
        ("registry.test", "other.test", ["64:ff9b::7f00:1"]),
        ("10.0.0.1", "other.test", ["10.0.0.2"]),
        ("10.0.0.1", "other.test", ["127.0.0.1"]),
        ("127.0.0.1", "other.test", ["10.0.0.1"]),
        ("127.0.0.1", "other.test", ["0.0.0.0"]),
    ],
)
def test_a_rule_refuses_private_addresses(home: str, host: str, addresses: list[str]) -> None:
    with pytest.raises(AddressRefused, match="private address"):
        rule(home).check(host, map(parse_address, addresses))


def test_a_refusal_raises_the_error_of_the_rule() -> None:
    found = rule("registry.test")
    message = r"refused: 0x7f\.1 is on a private address, 127"
    with pytest.raises(DockhandError, match=message), refusals(found):
        found.check_host("0x7f.1")
    assert found == rule("registry.test") != rule("other.test")
