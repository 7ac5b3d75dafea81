"""Who is playing: a trained model, a MIDI file, and the answer as plain data.

The music is cut into 30 s clips as in training; a recording's probabilities are the mean over its clips. A factorised
model also answers with some of the four concepts masked, for every subset that can be kept. Where the model carries a
calibration, all probabilities are calibrated, and the answer says who else it may be and whether it is anybody known.
"""

import csv
import io
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from pianistid_core.boxed import is_box, is_shipped, load_box
from pianistid_core.calibration import PERHAPS, VERDICTS, Unknown
from pianistid_core.checkpoints import LoadedModel, load_model
from pianistid_core.clips import ClipOptions, draw_clip
from pianistid_core.concepts import CONCEPTS, evaluation_rng
from pianistid_core.config import RunConfig
from pianistid_core.datasets.root import DataRoot
from pianistid_core.datasets.tables import harmless_cell
from pianistid_core.devices import choose_device
from pianistid_core.errors import ExtractionError, ModelError, PianistIDError, RunError
from pianistid_core.evaluation import CONCEPT_SUBSETS, arithmetic, subset_name
from pianistid_core.midi import CLIP_LENGTH_S, MidiSource, Notes, clips_in, read_midi, split_into_clips
from pianistid_core.models import ConceptModel, PianistModel, for_inference
from pianistid_core.rolls import Roll
from pianistid_core.runs import list_runs
from pianistid_core.shapley import interactions, shapley_values
from pianistid_core.strokes import moved

log = logging.getLogger(__name__)

_CLIPS_AT_ONCE = 10
_SPARSE_NOTES_PER_S = 0.5
_FEW_NOTES = 50
_FEW_VELOCITIES = 3
_NAMED_SPANS = 4
_NAMED_CANDIDATES = 8
_NINE_IN_TEN = 0.9
_SHORT_S = 25.0  # a clip cut from a recording often ends on a rest

Probabilities = dict[str, float]


@dataclass(frozen=True)
class ClipResult:
    """The answer for one 30 s clip: where it lies (seconds), and pianist -> probability, the likeliest first."""

    start_s: float
    end_s: float
    probabilities: Probabilities


@dataclass(frozen=True)
class SkippedClip:
    """A clip that no roll could be drawn from, and why."""

    start_s: float
    end_s: float
    reason: str


