"""Train heads alone, on the features of frozen encoders: seconds for thousands of rows on a CPU."""

import numpy as np
import torch

from aigid.training.adamw import learning_rate_at, new_adamw
from aigid.training.config import TrainingConfig
from aigid.training.heads import Heads
from aigid.training.labelled_features import LabelledFeatures
from aigid.training.losses import multi_task_loss

HEAD_TRAINING = TrainingConfig(epochs=30, batch_rows=64, learning_rate=1e-3, encoders="frozen")
"""Settings that suit heads. With 4,800 rows they take about 2,300 steps."""

_HIDDEN = 512


def train_heads(
    features: LabelledFeatures, labels: int, config: TrainingConfig = HEAD_TRAINING
) -> Heads:
    """Return heads over so many labels, with a hidden layer as the paper's, trained on all rows.

    Rows with a negative `label_b` count for head A only. Of the config, the settings of the
    optimizer, the loss and the seed count. The same rows give the same heads.
    """
    text, image, label_a, label_b = (
        torch.from_numpy(array)
        for array in (features.text, features.image, features.label_a, features.label_b)
    )
    with torch.random.fork_rng(devices=()):
        torch.manual_seed(config.seed)
        heads = Heads(text.shape[1], image.shape[1], _HIDDEN, labels)
    adamw = new_adamw(heads, config)
    batches = _batches(len(label_a), config)
    for step, rows in enumerate(batches):
        for group in adamw.param_groups:
            group["lr"] = learning_rate_at(config, step, len(batches))
        logits = heads.fuse(text[rows], image[rows])
        loss = multi_task_loss(logits, label_a[rows], label_b[rows], config.loss)
        adamw.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(heads.parameters(), config.max_gradient_norm)
        adamw.step()
    return heads.eval()


def _batches(rows: int, config: TrainingConfig) -> list[torch.Tensor]:
    """Return the rows of each batch of all epochs."""
    rng = np.random.default_rng(config.seed)
    return [
        batch
        for _ in range(config.epochs)
        for batch in torch.split(torch.from_numpy(rng.permutation(rows)), config.batch_rows)
    ]
