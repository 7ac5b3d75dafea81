"""What every model that takes music apart into concepts can be asked: to hear some of them and not others.

Shapes: B clips, D features of an embedding, K pianists, S subsets; the four concepts are in the order of `CONCEPTS`.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from pianistid_core.concepts import CONCEPTS, concepts_problem
from pianistid_core.errors import ModelError
from pianistid_core.models.blocks import PianistModel


class ConceptModel(PianistModel):
    """A model with an embedding for each concept, any of which can be left out before the head.

    `hears` names the concepts that can change its answer: where dynamics is not among them, a subset with dynamics
    gives what the same subset without it gives.
    """

    hears: tuple[str, ...] = CONCEPTS

    @abstractmethod
    def encode_concepts(self, rolls: Tensor) -> Tensor:
        """Describes each concept of each clip by one vector: (B, C, 88, 3000) to (B, 4, D).

        Raises ModelError when the rolls have another shape or are not floating point.
        """

    @abstractmethod
    def combine(self, embeddings: Tensor, kept: Tensor) -> Tensor:
        """Takes embeddings (B, 4, D) and which of them are kept, bool (B, 4), to the head's input."""

    def classify(self, embeddings: Tensor, keep: Sequence[str | int] | None = None) -> Tensor:
        """Gives logits (B, K) for embeddings (B, 4, D), hearing only the concepts in `keep` (None: all).

        `keep` holds names, or numbers of channels as `CONCEPTS` orders them: 0 melody to 3 dynamics.

        Raises ModelError when `keep` is empty or names something else, or the embeddings have another shape.
        """
        self._check_embeddings(embeddings)
        names = CONCEPTS if keep is None else _concept_names(keep)
        kept = torch.tensor([concept in names for concept in CONCEPTS], device=embeddings.device)
        return self.head(self.combine(embeddings, kept.expand(len(embeddings), -1)))

    def classify_each(self, embeddings: Tensor, subsets: Sequence[Sequence[str | int]]) -> Tensor:
        """Gives logits (S, B, K) for embeddings (B, 4, D), hearing only the concepts of each of S subsets in turn.

        All subsets go through the head at once. An empty one is silence: what is said before listening.

        Raises ModelError when a subset names something else, or the embeddings have another shape.
        """
        self._check_embeddings(embeddings)
        named = [_concept_names(subset) if len(subset) else () for subset in subsets]
        kept = torch.tensor([[concept in names for concept in CONCEPTS] for names in named], dtype=torch.bool)
        # Not `device=`: that would wait for a GPU to have finished its work so far.
        of_clips = kept.to(embeddings.device, non_blocking=embeddings.is_cuda).repeat_interleave(len(embeddings), dim=0)
        stacked = embeddings.expand(len(subsets), *embeddings.shape).flatten(0, 1)  # (S * B, 4, D)
        return self.head(self.combine(stacked, of_clips)).view(len(subsets), len(embeddings), -1)

    def _check_embeddings(self, embeddings: Tensor) -> None:
        if embeddings.dim() != 3 or tuple(embeddings.shape[1:]) != (len(CONCEPTS), self.feature_size):
            raise ModelError(
                f"embeddings of shape {tuple(embeddings.shape)} came, but this model's head wants "
                f"(clips, {len(CONCEPTS)}, {self.feature_size}), as encode_concepts gives them"
            )


def _concept_names(keep: Sequence[str | int]) -> Sequence[object]:
    names = keep if isinstance(keep, str) else [_concept_name(given) for given in keep]
    problem = concepts_problem(names)
    if problem is not None:
        raise ModelError(problem)
    return names


def _concept_name(given: object) -> object:
    """The name of a numbered concept; whatever is no such number as it came."""
    if isinstance(given, int | np.integer) and not isinstance(given, bool) and 0 <= given < len(CONCEPTS):
        return CONCEPTS[int(given)]
    return given
