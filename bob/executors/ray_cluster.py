"""Cases on a Ray cluster, from one workstation to many machines.

Ray places and starts them. Each runs in a process of its own (``bob.executors.process``), so that
what happens to it is its result. This process alone plans, records and judges.
"""

from __future__ import annotations

import math
import os
import signal
import socket
import sys
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

from bob.case import Failure, Result
from bob.errors import BobError
from bob.executors import Deliver, Event, Finished, Progressed, Started, Submission
from bob.executors.placing import MOST_LOSSES, devices_of, gpu_share, has_room, order_of
from bob.executors.ray_head import Head, leave_time
from bob.executors.ray_node import Origin, run_on_node

_TICK_SECONDS = 0.5
_REACH_SECONDS = 5.0
_STORE_BYTES = 200 * 2**20
"""Shared memory of a Ray that is started here; results are small."""


class RayExecutor:
    """Runs cases on a Ray cluster.

    Long cases start first, those of a backbone near each other. A case whose node is lost starts
    again elsewhere. One whose node lacks its data or weights is tried on the others.

    Args:
        address: Of a cluster; ``auto`` for the one that runs on this machine, ``local`` for one
            that is started here and ends with the session.
        cpus: Cores of a case, as text; of each of its devices, where it has several.
        gpus: Share of a GPU of a case, as text; ``auto`` goes by its estimated memory, and is none
            where the cluster has no GPU. A case on several devices has each of them for itself.

    Raises:
        BobError: Ray is not installed, an option is wrong, or the cluster cannot be reached.
    """

    stops_cases = True
    places_cases = True

    def __init__(self, address: str = "local", cpus: str = "1", gpus: str = "auto") -> None:
        self._cpus = _number("cpus", cpus)
        self._gpus = None if gpus == "auto" else _number("gpus", gpus)
        self._ray = _imported()
        self._own = _join(self._ray, address)
        self._head = Head(self._ray.get_runtime_context().gcs_address)
        self._has_gpu = self._ray.cluster_resources().get("GPU", 0) > 0
        self._origin = Origin(tuple(sys.path), os.getcwd(), _variables())
        self._waiting: dict[str, Wanted] = {}
        self._running: dict[Any, Wanted] = {}

    def submit(self, submission: Submission) -> None:
        """Remember the case."""
        self._waiting[submission.ticket] = Wanted(submission)

    def advance(self, deliver: Deliver, *, waiting_for: str) -> None:
        """Hand out as many cases as have room, the one waited for first, and pass on events.

        Raises:
            ExecutorLost: The cluster's head is gone for good.
        """
        if not self._head.answers():  # whatever is asked of Ray now may wait for minutes
            time.sleep(_TICK_SECONDS)
            return
        for wanted in sorted(
            self._waiting.values(),
            key=lambda wanted: (wanted.ticket != waiting_for, wanted.order),
        ):
            if not self._has_room(wanted.submission):
                break
            del self._waiting[wanted.ticket]
            if why := self._too_large(wanted.submission):
                failure = Failure("devices", why)
                for new in wanted.new(
                    Finished(wanted.ticket, Result(case=wanted.submission.case, failure=failure))
                ):
                    deliver(new)
                continue
            self._start(wanted)
        if not self._running:
            return
        ready, _ = self._ray.wait(
            list(self._running), num_returns=1, timeout=_TICK_SECONDS, fetch_local=False
        )
        for events in ready:
            if events in self._running:
                self._pass_on(events, self._running[events], deliver)

    def cancel(self, tickets: Collection[str]) -> None:
        """Forget cases that have not started, and end those that run."""
        for ticket in tickets:
            self._waiting.pop(ticket, None)
        for events, wanted in list(self._running.items()):
            if wanted.ticket in tickets:
                del self._running[events]
                self._ray.cancel(events)

    def shutdown(self, *, cancel: bool) -> None:
        """Let go of the cluster; one that was started here ends."""
        self._waiting.clear()
        if self._head.lost:
            return
        while self._running and not cancel:
            self.advance(lambda event: None, waiting_for="")
        self.cancel([wanted.ticket for wanted in self._running.values()])
        if self._own:
            with _own_handlers():
                self._ray.shutdown()

    def _too_large(self, submission: Submission) -> str:
        """Why no node can ever run a case; empty where one can."""
        wanted = {"CPU": self._cores(submission), "GPU": self._share(submission)}
        nodes = [node["Resources"] for node in self._ray.nodes() if node["Alive"]]
        devices = devices_of(submission)
        if devices == 1 or any(
            all(node.get(name, 0.0) >= need for name, need in wanted.items()) for node in nodes
        ):
            return ""
        needs = " and ".join(f"{need:g} {name}s" for name, need in wanted.items() if need)
        found = "; ".join(
            ", ".join(f"{node.get(name, 0.0):g} {name}s" for name in wanted) for node in nodes
        )
        return (
            f"--devices={devices} needs a node with {needs}. Nodes of the cluster: {found}. "
            "Take a smaller --devices."
        )

    def _has_room(self, submission: Submission) -> bool:
        """Whether another case may be handed out now."""
        resources = self._ray.cluster_resources()
        cores = self._cores(submission)
        return has_room(
            len(self._running),
            sum(self._share(wanted.submission) for wanted in self._running.values()),
            slots=int(resources.get("CPU", 0) // cores) if cores else 10**6,
            gpus=resources.get("GPU", 0.0),
            nodes=len(self._nodes()),
        )

    def _nodes(self) -> list[str]:
        return [node["NodeID"] for node in self._ray.nodes() if node["Alive"]]

    def _start(self, wanted: Wanted) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        options: dict[str, Any] = {
            "num_cpus": self._cores(wanted.submission),
            "num_gpus": self._share(wanted.submission),
            "num_returns": "streaming",
            "max_retries": 0,
            "name": f"bob {wanted.ticket}",
        }
        if wanted.node:
            options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(wanted.node, soft=False)
        task = self._ray.remote(run_on_node).options(**options)
        self._running[task.remote(wanted.submission, self._origin)] = wanted

    def _cores(self, submission: Submission) -> float:
        return self._cpus * devices_of(submission)

    def _share(self, submission: Submission) -> float:
        devices = devices_of(submission)
        if self._gpus is not None and devices == 1:
            return self._gpus
        if not self._has_gpu or submission.context.accelerator == "cpu":
            return 0.0
        return gpu_share(submission.need) if devices == 1 else float(devices)

    def _pass_on(self, events: Any, wanted: Wanted, deliver: Deliver) -> None:
        from ray.exceptions import RayError

        try:
            node, event = self._ray.get(next(events))
        except StopIteration:
            event = Finished(wanted.ticket, _failed(wanted, "its process told no end"))
        except RayError as error:
            del self._running[events]
            self._again_elsewhere(wanted, error, deliver)
            return
        else:
            if isinstance(event, Finished) and self._lacks(event.result):
                wanted.without.append(node)
                others = [other for other in self._nodes() if other not in wanted.without]
                if others:
                    del self._running[events]
                    wanted.node = others[0]
                    self._waiting[wanted.ticket] = wanted
                    return
        if isinstance(event, Finished):
            self._running.pop(events, None)
        for new in wanted.new(event):
            deliver(new)

    @staticmethod
    def _lacks(result: Result) -> bool:
        return result.failure is not None and result.failure.kind == "unavailable"

    def _again_elsewhere(self, wanted: Wanted, error: Exception, deliver: Deliver) -> None:
        """A node or a worker of Ray was lost: the case starts again, but not without end."""
        wanted.losses += 1
        wanted.node = ""
        if wanted.losses < MOST_LOSSES:
            wanted.go_on()
            self._waiting[wanted.ticket] = wanted
            return
        why = f"its node was lost {wanted.losses} times, last with {type(error).__name__}: {error}"
        for new in wanted.new(Finished(wanted.ticket, _failed(wanted, why))):
            deliver(new)


@dataclass
class Wanted:
    """A case on its way to a result.

    Attributes:
        losses: How often its node was lost since it came further than ever.
        node: The node that it has to run on; empty for any.
        without: Nodes that lack its data or weights.
        begun: Whether its start was told.
        epochs: Epochs that were told.
    """

    submission: Submission
    losses: int = 0
    node: str = ""
    without: list[str] = field(default_factory=list)
    begun: bool = False
    epochs: int = 0

    @property
    def ticket(self) -> str:
        """What events name it by."""
        return self.submission.ticket

    @property
    def order(self) -> tuple[int, str, float]:
        """See ``bob.executors.placing.order_of``."""
        return order_of(self.submission)

    def go_on(self) -> None:
        """Have the next start take up a checkpoint of the last, where its folder is shared."""
        context = replace(self.submission.context, resume=True)
        self.submission = replace(self.submission, context=context)

    def new(self, event: Event) -> Iterator[Event]:
        """An event as it was not told yet: a case that starts again tells some of them twice."""
        if not self.begun:
            self.begun = True
            yield Started(self.ticket)
        if isinstance(event, Progressed) and event.progress.metrics:
            if event.progress.epoch < self.epochs:
                return
            self.epochs, self.losses = event.progress.epoch + 1, 0
        if not isinstance(event, Started):
            yield event


def _failed(wanted: Wanted, why: str) -> Result:
    case = wanted.submission.case
    what = f"{case.name} {case.task} seed {case.seed}"
    return Result(case=case, failure=Failure("exit", f"{what}: {why}."))


def _number(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value < math.inf or (name == "cpus" and not value):
        raise BobError(f"--executor-option={name}={text}: expected a number such as 1 or 0.5.")
    return value


def _imported() -> Any:
    leave_time()
    try:
        import ray
    except ImportError:
        raise BobError(
            "--executor=ray needs Ray: pip install 'battle-of-backbones[ray]'."
        ) from None
    return ray


def _join(ray: Any, address: str) -> bool:
    """Connect to a cluster, or start one; returns whether it was started here."""
    if ray.is_initialized():
        return False
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    settings: dict[str, Any] = {"log_to_driver": False, "configure_logging": False}
    _reach(address)
    if address == "local":
        settings |= {"include_dashboard": False, "object_store_memory": _STORE_BYTES}
    try:
        with _own_handlers():
            ray.init(address=address, **settings)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise _unreachable(address, str(error), _word_on_token()) from None
    return True


def _reach(address: str) -> None:
    """Look whether anybody listens: Ray tries for minutes."""
    host, _, port = address.rpartition(":")
    if address.startswith("ray://") or (host and not port.isdigit()):
        raise _unreachable(address, "it is not HOST:PORT, auto or local")
    if not host:
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()
    except OSError as error:
        raise _unreachable(address, error.strerror or str(error)) from None


def _unreachable(address: str, why: str, word: str = "") -> BobError:
    return BobError(
        f"The Ray cluster {address!r} cannot be reached ({why}). Start it with `ray start --head` "
        "and run pytest on one of its nodes, name it with --ray-address=HOST:PORT, or leave the "
        f"option out for one on this machine.{word}"
    )


def _word_on_token() -> str:
    """Ray names a refused token in its log alone; to HOST:PORT it sends none of its own accord."""
    token = os.path.expanduser("~/.ray/auth_token")
    if os.environ.get("RAY_AUTH_MODE") or not os.path.isfile(token):
        return ""
    return f" If it asks for a token, as {token} makes `ray start` do, set RAY_AUTH_MODE=token."


@contextmanager
def _own_handlers() -> Iterator[None]:
    """Ray takes SIGTERM over; a session has its own way to end."""
    before = {signum: signal.getsignal(signum) for signum in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            if handler is not None:
                signal.signal(signum, handler)


def _variables() -> dict[str, str]:
    """Variables that a case may need on its node; not those that say where this process is."""
    own = ("BOB_", "HF_", "TORCH_", "XDG_", "OMP_WAIT_POLICY")
    return {name: value for name, value in os.environ.items() if name.startswith(own)}
