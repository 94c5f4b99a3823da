"""What the encoders expect: images of a size, and prompts of so many tokens."""

from dataclasses import dataclass
from enum import StrEnum

from aigid.errors import ContractError


class Resizing(StrEnum):
    """How an image of any size becomes the model's square input, or several squares."""

    SHORTER_SIDE = "shorter_side"
    """Resize the shorter side to `size` (bicubic), then crop the centre: CLIP's preprocessing."""
    SQUASH = "squash"
    """Resize both sides to `size` (bilinear), whatever the aspect ratio: the preprocessing of
    SigLIP 2, DINOv3 and Perception Encoder."""
    SQUASH_BICUBIC = "squash_bicubic"
    """The same with a bicubic filter: SigLIP's preprocessing."""
    NATIVE_CROP = "native_crop"
    """Crop the centre at native resolution, from a corner at a multiple of 16 pixels. Only an image
    smaller than `size` is resized."""
    FOUR_NATIVE_CROPS = "4_native_crops"
    """Take a grid of 2 x 2 such crops from edge to edge. The model averages their features."""
    NINE_NATIVE_CROPS = "9_native_crops"
    """Take a grid of 3 x 3 such crops."""


@dataclass(frozen=True)
class ImageSpec:
    """What the image encoder expects. The defaults are CLIP's.

    `mean` and `std` have one value for each channel, for pixels scaled to [0, 1].
    """

    size: int = 224
    resizing: Resizing = Resizing.SHORTER_SIDE
    mean: tuple[float, float, float] = (0.48145466, 0.4578275, 0.40821073)
    std: tuple[float, float, float] = (0.26862954, 0.26130258, 0.27577711)

    def __post_init__(self) -> None:
        object.__setattr__(self, "resizing", Resizing(self.resizing))
        object.__setattr__(self, "mean", tuple(self.mean))
        object.__setattr__(self, "std", tuple(self.std))
        if self.size < 1 or len(self.mean) != 3 or len(self.std) != 3 or min(self.std) <= 0:
            raise ContractError(
                f"image: size must be positive, mean and std three numbers, std above 0: got {self}"
            )

    @property
    def is_native(self) -> bool:
        """Whether crops are taken at native resolution."""
        return self.resizing in (
            Resizing.NATIVE_CROP,
            Resizing.FOUR_NATIVE_CROPS,
            Resizing.NINE_NATIVE_CROPS,
        )

    @property
    def crops_across(self) -> int:
        """The number of crops in each row of the grid, and of rows in it."""
        return {Resizing.FOUR_NATIVE_CROPS: 2, Resizing.NINE_NATIVE_CROPS: 3}.get(self.resizing, 1)

    @property
    def shape(self) -> tuple[int, int, int]:
        """The shape of an image's pixels: height, width, channels.

        Several crops are stacked vertically, in the grid's row-major order.
        """
        return self.crops_across**2 * self.size, self.size, 3


@dataclass(frozen=True)
class PromptSpec:
    """What the text encoder expects: at most `max_tokens` ids, padded to the smallest bucket."""

    max_tokens: int = 128
    buckets: tuple[int, ...] = (16, 32, 64, 128)

    def __post_init__(self) -> None:
        object.__setattr__(self, "buckets", tuple(self.buckets))
        rising = list(self.buckets) == sorted(set(self.buckets))
        if (
            not self.buckets
            or not rising
            or self.buckets[0] < 2
            or self.buckets[-1] != self.max_tokens
        ):
            raise ContractError(
                f"prompt: buckets must rise, from 2 or more, to max_tokens: got {self}"
            )
