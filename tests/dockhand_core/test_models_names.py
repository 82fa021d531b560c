"""Digests, repository names, tags and references: the syntax that may reach a URL."""

from __future__ import annotations

import copy
import hashlib
import pickle
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from dockhand_core import Digest, DigestInvalid, NameInvalid, TagInvalid
from dockhand_core.models import check_reference, check_repository, check_tag

HEX = "0123456789abcdef"
DIGEST = "sha256:" + "ab" * 32

# the regular expressions of the specification, copied literally
SPECIFIED_NAME = re.compile(
    r"[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(\/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*", re.ASCII
)
SPECIFIED_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}", re.ASCII)


class TestDigest:
    def test_digest_of_bytes(self) -> None:
        assert Digest.of(b"x") == f"sha256:{hashlib.sha256(b'x').hexdigest()}"
        assert Digest.of(b"x", "sha512") == f"sha512:{hashlib.sha512(b'x').hexdigest()}"
        with pytest.raises(DigestInvalid, match="'md5' is not supported"):
            Digest.of(b"x", "md5")

    def test_algorithm_and_encoded_part(self) -> None:
        digest = Digest(DIGEST)
        assert isinstance(digest, str)
        assert (digest.algorithm, digest.encoded) == ("sha256", "ab" * 32)
        assert str(digest) == DIGEST == f"{digest}"
        assert Digest(digest) is digest
        assert {digest: 1}[DIGEST] == 1  # type: ignore[index]

    def test_hasher_of_its_algorithm(self) -> None:
        hasher = Digest(DIGEST).hasher()
        hasher.update(b"x")
        assert hasher.hexdigest() == hashlib.sha256(b"x").hexdigest()

    def test_an_unknown_algorithm_is_kept_but_not_computed(self) -> None:
        digest = Digest("multihash+base58:QmRZxt2b1FVZPNqd8hsiykDL3TdBDeTSPX9Kv46HmX4Gx8")
        assert digest.algorithm == "multihash+base58"
        with pytest.raises(DigestInvalid, match="not supported"):
            digest.hasher()

    def test_copies_are_digests(self) -> None:
        digest = Digest(DIGEST)
        for same in (pickle.loads(pickle.dumps(digest)), copy.deepcopy(digest)):
            assert (type(same), same) == (Digest, digest)

    @pytest.mark.parametrize(
        "text",
        [
            "",
            "sha256",
            "sha256:",
            "latest",
            "sha256:" + "AB" * 32,
            "sha256:" + "ab" * 31,
            "sha256:" + "ab" * 33,
            "sha512:" + "ab" * 32,
            "DIGEST:" + "ab" * 32,
            f"{DIGEST}\n",
            f" {DIGEST}",
            f"{DIGEST}/../x",
            f"{DIGEST}?a=b",
            "sha256:" + "é" * 64,
            "x:" + "a" * 2000,
            "sha256:" + "٣" * 64,
        ],
    )
    def test_malformed_texts_are_refused(self, text: str) -> None:
        with pytest.raises(DigestInvalid) as caught:
            Digest(text)
        assert len(str(caught.value)) < 300
        assert caught.value.status is None

    @pytest.mark.parametrize("wrong", [None, 5, b"sha256:" + b"ab" * 32, ["a"]])
    def test_other_types_are_refused(self, wrong: object) -> None:
        with pytest.raises(DigestInvalid):
            Digest(wrong)  # type: ignore[arg-type]

    def test_the_message_names_the_expected_length(self) -> None:
        with pytest.raises(DigestInvalid, match="not a sha256 digest; expected 64 lower-case hex"):
            Digest("sha256:ab")
        with pytest.raises(DigestInvalid, match="not a sha512 digest; expected 128 lower-case hex"):
            Digest("sha512:ab")

    @given(st.binary(max_size=100), st.sampled_from(["sha256", "sha512"]))
    def test_any_bytes_have_a_digest(self, data: bytes, algorithm: str) -> None:
        digest = Digest.of(data, algorithm)
        assert Digest(str(digest)) == digest
        assert digest.algorithm == algorithm
        assert len(digest.encoded) == {"sha256": 64, "sha512": 128}[algorithm]

    @given(st.text(max_size=140))
    def test_any_text_is_a_digest_or_refused(self, text: str) -> None:
        try:
            digest = Digest(text)
        except DigestInvalid:
            return
        assert re.fullmatch(r"[a-z0-9+._-]+:[a-zA-Z0-9=_-]+", digest)

    def test_field_of_a_model(self) -> None:
        class Model(BaseModel):
            digest: Digest

        model = Model.model_validate_json(f'{{"digest": "{DIGEST}"}}')
        assert type(model.digest) is Digest
        assert model.model_dump_json() == f'{{"digest":"{DIGEST}"}}'
        with pytest.raises(ValidationError):
            Model(digest="sha256:x")


