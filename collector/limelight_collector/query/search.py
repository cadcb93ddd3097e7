r"""What a full-text search finds: spans of which an input or an output holds the text, upper and lower case alike.

"Holds" means: anywhere, also within a word. Inputs and outputs are texts; where they are stored as JSON, each of its
values is a text of its own, without quotes and escapes, and names of fields are none (nor are a message's `role`,
`type` and `finish_reason`). So `say "no"` finds the JSON `{"order":"say \"no\""}`, and `order` does not.

Taking JSON apart costs ten times as much as reading it. So a span is asked twice: whether its text as stored could
hold what is looked for, and only then whether one of the texts does. The first question is put such that the engine
answers it from the text index where the store has one (`store/text_index.py`) and from the text where it has none.
"""

from __future__ import annotations

import json
import re

from limelight_collector.errors import Rejected
from limelight_collector.query.filter_sql import Sql
from limelight_collector.store.text_index import JSON, MESSAGES, PLAIN, STORED_TEXT

_WORD = re.compile("[0-9A-Za-z\u0080-\U0010ffff]+")  # what JSON never escapes and the index never splits
_SHORTEST_WORD = 4  # the engine looks shorter parts of words up in no index (text_index_like_min_pattern_length)
_MOST_WORDS = 3  # each costs a walk through the index's words; the longest say most

_VALUES = r'"(?:[^"\\]|\\.)*"\s*:|"((?:[^"\\]|\\.)*)"|([^"{}\[\],:\s]+)|[{}\[\],:\s]+'
"""One step through JSON: a name, a text (1), another value (2), or what stands between them."""
_MESSAGE_VALUES = r'"(?:role|type|finish_reason)"\s*:\s*"(?:[^"\\]|\\.)*"|' + _VALUES

_KEPT = r"'\\1\\2\\\\u0000'"
"""SQL of what a step leaves: its text or value, and the escape of a NUL."""


def search_condition(sql: Sql, search: str) -> str:
    """SQL that is 1 for spans that hold `search`; everything does where it is blank. `Rejected`: it has a NUL."""
    if not search.strip():
        return "1"
    if "\0" in search:
        raise Rejected("bad_request", "q: it cannot contain the character NUL")
    wanted = f"caseFoldUTF8({sql.bind('String', search)})"
    texts = [*PLAIN, *(_texts(column, _VALUES) for column in JSON)]
    texts += [_texts(column, _MESSAGE_VALUES) for column in MESSAGES]
    holds = f"position(caseFoldUTF8(concatWithSeparator('\\0', {', '.join(texts)})), {wanted}) > 0"
    return " AND ".join([*_could_hold(sql, search, wanted), holds])


def _could_hold(sql: Sql, search: str, wanted: str) -> list[str]:
    """Conditions that every span that holds `search` meets, and few others do; cheapest first."""
    found = {word for word in _WORD.findall(search) if len(word) >= _SHORTEST_WORD}
    words = sorted(found, key=lambda word: (-len(word), word))
    conditions = [
        f"{STORED_TEXT} LIKE concat('%', caseFoldUTF8({sql.bind('String', word)}), '%')" for word in words[:_MOST_WORDS]
    ]
    if words != [search]:
        escaped = json.dumps(search, ensure_ascii=False)[1:-1]
        ways = [wanted] if escaped == search else [wanted, f"caseFoldUTF8({sql.bind('String', escaped)})"]
        conditions.append("(" + " OR ".join(f"position({STORED_TEXT}, {way}) > 0" for way in ways) + ")")
    return conditions


def _texts(column: str, step: str) -> str:
    """SQL of the values of a JSON column, unescaped, a NUL after each."""
    inside = f"replaceRegexpAll({column}, {_literal(step)}, {_KEPT})"
    return f"""JSONExtractString(concat('["', {inside}, '"]'), 1)"""


def _literal(text: str) -> str:
    """A text of ours as an SQL literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"
