"""The forms in which a text quotes a secret, and the search for them.

A text is decoded as far as possible before the search: percent-encoding and escapes of JSON, Python
and HTML, in any combination and any number of times. If something is found, the text is decoded
once more, with the position of each character in the original, so that it can be replaced there.

A registry chooses the texts, and how many they are. The search therefore takes all of them at once,
in a time that hardly depends on the number of secrets, and stops if too much is found. No I/O.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

__all__ = ["MIN_ALONE", "MIN_ANYWHERE", "REPLACEMENT", "Form", "SecretSearch", "forms_of"]

REPLACEMENT = "..."
MIN_ANYWHERE = 6  # characters; a shorter secret is replaced where no letter or digit is beside it
MIN_ALONE = 4  # characters; a shorter secret is replaced only in text that a reply contains
_MIN_CUT = 6  # characters; a shorter beginning of a secret at the end of a text is ignored
_MIN_PREFIX = 12  # characters; a beginning of a secret of this length is replaced everywhere
_MAX_ROUNDS = 5  # nested encodings
_MAX_WORK = 200_000  # characters to compare; if it takes more, all texts are replaced as a whole


@dataclass(frozen=True, slots=True)
class Form:
    """One form of a secret, as in a decoded text.

    Attributes:
        text: the decoded form.
        length: the number of characters that count for the rules of short secrets.
    """

    text: str
    length: int


# Parameters of a header's value, such as those of `Digest` and of cookies.
_PARAMETER = re.compile(r'(?<![\w-])[\w-]+=(?:"([^"]{16,})"|([^\s",;]{16,}))')
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
    plain = _merged(_decoded(_utf8(text))).strip(" ")
    if not plain or len(plain) < MIN_ALONE <= len(text):
        return
    yield Form(plain, len(plain))
    raw = text.encode("utf-8", "surrogatepass")
    if not text.isascii():  # as programs show it that take it for Latin-1, or send it as Latin-1
        yield Form(_merged(_decoded(_utf8(raw.decode("latin-1")))).strip(" "), len(text))
        if all(ord(character) < 256 for character in text):
            yield Form(_merged(text).strip(" "), len(text))
    if len(raw) >= MIN_ALONE:
        yield Form(raw.hex(), 2 * len(raw))
        yield Form(raw.hex().upper(), 2 * len(raw))
    for shift in range(3):
        # base64 encodes groups of 3 bytes, so a text within a longer one is encoded in one of 3
        # ways. The characters at its ends depend on the bytes beside it, and are left out.
        encoded = base64.b64encode(b"\0" * shift + raw).decode("ascii")
        core = _merged(encoded[(shift * 8 + 5) // 6 : (shift + len(raw)) * 8 // 6]).strip(" ")
        if len(core) > MIN_ALONE:
            yield Form(core, max(len(core), MIN_ANYWHERE))


# A text, which is compiled when it is used: the compilation takes 2 % of a program's start.
_ENCODED = (
    r"%(?:25)*([0-9A-Fa-f]{2})"
    r"|\\+u([dD][89abAB][0-9A-Fa-f]{2})\\+u([dD][c-fC-F][0-9A-Fa-f]{2})"
    r"|(?:\\+|%(?:25)*)u([0-9A-Fa-f]{4})"
    r"|\\+(?:u\{([0-9A-Fa-f]{1,6})\}|U([0-9A-Fa-f]{8}))"
    r"|\\+x([0-9A-Fa-f]{2})"
    r"|&(?:amp;)*(#0*[0-9]{1,7}(?:;|(?![0-9]))|#[xX]0*[0-9A-Fa-f]{1,6}(?:;|(?![0-9A-Fa-f]))"
    r"|[A-Za-z]{2,6};)"
    r"|(\\+[nrtbf])"
    r"|\\+"
)
_SPACES = re.compile(r"[\s\0+-]+")  # NUL: between the characters of UTF-16
_SEPARATOR = "\uffff"  # between decoded texts, whose characters are bytes
_CUT = re.compile(rf"$|[{_SEPARATOR}'\"]|\.\.\.|" + "…".encode().decode("latin-1"))


def _merged(text: str) -> str:
    """Merge characters that some encodings exchange: `+`, `-` and spaces; `/` and `_`."""
    return _SPACES.sub(" ", text).replace("_", "/")


def _utf8(text: str) -> str:
    """The bytes of a text in UTF-8, as a text in which each character is one byte."""
    return text if text.isascii() else text.encode("utf-8", "surrogatepass").decode("latin-1")


def _decode(match: re.Match[str]) -> str:
    if match.lastindex == 1:
        return chr(int(match[1], 16))
    _, high, low, unicode, braced, long, byte, entity, control = match.groups()
    if byte:
        return chr(int(byte, 16))
    if high:
        return _utf8(chr(0x10000 + ((int(high, 16) & 0x3FF) << 10) + (int(low, 16) & 0x3FF)))
    if unicode or braced or long:
        return _utf8(chr(min(int(unicode or braced or long, 16), 0x10FFFF)))
    if entity:
        return _utf8(html.unescape(f"&{entity.removesuffix(';')};"))
    return " " if control else ""  # a line break; or backslashes before any other character


def _decoded(text: str) -> str:
    for _ in range(_MAX_ROUNDS):
        if not any(sign in text for sign in "%\\&"):
            break
        before, text = text, re.sub(_ENCODED, _decode, text)
        if text == before:
            break
    return text


class SecretSearch:
    """The search for all forms of several secrets.

    Args:
        secrets: each secret with its forms, see `forms_of`.
    """

    def __init__(self, secrets: Iterable[tuple[str, Sequence[Form]]]) -> None:
        self._signs: list[str] = []  # secrets of nothing but spaces and signs
        self._short: list[Form] = []
        self._long: dict[str, list[Form]] = {}  # by their first characters, without spaces
        # The four characters at the places 0, 1 and 2 of each long form. One of them is found in a
        # text if only every third place of the text is looked at.
        self._samples: set[str] = set()
        for form in {form for secret, forms in secrets for form in self._known(secret, forms)}:
            plain = form.text.replace(" ", "")
            if form.length < MIN_ANYWHERE or len(plain) < _MIN_CUT:
                self._short.append(form)
            else:
                self._long.setdefault(plain[:_MIN_CUT], []).append(Form(plain, form.length))
                self._samples.update(plain[at : at + 4] for at in range(3))

    def _known(self, secret: str, forms: Sequence[Form]) -> Sequence[Form]:
        if len(secret) >= MIN_ALONE and not forms:
            self._signs.append(secret)
        return forms

    def hidden(self, texts: Sequence[str], *, reply: bool) -> list[str]:
        """Return the texts with `...` in each place where a secret is, or the beginning of one.

        Args:
            texts: the texts.
            reply: whether the texts are parts of a reply; then secrets of any length are searched.
        """
        found = list(texts)
        for secret in self._signs:
            found = [each.replace(secret, REPLACEMENT) for each in found]
        merged = _merged(_decoded(_SEPARATOR.join(map(_utf8, found))))
        squeezed = merged.replace(" ", "")
        short = [form for form in self._short if reply or form.length >= MIN_ALONE]
        long = self._places(squeezed)
        if not long and not any(form.text in merged for form in short):
            return found
        marks = _Marks(found)
        try:
            for form in short:
                marks.mark_short(form)
            for at in long:
                marks.mark_long(self._long[squeezed[at : at + _MIN_CUT]], at)
        except OverflowError:
            return [REPLACEMENT] * len(found)
        return marks.hidden()

    def _places(self, text: str) -> list[int]:
        """The positions at which a long form may begin."""
        samples, long = self._samples, self._long
        return [
            place
            for at in range(0, len(text) - 3, 3)
            if text[at : at + 4] in samples
            for place in range(max(0, at - 2), at + 1)
            if text[place : place + _MIN_CUT] in long
        ]


class _Marks:
    """The places of secrets in several texts.

    Args:
        texts: the original texts.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        self._texts = texts
        self._found: list[tuple[int, int]] = []
        self._work = 0
        # The decoded texts, and the position of each of their characters in the joined originals.
        self._text = _SEPARATOR.join(map(_utf8, texts))
        self._starts: list[int] = []
        offset = 0
        for text in texts:
            if offset:
                self._starts.append(offset - 1)  # of the separator
            if text.isascii():
                self._starts += range(offset, offset + len(text))
            else:
                places = enumerate(text, offset)
                self._starts += [at for at, character in places for _ in _utf8(character)]
            offset += len(text) + 1
        self._ends = [start + 1 for start in self._starts]
        for _ in range(_MAX_ROUNDS):
            before = self._text
            self._rewrite(re.compile(_ENCODED), _decode)
            if self._text == before:
                break
        self._rewrite(_SPACES, lambda _: " ")
        self._text = self._text.replace("_", "/")
        kept = [at for at, character in enumerate(self._text) if character != " "]
        self._kept, self._squeezed = kept, self._text.replace(" ", "")

    def _rewrite(self, pattern: re.Pattern[str], replace: Callable[[re.Match[str]], str]) -> None:
        parts: list[str] = []
        starts: list[int] = []
        ends: list[int] = []
        done = 0
        for match in pattern.finditer(self._text):
            new = replace(match)
            first, end = match.span()
            parts += [self._text[done:first], new]
            starts += self._starts[done:first] + [self._starts[first]] * len(new)
            ends += self._ends[done:first] + [self._ends[end - 1]] * len(new)
            done = end
        if parts:
            self._text = "".join([*parts, self._text[done:]])
            self._starts = starts + self._starts[done:]
            self._ends = ends + self._ends[done:]

    def mark_short(self, form: Form) -> None:
        """Mark each place where a short form is."""
        text, length = self._text, len(form.text)
        at = text.find(form.text)
        while at >= 0:
            beside = text[max(0, at - 1) : at] + text[at + length : at + length + 1]
            if form.length >= MIN_ANYWHERE or not any(map(str.isalnum, beside)):
                self._found.append((self._starts[at], self._ends[at + length - 1]))
            at = text.find(form.text, at + 1)

    def mark_long(self, forms: Iterable[Form], at: int) -> None:
        """Mark the longest of several forms at a position, or a beginning that was cut off.

        Raises:
            OverflowError: this takes too long, because there are too many such places.
        """
        text, longest = self._squeezed, 0
        for form in forms:
            same = _common(form.text, text, at)
            self._work += 100 + same
            whole = same == len(form.text)
            if same > longest and (whole or same >= _MIN_PREFIX or _CUT.match(text, at + same)):
                longest = same
        if longest:
            first, last = self._kept[at], self._kept[at + longest - 1]
            self._found.append((self._starts[first], self._ends[last]))
        if self._work > _MAX_WORK:
            raise OverflowError

    def hidden(self) -> list[str]:
        """The original texts, with `...` in each place that was marked."""
        marks = deque(sorted(self._found))
        found: list[str] = []
        offset = 0
        for text in self._texts:
            parts: list[str] = []
            done = 0
            while marks and marks[0][0] < offset + len(text):
                first, end = marks.popleft()
                if first - offset >= done:
                    parts += [text[done : first - offset], REPLACEMENT]
                done = max(done, end - offset)
            found.append("".join([*parts, text[done:]]))
            offset += len(text) + 1
        return found


def _common(form: str, text: str, at: int) -> int:
    """The number of characters that a form and a text, from a position on, have in common."""
    if text.startswith(form, at):
        return len(form)
    low, high = 0, len(form)  # the first `low` are the same; the first `high` are not
    while high - low > 1:
        middle = min((low + high) // 2, 2 * low + _MIN_CUT)
        if text.startswith(form[low:middle], at + low):
            low = middle
        else:
            high = middle
    return low
