"""Calls in a thread beside their caller: their order, errors, and number of threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from dockhand_core.flow import Background

MIB = 1 << 20
LARGE = 8 * MIB  # more than is called without a thread


@pytest.fixture
def background() -> Iterator[Background]:
    """Provide calls that are settled at the end of the test."""
    found = Background()
    yield found
    found.settle()


def test_a_few_bytes_need_no_thread(background: Background) -> None:
    seen: list[int] = []
    background.call(MIB, lambda: seen.append(threading.get_ident()))
    assert seen == [threading.get_ident()]


def test_calls_run_in_their_order_in_one_thread(background: Background) -> None:
    seen: list[tuple[int, str]] = []
    for number in range(100):
        background.call(LARGE, lambda n=number: seen.append((n, threading.current_thread().name)))
    background.settle()
    assert seen == [(number, "dockhand-hash") for number in range(100)]
    background.call(LARGE, seen.clear)  # again, in a new thread
    background.settle()
    assert seen == []


def test_the_first_error_ends_the_calls(background: Background) -> None:
    seen: list[int] = []
    background.call(LARGE, lambda: seen.append(1))
    background.call(LARGE, lambda: 1 // 0)
    background.call(LARGE, lambda: seen.append(2))
    with pytest.raises(ZeroDivisionError):
        background.settle()
    background.settle()
    assert seen == [1]


def test_calls_wait_while_too_many_have_not_begun(background: Background) -> None:
    go, made = threading.Event(), threading.Event()

    def caller() -> None:
        for _ in range(20):
            background.call(LARGE, go.wait)
        made.set()

    thread = threading.Thread(target=caller)
    thread.start()
    assert not made.wait(0.1)
    go.set()
    thread.join(10)
    assert made.is_set()


def test_there_are_at_most_as_many_threads_as_processors() -> None:
    many = [Background() for _ in range(2 * (os.cpu_count() or 1))]
    go = threading.Event()
    mine: list[Background] = []

    def work(one: Background) -> None:
        if threading.current_thread().name == "dockhand-hash":
            go.wait(10)
        else:
            mine.append(one)

    for one in many:
        one.call(LARGE, work, one)
    assert len(mine) >= len(many) // 2
    go.set()
    for one in many:
        one.settle()
    again: list[str] = []
    mine[0].call(LARGE, lambda: again.append(threading.current_thread().name))
    mine[0].settle()
    assert again == ["dockhand-hash"]
