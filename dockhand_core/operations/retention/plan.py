"""The plan of a retention policy, which can be written to JSON, and the result of applying it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from dockhand_core.errors import RetentionPlanInvalid
from dockhand_core.models import Digest, check_repository, check_tag

__all__ = ["RetentionItem", "RetentionPlan", "RetentionResult"]

VERSION = 1  # of the JSON


class RetentionItem(BaseModel):
    """A manifest of a retention plan, with the tags that the plan is about.

    Attributes:
        tags: the tags, in ASCII order; empty for a manifest without tags.
        digest: the digest that the tags point to; None if they point to no manifest.
        created: the time that counts as the age, or None.
        size: bytes of the manifest, its configs and layers; of an index with those of its images,
            each blob once.
        reason: the reason for the decision, for people.
        tags_only: among the deletions, whether the manifest stays and only the tags go.
        after: digests of the manifests in the plan that have to be gone before this one is deleted:
            the indexes that list it, and its subject.
        error: the error of a deletion that failed, in the result of `apply_retention`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    tags: tuple[Annotated[str, AfterValidator(check_tag)], ...] = ()
    digest: Digest | None
    created: datetime | None = None
    size: Annotated[int, Field(ge=0)] = 0
    reason: str = ""
    tags_only: bool = False
    after: tuple[Digest, ...] = ()
    error: str | None = None

    def because(self, reason: str, error: Exception | None = None) -> RetentionItem:
        """Copy the item with another reason, and with an error."""
        text = None if error is None else f"{type(error).__name__}: {error}"
        return self.model_copy(update={"reason": reason, "error": text})


class RetentionPlan(BaseModel):
    """The decisions of a retention policy about a repository, made by `plan_retention`.

    Attributes:
        registry: the registry, as `RegistryDriver.identity` names it.
        repository: the repository's name.
        made_at: the time when the plan was made.
        delete: the deletions, in their order. Each is one manifest, with all its tags, or only tags
            of a manifest that stays. Images of an index, referrers and signatures are items, too.
        keep: the candidates that stay, each with the rule that keeps it.
        unknown: the candidates that stay because they have no usable age.
        blocked: candidates that should go, but stay: other tags keep their manifest, and the
            registry cannot delete a tag alone.
        freed: estimate of the bytes that the registry's garbage collection can free: those of
            manifests and blobs in `delete` that no other manifest of this repository has. Blobs
            that other repositories share are counted.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)

    registry: str
    repository: Annotated[str, AfterValidator(check_repository)]
    made_at: datetime
    delete: tuple[RetentionItem, ...] = ()
    keep: tuple[RetentionItem, ...] = ()
    unknown: tuple[RetentionItem, ...] = ()
    blocked: tuple[RetentionItem, ...] = ()
    freed: Annotated[int, Field(ge=0)] = 0

    def to_json(self) -> str:
        """Write the plan as JSON, for `from_json`."""
        document = {"version": VERSION, **self.model_dump(mode="json", exclude_defaults=True)}
        return json.dumps(document, indent=2)

    @classmethod
    def from_json(cls, text: str | bytes) -> RetentionPlan:
        """Read a plan that `to_json` wrote.

        Raises:
            RetentionPlanInvalid: the text is not such a plan; the message names the wrong field.
        """
        try:
            document = json.loads(text)
        except (TypeError, ValueError, RecursionError) as error:
            raise RetentionPlanInvalid(f"the retention plan is not JSON: {error}") from None
        if not isinstance(document, Mapping) or document.get("version") != VERSION:
            raise RetentionPlanInvalid(
                f"the JSON is not a retention plan of version {VERSION}; plan_retention makes one"
            )
        fields: dict[str, Any] = {key: value for key, value in document.items() if key != "version"}
        try:
            plan = cls.model_validate(fields)
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(str(part) for part in first["loc"])
            raise RetentionPlanInvalid(f"the retention plan's {where}: {first['msg']}") from None
        if any(item.digest is None for item in plan.delete):
            raise RetentionPlanInvalid("the retention plan has a deletion without a digest")
        return plan


class RetentionResult(BaseModel):
    """The result of `apply_retention`.

    Attributes:
        deleted: the items that were deleted.
        changed: the items that were left alone, because a tag has moved or was added since the
            plan was made, or because they belong to such an item.
        failed: the items that could not be deleted, each with its `error`; and those that wait for
            them.
        gone: the items that did not exist any more, as after an earlier, interrupted run.
    """

    model_config = ConfigDict(frozen=True, defer_build=True)

    deleted: tuple[RetentionItem, ...] = ()
    changed: tuple[RetentionItem, ...] = ()
    failed: tuple[RetentionItem, ...] = ()
    gone: tuple[RetentionItem, ...] = ()
