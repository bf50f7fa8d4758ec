"""``bob summary`` of real sessions, and of none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest

from bob.cli import main
from bob.ledger import Ledger
from bob.report.summary_text import MARKER, Outcome
from tests.store_parts import ledger_of


@pytest.mark.slow
def test_sessions_end_with_their_status(
    project: pytest.Pytester, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.path)
    assert main(["summary"]) == 2
    assert "There is no session in" in capsys.readouterr().err
    project.runpytest("-k", "coarse", "--seeds", "1")
    assert main(["summary"]) == Outcome.INCOMPLETE  # it has no reference
    told = capsys.readouterr().out
    assert "not all is decided; 1 no reference" in told
    assert "no reference" in told.splitlines()[-1]
    session = ledger_of(project).sessions()[0]
    assert main(["summary", session[:6], "--markdown", "--all"]) == Outcome.INCOMPLETE
    assert capsys.readouterr().out.startswith(MARKER)
    assert main(["summary", "--since", "2999-01-01T00:00:00"]) == Outcome.NOTHING
    assert "nothing ran" in capsys.readouterr().out
    later, earlier = (
        (datetime.now(UTC) + timedelta(minutes=minutes)).astimezone(timezone(timedelta(hours=-9)))
        for minutes in (30, -30)
    )
    assert main(["summary", "--since", later.isoformat()]) == Outcome.NOTHING
    assert main(["summary", "--since", earlier.isoformat()]) == Outcome.INCOMPLETE
    capsys.readouterr()
    for words, problem in (
        (["nonsense"], "Unknown session 'nonsense'"),
        ([""], "The name of the session is empty"),
        (["--since", "soon"], "--since 'soon': expected a time"),
        (["--ledger", "nowhere"], "There is no session in nowhere"),
    ):
        assert main(["summary", *words]) == 2
        assert problem in capsys.readouterr().err
    (project.path / "mlruns" / "ledger" / session / "summary.json").unlink()  # as if killed
    assert main(["summary", session]) == Outcome.INCOMPLETE
    assert "(cut short): not all is decided; 1 no reference" in capsys.readouterr().out
    Ledger(project.path / "mlruns" / "ledger").open_session("killed", {})
    assert main(["summary", "killed"]) == Outcome.NOTHING
    assert "(cut short)" in capsys.readouterr().out
    bent = project.path / "mlruns" / "ledger" / "bent" / "session.json"
    bent.parent.mkdir()
    bent.write_text("{}")
    # what is wrong with one session says nothing of another
    assert main(["summary", "killed", "--since", "2000-01-01"]) == Outcome.NOTHING
    assert "(cut short)" in capsys.readouterr().out
