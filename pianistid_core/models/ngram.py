"""The n-gram model (`ngram`): a weight for each pianist and each n-gram of melody, harmony and rhythm.

A clip's n-grams are counted by family (`ngrams.FAMILIES`); the logarithm of one more than each count, scaled so that
every family of every clip has length 1, is multiplied by the weights, and what the three concepts give is added up. So
the answer is the sum of what each n-gram gives, nothing else, and can be traced to the notes without approximation.
Dynamics is not heard. Shapes: B clips, K pianists, F buckets of all families.
"""

import torch
from torch import Tensor, nn

from pianistid_core.concepts import CONCEPTS
from pianistid_core.models.chance import DrawsChance, Dropout
from pianistid_core.models.concept_model import ConceptModel
from pianistid_core.models.moments import N_STEPS, STEP_FRAMES, Moments
from pianistid_core.models.ngrams import FAMILIES, Family, Found, find
from pianistid_core.models.options import NgramOptions
from pianistid_core.rolls import N_KEYS

HEARD = ("melody", "harmony", "rhythm")
INITIAL_SPREAD = 1e-3


class NgramModel(DrawsChance, ConceptModel):
    """Linear in its n-grams; an embedding of a concept is what it gives to each pianist's logit, (B, 4, K)."""

    hears = HEARD

    def __init__(self, options: NgramOptions, num_classes: int) -> None:
        super().__init__(in_channels=1, num_classes=num_classes, feature_size=num_classes, frame_pool=STEP_FRAMES)
        self.mask_probability = options.mask_probability if options.use_masking else 0.0
        self.families = tuple(family for family in FAMILIES if options.absolute_pitch or not family.absolute)
        self.starts, self.n_buckets = _starts(self.families)
        self.dropout = Dropout(options.ngram_dropout)
        self.weight = nn.Parameter(torch.randn(self.n_buckets, num_classes) * INITIAL_SPREAD)
        self.bias = nn.Parameter(torch.zeros(num_classes))

    def encode_concepts(self, rolls: Tensor) -> Tensor:
        self.check(rolls)
        values = self.dropout(self.values(Moments.of(rolls)).to(self.weight.dtype))
        return torch.stack([self._of_concept(values, concept) for concept in CONCEPTS], dim=1)

    def values(self, moments: Moments) -> Tensor:
        """How much of each n-gram there is in each clip, (B, F): log(1 + count), each family of length 1."""
        counts = torch.zeros(moments.n_clips * self.n_buckets, device=moments.clips.device)
        for found in find(moments):
            start = self.starts.get(found.family.name)
            if start is not None:
                at = found.clips * self.n_buckets + start + found.buckets
                counts.index_add_(0, at, torch.ones_like(at, dtype=counts.dtype))
        logs = counts.log1p_().view(moments.n_clips, self.n_buckets)
        families = torch.split(logs, [1 << family.bits for family in self.families], dim=1)
        return torch.cat([nn.functional.normalize(family, dim=1) for family in families], dim=1)

    def combine(self, embeddings: Tensor, kept: Tensor) -> Tensor:
        return (embeddings * kept.unsqueeze(2)).sum(dim=1)

    def forward_features(self, rolls: Tensor) -> Tensor:
        embeddings = self.encode_concepts(rolls)
        kept = self._draw_kept(embeddings)
        # What is left speaks up for what is masked, so that each concept learns to give the whole answer alone.
        share = kept.sum(dim=1, keepdim=True) / len(HEARD)
        return self.combine(embeddings, kept) / share

    def head(self, features: Tensor) -> Tensor:
        return features + self.bias

    def trace(self, rolls: Tensor, target: int) -> Tensor:
        """What each key in each step of 100 ms gives to a pianist's logit, by concept: (B, 4, 88, 300).

        All of it adds up to the logit less the bias. An n-gram's part is shared out evenly among its moments, and in
        each among the keys that it is made of.

        Raises ModelError when the rolls have another shape or are not floating point.
        """
        self.check(rolls)
        moments = Moments.of(rolls)
        given = self.values(moments) * self.weight[:, target]
        traced = torch.zeros(len(CONCEPTS), len(moments), N_KEYS, device=rolls.device, dtype=given.dtype)
        for found in find(moments):
            start = self.starts.get(found.family.name)
            if start is not None and len(found.clips):
                self._share_out(found, start, given, moments, traced[CONCEPTS.index(found.family.concept)])
        steps = traced.new_zeros(len(rolls), len(CONCEPTS), N_KEYS, N_STEPS)
        steps[moments.clips, :, :, moments.steps] = traced.transpose(0, 1)
        return steps

    def _share_out(self, found: Found, start: int, given: Tensor, moments: Moments, traced: Tensor) -> None:
        """Adds what the n-grams of one family give to the keys (n, 88) that they are made of."""
        size = 1 << found.family.bits
        of_family = given[:, start : start + size]
        at = found.clips * size + found.buckets
        times = torch.bincount(at, minlength=of_family.numel())
        each = (of_family.flatten()[at] / times[at]).unsqueeze(1) / found.moments.shape[1]
        if found.keys is not None:
            keys = found.keys
            share = (each / keys.shape[1]).expand_as(keys)
            traced.index_put_((found.moments.expand_as(keys), keys), share, accumulate=True)
            return
        share = each.expand_as(found.moments)
        if found.family.voice in ("top", "low"):
            keys = (moments.top if found.family.voice == "top" else moments.low)[found.moments]
            traced.index_put_((found.moments, keys), share, accumulate=True)
            return
        sounding = moments.struck if found.family.voice == "struck" else moments.struck | moments.held
        of_moments = traced.new_zeros(len(moments)).index_add_(0, found.moments.flatten(), share.flatten())
        traced += sounding * (of_moments / sounding.sum(dim=1)).unsqueeze(1)

    def _of_concept(self, values: Tensor, concept: str) -> Tensor:
        own = [family for family in self.families if family.concept == concept]
        if not own:
            return values.new_zeros(len(values), self.num_classes)
        start = self.starts[own[0].name]
        end = self.starts[own[-1].name] + (1 << own[-1].bits)
        return values[:, start:end] @ self.weight[start:end]

    def _draw_kept(self, embeddings: Tensor) -> Tensor:
        """Draws which concepts each clip keeps (B, 4): in training each heard one is masked by chance, never all."""
        n, device = len(embeddings), embeddings.device
        heard = torch.tensor([concept in HEARD for concept in CONCEPTS], device=device)
        if not self.training or self.mask_probability == 0.0:
            return heard.expand(n, -1)
        drawn = torch.rand((self.n_drawn(n), len(CONCEPTS)), device=device)
        kept = (drawn >= self.mask_probability) & heard
        # Where all would be masked, the one whose draw came closest to being kept stays.
        best = torch.where(heard, drawn, -1.0).argmax(dim=1, keepdim=True)
        return self.own(kept.scatter(1, best, value=True))


def _starts(families: tuple[Family, ...]) -> tuple[dict[str, int], int]:
    """Where each family's buckets begin, and how many there are in all."""
    starts, at = {}, 0
    for family in families:
        starts[family.name] = at
        at += 1 << family.bits
    return starts, at
