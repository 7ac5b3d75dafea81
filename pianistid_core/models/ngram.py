"""The n-gram model (`ngram`): a weight for each pianist and each n-gram of melody, harmony and rhythm.

A clip's n-grams are counted by family (`ngrams.FAMILIES`); the logarithm of one more than each count, scaled so that
what is four times as long in a family counts twice as much there, is multiplied by the weights, and what the three
concepts give is added up. So the answer is the sum of what each n-gram gives, nothing else, and can be traced to the
notes without approximation. Dynamics is not heard. Shapes: B clips, K pianists, V n-grams of the vocabulary.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from pianistid_core.concepts import CONCEPTS
from pianistid_core.errors import ModelError
from pianistid_core.models.chance import DrawsChance
from pianistid_core.models.concept_model import ConceptModel
from pianistid_core.models.moments import N_STEPS, STEP_FRAMES, Moments
from pianistid_core.models.ngrams import FAMILIES, Found, find, hash_columns
from pianistid_core.models.options import NgramOptions
from pianistid_core.models.vocabulary import Survey, Vocabulary
from pianistid_core.rolls import N_KEYS

HEARD = ("melody", "harmony", "rhythm")
# How long the values of a clip of jazz are together, or about: with it, steps of 0.1 go far in a few epochs.
LENGTH = 10.0
_LENGTH_BEFORE = 73.0  # of such a clip, by the weights of the families alone
# Frames by which music is moved against the grid of steps each time that it is listened to: what lies on the grid is
# heard alike each time, what lies between two steps at times on one and at times on the other.
LISTENINGS = (0, -3, 3)
_24_BITS = (1 << 24) - 1
_SCALES = [LENGTH / _LENGTH_BEFORE * math.sqrt(family.weight) for family in FAMILIES]
_FIRST_FAMILIES = [next(n for n, family in enumerate(FAMILIES) if family.concept == concept) for concept in HEARD]


@dataclass(frozen=True, eq=False)
class Held:
    """What clips hold of the vocabulary: `keys` int64 ascending (clip * V + row), `clips`, `rows` and `values`."""

    keys: Tensor
    clips: Tensor
    rows: Tensor
    values: Tensor


class NgramModel(DrawsChance, ConceptModel):
    """Linear in its n-grams; an embedding of a concept is what it gives to each pianist's logit, (B, 4, K).

    Beyond what usual music gives: so that a concept left out says nothing, for nobody, rather than that it is silent.
    """

    hears = HEARD
    studies = True
    is_linear = True
    listenings = LISTENINGS

    def __init__(self, options: NgramOptions, num_classes: int) -> None:
        super().__init__(in_channels=1, num_classes=num_classes, feature_size=num_classes, frame_pool=STEP_FRAMES)
        self.mask_probability = options.mask_probability if options.use_masking else 0.0
        self.absolute_pitch, self.least_recordings = options.absolute_pitch, options.least_recordings
        self.ngram_dropout = options.ngram_dropout
        self.vocabulary = Vocabulary(options.vocabulary)
        self.weight = nn.Parameter(torch.zeros(options.vocabulary, num_classes))
        self.bias = nn.Parameter(torch.zeros(num_classes))
        self.usual: Tensor
        self.scales: Tensor
        self.register_buffer("usual", torch.zeros(options.vocabulary))
        self.register_buffer("scales", torch.tensor(_SCALES), persistent=False)

    def study(self, clips: Iterable[tuple[Tensor, npt.NDArray[np.int64]]]) -> None:
        """Learns which n-grams to know and how much of each is usual, from rolls (B, 1, 88, 3000) and their recordings.

        Raises ModelError when the clips cannot be gone through twice, or there is none.
        """
        survey = Survey()
        for rolls, recordings in clips:
            self.check(rolls)
            for found in self.find(Moments.of(rolls)):
                survey.add(found, recordings)
        self.vocabulary.learn(survey.most_widespread(len(self.vocabulary.codes), least=self.least_recordings))
        total, n_clips = torch.zeros_like(self.usual, dtype=torch.float64), 0
        for rolls, _ in clips:
            held = self.hold(Moments.of(rolls))
            total.index_add_(0, held.rows, held.values.double())
            n_clips += len(rolls)
        if not n_clips:
            raise ModelError("no clips came the second time; give a list, or what can be gone through twice")
        self.usual.copy_(total / n_clips)

    def encode_concepts(self, rolls: Tensor) -> Tensor:
        self.check(rolls)
        held = self.hold(Moments.of(rolls))
        values = self._dropped(held)
        # A bag for each concept of each clip, in this order: rows ascend, and concepts are runs of them.
        starts = self.vocabulary.starts
        firsts = torch.stack([starts[number] for number in _FIRST_FAMILIES])
        clips = torch.arange(len(rolls), device=rolls.device).unsqueeze(1) * len(self.vocabulary.codes)
        bags = torch.searchsorted(held.keys, (clips + firsts).flatten())
        given = functional.embedding_bag(held.rows, self.weight, bags, mode="sum", per_sample_weights=values)
        of_heard = given.view(len(rolls), len(HEARD), self.num_classes) - self._at_rest()
        return functional.pad(of_heard, (0, 0, 0, len(CONCEPTS) - len(HEARD)))

    def _at_rest(self) -> Tensor:
        """What usual music gives by each concept heard, (3, K): a concept that is masked is as if it were usual."""
        starts = self.vocabulary.starts.tolist()
        firsts = [*(starts[number] for number in _FIRST_FAMILIES), starts[-1]]
        return torch.stack([self.usual[a:b] @ self.weight[a:b] for a, b in pairwise(firsts)])

    def hold(self, moments: Moments) -> "Held":
        """How much of each n-gram there is in each clip: log(1 + count), over the root of its family's length there."""
        size, n_families = len(self.vocabulary.codes), len(FAMILIES)
        counts = torch.zeros(moments.n_clips * size, device=moments.clips.device)
        for found in self.find(moments):
            rows, known = self.vocabulary.find(found.codes)
            keys = found.clips[known] * size + rows
            counts.index_add_(0, keys, torch.ones_like(keys, dtype=counts.dtype))
        keys = counts.nonzero().squeeze(1)
        clips, rows = keys // size, keys % size
        logs = counts[keys].log1p()
        families = torch.searchsorted(self.vocabulary.starts, rows, right=True) - 1
        of = clips * n_families + families
        squares = logs.new_zeros(moments.n_clips * n_families).index_add_(0, of, logs.square())
        values = logs / squares[of].sqrt().sqrt() * self.scales[families]
        return Held(keys, clips, rows, values)

    def _dropped(self, held: "Held") -> Tensor:
        """The values, some of them dropped in training: which, depends on the batch, the clip and the n-gram alone."""
        if not self.training or self.ngram_dropout == 0.0:
            return held.values
        seed = torch.randint(1 << 62, (1,), device=held.keys.device)
        clips = held.clips + (0 if self.share is None else self.share.start)
        drawn = hash_columns([seed.expand_as(clips), clips, held.rows]).bitwise_and(_24_BITS) / (_24_BITS + 1)
        return torch.where(drawn >= self.ngram_dropout, held.values / (1 - self.ngram_dropout), 0.0)

    def find(self, moments: Moments) -> Iterator[Found]:
        """The n-grams that moments hold, of the families that this model counts."""
        return (found for found in find(moments) if self.absolute_pitch or not found.family.absolute)

    def combine(self, embeddings: Tensor, kept: Tensor) -> Tensor:
        return (embeddings * kept.unsqueeze(2)).sum(dim=1)

    def forward_features(self, rolls: Tensor) -> Tensor:
        embeddings = self.encode_concepts(rolls)
        kept = self._draw_kept(embeddings)
        # What is left speaks up for what is masked, so that each concept learns to give the whole answer alone.
        share = kept.sum(dim=1, keepdim=True) / len(HEARD)
        return self.combine(embeddings, kept) / share

    def head(self, features: Tensor) -> Tensor:
        return features + LENGTH * self.bias

    def trace(self, rolls: Tensor, target: int) -> Tensor:
        """What each key in each step of 100 ms gives to a pianist's logit, by concept: (B, 4, 88, 300).

        All of it adds up to the logit less that of an empty roll. An n-gram's part is shared out evenly among its
        moments, and in each among the keys that it is made of.

        Raises ModelError when the rolls have another shape or are not floating point.
        """
        self.check(rolls)
        moments = Moments.of(rolls)
        held = self.hold(moments)
        given = held.values * self.weight[held.rows, target]
        traced = torch.zeros(len(CONCEPTS), len(moments), N_KEYS, device=rolls.device)
        for found in self.find(moments):
            rows, known = self.vocabulary.find(found.codes)
            if len(rows):
                places = torch.searchsorted(held.keys, found.clips[known] * len(self.vocabulary.codes) + rows)
                _share_out(found, known, places, given, moments, traced[CONCEPTS.index(found.family.concept)])
        steps = traced.new_zeros(len(rolls), len(CONCEPTS), N_KEYS, N_STEPS)
        steps[moments.clips, :, :, moments.steps] = traced.transpose(0, 1)
        return steps

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


def _share_out(found: Found, known: Tensor, places: Tensor, given: Tensor, moments: Moments, traced: Tensor) -> None:
    """Adds what the known n-grams of one family give to the keys (n, 88) that they are made of.

    `places` (m,) says where in `given` each of them stands.
    """
    _, which, times = torch.unique(places, return_inverse=True, return_counts=True)
    members = found.moments[known]
    each = (given[places] / times[which]).unsqueeze(1) / members.shape[1]
    if found.keys is not None:
        keys = found.keys[known]
        share = (each * members.shape[1] / keys.shape[1]).expand_as(keys)
        traced.index_put_((members.expand_as(keys), keys), share, accumulate=True)
        return
    share = each.expand_as(members)
    if found.family.voice in ("top", "low"):
        keys = (moments.top if found.family.voice == "top" else moments.low)[members]
        traced.index_put_((members, keys), share, accumulate=True)
        return
    sounding = moments.struck if found.family.voice == "struck" else moments.struck | moments.held
    of_moments = traced.new_zeros(len(moments)).index_add_(0, members.flatten(), share.flatten())
    traced += sounding * (of_moments / sounding.sum(dim=1)).unsqueeze(1)
