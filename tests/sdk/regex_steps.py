"""A backtracking matcher that counts its steps: what `re` would do with a pattern, measured without a clock.

It walks the tree `re` itself parses and tries alternatives in the same order, so its steps grow as the engine's do.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Callable
from typing import Any

codes: Any
parser: Any
if sys.version_info >= (3, 11):
    codes, parser = importlib.import_module("re._constants"), importlib.import_module("re._parser")
else:
    codes, parser = importlib.import_module("sre_constants"), importlib.import_module("sre_parse")

Then = Callable[[int], bool]
_CATEGORIES = {
    codes.CATEGORY_DIGIT: str.isdigit,
    codes.CATEGORY_SPACE: str.isspace,
    codes.CATEGORY_WORD: lambda letter: letter.isalnum() or letter == "_",
    codes.CATEGORY_NOT_WORD: lambda letter: not (letter.isalnum() or letter == "_"),
    codes.CATEGORY_NOT_DIGIT: lambda letter: not letter.isdigit(),
    codes.CATEGORY_NOT_SPACE: lambda letter: not letter.isspace(),
}


def search_all(pattern: re.Pattern[str], text: str) -> int:
    """Steps of finding every match in `text`."""
    matcher = _Matcher(text, bool(pattern.flags & re.IGNORECASE))
    tree = parser.parse(pattern.pattern, pattern.flags & ~re.UNICODE)
    at = 0
    while at <= len(text):
        end = matcher.match(tree, at)
        at = end if end is not None and end > at else at + 1
    return matcher.steps


class _Matcher:
    def __init__(self, text: str, folds: bool) -> None:
        self.text = text
        self.folds = folds
        self.steps = 0
        self.groups: dict[int, tuple[int, int]] = {}

    def match(self, tree: Any, at: int) -> int | None:
        self.groups = {}
        ends: list[int] = []
        return ends[0] if self._all(list(tree), 0, at, lambda end: ends.append(end) is None) else None

    def _all(self, items: list[Any], index: int, at: int, then: Then) -> bool:
        if index == len(items):
            return then(at)
        code, argument = items[index]
        return self._one(code, argument, at, lambda end: self._all(items, index + 1, end, then))

    def _one(self, code: Any, argument: Any, at: int, then: Then) -> bool:
        self.steps += 1
        if code in {codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY}:
            return at < len(self.text) and self._letter(code, argument, self.text[at]) and then(at + 1)
        if code is codes.SUBPATTERN:
            group, _, _, inner = argument

            def close(end: int) -> bool:
                self.groups[group] = (at, end)
                return then(end)

            return self._all(list(inner), 0, at, close)
        if code is codes.BRANCH:
            return any(self._branch(list(branch), at, then) for branch in argument[1])
        if code is codes.MAX_REPEAT:
            return self._repeat(*argument, at, then)
        if code is codes.AT:
            edge = {codes.AT_BEGINNING_STRING: 0, codes.AT_END_STRING: len(self.text)}[argument]
            return at == edge and then(at)
        if code in {codes.ASSERT, codes.ASSERT_NOT}:
            return self._look(*argument, at) is (code is codes.ASSERT) and then(at)
        if code is codes.GROUPREF:
            start, end = self.groups.get(argument, (0, 0))
            same = self.text[start:end]
            return self.text.startswith(same, at) and then(at + len(same))
        raise NotImplementedError(code)

    def _branch(self, items: list[Any], at: int, then: Then) -> bool:
        if items and items[0][0] is codes.LITERAL:  # `re` looks at the first letter before it goes in
            self.steps += 1
            if at >= len(self.text) or not self._letter(*items[0], self.text[at]):
                return False
        return self._all(items, 0, at, then)

    def _look(self, direction: int, inner: Any, at: int) -> bool:
        if direction > 0:
            return self._all(list(inner), 0, at, lambda end: True)
        start = at - inner.getwidth()[0]
        return start >= 0 and self._all(list(inner), 0, start, lambda end: end == at)

    def _repeat(self, low: int, high: Any, inner: Any, at: int, then: Then) -> bool:
        """Greedy. A single letter repeated is a loop, as in `re`; anything else recurses."""
        code, argument = inner[0]
        if len(inner) == 1 and code in {codes.LITERAL, codes.NOT_LITERAL, codes.IN, codes.ANY}:
            end = at
            while (high is codes.MAXREPEAT or end - at < high) and end < len(self.text):
                self.steps += 1
                if not self._letter(code, argument, self.text[end]):
                    break
                end += 1
            for stop in range(end, at + low - 1, -1):
                self.steps += 1
                if then(stop):
                    return True
            return False

        def again(count: int, position: int) -> bool:
            may_go_on = high is codes.MAXREPEAT or count < high
            if may_go_on and self._all(list(inner), 0, position, lambda end: end > position and again(count + 1, end)):
                return True
            return count >= low and then(position)

        return again(0, at)

    def _letter(self, code: Any, argument: Any, letter: str) -> bool:
        if code is codes.ANY:
            return letter != "\n"
        if code is codes.IN:
            return self._in(argument, letter)
        letters = {letter, letter.lower(), letter.upper()} if self.folds else {letter}
        return (chr(argument) in letters) is (code is codes.LITERAL)

    def _in(self, items: Any, letter: str) -> bool:
        negated = items[0][0] is codes.NEGATE
        letters = {letter, letter.lower(), letter.upper()} if self.folds else {letter}
        for code, argument in items[negated:]:
            if code is codes.CATEGORY:
                found = _CATEGORIES[argument](letter)
            elif code is codes.RANGE:
                found = any(argument[0] <= ord(one) <= argument[1] for one in letters if len(one) == 1)
            else:
                found = chr(argument) in letters
            if found:
                return not negated
        return negated
