"""Inflating a request's body under a cap: gzip, deflate and zstd, in small steps, so that a bomb costs its cap.

Input goes in small pieces, too: after each member of a body the libraries copy what they were given and did not use,
and a body of a million tiny members must not cost a million copies of itself.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from isal import isal_zlib
from isal.igzip_lib import IsalError

from limelight_collector.errors import Rejected

if sys.version_info >= (3, 14):
    from compression import zstd  # pyright: ignore[reportMissingImports, reportUnreachable] - not in our version yet
else:
    from backports import zstd

if TYPE_CHECKING:
    from limelight_collector.receive.limits import Lease

ENCODINGS = frozenset({"gzip", "deflate", "zstd"})
"""Content-Encodings taken besides identity; deflate is zlib's format, as HTTP means it."""

_OUT_STEP = 256 * 1024
_IN_STEP = 64 * 1024
_MAX_MEMBERS = 1000
_ZSTD_WINDOW_LOG = 23
"""8 MiB, what RFC 8878 asks every decoder for; a frame that asks for more memory is refused."""


def inflate(body: bytes, encoding: str, lease: Lease, cap: int | None = None) -> bytes | None:
    """The bytes inside a body of one or more members; None where they are more than `cap`, unless that is None.

    `Rejected`: too_large once the output passes the lease's `max_bytes`, bad_request where it is damaged or cut short.
    `Unavailable`: over the budget.
    """
    chunks: list[bytes] = []
    size = 0
    for chunk in _zstd_chunks(body) if encoding == "zstd" else _zlib_chunks(body, 31 if encoding == "gzip" else 15):
        size += len(chunk)
        if size > lease.max_bytes:
            raise too_large(lease.max_bytes)
        if cap is not None and size > cap:
            return None
        lease.grow(len(chunk))
        chunks.append(chunk)
    return b"".join(chunks)


def too_large(limit: int) -> Rejected:
    """The error of a body over `limit` bytes."""
    return Rejected("too_large", f"the request is larger than {limit} bytes; send smaller batches")


def _zlib_chunks(body: bytes, wbits: int) -> Iterator[bytes]:
    name = "gzip" if wbits == 31 else "deflate"
    position = members = 0
    while position < len(body):
        members = _count_member(members)
        member = isal_zlib.decompressobj(wbits=wbits)
        while not member.eof:
            piece = body[position : position + _IN_STEP]
            try:
                chunk: bytes = member.decompress(piece, _OUT_STEP)
            except IsalError:  # pyright: ignore[reportGeneralTypeIssues] - its stub hides the base class
                raise _damaged(name) from None
            left = len(member.unused_data) if member.eof else len(member.unconsumed_tail)
            position += len(piece) - left
            if not chunk and not member.eof and position >= len(body) and not piece:
                raise _cut(name)
            yield chunk


def _zstd_chunks(body: bytes) -> Iterator[bytes]:
    position = members = 0
    while position < len(body):
        members = _count_member(members)
        frame = zstd.ZstdDecompressor(options={zstd.DecompressionParameter.window_log_max: _ZSTD_WINDOW_LOG})
        while not frame.eof:
            piece = body[position : position + _IN_STEP] if frame.needs_input else b""
            if frame.needs_input and not piece:
                raise _cut("zstd")
            try:
                chunk = frame.decompress(piece, _OUT_STEP)
            except zstd.ZstdError:
                raise _damaged("zstd") from None
            position += len(piece) - len(frame.unused_data)
            yield chunk


def _count_member(members: int) -> int:
    if members == _MAX_MEMBERS:
        raise Rejected("bad_request", f"the compressed body has more than {_MAX_MEMBERS} members")
    return members + 1


def _damaged(name: str) -> Rejected:
    return Rejected("bad_request", f"the {name} body is damaged")


def _cut(name: str) -> Rejected:
    return Rejected("bad_request", f"the {name} body ends before its end marker")
