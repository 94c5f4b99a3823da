"""The optimisation profiles of the TensorRT engines: compiled into a plan, and named by its Triton configuration."""

from dataclasses import dataclass

from aigid.contract import ModelContract

Shape = tuple[int, ...]

# A lone request, the batch that a scan sends, and what many clients together fill.
BATCH_ROWS = (1, 32, 256)
MAX_BATCH_ROWS = BATCH_ROWS[-1]


@dataclass(frozen=True)
class Profile:
    """Shapes that an engine is compiled for, by input: least, best and greatest."""

    name: str
    shapes: dict[str, tuple[Shape, Shape, Shape]]

    def as_trtexec(self) -> dict[str, str]:
        """The shapes as the options of NVIDIA's `trtexec` have them: `image:32x224x224x3`."""
        options = zip(
            ("minShapes", "optShapes", "maxShapes"),
            zip(*self.shapes.values(), strict=True),
            strict=True,
        )
        return {
            option: _as_text(dict(zip(self.shapes, shapes, strict=True)))
            for option, shapes in options
        }


def _as_text(shapes: dict[str, Shape]) -> str:
    return ",".join(f"{name}:{'x'.join(map(str, shape))}" for name, shape in shapes.items())


def engine_profiles(contract: ModelContract, part: str) -> tuple[Profile, ...]:
    """The profiles of one part: a batch size each, and for `bert` each with every token bucket.

    Together they take any batch from 1 to 256 rows and any length up to the model's token limit.
    """
    if part == "bert":
        lengths = zip(
            (1, *(bucket + 1 for bucket in contract.prompt.buckets)),
            contract.prompt.buckets,
            strict=False,
        )
        return tuple(
            _text_profile(rows, shortest, bucket)
            for shortest, bucket in lengths
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
