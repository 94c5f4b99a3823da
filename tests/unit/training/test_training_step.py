import numpy as np
import torch
from torch.nn import functional

from aigid.training.checkpoint import CheckpointInfo, new_model
from aigid.training.fusion_model import FusionModel
from aigid.training.losses import LossConfig, batch_totals, equal_weights, multi_task_loss
from aigid.training.training_step import TrainingStep

LABELS_B = torch.tensor([0, 1, 2, 3, 4, 5])
LABELS_A = (LABELS_B > 0).long()
TOTALS = batch_totals(LABELS_A, LABELS_B)


def images_of(seed: int) -> torch.Tensor:
    return torch.from_numpy(
        np.random.default_rng(seed).integers(0, 256, (6, 32, 32, 3), dtype=np.uint8)
    )


def prompts() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.from_numpy(np.random.default_rng(3).integers(1, 30522, (6, 8)).astype(np.int32))
    return ids, torch.ones_like(ids)


def test_without_changed_copies_it_is_the_loss_of_the_logits(
    tiny_model: FusionModel,
) -> None:
    images, tokens = images_of(0), prompts()
    found = TrainingStep(tiny_model, LossConfig(), equal_weights(6))(
        images, *tokens, LABELS_A, LABELS_B, TOTALS
    )
    torch.testing.assert_close(
        found, multi_task_loss(tiny_model(images, *tokens), LABELS_A, LABELS_B)
    )


def test_equal_copies_cost_what_the_images_cost_alone(tiny_model: FusionModel) -> None:
    images, tokens = images_of(0), prompts()
    step = TrainingStep(tiny_model, LossConfig(consistency=5.0), equal_weights(6))
    one, two = (
        step(inputs, *tokens, LABELS_A, LABELS_B, TOTALS)
        for inputs in (images, torch.cat([images, images]))
    )
    torch.testing.assert_close(two, one, rtol=1e-4, atol=1e-5)


def test_consistency_brings_images_and_changed_copies_together(
    tiny_info: CheckpointInfo,
) -> None:
    clean, changed, tokens = images_of(0), images_of(1), prompts()
    apart = []
    for consistency in (0.0, 3.0):
        torch.manual_seed(7)
        model = new_model(tiny_info).eval()
        step = TrainingStep(model, LossConfig(consistency=consistency), equal_weights(6))
        optimizer = torch.optim.AdamW(step.parameters(), lr=3e-3)
        for _ in range(40):
            optimizer.zero_grad()
            step(torch.cat([clean, changed]), *tokens, LABELS_A, LABELS_B, TOTALS).backward()
            optimizer.step()
        apart.append(distance(model, clean, changed))
    assert apart[1] < 0.5 * apart[0]


@torch.no_grad()
def distance(model: FusionModel, one: torch.Tensor, other: torch.Tensor) -> float:
    return float(
        (
            1 - functional.cosine_similarity(model.image_features(one), model.image_features(other))
        ).mean()
    )
