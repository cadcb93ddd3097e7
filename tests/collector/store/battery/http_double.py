"""A small ClickHouse HTTP server over the real engine (chDB), as a process of its own that prints its port.

It stands for a server in the store's battery: the same SQL, errors and formats over HTTP or, given a certificate,
HTTPS; with databases and, given one, a password of user `limelight`. What it is not: it has no sessions and no rights,
answers are complete before they are sent, and nothing is replicated.

    http_double.py DIRECTORY [--password P] [--certificate PEM --key PEM] [--version V]
"""

from __future__ import annotations

import argparse
import base64
import gzip
import re
import socket

import chdb
import lz4.frame
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

TRANSPORT = {"query", "database", "session_id", "wait_end_of_query", "compress", "client_protocol_version", "query_id"}
TRANSPORT |= {"buffer_size", "send_progress_in_http_headers", "http_headers_progress_interval_ms", "role"}
INFLATE = {"gzip": gzip.decompress, "lz4": lz4.frame.decompress}
INSERT = re.compile(rb"(INSERT INTO [^\n]* FORMAT Native)\n(.*)", re.DOTALL | re.IGNORECASE)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)


VERSION = re.compile(r"\bversion\(\)")


class Refused(Exception):
    """What the engine said no with."""


async def read(request: Request) -> tuple[dict[str, str], bytes]:
    """Settings and parameters, and the body. Long parameters come with the statement in a form, and leave no body."""
    asked = dict(request.query_params)
    if not request.headers.get("content-type", "").startswith("multipart/form-data"):
        return asked, await request.body()
    form = await request.form(max_fields=10_000, max_part_size=2**24)
    return asked | {name: value for name, value in form.items() if isinstance(value, str)}, b""


def run(request: Request, asked: dict[str, str], body: bytes, path: str) -> bytes:
    insert_in_body = INSERT.match(body)  # statement and rows in one body
    head, data = insert_in_body.groups() if insert_in_body else (body, None)
    sql = asked.get("query") or head.decode()
    if body and "query" in asked and sql.upper().startswith("INSERT"):  # statement in the address, rows in the body
        data = body
    parameters = {name[6:]: value for name, value in asked.items() if name.startswith("param_")}
    # A connection a request: settings of one never reach the next. `readonly` is last: nothing may follow it.
    settings = {k: v for k, v in asked.items() if k not in TRANSPORT and not k.startswith("param_")}
    connection = chdb.connect(path)
    try:
        if asked.get("database"):
            name = asked["database"].replace("\\", "\\\\").replace("`", "\\`")
            connection.query(f"USE `{name}`")
        for name in sorted(settings, key=lambda name: name == "readonly"):
            connection.query(f"SET {name} = '{settings[name]}'")
        found = FORMAT.search(sql)
        kind = found[1] if found else request.headers.get("x-clickhouse-format", "TabSeparated")
        if data is None:
            return connection.query(sql, kind, params=parameters).bytes()
        insert = connection.send_insert(sql[: found.start()] if found else sql, kind)
        insert.append(data)
        insert.finish()
        return b""
    except Exception as error:
        raise Refused(str(error)) from error
    finally:
        connection.close()


async def answer(request: Request) -> Response:
    said = request.app.state.said
    if said.password is not None:
        wanted = "Basic " + base64.b64encode(f"limelight:{said.password}".encode()).decode()
        if request.headers.get("authorization") != wanted:
            text = "Code: 516. DB::Exception: Authentication failed: password is incorrect. (AUTHENTICATION_FAILED)"
            return Response(text, 403, {"X-ClickHouse-Exception-Code": "516"})
    asked, body = await read(request)
    inflate = INFLATE.get(request.headers.get("content-encoding", ""))
    body = inflate(body) if inflate else body
    if said.version:
        body = VERSION.sub(f"'{said.version}'", body.decode()).encode()
    try:
        return Response(run(request, asked, body, said.directory))
    except Refused as error:
        code = re.search(r"Code: (\d+)", str(error))
        headers = {"X-ClickHouse-Exception-Code": code[1] if code else "1001"}
        return Response(str(error)[str(error).find("Code:") :], 500, headers)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("directory")
    for option in ("--password", "--certificate", "--key", "--version"):
        parser.add_argument(option)
    options = parser.parse_args()
    keep_open = chdb.connect(options.directory)  # the engine lives as long as one connection does
    listener = socket.create_server(("127.0.0.1", 0))
    print(listener.getsockname()[1], flush=True)
    app = Starlette(routes=[Route("/{path:path}", answer, methods=["GET", "POST"])])
    app.state.said = options
    config = uvicorn.Config(app, log_level="error", ssl_certfile=options.certificate, ssl_keyfile=options.key)
    uvicorn.Server(config).run(sockets=[listener])
