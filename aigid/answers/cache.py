"""Answers that rows with the same image bytes and the same prompt share."""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from aigid.evidence import RowEvidence
from aigid.records import RowError
from aigid.scorers import Scores

_MOST_ANSWERS = 1 << 16
_MOST_BYTES = 64 << 20
# An answer and its key, without what differs from answer to answer.
_ANSWER_BYTES = 640
_CHARACTER_BYTES = 4


@dataclass(frozen=True)
class Noted:
    """What else was found out of an image, as far as the scan asks for it."""

    perceptual_hash: int | None = None
    evidence: RowEvidence | None = None


@dataclass(frozen=True)
class RowAnswer:
    """The scores of an image and its prompt, or the error of decoding the image.

    `p_source` has a probability for each label of the model.
    """

    noted: Noted
    p_ai: float = np.nan
    p_source: npt.NDArray[np.float32] | None = None
    known_score: float = np.nan
    error: RowError | None = None

    @property
    def size_bytes(self) -> int:
        """The memory that it needs, about."""
        labels = 0 if self.p_source is None else self.p_source.nbytes
        detail = (self.noted.evidence and self.noted.evidence.detail) or ""
        return _ANSWER_BYTES + labels + _CHARACTER_BYTES * len(detail)


@dataclass(frozen=True)
class _Settled:
    """A batch that was given to the scorer: by key, the rows of `scores`, errors, and the rest."""

    scores: "Future[Scores] | None"
    rows: dict[bytes, int]
    errors: dict[bytes, RowError]
    noted: dict[bytes, Noted]

    def answer(self, key: bytes) -> RowAnswer:
        """Return the answer of a key; wait for the scores. Raises what the scorer raised."""
        noted = self.noted[key]
        if self.scores is None or key in self.errors:
            return RowAnswer(noted, error=self.errors[key])
        scores, row = self.scores.result(), self.rows[key]
        return RowAnswer(
            noted,
            float(scores.p_ai[row]),
            # A copy: a view would keep the whole batch's array alive.
            scores.p_source[row].copy(),
            float(scores.known_score[row]),
        )


_Pending = Future[_Settled]


class AnswerCache:
    """The latest answers by image bytes and prompt, for all threads of a process.

    It has at most 65,536 answers, and at most 64 MiB.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self._found: OrderedDict[bytes, RowAnswer | _Pending] = OrderedDict()
        # Of answers that are there: only so many are pending as the scan has batches at a time.
        self._bytes = 0

    def drop_pending(self) -> None:
        """Forget the answers that are not there yet: those of a scan that ended early."""
        with self._lock:
            for key in [key for key, one in self._found.items() if isinstance(one, Future)]:
                del self._found[key]

    def find(self, key: bytes, pending: _Pending) -> RowAnswer | _Pending | None:
        """Return the answer of a key, perhaps a pending one.

        Without any return None, and take `pending` for it from now on.
        """
        with self._lock:
            found = self._found.get(key)
            self._put(key, pending if found is None else found)
            return found

    def store(self, answers: Mapping[bytes, RowAnswer]) -> None:
        """Keep answers."""
        with self._lock:
            for key, answer in answers.items():
                self._put(key, answer)

    def _put(self, key: bytes, one: RowAnswer | _Pending) -> None:
        """Make it the latest one; the oldest ones go where there are too many."""
        self._bytes += _size_bytes(one) - _size_bytes(self._found.pop(key, None))
        self._found[key] = one
        while len(self._found) > _MOST_ANSWERS or self._bytes > _MOST_BYTES:
            self._bytes -= _size_bytes(self._found.popitem(last=False)[1])


class BatchAnswers:
    """The answers of one batch: those that it finds itself, and those that other rows have.

    A batch waits for others only once it is settled itself, so that no two wait for each other.
    """

    def __init__(self, cache: AnswerCache) -> None:
        self._cache = cache
        self._pending: _Pending = Future()
        self._own: dict[int, bytes] = {}
        self._others: dict[int, tuple[bytes, RowAnswer | _Pending]] = {}

    def has_other(self, position: int, sha256: bytes, token_ids: Sequence[int]) -> bool:
        """Return whether another row has the answer of this image and prompt, or will have it.

        Otherwise this batch must find it.
        """
        key = hashlib.sha256(sha256 + array("i", token_ids).tobytes()).digest()
        found = self._cache.find(key, self._pending)
        if found is None:
            self._own[position] = key
        else:
            self._others[position] = key, found
        return found is not None

    def settle(
        self,
        positions: Sequence[int],
        scores: "Future[Scores] | None",
        errors: Mapping[int, RowError],
        noted: Callable[[int], Noted],
    ) -> None:
        """Share what this batch found: the `scores` of positions, errors of decoding, the rest.

        Errors of rows whose image could not be fetched are not shared: the next one may come.
        `noted` gives what else is known of a position.
        """
        own = self._own
        settled = _Settled(
            scores,
            {own[position]: row for row, position in enumerate(positions)},
            {own[position]: error for position, error in errors.items() if position in own},
            {key: noted(position) for position, key in own.items()},
        )
        self._pending.set_result(settled)

    def fail(self, failure: BaseException) -> None:
        """Have those who wait for this batch fail as well."""
        self._pending.set_exception(failure)

    def keep(self) -> None:
        """Keep the batch's own answers; wait for its scores."""
        settled = self._pending.result()
        self._cache.store({key: settled.answer(key) for key in self._own.values()})

    def others(self) -> dict[int, RowAnswer]:
        """Return the answers that other rows have, by position; wait for those that are pending.

        Raises what a batch raised that was to find one.
        """
        return {
            position: found if isinstance(found, RowAnswer) else found.result().answer(key)
            for position, (key, found) in self._others.items()
        }


def _size_bytes(one: RowAnswer | _Pending | None) -> int:
    return one.size_bytes if isinstance(one, RowAnswer) else 0
