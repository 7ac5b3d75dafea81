"""The factorised model ("disentangle"): one encoder per musical concept, and a head over their embeddings.

Shapes: B clips, D features of an embedding, K pianists; the four concepts are in the order of `CONCEPTS`.
"""

from typing import cast

import torch
from torch import Tensor, nn

from pianistid_core.concepts import CONCEPTS
from pianistid_core.models.blocks import (
    ConvBlock,
    HeadLayer,
    MaxPooling,
    RecurrentBlock,
    make_pooling,
)
from pianistid_core.models.chance import DrawsChance, SelfAttention
from pianistid_core.models.compact import CompactEncoder
from pianistid_core.models.concept_model import ConceptModel
from pianistid_core.models.options import FactorisedOptions
from pianistid_core.rolls import N_KEYS

ATTENTION_DROPOUT = 0.1
HEAD_REDUCTION = 4


class StackEncoder(nn.Module):
    """Blocks of convolution, optionally a GRU along time, then the largest value: (B, 1, 88, T) to (B, D)."""

    def __init__(self, options: FactorisedOptions) -> None:
        super().__init__()
        self.layers = nn.ModuleList()
        height = N_KEYS
        for layer in options.layers:
            block = ConvBlock(
                layer.in_channels,
                layer.out_channels,
                kernel_size=layer.conv_kernel_size,
                pool_size=layer.pool_size,
            )
            self.layers.append(block)
            height //= layer.pool_size
        width = options.layers[-1].out_channels
        self.gru = RecurrentBlock(width, height, hidden_size=width // 2) if options.use_gru else None
        self.pooling = MaxPooling()

    def forward(self, rolls: Tensor) -> Tensor:
        maps = rolls
        for layer in self.layers:
            maps = layer(maps)
        if self.gru is not None:
            maps = self.gru(maps)
        return cast(Tensor, self.pooling(maps))


def _make_encoder(options: FactorisedOptions) -> nn.Module:
    if options.compact_encoders:
        return CompactEncoder(
            stem_width=options.compact_stem, width=options.compact_width, frame_pool=options.frame_pool
        )
    return _make_resnet_encoder(options.resnet_cls) if options.use_resnet else StackEncoder(options)


def _make_resnet_encoder(name: str) -> nn.Module:
    from torchvision.models import resnet18, resnet34, resnet50

    makers = {"resnet18": resnet18, "resnet34": resnet34, "resnet50": resnet50}
    encoder: nn.Module = makers[name](weights=None)
    encoder.conv1 = nn.Conv2d(1, 64, 7, stride=2, padding=3, bias=False)
    encoder.fc = nn.Identity()
    return encoder


class ConvolutionPooling(nn.Module):
    """A trained weighted sum of the concepts: (B, D, 4) to (B, D)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv1d(len(CONCEPTS), 1, 1)

    def forward(self, embeddings: Tensor) -> Tensor:
        return cast(Tensor, self.conv(embeddings.transpose(1, 2))).squeeze(1)


def masked_average(embeddings: Tensor, kept: Tensor) -> Tensor:
    """Averages embeddings (B, 4, D) over the concepts kept (B, 4); zeros where none is kept."""
    weights = kept.to(embeddings.dtype).unsqueeze(2)
    # At least 1: where every concept is masked the sum is 0, and 0 / 0 would be NaN.
    return (embeddings * weights).sum(dim=1) / weights.sum(dim=1).clamp(min=1)


class FactorisedModel(DrawsChance, ConceptModel):
    """Four encoders, one per concept, whose embeddings are masked, attended to and pooled before the head."""

    def __init__(self, options: FactorisedOptions, num_classes: int) -> None:
        super().__init__(
            in_channels=len(CONCEPTS),
            num_classes=num_classes,
            feature_size=options.embedding_size,
            frame_pool=options.frame_pool,
        )
        self.mask_probability = options.mask_probability if options.use_masking else 0.0
        self.max_masked_concepts = options.max_masked_concepts
        self.pool_type = options.pool_type
        self.compact = options.compact_encoders
        width = options.embedding_size
        for concept in CONCEPTS:
            self.add_module(f"{concept}_concept", _make_encoder(options))
        self.self_attention = (
            SelfAttention(width, options.num_attention_heads, dropout=ATTENTION_DROPOUT)
            if options.use_attention
            else None
        )
        self.pooling = self._make_pooling()
        hidden = width // HEAD_REDUCTION if options.use_2fc else width
        drop_first = not options.drop_logits
        self.fc1 = HeadLayer(width, hidden, drop_first=drop_first) if options.use_2fc else nn.Identity()
        self.fc2 = HeadLayer(hidden, num_classes, drop_first=drop_first)

    def _make_pooling(self) -> nn.Module:
        if self.pool_type == "masked-avg":
            return nn.Identity()
        return ConvolutionPooling() if self.pool_type == "conv1x1" else make_pooling(self.pool_type)

    def encode_concepts(self, rolls: Tensor) -> Tensor:
        """Describes each concept of each clip by one vector: (B, 4, 88, 3000) to (B, 4, D).

        Raises ModelError when the rolls have another shape or are not floating point.
        """
        self.check(rolls)
        # Compact encoders hear onsets too, so they make their own coarser frames.
        prepared = rolls if self.compact else self.prepare(rolls)
        embeddings = [
            self.get_submodule(f"{concept}_concept")(prepared[:, channel : channel + 1])
            for channel, concept in enumerate(CONCEPTS)
        ]
        return torch.stack(embeddings, dim=1)

    def forward_features(self, rolls: Tensor) -> Tensor:
        embeddings = self.encode_concepts(rolls)
        return self.combine(embeddings, self._draw_kept(embeddings))

    def head(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.fc2(self.fc1(features)))

    def combine(self, embeddings: Tensor, kept: Tensor) -> Tensor:
        """Takes embeddings (B, 4, D) and what is kept of them (B, 4) to features (B, D)."""
        embeddings = embeddings * kept.unsqueeze(2)
        if self.self_attention is not None:
            embeddings = self.self_attention(embeddings)
        if self.pool_type == "masked-avg":
            return masked_average(embeddings, kept)
        return cast(Tensor, self.pooling(embeddings.transpose(1, 2)))

    def _draw_kept(self, embeddings: Tensor) -> Tensor:
        """Draws for each clip which concepts to keep (B, 4): all of them, except in training."""
        shape, device = embeddings.shape[:2], embeddings.device
        if not self.training or self.mask_probability == 0.0 or self.max_masked_concepts == 0:
            return torch.ones(shape, dtype=torch.bool, device=device)
        n_clips = self.n_drawn(shape[0])
        clips = (n_clips, 1)
        hit = torch.rand(clips, device=device) < self.mask_probability
        masked = torch.randint(1, self.max_masked_concepts + 1, clips, device=device)
        # The ranks of independent draws are a random order, so "rank below n" is a random set of n concepts.
        ranks = torch.rand((n_clips, shape[1]), device=device).argsort(dim=1).argsort(dim=1)
        return self.own(~(hit & (ranks < masked)))
