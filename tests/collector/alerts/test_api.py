"""Rules, alerts, channels, keys and prices over HTTP, on real parts; keys are real keys."""

import pytest
from starlette.testclient import TestClient

from limelight_collector.alerts.evaluate import evaluate
from limelight_collector.alerts.notify import deliver_due
from limelight_collector.alerts.rule import Channel, Rule
from limelight_collector.alerts.state import Sample
from limelight_collector.api.app import create_app
from limelight_collector.auth import authenticate

RULE = {"id": "spike", "signal": "error_rate", "window": "5m", "for": "0s", "condition": {"op": ">", "threshold": 0.1}}


@pytest.fixture
def client(services, control):
    services.authenticate = lambda header: authenticate(
        header, keys_required=control.has_keys(), find_key=control.find_key
    )
    with TestClient(create_app(services), base_url="http://limelight/api/v1") as opened:
        yield opened


def ok(answer, status=200):
    assert answer.status_code == status, answer.text
    return answer.json() if answer.content else None


def problem(answer, status):
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json"), answer.text
    return answer.json()["detail"]


def test_rule_crud(client):
    made = ok(client.post("/alert-rules", json=RULE), 201)
    assert (made["window_s"], made["for_s"], made["source"], made["name"]) == (300, 0, "api", "spike")
    assert ok(client.get("/alert-rules")) == {"rules": [made]}
    assert "conflict" not in problem(client.post("/alert-rules", json=RULE), 409)
    changed = ok(client.put("/alert-rules/spike", json={**made, "severity": "critical"}))
    assert changed == {**made, "severity": "critical"}
    assert ok(client.get("/alert-rules/spike")) == changed
    assert "cannot change" in problem(client.put("/alert-rules/other", json=made), 400)
    ok(client.delete("/alert-rules/spike"), 204)
    problem(client.get("/alert-rules/spike"), 404)
    problem(client.delete("/alert-rules/spike"), 404)
    assert [entry["action"] for entry in ok(client.get("/audit"))["entries"]] == [
        "rule.delete",
        "rule.update",
        "rule.create",
    ]


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"signal": "cost"}, "it evaluates: error_rate"),
        ({"filter": "nosuch = 1"}, "unknown field 'nosuch'"),
        ({"group_by": ["input_text"]}, "cannot group by"),
        ({"channels": ["nosuch"]}, "there is no channel 'nosuch'"),
        ({"window": "x"}, "write a duration"),
        ({"surprise": 1}, "Extra inputs"),
    ],
)
def test_bad_rules_are_explained(client, change, said):
    assert said in problem(client.post("/alert-rules", json={**RULE, **change}), 400)
    assert ok(client.get("/alert-rules")) == {"rules": []}


def test_the_files_rules_are_shown_and_not_changed(client, control):
    control.rules.sync_file("default", [Rule.model_validate(RULE)], [Channel(id="ops", url="https://example.com")])
    (shown,) = ok(client.get("/alert-rules"))["rules"]
    assert shown["source"] == "file"
    assert "belongs to the rules file" in problem(client.put("/alert-rules/spike", json=RULE), 409)
    problem(client.delete("/alert-rules/spike"), 409)
    problem(client.delete("/channels/ops"), 409)


class Bad:
    """Half of all requests fail, or the store does."""

    def __init__(self, error=None):
        self.error = error

    def samples(self, *_):
        if self.error:
            raise self.error
        return [Sample({}, 0.5, 20)]

    def exemplars(self, *_):
        return []


def test_alerts_and_history(client, control, clock, receiver):
    ok(client.post("/channels", json={"id": "ops", "url": receiver.url}), 201)
    ok(client.post("/alert-rules", json={**RULE, "for": "10s"}), 201)
    for _ in range(2):
        evaluate(control, Bad(), now_s=clock.now_s, complete_to_s=clock.now_s, link_base="")
        clock.now_s += 10
    deliver_due(control, ["127.0.0.1"], clock)
    (alert,) = ok(client.get("/alerts"))["alerts"]
    assert alert == {
        "rule_id": "spike",
        "rule_name": "spike",
        "state": "firing",
        "severity": "warning",
        "labels": {},
        "value": 0.5,
        "threshold": 0.1,
        "events": 20,
        "since": "2026-09-21T14:13:30.000Z",
        "fired_at": "2026-09-21T14:13:30.000Z",
        "resolved_at": None,
        "last_evaluated": "2026-09-21T14:13:30.000Z",
        "summary": "spike: error_rate 50.0% over 5m (threshold 10.0%)",
        "notifications": [
            {
                "channel_id": "ops",
                "event": "firing",
                "status": "delivered",
                "attempts": 1,
                "last_error": None,
                "delivered_at": "2026-09-21T14:13:40.000Z",
            }
        ],
    }
    events = ok(client.get("/alerts/history", params={"from": "2026-09-21T14:13:20Z", "to": "2026-09-21T14:20:00Z"}))
    assert [(event["time"], event["from_state"], event["to_state"]) for event in events["events"]] == [
        ("2026-09-21T14:13:30.000Z", "pending", "firing"),
        ("2026-09-21T14:13:20.000Z", "inactive", "pending"),
    ]
    later = ok(client.get("/alerts/history", params={"from": "2026-09-21T14:13:31Z", "to": "2026-09-21T14:20:00Z"}))
    assert later == {"events": []}


