"""The pytest shell around ``plan → run → judge → record → report``."""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bob import closing, exits, hooks, interrupts, shown, telling
from bob.errors import BobError, ExecutorLost
from bob.options import pytest_config as options
from bob.options.root_guard import check_root
from bob.protocols import PROTOCOLS

if TYPE_CHECKING:
    from bob.case import Case
    from bob.session import BobSession

_SESSION: pytest.StashKey[BobSession] = pytest.StashKey()
_PLANNED: pytest.StashKey[bool] = pytest.StashKey()

Battle = Callable[["Case"], None]
"""Type of the ``battle`` fixture."""


class BobWarning(pytest.PytestWarning):
    """A remark on a verdict, such as a score above its band."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Register options and their ini keys."""
    options.add_options(parser)


def pytest_addhooks(pluginmanager: pytest.PytestPluginManager) -> None:
    """Register ``bob.hooks``."""
    pluginmanager.add_hookspecs(hooks)


@pytest.hookimpl(tryfirst=True)
def pytest_load_initial_conftests(early_config: pytest.Config) -> None:
    """Refuse an option that has moved the root folder, before anything of a wrong one is loaded."""
    try:
        check_root(early_config)
    except BobError as error:
        raise pytest.UsageError(str(error)) from None


def pytest_configure(config: pytest.Config) -> None:
    """Register one marker per task; refuse xdist."""
    for task in PROTOCOLS.values():
        config.addinivalue_line("markers", f"{task.name}: {task.description}")
    config.addinivalue_line("markers", "frozen: protocols that leave the backbone as it is")
    config.addinivalue_line("markers", "features: protocols that share one extraction of features")
    record = closing.Closing(_open)
    config.pluginmanager.register(record)
    config.pluginmanager.register(closing.Last(_open, record))
    if config.getoption("numprocesses", None) and _names_suites(config):
        raise _xdist_refused()


def pytest_report_header() -> list[str]:
    """Name protocols of installed packages that cannot be used, before their marks are missed."""
    return [f"bob: {problem}" for problem in PROTOCOLS.problems]


def pytest_collection(session: pytest.Session) -> None:
    """Say what is wrong with the options before anything is collected."""
    config = session.config
    if options.given(config) or config.getini("bob_catalog") or config.getini("bob_scale"):
        try:
            _bob(config)
        except BobError as error:
            raise pytest.UsageError(str(error)) from None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Give a test of a task marker one ``case`` per planned case."""
    if not {"case", "battle"} <= set(metafunc.fixturenames):
        return
    tasks = [mark.name for mark in metafunc.definition.iter_markers() if mark.name in PROTOCOLS]
    if not tasks:
        return
    metafunc.config.stash[_PLANNED] = True
    if hasattr(metafunc.config, "workerinput"):
        raise _xdist_refused()
    try:
        plan = _bob(metafunc.config).plan
        cases = plan.cases(tasks[0])
    except BobError as error:
        raise pytest.Collector.CollectError(str(error)) from None
    if not cases:
        skip = pytest.mark.skip(reason=plan.why_none(tasks[0]))
        metafunc.parametrize("case", [pytest.param(None, marks=skip)], ids=["none"])
        return
    metafunc.parametrize("case", cases, ids=[case.name for case in cases])


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Run the test functions with the cheapest cases first, so that verdicts come early.

    Tests that are named one by one run in the order they are named in.
    """
    cases = {item: case for item in items if (case := _case_of(item)) is not None}
    if not cases or any("::" in str(argument) for argument in config.args):
        return
    from bob.cost.order import cheapest_first

    groups: dict[str, list[pytest.Item]] = {}
    for item in cases:
        groups.setdefault(item.nodeid.split("[", 1)[0], []).append(item)
    order = cheapest_first(
        {name: [cases[item] for item in group] for name, group in groups.items()}
    )
    rest = [item for item in items if item not in cases]
    items[:] = [*rest, *(item for name in order for item in groups[name])]


def pytest_collection_finish(session: pytest.Session) -> None:
    """Refuse a command line that asks for a benchmark and finds none: it would pass unseen."""
    config = session.config
    flags = options.typed(config)
    if not flags or session.testsfailed or config.stash.get(_PLANNED, False):
        return
    raise pytest.UsageError(
        f"{', '.join(flags)} {'is' if len(flags) == 1 else 'are'} given, and no case of bob was "
        f"collected from {' '.join(map(str, config.args)) or config.rootpath}.{_shadowed(config)} "
        "The suites are run by `pytest --pyargs suites`, or by a test of your own that takes "
        "`case` and `battle` and has a task's mark."
    )


def _shadowed(config: pytest.Config) -> str:
    """A sentence where ``suites`` is a package of somebody else's."""
    from importlib.util import find_spec

    own = Path(__file__).resolve().parents[1] / "suites"
    spec = (
        find_spec("suites") if any(str(arg).startswith("suites") for arg in config.args) else None
    )
    taken = next(iter(spec.submodule_search_locations or ()), spec.origin) if spec else None
    if taken is None or Path(taken).resolve() == own:
        return ""
    return (
        f" Python takes `suites` from {taken}, which is not bob's: name {own} instead, or rename "
        "that package."
    )


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtestloop(session: pytest.Session) -> Iterator[None]:
    """Open the record and submit the selected cases before the first test.

    However the tests end, interrupts are held back from then on: the record is being closed.
    """
    option = session.config.option
    broken = session.testsfailed and not option.continue_on_collection_errors
    cases = [case for case in map(_case_of, session.items) if case is not None]
    # plugins of pytest's own can be left out, and their options with them
    ways = ("collectonly", "setuponly", "setupplan")
    nothing_runs = any(getattr(option, way, False) for way in ways)
    if nothing_runs or broken or not cases:
        return (yield)
    session.config.add_cleanup(interrupts.install())
    session.config.add_cleanup(exits.install())
    try:
        if _bob(session.config).options.download:
            _bob(session.config).lacking = _download(session.config, cases)
        _bob(session.config).start(cases)
        for text in _bob(session.config).warnings:
            session.config.issue_config_time_warning(BobWarning(shown.block(text)), stacklevel=2)
        return (yield)
    except (BobError, BobWarning) as error:  # -W error makes one of the other
        raise pytest.UsageError(str(error)) from None
    finally:
        interrupts.hold_from_here()


