"""The relations between the manifests of a repository, which decide what retention may delete.

A manifest leads to others in three ways: an index lists manifests, a manifest has referrers, and
the tags of signatures (cosign's, and the referrers tag) name their subject by its digest.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from dockhand_core.flow import Flow
from dockhand_core.models import Digest
from dockhand_core.operations.retention.survey import Survey
from dockhand_core.operations.tag_patterns import signature_prefix, signed_by_tag

__all__ = ["Graph"]


class Graph:
    """The relations of manifests.

    Args:
        survey: the manifests. Those of all tags have been read.
        tags: the digest of each tag.
    """

    def __init__(self, survey: Survey, tags: Mapping[str, Digest]) -> None:
        self._survey = survey
        self.tags_of: dict[Digest, list[str]] = {}
        self._signatures: dict[str, list[str]] = {}  # tags of signatures by their prefixes
        self._tags = tags
        self._referrers: dict[Digest, tuple[Digest, ...]] = {}
        for tag, digest in tags.items():
            self.tags_of.setdefault(digest, []).append(tag)
            prefix = signed_by_tag(tag)
            if prefix is not None:
                self._signatures.setdefault(prefix, []).append(tag)

    def signature_tags(self, digest: Digest) -> list[str]:
        """The tags of signatures that name a manifest as their subject."""
        return self._signatures.get(signature_prefix(digest), [])

    def orphaned_tags(self, subjects: Iterable[Digest]) -> list[str]:
        """The tags of signatures whose subject is not among some manifests."""
        prefixes = {signature_prefix(digest) for digest in subjects}
        return [
            tag
            for prefix, tags in self._signatures.items()
            if prefix not in prefixes
            for tag in tags
        ]

    def closure(self, roots: Iterable[Digest]) -> Flow[dict[Digest, None]]:
        """All existing manifests that some manifests lead to, themselves included.

        The referrers of each are fetched with a request.
        """
        found: dict[Digest, None] = {}
        frontier = list(dict.fromkeys(roots))
        while frontier:
            yield from self._survey.read(frontier)
            frontier = [digest for digest in frontier if self._survey.nodes[digest].exists]
            found.update(dict.fromkeys(frontier))
            self._referrers.update((yield from self._survey.referrers(frontier)))
            following = (next_one for digest in frontier for next_one in self._following(digest))
            frontier = [digest for digest in dict.fromkeys(following) if digest not in found]
        return found

    def _following(self, digest: Digest) -> list[Digest]:
        """The manifests that a manifest leads to, in the order in which they may be deleted."""
        return [
            *self._survey.nodes[digest].children,
            *(self._tags[tag] for tag in self.signature_tags(digest)),
            *self._referrers.get(digest, ()),
        ]

    def alive(self, roots: Mapping[Digest, str]) -> dict[Digest, tuple[str, bool]]:
        """The manifests that stay, because a root needs them or is their subject.

        Args:
            roots: the manifests that stay for another reason, each with the reason.

        Returns:
            the reason of each, and whether it is a root itself.
        """
        nodes = self._survey.nodes
        by_subject: dict[Digest, list[Digest]] = {}
        for digest, node in nodes.items():
            if node.subject is not None:
                by_subject.setdefault(node.subject, []).append(digest)
        found = {digest: (reason, True) for digest, reason in roots.items()}
        waiting = list(found)
        while waiting:
            digest = waiting.pop()
            following = [
                *(nodes[digest].children if digest in nodes else ()),
                *by_subject.get(digest, ()),
                *(self._tags[tag] for tag in self.signature_tags(digest)),
            ]
            for each in following:
                if each not in found:
                    found[each] = found[digest][0], False
                    waiting.append(each)
        return found

    def order(self, dead: Mapping[Digest, object]) -> list[tuple[Digest, tuple[Digest, ...]]]:
        """The order in which manifests are deleted: each after the ones that lead to it.

        Returns:
            each manifest, with the manifests that must be gone before it.
        """
        before: dict[Digest, dict[Digest, None]] = {digest: {} for digest in dead}
        after: dict[Digest, list[Digest]] = {digest: [] for digest in dead}
        for digest in dead:
            for each in dict.fromkeys(self._following(digest)):
                if each in before and each != digest:
                    before[each][digest] = None
                    after[digest].append(each)
        left = {digest: len(firsts) for digest, firsts in before.items()}
        ready = [digest for digest in reversed(list(dead)) if not left[digest]]
        order: dict[Digest, tuple[Digest, ...]] = {}
        while len(order) < len(before):
            if not ready:
                # A circle, such as an index that lists its own subject: the listing comes first.
                ready.append(self._least_listed([d for d in before if d not in order]))
            digest = ready.pop()
            if digest in order:
                continue
            order[digest] = tuple(each for each in before[digest] if each in order)
            for each in reversed(after[digest]):
                left[each] -= 1
                if not left[each] and each not in order:
                    ready.append(each)
        return list(order.items())

    def _least_listed(self, digests: Sequence[Digest]) -> Digest:
        listed = {child for digest in digests for child in self._survey.nodes[digest].children}
        return next((digest for digest in digests if digest not in listed), digests[0])

    def cause(self, digest: Digest, before: Iterable[Digest]) -> str:
        """The reason why a manifest goes together with a manifest that leads to it."""
        for each in before:
            if digest in self._survey.nodes[each].children:
                return f"{each}, which is deleted, lists it"
            for tag in self.signature_tags(each):
                if self._tags[tag] == digest:
                    return f"the tag {tag} belongs to {each}, which is deleted"
            return f"it refers to {each}, which is deleted"
        return ""
