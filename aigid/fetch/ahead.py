"""Images over the network, fetched before they are needed, within a bound on memory."""

from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import count
from threading import Condition

from aigid.fetch.circuit_breaker import CircuitBreaker
from aigid.fetch.image import FetchPolicy, ImageReference, fetch_image
from aigid.records import ErrorCode, RowFailure

# Images that are fetched at a time: latency limits them, not this host.
_THREADS = 64
_HELD_BYTES = 256 << 20
# An image's size is not known before it is asked for. So much room is kept for it, and then, if it
# is larger, the next: few images are, and with all threads at work the first leave room for others.
_ROOMS = (2 << 20, 16 << 20)


class FetchAhead:
    """Fetches images in threads of its own, in the order of `start`.

    The images in progress, and those that wait to be taken, have at most `held_bytes`. `take` them
    in any order that does not wait for a later image for ever: each `take` must be certain to come.
    """

    def __init__(
        self, policy: FetchPolicy, circuit_breaker: CircuitBreaker, held_bytes: int = _HELD_BYTES
    ) -> None:
        self._policy, self._circuit_breaker = policy, circuit_breaker
        most = policy.limits.max_bytes
        rooms = sorted({most, *(room for room in _ROOMS if room < most)})
        self._policies = [
            replace(policy, limits=replace(policy.limits, max_bytes=room)) for room in rooms
        ]
        self._free = max(held_bytes, rooms[0])
        self._tickets, self._admitted, self._closed = count(), 0, False
        self._changed = Condition()
        self._pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")

    def start(self, image: ImageReference) -> "Future[bytes | None]":
        """Have an image fetched as soon as there is a thread and room; `take` it later."""
        return self._pool.submit(self._fetch_in_turn, image, next(self._tickets))

    def take(self, image: ImageReference, started: "Future[bytes | None]") -> bytes:
        """Return the bytes of an image that was started, and make room for others.

        An image without room for it is fetched now. Raises what `fetch_image` raises, and
        StorageError where the network must be down.
        """
        data = started.result()
        if data is None:
            return self._fetch(image, self._policy)
        self._give_back(len(data))
        return data

    def close(self) -> None:
        """Cancel what has not begun, and do not wait for the rest."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _fetch_in_turn(self, image: ImageReference, ticket: int) -> bytes | None:
        # In the order of tickets: a later image never takes the room that an earlier one waits for,
        # so the first image that is not taken yet is always on its way.
        room = self._policies[0].limits.max_bytes
        with self._changed:
            self._changed.wait_for(
                lambda: self._closed or (self._admitted == ticket and self._free >= room)
            )
            if self._closed:
                raise CancelledError
            self._admitted += 1
            self._free -= room
            self._changed.notify_all()
        return self._fetch_in_room(image)

    def _fetch_in_room(self, image: ImageReference) -> bytes | None:
        """Return the bytes of an image, None where there is no room for it now."""
        used = room = self._policies[0].limits.max_bytes
        data = None
        try:
            for policy in self._policies:
                room = policy.limits.max_bytes
                if room > used and not self._reserve(room - used):
                    return None
                used = room
                try:
                    data = self._fetch(image, policy)
                    return data
                except RowFailure as failure:
                    if failure.error.code != ErrorCode.TOO_LARGE or policy is self._policies[-1]:
                        raise
        finally:
            self._give_back(used - len(data or b""))
        return None

    def _fetch(self, image: ImageReference, policy: FetchPolicy) -> bytes:
        with self._circuit_breaker.watch():
            return fetch_image(image, policy)

    def _reserve(self, size: int) -> bool:
        with self._changed:
            if self._free < size:
                return False
            self._free -= size
            return True

    def _give_back(self, size: int) -> None:
        with self._changed:
            self._free += size
            self._changed.notify_all()