def _download(config: pytest.Config, cases: list[Case]) -> dict[str, str]:
    """Fetch what cases lack.

    Returns:
        By the key of each dataset that is not all there now: why, and what to do. Its cases are
        skipped with that.
    """
    from bob.fetching import Progress, fetch_all

    reporter = config.pluginmanager.get_plugin("terminalreporter")

    def say(text: str) -> None:
        if reporter is not None:
            reporter.write_line(f"bob: {shown.visible(text)}")

    chosen = (case.dataset for case in cases if case.dataset.needs)
    entries = {entry.key: entry for entry in chosen if "path" not in entry.options}
    return fetch_all(list(entries.values()), say=say, told=Progress(), ask=None)


@pytest.fixture
def battle(request: pytest.FixtureRequest) -> Battle:
    """Run one case and hold it against its reference: ``battle(case)``.

    The test fails with a few readable lines when the case falls below its band, and is skipped with
    the remedy when its weights or data are out of reach.
    """
    bob = _bob(request.config)
    item = request.node

    def run(case: Case) -> None:
        __tracebackhide__ = True
        telling.forget_earlier(item)
        try:
            evaluation = bob.evaluate(case)
        except ExecutorLost as error:  # no further case can run
            pytest.exit(shown.block(str(error)), returncode=pytest.ExitCode.INTERRUPTED)
        item.user_properties.extend(telling.properties_of(evaluation))
        remarks = telling.tell_hooks(item, evaluation)
        failure = evaluation.failure
        if evaluation.verdict.status == "skipped":
            pytest.skip(shown.block(evaluation.verdict.reason))
        if failure is not None and failure.traceback:
            item.add_report_section("call", telling.SECTION, telling.traceback_of(failure))
        failed = evaluation.verdict.status == "fail"
        for text in [*remarks, *([] if failed else telling.remarks_of(evaluation))]:
            warnings.warn(BobWarning(shown.block(f"{case.name}: {text}")), stacklevel=2)
        if failed:
            pytest.fail(shown.block(bob.message(evaluation, _address(item))), pytrace=False)

    return run


def pytest_report_collectionfinish(config: pytest.Config) -> list[str]:
    """Name scale and number of backbones under the count of tests."""
    bob = config.stash.get(_SESSION, None)
    return [bob.header()] if bob is not None else []


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Print the table, written references and what was not recorded."""
    bob = config.stash.get(_SESSION, None)
    if bob is not None and PROTOCOLS.problems:
        terminalreporter.section("protocols left out")
        for problem in PROTOCOLS.problems:
            terminalreporter.write_line(shown.visible(problem))
    if bob is None or not bob.started:
        return
    terminalreporter.ensure_newline()
    for title, lines in bob.summary():
        terminalreporter.section(title)
        for line in lines:
            terminalreporter.write_line(shown.visible(line))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item: pytest.Item) -> Iterator[None]:
    """Take the progress line away before pytest reports."""
    bob = _open(item.config)
    if bob is not None:
        bob.progress.clear()
    yield


def _bob(config: pytest.Config) -> BobSession:
    if _SESSION not in config.stash:
        from bob.session import BobSession

        config.stash[_SESSION] = BobSession(config)
    return config.stash[_SESSION]


def _open(config: pytest.Config) -> BobSession | None:
    """The session, if its record is open."""
    bob = config.stash.get(_SESSION, None)
    return bob if bob is not None and bob.started else None


def _case_of(item: pytest.Item) -> Case | None:
    if "battle" not in getattr(item, "fixturenames", ()):
        return None
    callspec = getattr(item, "callspec", None)
    case: Case | None = callspec.params.get("case") if callspec else None
    return case


def _address(item: pytest.Item) -> list[str]:
    """Words that select the test on a command line, from where pytest was started."""
    name, sign, test = item.nodeid.partition("::")
    path = item.config.rootpath / name
    if path.exists():
        return [f"{os.path.relpath(path, item.config.invocation_params.dir)}{sign}{test}"]
    module = getattr(item, "module", None)
    return ["--pyargs", f"{module.__name__}::{item.name}"] if module else [item.nodeid]


def _names_suites(config: pytest.Config) -> bool:
    if options.given(config):
        return True
    paths = [
        str(argument).split("::", 1)[0].replace("\\", "/").rstrip("/") for argument in config.args
    ]
    return any(path == "suites" or path.endswith("/suites") or "suites/" in path for path in paths)


def _xdist_refused() -> pytest.UsageError:
    return pytest.UsageError(
        "The suites do not run under pytest-xdist (-n): one process must plan, record and judge. "
        "Leave -n out; --executor says where cases run."
    )
