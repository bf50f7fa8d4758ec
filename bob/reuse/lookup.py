"""Looking earlier results up in a ledger, by what is planned and by what was loaded."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from bob import __version__
from bob.case import Case, run_key
from bob.fingerprint import fingerprint
from bob.ledger.index import Index
from bob.ledger.ledger import Ledger
from bob.ledger.records import Damage, Recorded
from bob.reuse.standing import Standing, State
from bob.shown import line


class Elsewhere(Protocol):
    """Brings results into the ledger.

    Attributes:
        damaged: What it found and could not read.
    """

    damaged: list[Damage]

    def __call__(self, case: Case, role: str, *, known: Collection[Path] = ()) -> Path | None:
        """Bring the result of a case in a role; its folder, or none where there is no result.

        Args:
            case: What is asked for.
            role: ``check`` or ``reference``.
            known: Folders that were looked at already.
        """


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

    @property
    def damaged(self) -> list[Damage]:
        """Results that were there and could not be read."""
        return [*self.index.damaged, *(self.elsewhere.damaged if self.elsewhere else ())]

    def __call__(self, case: Case, role: str) -> Standing:
        """How a run of a case stands; of several results the newest counts."""
        standing = self._standing(case, role)
        there = standing.state in (State.DONE, State.LOOKED_AT)
        return standing if there or not self._bring(case, role) else self._standing(case, role)

    def _standing(self, case: Case, role: str) -> Standing:
        """How it stands by what is in the ledger."""
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
        if self._others(case, role):
            why = "recipe, data, backbone or the protocol's version have changed since"
            return Standing(state=State.STALE, why=why)
        return Standing(state=State.MISSING)

    def _bring(self, case: Case, role: str) -> bool:
        """Whether there was a result elsewhere, which is in the ledger now."""
        if self.elsewhere is None or self.problems:
            return False
        try:
            folder = self.elsewhere(case, role, known=self.index.of(case, role))
        except Exception as error:  # a store that does not answer costs its results
            self.problems.append(line(f"{type(error).__name__}: {error}"))
            return False
        if folder is not None:
            self.index.add(folder)
        return folder is not None

    def _heads(self, case: Case, role: str) -> Sequence[tuple[Path, Mapping[str, Any]]]:
        """Entries of the case, the newest first."""
        found: list[tuple[Path, Mapping[str, Any]]] = []
        for folder in self.index.of(case, role):
            head: Any = self.index.head(folder)
            if head is None:
                continue
            if not _has_form(head):
                self.index.read(folder)  # names what is wrong with it
            elif head["case"]["id"] == case.id:
                found.append((folder, head))
        return sorted(found, key=lambda pair: str(pair[1].get("time", "")), reverse=True)

    def _others(self, case: Case, role: str) -> bool:
        """Whether another case was run under the name, which is not only alike in a file's name."""
        heads = filter(None, map(self.index.head, self.index.others(case, role)))
        names = case.scale, case.backbone.key, case.dataset.key
        return any(_names(head) == names for head in heads if _has_form(head))


def _has_form(head: Mapping[str, Any]) -> bool:
    """Whether an entry has the form of a result, so far as it is looked at unread."""
    case, result = head.get("case"), head.get("result")
    if not (isinstance(case, dict) and isinstance(result, dict)):
        return False
    return (
        isinstance(case.get("backbone"), dict)
        and isinstance(case.get("dataset"), dict)
        and isinstance(result.get("environment"), dict)
        and isinstance(result.get("run_key"), str)
        and isinstance(result.get("weights_digest"), str)
        and isinstance(result.get("failure") or {}, dict)
    )


def _names(head: Mapping[str, Any]) -> tuple[object, ...]:
    case = head["case"]
    return case.get("scale"), case["backbone"].get("key"), case["dataset"].get("key")


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
    drawn = entry.source.count(":") == 1 and not entry.arguments.get("pretrained", True)
    ours = module.split(".")[0] == "bob"
    # a text may name a file: timm's checkpoint_path
    files = any(isinstance(value, str) for value in entry.arguments.values())
    if not case.dataset.sha256 or not (ours or module == "timm"):
        return None, ""
    if entry.weights is not None:
        if not entry.weights.sha256:
            return None, ""
        weights = entry.weights.sha256
    elif (drawn or ours) and not files and _built_alike(head):
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
