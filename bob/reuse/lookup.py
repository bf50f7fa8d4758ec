"""Looking earlier results up in a ledger, by what is planned and by what was loaded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from bob import __version__
from bob.case import Case, run_key
from bob.fingerprint import fingerprint
from bob.ledger.index import Index
from bob.ledger.ledger import Ledger
from bob.ledger.records import Recorded
from bob.reuse.standing import Standing, State
from bob.shown import line

Elsewhere = Callable[[Case, str], Path | None]
"""Brings the result of a case in a role into the ledger."""

_BUILDS = ("python", "torch", "timm", "numpy")
"""What decides how weights are drawn, as far as the environment tells."""


@dataclass
class Earlier:
    """Results of earlier sessions, by run key.

    A run key holds digests of weights and data and a fingerprint of a factory's code. Where all of
    them follow from the catalog it is computed without loading anything; else the case has to be
    loaded before one can tell.

    Attributes:
        ledger: Where results are, as it was at the first question.
        elsewhere: Brings a result into the ledger that is not there, and gives its folder.
        problems: Why that did not work; it is not asked again then.
    """

    ledger: Ledger
    elsewhere: Elsewhere | None = None
    problems: list[str] = field(default_factory=list)
    index: Index = field(init=False)

    def __post_init__(self) -> None:
        self.index = Index(self.ledger)

    def __call__(self, case: Case, role: str) -> Standing:
        """How a run of a case stands; of several results the newest counts."""
        heads = self._heads(case, role)
        if all(_failure(head) for _, head in heads) and self._bring(case, role):
            heads = self._heads(case, role)
        sound = [(folder, head) for folder, head in heads if not _failure(head)]
        unsure: list[Recorded] = []
        differing = ""
        for folder, head in sound:
            key, why = _key_now(case, head)
            if key is not None and key != head["result"]["run_key"]:
                differing = why
                continue
            recorded = self.index.read(folder)
            if recorded is None or not recorded.result.run_key:
                continue
            if key is not None:
                return Standing(state=State.DONE, recorded=recorded)
            unsure.append(recorded)
        if unsure:
            return Standing(state=State.LOOKED_AT, candidates=tuple(unsure))
        if sound:
            return Standing(state=State.STALE, why=differing or "its entry is damaged")
        if heads:
            return Standing(state=State.FAILED, why=_failure(heads[0][1]))
        if self.index.others(case, role):
            why = "recipe, data, backbone or the protocol's version have changed since"
            return Standing(state=State.STALE, why=why)
        return Standing(state=State.MISSING)

    def _bring(self, case: Case, role: str) -> bool:
        """Whether there was a result elsewhere, which is in the ledger now."""
        if self.elsewhere is None:
            return False
        try:
            folder = self.elsewhere(case, role)
        except Exception as error:  # a store that does not answer costs its results
            self.problems.append(line(f"{type(error).__name__}: {error}"))
            self.elsewhere = None
            return False
        if folder is not None:
            self.index.add(folder)
        return folder is not None

    def _heads(self, case: Case, role: str) -> Sequence[tuple[Path, Mapping[str, Any]]]:
        """Entries of the case, the newest first."""
        found: list[tuple[Path, Mapping[str, Any]]] = []
        for folder in self.index.of(case, role):
            head: Any = self.index.head(folder)
            try:
                if head is not None and head["case"]["id"] == case.id:
                    assert isinstance(head["result"]["environment"], dict)
                    found.append((folder, head))
            except (KeyError, TypeError, AssertionError):
                self.index.read(folder)  # names what is wrong with it
        return sorted(found, key=lambda pair: str(pair[1].get("time", "")), reverse=True)


def _failure(head: Mapping[str, Any]) -> str:
    """Why a result has no score; empty where it has one."""
    failure = head["result"].get("failure")
    return str(failure.get("kind", "error")) if failure else ""


def _key_now(case: Case, head: Mapping[str, Any]) -> tuple[str | None, str]:
    """The run key that the case has now, and what it may differ by.

    Returns:
        None instead of the key where the case has to be loaded to know it.
    """
    entry, result = case.backbone, head["result"]
    module = entry.source.split(":", 1)[0]
    drawn = module == "timm" and not entry.arguments.get("pretrained", True)
    ours = module.split(".")[0] == "bob"
    if not case.dataset.sha256 or not (ours or module == "timm"):
        return None, ""
    if entry.weights is not None:
        if not entry.weights.sha256:
            return None, ""
        weights = entry.weights.sha256
    elif (drawn or ours) and _built_alike(head):
        weights = str(result["weights_digest"])
    else:
        return None, ""
    key = run_key(case, weights=weights, data=case.dataset.sha256, factory="")
    return key, "weights or data were others"


def _built_alike(head: Mapping[str, Any]) -> bool:
    """Whether weights that are drawn from the seed are drawn now as they were then."""
    here, there = fingerprint(), head["result"]["environment"]
    same = all(there.get(name) == here[name] for name in _BUILDS)
    return same and head.get("version") == __version__
