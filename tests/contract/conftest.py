"""Fixtures of the contract's tests beside those that every test has."""

from support.network_namespaces import _network, program_in_a_network  # noqa: F401 - used by name
from support.resolver import hanging_resolver, program_that_hangs  # noqa: F401
