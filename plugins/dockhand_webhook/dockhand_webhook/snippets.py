"""Configuration with which a registry sends its notifications to the receiver."""

from __future__ import annotations

import json

__all__ = ["distribution_section", "zot_section"]

_NAME = "dockhand"


def distribution_section(url: str, token: str) -> str:
    """The section `notifications` of Distribution's `config.yml`, for Distribution 2 and 3.

    Args:
        url: the URL of the receiver's route.
        token: the token that the registry sends.
    """
    return "\n".join(
        [
            "notifications:",
            "  endpoints:",
            f"    - name: {_NAME}",
            f"      url: {json.dumps(url)}",
            "      headers:",
            f"        Authorization: [{json.dumps(f'Bearer {token}')}]",
            "      timeout: 10s",
            "      threshold: 3  # failed attempts, after which each further one waits for",
            "      backoff: 5s",
            "",
        ]
    )


def zot_section(url: str, token: str) -> str:
    """The section `extensions.events` of zot's `config.json`.

    Args:
        url: the URL of the receiver's route.
        token: the token that the registry sends.
    """
    sink = {"type": "http", "address": url, "timeout": "10s", "credentials": {"token": token}}
    section = {"extensions": {"events": {"enable": True, "sinks": [sink]}}}
    return json.dumps(section, indent=2) + "\n"
