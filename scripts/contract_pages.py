"""Make the page of the kit's contracts: what each test demands, and why."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import dockhand_testing
from docstrings import entries, sections

# Parts of a contract that have a table of their own.
_PARTS = {
    "BlobContract": "Blobs",
    "UploadContract": "Uploads",
    "ManifestContract": "Manifests",
    "ListContract": "Lists",
    "ReferrerContract": "Referrers",
    "IndexContract": "Indexes",
    "CredentialsContract": "Credentials and the event loop",
    "DriverContract": "Settings and clients",
}
_RULE = re.compile(r"the rule: (?P<rule>.*)\nwhy: (?P<why>.*)\nwritten in: ", re.DOTALL)


def contracts() -> str:
    """Make the page of all contracts."""
    parts = [
        "# Contracts",
        (
            "This page is made from the code. A contract is a class of tests of "
            "[`dockhand-testing`](../packages/dockhand-testing.md), which the tests of a plugin "
            "subclass; [Testing a plugin](../plugins/testing.md) shows how. Each row is a test, "
            "with the rule that it checks. A failed test begins with its rule."
        ),
    ]
    for name in dockhand_testing.__all__:
        if name.endswith("Contract"):
            parts += _contract(getattr(dockhand_testing, name))
    return "\n\n".join([*parts, ""])


def rules(contract: type) -> Iterator[tuple[type, str, str, str]]:
    """The tests of a contract: the class that has it, its name, its rule, and why it is a rule."""
    for base in contract.__mro__:
        for name, test in vars(base).items():
            if name.startswith("test_"):
                found = _RULE.match(test.rule)
                assert found, f"{contract.__name__}.{name} has no rule"
                yield base, name, found["rule"], found["why"]


def _contract(contract: type) -> Iterator[str]:
    yield f"## {contract.__name__}"
    yield sections(contract)[""].partition("::")[0].partition(": subclass")[0].strip() + "."
    attributes = _attributes(contract)
    if attributes:
        rows = "\n".join(f"| `{name}` | {_cell(text)} |" for name, text in attributes.items())
        yield f"| Attribute | |\n|---|---|\n{rows}"
    bases = list(dict.fromkeys(base for base, *_ in rules(contract)))
    for base in bases:
        if title := _PARTS.get(base.__name__):
            yield f"### {title}"
        rows = "\n".join(
            f"| `{name.removeprefix('test_')}` | {_cell(rule)} | {_cell(why)} |"
            for found, name, rule, why in rules(contract)
            if found is base
        )
        yield f"| Test | Rule | Why |\n|---|---|---|\n{rows}"


def _attributes(contract: type) -> dict[str, str]:
    """The attributes to set; where a docstring points to a base class, those of the base class."""
    found: dict[str, str] = {}
    for base in reversed(contract.__mro__):
        for name, text in entries(sections(base).get("Attributes", "")).items():
            if not (name in found and text.startswith("see ")):
                found[name] = text
    return found


def _cell(text: str) -> str:
    return inspect.cleandoc(text).replace("\n", " ").replace("|", "\\|")
