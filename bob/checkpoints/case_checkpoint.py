"""What a running case writes now and then, and finds again when it is run once more."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

from bob import interrupts
from bob.checkpoints import path_of, remove, remove_unfinished, unfinished_path
from bob.checkpoints.encoding import State
from bob.checkpoints.file import Damaged, Facts, read, write
from bob.distributed.group import Group
from bob.errors import first_line


@dataclass
class _Run:
    """One run of a case and its file.

    Attributes:
        path: The file; none where nothing is written.
        facts: What has to be the same for a file to be taken up.
        seconds: Least time between two writes.
        remarks: Takes what went wrong, a sentence each.
        found: States of the file that was taken up, until somebody asks for them.
        kept: States that go into every file from now on.
        live: What gives the states of what runs.
        group: Processes that run the case; the first one writes what all of them give.
    """

    path: Path | None = None
    unfinished: Path = field(default_factory=Path)
    facts: Facts = field(default_factory=dict)
    seconds: float = 0.0
    remarks: list[str] = field(default_factory=list)
    found: State = field(default_factory=dict)
    kept: State = field(default_factory=dict)
    live: dict[str, Callable[[], State]] = field(default_factory=dict)
    group: Group = field(default_factory=Group)
    last: float = field(default_factory=time.monotonic)
    written: str = ""

    def write(self) -> None:
        """Write every state; what goes wrong is remarked, and costs nothing else."""
        assert self.path is not None
        try:
            state = {**self.kept, **{name: give() for name, give in self.live.items()}}
            if self.group.rank:
                return
            write(self.path, state, self.facts, unfinished=self.unfinished)
            self.written = _now()
        except (OSError, TypeError, ValueError, RuntimeError, MemoryError) as error:
            self._remark(error)
        finally:
            self.last = time.monotonic()

    def _remark(self, error: Exception) -> None:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        why = why or type(error).__name__
        stands = f"from {self.written} stays" if self.written else "is none yet"
        text = f"a checkpoint could not be written in {self.unfinished.parent} ({why})"
        if not any(remark.startswith(text) for remark in self.remarks):
            self.remarks.append(f"{text}; the case went on, the last one {stands}")


@dataclass(frozen=True)
class CaseCheckpoint:
    """The checkpoint of one run of a case, as a runner sees it.

    Whatever runs longer than minutes registers what it is made of (``live``), says where its state
    is whole (``step``), and asks what it was when it was stopped (``found``). What has ended leaves
    its result with ``keep``. States are plain data: see ``bob.checkpoints.encoding``.

    By default nothing is written or found.
    """

    _run: _Run = field(default_factory=_Run)
    _prefix: str = ""

    @classmethod
    def open(
        cls,
        folder: Path,
        run_key: str,
        *,
        facts: Facts,
        minutes: float,
        resume: bool,
        remarks: list[str],
    ) -> CaseCheckpoint:
        """The checkpoint of a run.

        Args:
            folder: Where files of running cases are.
            run_key: Names the file.
            facts: What has to be the same for a file to be taken up, such as versions.
            minutes: Least time between two writes; 0 for none.
            resume: Whether a file that is there is taken up; otherwise it is removed.
            remarks: Takes a sentence where one is not taken up, or cannot be written.
        """
        path = path_of(folder, run_key)
        run = _Run(
            path=path,
            unfinished=unfinished_path(folder, run_key),
            facts=facts,
            seconds=60 * minutes,
            remarks=remarks,
        )
        if not resume:
            remove(folder, run_key)
        else:
            remove_unfinished(folder, run_key)
            run.found = _taken_up(path, facts, remarks)
        return cls(run)

    def among(self, group: Group) -> CaseCheckpoint:
        """The same one, written by the first of several processes that run the case."""
        return CaseCheckpoint(replace(self._run, group=group), self._prefix)

    @contextmanager
    def part(self, name: str) -> Iterator[CaseCheckpoint]:
        """The checkpoint of a part, such as a draw; names in it are its own.

        When the block has ended well, nothing of the part is kept: whoever opened it keeps what
        came out.
        """
        inner = replace(self, _prefix=f"{self._prefix}{name}/")
        yield inner
        for kept in [key for key in self._run.kept if key.startswith(inner._prefix)]:
            del self._run.kept[kept]

    def found(self, name: str) -> State | None:
        """The state of this name in the file that was taken up; once, then none."""
        state: State | None = self._run.found.pop(self._prefix + name, None)
        return state

    def refuse(self, why: str) -> None:
        """Say that a state that was found does not fit, and that what it was of begins anew."""
        self._run.remarks.append(f"the checkpoint could not be taken up: {why}; it began anew")

    def keep(self, name: str, state: State) -> None:
        """Have a state written with everything from now on; it must not change any more."""
        self._run.kept[self._prefix + name] = state

    @contextmanager
    def live(self, name: str, give: Callable[[], State]) -> Iterator[None]:
        """Have the state of what runs in the block written with everything.

        Args:
            name: What ``found`` is asked for.
            give: Called in ``step``.
        """
        key, live = self._prefix + name, self._run.live
        if self._run.path is None:
            yield
            return
        live[key] = give
        interrupts.saves(self._run, True)
        try:
            yield
        finally:
            del live[key]
            if not live:
                interrupts.saves(self._run, False)

    def step(self) -> float:
        """Every state is whole: write them if it is time, or if SIGTERM asks for it.

        Returns:
            Seconds that it took.

        Raises:
            KeyboardInterrupt: SIGTERM has asked, and they have been written.
        """
        run = self._run
        if run.path is None:
            return 0.0
        start = time.monotonic()
        asked = interrupts.asked()
        if not run.group.first_says(asked or start - run.last >= run.seconds):
            return 0.0
        run.write()
        if asked:
            interrupts.answered()
        return time.monotonic() - start


def _taken_up(path: Path, facts: Facts, remarks: list[str]) -> State:
    """The states of a file; none, and why not, where it is not of the same kind."""
    try:
        state, theirs = read(path)
    except FileNotFoundError:
        return {}
    except Damaged as error:
        remarks.append(f"the checkpoint {path} is damaged ({error}); the case began anew")
        return {}
    except OSError as error:
        why = error.strerror or first_line(error)
        remarks.append(f"the checkpoint {path} cannot be read ({why}); the case began anew")
        return {}
    other = [
        f"{name} {theirs.get(name, 'unknown')} and not {text}"
        for name, text in facts.items()
        if theirs.get(name) != text
    ]
    if other:
        remarks.append(f"the checkpoint {path} is of {', '.join(other)}; the case began anew")
        return {}
    written = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    remarks.append(f"the case went on from a checkpoint of {_words(written)}")
    return state


def _now() -> str:
    return _words(datetime.now(UTC))


def _words(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
