"""The retry policy: which failures are retried, the waits, and what resets the count."""

from __future__ import annotations

import pytest

from dockhand_core import ConnectionFailed, Timeout
from dockhand_core.flow import Attempts, RetryPolicy

POLICY = RetryPolicy(retries=3, base=1.0, cap=5.0)


def failure(text: str = "the connection broke", *, unsent: bool = False) -> ConnectionFailed:
    error = ConnectionFailed(text)
    error.unsent = unsent
    return error


@pytest.mark.parametrize(
    ("status", "repeatable", "unrepeatable"),
    [
        (200, False, False),
        (400, False, False),
        (401, False, False),
        (404, False, False),
        (408, False, False),
        (429, True, True),  # the request was not processed
        (500, False, False),
        (501, False, False),
        (502, True, False),
        (503, True, False),
        (504, True, False),
    ],
)
def test_statuses_that_are_repeated(status: int, repeatable: bool, unrepeatable: bool) -> None:
    assert POLICY.repeats_status(status) is repeatable
    assert POLICY.repeats_status(status, repeatable=False) is unrepeatable


def test_failures_that_are_repeated() -> None:
    assert POLICY.repeats_failure(failure())
    assert POLICY.repeats_failure(Timeout("no answer"))
    assert not POLICY.repeats_failure(failure(), repeatable=False)
    assert POLICY.repeats_failure(failure(unsent=True), repeatable=False)


def test_a_refused_certificate_is_not_tried_again() -> None:
    refused = failure("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", unsent=True)
    assert not POLICY.repeats_failure(refused)


@pytest.mark.parametrize(
    ("attempt", "shortest", "longest"), [(1, 0.5, 1.0), (2, 1.0, 2.0), (3, 2.0, 4.0)]
)
def test_the_back_off_doubles(attempt: int, shortest: float, longest: float) -> None:
    waits = [POLICY.wait(attempt) for _ in range(50)]
    assert all(wait is not None and shortest <= wait <= longest for wait in waits)
    assert len(set(waits)) > 1  # random: clients do not retry at the same moment


def test_the_back_off_is_capped() -> None:
    patient = RetryPolicy(retries=30, base=1.0, cap=5.0)
    waits = [patient.wait(attempt) for attempt in range(4, 31)]
    assert all(wait is not None and wait <= 5.0 for wait in waits)


def test_it_gives_up() -> None:
    assert POLICY.wait(4) is None
    assert RetryPolicy(retries=0).wait(1) is None


def test_the_registry_is_never_asked_sooner_than_it_wants() -> None:
    wait = POLICY.wait(1, asked=3.0)
    assert wait is not None
    assert 3.0 < wait <= 3.1


def test_a_wait_beyond_the_cap_is_refused() -> None:
    assert POLICY.wait(1, asked=5.1) is None


def fail(attempts: Attempts, error: Exception) -> float:
    """Record a failure, and return the wait before the next attempt, in seconds."""
    (sleep,) = attempts.wait_after(error)
    return sleep.seconds


def test_a_transfer_fails_after_too_many_failures_in_a_row() -> None:
    attempts = POLICY.attempts()
    for longest in (1.0, 2.0, 4.0):
        assert longest / 2 <= fail(attempts, failure()) <= longest
    last = failure("the last")
    with pytest.raises(ConnectionFailed) as raised:
        fail(attempts, last)
    assert raised.value is last


def test_progress_resets_the_count() -> None:
    attempts = POLICY.attempts()
    for _ in range(20):
        assert 0.5 <= fail(attempts, failure()) <= 1.0
        attempts.progressed()


def test_transfers_are_counted_apart() -> None:
    once = RetryPolicy(retries=1, base=0.0)
    one, other = once.attempts(), once.attempts()
    fail(one, failure())
    fail(other, failure())
    with pytest.raises(ConnectionFailed):
        fail(one, failure())
