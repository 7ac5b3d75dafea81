"""Which notes mattered: integrated gradients on the rolls, brought back to the notes as played, with controls.

A note's score is what its painted cells give to the pianist's logit along a straight path from the empty roll
(Sundararajan, Taly and Yan 2017), summed over its cells and, in a factorised model, over the concepts that it is
drawn in. Scores are signed: above 0 speaks for the pianist, below 0 against.

A picture can look convincing and say nothing of the model. So the same is done with a model of random weights
(Adebayo et al. 2018), and with the music a little later. Shapes: n notes, B clips, C channels of a roll.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import CONCEPTS, draw_concepts, evaluation_rng
from pianistid_core.errors import ExtractionError, ModelError
from pianistid_core.identify import Identifier
from pianistid_core.midi import CLIP_LENGTH_S, Notes, split_into_clips
from pianistid_core.models import PianistModel, build_model, for_inference
from pianistid_core.rolls import N_FRAMES, N_KEYS, Roll, heard_notes, is_heard, rasterise

Scores = npt.NDArray[np.float64]
OnProgress = Callable[[int, int], None]

STEPS = 16
SHIFT_S = 0.05
_CONTROL_STEPS = 4
_CONTROL_CLIPS = 3
_CONTROL_SEED = 20250101
_AT_ONCE = 4  # larger batches of steps are slower on a CPU: they leave its caches
_TOO_ALIKE = 0.7
_TOO_UNSTABLE = 0.5


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each of the n notes spoke for `pianist`, float64 in units of the logit, and how far to trust that.

    `by_concept` shares the scores out among the concepts of a factorised model, and is empty for others. `control` and
    `stability` are rank correlations of the absolute scores: with those of a model of random weights (near 1: the
    picture would look alike whatever was learned), and with those of the music 50 ms later. `total` is what all notes
    give together, and `completeness` the share of the logits' difference to empty rolls that it makes up.
    """

    pianist: str
    scores: Scores
    by_concept: dict[str, Scores]
    control: float
    stability: float
    completeness: float
    informative: bool
    words: tuple[str, ...]

    def strongest(self, n: int = 10) -> list[int]:
        """The notes with the largest absolute scores, those first."""
        order = np.argsort(-np.abs(self.scores), kind="stable")
        return [int(index) for index in order[:n] if self.scores[index] != 0]

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON."""
        return {
            "pianist": self.pianist,
            "scores": self.scores.tolist(),
            "by_concept": {concept: scores.tolist() for concept, scores in self.by_concept.items()},
            "control": self.control,
            "stability": self.stability,
            "completeness": self.completeness,
            "informative": self.informative,
            "words": list(self.words),
        }


@dataclass(frozen=True, eq=False)
class _Clip:
    """A drawn clip: its roll (C, 88, 3000), and for each cell 1 + the note that painted it, 0 where none did."""

    roll: Roll
    painters: Roll


def attribute(
    identifier: Identifier, notes: Notes, pianist: str | None = None, *, progress: OnProgress | None = None
) -> Attribution:
    """Scores every note of a performance by how much it spoke for a pianist (default: the model's answer).

    `progress(done, total)` counts clips. The controls are made on a few clips, spread evenly.

    Raises
    ------
    ExtractionError
        When no clip can be drawn from the music.
    ModelError
        When the model does not know the pianist.
    """
    who = identifier.identify(notes, concepts=False).pianist if pianist is None else pianist
    if who not in identifier.class_names:
        raise ModelError(f"{identifier.name} does not know {who!r}; it tells {', '.join(identifier.class_names)} apart")
    asked = _Asked(identifier, who, len(notes))
    pieces = split_into_clips(notes)
    controlled = range(0, len(pieces), -(-len(pieces) // _CONTROL_CLIPS))
    randomised = _randomised(identifier)
    scores, random_scores, later_scores = (np.zeros((asked.n_channels, len(notes))) for _ in range(3))
    seen = np.zeros(len(notes), bool)
    gaps: list[tuple[float, float]] = []
    for number, piece in enumerate(pieces):
        clip = asked.draw(piece, number, notes)
        if clip is not None:
            given, gap = asked.scores(identifier.model, clip, STEPS)
            scores += given
            gaps.append((float(given.sum()), gap))
            later = asked.draw(piece.shifted(SHIFT_S), number, notes)
            if number in controlled and later is not None:
                seen |= given.any(axis=0)
                random_scores += asked.scores(randomised, clip, _CONTROL_STEPS)[0]
                later_scores += asked.scores(identifier.model, later, _CONTROL_STEPS)[0]
        if progress is not None:
            progress(number + 1, len(pieces))
    if not gaps:
        raise ExtractionError("no clip of this music can be drawn for this model, so no note can be scored")
    total: Scores = scores.sum(axis=0)
    control = rank_correlation(total[seen], random_scores.sum(axis=0)[seen])
    stability = rank_correlation(total[seen], later_scores.sum(axis=0)[seen])
    return Attribution(
        pianist=who,
        scores=total,
        by_concept=dict(zip(CONCEPTS, scores, strict=True)) if identifier.factorised else {},
        control=control,
        stability=stability,
        completeness=_completeness(gaps),
        informative=control < _TOO_ALIKE and stability >= _TOO_UNSTABLE,
        words=_words(who, control, stability),
    )


def rank_correlation(one: Scores, other: Scores) -> float:
    """Spearman's correlation of absolute scores; 0 where either does not vary."""
    from scipy.stats import rankdata

    ranks = [rankdata(np.abs(scores)) for scores in (one, other)]
    if len(one) < 2 or any(np.ptp(rank) == 0 for rank in ranks):
        return 0.0
    return float(np.corrcoef(*ranks)[0, 1])


class _Asked:
    """One question, asked of several models and clips: how much each note speaks for one pianist."""

    def __init__(self, identifier: Identifier, pianist: str, n_notes: int) -> None:
        self.options = identifier.clip_options
        self.device = identifier.device
        self.target = identifier.class_names.index(pianist)
        self.n_notes = n_notes
        self.n_channels = self.options.n_channels

    def draw(self, piece: Notes, number: int, notes: Notes) -> _Clip | None:
        """One clip of a performance, or None when it cannot be drawn."""
        try:
            roll = draw_clip(piece, self.options, evaluation_rng(piece))
        except ExtractionError:
            return None
        first = int(np.searchsorted(notes.onsets_s, CLIP_LENGTH_S * number))
        return _Clip(roll, _painters(piece, first, self.options))

    def scores(self, model: PianistModel, clip: _Clip, steps: int) -> tuple[Scores, float]:
        """What each channel of each note gives, (C, n), and the difference of the logits that they should make up."""
        from captum.attr import IntegratedGradients

        rolls = torch.from_numpy(clip.roll).unsqueeze(0).to(self.device)
        given, gap = IntegratedGradients(model).attribute(
            rolls,
            baselines=torch.zeros_like(rolls),
            target=self.target,
            n_steps=steps,
            internal_batch_size=_AT_ONCE,
            return_convergence_delta=True,
        )
        cells: Scores = given[0].detach().double().cpu().numpy()
        scores: Scores = np.stack(
            [
                np.bincount(painters.ravel().astype(np.int64), weights=channel.ravel(), minlength=self.n_notes + 1)[
                    1:
                ].astype(np.float64)
                for channel, painters in zip(cells, clip.painters, strict=True)
            ]
        )
        return scores, float(cells.sum() - gap)


def _painters(piece: Notes, first: int, options: ClipOptions) -> Roll:
    """Which note of a performance painted each cell, counted from 1, when the clip's notes begin at `first`."""
    numbers = first + 1 + np.flatnonzero(is_heard(piece))
    painters = np.zeros((options.n_channels, N_KEYS, N_FRAMES), np.float32)
    if not options.multichannel:
        heard = heard_notes(piece)
        rasterise(painters[0], heard.starts_s, heard.ends_s, heard.pitches, numbers)
        return painters
    kept = [CONCEPTS[index] for index in options.use_concepts]
    drawn = draw_concepts(piece, 0.0, evaluation_rng(piece), concepts=kept, options=options.extractor_cfg)
    for channel, concept in zip(painters, drawn.values(), strict=True):
        rasterise(channel, concept.starts_s, concept.ends_s, concept.pitches, numbers[concept.sources])
    return painters


def _randomised(identifier: Identifier) -> PianistModel:
    """A model of the same architecture whose weights have learned nothing; always the same one."""
    config = identifier.loaded.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_CONTROL_SEED)
        model = build_model(config.encoder_module, config.model_cfg, len(identifier.class_names))
    return for_inference(model).to(identifier.device)


def _completeness(gaps: Sequence[tuple[float, float]]) -> float:
    """The share of the logits' differences that the scores make up: 1 less the mean error over the mean difference."""
    given, wanted = np.array(gaps).T
    return float(1 - np.abs(given - wanted).mean() / max(float(np.abs(wanted).mean()), 1e-9))


def _words(pianist: str, control: float, stability: float) -> tuple[str, ...]:
    words = [f"A note's score says how much it spoke for {pianist} in this model: an association, not a proof."]
    if control >= _TOO_ALIKE:
        words.append(
            f"A model that has learned nothing marks much the same notes (rank correlation {control:.2f}), so this "
            "picture says little about what was learned."
        )
    else:
        words.append(
            f"A model that has learned nothing marks other notes (rank correlation {control:.2f}; near 1 would mean "
            "that the picture says little)."
        )
    if stability < _TOO_UNSTABLE:
        words.append(
            f"Beginning {1000 * SHIFT_S:.0f} ms later marks other notes (rank correlation {stability:.2f}), so single "
            "notes are not to be relied on."
        )
    else:
        words.append(
            f"Beginning {1000 * SHIFT_S:.0f} ms later marks much the same notes (rank correlation {stability:.2f})."
        )
    return tuple(words)
