"""What every executor has to hold, as a test class: derive from it, and give ``make``.

>>> class TestMine(ExecutorContract):
...     def make(self):
...         return MyExecutor()

pytest runs its tests on real cases, less than a second each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from time import monotonic

from bob.case import Case, Context
from bob.catalog import load_catalog
from bob.executors import Event, Executor, Finished, Progressed, Started, Submission
from bob.plan import Plan, Selection

_PATIENCE_SECONDS = 300.0


class ExecutorContract:
    """Tests of an executor. ``context`` is how its cases are run."""

    context = Context(accelerator="cpu", workers=0)

    def make(self) -> Executor:
        """A new executor."""
        raise NotImplementedError("give the executor to test")

    def test_every_case_starts_once_and_finishes_once(self) -> None:
        """Whatever the order, each case's events are a start, progress, and one end."""
        events = self._run(dict(enumerate_cases(3)))
        for ticket, case in enumerate_cases(3):
            own = [event for event in events if event.ticket == ticket]
            assert own[0] == Started(ticket)
            assert all(isinstance(event, Progressed) for event in own[1:-1])
            (end,) = [event for event in own if isinstance(event, Finished)]
            assert own[-1] is end
            assert end.result.failure is None, end.result.failure
            assert end.result.case.id == case.id

    def test_results_are_those_of_run_case(self) -> None:
        """An executor changes nothing: metrics are those of the case run in this process."""
        from bob.run import run_case

        (ticket, case), *_ = enumerate_cases(1)
        (end,) = [event for event in self._run({ticket: case}) if isinstance(event, Finished)]
        here = run_case(case, self.context)
        assert end.result.metrics.keys() == here.metrics.keys()
        assert end.result.run_key == here.run_key
        assert abs(end.result.metrics["top1"] - here.metrics["top1"]) < 1e-6

    def test_epochs_are_told_while_a_case_runs(self) -> None:
        """Progress arrives, with the metrics of each epoch in order."""
        (ticket, case), *_ = enumerate_cases(1)
        told = [
            event.progress.epoch
            for event in self._run({ticket: case})
            if isinstance(event, Progressed) and event.progress.metrics
        ]
        assert told == sorted(told)
        assert len(told) == len(set(told))
        assert told

    def test_a_failure_is_a_result(self) -> None:
        """A backbone that cannot be built ends its case, not the executor."""
        (ticket, case), (other, whole) = enumerate_cases(2)
        entry = case.backbone.model_copy(update={"source": "bob.backbones.micro:no_such_factory"})
        events = self._run({ticket: replace(case, backbone=entry), other: whole})
        ends = {event.ticket: event.result for event in events if isinstance(event, Finished)}
        assert ends[ticket].failure is not None
        assert ends[other].failure is None

    def test_a_cancelled_case_does_not_hold_up_the_others(self) -> None:
        """What is cancelled before anything ran need not finish; the rest does."""
        executor = self.make()
        cases = dict(enumerate_cases(3))
        for ticket, case in cases.items():
            executor.submit(Submission(ticket, case, self.context))
        kept, *dropped = cases
        executor.cancel(dropped)
        events = _pump(executor, [kept])
        executor.shutdown(cancel=True)
        assert Started(kept) in events

    def test_cases_may_be_submitted_from_an_event(self) -> None:
        """The second stage is submitted as soon as the first has ended."""
        executor = self.make()
        (first, case), (second, later) = enumerate_cases(2)
        executor.submit(Submission(first, case, self.context))
        events: list[Event] = []

        def take(event: Event) -> None:
            events.append(event)
            if isinstance(event, Finished) and event.ticket == first:
                executor.submit(Submission(second, later, self.context))

        _pump(executor, [first, second], take=take, events=events)
        executor.shutdown(cancel=False)
        assert {event.ticket for event in events} == {first, second}

    def _run(self, cases: dict[str, Case]) -> list[Event]:
        executor = self.make()
        for ticket, case in cases.items():
            executor.submit(Submission(ticket, case, self.context))
        events = _pump(executor, cases)
        executor.shutdown(cancel=False)
        return events


def enumerate_cases(count: int) -> list[tuple[str, Case]]:
    """Tickets and small real cases: one of training at smoke scale, shortened, with other seeds.

    Images are fed at half their size, which takes a quarter of the time.
    """
    catalog = load_catalog()
    case = Plan(catalog, Selection(backbones=("resnet_micro_random",))).cases("finetune")[0]
    changes = {"epochs": 2, "batch_size": 200, "image_size": 16}
    short = replace(case, recipe=case.recipe.model_copy(update=changes))
    return [(f"case-{seed}", short.with_seed(seed)) for seed in range(count)]


def _pump(
    executor: Executor,
    tickets: Iterable[str],
    *,
    take: object = None,
    events: list[Event] | None = None,
) -> list[Event]:
    """Go on until these have finished; asks for the last submitted first."""
    found: list[Event] = [] if events is None else events
    deliver = take if callable(take) else found.append
    open_tickets = list(tickets)
    until = monotonic() + _PATIENCE_SECONDS
    while open_tickets:
        assert monotonic() < until, f"nothing came of {', '.join(open_tickets)}"
        done = {event.ticket for event in found if isinstance(event, Finished)}
        open_tickets = [ticket for ticket in open_tickets if ticket not in done]
        if open_tickets:
            known = {event.ticket for event in found}
            wanted = [ticket for ticket in open_tickets if ticket in known] or open_tickets
            executor.advance(deliver, waiting_for=wanted[0])
    return found
