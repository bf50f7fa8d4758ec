"""Interrupts held back, raised late, and swallowed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from types import FrameType, TracebackType

import pytest

from bob import interrupts
from bob.closing import Closing, with_lines

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@pytest.fixture
def installed() -> Iterator[None]:
    # a job in the background inherits that some are ignored, and ``nohup`` ignores another
    former = {number: signal.signal(number, signal.SIG_DFL) for number in SIGNALS}
    signal.signal(signal.SIGINT, signal.default_int_handler)
    restore = interrupts.install()
    yield
    restore()
    for number, handler in former.items():
        signal.signal(number, handler)


def test_one_on_an_instruction_without_a_line_can_be_shown() -> None:
    """A signal may meet any instruction, and some have no line."""

    def closes() -> FrameType:
        with suppress(ValueError):
            return sys._getframe()

    frame = closes()
    (place, *_) = (start for start, _, line in frame.f_code.co_lines() if line is None)
    nowhere = TracebackType(None, frame, place, -1)
    assert nowhere.tb_lineno is None
    try:
        raise KeyboardInterrupt
    except KeyboardInterrupt as error:
        raised = error.__traceback__
        assert raised is not None
        whole = TracebackType(nowhere, raised.tb_frame, raised.tb_lasti, raised.tb_lineno)
        excinfo = pytest.ExceptionInfo.from_exception(error.with_traceback(whole))
    with pytest.raises(TypeError):
        excinfo.getrepr(funcargs=True)
    Closing(lambda config: None).pytest_keyboard_interrupt(excinfo)
    shown = str(excinfo.getrepr(funcargs=True))
    assert "def closes() -> FrameType:" in shown
    sound = with_lines(excinfo.value.__traceback__)
    assert sound is excinfo.value.__traceback__


@pytest.mark.parametrize("how", SIGNALS)
def test_an_interrupt_is_raised_where_nothing_holds_it(installed: None, how: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), how)


def test_one_that_is_held_is_raised_behind_the_outermost_block(installed: None) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts.held():  # noqa: PT012
        with interrupts.held():
            os.kill(os.getpid(), signal.SIGTERM)
            reached.append("inner")
        reached.append("outer")
    assert reached == ["inner", "outer"]
    with interrupts.held():
        reached.append("what closes the record meets it no second time")
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


def test_more_of_them_in_quick_succession_are_one(installed: None) -> None:
    reached = []
    with pytest.raises(KeyboardInterrupt), interrupts.held():  # noqa: PT012
        for how in (signal.SIGINT, signal.SIGINT, signal.SIGTERM):
            os.kill(os.getpid(), how)
        reached.append("all of the block")
    with interrupts.held():
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGHUP)
    reached.append("what is done about it")
    assert reached == ["all of the block", "what is done about it"]
    assert interrupts.hung_up()


def test_a_later_one_is_raised_again(installed: None, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    monkeypatch.setattr(interrupts, "_SAME", 0.0)  # the first was swallowed, and time has passed
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_what_hangs_while_it_is_held_can_be_left(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    reached = []
    monkeypatch.setattr(interrupts, "_ENOUGH", 0.05)
    with pytest.raises(KeyboardInterrupt), interrupts.held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.1)
        reached.append("first")
        os.kill(os.getpid(), signal.SIGINT)
        reached.append("second")
    assert reached == ["first"]


def test_none_is_raised_once_the_record_is_being_closed(installed: None) -> None:
    restore = interrupts.install()
    interrupts.hold_from_here()
    with interrupts.held():
        os.kill(os.getpid(), signal.SIGTERM)
    os.kill(os.getpid(), signal.SIGINT)
    assert interrupts.arrived()
    restore()
    assert not interrupts.arrived()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_worker_can_be_ended_while_its_parent_holds(installed: None) -> None:
    with interrupts.held():
        child = os.fork()
        if child == 0:
            try:
                os.kill(os.getpid(), signal.SIGTERM)
            except KeyboardInterrupt:
                os._exit(7)
            os._exit(0)
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 7


def test_sigterm_asks_what_can_save_and_is_raised_when_that_has_answered(installed: None) -> None:
    owner = object()
    interrupts.saves(owner, True)
    os.kill(os.getpid(), signal.SIGTERM)
    assert interrupts.asked()
    interrupts.check()
    with pytest.raises(KeyboardInterrupt):
        interrupts.answered()
    assert interrupts.terminated()
    assert not interrupts.asked()
    interrupts.answered()


def test_ctrl_c_does_not_wait_for_what_can_save(installed: None) -> None:
    interrupts.saves(installed, True)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)
    assert not interrupts.terminated()


def test_sigterm_has_arrived_when_nothing_is_left_that_could_save(installed: None) -> None:
    interrupts.saves(installed, True)
    os.kill(os.getpid(), signal.SIGTERM)
    interrupts.saves(installed, False)
    assert interrupts.terminated()
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


def test_sigterm_that_nothing_answers_is_raised_after_a_while(
    installed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupts, "GRACE", 0.2)
    interrupts.saves(installed, True)
    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(30)
    assert 0.2 <= time.monotonic() - start < 20
    assert interrupts.terminated()


def test_an_ended_session_leaves_no_interrupt_to_the_next(installed: None) -> None:
    restore = interrupts.install()
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGTERM)
    restore()
    interrupts.check()


def test_an_error_in_the_block_is_not_hidden(installed: None) -> None:
    with pytest.raises(ValueError, match="broken"), interrupts.held():  # noqa: PT012
        os.kill(os.getpid(), signal.SIGINT)
        raise ValueError("broken")
    with pytest.raises(KeyboardInterrupt):
        interrupts.check()


def test_handlers_come_back_and_an_ignored_signal_stays_ignored() -> None:
    former = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        restore = interrupts.install()
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        assert signal.getsignal(signal.SIGTERM) is not former[signal.SIGTERM]
        restore()
        assert signal.getsignal(signal.SIGTERM) is former[signal.SIGTERM]
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def test_threads_without_handlers_are_left_alone() -> None:
    former = {number: signal.getsignal(number) for number in SIGNALS}
    worker = threading.Thread(target=lambda: interrupts.install()())
    worker.start()
    worker.join()
    assert {number: signal.getsignal(number) for number in SIGNALS} == former


@pytest.mark.slow
def test_an_interrupt_that_a_finaliser_swallows_ends_the_session_all_the_same(
    project: pytest.Pytester,
) -> None:
    project.makepyfile(
        deaf_net="""
        import os, signal
        from torch import nn

        class Deaf:
            def __del__(self):
                os.kill(os.getpid(), signal.SIGINT)

        class Net(nn.Sequential):
            def forward(self, images):
                Deaf()
                return super().forward(images)

        def make():
            return Net(nn.AdaptiveAvgPool2d(4), nn.Flatten())
        """
    )
    ended = subprocess.run(
        [
            sys.executable, "-m", "pytest", "--backbone", "deaf_net:make,name=deaf",
            "--backbone", "pixels_coarse", "--seeds", "1",
        ],
        cwd=project.path, capture_output=True, text=True, timeout=120,
        # jobs that a shell runs in the background inherit that SIGINT is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    assert ended.returncode == pytest.ExitCode.INTERRUPTED, ended.stdout
    assert "Exception ignored in" in ended.stderr
