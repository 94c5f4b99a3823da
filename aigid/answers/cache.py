"""Answers that rows with the same image bytes and the same prompt share."""

import hashlib
from array import array
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from threading import Lock

import numpy as np
import numpy.typing as npt

from aigid.records import RowError
from aigid.scorers import Scores

_MOST_ANSWERS = 1 << 16
_MOST_BYTES = 64 << 20
# An answer and its key, without the probabilities of labels.
_ANSWER_BYTES = 640
_LABEL_BYTES = 4


@dataclass(frozen=True)
class RowAnswer:
    """The scores of an image and its prompt, or the error of decoding the image.

    `p_source` has a probability for each label of the model.
    """

    p_ai: float = np.nan
    p_source: npt.NDArray[np.float32] | None = None
    known_score: float = np.nan
    error: RowError | None = None
    perceptual_hash: int | None = None


@dataclass(frozen=True)
class _Settled:
    """A batch that was given to the scorer: by key, the rows of `scores`, errors and hashes."""

    scores: "Future[Scores] | None"
    rows: dict[bytes, int]
    errors: dict[bytes, RowError]
    hashes: dict[bytes, int]

    def answer(self, key: bytes) -> RowAnswer:
        """Return the answer of a key; wait for the scores. Raises what the scorer raised."""
        perceptual_hash = self.hashes.get(key)
        if self.scores is None or key in self.errors:
            return RowAnswer(error=self.errors[key], perceptual_hash=perceptual_hash)
        scores, row = self.scores.result(), self.rows[key]
        return RowAnswer(
            float(scores.p_ai[row]),
            # A copy: a view would keep the whole batch's array alive.
            scores.p_source[row].copy(),
            float(scores.known_score[row]),
            perceptual_hash=perceptual_hash,
        )


_Pending = Future[_Settled]


class AnswerCache:
    """The latest answers by image bytes and prompt, for all threads of a process.

    It has at most 65,536 answers, and at most 64 MiB.
    """

    def __init__(self, labels: int) -> None:
        self._most = min(_MOST_ANSWERS, _MOST_BYTES // (_ANSWER_BYTES + _LABEL_BYTES * labels))
        self._lock = Lock()
        self._found: OrderedDict[bytes, RowAnswer | _Pending] = OrderedDict()

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
            self._found[key] = pending if found is None else found
            self._keep_latest(key)
            return found

    def store(self, answers: Mapping[bytes, RowAnswer]) -> None:
        """Keep answers."""
        with self._lock:
            for key, answer in answers.items():
                self._found[key] = answer
                self._keep_latest(key)

    def _keep_latest(self, key: bytes) -> None:
        self._found.move_to_end(key)
        while len(self._found) > self._most:
            self._found.popitem(last=False)


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
        hashes: Mapping[int, int],
    ) -> None:
        """Share what this batch found: the `scores` of these positions, errors of decoding, hashes.

        Errors of rows whose image could not be fetched are not shared: the next one may come.
        """
        own = self._own
        settled = _Settled(
            scores,
            {own[position]: row for row, position in enumerate(positions)},
            {own[position]: error for position, error in errors.items() if position in own},
            {own[position]: one for position, one in hashes.items() if position in own},
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
