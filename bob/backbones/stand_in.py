"""What takes the place of an object in a checkpoint."""

from __future__ import annotations

from typing import Any


class _Fillable(type):
    """Lets torch's restricted unpickler put items into a stand-in as it does into a ``dict``.

    It fills nothing but what it finds in a list of types, and subclasses of ``dict`` are common
    in checkpoints (settings of yacs, EasyDict, ``defaultdict``).
    """

    def __eq__(cls, other: object) -> bool:
        return other is cls or other is dict

    __hash__ = type.__hash__


class StandIn(list[Any], metaclass=_Fillable):
    """Takes what an object of any class would be given, and does nothing with it.

    A list, because torch's unpickler appends to nothing else.

    Attributes:
        items: Of a mapping.
        state: Of an object with attributes.
    """

    items: dict[Any, Any]
    state: Any

    def __new__(cls, *arguments: object) -> StandIn:
        """A stand-in, also where the class to make is itself one."""
        made = super().__new__(StandIn)
        made.items, made.state = {}, None
        return made

    def __init__(self, *arguments: object) -> None:
        super().__init__()

    def __setstate__(self, state: object) -> None:
        self.state = state

    def __setitem__(self, key: Any, value: Any) -> None:
        self.items[key] = value

    def __eq__(self, other: object) -> bool:
        return self is other

    __hash__ = object.__hash__  # type: ignore[assignment]


def stand_in_class(*arguments: object) -> type[StandIn]:
    """Takes the place of ``getattr``, by which older pickles name a class within a class."""
    return StandIn
