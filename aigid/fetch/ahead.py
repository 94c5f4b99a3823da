"""Images over the network, fetched before they are needed, within a bound on memory."""

from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from functools import partial
from threading import Condition, Thread
from typing import Any, TypeVar

from aigid.fetch.circuit_breaker import CircuitBreaker
from aigid.fetch.host_queue import HostQueue
from aigid.fetch.image import FetchPolicy, fetch_image, web_host
from aigid.fetch.references import ImageReference
from aigid.records import ErrorCode, RowFailure

Fetched = TypeVar("Fetched")

# Images that are fetched at a time: latency limits them, not this host.
_THREADS = 64
_HELD_BYTES = 256 << 20
# An image's size is not known before it is asked for. So much room is kept for it, and then, if it
# is larger, the next: few images are, and with all threads at work the first leave room for others.
_ROOMS = (2 << 20, 16 << 20)


@dataclass
class StartedFetch:
    """An image on its way. Its bytes are None where there was no room for them."""

    image: ImageReference
    is_wanted: bool = False
    future: "Future[bytes | None]" = field(default_factory=Future)


class FetchAhead:
    """Fetches images in threads of its own.

    The images in progress, and those that wait to be taken, have at most `held_bytes`.
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
        self._changed = Condition()
        self._closed: Future[None] = Future()
        pool = ThreadPoolExecutor(_THREADS, thread_name_prefix="fetch")
        self._queue: HostQueue[bytes | None] = HostQueue(pool, policy.web.requests_per_host)

    @property
    def is_closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed.done()

    def start(self, image: ImageReference) -> StartedFetch:
        """Have an image fetched as soon as there is a thread and room; `take` it later."""
        one = StartedFetch(image)
        host = web_host(image, self._policy)
        one.future = self._queue.submit(host, partial(self._fetch_when_free, one))
        return one

    def take(self, one: StartedFetch) -> bytes:
        """Return the bytes of an image that was started, and make room for others.

        An image is fetched now if it has not begun, or if later images hold all room: these wait
        to be taken after it. Raises what `fetch_image` raises, StorageError where the network must
        be down, and CancelledError where `close` was called before.
        """
        if one.future.cancel():
            return self._fetch_now(one.image)
        with self._changed:
            one.is_wanted = True
            self._changed.notify_all()
        data = self._result(one.future)
        if data is None:
            return self._fetch_now(one.image)
        self._give_back(len(data))
        return data

    def close(self) -> None:
        """Cancel what has not begun, and do not wait for the rest."""
        self._closed.set_result(None)
        with self._changed:
            self._changed.notify_all()
        self._queue.close()

    def _fetch_now(self, image: ImageReference) -> bytes:
        """Fetch an image in a thread of its own, which is not waited for after `close`."""
        future: Future[bytes] = Future()

        def fetch() -> None:
            try:
                future.set_result(self._fetch(image, self._policy))
            except BaseException as error:  # noqa: BLE001 - raised by the thread that waits
                future.set_exception(error)

        Thread(target=fetch, name="fetch now", daemon=True).start()
        return self._result(future)

    def _result(self, future: "Future[Fetched]") -> Fetched:
        """Return what a fetch gives, once it is there. Raises CancelledError after `close`."""
        either: tuple[Future[Any], ...] = (future, self._closed)
        wait(either, return_when=FIRST_COMPLETED)
        if not future.done():
            raise CancelledError
        return future.result()

    def _fetch_when_free(self, one: StartedFetch) -> bytes | None:
        room = self._policies[0].limits.max_bytes
        with self._changed:
            self._changed.wait_for(lambda: self.is_closed or one.is_wanted or self._free >= room)
            if self.is_closed:
                raise CancelledError
            if self._free < room:
                return None
            self._free -= room
        return self._fetch_in_room(one.image)

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
