"""Redactors: each takes a text and returns it with what it knows replaced by a placeholder such as `[EMAIL]`.

`capture="redacted"` runs `standard` on all content and error messages; compose your own from the parts:

    limelight.init(redact=limelight.redact.compose(limelight.redact.emails, mine))

Every pattern runs in linear time: no repetition inside a repetition, and no start is tried twice over the same run.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Callable, Iterator

Redact = Callable[[str], str]
SECRET, EMAIL, CARD, PHONE, IBAN = "[SECRET]", "[EMAIL]", "[CARD]", "[PHONE]", "[IBAN]"


def compose(*redactors: Redact) -> Redact:
    """One redactor that runs the given ones in order."""

    def composed(text: str) -> str:
        for redact in redactors:
            text = redact(text)
        return text

    return composed


# -- secrets -----------------------------------------------------------------------------------------------------------
_KEY_FORMS = (  # how the keys of known vendors begin, and what follows
    ("sk-", r"[\w-]{16,}"),  # OpenAI, Anthropic, OpenRouter, DeepSeek, Moonshot …
    ("sess-", r"[A-Za-z0-9]{20,}"),
    ("gsk_", r"[A-Za-z0-9]{20,}"),  # Groq
    ("xai-", r"[A-Za-z0-9]{20,}"),
    ("pplx-", r"[A-Za-z0-9]{20,}"),
    ("hf_", r"[A-Za-z0-9]{20,}"),
    ("r8_", r"[A-Za-z0-9]{20,}"),  # Replicate
    ("fw_", r"[A-Za-z0-9]{20,}"),  # Fireworks
    ("csk-", r"[A-Za-z0-9]{20,}"),  # Cerebras
    ("nvapi-", r"[\w-]{20,}"),
    ("pa-", r"[\w-]{40,}"),  # Voyage
    ("jina_", r"[\w-]{20,}"),
    ("tvly-", r"[\w-]{16,}"),
    ("lsv2_", r"\w{20,}"),  # LangSmith
    ("pcsk_", r"\w{20,}"),  # Pinecone
    ("ll_", r"[a-z0-9]{10}_\w{20,}"),  # our own
    ("AIza", r"[\w-]{35}"),  # Google
    ("ya29.", r"[\w-]{20,}"),
    ("GOCSPX-", r"[\w-]{20,}"),
    ("AKIA", r"[0-9A-Z]{16}"),  # AWS
    ("ASIA", r"[0-9A-Z]{16}"),
    ("ABSK", r"[A-Za-z0-9+/=]{40,}"),  # Bedrock
    ("ghp_", r"\w{20,}"),  # GitHub
    ("gho_", r"\w{20,}"),
    ("ghu_", r"\w{20,}"),
    ("ghs_", r"\w{20,}"),
    ("ghr_", r"\w{20,}"),
    ("github_pat_", r"\w{20,}"),
    ("glpat-", r"[\w-]{16,}"),
    ("xoxb-", r"[\w-]{10,}"),  # Slack
    ("xoxp-", r"[\w-]{10,}"),
    ("xoxa-", r"[\w-]{10,}"),
    ("xoxs-", r"[\w-]{10,}"),
    ("xapp-", r"[\w-]{10,}"),
    ("sk_live_", r"\w{10,}"),  # Stripe
    ("sk_test_", r"\w{10,}"),
    ("rk_live_", r"\w{10,}"),
    ("whsec_", r"[\w+/=]{16,}"),
    ("SG.", r"[\w-]{16,}\.[\w-]{16,}"),  # SendGrid
    ("npm_", r"[A-Za-z0-9]{30,}"),
    ("pypi-", r"[\w-]{50,}"),
    ("dop_v1_", r"[0-9a-f]{40,}"),
    ("shpat_", r"[0-9a-fA-F]{30,}"),
    ("dckr_pat_", r"[\w-]{20,}"),
    ("hvs.", r"[\w-]{20,}"),  # Vault
    ("dapi", r"[0-9a-f]{32}"),  # Databricks
)
_KEY_STARTS = tuple(start for start, _ in _KEY_FORMS)
_KEY = re.compile(
    r"(?<![A-Za-z0-9])(?:" + "|".join(re.escape(start) + rest for start, rest in _KEY_FORMS) + ")", re.ASCII
)
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+(?:\.[\w-]*)?", re.ASCII)
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z0-9 ]{0,40}PRIVATE KEY")
_URL_PASSWORD = re.compile(r"(?<=://)([^\s/:@\"'<>]{0,256}):[^\s/@\"'<>]{1,256}@")
_QUERY_KEY = re.compile(r"([?&](?:key|token|sig|signature|code|auth)=)[^&\s\"'<>#\\]{8,}", re.IGNORECASE)
_SCHEME = re.compile(r"(?<![A-Za-z])(bearer|basic)( {1,4})([A-Za-z0-9._~+/=-]{8,})", re.IGNORECASE)
_NAME = (
    r"(?:pass(?:word|wd|phrase)|pwd|credentials?|(?:proxy-)?authorization"
    r"|(?:api|access|private|secret|account|auth|encryption|signing)[_-]?key"
    r"|secret(?:[_-]?access[_-]?key)?|(?:access|refresh|auth|id|session|bearer|api|bot)[_-]?token)"
)
_NAMED = re.compile(
    rf"({_NAME}(?:\\?[\"'])?\s{{0,4}}(?:=>|[:=])\s{{0,4}})"
    r"(?:(\\[\"'])(?:[^\"'\\\n]|\\(?![\"']))*"  # quoted inside a quoted text
    r"|(\")[^\"\\\n]*(?:\\.[^\"\\\n]*)*"  # quoted; without an end, to the end of the line
    r"|(')[^'\\\n]*(?:\\.[^'\\\n]*)*"
    r"|(?:(?:bearer|basic|digest|token)\s{1,4})?([^\s\"'\\,;&<>(){}\[\]|]+))",
    re.IGNORECASE,
)
_STEMS = ("pass", "pwd", "credential", "authorization", "key", "secret", "token")
_NO_VALUES = {"none", "null", "nil", "true", "false", "str", "string", "bytes", "int", "bool", "optional", "any"}


def secrets(text: str) -> str:
    """API keys of known vendors, AWS keys, JWTs, bearer and basic credentials, private keys, passwords in URLs and
    what follows a name like `password` or `api_key`."""
    if "-----BEGIN" in text:
        text = "".join(_without_private_keys(text))
    if "://" in text:
        text = _URL_PASSWORD.sub(rf"\1:{SECRET}@", text)
    if "eyJ" in text:
        text = _JWT.sub(SECRET, text)
    if any(start in text for start in _KEY_STARTS):
        text = _KEY.sub(_key, text)
    lower = text.lower()
    if any(stem in lower for stem in _STEMS):
        text = _NAMED.sub(_named, text)
    if "=" in text:
        text = _QUERY_KEY.sub(rf"\1{SECRET}", text)
    return _SCHEME.sub(_scheme, text) if "bearer" in lower or "basic" in lower else text


def _without_private_keys(text: str) -> Iterator[str]:
    """The text between PEM private keys; one without an end goes to the end of the text."""
    position = 0
    while (begin := _PRIVATE_KEY.search(text, position)) is not None:
        yield text[position : begin.start()] + SECRET
        end = text.find("-----END", begin.end())
        close = -1 if end < 0 else text.find("-----", end + len("-----END"))
        position = len(text) if close < 0 else close + len("-----")
    yield text[position:]


_LIKE_A_KEY = re.compile("[A-Z0-9]")


def _key(found: re.Match[str]) -> str:
    # a name such as sk-learn-contrib-addons has no digit and no capital after its beginning
    start = next(start for start in _KEY_STARTS if found[0].startswith(start))
    return SECRET if _LIKE_A_KEY.search(found[0], len(start)) else found[0]


def _named(found: re.Match[str]) -> str:
    name, *quotes, bare = found.groups()
    quote = next((quote for quote in quotes if quote is not None), "")
    if bare is not None and bare.lower() in _NO_VALUES:
        return found[0]
    return f"{name}{quote}{SECRET}"


def _scheme(found: re.Match[str]) -> str:
    scheme, space, value = found.groups()
    if scheme.lower() == "bearer":
        is_secret = any(letter.isdigit() for letter in value) or len(value) >= 32
    else:
        is_secret = _is_basic(value)
    return f"{scheme}{space}{SECRET}" if is_secret else found[0]


def _is_basic(value: str) -> bool:
    """Whether it is base64 of `user:password`, not a word after "basic"."""
    try:
        return b":" in base64.b64decode(value, validate=True)
    except ValueError:
        return False


_PLAIN_NAME = re.compile("[^a-z]")
_SECRET_NAME = re.compile(
    r"(?:password|passwd|passphrase|secret|(?:api|access|private|secret|signing)key"
    r"|(?:access|refresh|auth|session|bearer|id|api|bot)token)\Z"
    r"|\A(?:pwd|(?:proxy)?authorization|credentials?|(?:set)?cookie)\Z"
)


def is_secret_name(name: str) -> bool:
    """Whether the value under this key of an object is a secret: `password`, `api_key`, `Authorization` …"""
    return len(name) <= 64 and _SECRET_NAME.search(_PLAIN_NAME.sub("", name.lower())) is not None


# -- people ------------------------------------------------------------------------------------------------------------
_EMAIL = re.compile(r"(?<![\w.%+-])[\w.%+-]+@[\w-]+(?:\.[\w-]+)*\.[^\W\d_]{2,}")


def emails(text: str) -> str:
    """E-mail addresses."""
    return _EMAIL.sub(EMAIL, text) if "@" in text else text


_INTERNATIONAL = re.compile(r"(?<![\w+.])\+[1-9][\d ()./-]{6,18}\d(?!\w)")
_NORTH_AMERICAN = re.compile(  # 512 768 1024 are three numbers: blanks alone do not make a telephone number
    r"(?<![\w.+-])(?:1[ .-])?"
    r"(?:\([2-9]\d\d\) ?[2-9]\d\d[ .-]|[2-9]\d\d[.-][2-9]\d\d[.-]|[2-9]\d\d [2-9]\d\d-)\d{4}(?![\w-])"
)
_NATIONAL = re.compile(r"(?<![\w.,:/+-])\(?0[1-9]\d{0,3}\)?[ /-]\d{2,4}(?:[ -]?\d{2,4}){1,4}(?![\w-]|\.\d)")
_SIGNED_DECIMAL = re.compile(r"\+\d+\.\d+")
_DATE = re.compile(r"\d\d[ /-]\d\d[ /-](?:19|20)\d\d")


def phones(text: str) -> str:
    """Telephone numbers: international ones with `+`, North American ones, and national ones in groups with a 0."""
    if "+" in text:
        text = _INTERNATIONAL.sub(_international, text)
    text = _NORTH_AMERICAN.sub(PHONE, text)
    return _NATIONAL.sub(_national, text)


def _digits(text: str) -> int:
    return sum(letter.isdigit() for letter in text)


def _international(found: re.Match[str]) -> str:
    is_number = _SIGNED_DECIMAL.fullmatch(found[0]) is not None
    return found[0] if is_number or not 8 <= _digits(found[0]) <= 15 else PHONE


def _national(found: re.Match[str]) -> str:
    return found[0] if _DATE.match(found[0]) or not 9 <= _digits(found[0]) <= 12 else PHONE


# -- money -------------------------------------------------------------------------------------------------------------
# the look-ahead lets candidates overlap: an order number before a card must not hide it
_CARD = re.compile(
    r"(?<!\w)(?<!\d\.)(?=(\d{13,19}(?!\w|\.\d)"
    r"|\d{4}([ -])\d{4}\2\d{4}\2\d{1,7}(?!\w)"
    r"|\d{4}([ -])\d{6}\3\d{5}(?!\w)))"
)
_ISSUERS = (  # first digits, lengths
    (re.compile("4"), {13, 16, 19}),
    (re.compile("5[0-8]"), {16}),
    (re.compile("2[2-7]"), {16}),
    (re.compile("3[47]"), {15}),
    (re.compile("3[068]"), {14, 16}),
    (re.compile("35"), {16, 17, 18, 19}),
    (re.compile("6"), {16, 17, 18, 19}),
)


def cards(text: str) -> str:
    """Payment card numbers: an issuer's first digits and length, and the check digit (Luhn)."""
    kept: list[str] = []
    position = 0
    for found in _CARD.finditer(text):
        if found.start() >= position and _is_card(re.sub("[ -]", "", found[1])):
            kept += [text[position : found.start()], CARD]
            position = found.end(1)
    return "".join([*kept, text[position:]]) if kept else text


