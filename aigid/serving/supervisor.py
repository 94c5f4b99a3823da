"""Keeps a Triton server alive: one that dies or stalls is started again."""

import threading
import time
from collections import deque
from collections.abc import Callable
from typing import Self

from aigid.errors import ServerError
from aigid.serving.triton_server import TritonServer

MOST_DEATHS, WITHIN_S = 5, 60.0

_EVERY_S, _PROBE_S = 0.5, 2.5
# A server that works on large batches lets a probe wait its turn, but not for so long.
_BUSY_S, _LONGEST_BUSY_S = 0.5, 120.0
# After a start: how often to ask, and how long.
_ASK_S, _ASK_FOR_S = 0.5, 30.0
_BACKOFF_FIRST_S, _BACKOFF_MOST_S = 0.25, 5.0


Probe = Callable[[float], None]
"""Asks the server for an answer. Raises ServerError where there is none within so many seconds."""


class Supervisor:
    """Watches a started server in a thread of its own, inside a `with` block.

    A server that has ended is started again. So is one that answers no probe for a few seconds and
    computes nothing either, as where one of its processes hangs: it is killed. After five
    deaths within a minute the supervisor gives up.
    """

    def __init__(
        self,
        server: TritonServer,
        probe: Probe,
        on_start: Callable[[], None],
        on_message: Callable[[str], None],
    ) -> None:
        """Watch nothing yet. `on_start` is called whenever the server has been started again."""
        self._server, self._probe = server, probe
        self._on_start, self._on_message = on_start, on_message
        self._deaths: deque[float] = deque(maxlen=MOST_DEATHS)
        self._silent_since: float | None = None
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="supervisor", daemon=True)
        self.away: str | None = None
        """Why the server is away at the moment; None while it answers."""
        self.failure: ServerError | None = None
        """Why the supervisor gave up; None while it has not."""

    def has_given_up(self) -> bool:
        """Tell whether the server will not be started again."""
        return self.failure is not None

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._is_closed.set()
        if self.away is not None:
            # A start that is under way ends where its server does.
            self._server.kill()
        self._thread.join()

    def _watch(self) -> None:
        while not self._is_closed.wait(_EVERY_S) and self.failure is None:
            reason = self._server.ended() or self._stall()
            if reason is not None:
                self._revive(reason)

    def _stall(self) -> str | None:
        """Return why the server counts as stalled; None for one that answers, or computes."""
        before, began = self._server.cpu_s(), time.monotonic()
        try:
            self._probe(_PROBE_S)
        except ServerError as error:
            if self._server.ended() is not None:
                return None
            self._silent_since = self._silent_since or began
            is_busy = self._server.cpu_s() - before >= _BUSY_S
            if is_busy and time.monotonic() - self._silent_since < _LONGEST_BUSY_S:
                return None
            return str(error)
        self._silent_since = None
        return None

    def _revive(self, reason: str) -> None:
        """Start the server again, as often as it takes."""
        self._silent_since = None
        while not self._is_closed.is_set():
            self.away = reason
            self._deaths.append(time.monotonic())
            if self._has_died_too_often():
                self.failure = ServerError(
                    f"the Triton server died {MOST_DEATHS} times within {WITHIN_S:g} s, the last "
                    f"time: {reason}"
                )
                return
            self._on_message(f"the Triton server is started again: {reason}")
            self._server.kill()
            if self._is_closed.wait(self._backoff_s()):
                return
            try:
                self._server.start()
                self._wait_for_answer()
            except ServerError as error:
                reason = str(error)
                continue
            self.away = None
            self._on_message("the Triton server answers again")
            return

    def _wait_for_answer(self) -> None:
        """Wait until a probe is answered. Raises ServerError where none is."""
        end = time.monotonic() + _ASK_FOR_S
        while True:
            self._on_start()
            try:
                self._probe(_ASK_S)
            except ServerError:
                if self._is_closed.is_set() or time.monotonic() > end:
                    raise
            else:
                return

    def _has_died_too_often(self) -> bool:
        oldest, latest = self._deaths[0], self._deaths[-1]
        return len(self._deaths) == MOST_DEATHS and latest - oldest <= WITHIN_S

    def _backoff_s(self) -> float:
        recent = sum(time.monotonic() - death <= WITHIN_S for death in self._deaths)
        return min(_BACKOFF_MOST_S, _BACKOFF_FIRST_S * 2.0 ** (recent - 1))
