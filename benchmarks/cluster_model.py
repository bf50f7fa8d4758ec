"""A simulated cluster: cases placed on GPUs by the executor's rules, nodes lost now and then.

Cases that share a GPU share its speed equally, so that a GPU is busy while it holds any. Within a
node a case goes to the GPU that it fills best, and among nodes to the one that Ray's default policy
takes: those less than half full count as empty, then the emptiest, then the first.
"""

from __future__ import annotations

import heapq
import math
import random
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from bob.executors.placing import MOST_LOSSES

Room = Callable[[int, float], bool]
"""Whether another case may be handed out, by those that were and the GPU shares they ask for."""
_HALF = 0.5
_TINY = 1e-9
"""Hours and shares that are nothing but rounding."""


@dataclass(frozen=True)
class Job:
    """A case as the cluster sees it; jobs are given in the order they are handed out in.

    Attributes:
        hours: On a GPU of its own.
        share: Of a GPU that it asks for.
        test: Its place among the tests: of those that have not ended, the first is waited for.
    """

    hours: float
    share: float = 1.0
    test: int = 0


@dataclass(frozen=True, kw_only=True)
class Losses:
    """How nodes are lost.

    Attributes:
        between: Mean hours until a node that is there is lost, exponentially distributed.
        away: Hours until it is back.
        save_every: Hours of a case's own work between checkpoints; none where it starts anew.
        most: Losses after which a case is given up.
        forgets: Whether earlier losses count no more once a case has come further than ever.
    """

    between: float
    away: float = 1.0
    save_every: float | None = None
    most: int = MOST_LOSSES
    forgets: bool = True


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What became of a simulated session.

    Attributes:
        makespan: Hours until the last case has ended.
        used: Share of the GPUs' time in which they worked, redone work included.
        redone: GPU-hours of work that was lost.
        losses: Times that a node was lost.
        given_up: Cases that lost their node too often.
    """

    makespan: float
    used: float
    redone: float
    losses: float
    given_up: float


def bound(jobs: Sequence[Job], gpus: int) -> float:
    """Hours that no order can undercut: of the longest case, or of all on all GPUs."""
    hours = [job.hours for job in jobs]
    return max(sum(hours) / gpus, max(hours, default=0.0))


@dataclass(eq=False)
class _Task:
    job: Job
    place: int
    done: float = 0.0
    furthest: float = 0.0
    losses: int = 0
    over: bool = False


@dataclass(eq=False)
class _Node:
    """A node, with what Ray's policy looks at.

    Attributes:
        most: The largest free share of a GPU; below any need where the node is away.
        taken: Of all its GPUs; nothing where that is less than half.
    """

    gpus: list[_Gpu]
    up: bool = True
    most: float = 1.0
    taken: float = 0.0

    def look(self) -> None:
        frees = [gpu.free for gpu in self.gpus]
        taken = 1.0 - sum(frees) / len(frees)
        self.taken = 0.0 if taken < _HALF else taken
        self.most = max(frees) if self.up else -1.0


@dataclass(eq=False)
class _Gpu:
    node: _Node | None = None
    free: float = 1.0
    since: float = 0.0
    version: int = 0
    tasks: list[_Task] = field(default_factory=list)

    def take(self, task: _Task) -> None:
        self.tasks.append(task)
        self.free -= task.job.share
        self._look()

    def leave(self, task: _Task) -> None:
        self.tasks.remove(task)
        self.free = self.free + task.job.share if self.tasks else 1.0
        self._look()

    def _look(self) -> None:
        assert self.node is not None
        self.node.look()


class Simulation:
    """One session on one cluster.

    Args:
        jobs: In the executor's order.
        gpus: Of the cluster.
        room: The executor's rule.
        per_node: GPUs of a node; the last node may have fewer.
        losses: How nodes are lost; none where they are not.
        seed: Of the losses.
    """

    def __init__(
        self,
        jobs: Sequence[Job],
        gpus: int,
        *,
        room: Room,
        per_node: int = 8,
        losses: Losses | None = None,
        seed: int = 0,
    ) -> None:
        self._room, self._losses, self._random = room, losses, random.Random(seed)
        self._tasks = [_Task(job, place) for place, job in enumerate(jobs)]
        self._tests = deque(sorted(self._tasks, key=lambda task: task.job.test))
        self._waiting = list(range(len(jobs)))  # ascending
        self._queues: dict[float, deque[tuple[int, _Task]]] = {}
        self._handed: set[_Task] = set()
        self._shares = 0.0
        self._count = 0
        self._nodes = [
            _Node([_Gpu() for _ in range(min(per_node, gpus - first))])
            for first in range(0, gpus, per_node)
        ]
        for node in self._nodes:
            for gpu in node.gpus:
                gpu.node = node
        self._events: list[tuple[float, int, Callable[[], None], _Gpu | None, int]] = []
        self._now = self._end = self._worked = self._redone = 0.0
        self._lost = self._given_up = 0

    def run(self) -> Outcome:
        """Go through the session from its first case to its last."""
        for node in self._nodes:
            self._plan_loss(node)
        self._hand_out()
        while self._handed or self._waiting:
            self._now, _, act, gpu, version = heapq.heappop(self._events)
            if gpu is None or gpu.version == version:
                act()
                self._hand_out()
        time = self._end * sum(len(node.gpus) for node in self._nodes)
        return Outcome(
            makespan=self._end,
            used=self._worked / time if time else 0.0,
            redone=self._redone,
            losses=self._lost,
            given_up=self._given_up,
        )

    def _at(self, time: float, act: Callable[[], None], gpu: _Gpu | None = None) -> None:
        self._count += 1
        heapq.heappush(
            self._events, (time, self._count, act, gpu, gpu.version if gpu is not None else 0)
        )

    # The executor: longest first, the case that a test waits for before all others.

    def _hand_out(self) -> None:
        while self._tests and self._tests[0].over:
            self._tests.popleft()
        while self._waiting and self._room(len(self._handed), self._shares):
            waited = bisect_left(self._waiting, self._tests[0].place)
            is_there = self._waiting[waited : waited + 1] == [self._tests[0].place]
            task = self._tasks[self._waiting.pop(waited if is_there else 0)]
            self._count += 1
            self._handed.add(task)
            self._shares += task.job.share
            self._queues.setdefault(task.job.share, deque()).append((self._count, task))
        self._place()

    # The cluster: tasks of equal needs one after the other, whichever fits.

    def _place(self) -> None:
        full: set[float] = set()
        while heads := [(queue[0][0], share) for share, queue in self._queues.items()
                        if queue and share not in full]:  # fmt: skip
            share = min(heads)[1]
            gpu = self._fitting(share)
            if gpu is None:
                full.add(share)
                continue
            _, task = self._queues[share].popleft()
            self._advance(gpu)
            gpu.take(task)
            self._plan_end(gpu)

    def _fitting(self, share: float) -> _Gpu | None:
        wanted = share - _TINY
        fitting = [node for node in self._nodes if node.most >= wanted]
        if not fitting:
            return None
        best = min(fitting, key=lambda node: node.taken)
        return min((gpu for gpu in best.gpus if gpu.free >= wanted), key=lambda gpu: gpu.free)

    def _advance(self, gpu: _Gpu) -> None:
        """Let the tasks of a GPU have worked until now."""
        hours = self._now - gpu.since
        gpu.since = self._now
        if gpu.tasks:
            self._worked += hours
            for task in gpu.tasks:
                task.done += hours / len(gpu.tasks)

    def _plan_end(self, gpu: _Gpu) -> None:
        gpu.version += 1
        if gpu.tasks:
            left = min(task.job.hours - task.done for task in gpu.tasks)
            self._at(self._now + max(0.0, left) * len(gpu.tasks), lambda: self._ended(gpu), gpu)

    def _ended(self, gpu: _Gpu) -> None:
        self._advance(gpu)
        for task in [task for task in gpu.tasks if task.job.hours - task.done <= _TINY]:
            gpu.leave(task)
            self._conclude(task)
        self._plan_end(gpu)

    def _conclude(self, task: _Task) -> None:
        task.over = True
        self._end = self._now
        self._take_back(task)

    def _take_back(self, task: _Task) -> None:
        self._handed.discard(task)
        self._shares -= task.job.share

    # Losses.

    def _plan_loss(self, node: _Node) -> None:
        if self._losses is not None:
            until = self._random.expovariate(1 / self._losses.between)
            self._at(self._now + until, lambda: self._lose(node))

    def _lose(self, node: _Node) -> None:
        assert self._losses is not None
        self._lost += 1
        node.up = False
        node.look()
        self._at(self._now + self._losses.away, lambda: self._return(node))
        for gpu in node.gpus:
            self._advance(gpu)
            for task in list(gpu.tasks):
                gpu.leave(task)
                self._start_again(task)
            self._plan_end(gpu)

    def _start_again(self, task: _Task) -> None:
        assert self._losses is not None
        every = self._losses.save_every
        kept = math.floor(task.done / every) * every if every else 0.0
        self._redone += task.done - kept
        further = task.done > task.furthest + _TINY
        task.losses = 1 if further and self._losses.forgets else task.losses + 1
        task.furthest = max(task.furthest, task.done)
        task.done = kept
        if task.losses >= self._losses.most:
            self._given_up += 1
            self._conclude(task)
            return
        self._take_back(task)
        insort(self._waiting, task.place)

    def _return(self, node: _Node) -> None:
        node.up = True
        node.look()
        self._plan_loss(node)
