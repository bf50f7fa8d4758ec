"""Plugins and hooks of others that rerun, stop, raise or decide cost no result."""

from __future__ import annotations

import pytest

from tests.store_parts import ledger_of, runs_of

RERUN = """
import pytest
from _pytest.runner import runtestprotocol

@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item, nextitem):
    # what pytest-rerunfailures does: the whole protocol again, on the same item
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    runtestprotocol(item, nextitem=nextitem, log=False)
    item._initrequest()
    for report in runtestprotocol(item, nextitem=nextitem, log=False):
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True
"""


@pytest.mark.slow
@pytest.mark.parametrize("seeds", ["1", "2"])
def test_a_case_that_a_plugin_runs_twice_counts_once(
    seeds: str,
    project: pytest.Pytester,
    own_store: tuple[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from bob.cli import main
    from bob.report.sources import scores_of_ledger

    project.makeconftest(RERUN)
    words = ["-k", "coarse", "--seeds", seeds, "--junitxml", "junit.xml", *own_store]
    result = project.runpytest_inprocess(*words)
    result.assert_outcomes(passed=1)
    assert result.stdout.str().count("pixels_coarse  finetune") == 1
    xml = (project.path / "junit.xml").read_text()
    assert xml.count('name="bob.case"') == 1
    (run,) = runs_of(own_store[1])
    assert run.info.run_id in xml, "the last time counts"
    ledger = ledger_of(project)
    assert len(list(ledger.entries())) == 2 * int(seeds), "the ledger forgets nothing"
    rows = [row for row in scores_of_ledger(ledger) if row.is_score]
    assert len(rows) == int(seeds)
    monkeypatch.chdir(project.path)
    capsys.readouterr()
    assert main(["sync", *own_store]) == 0
    assert "0 results and 0 verdicts sent" in capsys.readouterr().out
    assert [again.info.run_id for again in runs_of(own_store[1])] == [run.info.run_id]


TIMEOUT = """
import signal
import pytest

@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item):
    # what pytest-timeout does with its method "signal"
    def expire(signum, frame):
        pytest.fail("Timeout (>0.1s) from a plugin.")
    signal.signal(signal.SIGALRM, expire)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
"""

# The time starts here: an exception that a signal raises in a callback of the garbage collector or
# in a finaliser is lost, and none runs in a sleep.
SLOW_BACKBONE = """
import signal
import time
from bob.backbones.micro import pooled_pixels as whole

def pooled_pixels(**arguments):
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    time.sleep(60)
    return whole(**arguments)
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(__import__("signal"), "SIGALRM"), reason="no alarms here")
def test_a_time_limit_of_a_plugin_leaves_a_row(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makeconftest(TIMEOUT)
    project.makepyfile(slow_backbone=SLOW_BACKBONE)
    words = ["--backbone", "slow_backbone:pooled_pixels,name=coarse", "--backbone", "pixels_fine"]
    result = project.runpytest_inprocess(*words, *own_store)
    result.assert_outcomes(passed=1, failed=1)
    result.stdout.fnmatch_lines(["*Timeout (>0.1s) from a plugin.*", "coarse *error"])
    result.stdout.fnmatch_lines(["pixels_fine *top1*"])
    states = {run.data.tags["bob.backbone"]: run.info.status for run in runs_of(own_store[1])}
    assert states == {"coarse": "FAILED", "pixels_fine": "FINISHED"}
    failures = [entry.result.failure for entry in ledger_of(project).entries()]
    (failure,) = [failure for failure in failures if failure is not None]
    assert failure.kind == "stopped"
    assert "Timeout" in failure.message


def test_an_alarm_waits_while_a_record_is_written() -> None:
    import signal

    from bob import interrupts

    class Expired(Exception):
        pass

    def expire(signum: int, frame: object) -> None:
        raise Expired

    def write() -> None:
        with interrupts.held():
            with interrupts.held():
                signal.raise_signal(signal.SIGALRM)
            done.append("written")

    before = signal.signal(signal.SIGALRM, expire)
    done: list[str] = []
    try:
        with pytest.raises(Expired):
            write()
        assert done == ["written"]
        assert signal.getsignal(signal.SIGALRM) is expire
    finally:
        signal.signal(signal.SIGALRM, before)


@pytest.mark.slow
def test_a_hook_that_raises_costs_nothing(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makepyfile(
        other="def pytest_bob_evaluated(evaluation): print('other', evaluation.case)"
    )
    project.makeconftest(
        """
        pytest_plugins = ["other"]

        def pytest_bob_evaluated(evaluation):
            raise RuntimeError("my tracker is down \\x1b[31m")
        """
    )
    words = ["-k", "coarse", "--junitxml", "junit.xml", "-rP", *own_store]
    result = project.runpytest_inprocess(*words)
    result.assert_outcomes(passed=1, warnings=2)
    result.stdout.fnmatch_lines(["*pytest_bob_evaluated of *conftest.py raised RuntimeError: my*"])
    result.stdout.fnmatch_lines(["other *"])
    assert 'name="bob.mlflow_run"' in (project.path / "junit.xml").read_text()
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_hook_may_decide_and_the_record_stands(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makeconftest(
        """
        import pytest

        def pytest_bob_evaluated(evaluation):
            pytest.fail("my own gate")
        """
    )
    result = project.runpytest_inprocess("-k", "coarse", *own_store)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["*my own gate*", "pixels_coarse *top1*"])
    (run,) = runs_of(own_store[1])
    assert run.info.status == "FINISHED"


@pytest.mark.slow
def test_a_new_reference_is_told_although_its_test_runs_twice(
    project: pytest.Pytester, own_store: tuple[str, str]
) -> None:
    project.makeconftest(RERUN)
    words = ["-k", "coarse", "--bands", "new", "--seeds", "2", *own_store]
    result = project.runpytest_inprocess(*words)
    result.stdout.fnmatch_lines(["*references written*", "pixels_coarse finetune/digits: 2 seeds"])
    assert result.stdout.str().count("pixels_coarse  finetune") == 1
    assert {run.info.status for run in runs_of(own_store[1])} == {"FINISHED"}
