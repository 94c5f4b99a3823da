"""What a scan finds out of image bytes, so that the same bytes need not be scored twice."""

from aigid.answers.cache import AnswerCache, BatchAnswers, Noted, RowAnswer
from aigid.answers.image_hash import ImageHash, PerceptualHash

__all__ = ["AnswerCache", "BatchAnswers", "ImageHash", "Noted", "PerceptualHash", "RowAnswer"]
