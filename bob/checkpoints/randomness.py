"""The random generators that a process has once: Python's, NumPy's, and torch's on each device."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

_STRIDE = 0x9E3779B97F4A7C15


@dataclass(frozen=True)
class Randomness:
    """The states of this process's generators, in plain data.

    Attributes:
        python: As ``random.getstate`` gives it.
        numpy: As ``numpy.random.get_state`` gives it.
        torch: Of the CPU.
        cuda: Of each CUDA device, in order; empty where CUDA has not been used.
        mps: Of Apple's GPU; empty where it has not been used.
    """

    python: Any
    numpy: Any
    torch: bytes
    cuda: tuple[bytes, ...] = ()
    mps: bytes = b""

    @classmethod
    def now(cls) -> Randomness:
        """The states as they are."""
        on_cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        on_mps = torch.backends.mps.is_available()
        return cls(
            python=random.getstate(),
            numpy=np.random.get_state(),
            torch=_bytes(torch.get_rng_state()),
            cuda=tuple(map(_bytes, torch.cuda.get_rng_state_all())) if on_cuda else (),
            mps=_bytes(torch.mps.get_rng_state()) if on_mps else b"",
        )

    @classmethod
    def of_worker(cls) -> Randomness:
        """The states of a loader's process, which uses no accelerator."""
        return cls(random.getstate(), np.random.get_state(), _bytes(torch.get_rng_state()))

    @staticmethod
    def apart(number: int, seed: int) -> None:
        """Have a process draw other numbers than those of the same seed, the same in every run."""
        seed = (seed + number * _STRIDE) % 2**63
        random.seed(seed)
        np.random.seed(seed % 2**32)
        torch.manual_seed(seed)

    def put(self) -> None:
        """Put the generators into these states, those of devices as far as they are there."""
        random.setstate(self.python)
        np.random.set_state(self.numpy)
        torch.set_rng_state(_tensor(self.torch))
        if self.cuda and torch.cuda.is_available():
            for device, state in enumerate(self.cuda[: torch.cuda.device_count()]):
                torch.cuda.set_rng_state(_tensor(state), device)
        if self.mps and torch.backends.mps.is_available():
            torch.mps.set_rng_state(_tensor(self.mps))

    def plain(self) -> dict[str, Any]:
        """As a part of a state."""
        return dict(vars(self))

    @classmethod
    def of(cls, plain: dict[str, Any]) -> Randomness:
        """From a part of a state."""
        return cls(**plain)


def _bytes(state: torch.Tensor) -> bytes:
    return bytes(state.cpu().numpy())


def _tensor(state: bytes) -> torch.Tensor:
    return torch.frombuffer(bytearray(state), dtype=torch.uint8)
