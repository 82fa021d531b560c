"""The contract of log drivers, for those of the core."""

from __future__ import annotations

from dockhand_testing import LogDriverContract


class TestConsole(LogDriverContract):
    driver = "console"


class TestJson(LogDriverContract):
    driver = "json"


class TestStdlib(LogDriverContract):
    driver = "stdlib"


class TestNull(LogDriverContract):
    driver = "null"
    silent = True
