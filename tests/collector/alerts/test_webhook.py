"""Where a webhook may go, and what a delivery looks like on the wire."""

import hashlib
import hmac
import socket
import threading

import pytest

from limelight_collector.alerts import webhook
from limelight_collector.alerts.webhook import DeliveryFailed, is_public, parse_target, post, resolve

LOCAL = ["127.0.0.1"]
BODY = {"dedupe_key": "k", "text": "grün"}


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.9.9.9", "0.0.0.0", "10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "100.127.255.255", "192.0.2.1", "198.18.0.1", "224.0.0.1", "239.1.1.1",
        "240.0.0.1", "255.255.255.255", "::", "::1", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12:3456::1", "ff02::1",
        "fec0::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1", "::ffff:169.254.169.254", "2002:7f00:1::", "2001:db8::1",
        "64:ff9b::7f00:1", "2001:0:4136:e378:8000:63bf:3fff:fdd2",
    ],
)  # fmt: skip
def test_inside_addresses_are_not_public(address):
    assert not is_public(address)


@pytest.mark.parametrize("address", ["1.1.1.1", "8.8.8.8", "172.32.0.1", "100.63.0.1", "2606:4700::1"])
def test_outside_addresses_are(address):
    assert is_public(address)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://example.com/", "use https"),
        ("ftp://example.com/", "must be https"),
        ("file:///etc/passwd", "must be https"),
        ("https://", "must be https"),
        ("example.com", "must be https"),
        ("https://user:secret@example.com/", "must not carry"),
        ("https://example.com@127.0.0.1/", "must not carry"),
        ("https://127.0.0.1/", "inside the network"),
        ("https://[::1]/", "inside the network"),
        ("https://[::ffff:127.0.0.1]:8443/", "inside the network"),
        ("https://169.254.169.254/latest/meta-data", "inside the network"),
        ("https://example.com:99999/", "not a URL"),
        ("https://[bad/", "not a URL"),
        ("https://exa mple.com/", "characters"),
        ("https://example.com/\r\nX: y", "characters"),
        ("https://exämple.com/", "characters"),
    ],
)
def test_forbidden_addresses(url, message):
    with pytest.raises(DeliveryFailed, match=message) as caught:
        parse_target(url, [])
    assert caught.value.final
    with pytest.raises(DeliveryFailed):
        post(url, BODY, secret=None, allowed_hosts=[], now_s=0)


@pytest.mark.parametrize("host", ["localhost", "2130706433", "0x7f000001", "127.1", "localhost."])
def test_names_and_spellings_of_loopback_are_refused_when_resolved(host):
    with pytest.raises(DeliveryFailed, match=r"inside the network|cannot be resolved"):
        resolve(parse_target(f"https://{host}/", []))


def test_an_allowed_host_may_be_inside_and_plain():
    assert resolve(parse_target("http://LOCALHOST:1/", ["localhost"])) in ("127.0.0.1", "::1")
    with pytest.raises(DeliveryFailed, match="inside the network"):
        parse_target("https://127.0.0.1/", ["localhost"])  # by name, not by what the name means


def test_the_checked_address_is_the_one_connected_to(receiver, monkeypatch):
    """A name that resolves to something else the second time gains nothing: there is no second time."""
    answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))]]
    real = socket.getaddrinfo

    def once(host, *rest, **named):
        return answers.pop() if host == "hook.test" else real(host, *rest, **named)

    monkeypatch.setattr(webhook.socket, "getaddrinfo", once)
    port = receiver.url.split(":")[2].split("/")[0]
    post(f"http://hook.test:{port}/", BODY, secret=None, allowed_hosts=["hook.test"], now_s=0)
    assert receiver.headers[0]["Host"] == f"hook.test:{port}"
    assert answers == []


def test_one_inside_address_among_several_is_enough_to_refuse(monkeypatch):
    both = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 443)) for address in ("8.8.8.8", "10.0.0.1")]
    monkeypatch.setattr(webhook.socket, "getaddrinfo", lambda *_a, **_k: both)
    with pytest.raises(DeliveryFailed, match="inside the network"):
        resolve(parse_target("https://hook.test/", []))


def test_a_signed_delivery(receiver):
    post(receiver.url, BODY, secret="12345678", allowed_hosts=LOCAL, now_s=1700000000.9)
    (headers,) = receiver.headers
    assert receiver.bodies == [BODY]
    assert headers["Limelight-Timestamp"] == "1700000000"
    assert headers["Limelight-Dedupe-Key"] == "k"
    expected = hmac.new(b"12345678", b"1700000000." + receiver.raw[0], hashlib.sha256).hexdigest()
    assert headers["Limelight-Signature"] == f"v1={expected}"


def test_without_a_secret_nothing_is_signed(receiver):
    post(receiver.url, BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
    assert receiver.headers[0]["Limelight-Signature"] is None


def test_redirects_are_not_followed(receiver):
    receiver.statuses, receiver.location = [302], receiver.url
    with pytest.raises(DeliveryFailed, match="answered 302; redirects are not followed"):
        post(receiver.url, BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
    assert len(receiver.bodies) == 1


def test_proxies_of_the_environment_are_ignored(receiver, monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1/")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1/")
    post(receiver.url, BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
    assert receiver.bodies == [BODY]


def peer(talk):
    """A socket that answers as `talk(connection)` says; returns its URL."""
    listener = socket.create_server(("127.0.0.1", 0))

    def serve():
        with listener:
            connection, _ = listener.accept()
            with connection:
                talk(connection)

    threading.Thread(target=serve, daemon=True).start()
    return f"http://127.0.0.1:{listener.getsockname()[1]}/"


def test_what_is_no_http_is_said_so():
    url = peer(lambda connection: (connection.recv(65536), connection.sendall(b"SSH-2.0-secret\r\n\r\n")))
    with pytest.raises(DeliveryFailed) as caught:
        post(url, BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
    assert "secret" not in str(caught.value)


def test_an_answer_that_trickles_is_cut_off(monkeypatch):
    monkeypatch.setattr(webhook, "TIMEOUT_S", 0.3)
    over = threading.Event()

    def trickle(connection):
        try:
            while not over.wait(0.05):
                connection.sendall(b"H")
        except OSError:
            return

    with pytest.raises(DeliveryFailed, match=r"no answer within 0\.3 s"):
        post(peer(trickle), BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
    over.set()


def test_refused_connection_and_missing_tls():
    free = socket.create_server(("127.0.0.1", 0))
    port = free.getsockname()[1]
    free.close()
    with pytest.raises(DeliveryFailed, match="cannot connect"):
        post(f"http://127.0.0.1:{port}/", BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
    url = peer(lambda connection: (connection.recv(65536), connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")))
    with pytest.raises(DeliveryFailed, match="TLS"):
        post(url.replace("http:", "https:"), BODY, secret=None, allowed_hosts=LOCAL, now_s=0)
