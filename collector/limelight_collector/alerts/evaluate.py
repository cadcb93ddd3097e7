"""The alert loop: every interval, each rule's values are read, its series advanced, and what changed is saved at once.

Nothing is remembered here between two evaluations: state lives in the control database, so a restart is no event.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from urllib.parse import urlencode

from limelight_collector.alerts import notice
from limelight_collector.alerts.file import DEFAULT_RULES, DEFAULT_RULES_VERSION, RulesFile, load_rules_file
from limelight_collector.alerts.notify import deliver_due
from limelight_collector.alerts.rule import EVERY_CHANNEL, Rule
from limelight_collector.alerts.state import Sample, State, Transition, advance
from limelight_collector.alerts.values import StoreValues, Values
from limelight_collector.auth import DEFAULT_PROJECT
from limelight_collector.control import Control
from limelight_collector.control.progress import Notification, RuleName, Saved, dedupe_key, series_key
from limelight_collector.control.rules import StoredRule
from limelight_collector.errors import QueryLimit, Rejected, Unavailable
from limelight_collector.metrics import ALERT_EVALUATIONS, ALERT_LAG_SECONDS
from limelight_collector.query.filter import FilterError
from limelight_collector.services import Services

log = logging.getLogger("limelight.alerts")

MAX_SERIES = 1000
"""Most series of one rule: a rule grouped by something unbounded is an error, not a flood."""
NOTIFY_INTERVAL_S = 1.0
"""Seconds between two looks into the outbox."""
SWEEP_INTERVAL_S = 3600.0
"""Seconds between two removals of what is too old to be kept."""


def evaluate(control: Control, values: Values, *, now_s: float, complete_to_s: float, link_base: str) -> None:
    """Evaluate every rule once at `now_s` (unix seconds) over windows that end at `complete_to_s`.

    A rule whose query fails is noted and changes no state; the other rules go on.
    """

    def attempt(stored: StoredRule) -> bool:
        try:
            _evaluate_rule(control, values, stored, now_s, complete_to_s, link_base)
            return True
        except Exception as error:
            _note_failure(control, stored, error)
            return False

    for stored in control.rules.rules():
        ALERT_EVALUATIONS.labels(outcome="ok" if attempt(stored) else "failed").inc()
    control.progress.end_orphans(now_s)


def _note_failure(control: Control, stored: StoredRule, error: Exception) -> None:
    known = isinstance(error, Unavailable | Rejected | QueryLimit | FilterError)
    message = str(error) if known else f"{type(error).__name__}; the collector's log has the details"
    fields = {"rule": stored.rule.id, "project": stored.project_id, "error": message}
    log.warning("an alert rule could not be evaluated", exc_info=None if known else error, extra={"fields": fields})
    control.progress.save_failure(stored.project_id, stored.rule.id, message)


def _evaluate_rule(
    control: Control, values: Values, stored: StoredRule, now_s: float, complete_to_s: float, link_base: str
) -> None:
    rule, project_id = stored.rule, stored.project_id
    end_ns = int(complete_to_s * 1e9)
    start_ns = end_ns - int(rule.window_s * 1e9)
    samples = values.samples(project_id, rule, start_ns, end_ns) if rule.enabled else []
    if len(samples) > MAX_SERIES:
        raise Rejected("bad_request", f"group_by makes {len(samples)} series, at most {MAX_SERIES} are evaluated")
    known = control.progress.states(project_id, rule.id)
    answered = {series_key(sample.labels): sample for sample in samples}
    saved: list[Saved] = []
    for key in {**known, **answered}:
        sample = answered.get(key)
        labels, state = known.get(key) or (_labels(sample), State())
        state, transitions = advance(rule, state, sample, now_s)
        notifications: list[Notification] = []
        if any(transition.notify for transition in transitions):
            traces = _exemplars(values, stored, labels, state, start_ns, end_ns)
            notifications = _notifications(control, stored, labels, state, transitions, traces, link_base)
        saved.append(Saved(labels, state, transitions, notifications))
    control.progress.save(RuleName(project_id, rule.id, rule.title, rule.severity), saved, now_s)


def _labels(sample: Sample | None) -> dict[str, str]:
    assert sample is not None  # a series comes from the store, from the answer, or from both
    return sample.labels


def _exemplars(
    values: Values, stored: StoredRule, labels: dict[str, str], state: State, start_ns: int, end_ns: int
) -> list[str]:
    """Traces for a firing; a notification without them is better than none."""
    if not state.is_open:
        return []
    try:
        return values.exemplars(stored.project_id, stored.rule, labels, start_ns, end_ns)
    except Exception as error:
        fields = {"rule": stored.rule.id, "error": type(error).__name__}
        log.warning("no example traces for an alert", extra={"fields": fields})
        return []


def _notifications(
    control: Control,
    stored: StoredRule,
    labels: dict[str, str],
    state: State,
    transitions: list[Transition],
    traces: list[str],
    link_base: str,
) -> list[Notification]:
    rule, project_id = stored.rule, stored.project_id
    assert state.fired_s is not None  # only what fired is announced
    key = dedupe_key(project_id, rule.id, labels, state.fired_s)
    link = f"{link_base}/alerts?{urlencode({'rule_id': rule.id})}"
    channels = _channels(control, project_id, rule)
    return [
        Notification(
            channel_id,
            key,
            transition.notify,
            notice.payload(rule, labels, state, key=key, reason=transition.reason, traces=traces, link=link),
        )
        for transition in transitions
        if transition.notify is not None
        for channel_id in channels
    ]


def _channels(control: Control, project_id: str, rule: Rule) -> list[str]:
    """Ids of the channels that exist, are switched on, and are wanted."""
    there = [stored.channel.id for stored in control.rules.channels(project_id) if stored.channel.enabled]
    return [id_ for id_ in there if EVERY_CHANNEL in rule.channels or id_ in rule.channels]


class AlertLoop:
    """Evaluates and notifies on two threads from `start` to `stop`, while `is_leader` says that this collector does it
    for all. `now_s` is the wall clock in unix seconds.
    """

    def __init__(
        self,
        services: Services,
        *,
        now_s: Callable[[], float],
        values: Values | None = None,
        is_leader: Callable[[], bool] = lambda: True,
    ) -> None:
        settings = services.settings
        self._services = services
        self._control = services.control
        self._now_s = now_s
        self._is_leader = is_leader
        self._values = values or StoreValues(services.store)
        self._file = (
            RulesFile(settings.rules_file, services.control, settings.webhook_allowed_hosts)
            if settings.rules_file is not None
            else None
        )
        self._link_base = (settings.public_url or f"http://127.0.0.1:{settings.dashboard_port}").rstrip("/")
        self._shipped = load_rules_file(DEFAULT_RULES).rules
        self._evaluated_s = now_s()
        self._swept_s = 0.0
        self._stopping = threading.Event()
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Read the rules and begin; `StartupRefused` for a bad rules file."""
        if self._file is not None:
            self._file.load()
        else:
            self._control.rules.sync_file(DEFAULT_PROJECT, [], [])  # what an earlier start had from a file
        ALERT_LAG_SECONDS.set_function(lambda: max(0.0, self._now_s() - self._evaluated_s))
        for name, work, interval_s in (
            ("alerts-evaluate", self._evaluate, self._services.settings.alert_interval_s),
            ("alerts-notify", self._notify, NOTIFY_INTERVAL_S),
        ):
            thread = threading.Thread(target=self._repeat, args=(work, interval_s), name=name, daemon=True)
            thread.start()
            self._threads.append(thread)

    def stop(self) -> None:
        """End both threads; a delivery in flight is finished."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()

    def tick(self, now_s: float) -> None:
        """One evaluation of every rule at `now_s`."""
        if self._file is not None:
            self._file.reload()
        else:
            self._control.rules.install_defaults(self._shipped, DEFAULT_RULES_VERSION, DEFAULT_PROJECT)
        complete_to_s = min(now_s, self._stored_to_s(now_s)) - self._services.settings.alert_delay_s
        evaluate(self._control, self._values, now_s=now_s, complete_to_s=complete_to_s, link_base=self._link_base)
        self._evaluated_s = now_s

    def _stored_to_s(self, now_s: float) -> float:
        """The moment up to which what was received is in the store: spans still in the spool are not good news."""
        oldest_ns = self._services.spool.oldest_received_ns
        return now_s if oldest_ns is None else oldest_ns / 1e9

    def _evaluate(self) -> None:
        self._control.save_last_used()
        if not self._is_leader():
            self._evaluated_s = self._now_s()  # another is late or not: its own metric says so
            return
        self.tick(self._now_s())
        if self._evaluated_s - self._swept_s >= SWEEP_INTERVAL_S:
            self._swept_s = self._evaluated_s
            self._control.outbox.forget_old(self._swept_s)
            self._control.progress.forget_old(self._swept_s)

    def _notify(self) -> None:
        if not self._is_leader():
            return
        allowed_hosts = self._services.settings.webhook_allowed_hosts
        deliver_due(self._control, allowed_hosts, self._now_s, self._must_stop)

    def _must_stop(self) -> bool:
        return self._stopping.is_set() or not self._is_leader()

    def _repeat(self, work: Callable[[], None], interval_s: float) -> None:
        while not self._stopping.is_set():
            try:
                work()
            except Unavailable as error:
                log.warning("alerts wait for the control database", extra={"fields": {"error": error.message}})
            except Exception as error:
                log.exception("the alert loop failed and goes on", extra={"fields": {"error": type(error).__name__}})
            self._stopping.wait(interval_s)
