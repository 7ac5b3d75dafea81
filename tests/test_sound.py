"""The piano's samples: where they lie, what they sound like, and what happens without a sound font."""

import importlib.util
import io
import itertools
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from pianistid_core import sound
from pianistid_core.errors import SoundError

pytest.importorskip("midirenderer", reason="midirenderer is not installed")


@pytest.fixture(scope="module")
def bank(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    return sound.piano_bank(tmp_path_factory.mktemp("bank"))


def samples(bank: bytes) -> npt.NDArray[np.float64]:
    with wave.open(io.BytesIO(bank)) as file:
        assert (file.getnchannels(), file.getsampwidth(), file.getframerate()) == (1, 2, sound.RATE)
        return np.frombuffer(file.readframes(file.getnframes()), np.int16).astype(np.float64)


def heard(bank: bytes, sample: sound.Sample) -> npt.NDArray[np.float64]:
    first = round(sample.start_s * sound.RATE)
    return samples(bank)[first : first + round(sample.length_s * sound.RATE)]


def test_the_samples_lie_one_after_another_and_fill_the_bank(bank: bytes) -> None:
    layout = sound.bank_layout()
    assert [sample.pitch for sample in layout] == list(range(21, 109, 3))
    for one, next_one in itertools.pairwise(layout):
        assert next_one.start_s == pytest.approx(one.start_s + one.length_s, abs=1e-9)
    end = layout[-1].start_s + layout[-1].length_s
    assert len(samples(bank)) == round(end * sound.RATE)
    assert len(bank) < 12e6, "small enough to be fetched with a page"


def test_every_sample_is_struck_at_once_rings_and_dies_away(bank: bytes) -> None:
    for sample in sound.bank_layout():
        music = np.abs(heard(bank, sample))
        loudest = music.max()
        assert loudest > 5000, sample
        assert loudest < 32767, "not clipped"
        assert np.argmax(music > 0.05 * loudest) < 0.03 * sound.RATE, "it begins without a wait"
        assert music[: sound.RATE // 2].mean() > 3 * music[-sound.RATE // 2 :].mean(), sample
        assert music[-20:].max() < 0.01 * loudest, "it ends without a click"


@pytest.mark.parametrize("pitch", [45, 57, 69, 81])
def test_a_sample_has_its_keys_pitch(bank: bytes, pitch: int) -> None:
    sample = next(one for one in sound.bank_layout() if one.pitch == pitch)
    music = heard(bank, sample)[: 2 * sound.RATE]
    spectrum = np.abs(np.fft.rfft(music * np.hanning(len(music))))
    hertz = np.fft.rfftfreq(len(music), 1 / sound.RATE)
    wanted = 440 * 2 ** ((pitch - 69) / 12)
    near = (hertz > 0.9 * wanted) & (hertz < 1.1 * wanted)
    assert hertz[near][spectrum[near].argmax()] == pytest.approx(wanted, rel=0.01)


def test_the_bank_is_rendered_once_and_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rendered = []

    def render(font: bytes) -> npt.NDArray[np.int16]:
        rendered.append(len(font))
        return np.arange(100, dtype=np.int16)

    monkeypatch.setattr(sound, "render_bank", render)
    first = sound.piano_bank(tmp_path)
    assert samples(first).tolist() == list(range(100))
    assert sound.piano_bank(tmp_path) == first
    assert len(rendered) == 1
    assert len(list(tmp_path.rglob("*"))) == 2, "a folder with one file in it, and nothing half written"


def test_a_cache_that_cannot_be_written_costs_nothing_but_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sound, "render_bank", lambda font: np.arange(7, dtype=np.int16))
    (tmp_path / "sound").write_text("a file in its place")
    assert samples(sound.piano_bank(tmp_path)).tolist() == list(range(7))


def test_a_missing_sound_font_is_said_in_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SoundError, match=r"TimGM6mb\.sf2 is not installed.*pip install"):
        sound.piano_bank(tmp_path)


@pytest.mark.parametrize("font", [b"", b"not a sound font", bytes(4000)])
def test_a_broken_sound_font_is_said_in_a_sentence(font: bytes) -> None:
    with pytest.raises(SoundError, match="sound font"):
        sound.render_bank(font)
