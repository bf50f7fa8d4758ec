"""The batch script under a Slurm of this test's own: a controller and two nodes in one machine."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

DAEMONS = ("slurmctld", "slurmd")
COMMANDS = ("sbatch", "scancel", "scontrol", "sinfo", "squeue")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not all(map(shutil.which, (*DAEMONS, *COMMANDS))),
        reason="needs slurmctld, slurmd and slurm-client",
    ),
]

ROOT = Path(__file__).parents[1]
SCRIPT = ROOT / "examples" / "slurm" / "bob.sbatch"

CONFIGURATION = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/none
CredType=cred/none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
MpiDefault=none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
SlurmdParameters=config_overrides
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
NodeName=node1 NodeHostname={host} NodeAddr=127.0.0.1 Port={first} CPUs=2
NodeName=node2 NodeHostname={host} NodeAddr=127.0.0.1 Port={second} CPUs=2
PartitionName=main Nodes=node1,node2 Default=YES State=UP
"""


def free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for held in sockets:
            held.bind(("127.0.0.1", 0))
        return [held.getsockname()[1] for held in sockets]


def wait_for(happens: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    until = time.monotonic() + seconds
    while not happens():
        assert time.monotonic() < until, what
        time.sleep(0.2)


@contextmanager
def daemon(folder: Path, name: str, *words: str, environment: dict[str, str]) -> Iterator[None]:
    with (folder / f"{name}{''.join(words)}.log").open("w") as log:
        process = subprocess.Popen(
            [name, "-D", *words], env=environment, stdout=log, stderr=subprocess.STDOUT
        )
    try:
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(60)


class Cluster:
    """A running Slurm; jobs are sent from a folder of their own.

    Args:
        folder: Of the jobs.
        environment: Names the configuration, for Slurm's commands.
    """

    def __init__(self, folder: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment

    def ask(self, *command: str) -> str:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=True, text=True,
            stdout=subprocess.PIPE,
        ).stdout.strip()  # fmt: skip

    def state(self, job: str) -> tuple[str, str]:
        """State and number of restarts of one element."""
        told = dict(
            word.split("=", 1)
            for word in self.ask("scontrol", "--oneliner", "show", "job", job).split()
            if "=" in word
        )
        return told["JobState"], told["Restarts"]

    def is_empty(self) -> bool:
        """Whether no job is left; cancels what is."""
        left = self.ask("squeue", "--noheader", "--format=%A").split()
        if left:
            self.ask("scancel", "--quiet", *left)
        return not left


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    controller, first, second = free_ports(3)
    etc, jobs = tmp_path / "etc", tmp_path / "jobs of a test"
    etc.mkdir()
    jobs.mkdir()
    (etc / "state").mkdir()
    (etc / "slurm.conf").write_text(
        CONFIGURATION.format(
            host=socket.gethostname().split(".")[0], controller=controller, first=first,
            second=second, folder=etc, user=os.getuid(),
        )
    )  # fmt: skip
    programs = tmp_path / "programs"
    programs.mkdir()
    for name, module in (("bob", "bob.cli"), ("pytest", "pytest")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m {module} "$@"\n')
        program.chmod(0o755)
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SLURM_", "MLFLOW_"))
    }
    environment = {
        **kept, "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT),
        "SLURM_CONF": str(etc / "slurm.conf"), "SCALE": "smoke", "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    running = Cluster(jobs, environment)
    with ExitStack() as stack:
        stack.enter_context(daemon(etc, "slurmctld", environment=environment))
        for node in ("node1", "node2"):
            stack.enter_context(daemon(etc, "slurmd", "-N", node, environment=environment))
        states = ("sinfo", "--noheader", "--Node", "--format=%T")
        wait_for(lambda: running.ask(*states).split() == ["idle", "idle"], "nodes that are idle")
        yield running
        wait_for(running.is_empty, "jobs that end")


def test_an_element_goes_back_by_itself_and_a_cancelled_one_does_not(cluster: Cluster) -> None:
    """The last element has the number of the whole array: the others must not notice."""
    array = cluster.ask(
        "sbatch", "--parsable", "--cpus-per-task=1", "--gpus-per-node=0", "--array=2-5:3",
        "--job-name=two words", "--output=%a.out", str(SCRIPT), "-k", "resnet_micro and digits",
        "-m", "finetune",
    )  # fmt: skip
    first, last = f"{array}_2", f"{array}_5"
    ledger = cluster.folder / "mlruns" / "ledger"
    wait_for(lambda: len(list(ledger.glob("*/session.json"))) == 2, "sessions of both elements")
    time.sleep(1.0)  # their cases begin

    cluster.ask("scancel", "--signal=TERM", "--batch", last)
    wait_for(lambda: cluster.state(last) == ("PENDING", "1"), "the last element in the queue")
    assert cluster.state(first) == ("RUNNING", "0")

    cluster.ask("scancel", first)
    wait_for(lambda: cluster.state(first)[0] != "COMPLETING", "an end of the first element")
    assert cluster.state(first) == ("CANCELLED", "0")
    assert cluster.state(last) == ("PENDING", "1")
    for element in (2, 5):
        output = (cluster.folder / f"{element}.out").read_text()
        assert "bob: scale smoke, 4 backbones" in output
        assert "battle of the backbones" in output  # the session has ended in order
        assert ("goes back into the queue" in output) == (element == 5), output
    assert len(list(ledger.glob("*/summary.json"))) == 2
