"""Make faults of every kind, many times, on real sessions, stores, servers and files.

::

    python -m benchmarks.faults                       # every group
    python -m benchmarks.faults interrupts kills --tries 50
    python -m benchmarks.faults --kills 50            # of the group kills-and-resume alone

Prints for each group how often it was tried, and what was lost, duplicated, hung or wrong. The exit
status is 1 unless all of these are zero.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from benchmarks.faults import cases, ends, full_places, inputs, places, resuming, servers
from benchmarks.faults.tally import Tally
from bob.tabular import aligned

Group = Callable[[Path, int, random.Random], Tally]

GROUPS: dict[str, Group] = {
    "interrupts": ends.interrupts,
    "kills": ends.kills,
    "kills-and-resume": resuming.kills_and_resumes,
    "ray-kills": resuming.ray_kills,
    "first-store": ends.first_stores,
    "hanging-server": servers.servers,
    "full-disk": servers.disks,
    "full-places": full_places.full_places,
    "root-folder": places.roots,
    "references": places.references,
    "feature-store": places.features,
    "secrets": places.secrets,
    "files-of-others": inputs.inputs,
    "rude-cases": cases.cases,
}


def main() -> int:
    """Command line."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.faults", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    command.add_argument("groups", nargs="*", metavar="GROUP", help=", ".join(GROUPS))
    command.add_argument("--tries", type=int, default=12, help="of each group that draws (12)")
    command.add_argument("--seed", type=int, default=0, help="of moments and kinds (0)")
    command.add_argument("--kills", type=int, metavar="N", help="kills-and-resume with N kills")
    args = command.parse_args()
    if args.kills is not None:
        args.groups, args.tries = ["kills-and-resume"], args.kills
    unknown = [name for name in args.groups if name not in GROUPS]
    if unknown:
        command.error(f"no group {unknown[0]!r}; there are {', '.join(GROUPS)}")
    tallies = []
    with tempfile.TemporaryDirectory(prefix="bob-faults-") as folder:
        for name in args.groups or GROUPS:
            began = time.monotonic()
            place = Path(folder) / name
            place.mkdir()
            tally = GROUPS[name](place, args.tries, random.Random(f"{args.seed} {name}"))
            tallies.append(tally)
            print(f"{name}: {tally.tries} tries in {time.monotonic() - began:.0f} s", flush=True)
            for note in tally.notes:
                print(f"  {note}", flush=True)
    header = ("fault", "tries", "lost", "duplicated", "hung", "wrong")
    print("\n".join(aligned([header, *(tally.row() for tally in tallies)])))
    return 0 if all(tally.clean for tally in tallies) else 1


if __name__ == "__main__":
    sys.exit(main())
