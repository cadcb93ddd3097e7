"""Built-in redactors: what they find, what they leave alone, that they take linear time, and that they fail closed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable
from typing import Any

import pytest

import limelight
from limelight import call as calls
from limelight import redact
from limelight.content import MAX_BYTES, TIME_NS, Content, RedactFailed
from limelight.testing import recording
from sdk import regex_steps

LONG = "Ab3dE5gH7jK9mN1pQ3sT5vW7yZ9bC1dE3fG5hJ7"

FOUND = {
    "secrets": [
        *(f"use {start}{LONG}. Bye" for start in ("sk-proj-", "sk-ant-api03-", "gsk_", "xai-", "hf_", "ghp_", "npm_")),
        "AKIAIOSFODNN7EXAMPLE",
        "AIza" + LONG[:35],
        f"SG.{LONG}.{LONG}",
        "xoxb-123456789012-abcdef",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl",
        "Authorization: Bearer abc123def456",
        "authorization: basic dXNlcjpwYXNz",
        'curl -H "x-api-key: abcdef"',
        "bearer abc123def456ghi",
        "Basic dXNlcjpwYXNzd29yZA==",
        "https://user:hunter2@host/path",
        "redis://:hunter2@host",
        "https://h/p?key=abcdefgh&v=1",
        "password=hunter2",
        "DB_PASSWORD='two words'",
        'PWD: "hun\\"ter2"',
        '{"client_secret": "abc", "n": 1}',
        '{\\"apiKey\\":\\"abc\\"}',
        "aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nMIIE+/=\n-----END RSA PRIVATE KEY-----",
        "-----BEGIN OPENSSH PRIVATE KEY-----\\nb3Blbn",
    ],
    "emails": ["a@b.co", "<first.last+tag@sub.example.co.uk>", "mailto:müller@exämple.de", "to a_b%c@x-y.museum."],
    "cards": [
        "4111111111111111",
        "card: 4111 1111 1111 1111.",
        "5500-0000-0000-0004",
        "378282246310005",
        "3782 822463 10005",
        "order 1234 4111 1111 1111 1111",
        "6011111111111117, 30569309025904",
    ],
    "phones": [
        "+14155552671",
        "+49 (0)30 1234567",
        "(415) 555-2671",
        "415-555-2671",
        "1-800-555-2671",
        "06 12 34 56 78",
        "020 7946 0958",
        "call 0171/1234567.",
    ],
    "ibans": [
        "DE89370400440532013000",
        "GB82 WEST 1234 5698 7654 32",
        "fr14 2004 1010 0505 0001 3M02 606",
        "NO9386011117947",
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in FOUND.items() for text in texts])
def test_finds(kind: str, text: str) -> None:
    mark = {"secrets": redact.SECRET, "emails": redact.EMAIL, "cards": redact.CARD, "phones": redact.PHONE}
    one: Callable[[str], str] = getattr(redact, kind)
    assert mark.get(kind, redact.IBAN) in one(text)
    clean = redact.standard(text)
    for whole in (
        "hunter2",
        "two words",
        "ter2",
        "dXNlcjpw",
        "abc123",
        "wJalr",
        "MIIE",
        "b3Blbn",
        "1111 1111",
        LONG[:12],
    ):
        assert whole not in clean
    assert redact.standard(clean) == clean  # what was redacted is left alone


ORDINARY = [
    "3.141592653589793238462643",
    "-0.000000123456789012345",
    "+1.23456789",
    "1,234,567,890.12",
    "12 345 678 901",
    "1700000000",
    "1700000000000",
    "1700000000000000000",
    "2024-01-31T10:20:30.123456Z",
    "01-02-2024 1030",
    "05/12/2024",
    "31.12.2024 23:59",
    "512 768 1024 2048",
    "[0.12, 0.34, 0.56]",
    "192.168.100.200:8080",
    "550e8400-e29b-41d4-a716-446655440000",
    "da39a3ee5e6b4b0d3255bfef95601890afd80709",
    "0x7fffffffffffffff",
    "v1.22.333-rc4",
    "lodash@4.17.21 and user@localhost",
    "4111111111111112",  # the check digit is wrong
    "1234567890123456789",
    "DE89370400440532013001",  # the same
    "GB82 is a road",
    "ISBN 978-3-16-148410-0",
    "10:30-11:45, 50 % of 200-300",
    "input_tokens: 5, max_tokens=100, total tokens: 7",
    "the token is 'hello'",
    "def f(api_key: str, password: str | None = None)",
    "basic understanding of bearer shares",
    "sk-learn-contrib-package-name",
    "a task-force and a risk-averse pa-rty",
    "https://example.com:8080/path?query=1#frag",
    "see http://host/a:b@c",
    "1e10 6.02e23 1E-7",
    "page 007 of 100",
    "",
]


@pytest.mark.parametrize("text", ORDINARY)
def test_leaves_alone(text: str) -> None:
    assert redact.standard(text) == text


def test_nested_values_and_arguments_are_redacted_and_keys_are_not() -> None:
    called = {
        "type": "tool_call",
        "id": "sk-proj-" + LONG,  # structure
        "name": "pay",
        "arguments": {
            "a@b.co": "a@b.co",
            "api_key": "short",
            "deep": [{"Password": 1234, "card": 4111111111111111, "ok": True, "n": 1700000000000}],
            "text": '{"password": "x y", "b": 1}',
        },
    }
    content = Content(is_redacted=True)
    (message,) = json.loads(content.messages([{"role": "user", "parts": [called]}]))
    assert message["parts"][0] == {
        **called,
        "arguments": {
            "a@b.co": "[EMAIL]",
            "api_key": "[SECRET]",
            "deep": [{"Password": "[SECRET]", "card": "[CARD]", "ok": True, "n": 1700000000000}],
            "text": '{"password": "[SECRET]", "b": 1}',
        },
    }


@pytest.mark.parametrize(
    "name", ["password", "DB_PASSWORD", "x-api-key", "apiKey", "Authorization", "access_token", "Cookie"]
)
def test_names_of_secrets(name: str) -> None:
    assert redact.is_secret_name(name)


@pytest.mark.parametrize(
    "name", ["token", "tokens", "max_tokens", "key", "keyword", "author", "cookies", "pass", "x" * 200]
)
def test_other_names(name: str) -> None:
    assert not redact.is_secret_name(name)


def test_the_mode_covers_content_and_errors_and_runs_before_the_users_own() -> None:
    seen: list[str] = []

    def own(text: str) -> str:
        seen.append(text)
        return text.replace("Ada", "[NAME]")

    with recording(capture="redacted", redact=own) as recorded:
        with contextlib.suppress(ValueError), limelight.span("work") as work:
            work.set(input="Ada <ada@x.org>", output={"key": f"sk-proj-{LONG}"})
            raise ValueError("no such user: ada@x.org")
        span = recorded.only()
    assert span.attributes["limelight.input"] == "[NAME] <[EMAIL]>"
    assert json.loads(span.attributes["limelight.output"]) == {"key": "[SECRET]"}
    assert span.status_message == "no such user: [EMAIL]"
    assert "ada@x.org" not in str(recorded.bodies) + str(seen)


def test_without_content_error_messages_are_still_redacted() -> None:
    with recording(capture="none", redact=lambda text: text.replace("Ada", "[NAME]")) as recorded:
        with contextlib.suppress(ValueError), limelight.span("work"):
            raise ValueError("Ada ada@x.org")
        assert recorded.only().status_message == "[NAME] [EMAIL]"


def test_a_stack_is_redacted_before_it_is_cut() -> None:
    # the secret lies across the first character that is kept
    with recording(redact=lambda text: text.replace("S3CR3T" * 10, "[GONE]")) as recorded:
        with contextlib.suppress(ValueError), limelight.span("work"):
            raise ValueError("S3CR3T" * 10 + "x" * (calls._STACK_CHARS - 31))
        ((_, event),) = recorded.only().events
    assert "S3CR" not in event["exception.stacktrace"]


def test_a_secret_on_the_cut_does_not_lose_its_end() -> None:
    for before in range(MAX_BYTES - 60, MAX_BYTES + 5, 16):
        text = "x " * (before // 2) + f"sk-proj-{LONG} " + "y " * 10_000
        clean = Content(is_redacted=True).value(text)
        assert "sk-proj" not in clean
        assert len(clean.encode()) <= MAX_BYTES + 100


def test_a_redactor_that_fails_lets_nothing_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redact, "emails", lambda text: 1 / 0)
    with pytest.raises(RedactFailed):
        Content(is_redacted=True).value("a@b.co")


def test_a_value_that_takes_too_long_is_cut() -> None:
    now = iter(range(0, 10**12, TIME_NS // 10))
    content = Content(lambda text: text, clock_ns=now.__next__)
    read = json.loads(content.json(["text"] * 50))
    assert read == ["text"] * 10 + ["[cut: took too long]"] * 40

    ticks = iter([0, *[TIME_NS + 1] * 100])
    wide = json.loads(Content(clock_ns=ticks.__next__).json([[] for _ in range(5000)]))
    assert wide[-1] == "[cut: took too long]"
    assert len(wide) < 300


def test_users_compose_their_own() -> None:
    mine = redact.compose(redact.emails, str.upper)
    assert mine("a@b.co x") == "[EMAIL] X"


# -- linear time, counted in steps of a backtracking matcher, not in seconds ------------------------------------------
PATTERNS = {name: value for name, value in vars(redact).items() if isinstance(value, re.Pattern)}
SEEDS = [
    *("a", "1", " ", "@", ".", "-", "a.", "a-", "a@", "1 ", "1-", "0 ", "+", "+1", "(", "://", "://a:", "://a", "eyJ"),
    *("eyJ.", "eyJa.", "sk-", "sk-a", "-----BEGIN ", "-----BEGIN PRIVATE KEY", "password", "password=", 'password="'),
    *("password:'", 'password=\\"', 'password="\\', "bearer ", "basic a", "?key=", "a@b.1", "a@b.1.", "4111", "4111 "),
    *("4111-", "AB12", "AB12 ", "SG.", "SG.a", "api_key", "secret_access_", "authorization: bearer ", "\\", '"', "\n"),
    *("00", "01 23 "),
]


@pytest.mark.parametrize("name", PATTERNS)
def test_steps_grow_no_faster_than_the_text(name: str) -> None:
    pattern = PATTERNS[name]
    for seed in SEEDS:
        for end in ("", "!"):
            short, long = (seed * (size // len(seed)) + end for size in (200, 800))
            few, many = regex_steps.search_all(pattern, short), regex_steps.search_all(pattern, long)
            assert many <= 6 * few + 2000, (name, seed, end)  # four times the text; a square would be 16 times


hypothesis = pytest.importorskip("hypothesis")
st: Any = hypothesis.strategies


@hypothesis.settings(deadline=None, max_examples=60)
@hypothesis.given(st.lists(st.sampled_from(SEEDS), min_size=1, max_size=6), st.sampled_from(sorted(PATTERNS)))
def test_steps_of_any_repeated_mixture(parts: list[str], name: str) -> None:
    unit = "".join(parts)
    few, many = (regex_steps.search_all(PATTERNS[name], (unit * size)[:size]) for size in (200, 800))
    assert many <= 6 * few + 2000


@hypothesis.settings(deadline=None)
@hypothesis.given(st.text())
def test_any_text_is_redacted_to_the_same_text_twice_over(text: str) -> None:
    clean = redact.standard(text)
    assert redact.standard(clean) == clean


def test_the_counter_of_steps_sees_a_square() -> None:
    squared = re.compile(r"\w+@")
    few, many = (regex_steps.search_all(squared, "a" * size) for size in (200, 800))
    assert many > 6 * few + 2000
