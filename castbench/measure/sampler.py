"""Looks at a meter at a steady period, beside whatever else happens, and keeps the looks of the last minutes.

thread     look   look   look   look   look   look          every period_s, into a ring
main       ── window ───────────┤ readings_between(began_s, ended_s)
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

PERIOD_S = 0.02
"""Between two looks during windows: short beside the driver's own update periods (20 to 100 ms)."""
LONGEST_SLEEP_S = 0.05
"""How long the end of the looking may have to wait for a sleeping thread, however long the period."""
CPU_EVERY = 16
"""Calls between two readings of the thread's own CPU time: asking costs a system call."""
KEPT_S = 600.0
"""How far back looks are kept: longer than any window."""


class Timed(Protocol):
    """A reading that knows when it was taken, by the clock of its sampler."""

    @property
    def at_s(self) -> float:
        """Seconds of time.monotonic(), or of a virtual clock."""


class Ticking(Protocol):
    """Calls at a steady period, until they are stopped."""

    def stop(self) -> None:
        """No call begins after this returns."""

    def cpu_s(self) -> float | None:
        """CPU time the calls and the waits between them took so far; None on a clock without a processor."""


class Clock(Protocol):
    """Time as measurements see it: the real one, or a virtual one in tests and on the fake device."""

    def now_s(self) -> float:
        """Seconds since some fixed moment."""

    def sleep(self, seconds: float) -> None:
        """Let time pass."""

    def every(self, period_s: float, call: Callable[[], None]) -> Ticking:
        """Begin to call at a steady period; a call that comes late leaves out those it has missed."""


Reading = TypeVar("Reading", bound=Timed)


class Sampler(Generic[Reading]):
    """The looks at one meter. `look` returns a reading, or None where this look gave nothing.

    An exception that `look` raises (the GPU is lost) ends the looking and is raised by the next question, in the
    thread that asks it. The answers may be asked from any thread.
    """

    def __init__(
        self, look: Callable[[], Reading | None], clock: Clock, period_s: float = PERIOD_S, kept_s: float = KEPT_S
    ) -> None:
        self._look = look
        self._kept: deque[Reading] = deque(maxlen=max(2, round(kept_s / period_s)))
        self._lock = threading.Lock()
        self._failure: Exception | None = None
        self._began_s, self._clock = clock.now_s(), clock
        self._ticking = clock.every(period_s, self._tick)

    def readings_between(self, began_s: float, ended_s: float) -> tuple[Reading, ...]:
        """The readings taken within [began_s, ended_s], oldest first; raises what ended the looking."""
        if self._failure is not None:
            raise self._failure
        with self._lock:
            return tuple(reading for reading in self._kept if began_s <= reading.at_s <= ended_s)

    def now_s(self) -> float:
        """Now, by the clock that readings are stamped with."""
        return self._clock.now_s()

    def cpu_share(self) -> float | None:
        """CPU time of the looking as a share of one core since it began; None where it cannot be known."""
        cpu_s, elapsed_s = self._ticking.cpu_s(), self._clock.now_s() - self._began_s
        return None if cpu_s is None or elapsed_s <= 0 else cpu_s / elapsed_s

    def close(self) -> None:
        """End the looking; what was kept can still be asked for."""
        self._ticking.stop()

    def _tick(self) -> None:
        """One look."""
        if self._failure is not None:
            return
        try:
            reading = self._look()
        except Exception as error:
            # A thread has nobody to raise to: the next question raises it.
            self._failure = error
            return
        if reading is not None:
            with self._lock:
                self._kept.append(reading)


class RealClock:
    """time.monotonic(), which all processes of a machine share, and a thread per steady call."""

    def now_s(self) -> float:
        """Seconds of the monotonic clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(max(0.0, seconds))

    def every(self, period_s: float, call: Callable[[], None]) -> Ticking:
        """Call from a thread of its own, which does not keep the program from ending."""
        return _TickingThread(period_s, call)


class _TickingThread:
    """A daemon thread that calls, then sleeps until the next multiple of the period.

    It sleeps and looks at a flag: at this rate waking from a lock or an Event would cost as much as the looks.
    """

    def __init__(self, period_s: float, call: Callable[[], None]) -> None:
        self._period_s, self._call = period_s, call
        self._stopping = False
        self._cpu_s: float | None = None
        self._thread = threading.Thread(target=self._run, name="castbench-sampler", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the thread, at most LONGEST_SLEEP_S and its last call, which may be under way until then."""
        self._stopping = True
        if self._thread is not threading.current_thread():
            self._thread.join()

    def cpu_s(self) -> float | None:
        """CPU time of the thread at most CPU_EVERY calls ago; None before the first."""
        return self._cpu_s

    def _run(self) -> None:
        due_s, calls = time.monotonic(), 0
        while not self._stopping:
            left_s = due_s - time.monotonic()
            if left_s > 0:
                time.sleep(min(left_s, LONGEST_SLEEP_S))
                continue
            self._call()
            if calls % CPU_EVERY == 0:
                self._cpu_s = time.thread_time()
            calls += 1
            due_s += self._period_s * max(1, int((time.monotonic() - due_s) / self._period_s) + 1)