def test_a_rule_that_cannot_be_evaluated_is_in_the_list(client, control, clock):
    ok(client.post("/alert-rules", json=RULE), 201)
    evaluate(control, Bad(ValueError("inner detail")), now_s=clock.now_s, complete_to_s=clock.now_s, link_base="")
    (alert,) = ok(client.get("/alerts"))["alerts"]
    assert (alert["state"], alert["rule_id"]) == ("error", "spike")
    assert "could not be evaluated" in alert["summary"]
    assert "inner detail" not in alert["summary"]


def test_channel_crud_and_test_message(client, receiver):
    body = {"id": "ops", "name": "Ops", "url": receiver.url, "secret": "12345678"}
    made = ok(client.post("/channels", json=body), 201)
    assert made["has_secret"]
    assert "12345678" not in str(made)
    assert ok(client.post("/channels/ops/test")) == {"delivered": True, "error": None}
    assert (receiver.bodies[0]["test"], receiver.bodies[0]["status"]) == (True, "firing")
    assert receiver.headers[0]["Limelight-Signature"].startswith("v1=")
    receiver.statuses = [503]
    assert ok(client.post("/channels/ops/test")) == {"delivered": False, "error": "answered 503"}
    (shown,) = ok(client.get("/channels"))["channels"]
    assert (shown["last_error"], shown["failures"]) == ("answered 503", 1)
    assert ok(client.put("/channels/ops", json={**shown, "enabled": False}))["has_secret"]
    assert ok(client.get("/channels/ops"))["enabled"] is False
    ok(client.delete("/channels/ops"), 204)
    problem(client.post("/channels/ops/test"), 404)


@pytest.mark.parametrize("url", ["http://example.com", "https://127.0.0.2/", "https://[::1]/", "x" * 3000])
def test_a_channel_to_a_forbidden_address_is_refused(client, url):
    problem(client.post("/channels", json={"id": "ops", "url": url}), 400)
    assert ok(client.get("/channels")) == {"channels": []}


def test_keys_over_http(client, control):
    made = ok(client.post("/keys", json={"scopes": ["admin"], "name": "first"}), 201)
    admin = {"Authorization": f"Bearer {made['key']}"}
    problem(client.get("/keys"), 401)
    (listed,) = ok(client.get("/keys", headers=admin))["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    reader = ok(client.post("/keys", json={"scopes": ["read"]}, headers=admin), 201)
    as_reader = {"Authorization": f"Bearer {reader['key']}"}
    for path in ("/keys", "/channels", "/audit"):
        problem(client.get(path, headers=as_reader), 403)
    problem(client.post("/alert-rules", json=RULE, headers=as_reader), 403)
    assert [project["id"] for project in ok(client.get("/projects", headers=as_reader))["projects"]] == ["default"]
    ok(client.delete(f"/keys/{reader['id']}", headers=admin), 204)
    problem(client.get("/projects", headers=as_reader), 401)
    problem(client.delete("/keys/nosuchkey0", headers=admin), 404)


def test_projects_are_walls(client, control):
    control.rules.save_rule("mine", Rule.model_validate(RULE), create=True, actor="k")
    mine, other = ({"Authorization": f"Bearer {control.create_key(name, ['admin'])}"} for name in ("mine", "other"))
    assert ok(client.get("/alert-rules", headers=other)) == {"rules": []}
    problem(client.delete("/alert-rules/spike", headers=other), 404)
    my_key = ok(client.get("/keys", headers=mine))["keys"][0]["id"]
    problem(client.delete(f"/keys/{my_key}", headers=other), 404)
    assert len(ok(client.get("/alert-rules", headers=mine))["rules"]) == 1


@pytest.mark.parametrize(
    "body", [{"scopes": []}, {"scopes": ["root"]}, {"scopes": ["read"], "expires_at": "2020-01-01T00:00:00Z"}, {}]
)
def test_bad_keys_are_refused(client, control, body):
    problem(client.post("/keys", json=body), 400)
    assert control.list_keys() == []


def test_prices(client):
    price = {"provider": "openai", "model": "m", "input_per_million_usd": "0.10", "output_per_million_usd": "0.40"}
    answer = ok(client.put("/prices/overrides", json={"overrides": [price]}))
    assert answer["overrides"] == [{**price, "cache_read_per_million_usd": None}]
    assert (answer["source"], answer["source_version"][0].isdigit()) == ("genai-prices", True)
    assert ok(client.get("/prices")) == answer
    assert ok(client.put("/prices/overrides", json={"overrides": []}))["overrides"] == []


@pytest.mark.parametrize("price", ["-1", "1e3", "NaN", "", "1,5", 0.1, "1" * 20])
def test_a_price_is_a_decimal_text(client, price):
    body = {"model": "m", "input_per_million_usd": price, "output_per_million_usd": "1"}
    problem(client.put("/prices/overrides", json={"overrides": [body]}), 400)


def test_a_model_is_priced_once(client):
    body = {"model": "m", "input_per_million_usd": "1", "output_per_million_usd": "1"}
    assert "twice" in problem(client.put("/prices/overrides", json={"overrides": [body, body]}), 400)
