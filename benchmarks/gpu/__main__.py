"""Everything worth knowing of the suite on one GPU, in one command under ten minutes.

Smoke cases against the bands measured on a CPU, throughput beside a bare loop and timm's, a
roofline, and steps of full-size detectors. No network, no MLflow, no pytest::

    python -m benchmarks.gpu
    python -m benchmarks.gpu --tiny --accelerator cpu --json /tmp/dry.json

A step that fails is told and the others still run; the exit status is then 1.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path

PARTS = ("smoke", "throughput", "roofline", "detection")

# When each part has to start nothing new, as a share of the budget; the smoke cases go last and
# take what the others leave.
_SHARES = {"throughput": 0.4, "roofline": 0.52, "detection": 0.66, "smoke": 1.0}


def parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    """The command line."""
    command = argparse.ArgumentParser(
        prog="python -m benchmarks.gpu",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.add_argument("--accelerator", choices=("cuda", "cpu"), help="cuda where there is one")
    command.add_argument("--precision", choices=("bf16-mixed", "32-true"), default="bf16-mixed")
    command.add_argument("--minutes", type=float, default=9.0, help="nothing new starts after this")
    command.add_argument("--skip", action="append", choices=PARTS, default=[], metavar="PART")
    command.add_argument("--tiny", action="store_true", help="a dry run at tiny sizes")
    command.add_argument("--json", type=Path, default=Path("gpu.json"), metavar="PATH")
    command.add_argument(
        "--models", default="", metavar="NAME,NAME", help="of timm, for throughput and roofline"
    )
    command.add_argument(
        "-k", dest="match", default="", help="only smoke cases with this in a name"
    )
    command.add_argument(
        "--timm-layout", choices=("channels_last", "contiguous"), default="channels_last"
    )
    command.add_argument(
        "--cudnn-benchmark", action="store_true", help="for every loop; the suite leaves it off"
    )
    args = command.parse_args(arguments)
    if args.minutes <= 0:
        command.error("--minutes: a number above 0 is expected")
    if not args.json.parent.is_dir():
        command.error(f"--json: there is no folder {args.json.parent}")
    import torch

    there = torch.cuda.is_available()
    args.accelerator = args.accelerator or ("cuda" if there else "cpu")
    if args.accelerator == "cuda" and not there:
        command.error(
            "--accelerator cuda: no CUDA device is visible to torch; take cpu with --tiny"
        )
    if args.accelerator == "cpu" and not args.tiny:
        command.error("full sizes take hours on a CPU; add --tiny for a dry run")
    return args


def main() -> int:
    """Run the parts, print a table of each and write the file."""
    start = time.perf_counter()
    args = parsed()
    import torch

    from benchmarks.gpu import detection, output, roofline, smoke, throughput
    from benchmarks.gpu.parts import Part
    from benchmarks.gpu.settings import FULL_MODELS, TINY, TINY_MODELS, Settings

    torch.backends.cudnn.benchmark = args.cudnn_benchmark
    models = TINY_MODELS if args.tiny else FULL_MODELS
    if names := [name for name in args.models.split(",") if name]:
        models = {name: models.get(name, 4 if args.tiny else 64) for name in names}
    settings = Settings(
        device=torch.device("cuda", 0) if args.accelerator == "cuda" else torch.device("cpu"),
        precision=args.precision,
        models=models,
        channels_last=args.timm_layout == "channels_last",
        match=args.match,
        **(TINY if args.tiny else {}),
    )
    parts = {
        name: Part(name, start + 60 * args.minutes * share, skipped=name in args.skip)
        for name, share in _SHARES.items()
    }
    runs: dict[str, Callable[[Part], None]] = {
        "throughput": lambda part: throughput.run(part, settings),
        "roofline": lambda part: roofline.run(part, settings, parts["throughput"].rows),
        "detection": lambda part: detection.run(part, settings),
        "smoke": lambda part: smoke.run(part, settings),
    }
    shown = [parts[name] for name in PARTS]
    found = output.record(settings, shown, 0.0)
    for name, part in parts.items():
        if part.skipped:
            continue
        began = time.perf_counter()
        with part.step("running"):
            runs[name](part)
        part.seconds = time.perf_counter() - began
        # after each part, so that a run that is cut short leaves what it has
        found = output.record(settings, shown, time.perf_counter() - start)
        output.write(args.json, found)
    print(f"\n{found['machine']['card']}, {args.precision}")
    print(", ".join(f"{key} {value}" for key, value in found["environment"].items()))
    for part in shown:
        print("\n" + "\n".join(output.table(part)))
    print(f"\n{found['seconds']:.0f} s; figures in {args.json}; {found['status']}")
    return int(found["status"] == "failed")


if __name__ == "__main__":
    sys.exit(main())
