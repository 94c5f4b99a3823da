"""The optimisation profiles of the TensorRT engines.

They are compiled into a plan, and its Triton configuration names them.
"""

from dataclasses import dataclass

from aigid.contract import ModelContract

Shape = tuple[int, ...]

# A single request, the batch that a scan sends, and the largest batch of merged requests.
BATCH_ROWS = (1, 32, 256)
MAX_BATCH_ROWS = BATCH_ROWS[-1]


@dataclass(frozen=True)
class Profile:
    """The minimum, optimum and maximum shape of each input of an engine."""

    name: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]

    def as_trtexec(self) -> dict[str, str]:
        """Return the shapes as options of NVIDIA's `trtexec`, such as `image:32x224x224x3`."""
        options = ("minShapes", "optShapes", "maxShapes")
        columns = zip(*self.shapes.values(), strict=True)
        return {
            option: _as_text(dict(zip(self.shapes, shapes, strict=True)))
            for option, shapes in zip(options, columns, strict=True)
        }


def _as_text(shapes: dict[str, Shape]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def engine_profiles(contract: ModelContract, part: str) -> tuple[Profile, ...]:
    """Return the profiles of one part: one for each batch size, for `bert` also by token bucket.

    Together they cover every batch from 1 to 256 rows and every length up to the token limit.
    """
    if part == "bert":
        buckets = contract.prompt.buckets
        shortest = (1, *(bucket + 1 for bucket in buckets[:-1]))
        return tuple(
            _text_profile(rows, least, bucket)
            for least, bucket in zip(shortest, buckets, strict=True)
            for rows in BATCH_ROWS
        )
    if part == "clip_vision":
        rests: dict[str, Shape] = {"image": contract.image.shape}
    else:
        rests = {
            "text_features": (contract.text_features,),
            "image_features": (contract.image_features,),
        }
    return tuple(
        Profile(
            f"{rows} rows",
            {name: ((1, *rest), (rows, *rest), (rows, *rest)) for name, rest in rests.items()},
        )
        for rows in BATCH_ROWS
    )


def _text_profile(rows: int, shortest: int, bucket: int) -> Profile:
    shapes = ((1, shortest), (rows, bucket), (rows, bucket))
    return Profile(
        f"{rows} rows of {bucket} tokens", {"input_ids": shapes, "attention_mask": shapes}
    )