def _is_card(digits: str) -> bool:
    if not any(first.match(digits) and len(digits) in lengths for first, lengths in _ISSUERS):
        return False
    doubled = [int(digit) * (1 + place % 2) for place, digit in enumerate(reversed(digits))]
    return sum(number - 9 * (number > 9) for number in doubled) % 10 == 0


_COUNTRIES = """15 NO; 16 BE; 18 DK FI FO GL NL SD; 19 MK SI; 20 AT BA EE KZ LT LU XK MN; 21 CH CR HR LI LV;
22 BG BH DE GB GE IE ME RS VA; 23 AE GI IL IQ OM SO TL; 24 AD CZ ES MD PK RO SA SE SK TN VG; 25 LY PT ST; 26 IS TR;
27 BI DJ FR GR IT MC MR SM; 28 AL AZ BY CY DO GT HU LB NI PL SV; 29 BR EG PS QA UA; 30 JO KW MU YE; 31 MT SC; 32 LC;
33 RU"""
_IBAN_LENGTHS = {
    country: int(length)
    for length, *countries in (group.split() for group in _COUNTRIES.split(";"))
    for country in countries
}
"""Country -> characters of its account numbers (SWIFT's IBAN registry)."""
_IBAN_HEAD = re.compile(r"(?<![A-Za-z0-9])([A-Za-z]{2})\d{2}(?=[ -]?[A-Za-z0-9])", re.ASCII)


