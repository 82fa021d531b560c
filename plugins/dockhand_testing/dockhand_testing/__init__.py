"""The kit for tests of Dockhand's plugins: contracts, fixtures, flows by hand and builders.

The contracts are classes of tests, which the tests of a plugin subclass. The fixtures come with a
pytest plugin, which is loaded if the package is installed.
"""

from typing import TYPE_CHECKING

from dockhand_core import lazy_exports

if TYPE_CHECKING:
    from dockhand_testing.abilities import Abilities
    from dockhand_testing.builders import (
        BuiltImage,
        BuiltIndex,
        build_artifact,
        build_image,
        build_index,
    )
    from dockhand_testing.contracts.auth import AuthDriverContract
    from dockhand_testing.contracts.handlers import EventHandlerContract, sample_event
    from dockhand_testing.contracts.log import LogDriverContract
    from dockhand_testing.contracts.parsers import EventParserContract
    from dockhand_testing.contracts.registry import RegistryDriverContract
    from dockhand_testing.http_server import (
        CUT,
        HANG,
        ReceivedRequest,
        ScriptedServer,
        Step,
        Wait,
        WaitUntil,
        reply,
        scripted_server,
    )
    from dockhand_testing.playing import Played, play
    from dockhand_testing.rules import rule
    from dockhand_testing.scripted_registry import FAULTS, ScriptedRegistry, run_scripted_registry

__all__ = [
    "Abilities",
    "AuthDriverContract",
    "BuiltImage",
    "BuiltIndex",
    "CUT",
    "EventHandlerContract",
    "EventParserContract",
    "FAULTS",
    "HANG",
    "LogDriverContract",
    "Played",
    "ReceivedRequest",
    "RegistryDriverContract",
    "ScriptedRegistry",
    "ScriptedServer",
    "Step",
    "Wait",
    "WaitUntil",
    "build_artifact",
    "build_image",
    "build_index",
    "play",
    "reply",
    "rule",
    "run_scripted_registry",
    "sample_event",
    "scripted_server",
]

if not TYPE_CHECKING:
    _HOMES = {
        "Abilities": "abilities",
        "AuthDriverContract": "contracts.auth",
        "BuiltImage": "builders",
        "BuiltIndex": "builders",
        "EventHandlerContract": "contracts.handlers",
        "EventParserContract": "contracts.parsers",
        "FAULTS": "scripted_registry",
        "LogDriverContract": "contracts.log",
        "Played": "playing",
        "RegistryDriverContract": "contracts.registry",
        "ScriptedRegistry": "scripted_registry",
        "build_artifact": "builders",
        "build_image": "builders",
        "build_index": "builders",
        "play": "playing",
        "rule": "rules",
        "run_scripted_registry": "scripted_registry",
        "sample_event": "contracts.handlers",
    }
    __getattr__ = lazy_exports(__name__, {**dict.fromkeys(__all__, "http_server"), **_HOMES})


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
