"""The two error kinds that cross the pipeline; anything else is a bug.

The receivers turn them into an answer in one place (`receive/answers.py`): `Rejected` is never retried by a client,
`Unavailable` is.
"""

from __future__ import annotations


class Rejected(Exception):
    """The input is wrong and stays wrong: the client must not send it again.

    `kind` is one of: bad_request (400), unauthenticated (401), forbidden (403), not_found (404), method (405),
    conflict (409), too_large (413), media_type (415). `message` is one English sentence for the developer who sent it.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class Unavailable(Exception):
    """The input may be fine but cannot be taken now: the client should retry after `retry_after_s` (1 to 5 seconds)."""

    def __init__(self, message: str, retry_after_s: int = 1) -> None:
        super().__init__(message)
        self.message = message
        self.retry_after_s = retry_after_s


class StartupRefused(Exception):
    """The process cannot start as configured. The message is one line that says what to do; the exit code is 2."""


class QueryLimit(Exception):
    """A question was stopped by its time, memory or row limit; the message says which and how to ask for less (422)."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message
