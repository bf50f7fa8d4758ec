"""What killed sessions left open in a store: ended by the next one where they are provably dead."""

from __future__ import annotations

from collections import Counter

from bob.ledger.records import now
from bob.tracking.process import HOST, PID, is_dead, is_here, process_tags
from bob.tracking.writer import Writer

ENDED_BY = "bob.ended_by"
"""Tag of a run that its own session did not end: by whom, and why."""
ENDED_AT = "bob.ended_at"


def end_leftovers(writer: Writer, *, session: str) -> list[str]:
    """End the open runs of dead processes of this machine; all others are left alone.

    Args:
        writer: The store.
        session: Who does it: a session, whose own runs are not looked at, or ``bob sync``.

    Returns:
        Lines for the user: what was ended, and what other machines have open.
    """
    experiments = writer.experiments("bob/")
    if not experiments:
        return []
    # runs of versions that did not say who writes them are not found
    query = (
        "attributes.status = 'RUNNING' and tags.`bob.pid` LIKE '%' "
        f"and tags.`bob.session` != '{session}'"
    )
    found = writer.search(experiments, query)
    dead = [run for run in found if is_dead(run.data.tags)]
    host = process_tags()[HOST]
    for run in dead:
        who = session if " " in session else f"session {session}"
        reason = f"{who} on {host}: process {run.data.tags[PID]} was gone"
        writer.tag(run.info.run_id, {ENDED_BY: reason, ENDED_AT: now()})
        writer.end(run.info.run_id, "KILLED")
    lines = []
    if dead:
        sessions = ", ".join(sorted({run.data.tags["bob.session"] for run in dead}))
        lines.append(
            f"  {len(dead)} open runs of killed sessions are now KILLED ({sessions}); "
            "bob sync sends what they had finished"
        )
    others = Counter(run.data.tags[HOST] for run in found if not is_here(run.data.tags))
    if others:
        named = ", ".join(f"{name} ({count})" for name, count in sorted(others.items()))
        lines.append(f"  runs open on {named} are left to the next session there")
    return lines