@dataclass(frozen=True)
class Identification:
    """Who is playing, how sure the model is, and what it says when concepts are masked.

    `probabilities` are for the whole recording, pianist -> probability, the likeliest first; `clips` the same per clip.
    `concepts` maps each kept subset, such as ("melody", "harmony"), to probabilities of the whole recording; it is
    empty for a model that does not take concepts apart. `silence` is what the model says with all four masked.
    `hears` names the concepts that can change its answer; what is said of others, such as a share of 0, is no finding.
    `warnings` are sentences for the user.

    The rest is there where the model carries a calibration. `candidates` are all who it may be, the likeliest first:
    the right one is among them in a share `coverage` of recordings. `unknown` says whether it may be by nobody that
    the model knows, and `remarks`, sentences too, what is unlike the music that it learned from.
    """

    probabilities: Probabilities
    clips: tuple[ClipResult, ...]
    concepts: dict[tuple[str, ...], Probabilities]
    skipped: tuple[SkippedClip, ...]
    warnings: tuple[str, ...]
    model: str
    duration_s: float
    n_notes: int
    silence: Probabilities = field(default_factory=dict)
    hears: tuple[str, ...] = CONCEPTS
    candidates: tuple[str, ...] = ()
    coverage: float | None = None
    unknown: Unknown | None = None
    remarks: tuple[str, ...] = ()

    @property
    def pianist(self) -> str:
        """The likeliest pianist."""
        return next(iter(self.probabilities))

    @property
    def confidence(self) -> float:
        """The probability of the likeliest pianist."""
        return next(iter(self.probabilities.values()))

    @property
    def unheard_s(self) -> float:
        """How many seconds at the end are too few for a clip of their own, and so were not heard."""
        return max(0.0, self.duration_s - CLIP_LENGTH_S * clips_in(self.duration_s))

    @property
    def stranger(self) -> bool:
        """Whether it may be by nobody that the model knows."""
        return self.unknown is not None and self.unknown.verdict != VERDICTS[0]

    @property
    def headline(self) -> str:
        """The answer in a few words: the likeliest pianist, with a question mark where there is doubt, or nobody."""
        if self.unknown is not None and self.unknown.verdict == VERDICTS[2]:
            return f"Probably none of these {len(self.probabilities)}"
        return f"{self.pianist}?" if self.stranger else self.pianist

    def in_question(self) -> str:
        """Who it may be, in a sentence that says how often such a list is right; nothing without a calibration."""
        if self.coverage is None:
            return ""
        right = f"{round(100 * self.coverage)} times in 100" if self.coverage != _NINE_IN_TEN else "9 times in 10"
        known = ", if the pianist is one that it knows" if self.stranger else ""
        if len(self.candidates) == 1:
            return f"Nobody else comes into question; such a list of one or more holds the right one {right}{known}."
        named, more = self.candidates[:_NAMED_CANDIDATES], len(self.candidates) - _NAMED_CANDIDATES
        who = ", ".join(named) + (f" and {more} more" if more > 0 else "")
        return f"One of: {who} (right {right}{known})."

    def doubt(self) -> str:
        """Why it may be by nobody that the model knows, in a sentence; nothing where it need not be."""
        if self.unknown is None or not self.stranger:
            return ""
        known = f"none of the {len(self.probabilities)} pianists that the model knows"
        may = "may be" if self.unknown.verdict == VERDICTS[1] else "is probably"
        in_100 = 100 * self.unknown.familiarity
        if self.unknown.familiarity < PERHAPS:
            few = "fewer than 1" if in_100 < 1 else f"{in_100:.0f}"
            return f"This {may} {known}: of 100 recordings by those, {few} would sound as little like any of them."
        return f"This {may} {known}: it is not like the music that the model learned from."

    def worth(self, pianist: str | None = None) -> dict[tuple[str, ...], float]:
        """The probability of a pianist (default: the likeliest) for all 16 subsets of concepts, or {} without them.

        Raises
        ------
        ModelError
            When the model does not know the pianist.
        """
        who = self.pianist if pianist is None else pianist
        if who not in self.probabilities:
            raise ModelError(f"{self.model} does not know {who!r}; it tells {', '.join(self.probabilities)} apart")
        if not self.concepts or not self.silence:
            return {}
        return {kept: found[who] for kept, found in {**self.concepts, (): self.silence}.items()}

    def shapley(self, pianist: str | None = None) -> dict[str, float]:
        """How much of a pianist's probability (default: the likeliest) each concept gives, or {} without concepts.

        The four add up to the probability with all concepts heard less that with none.

        Raises
        ------
        ModelError
            When the model does not know the pianist.
        """
        worth = self.worth(pianist)
        return shapley_values(worth) if worth else {}

    def interactions(self, pianist: str | None = None) -> dict[tuple[str, str], float]:
        """How much each pair of concepts gives together beyond what both give alone, or {} without concepts.

        Raises
        ------
        ModelError
            When the model does not know the pianist.
        """
        worth = self.worth(pianist)
        return interactions(worth) if worth else {}

    def to_dict(self) -> dict[str, Any]:
        """Plain data for JSON; subsets are named "melody+harmony"."""
        return {
            "pianist": self.pianist,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "clips": [
                {"start_s": clip.start_s, "end_s": clip.end_s, "probabilities": clip.probabilities}
                for clip in self.clips
            ],
            "concepts": {subset_name(kept): found for kept, found in self.concepts.items()},
            "silence": self.silence,
            "hears": list(self.hears),
            "shapley": self.shapley(),
            "skipped": [{"start_s": clip.start_s, "end_s": clip.end_s, "reason": clip.reason} for clip in self.skipped],
            "warnings": list(self.warnings),
            **self._honesty(),
            "model": self.model,
            "duration_s": self.duration_s,
            "n_notes": self.n_notes,
            "unheard_s": self.unheard_s,
        }

    def _honesty(self) -> dict[str, Any]:
        """What a calibration adds to the plain data; nothing without one."""
        if self.coverage is None:
            return {}
        return {
            "candidates": list(self.candidates),
            "coverage": self.coverage,
            "unknown": self.unknown.to_dict() if self.unknown else None,
            "remarks": list(self.remarks),
        }

    def to_json(self) -> str:
        """`to_dict` as text."""
        return json.dumps(self.to_dict(), indent=2, ensure_ascii=False)

    def to_csv(self) -> str:
        """One tidy table: kind (recording, clip, subset or silence), start_s, end_s, kept, pianist, probability.

        With a calibration it also has the kinds candidate, unknown (its verdict under kept, its familiarity under
        probability) and remark (its sentence under kept).
        """
        rows: list[tuple[str, float, float, str, Probabilities]] = [
            ("recording", 0.0, self.duration_s, "", self.probabilities),
            *(("clip", clip.start_s, clip.end_s, "", clip.probabilities) for clip in self.clips),
            *(("subset", 0.0, self.duration_s, subset_name(kept), found) for kept, found in self.concepts.items()),
            *((("silence", 0.0, self.duration_s, "none", self.silence),) if self.silence else ()),
        ]
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(("kind", "start_s", "end_s", "kept", "pianist", "probability"))
        for kind, start_s, end_s, kept, found in rows:
            for pianist, probability in found.items():
                writer.writerow((kind, f"{start_s:g}", f"{end_s:.6g}", kept, harmless_cell(pianist), repr(probability)))
        whole = ("0", f"{self.duration_s:.6g}")
        for pianist in self.candidates:
            writer.writerow(("candidate", *whole, "", harmless_cell(pianist), repr(self.probabilities[pianist])))
        if self.unknown is not None:
            writer.writerow(("unknown", *whole, self.unknown.verdict, "", repr(self.unknown.familiarity)))
        writer.writerows(("remark", *whole, remark, "", "") for remark in self.remarks)
        return text.getvalue()


