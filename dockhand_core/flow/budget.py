"""A budget of bytes for the replies of one list."""

from __future__ import annotations

from dataclasses import replace

from dockhand_core.errors import ResponseTooLarge
from dockhand_core.flow.effects import Call, Flow, T
from dockhand_core.flow.replies import JSON_LIMIT, Reply

__all__ = ["LIST_LIMIT", "ListBudget"]

LIST_LIMIT = 256 << 20  # bytes; the default limit on all replies of one list


class ListBudget:
    """The number of bytes that the replies of one list may still have.

    A flow may run within several budgets, each of which counts its replies.

    Args:
        limit: the number of bytes in total.
        advice: the end of the error's message, which names the setting.

    Attributes:
        left: the number of bytes that are left.
    """

    def __init__(self, limit: int, advice: str = "raise the connection's list_limit") -> None:
        self.limit = self.left = limit
        self._advice = advice

    def metered(self, flow: Flow[T]) -> Flow[T]:
        """Run a flow within this budget, and return its result.

        A call that states no limit of its own may use what is left.

        Raises:
            ResponseTooLarge: the replies exceed the budget; the message names the setting.
        """
        try:
            effect = next(flow)
            while True:
                if isinstance(effect, Call) and not effect.stream:
                    stated = self.left if effect.limit == JSON_LIMIT else effect.limit
                    effect = replace(effect, limit=min(stated, self.left))
                try:
                    result = yield effect
                except GeneratorExit:
                    flow.close()
                    raise
                except ResponseTooLarge as error:
                    effect = flow.throw(error if error.setting else self._named(error))
                except BaseException as error:
                    effect = flow.throw(error)
                else:
                    if isinstance(result, Reply):
                        self.left -= len(result.body)
                    effect = flow.send(result)
        except StopIteration as end:
            value: T = end.value
            return value

    def _named(self, error: ResponseTooLarge) -> ResponseTooLarge:
        return ResponseTooLarge(
            f"{error}; the replies of one list may have {self.limit} bytes: {self._advice}",
            setting="list_limit",
        )
