"""Fixtures of the contract's tests beside those that every test has."""

from support_resolver import hanging_resolver, program_that_hangs  # noqa: F401 - used by name
