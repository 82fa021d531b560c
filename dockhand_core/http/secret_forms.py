"""The forms in which a text quotes a secret, and the search for them.

A text is decoded as far as possible before the search: percent-encoding and escapes of JSON, Python
and HTML, in any combination and any number of times. The position of each character in the original
is kept, so that what is found can be replaced there. No I/O.
"""

from __future__ import annotations

import base64
import binascii
import html
import itertools
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

__all__ = ["MIN_ALONE", "MIN_ANYWHERE", "REPLACEMENT", "DecodedText", "Form", "forms_of"]

REPLACEMENT = "..."
MIN_ANYWHERE = 6  # characters; a shorter secret is replaced where no letter or digit is beside it
MIN_ALONE = 4  # characters; a shorter secret is replaced only in text that a reply contains
_MIN_CUT = 6  # characters; a shorter beginning of a secret at the end of a text is ignored
_MIN_PREFIX = 12  # characters; a beginning of a secret of this length is replaced everywhere
_MAX_ROUNDS = 5  # nested encodings


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a secret, as `DecodedText` has it.

    Attributes:
        text: the decoded form.
        length: the number of characters that count for the rules of short secrets.
    """

    text: str
    length: int


# Parameters of a header's value, such as those of `Digest` and of cookies.
_PARAMETER = re.compile(r'[\w-]+=(?:"([^"]{16,})"|([^\s",;]{16,}))')
_BASE64 = re.compile(r"[A-Za-z0-9+/_-]{4,}={0,2}")


def forms_of(secret: str) -> tuple[Form, ...]:
    """The forms of a secret to search for; empty if it has few characters but spaces and signs."""
    texts = [secret]
    scheme, _, rest = secret.partition(" ")
    if rest and scheme.replace("-", "").isalnum():  # such as `Basic YWxpY2U6cGFzcw==`
        texts = [rest, *(quoted or plain for quoted, plain in _PARAMETER.findall(rest))]
    for text in tuple(texts):
        pair = _decoded_base64(text)
        if ":" in pair:
            texts += [pair, pair.partition(":")[2]]
    return tuple(dict.fromkeys(form for text in texts for form in _encoded_forms(text)))


def _decoded_base64(text: str) -> str:
    if len(text) > 4096 or not _BASE64.fullmatch(text):
        return ""
    plain = text.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        decoded = base64.b64decode(plain + "=" * (-len(plain) % 4)).decode()
    except (binascii.Error, ValueError):
        return ""
    return decoded if decoded.isprintable() else ""


def _encoded_forms(text: str) -> Iterator[Form]:
    plain = DecodedText(text).text.strip(" ")
    if not plain or len(plain) < MIN_ALONE <= len(text):
        return
    yield Form(plain, len(plain))
    raw = text.encode("utf-8", "surrogatepass")
    if not text.isascii():  # as programs show it that take it for Latin-1, or send it as Latin-1
        yield Form(DecodedText(raw.decode("latin-1")).text.strip(" "), len(text))
        if all(ord(character) < 256 for character in text):
            yield Form(_merged(text).strip(" "), len(text))
    for shift in range(3):
        # base64 encodes groups of 3 bytes, so a text within a longer one is encoded in one of 3
        # ways. The characters at its ends depend on the bytes beside it, and are left out.
        encoded = base64.b64encode(b"\0" * shift + raw).decode("ascii")
        core = _merged(encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]).strip(" ")
        if len(core) > MIN_ALONE:
            yield Form(core, max(len(core), MIN_ANYWHERE))


_ENCODED = re.compile(
    r"%(?:25)*([0-9A-Fa-f]{2})"
    r"|\\+u([dD][89abAB][0-9A-Fa-f]{2})\\+u([dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|\\+u([0-9A-Fa-f]{4})"
    r"|\\+x([0-9A-Fa-f]{2})"
    r"|&(?:amp;)*(#[0-9]{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z]{2,6});"
    r"|(\\+[nrtbf])"
    r"|\\+"
)
_SPACES = re.compile(r"[\s+-]+")
_CUT = re.compile(r"$|['\"]|\.\.\.|" + "…".encode().decode("latin-1"))


def _merged(text: str) -> str:
    """Merge characters that some encodings exchange: `+`, `-` and spaces; `/` and `_`."""
    return _SPACES.sub(" ", text).replace("_", "/")


def _utf8(text: str) -> str:
    """The bytes of a text in UTF-8, as a text in which each character is one byte."""
    return text.encode("utf-8", "surrogatepass").decode("latin-1")


def _decode(match: re.Match[str]) -> str:
    percent, high, low, unicode, byte, entity, control = match.groups()
    if percent or byte:
        return chr(int(percent or byte, 16))
    if high:
        return _utf8(chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)))
    if unicode:
        return _utf8(chr(int(unicode, 16)))
    if entity:
        return _utf8(html.unescape(f"&{entity};"))
    return " " if control else ""  # a line break; or backslashes before any other character


def _common(form: str, text: str, at: int) -> int:
    """The number of characters that a form and a text, from a position on, have in common."""
    pairs = zip(form, itertools.islice(text, at, at + len(form)), strict=False)
    return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))


class DecodedText:
    """A text without encodings, with the position of each of its characters in the original.

    Attributes:
        text: the decoded text. Each of its characters is a byte of UTF-8; see also `_merged`.
    """

    def __init__(self, original: str) -> None:
        self._original = original
        self._found: list[tuple[int, int]] = []
        self.text = _utf8(original)
        self._starts = list(range(len(original)))
        if len(self.text) != len(original):
            self._starts = [at for at, character in enumerate(original) for _ in _utf8(character)]
        self._ends = [start + 1 for start in self._starts]
        for _ in range(_MAX_ROUNDS):
            before = self.text
            self._rewrite(_ENCODED, _decode)
            if self.text == before:
                break
        self._rewrite(_SPACES, lambda _: " ")
        self.text = self.text.replace("_", "/")

    def _rewrite(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> None:
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for match in pattern.finditer(self.text):
            new = replace(match)
            first, end = match.span()
            parts += [self.text[done:first], new]
            starts += self._starts[done:first] + [self._starts[first]] * len(new)
            ends += self._ends[done:first] + [self._ends[end - 1]] * len(new)
            done = end
        if parts:
            self.text = "".join([*parts, self.text[done:]])
            self._starts = starts + self._starts[done:]
            self._ends = ends + self._ends[done:]

    def find(self, form: Form) -> None:
        """Mark each place where a form of a secret is, or a beginning of it that was cut off."""
        length = len(form.text)
        at = self.text.find(form.text)
        while at >= 0:
            if form.length >= MIN_ANYWHERE or self._stands_alone(at, at + length):
                self._mark(at, at + length)
            at = self.text.find(form.text, at + 1)
        if length <= _MIN_CUT:
            return
        at = self.text.find(form.text[:_MIN_CUT])
        while at >= 0:
            same = _common(form.text, self.text, at)
            if same >= _MIN_PREFIX or _CUT.match(self.text, at + same):
                self._mark(at, at + same)
            at = self.text.find(form.text[:_MIN_CUT], at + 1)

    def _stands_alone(self, first: int, end: int) -> bool:
        return not (self.text[:first][-1:].isalnum() or self.text[end : end + 1].isalnum())

    def _mark(self, first: int, end: int) -> None:
        self._found.append((self._starts[first], self._ends[end - 1]))

    def without_found(self) -> str:
        """The original text, with `...` in each place that was marked."""
        if not self._found:
            return self._original
        parts: list[str] = []
        done = 0
        for first, end in sorted(self._found):
            if first >= done:
                parts += [self._original[done:first], REPLACEMENT]
            done = max(done, end)
        return "".join([*parts, self._original[done:]])
