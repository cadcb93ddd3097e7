"""Limelight: two lines of tracing for programs that call language models.

    import limelight
    limelight.init()

`observe`, `span` and `context` use what `init` started; the rest are methods of one default instance. Importing loads
neither the OpenTelemetry SDK nor a model library.
"""

from __future__ import annotations

from limelight.carry import carry
from limelight.decorators import observe
from limelight.identity import context
from limelight.instance import Limelight
from limelight.spans import span
from limelight.version import __version__

_DEFAULT = Limelight()

init = _DEFAULT.init
score = _DEFAULT.score
flush = _DEFAULT.flush
aflush = _DEFAULT.aflush
on_sigterm = _DEFAULT.on_sigterm
shutdown = _DEFAULT.shutdown
uninstrument = _DEFAULT.uninstrument

__all__ = [
    "__version__",
    "aflush",
    "carry",
    "context",
    "flush",
    "init",
    "observe",
    "on_sigterm",
    "score",
    "shutdown",
    "span",
    "uninstrument",
]