def ibans(text: str) -> str:
    """International bank account numbers: a country's length, and the check digits (mod 97)."""
    kept: list[str] = []
    position = 0
    for head in _IBAN_HEAD.finditer(text):
        length = _IBAN_LENGTHS.get(head[1].upper())
        end = None if length is None or head.start() < position else _iban_end(text, head.start(), length)
        if end is not None:
            kept += [text[position : head.start()], IBAN]
            position = end
    return "".join([*kept, text[position:]]) if kept else text


def _iban_end(text: str, start: int, length: int) -> int | None:
    """Where the number that starts here ends; None where its check digits are wrong. One separator between groups."""
    found = ""
    end = start
    while len(found) < length and end < len(text):
        letter = text[end]
        if letter.isascii() and letter.isalnum():
            found += letter
        elif letter not in " -" or text[end - 1] in " -":
            break
        end += 1
    follows = text[end : end + 1]
    if len(found) < length or (follows.isascii() and follows.isalnum()):
        return None
    moved = found[4:] + found[:4]
    return end if int("".join(str(int(letter, 36)) for letter in moved)) % 97 == 1 else None


_DIGITS = re.compile(r"\d\d")


def standard(text: str) -> str:
    """All of the above, in an order in which none spoils another's match."""
    text = emails(secrets(text))
    return phones(cards(ibans(text))) if _DIGITS.search(text) else text
