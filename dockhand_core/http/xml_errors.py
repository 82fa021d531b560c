"""Error replies in XML, as storages send them: Amazon S3, Google Cloud Storage, Azure. No I/O."""

from __future__ import annotations

from typing import Any

__all__ = ["xml_error"]

_LONGEST = 4096  # characters of one value
_VALUES = ("code", "message", "requestid")


def xml_error(text: str) -> tuple[list[dict[str, Any]], str | None]:
    """Read the code, the message and the request id of an XML error document.

    The first `Code`, `Message` and `RequestId` count, wherever they are. Other elements are
    ignored, since some quote the request and its signature. A document with a document type
    declaration is not read at all, because the declaration could define entities. If a document is
    cut off or malformed, the part before the fault is read.

    Args:
        text: the body of the reply.

    Returns:
        a pair: a list with one entry that has `code` and perhaps `message`, as in the JSON of
        registries, or an empty list if there is no code; and the request id, or None.
    """
    from xml.parsers import expat  # here: few replies are XML

    found: dict[str, str] = {}
    parts: list[str] = []

    def start(*_: object) -> None:
        parts.clear()

    def end(name: str) -> None:
        key = name.rpartition(":")[2].lower()
        if key in _VALUES and (value := "".join(parts).strip()):
            found.setdefault(key, value[:_LONGEST])
        parts.clear()

    def refuse(*_: object) -> None:
        raise ValueError("a document type")

    parser = expat.ParserCreate("utf-8")
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = parts.append
    parser.StartDoctypeDeclHandler = refuse
    try:
        parser.Parse(text.strip(), True)
    except expat.ExpatError:
        pass
    except ValueError:
        return [], None
    if "code" not in found:
        return [], None
    entry: dict[str, Any] = {key: found[key] for key in ("code", "message") if key in found}
    return [entry], found.get("requestid")
