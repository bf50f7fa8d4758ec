"""How long a whole matrix takes on a cluster, simulated with the rules of ``--executor=ray``.

    python -m benchmarks.schedule
    python -m benchmarks.schedule --hours-between-losses 200 --seed 7
    python -m benchmarks.schedule --scale lite --gpu "RTX 3090" --gpus 1 2 4

Every case of a scale's own backbones runs once, for the hours that the plan estimates and with the
share of a GPU that the executor asks for; a case of unknown cost takes the mean of its task. Each
extracts its own features. Order, shares, what is handed out and what is given up come from
``bob.executors.placing``; ``benchmarks.cluster_model`` says how a cluster runs them. Nodes of eight
GPUs are lost at random. Values with losses are means over a few draws of them.

Columns: ``bound`` is what no order can undercut, the longest case or all of them shared out evenly;
``makespan`` the hours until the last case has ended; ``used`` the GPUs' time in which they worked;
``redone`` the GPU-hours that were lost with nodes; ``given up`` the cases that lost their node
three times without coming further than ever, which a makespan below the bound lacks.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from statistics import fmean

from benchmarks.cluster_model import Job, Losses, Outcome, Room, Simulation, bound
from bob.case import Case, Context
from bob.catalog import load_catalog
from bob.cost.needs import needed
from bob.cost.order import cheapest_first
from bob.cost.table import DEFAULT_GPU
from bob.executors import Submission
from bob.executors.placing import gpu_share, has_room, order_of
from bob.plan import Plan, Selection
from bob.protocols import PROTOCOLS
from bob.tabular import aligned

GPUS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
PER_NODE = 8
_CORES = 8
"""Of a node for each of its GPUs; a case takes one."""
_SAVE_MINUTES = 5.0
_DRAWS = 3


@dataclass(frozen=True)
class Planned:
    """A case of the matrix.

    Attributes:
        hours: Estimated, or the mean of the task where nothing tells.
        test: Its place among pytest's tests.
    """

    submission: Submission
    hours: float
    test: int


Order = Callable[[Submission], tuple[object, ...]]


def matrix(scale: str, gpu: str) -> list[Planned]:
    """Every case of a scale's own backbones and tasks, in pytest's order."""
    plan = Plan(load_catalog(), Selection(scale=scale))
    tasks = {name: cases for name in PROTOCOLS if (cases := plan.cases(name))}
    found: list[Planned] = []
    for name in cheapest_first(tasks):
        found += _of_task(tasks[name], gpu, first=len(found))
    return found


def _of_task(cases: Sequence[Case], gpu: str, *, first: int) -> list[Planned]:
    needs = [needed(case, gpu) for case in cases]
    mean = fmean([need.hours for need in needs if need.hours] or [0.0])
    return [
        Planned(Submission(str(place), case, Context(), need=need), need.hours or mean, place)
        for place, (case, need) in enumerate(zip(cases, needs, strict=True), start=first)
    ]


def jobs_of(planned: Sequence[Planned], order: Order = order_of) -> list[Job]:
    """The cases as the cluster sees them, in the executor's order."""
    ordered = sorted(planned, key=lambda each: order(each.submission))
    return [Job(each.hours, gpu_share(each.submission.need), each.test) for each in ordered]


