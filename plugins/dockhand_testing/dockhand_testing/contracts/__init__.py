"""The contracts: classes of tests that the tests of a plugin subclass."""

try:
    import pytest as _pytest  # noqa: F401
except ModuleNotFoundError as _missing:
    if _missing.name != "pytest":
        raise
    raise ModuleNotFoundError(
        'the contracts of dockhand_testing are tests for pytest: pip install "pytest>=8.4"',
        name="pytest",
    ) from None
