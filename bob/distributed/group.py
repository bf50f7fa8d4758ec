"""The processes that train one model together, and what they tell each other.

Each holds the whole model and works on its share of every batch. Gradients are summed up before the
optimiser takes its step, so that all of them take the same one: that of the whole batch.
"""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterable, Sequence, Sized
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, TypeVar

import torch
from torch import distributed, nn

from bob.errors import BobError

_Told = TypeVar("_Told")

_BUCKET = 2**23
"""Values that are summed up at once; a copy of so many is held meanwhile."""


class PeerLost(BobError):
    """Another process of the group has ended, or has failed and will not come any more."""


class NeedsParts(BobError):
    """A part of a batch does not fit one of the devices.

    Attributes:
        count: Into how many parts all of them have to split their shares.
    """

    def __init__(self, message: str, *, kind: str = "out-of-memory", count: int = 2) -> None:
        super().__init__(message, kind=kind)
        self.count = count

    def __reduce__(self) -> tuple[object, ...]:
        return _needs_parts, (str(self), self.count)


def _needs_parts(message: str, count: int) -> NeedsParts:
    return NeedsParts(message, count=count)


@dataclass(frozen=True)
class Group:
    """Processes that train one model together; by default a single one, to which nothing is told.

    Every method that tells something has to be called by all of them, in the same order.

    Attributes:
        rank: Number of this process, from 0; the first one keeps what comes out.
        size: How many there are.
        parts: Into how many parts each splits its share of a batch to begin with.
        seed: Of what they draw, each other numbers.
    """

    rank: int = 0
    size: int = 1
    parts: int = 1
    seed: int = 0
    _words: Any = None
    _normalised: list[tuple[int, int]] = field(default_factory=list)

    @classmethod
    def joined(cls, rank: int, size: int, *, parts: int, seed: int) -> Group:
        """The group of torch's processes, once they have found each other."""
        nccl = distributed.get_backend() != "gloo"
        words = distributed.new_group(backend="gloo") if nccl else None
        return cls(rank, size, parts, seed, words)

    @property
    def alone(self) -> bool:
        """Whether there is no other process."""
        return self.size == 1

    def share(self, batch: Sequence[Any]) -> Any:
        """This process's part of a batch, in its order; all parts are of one length."""
        if self.alone:
            return batch
        length = len(batch) // self.size
        return batch[self.rank * length : (self.rank + 1) * length]

    def check(self, batch: int, *, of: str, pairs: bool = False) -> None:
        """Whether batches can be shared.

        Args:
            batch: Images of one.
            of: Whose batches, for the message.
            pairs: Whether images of a share are mixed in pairs.

        Raises:
            BobError: The devices would get shares of different length.
        """
        unit = 2 if pairs else 1
        if batch % (self.size * unit) == 0:
            return
        fit = [n for n in range(1, self.size) if batch % (n * unit) == 0]
        mixed = ", which mixes images in pairs," if pairs else ""
        raise BobError(
            f"{of}{mixed} has batches of {batch} images, which {self.size} devices cannot share "
            f"equally. Take --devices={' or '.join(map(str, fit))}.",
            kind="devices",
        )

    def gathered(self, told: _Told) -> list[_Told]:
        """What every process tells, in the order of their ranks."""
        if self.alone:
            return [told]
        heard: list[Any] = [None] * self.size
        with _Peers():
            distributed.all_gather_object(heard, told, group=self._words)
        return heard

    def in_turn(self, own: Sequence[_Told]) -> list[_Told]:
        """All of what the processes have made of every ``size``-th item, in the items' order.

        Args:
            own: What this one has made of items ``rank``, ``rank + size``, ...
        """
        heard = self.gathered(list(own))
        count = sum(map(len, heard))
        return [heard[item % self.size][item // self.size] for item in range(count)]

    def first_says(self, flag: bool) -> bool:
        """What the first process says."""
        if self.alone:
            return flag
        told = torch.tensor([flag], dtype=torch.uint8)
        with _Peers():
            distributed.broadcast(told, 0, group=self._words)
        return bool(told)

    def same_start(self, module: nn.Module) -> None:
        """Give every process the first one's parameters and buffers."""
        if not self.alone:
            self._take_first(chain(module.parameters(), module.buffers()))

    def total(self, count: torch.Tensor) -> torch.Tensor:
        """The sum of what each process counts."""
        return count if self.alone else summed(count.clone())

    def made_same(self, module: nn.Module) -> tuple[str, ...]:
        """Give every process what the first one has where their parameters or buffers differ.

        Returns:
            A sentence where some differed. All processes took the same steps, so that those follow
            from something of each process's own, such as its share of a batch.
        """
        if self.alone:
            return ()
        tensors = dict(chain(module.named_parameters(), module.named_buffers()))
        sums = {name: zlib.crc32(_bytes(tensor).cpu().numpy()) for name, tensor in tensors.items()}
        told = self.gathered(sums)
        other = [name for name in tensors if any(theirs[name] != told[0][name] for theirs in told)]
        if not other:
            return ()
        self._take_first(tensors[name] for name in other)
        return (
            f"{len(other)} tensors of the model, such as {other[0]}, were learnt from the first of "
            f"{self.size} devices' share of each batch alone, so that one device may give another "
            "score",
        )

    def _take_first(self, tensors: Iterable[torch.Tensor]) -> None:
        for tensor in tensors:
            # bytes: there are buffers of types that gloo does not know, such as complex numbers
            own = _bytes(tensor)
            if not len(own):
                continue
            told = own.clone()
            with _Peers():
                distributed.broadcast(told, 0)
            if not torch.equal(own, told):
                with torch.no_grad():
                    tensor.copy_(told.view(tensor.dtype).view(tensor.shape))

    def sum_gradients(self, parameters: Iterable[nn.Parameter], *losses: torch.Tensor) -> None:
        """Sum up gradients, and losses, over all processes, in place.

        A parameter that no process reached keeps no gradient; the optimiser leaves it alone, as it
        would on one device.

        Args:
            parameters: Of the model; the same ones in each process.
            losses: Scalars on the model's device.

        Raises:
            BobError: The processes have summed up statistics of other layers' batch norm.
        """
        if self.alone:
            return
        every = list(parameters)
        trained = [parameter for parameter in every if parameter.requires_grad]
        way = self._way(every)
        flags = [parameter.grad is not None for parameter in trained]
        told = torch.tensor([*flags, way, -way], dtype=torch.int64)
        with _Peers():
            distributed.all_reduce(told, distributed.ReduceOp.MAX, group=self._words)
        *reached, most, least = told.tolist()
        if most != -least:
            raise BobError(
                "The backbone takes another way through its layers of batch norm on each device, "
                "such as one that leaves out layers at random: their statistics cannot be those of "
                "the whole batch. Take --devices=1.",
                kind="devices",
            )
        for parameter, any_reached in zip(trained, reached, strict=True):
            if any_reached and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in trained if parameter.grad is not None]
        for bucket in _buckets([*gradients, *losses]):
            flat = summed(torch.cat([tensor.reshape(-1) for tensor in bucket]))
            pieces = flat.split([tensor.numel() for tensor in bucket])
            for tensor, piece in zip(bucket, pieces, strict=True):
                tensor.copy_(piece.view_as(tensor))

    def batch_norm(self) -> AbstractContextManager[object]:
        """Where batch norm in training sees the shares of all processes as one batch.

        Backwards too: activations that were not kept are computed once more there.
        """
        if self.alone:
            return nullcontext()
        from bob.distributed.batch_norm import WholeBatchNorm

        return WholeBatchNorm(self.size, self._normalised)

    def _way(self, parameters: Sequence[nn.Parameter]) -> int:
        """A number for the layers of batch norm that a step has met, in their order."""
        positions = {id(parameter): position for position, parameter in enumerate(parameters)}
        met = [(positions.get(weight, -1), channels) for weight, channels in self._normalised]
        self._normalised.clear()
        return zlib.crc32(repr(met).encode())


def batches_of(dataset: Sized, size: int, *, rank: int = 0, ranks: int = 1) -> list[range]:
    """The positions of each batch of a dataset in order.

    Args:
        dataset: Has a length.
        size: Of a batch.
        rank: Which of several processes is meant.
        ranks: How many processes take a batch each in turn.
    """
    starts = range(rank * size, len(dataset), ranks * size)
    return [range(start, min(start + size, len(dataset))) for start in starts]


def summed(tensor: torch.Tensor) -> torch.Tensor:
    """The sum of a contiguous tensor over all processes, in place."""
    with _Peers():
        distributed.all_reduce(tensor)
    return tensor


def _bytes(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _buckets(tensors: Sequence[torch.Tensor]) -> Iterable[list[torch.Tensor]]:
    """Tensors in groups of one type and device and of a bounded size."""
    by_kind: dict[Any, list[torch.Tensor]] = {}
    for tensor in tensors:
        by_kind.setdefault((tensor.dtype, tensor.device), []).append(tensor)
    for alike in by_kind.values():
        bucket, length = list[torch.Tensor](), 0
        for tensor in alike:
            if bucket and length + tensor.numel() > _BUCKET:
                yield bucket
                bucket, length = [], 0
            bucket.append(tensor)
            length += tensor.numel()
        yield bucket


class _Peers:
    """Tells what torch raises when another process does not answer from errors of this one."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if isinstance(error, torch.OutOfMemoryError):
            return
        if isinstance(error, RuntimeError | EOFError | pickle.UnpicklingError):
            raise PeerLost(f"Another device's process did not answer: {error}") from error
