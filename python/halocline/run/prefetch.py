"""Results that are made ahead of time, in a thread."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Prefetch"]

T = TypeVar("T")
ALIVE = 1.0  # s between looks whether the thread is still there
PATIENCE = 10.0  # s that `close` waits for a result under way: a file system may never answer


class Prefetch(Generic[T]):
    """Makes the results of consecutive steps ahead of their use.

    The thread starts with the first `take` and makes the `ahead` steps after the last one taken, no more. It is a
    daemon: a process that ends does not wait for it. It makes no call that is collective.

    Arguments:
        make: From a step to its result; called in the thread.
        ahead: Results to hold.

    Attributes:
        waited: Seconds spent waiting in `take`.
    """

    def __init__(self, make: Callable[[int], T], ahead: int) -> None:
        self.waited = 0.0
        self._make, self._ahead = make, ahead
        self._changed = threading.Condition()
        self._first = 0  # of the steps that are wanted, `ahead` in all
        self._ready: dict[int, T | BaseException] = {}
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="prefetch", daemon=True)

    def take(self, step: int) -> T:
        """Returns the result of a step, and lets the following ones be made.

        Any step may be asked for; one that lies not ahead costs its own making.

        Raises:
            RuntimeError: It has been closed, or its thread is gone, as in a forked process.
            BaseException: What `make` raised for this step.

        Collective: no.
        """
        start = time.monotonic()
        with self._changed:
            self._want(step)
            if not self._closed and self._thread.ident is None:
                self._thread.start()
            while step not in self._ready:
                if self._closed or not self._thread.is_alive():
                    raise RuntimeError(f"Prefetching has ended, but step {step} is asked for: start another loader.")
                self._changed.wait(ALIVE)
            result = self._ready.pop(step)
            self._want(step + 1)
        self.waited += time.monotonic() - start
        if isinstance(result, BaseException):
            raise result
        return result

    def close(self) -> None:
        """Ends the thread; a second call does nothing. Collective: no."""
        with self._changed:
            self._closed = True
            self._ready.clear()
            self._changed.notify_all()
        if self._thread.ident is not None:
            self._thread.join(PATIENCE)

    def _want(self, step: int) -> None:
        """Moves on, or back, to a step, and drops what lies elsewhere."""
        self._first = step
        self._ready = {n: result for n, result in self._ready.items() if self._wanted(n)}
        self._changed.notify_all()

    def _wanted(self, step: int) -> bool:
        return self._first <= step < self._first + self._ahead

    def _run(self) -> None:
        while (step := self._begin()) is not None:
            try:
                result: T | BaseException = self._make(step)
            except BaseException as error:  # raised where the result is asked for
                result = error
            with self._changed:
                if self._wanted(step) and not self._closed:
                    self._ready[step] = result
                self._changed.notify_all()
            del result

    def _begin(self) -> int | None:
        """Waits for the first wanted step that has not been made; None at the end."""
        with self._changed:
            while not self._closed:
                for step in range(self._first, self._first + self._ahead):
                    if step not in self._ready:
                        return step
                self._changed.wait()
            return None
