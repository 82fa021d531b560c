"""Checks of drivers: their classes, and the results of their methods.

A mistake is a `PluginError` that names the class, the method and the rule. The checks run when a
connection is made; those of operations, once for each call of an operation.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import BaseModel

from dockhand_core.auth import AuthDriver
from dockhand_core.driver import RegistryDriver
from dockhand_core.errors import DockhandError, PluginError
from dockhand_core.flow import Flow, Reply
from dockhand_core.flow.checks import described, dispose, is_flow
from dockhand_core.models import (
    ApiVersion,
    ImageConfig,
    ImageIndex,
    ImageManifest,
    ManifestHead,
    Page,
    PushResult,
    Upload,
)
from dockhand_core.plugin_failures import reason_of

__all__ = [
    "call_plugin",
    "check_client",
    "check_driver",
    "check_logger",
    "construct",
    "guard_operations",
]

T = TypeVar("T")

_BASES: dict[str, type] = {"registry": RegistryDriver, "auth": AuthDriver}
# The types of the operations' results; operations that return None are checked to be flows.
_RESULTS: dict[str, tuple[type, ...]] = {
    "ping": (),
    "is_online": (bool,),
    "api_version": (ApiVersion,),
    "repository_page": (Page,),
    "tag_page": (Page,),
    "manifest": (ImageManifest, ImageIndex),
    "manifest_head": (ManifestHead,),
    "put_manifest": (PushResult,),
    "delete_manifest": (),
    "delete_tag": (),
    "deletes_tags": (bool,),
    "tag_details": (dict,),
    "manifest_page": (Page,),
    "referrers": (ImageIndex,),
    "image_config": (ImageConfig,),
    "open_blob": (Reply,),
    "read_blob": (bytes,),
    "download_blob": (Path,),
    "blob_size": (int,),
    "blob_exists": (bool,),
    "blob_exists_for_push": (bool,),
    "delete_blob": (),
    "mount_blob": (PushResult, Upload),
    "upload_blob": (PushResult,),
    "send_blob": (PushResult,),
    "start_upload": (Upload,),
    "upload_chunk": (Upload,),
    "finish_upload": (PushResult,),
    "upload_status": (Upload,),
    "cancel_upload": (),
}


def check_driver(kind: str, where: str, driver: Any) -> Any:
    """Check the class of a driver, or the function of a log driver, and return it.

    Args:
        kind: `registry`, `auth` or `log`.
        where: start of error messages.
        driver: the class or function.
    """
    base = _BASES.get(kind)
    if base is None:
        if not callable(driver):
            raise PluginError(f"{where} is not callable: {driver!r}")
        return driver
    if not (isinstance(driver, type) and issubclass(driver, base)):
        raise PluginError(f"{where} is not a subclass of {base.__name__}: {driver!r}")
    settings = getattr(driver, "Settings", None)
    if not (isinstance(settings, type) and issubclass(settings, BaseModel)):
        raise PluginError(
            f"{where}: {driver.__name__}.Settings has to be a subclass of pydantic.BaseModel, "
            f"such as {base.__name__}.Settings; it is {settings!r}"
        )
    if issubclass(driver, AuthDriver) and driver.auth_flow is AuthDriver.auth_flow:
        for name in ("sync_auth_flow", "async_auth_flow"):
            if getattr(driver, name) is not getattr(AuthDriver, name):
                raise PluginError(
                    f"{where}: {driver.__name__}.{name} is never called; implement auth_flow, "
                    "which serves sync and async clients"
                )
    return driver


def call_plugin(where: str, function: Callable[..., T], *arguments: Any) -> T:
    """Call a function of a plugin; convert its exceptions, except Dockhand's, to `PluginError`.

    Args:
        where: the function's name with the plugin's, for the message.
        function: the function.
        arguments: its positional arguments.
    """
    try:
        return function(*arguments)
    except DockhandError:
        raise
    except Exception as error:
        raise PluginError(f"{where}: {reason_of(error)}") from error


def construct(where: str, driver: Callable[..., T], *arguments: Any, needs: str) -> T:
    """Make a driver object or a logger; also explain a wrong signature.

    Args:
        where: the plugin's name, for messages.
        driver: the class or function.
        arguments: the positional arguments.
        needs: description of the arguments, for the message.
    """
    try:
        return call_plugin(where, driver, *arguments)
    except PluginError as error:
        if not isinstance(error.__cause__, TypeError) or _accepts(driver, arguments):
            raise
        name = getattr(driver, "__qualname__", "the driver")
        name = f"{name}.__init__" if isinstance(driver, type) else name
        raise PluginError(f"{where}: {name} has to accept {needs}: {error.__cause__}") from error


def _accepts(
    function: Callable[..., Any],
    arguments: tuple[Any, ...],
    options: Mapping[str, Any] = MappingProxyType({}),
) -> bool:
    try:
        inspect.signature(function).bind(*arguments, **options)
    except ValueError:  # no signature, such as of a function that is written in C
        return True
    except TypeError:
        return False
    return True


def check_client(
    where: str, driver: type[RegistryDriver], attribute: str, base: type[T]
) -> type[T]:
    """Return the client class that a driver names in its attribute `client` or `async_client`."""
    found = getattr(driver, attribute, None)
    if isinstance(found, type) and issubclass(found, base):
        return found
    state = "is missing" if found is None else f"is {described(found)}"
    raise PluginError(
        f"{where}: {driver.__name__}.{attribute} {state}; set it to {base.__name__} or a subclass "
        "of it"
    )


def check_logger(where: str, logger: Any, **bound: Any) -> Any:
    """Check the logger that a log driver has made, and bind values to it.

    Args:
        where: the log driver's name, for messages.
        logger: the logger.
        bound: the values to bind.
    """
    if not callable(getattr(logger, "bind", None)):
        text = f"returned {described(logger)}, which has no method bind"
        dispose(logger)
    else:
        found = call_plugin(where, functools.partial(logger.bind, **bound))
        missing = [name for name in ("info", "warning") if not callable(getattr(found, name, None))]
        if not missing:
            return found
        text = f"returned a logger whose bind() gives {described(found)}, without {missing[0]}"
    raise PluginError(
        f"{where}: it {text}; return make_logger(settings, connection, processors) of "
        "dockhand_core.logs"
    )


def guard_operations(driver: RegistryDriver) -> None:
    """Check, at each call of an operation of the driver, that it is a flow with the right result.

    The operations are wrapped on this object, so that the checks hold for every caller.
    """
    for name, kinds in _RESULTS.items():
        if getattr(type(driver), name, None) is not getattr(RegistryDriver, name):
            vars(driver)[name] = _guarded(driver, name, kinds)


def _guarded(
    driver: RegistryDriver, name: str, kinds: tuple[type, ...]
) -> Callable[..., Flow[Any]]:
    label = f"{type(driver).__qualname__}.{name}"
    operation: Any = call_plugin(label, getattr, driver, name)
    if not callable(operation):
        raise PluginError(f"{label} is {described(operation)}; it has to be a generator function")

    def run(*arguments: Any, **options: Any) -> Flow[Any]:
        try:
            flow = operation(*arguments, **options)
        except TypeError as error:
            if _accepts(operation, arguments, options):
                raise
            raise PluginError(
                f"{label} has to accept the arguments of RegistryDriver.{name}: {error}"
            ) from error
        if not is_flow(flow):
            dispose(flow)
            raise PluginError(
                f"{label} returned {described(flow)}, not a flow; it has to be a generator "
                "function, for sync and async clients: a plain `def` with `yield from`"
            )
        result = yield from flow
        if kinds and not isinstance(result, kinds):
            raise PluginError(f"{label} {_returned(result)}; it has to return {_names(kinds)}")
        if isinstance(result, Page):
            _check_page(label, result)
        if isinstance(result, Reply) and result.unread is None:
            raise PluginError(
                f"{label} returned a Reply whose body was read; it has to use call(…, stream=True)"
            )
        return result

    return functools.wraps(operation)(run)


def _check_page(label: str, page: Page[Any]) -> None:
    wrong = next((item for item in page.items if not isinstance(item, str)), None)
    if wrong is not None or None in page.items:
        raise PluginError(
            f"{label} returned a Page with {described(wrong)} among its items; they have to be "
            "strings"
        )


def _returned(value: object) -> str:
    if value is None:
        return "returned None (is a `return` missing?)"
    return f"returned {described(value)}"


def _names(kinds: tuple[type, ...]) -> str:
    names = [kind.__name__ for kind in kinds]
    return " or ".join(f"{'an' if name[0] in 'AEIOUaeiou' else 'a'} {name}" for name in names)
