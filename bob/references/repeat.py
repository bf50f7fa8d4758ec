"""Stage 0: the reference's own seed on a machine like the reference's.

Runs repeat to the last digit in the same environment. A check on a machine like the reference's
therefore runs one of the reference's seeds first. Equal values mean that nothing has changed,
exactly and without a false alarm; other values mean that code, data or another library
has, and the bands decide on fresh seeds whether that matters.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from bob.case import Case, Comparison, Result, Status
from bob.fingerprint import may_be_here
from bob.protocols import PROTOCOLS
from bob.references.bands import DIGITS
from bob.references.forms import Reference
from bob.references.samples import moved, same_right


@dataclass(frozen=True)
class Repeat:
    """A reference's seed, run again.

    Attributes:
        seed: The seed.
        comparable: Whether it ran in the reference's environment.
        differences: What differs, in words; empty when nothing does.
        steady: Whether runs repeat in that environment: on a GPU they may not.
    """

    seed: int
    comparable: bool
    differences: tuple[str, ...]
    steady: bool = True

    @property
    def unchanged(self) -> bool:
        """Whether nothing has changed since the reference was measured."""
        return self.comparable and not self.differences

    @property
    def note(self) -> str:
        """What a summary says where something differs; empty where nothing can be said."""
        if not self.comparable or not self.differences:
            return ""
        cause = "Code, data or another library changed"
        if not self.steady:
            cause += ", or a GPU's kernels added up in another order"
        return (
            f"differs from the reference's run of seed {self.seed} in the same environment: "
            f"{'; '.join(self.differences)}. {cause}."
        )


def repeatable(case: Case, reference: Reference, *, devices: int = 1) -> int | None:
    """The seed of a reference that a check runs first.

    It is the lowest of those that have every judged metric. There is none on another machine, for
    another protocol, and on another number of devices, which draw otherwise.

    Args:
        case: The case.
        reference: The reference.
        devices: On how many devices a case runs whose protocol spreads.
    """
    if reference.protocol != case.protocol or not may_be_here(reference.environment):
        return None
    devices = devices if PROTOCOLS[case.task].spreads else 1
    if reference.environment.get("devices", "1") != str(devices):
        return None
    names = {judged.name for judged in case.judged}
    return min(
        (seed for seed, known in reference.values.items() if names <= known.keys()), default=None
    )


def repeat(case: Case, result: Result, reference: Reference) -> Repeat:
    """Hold a run against the reference's run of the same seed.

    Equal metrics are not enough: as many images may be lost as won, and a change that they do not
    show is one. So weights, data and who was right on each image have to be the same as well, where
    the reference tells.

    Args:
        case: The case.
        result: Its run with a seed of the reference.
        reference: The reference.
    """
    seed = result.case.seed
    if dict(result.environment) != reference.environment:
        return Repeat(seed, False, ())
    known = reference.values[seed]
    values = [
        (judged.name, known.get(judged.name), result.metrics.get(judged.name))
        for judged in case.judged
    ]
    changed = {
        name: f"{name} {'none' if before is None else before} -> "
        f"{'none' if after is None else round(after, DIGITS)}"
        for name, before, after in values
        if before is None or after is None or round(after, DIGITS) != round(before, DIGITS)
    }
    others = _others(result, reference)
    before = reference.samples.get(seed)
    if not changed and not others and (before is None or same_right(before, result)):
        return Repeat(seed, True, ())
    differences = list(changed.values())
    equal = [name for name, _, _ in values if name not in changed]
    if changed and "train_loss" in equal:
        differences.append("train_loss is the same, so that it is the evaluation that changed")
    elif equal:
        differences.append(f"{', '.join(equal)} {'is' if len(equal) == 1 else 'are'} the same")
    if before is not None:
        differences.append(moved(before, result))
    steady = reference.environment.get("device", "cpu") == "cpu"
    return Repeat(seed, True, (*differences, *others), steady)


def _others(result: Result, reference: Reference) -> list[str]:
    """Which of weights and data are not those of the reference, where it tells."""
    found = []
    if reference.weights and result.weights_digest != reference.weights:
        found.append("the weights are others")
    if reference.data and result.data_digest and result.data_digest != reference.data:
        found.append("the data are others")
    return found


def as_unchanged(comparison: Comparison) -> Comparison:
    """A comparison of a seed of the reference with the band it is a part of."""
    return replace(comparison, status=Status.PASS, improved=False)
