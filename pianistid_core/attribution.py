"""Which notes mattered: traced exactly, or by integrated gradients on the rolls, with controls.

What an n-gram model answers is a sum over n-grams, which are made of notes: there a note's score is its share of those
that it is part of, and the scores of a clip make up its logit exactly. In other models it is what the note's painted
cells give to the pianist's logit along a straight path from the empty roll (Sundararajan, Taly and Yan 2017), summed
over its cells and, in a factorised model, over the concepts that it is drawn in. Scores are signed: above 0 speaks for
the pianist, below 0 against.

A picture can look convincing and say nothing of the model. So the same is done with a model of random weights
(Adebayo et al. 2018), and with the music a little later. Shapes: n notes, B clips, C channels of a roll.
"""

from collections.abc import Callable
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
from pianistid_core.models import NgramModel, PianistModel, build_model, for_inference
from pianistid_core.models.moments import N_STEPS, STEP_FRAMES
from pianistid_core.rolls import N_FRAMES, N_KEYS, Roll, heard_notes, is_heard, rasterise
from pianistid_core.strokes import moved

Scores = npt.NDArray[np.float64]
OnProgress = Callable[[int, int], None]

GRADIENTS, TRACED = "integrated gradients from an empty roll", "each note's share of the n-grams that it is part of"
SHIFT_S = 0.05
MOST_STEPS, FEWEST_STEPS = 16, 6
_GRADIENTS = 48  # in all, where the music is so short that no clip needs more than the most or less than the fewest
_CONTROL_STEPS = 4
_CONTROL_CLIPS = 2
_CONTROL_SEED = 20250101
_CONTROL_SPREAD = 1e-3
_AT_ONCE = 4  # more at once leave a CPU's caches, and are slower
_TOO_ALIKE = 0.7
_TOO_UNSTABLE = 0.4
_TOO_LITTLE = 2.0  # a model that notes move no more than this many times as much as a random one has learned little


