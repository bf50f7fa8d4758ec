"""A session whose Ray cluster loses its head ends in order, and the next one goes on."""

from __future__ import annotations

import importlib.util
import time

import pytest

from tests.ray_parts import running_cluster
from tests.resume_parts import start
from tests.store_parts import runs_of, statuses

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs Ray"),
]

SHORT = """
from bob.executors import ray_head

ray_head.HEAD_SECONDS = 3.0
"""
HANGING = "--backbone=tests.rude_factories:hangs,name=slow"


def test_a_lost_head_ends_the_session_and_keeps_what_it_had(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makeconftest(SHORT)
    coarse = ("--backbone=pixels_coarse", "--seeds=1")
    with running_cluster(1) as cluster:
        address = cluster.address
        words = ["--executor=ray", f"--ray-address={address}", "--case-timeout=300s"]
        session = start(project, own_store[1], *coarse, HANGING, *words)
        until = time.monotonic() + 120
        while statuses(project.path / "mlflow.db").get("slow") != "RUNNING":
            assert time.monotonic() < until
            assert session.poll() is None, session.communicate()
            time.sleep(0.2)
        cluster.head_node.kill_all_processes(check_alive=False, allow_graceful=False)
        out, _ = session.communicate(timeout=100)
    assert session.returncode == pytest.ExitCode.INTERRUPTED, out
    assert f"The head of the Ray cluster at {address} has not answered" in out
    assert "--resume" in out
    assert "coarse" in out
    states = {run.data.tags["bob.backbone"]: run.info.status for run in runs_of(own_store[1])}
    assert states == {"pixels_coarse": "FINISHED", "slow": "KILLED"}
    again = start(project, own_store[1], *coarse, "--resume")
    out, _ = again.communicate(timeout=100)
    assert again.returncode == 0, out
    assert "1 of 1 results are reused" in out