def executors_room(gpus: int) -> Room:
    """The executor's rule on a cluster of so many GPUs."""
    nodes = -(-gpus // PER_NODE)
    return partial(has_room, slots=_CORES * gpus, gpus=gpus, nodes=nodes)


def mean_outcome(
    jobs: Sequence[Job], gpus: int, losses: Losses | None, *, seed: int, room: Room | None = None
) -> Outcome:
    """The mean over the draws of the losses; one run where there are none."""
    found = [
        Simulation(
            jobs,
            gpus,
            room=room or executors_room(gpus),
            per_node=PER_NODE,
            losses=losses,
            seed=seed + draw,
        ).run()
        for draw in range(_DRAWS if losses else 1)
    ]
    return Outcome(
        makespan=fmean(each.makespan for each in found),
        used=fmean(each.used for each in found),
        redone=fmean(each.redone for each in found),
        losses=fmean(each.losses for each in found),
        given_up=fmean(each.given_up for each in found),
    )


def sizes_table(
    jobs: Sequence[Job], sizes: Sequence[int], losses: Sequence[Losses | None], *, seed: int
) -> list[str]:
    """A line for each size of the cluster and each way of losing nodes."""
    rows = [["GPUs", "nodes lost", "bound", "makespan", "ratio", "used", "redone", "given up"]]
    for gpus in sizes:
        least = bound(jobs, gpus)
        for how in losses:
            found = mean_outcome(jobs, gpus, how, seed=seed)
            rows.append([f"{gpus}", _how(how, found), f"{least:,.0f}", *_cells(found, least)])
    return _right(rows)


def rules_table(
    planned: Sequence[Planned], sizes: Sequence[int], losses: Losses, *, seed: int
) -> list[str]:
    """What each of the executor's rules is worth, with checkpoints."""
    rows = [["GPUs", "rules", "makespan", "ratio", "used", "redone", "given up"]]
    jobs = jobs_of(planned)
    for gpus in sizes:
        nodes = -(-gpus // PER_NODE)
        # Every GPU counts as many: room is then told by the cores alone.
        by_cores = partial(has_room, slots=_CORES * gpus, gpus=_CORES * gpus, nodes=nodes)
        least = bound(jobs, gpus)
        for name, found in {
            "the executor's": mean_outcome(jobs, gpus, losses, seed=seed),
            "strictly longest first": mean_outcome(
                jobs_of(planned, _strictly), gpus, losses, seed=seed
            ),
            "a whole GPU each": mean_outcome(
                [replace(job, share=1.0) for job in jobs], gpus, losses, seed=seed
            ),
            "handed out by cores alone": mean_outcome(jobs, gpus, losses, seed=seed, room=by_cores),
            "every loss counts": mean_outcome(
                jobs, gpus, replace(losses, forgets=False), seed=seed
            ),
        }.items():
            rows.append([f"{gpus}", name, *_cells(found, least)])
    return _right(rows)


def _strictly(submission: Submission) -> tuple[object, ...]:
    return (-((submission.need and submission.need.hours) or 0.0),)


def _how(losses: Losses | None, found: Outcome) -> str:
    if losses is None:
        return "none"
    saved = "checkpoints" if losses.save_every else "no checkpoints"
    return f"{found.losses:.0f}, {saved}"


def _cells(found: Outcome, least: float) -> list[str]:
    return [
        f"{found.makespan:,.0f}",
        f"{found.makespan / least:.2f}",
        f"{found.used:.0%}",
        f"{found.redone:,.0f}",
        f"{found.given_up:.1f}".removesuffix(".0"),
    ]


def _right(rows: list[list[str]]) -> list[str]:
    """Numbers to the right; the second column is words."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return aligned(
        [
            [cell if column == 1 else cell.rjust(widths[column]) for column, cell in enumerate(row)]
            for row in rows
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", default="full")
    parser.add_argument("--gpu", default=DEFAULT_GPU, help="GPU of the estimates")
    parser.add_argument("--gpus", type=int, nargs="+", default=list(GPUS), help="clusters' sizes")
    parser.add_argument("--hours-between-losses", type=float, default=720.0, help="of one node")
    parser.add_argument("--hours-away", type=float, default=1.0, help="until a lost node is back")
    parser.add_argument("--seed", type=int, default=0, help="of the losses")
    args = parser.parse_args(arguments)
    planned = matrix(args.scale, args.gpu)
    jobs = jobs_of(planned)
    hours = [job.hours for job in jobs]
    unknown = sum(each.submission.need is None or each.submission.need.hours is None
                  for each in planned)  # fmt: skip
    bare = Losses(between=args.hours_between_losses, away=args.hours_away)
    saved = replace(bare, save_every=_SAVE_MINUTES / 60)
    print(
        f"scale {args.scale}: {len(jobs):,} cases, {sum(hours):,.0f} GPU-hours on {args.gpu}, the "
        f"longest {max(hours):,.0f}; {unknown} of unknown cost\n"
        f"nodes of {PER_NODE} GPUs, each lost every {bare.between:g} hours on average and back "
        f"after {bare.away:g}; checkpoints every {_SAVE_MINUTES:g} minutes; seed {args.seed}\n"
    )
    print("\n".join(sizes_table(jobs, args.gpus, (None, bare, saved), seed=args.seed)))
    print("\nThe executor's rules and others, nodes lost, with checkpoints:\n")
    middle = [gpus for gpus in args.gpus if 16 <= gpus <= 64]
    print("\n".join(rules_table(planned, middle or args.gpus, saved, seed=args.seed)))


if __name__ == "__main__":
    main()
