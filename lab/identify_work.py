"""What comes after the answer: who is heard when, which phrases told, which notes mattered, what sounds alike.

The answer is on the page at once; this is worked out beside it, piece by piece, by one thread with a copy of the model
of its own, so that nobody's first answer waits for somebody's explanations. What was asked last comes first.
"""

import hashlib
import logging
import os
import sys
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np
import numpy.typing as npt
import streamlit as st

import cached
from components.piano_roll import Roll, performance_roll
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import ExtractionError, PianistIDError
from pianistid_core.midi import CLIP_LENGTH_S, Notes

if TYPE_CHECKING:
    from pianistid_core.attribution import Attribution
    from pianistid_core.deletion import Deletion
    from pianistid_core.identify import Identifier
    from pianistid_core.neighbours import Familiarity, Neighbour, RecordingIndex
    from pianistid_core.phrases import Phrase

log = logging.getLogger(__name__)

T = TypeVar("T")
OnProgress = Callable[[int, int], None]

COMPARING = "Comparing with the training recordings"
WINDOW_STEP_S = 10.0
_MAX_WINDOWS = 13
_KEPT = 64
_MOST_WAITING = 32
_SWITCH_INTERVAL_S = 0.0003
_DELETED_CLIPS = 2  # with so many clips and draws, about as long as the scores themselves take
_DELETED_DRAWS = 6


@dataclass(frozen=True, eq=False)
class Windows:
    """The answers for w stretches of 30 s that overlap: spans (seconds), shares (w, K), and by concept alone (w, K)."""

    spans_s: tuple[tuple[float, float], ...]
    names: tuple[str, ...]
    shares: npt.NDArray[np.float64]
    concepts: dict[str, npt.NDArray[np.float64]]


@dataclass
class Insight:
    """What is known of one piece beyond its answer; parts come as they are found, and `version` grows with each.

    A part is None while it is not there; `troubles` holds the sentence of each that could not be.
    """

    windows: Windows | None = None
    phrases: "tuple[Phrase, ...] | None" = None
    attribution: "Attribution | None" = None
    deletion: "Deletion | None" = None
    neighbours: "tuple[Neighbour, ...] | None" = None
    familiarity: "Familiarity | None" = None
    troubles: dict[str, str] = field(default_factory=dict)
    doing: str = "Waiting"
    done: int = 0
    total: int = 0
    version: int = 0
    begun: bool = False
    finished: bool = False

    def progress(self, done: int, total: int) -> None:
        """Says how far the part is that is worked on."""
        self.done, self.total = done, total

    def begin(self, doing: str) -> None:
        """Says what is worked on now."""
        self.doing, self.done, self.total = doing, 0, 0


@dataclass(frozen=True, eq=False)
class Asked:
    """One piece to look into: its notes, the pianist heard in it, its track when it is one of the data set's."""

    notes: Notes
    pianist: str
    track: str | None
    root: DataRoot
    model: Path


class Explainer:
    """The thread that works on pieces, and what it has found of the latest of them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._found: OrderedDict[str, Insight] = OrderedDict()
        self._waiting: list[tuple[Insight, Asked]] = []
        self._works = False
        self._models: dict[str, Identifier] = {}
        self._indexes: dict[str, RecordingIndex] = {}

    def insight(self, key: str) -> Insight:
        """What is known of a piece so far: nothing, when it is new."""
        with self._lock:
            insight = self._found.setdefault(key, Insight())
            self._found.move_to_end(key)
            while len(self._found) > _KEPT:
                self._found.popitem(last=False)
        return insight

    def begin(self, insight: Insight, asked: Asked) -> None:
        """Begins to work on a piece, unless that has begun."""
        with self._lock:
            if insight.begun:
                return
            insight.begun = True
            self._waiting.append((insight, asked))
            if len(self._waiting) > _MOST_WAITING:
                self._give_up(self._waiting.pop(0)[0])
            if not self._works:
                self._works = True
                threading.Thread(target=self._work, name="explainer", daemon=True).start()

    def _give_up(self, insight: Insight) -> None:
        """The one that has waited longest, when too many do; who opens its piece again asks anew."""
        self._found = OrderedDict((key, one) for key, one in self._found.items() if one is not insight)
        insight.troubles["all"] = "more was asked than can be worked out; open this piece again later"
        insight.finished = True
        insight.version += 1

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting:
                    self._works = False
                    return
                insight, asked = self._waiting.pop()
            try:
                self._look_into(insight, asked)
            except (PianistIDError, OSError) as error:
                insight.troubles["all"] = str(error)
            except Exception:
                log.exception("looking into a piece failed")
                insight.troubles["all"] = "this went wrong unexpectedly; the server's log says why"
            finally:
                insight.finished = True
                insight.version += 1

    def _look_into(self, insight: Insight, asked: Asked) -> None:
        insight.begin("Loading the model")
        identifier = self._identifier(asked.model)

        def compared(done: int, total: int) -> None:
            if insight.doing == COMPARING:  # and not while something else is told
                insight.progress(done, total)

        known = self._index_is_known(asked)
        making = None if known or not a_core_is_idle() else begun(lambda: self._index(identifier, asked, compared))

        def alike() -> None:
            insight.begin(COMPARING)
            index = making.result() if making else self._index(identifier, asked, compared)
            nearest = tuple(index.nearest(identifier, asked.notes, 5, track=asked.track))
            insight.familiarity = index.familiarity(identifier, asked.notes, track=asked.track, nearest=nearest)
            insight.neighbours = nearest

        def windows() -> None:
            insight.begin("Following the music")
            insight.windows = moving_answers(identifier, asked.notes, insight.progress)

        def phrases() -> None:
            from pianistid_core.phrases import has_phrases, phrases

            if has_phrases(identifier):
                insight.begin("Putting phrases into words")
                insight.phrases = phrases(identifier, asked.notes, asked.pianist, progress=insight.progress)

        def attribution() -> None:
            from pianistid_core.attribution import attribute

            insight.begin("Asking which notes mattered")
            insight.attribution = attribute(identifier, asked.notes, asked.pianist, progress=insight.progress)

        def deletion() -> None:
            from pianistid_core.deletion import delete

            if insight.attribution is None:
                return
            insight.begin("Deleting the notes that mattered")
            insight.deletion = delete(
                identifier, asked.notes, insight.attribution,
                draws=_DELETED_DRAWS, most_clips=_DELETED_CLIPS, progress=insight.progress,
            )  # fmt: skip

        parts = {
            "windows": windows, "phrases": phrases, "neighbours": alike, "attribution": attribution,
            "deletion": deletion,
        }  # fmt: skip
        if not known:
            # Made once for a model, in a minute; nothing else should wait for that.
            parts = {name: parts[name] for name in ("windows", "phrases", "attribution", "deletion", "neighbours")}
        for name, part in parts.items():
            try:
                part()
            except (PianistIDError, OSError) as error:
                insight.troubles[name] = str(error)
            insight.version += 1

    def _identifier(self, model: Path) -> "Identifier":
        from pianistid_core.identify import Identifier

        key = _key(model)
        if key not in self._models:
            self._models = {key: Identifier.from_checkpoint(model)}
        return self._models[key]

    def _index_is_known(self, asked: Asked) -> bool:
        return f"{_key(asked.model)}:{asked.root.path}" in self._indexes

    def _index(self, identifier: "Identifier", asked: Asked, progress: OnProgress) -> "RecordingIndex":
        from pianistid_core.neighbours import open_index

        key = f"{_key(asked.model)}:{asked.root.path}"
        if key not in self._indexes:
            self._indexes = {key: open_index(identifier, asked.root, progress=progress)}
        return self._indexes[key]


def a_core_is_idle() -> bool:
    """Whether torch computes on one core of several, so that one more call of it would have a core of its own."""
    import torch

    return torch.get_num_threads() == 1 and (os.cpu_count() or 1) > 1


def begun(work: Callable[[], T]) -> "Future[T]":
    """Work that goes on beside the caller's, in a thread that no end of the server waits for."""
    future: Future[T] = Future()

    def go() -> None:
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=go, name="explainer's index", daemon=True).start()
    return future


