"""The tables of the query bench, from its figures: a line a question, misses of a budget marked."""

from __future__ import annotations

from typing import Any

from bench.query_questions import QUESTIONS, Question

LARGE, SMALL = "default", "lab"
_WINDOWS = ("1h", "6h", "24h", "7d")


def report(found: dict[str, Any], smaller: dict[str, Any] | None) -> None:
    """Print everything."""
    print(f"\n{found['spans']:,} spans; ready after {found['start_s']:.1f} s (the store's files not in memory)")
    print(f"memory {found['idle_mb']:.0f} MB at rest, {found['asked_mb']:.0f} after all questions, ", end="")
    print(f"{found['peak_mb']:.0f} at most; at rest {found['idle_cpu'] * 100:.1f} % of a core")
    if found["warm"]:
        _questions(found, smaller)
        _pages(found)
    for name, of in found["export"].items():
        print(
            f"export {name:<8} {of['rows']:,.0f} spans, {of['rows_per_s']:,.0f} a second, {of['cpu_us']:.0f} µs CPU",
            end="",
        )
        print(f" a span, {of['mb']:.0f} MB; peak memory {of['peak_mb']:.0f} MB")


def _by_key(cells: list[dict[str, Any]]) -> dict[tuple[str, str, str], dict[str, Any]]:
    return {(cell["project"], cell["question"], cell["window"]): cell for cell in cells}


def _questions(found: dict[str, Any], smaller: dict[str, Any] | None) -> None:
    warm, cold, fed = _by_key(found["warm"]), _by_key(found["cold"]), _by_key(found["ingest"])
    before = _by_key(smaller["warm"]) if smaller else {}
    print(
        "\nmilliseconds, the largest project; p50 in each window; 7d also p95, CPU, KB, cold; 1h during ingest p50/p95"
    )
    windows = "".join(f"{window:>7}" for window in _WINDOWS)
    print(f"{'':<34}{windows}{'p95':>7}{'CPU':>7}{'KB':>7}{'cold':>7}{'ingest':>12}{'small':>7}{'growth':>8}")
    for question in QUESTIONS:
        key = (LARGE, question.name, "7d")
        week, small = warm.get(key), warm.get((SMALL, question.name, "7d"))
        line = f"{question.name:<34}"
        line += "".join(_number(warm.get((LARGE, question.name, window)), "p50_ms") for window in _WINDOWS)
        line += "".join(_number(week, name) for name in ("p95_ms", "cpu_ms", "kb"))
        line += _number(cold.get(key), "p50_ms")
        during = fed.get((LARGE, question.name, "1h"))
        line += f"{during['p50_ms']:6.0f}/{during['p95_ms']:.0f}".rjust(12) if during else " " * 12
        line += _number(small, "p50_ms")
        line += f"{week['p50_ms'] / before[key]['p50_ms']:7.1f}x" if week and key in before else " " * 8
        print(f"{line}  {_missed(question, warm)}")


def _number(cell: dict[str, Any] | None, name: str) -> str:
    if cell is None:
        return " " * 7
    return "   422*" if cell["refused"] else f"{cell[name]:7.0f}"


def _missed(question: Question, warm: dict[tuple[str, str, str], dict[str, Any]]) -> str:
    budget = question.budget_ms
    cells = {window: warm[LARGE, question.name, window] for window in question.windows if _has(warm, question, window)}
    if any(cell["refused"] for cell in cells.values()):
        return "REFUSED: too big (HTTP 422)"
    if budget is None:
        return "no budget"
    late = [window for window, cell in cells.items() if cell["p50_ms"] > budget]
    return f"MISSED {budget:.0f}: {' '.join(late)}" if late else f"≤ {budget:.0f}"


def _has(warm: dict[tuple[str, str, str], dict[str, Any]], question: Question, window: str) -> bool:
    return (LARGE, question.name, window) in warm


def _pages(found: dict[str, Any]) -> None:
    warm = _by_key(found["warm"])
    print("\nall calls of a page one after another, p50 summed, milliseconds")
    for page in dict.fromkeys(page for question in QUESTIONS for page in question.pages):
        asked = [question for question in QUESTIONS if page in question.pages]
        sums = ""
        for window in _WINDOWS:
            chosen = [(q, window if window in q.windows else "7d") for q in asked]
            whole = all(_has(warm, question, one) for question, one in chosen)
            total = sum(warm[LARGE, question.name, one]["p50_ms"] for question, one in chosen) if whole else 0
            sums += f"{total:7.0f}" if whole else " " * 7
        print(f"{page:<34}{sums}   {len(asked)} calls")