@dataclass(frozen=True, eq=False)
class Attribution:
    """How much each of the n notes spoke for `pianist`, float64 in units of the logit, and how far to trust that.

    `by_concept` shares the scores out among the concepts that are a model's channels; others have none. `control` and
    `stability` are rank correlations of the absolute scores: with those of a model of random weights (near 1: the
    picture would look alike whatever was learned), and with those of the music 50 ms later. `completeness` is the share
    of the logits' difference to empty rolls that the scores make up; 1 is all of it. `method` says in words how the
    scores were found.
    """

    pianist: str
    scores: Scores
    by_concept: dict[str, Scores]
    control: float
    stability: float
    completeness: float
    informative: bool
    words: tuple[str, ...]
    method: str = GRADIENTS

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
            "method": self.method,
        }


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
    question = _Question(identifier, who, notes)
    pieces = split_into_clips(notes)
    steps = min(MOST_STEPS, max(FEWEST_STEPS, round(_GRADIENTS / len(pieces))))
    next_control, stride = 0, -(-len(pieces) // _CONTROL_CLIPS)
    randomised = _randomised(identifier)
    given, at_random, later = _Tally(question, whole=True), _Tally(question), _Tally(question)
    seen = np.zeros(len(notes), bool)
    for number, piece in enumerate(pieces):
        scores = given.add(identifier.model, piece, number, steps)
        if number >= next_control and scores.any():
            next_control = number + stride
            seen |= scores.any(axis=0)
            at_random.add(randomised, piece, number, _CONTROL_STEPS)
            later.add(identifier.model, piece.shifted(SHIFT_S), number, _CONTROL_STEPS)
        if progress is not None:
            progress(number + 1, len(pieces))
    if not given.gaps:
        raise ExtractionError("no clip of this music can be drawn for this model, so no note can be scored")
    checks = _Checks(
        control=rank_correlation(given.total[seen], at_random.total[seen]),
        stability=rank_correlation(given.total[seen], later.total[seen]),
        moved=given.moved / max(at_random.moved, 1e-9),
    )
    return Attribution(
        pianist=who,
        scores=given.total,
        by_concept=dict(zip(question.concepts, given.scores, strict=False)),
        control=checks.control,
        stability=checks.stability,
        completeness=given.completeness,
        informative=checks.passed,
        words=checks.words(who),
        method=TRACED if isinstance(identifier.model, NgramModel) else GRADIENTS,
    )


def rank_correlation(one: Scores, other: Scores) -> float:
    """Spearman's correlation of absolute scores; 0 where either does not vary."""
    ranks = np.stack([_ranks(np.abs(scores)) for scores in (one, other)])
    if len(one) < 2 or (np.ptp(ranks, axis=1) == 0).any():
        return 0.0
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def _ranks(values: Scores) -> Scores:
    """Ranks from 1 on, equal values sharing the mean of theirs: scipy's rankdata, without its second of import."""
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks: Scores = (np.cumsum(counts) - (counts - 1) / 2)[places]
    return ranks


class _Question:
    """How much each note of a performance speaks for one pianist: asked of any model of one architecture."""

    def __init__(self, identifier: Identifier, pianist: str, notes: Notes) -> None:
        self.model = identifier.model
        self.options = identifier.clip_options
        self.device = identifier.device
        self.target = identifier.class_names.index(pianist)
        self.notes = notes
        self._at_rest: float | None = None

    @property
    def concepts(self) -> tuple[str, ...]:
        """The concepts that notes are scored by; none where the model hears the roll as a whole."""
        if isinstance(self.model, NgramModel):
            return CONCEPTS
        return tuple(CONCEPTS[index] for index in self.options.use_concepts) if self.options.multichannel else ()

    @property
    def n_rows(self) -> int:
        """How many scores a note has."""
        return max(1, len(self.concepts))

    def scores(self, model: PianistModel, piece: Notes, number: int, steps: int) -> tuple[Scores, torch.Tensor]:
        """What each channel or concept of each note gives (C, n), and the rolls (B, C, 88, 3000) of the first steps.

        Each step along the path has random keys of its own, so that a score is the note's and not the key's.
        """
        if isinstance(model, NgramModel):
            return self._traced(model, piece, number)
        from captum.attr import InputXGradient

        nodes, weights = np.polynomial.legendre.leggauss(steps)
        places, weights = (nodes + 1) / 2, weights / 2
        first = int(np.searchsorted(self.notes.onsets_s, CLIP_LENGTH_S * number))
        for_rolls, for_painters = evaluation_rng(piece), evaluation_rng(piece)
        given = np.zeros((self.options.n_channels, len(self.notes)))
        first_rolls: list[torch.Tensor] = []
        method = InputXGradient(model)
        for start in range(0, steps, _AT_ONCE):
            chosen = slice(start, start + _AT_ONCE)
            rolls = [draw_clip(piece, self.options, for_rolls) for _ in places[chosen]]
            batch = torch.from_numpy(np.stack(rolls)).to(self.device)
            place = torch.tensor(places[chosen], dtype=batch.dtype, device=self.device).view(-1, 1, 1, 1)
            with torch.enable_grad():
                cells = method.attribute((batch * place).requires_grad_(), target=self.target).detach() / place
            for one, weight in zip(cells.cpu().numpy(), weights[chosen], strict=True):
                given += weight * _by_note(one, _painters(piece, first, self.options, for_painters), len(self.notes))
            first_rolls = first_rolls or [batch]
        return given, first_rolls[0]

    def _traced(self, model: NgramModel, piece: Notes, number: int) -> tuple[Scores, torch.Tensor]:
        first = int(np.searchsorted(self.notes.onsets_s, CLIP_LENGTH_S * number))
        rolls = torch.from_numpy(draw_clip(piece, self.options, evaluation_rng(piece))[np.newaxis]).to(self.device)
        given = np.zeros((self.n_rows, len(self.notes)))
        for by in model.listenings:
            with torch.inference_mode():
                traced = model.trace(moved(rolls, by), self.target)[0].cpu().numpy()
            painters = painters_of_steps(piece, first, self.options, by=by)
            given += _by_note(traced, np.broadcast_to(painters, traced.shape), len(self.notes))
        return given / len(model.listenings), rolls

    def gap(self, rolls: torch.Tensor) -> float:
        """How far the model's logit for rolls (B, C, 88, 3000) is, on average, from that for an empty one."""
        with torch.inference_mode():
            if self._at_rest is None:
                self._at_rest = float(self.model(torch.zeros_like(rolls[:1]))[0, self.target])
            heard = [self.model(moved(rolls, by))[:, self.target].double().mean() for by in self.model.listenings]
            return float(torch.stack(heard).mean()) - self._at_rest


class _Tally:
    """What the clips of a performance that can be drawn give, added up; `whole` also asks how much of it that is."""

    def __init__(self, question: _Question, *, whole: bool = False) -> None:
        self._question = question
        self._whole = whole
        self._n_clips = 0
        self.scores: Scores = np.zeros((question.n_rows, len(question.notes)))
        self.gaps: list[float] = []
        self._errors: list[float] = []

    def add(self, model: PianistModel, piece: Notes, number: int, steps: int) -> Scores:
        """Adds one clip, and gives what it gave: zeros where it cannot be drawn."""
        try:
            given, rolls = self._question.scores(model, piece, number, steps)
        except ExtractionError:
            return np.zeros_like(self.scores)
        self.scores += given
        self._n_clips += 1
        if self._whole:
            gap = self._question.gap(rolls)
            self.gaps.append(gap)
            self._errors.append(float(given.sum()) - gap)
        return given

    @property
    def total(self) -> Scores:
        total: Scores = self.scores.sum(axis=0)
        return total

    @property
    def moved(self) -> float:
        """How much the notes of a clip move the logit in all, whichever way."""
        return float(np.abs(self.scores).sum()) / max(self._n_clips, 1)

    @property
    def completeness(self) -> float:
        """1 less the mean error of what the notes make up over the mean difference of the logits."""
        return float(1 - np.mean(np.abs(self._errors)) / max(float(np.mean(np.abs(self.gaps))), 1e-9))


def _by_note(cells: Roll, painters: Roll, n: int) -> Scores:
    """Adds cells (C, 88, T) up by the note that painted them: (C, n)."""
    sums = []
    for channel, numbers in zip(cells, painters, strict=True):
        painted = np.flatnonzero(numbers)
        of_note = numbers.ravel()[painted].astype(np.intp) - 1
        sums.append(np.bincount(of_note, weights=channel.ravel()[painted], minlength=n))
    by_note: Scores = np.stack(sums).astype(np.float64)
    return by_note


def _painters(piece: Notes, first: int, options: ClipOptions, rng: np.random.Generator) -> Roll:
    """Which note of a performance painted each cell (C, 88, 3000), from 1 on, when the clip begins at note `first`."""
    numbers = first + 1 + np.flatnonzero(is_heard(piece))
    painters = np.zeros((options.n_channels, N_KEYS, N_FRAMES), np.float32)
    if not options.multichannel:
        heard = heard_notes(piece)
        rasterise(painters[0], heard.starts_s, heard.ends_s, heard.pitches, numbers)
        return painters
    kept = [CONCEPTS[index] for index in options.use_concepts]
    drawn = draw_concepts(piece, 0.0, rng, concepts=kept, options=options.extractor_cfg)
    for channel, concept in zip(painters, drawn.values(), strict=True):
        rasterise(channel, concept.starts_s, concept.ends_s, concept.pitches, numbers[concept.sources])
    return painters


def painters_of_steps(piece: Notes, first: int, options: ClipOptions, *, by: int = 0) -> Roll:
    """Which note of a performance painted each step of 100 ms (88, 300), from 1 on, in a clip that begins at `first`.

    Of several, the last in the frames nearest to the step. The clip is heard `by` frames later.
    """
    painters = moved(torch.from_numpy(_painters(piece, first, options, evaluation_rng(piece))[0]), by).numpy()
    half = STEP_FRAMES // 2
    frames = np.pad(painters[:, : N_FRAMES - half], ((0, 0), (half, 0))).reshape(N_KEYS, N_STEPS, STEP_FRAMES)
    last = STEP_FRAMES - 1 - np.argmax(frames[:, :, ::-1] > 0, axis=2)
    of_steps: Roll = np.take_along_axis(frames, last[:, :, np.newaxis], axis=2)[:, :, 0]
    return of_steps


def _randomised(identifier: Identifier) -> PianistModel:
    """A model of the same architecture whose weights have learned nothing; always the same one."""
    config = identifier.loaded.config
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(_CONTROL_SEED)
        model = build_model(config.encoder_module, config.model_cfg, len(identifier.class_names))
        given = identifier.model
        if isinstance(model, NgramModel) and isinstance(given, NgramModel):
            # It begins with no n-grams and weights of 0; the same n-grams with any weights are what tells something.
            model.vocabulary.load_state_dict(given.vocabulary.state_dict())
            torch.nn.init.normal_(model.weight, std=_CONTROL_SPREAD)
    return for_inference(model).to(identifier.device)


@dataclass(frozen=True)
class _Checks:
    """What tells whether scores say something of what a model learned.

    `moved` says how many times as much as a model of random weights the notes move this one.
    """

    control: float
    stability: float
    moved: float

    @property
    def passed(self) -> bool:
        return self.control < _TOO_ALIKE and self.stability >= _TOO_UNSTABLE and self.moved >= _TOO_LITTLE

    def words(self, pianist: str) -> tuple[str, ...]:
        """The checks in sentences."""
        words = [f"A note's score says how much it spoke for {pianist} in this model: an association, not a proof."]
        if self.moved < _TOO_LITTLE:
            words.append(
                f"The notes move this model's score for {pianist} hardly more than that of a model that has learned "
                f"nothing ({self.moved:.1f} times as much), so there is little to explain."
            )
        if self.control >= _TOO_ALIKE:
            words.append(
                f"A model that has learned nothing marks much the same notes (rank correlation {self.control:.2f}), so "
                "this picture says little about what was learned."
            )
        else:
            words.append(
                f"A model that has learned nothing marks other notes (rank correlation {self.control:.2f}; near 1 "
                "would mean that the picture says little)."
            )
        shift = f"{1000 * SHIFT_S:.0f} ms"
        if self.stability < _TOO_UNSTABLE:
            words.append(
                f"Music that begins {shift} later has other notes marked (rank correlation {self.stability:.2f}), so "
                "single notes are not to be relied on."
            )
        else:
            words.append(
                f"Music that begins {shift} later has much the same notes marked (rank correlation "
                f"{self.stability:.2f})."
            )
        return tuple(words)