class Identifier:
    """A model that names the pianist of a MIDI file; load it once, ask it often."""

    def __init__(self, loaded: LoadedModel, device: torch.device) -> None:
        self.loaded = loaded
        self.device = device
        self.class_names = loaded.class_names
        self.name = loaded.name
        self._model = for_inference(loaded.model).to(device)
        # On a CPU few have arithmetic for it, and elsewhere it is much slower.
        self._precision = "bf16" if device.type == "cuda" and torch.cuda.is_bf16_supported() else None

    @classmethod
    def from_checkpoint(
        cls,
        source: str | Path,
        *,
        config: RunConfig | None = None,
        root: DataRoot | str | Path | None = None,
        device: str | torch.device = "cpu",
    ) -> "Identifier":
        """Loads the model of a .pth file, a run folder or "experiment/run" of a data root, on a device or "auto".

        The weights of a box are a model too.

        Raises
        ------
        PianistIDError
            When there is no such run, or its checkpoint is damaged or does not fit its config.
        """
        chosen = choose_device(str(device))
        if is_box(source):
            return cls(load_box(Path(source).parent, device=chosen), chosen)
        return cls(load_model(source, root=root, config=config, device=chosen), chosen)

    @classmethod
    def default(cls, root: DataRoot | str | Path | None = None, *, device: str | torch.device = "cpu") -> "Identifier":
        """The model that comes with the package, on a device or "auto"; without one, the newest run that can identify.

        Raises
        ------
        RunError
            When there is neither, or no such device.
        """
        chosen = choose_device(str(device))
        if is_shipped():
            try:
                return cls(load_box(device=chosen), chosen)
            except PianistIDError as error:
                log.warning("the shipped model cannot identify: %s", error)
        here = root if isinstance(root, DataRoot) else DataRoot.open(root)
        for run in list_runs(here.checkpoints_dir):
            try:
                return cls.from_checkpoint(run.path, root=here, device=chosen)
            except PianistIDError as error:
                log.info("run %s cannot identify: %s", run.id, error)
        raise RunError(
            f"no trained model is under {here.checkpoints_dir}; train one first, for example with "
            "`pianistid data demo` and `pianistid train --config demo.yaml`"
        )

    @property
    def factorised(self) -> bool:
        """Whether the model takes concepts apart, so that they can be masked."""
        return isinstance(self._model, ConceptModel)

    @property
    def hears(self) -> tuple[str, ...]:
        """The concepts that can change this model's answer."""
        return self._model.hears if isinstance(self._model, ConceptModel) else CONCEPTS

    def identify(self, midi: MidiSource | Notes, *, concepts: bool = True) -> Identification:
        """Names the pianist of a MIDI file, given as a path, its bytes, an open file or its notes.

        `concepts` asks for all subsets of concepts as well, which costs little: the encoders run once.

        Raises
        ------
        MidiError
            When the file cannot be read.
        ExtractionError
            When no clip has what the model needs, such as chords.
        """
        notes = midi if isinstance(midi, Notes) else read_midi(midi)
        subsets = (*CONCEPT_SUBSETS, ()) if concepts else CONCEPT_SUBSETS[:1]
        starts_s: list[float] = []
        skipped: list[SkippedClip] = []
        answers = [self._answer(rolls, subsets) for rolls in self._batches(notes, starts_s, skipped)]
        if not starts_s:
            raise ExtractionError(f"this music cannot be identified by {self.name}: {skipped[0].reason}")
        logits = np.concatenate(answers, axis=1)  # (S, n, K), the first with all concepts
        of_clips, of_recording = self._probabilities(logits)
        by_subset = dict(zip(subsets, of_recording, strict=True)) if self.factorised and concepts else {}
        silence = by_subset.pop((), None)
        return Identification(
            probabilities=self._named(of_recording[0]),
            clips=tuple(
                ClipResult(start, min(start + CLIP_LENGTH_S, max(notes.duration_s, start)), self._named(row))
                for start, row in zip(starts_s, of_clips[0], strict=True)
            ),
            concepts={kept: self._named(found) for kept, found in by_subset.items()},
            skipped=tuple(skipped),
            warnings=_warnings(notes, skipped, self.hears),
            model=self.name,
            duration_s=notes.duration_s,
            n_notes=len(notes),
            silence={} if silence is None else self._named(silence),
            hears=self.hears,
            **self._judged(logits[0], of_recording[0], notes),
        )

    def _probabilities(self, logits: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
        """The probabilities of clips (S, n, K) and of their recording (S, K)."""
        calibration = self.loaded.calibration
        if calibration is not None:
            return calibration.of_clips(logits), calibration.of_recording(logits)
        of_clips = torch.softmax(torch.from_numpy(logits), dim=-1).numpy()
        return of_clips, of_clips.mean(axis=1)

    def _judged(
        self, logits: npt.NDArray[np.float64], probabilities: npt.NDArray[np.float64], notes: Notes
    ) -> dict[str, Any]:
        """What a calibration adds to an answer: who else it may be, whether it is anybody, what is unusual."""
        calibration = self.loaded.calibration
        if calibration is None:
            return {}
        remarks = calibration.usual.remarks(notes) if calibration.usual else ()
        return {
            "candidates": tuple(self.class_names[k] for k in calibration.candidates(probabilities, len(logits))),
            "coverage": calibration.coverage,
            "unknown": calibration.unknown(logits, remarks),
            "remarks": tuple(remark.words for remark in remarks),
        }

    @property
    def model(self) -> PianistModel:
        """The model as it is asked: for evaluation only, on `device`."""
        return self._model

    @property
    def clip_options(self) -> ClipOptions:
        """How this model's clips are drawn when nothing about them is left to chance."""
        return replace(self.loaded.config.test_dataset_cfg, n_clips=None, data_augmentation=False, jitter_start=False)

    def features(self, notes: Notes) -> npt.NDArray[np.float32]:
        """What goes into the head, for each clip of the music that can be drawn: (n, D), n possibly 0."""
        nothing = np.empty((0, self._model.feature_size), np.float32)
        drawn = self._batches(notes, [], [])
        return np.concatenate([nothing, *(self.hear(torch.from_numpy(np.stack(rolls))) for rolls in drawn)])

    def hear(self, rolls: torch.Tensor) -> npt.NDArray[np.float32]:
        """What goes into the head for rolls (B, C, 88, 3000): (B, D), in full precision, since it may be kept."""
        with torch.inference_mode():
            features: npt.NDArray[np.float32] = (
                self._model.forward_features(rolls.to(self.device)).float().cpu().numpy()
            )
        return features

    def _answer(self, rolls: list[Roll], subsets: Sequence[tuple[str, ...]]) -> npt.NDArray[np.float64]:
        """Logits (S, B, K) of B clips by what is kept; of a model without concepts there is but one S.

        The mean over as many listenings as the model asks for.
        """
        batch = torch.from_numpy(np.stack(rolls)).to(self.device)
        answers = [self._hear_once(moved(batch, by), subsets) for by in self._model.listenings]
        mean: npt.NDArray[np.float64] = np.mean(answers, axis=0)
        return mean

    def _hear_once(self, batch: torch.Tensor, subsets: Sequence[tuple[str, ...]]) -> npt.NDArray[np.float64]:
        with torch.inference_mode():
            with arithmetic(self.device, self._precision):
                if not isinstance(self._model, ConceptModel):
                    return _numbers(self._model(batch).unsqueeze(0))
                embeddings = self._model.encode_concepts(batch)
            return _numbers(self._model.classify_each(embeddings.float(), subsets))

    def _batches(self, notes: Notes, starts_s: list[float], skipped: list[SkippedClip]) -> Iterator[list[Roll]]:
        """Draws the clips a few at a time, so that an hour of music needs no more memory than a minute."""
        options = self.loaded.config.test_dataset_cfg
        rolls: list[Roll] = []
        for number, clip in enumerate(split_into_clips(notes)):
            start_s = CLIP_LENGTH_S * number
            try:
                rolls.append(draw_clip(clip, options, evaluation_rng(clip)))
                starts_s.append(start_s)
            except ExtractionError as error:
                skipped.append(SkippedClip(start_s, start_s + CLIP_LENGTH_S, str(error)))
            if len(rolls) == _CLIPS_AT_ONCE:
                yield rolls
                rolls = []
        if rolls:
            yield rolls

    def _named(self, probabilities: npt.NDArray[np.float64]) -> Probabilities:
        order = np.argsort(-probabilities, kind="stable")
        return {self.class_names[index]: float(probabilities[index]) for index in order}


def _numbers(logits: torch.Tensor) -> npt.NDArray[np.float64]:
    found: npt.NDArray[np.float64] = logits.double().cpu().numpy()
    return found


def _warnings(notes: Notes, skipped: Sequence[SkippedClip], hears: Sequence[str] = CONCEPTS) -> tuple[str, ...]:
    """What a user should know before believing an answer."""
    warnings = []
    if notes.duration_s < _SHORT_S:
        warnings.append(
            f"The music is {notes.duration_s:.0f} s long; the model learned from clips of 30 s, so take care."
        )
    if len(notes) < _SPARSE_NOTES_PER_S * notes.duration_s:
        warnings.append(
            f"There are only {len(notes)} notes in {notes.duration_s:.0f} s, far fewer than a pianist plays."
        )
    if "dynamics" in hears:
        warnings += _hardly_any_dynamics(notes)
    return (*warnings, *_left_out(skipped))


def _hardly_any_dynamics(notes: Notes) -> list[str]:
    loudnesses = len(np.unique(notes.velocities))
    if loudnesses == 1:
        return ["All notes are equally loud, so dynamics say nothing here, whatever the model makes of them."]
    if len(notes) > _FEW_NOTES and loudnesses <= _FEW_VELOCITIES:
        return [f"There are only {loudnesses} different loudnesses, so dynamics say little here."]
    return []


def _left_out(skipped: Sequence[SkippedClip]) -> list[str]:
    """One sentence for each clip that was left out, or for each reason where there are many."""
    spans: dict[str, list[str]] = {}
    for clip in skipped:
        spans.setdefault(clip.reason, []).append(f"{clip.start_s:.0f} to {clip.end_s:.0f} s")
    return [
        f"The clip from {found[0]} was left out: {reason}."
        if len(found) == 1
        else f"{len(found)} clips were left out ({', '.join(found[:_NAMED_SPANS])}"
        f"{', ...' if len(found) > _NAMED_SPANS else ''}): {reason}."
        for reason, found in spans.items()
    ]
