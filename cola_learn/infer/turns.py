"""Thread safety: while a chain is applied to a model, other threads wait."""

import functools
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Method = TypeVar("Method", bound=Callable[..., Any])


class Turns:
    """A lock that a model may hold when it is copied or pickled: the copy gets one of its own."""

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def __reduce__(self) -> Any:
        return Turns, ()


def in_turn(method: Method) -> Method:
    """Have a method wait until another thread's call of one of the object's methods has ended."""

    @functools.wraps(method)
    def waiting(self: Any, *args: Any, **kwargs: Any) -> Any:
        with self.turns.lock:
            return method(self, *args, **kwargs)

    return waiting  # type: ignore[return-value]