def moving_answers(
    identifier: "Identifier", notes: Notes, progress: Callable[[int, int], None] | None = None
) -> Windows | None:
    """What the model says of the 30 s around one moment after another; None for music of a single clip.

    Raises: ExtractionError when no stretch can be drawn.
    """
    length = notes.duration_s
    if length < CLIP_LENGTH_S + WINDOW_STEP_S / 2:
        return None
    step = max(WINDOW_STEP_S, (length - CLIP_LENGTH_S) / (_MAX_WINDOWS - 1))
    starts = np.append(np.arange(0.0, length - CLIP_LENGTH_S - 0.5, step), length - CLIP_LENGTH_S)
    names = tuple(identifier.class_names)
    spans: list[tuple[float, float]] = []
    shares: list[list[float]] = []
    alone: dict[str, list[list[float]]] = {}
    for number, start in enumerate(starts):
        if progress is not None:
            progress(number, len(starts))
        stretch = notes.between(start, start + CLIP_LENGTH_S).shifted(-start)
        try:
            found = identifier.identify(stretch)
        except ExtractionError:
            continue
        spans.append((float(start), float(start) + CLIP_LENGTH_S))
        shares.append([found.probabilities[name] for name in names])
        for concept in found.hears if found.concepts else ():
            heard = found.concepts[(concept,)]
            alone.setdefault(concept, []).append([heard[name] for name in names])
    if not spans:
        raise ExtractionError("no stretch of this music can be drawn for this model")
    by_concept = {concept: np.array(rows) for concept, rows in alone.items()}
    return Windows(tuple(spans), names, np.array(shares), by_concept)


def _key(model: Path) -> str:
    return f"{model}:{cached.stamp(model)}"


@st.cache_resource(show_spinner=False)
def warm_up() -> None:
    """Begins to load what a first answer needs, beside the page that is drawn meanwhile; once for a server."""
    # Each of torch's many short calls gives the interpreter's lock away and asks for it back. With the usual 5 ms until
    # a page that is drawn lets go of it, explanations beside it took ten times as long.
    sys.setswitchinterval(_SWITCH_INTERVAL_S)
    threading.Thread(target=_load_torch, name="warm up", daemon=True).start()


def _load_torch() -> None:
    import pianistid_core.identify  # noqa: F401


@st.cache_resource(show_spinner=False)
def _explainer() -> Explainer:
    return Explainer()


def insight(asked: Asked, data: bytes) -> Insight:
    """What is known of a piece beyond the model's answer so far, for every session that asks."""
    return _explainer().insight(f"{asked.root.path}:{_key(asked.model)}:{asked.track}:{digest(data)}")


def begin(insight: Insight, asked: Asked) -> None:
    """Begins to find out more; called when the page is drawn, so that drawing does not share its core."""
    _explainer().begin(insight, asked)


def digest(data: bytes) -> str:
    """A short name for a file's bytes."""
    return hashlib.sha256(data).hexdigest()[:12]


@st.cache_resource(max_entries=16, show_spinner=False)
def whole_roll(data: bytes, label: str) -> Roll:
    """A performance as played and by its concepts, drawn once for all sessions.

    Raises: MidiError when it cannot be read.
    """
    return performance_roll(cached.notes_of_upload(data), label)