component = st.from_regex(r"\A[a-z0-9]+((\.|_|__|-+)[a-z0-9]+){0,3}\Z", fullmatch=True)


class TestRepository:
    @given(st.lists(component, min_size=1, max_size=4).map("/".join))
    def test_valid_names(self, name: str) -> None:
        if len(name) <= 255:
            assert check_repository(name) == name

    @given(st.text(alphabet="ab0._-/A :\n?#%é", max_size=20))
    def test_same_syntax_as_the_specification(self, name: str) -> None:
        if SPECIFIED_NAME.fullmatch(name):
            assert check_repository(name) == name
        else:
            with pytest.raises(NameInvalid):
                check_repository(name)

    @pytest.mark.parametrize(
        "name",
        [
            "",
            "/",
            "/a",
            "a/",
            "a//b",
            "A",
            "a..b",
            "a___b",
            ".a",
            "a.",
            "../etc",
            "a/../b",
            "a?b",
            "a#b",
            "a%2fb",
            "a b",
            "a\n",
            "a:b",
            "é",
            "٣",
            "a" * 256,
        ],
    )
    def test_invalid_names(self, name: str) -> None:
        with pytest.raises(NameInvalid, match="is not a repository name"):
            check_repository(name)

    def test_length_and_type(self) -> None:
        assert check_repository("a" * 255)
        assert check_repository("a---b/c__d/e.f_g")
        with pytest.raises(NameInvalid):
            check_repository(None)  # type: ignore[arg-type]


class TestTag:
    @given(st.text(alphabet="aZ9._-/ :\né", max_size=8))
    def test_same_syntax_as_the_specification(self, tag: str) -> None:
        if SPECIFIED_TAG.fullmatch(tag):
            assert check_tag(tag) == tag
        else:
            with pytest.raises(TagInvalid):
                check_tag(tag)

    @pytest.mark.parametrize("tag", ["a", "_a", "1.0", "A-b_c.d", "a" * 128])
    def test_valid_tags(self, tag: str) -> None:
        assert check_tag(tag) == tag

    @pytest.mark.parametrize("tag", ["", ".a", "-a", "a/b", "a\n", "a" * 129, "a:b", "٣", "..", 5])
    def test_invalid_tags(self, tag: str) -> None:
        with pytest.raises(TagInvalid, match="is not a tag"):
            check_tag(tag)


class TestReference:
    def test_a_digest_stays_a_digest(self) -> None:
        found = check_reference(DIGEST)
        assert type(found) is Digest
        assert check_reference(found) is found

    def test_a_tag_stays_text(self) -> None:
        assert check_reference("latest") == "latest"
        assert not isinstance(check_reference("latest"), Digest)

    def test_other_texts_are_refused(self) -> None:
        with pytest.raises(DigestInvalid):
            check_reference("sha256:x")
        with pytest.raises(TagInvalid):
            check_reference("a/b")
        with pytest.raises(TagInvalid):
            check_reference(None)  # type: ignore[arg-type]
