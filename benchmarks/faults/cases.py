"""Backbones that crash, hang, end the process or spoil what it shares, each in its own process."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest

from benchmarks.faults.project import PATIENCE_SECONDS, Project, ended
from benchmarks.faults.tally import Tally

_BACKBONES = """
import ctypes
import os
import subprocess
import sys
import time

from torch import nn


def net():
    return nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(48, 32))


def segfault():
    ctypes.string_at(0)


def c_exit():
    ctypes.CDLL(None).exit(0)


def killed():
    ctypes.CDLL(None).kill(ctypes.CDLL(None).getpid(), 9)


def hang():
    time.sleep(10_000)


def stopped():
    ctypes.CDLL(None).kill(ctypes.CDLL(None).getpid(), 19)


def child():
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)", "left-behind"])
    return net()


def spoilt_loss():
    from torch.nn import functional

    functional.cross_entropy = lambda logits, *args, **kwargs: logits.sum() * 0
    return net()


def spoilt_suite():
    import bob.tasks.finetune as runner

    former = runner.classification_metrics
    runner.classification_metrics = lambda *args: dict.fromkeys(former(*args), 0.0)
    return net()
"""
_ENDS = ("segfault", "c_exit", "killed", "hang", "stopped")
_SPOIL = ("child", "spoilt_loss", "spoilt_suite")


def cases(folder: Path, tries: int, draw: random.Random) -> Tally:
    """Some of them in a random order, and a good one behind each, which has to score as alone."""
    tally = Tally("rude cases")
    alone = _scores(_run(folder / "alone", ["net"]).stdout)["net"]
    for number in range(tries):
        rude = draw.sample((*_ENDS, *_SPOIL), 2)
        done = _run(folder / f"rude-{number}", [rude[0], "net", rude[1]])
        tally.tries += 1
        what = f"try {number}, {' and '.join(rude)}"
        scores = _scores(done.stdout)
        has_to_fail = any(name in _ENDS for name in rude)
        if done.returncode == -9:
            tally.hung += 1
        elif done.returncode not in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED):
            tally.bad(f"{what}: status {done.returncode}: {done.stdout[-300:]}")
        elif has_to_fail and done.returncode == 0:
            tally.bad(f"{what}: passed")
        if scores.get("net") != alone:
            tally.bad(f"{what}: a good backbone scores {scores.get('net')}, alone {alone}")
        if _left_behind():
            tally.bad(f"{what}: a process was left behind")
    return tally


def _run(folder: Path, names: list[str]) -> subprocess.CompletedProcess[str]:
    project = Project(folder)
    (folder / "rude.py").write_text(_BACKBONES)
    words = [f"--backbone=rude:{name},name={name}" for name in names]
    process = project.start("--executor=process", "--case-timeout=20s", *words, seeds=1)
    return ended(process, 3 * PATIENCE_SECONDS)


def _scores(output: str) -> dict[str, str]:
    """The scores of the table, by backbone."""
    return dict(re.findall(r"^(\w+) +finetune +digits +top1 ([\d.]+)", output, re.MULTILINE))


def _left_behind() -> bool:
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if b"left-behind" in path.read_bytes():
                return True
        except OSError:
            continue
    return False
