"""Losses."""

import pytest
import torch

from pianistid_core.optimisation import triplet_loss


def test_triplets_draw_a_pianist_together_and_push_others_away() -> None:
    anchors = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
    labels = torch.tensor([0, 1])
    assert triplet_loss(anchors, anchors, labels, 0.3, "cosine").item() == pytest.approx(0.0)
    swapped = triplet_loss(anchors, anchors.flip(0), labels, 0.3, "cosine").item()
    assert swapped == pytest.approx(1.3)
    scaled = triplet_loss(anchors, 10 * anchors.flip(0), labels, 0.3, "cosine").item()
    assert scaled == pytest.approx(1.3) != triplet_loss(anchors, 10 * anchors.flip(0), labels, 0.3, "dot").item()
    assert triplet_loss(anchors, anchors, torch.tensor([0, 0]), 0.3, "cosine").item() == 0.0
