"""One clip as a network sees it: the options of a data set part, and the draw of one example.

The same draw serves training, evaluation and a user's own file; only the options and the generator differ.
"""

from dataclasses import dataclass

import numpy as np

from pianistid_core.concepts import CONCEPTS, DrawnNotes, ExtractorOptions, draw_concepts
from pianistid_core.errors import ExtractionError, Fault
from pianistid_core.midi import Notes, augment
from pianistid_core.rolls import N_FRAMES, N_KEYS, NO_NOTES, Roll, heard_notes, rasterise
from pianistid_core.schema import option

MAX_JITTER_S = 15.0


@dataclass(frozen=True)
class ClipOptions:
    """How clips are chosen and drawn: a `train_dataset_cfg` or `test_dataset_cfg`."""

    n_clips: int | None = option(
        None,
        label="Number of clips",
        help="Uses at most this many clips, taken evenly through the part; leave empty to use all of them.",
        low=1,
    )
    normalize_velocity: bool = option(
        True,
        label="Normalise velocity",
        help="Maps each channel of a roll to 0..1 by its own softest and loudest value; without it values run to 127.",
        level="advanced",
    )
    multichannel: bool = option(
        False,
        label="Four concept channels",
        help="Draws melody, harmony, rhythm and dynamics as four channels, which the factorised model needs.",
    )
    data_augmentation: bool = option(
        False,
        label="Augment",
        help="Transposes, stretches and re-weights notes at random, so that a network cannot learn pieces by heart.",
    )
    augmentation_probability: float = option(
        0.5,
        label="Augmentation probability",
        help="The share of clips that are augmented each time they are drawn; the others are used as played.",
        low=0.0,
        high=1.0,
        when=("data_augmentation", (True,)),
    )
    jitter_start: bool = option(
        False,
        label="Jitter the start",
        help="Starts each clip at a random moment of its first 15 s, so that every epoch sees other excerpts.",
    )
    release_gap_s: float = option(
        0.0,
        label="Gap between notes",
        help=(
            "Ends every note this much sooner, and this much before its key is struck again, so that this is heard; "
            "0, as in the paper, joins such notes where their velocities are alike."
        ),
        low=0.0,
        high=0.1,
        unit="s",
        level="advanced",
    )
    use_concepts: tuple[int, ...] = option(
        (0, 1, 2, 3),
        label="Concepts",
        help="The channels to keep: 0 melody, 1 harmony, 2 rhythm, 3 dynamics. The factorised model needs all four.",
        choices=(0, 1, 2, 3),
        level="advanced",
        when=("multichannel", (True,)),
    )
    extractor_cfg: ExtractorOptions = option(
        default_factory=ExtractorOptions,
        label="Concept extraction",
        help="How each concept is drawn from the notes; the defaults are those of the paper.",
        level="advanced",
        when=("multichannel", (True,)),
    )

    def cross_check(self, prefix: str) -> list[Fault]:
        """Faults that single fields cannot show."""
        if not self.use_concepts or list(self.use_concepts) != sorted(set(self.use_concepts)):
            key = f"{prefix}.use_concepts" if prefix else "use_concepts"
            message = f"got {list(self.use_concepts)}; give one to four of 0, 1, 2, 3, ascending and each once"
            return [Fault(key, message)]
        return []

    @property
    def n_channels(self) -> int:
        """How many channels a drawn clip has."""
        return len(self.use_concepts) if self.multichannel else 1


def draw_clip(notes: Notes, options: ClipOptions, rng: np.random.Generator) -> Roll:
    """Draws one example from a clip's notes: float32 (C, 88, 3000), normalised when the options say so.

    All chance (whether and how to augment, where to start, random keys) comes from `rng`.

    Raises
    ------
    ExtractionError
        When this draw has no notes, or no chords where harmony is kept; another draw may have some.
    """
    channels = draw_channels(notes, options, rng)
    roll = np.zeros((len(channels), N_KEYS, N_FRAMES), np.float32)
    for out, drawn in zip(roll, channels, strict=True):
        normalised = options.normalize_velocity
        rasterise(out, drawn.starts_s, drawn.ends_s, drawn.pitches, drawn.velocities, normalised=normalised)
    return roll


def draw_channels(notes: Notes, options: ClipOptions, rng: np.random.Generator) -> list[DrawnNotes]:
    """What `draw_clip` paints: the notes of each channel, in the order of painting.

    Raises
    ------
    ExtractionError
        As `draw_clip`.
    """
    if options.data_augmentation and rng.random() < options.augmentation_probability:
        notes = augment(notes, rng)
    clip_start = rng.uniform(0.0, MAX_JITTER_S) if options.jitter_start else 0.0
    notes = notes.released(options.release_gap_s)
    if options.multichannel:
        kept = [CONCEPTS[index] for index in options.use_concepts]
        return list(draw_concepts(notes, clip_start, rng, concepts=kept, options=options.extractor_cfg).values())
    heard = heard_notes(notes, clip_start)
    if not len(heard):
        raise ExtractionError(NO_NOTES)
    return [DrawnNotes(heard.starts_s, heard.ends_s, heard.pitches, heard.velocities, np.arange(len(heard)))]
