"""The sound of a real piano, made here: one bank of samples that the player in the browser plays every note from.

The samples are rendered once by `midirenderer` from the sound font that comes inside `pretty_midi`, so that nothing is
fetched. Every third key has a sample, and serves the key below and above it as well. The sound font holds one recording
of a key for all velocities, so there is one layer: the player makes soft notes softer and darker.
"""

import importlib.util
import io
import logging
import threading
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pianistid_core.atomic import write_atomically
from pianistid_core.datasets.root import DataRoot
from pianistid_core.errors import SoundError

log = logging.getLogger(__name__)

RATE = 32_000
_KEYS = range(21, 109, 3)
_SOUND_FONT = "TimGM6mb.sf2"
_LONGEST_S, _SHORTEST_S = 5.0, 2.0  # a bass string sounds on, the highest ones have no damper and no breath
_FADE_S = 0.25
_PEAK = 0.89
_FFT_STEP = 4096  # a length of many factors is transformed several times as fast as one of few
_MADE_BY = "4"  # part of the cached file's name: raise it when the samples change

_making = threading.Lock()


@dataclass(frozen=True)
class Sample:
    """Where in the bank a key lies: its pitch (MIDI number), and its start and length in seconds."""

    pitch: int
    start_s: float
    length_s: float


def bank_layout() -> tuple[Sample, ...]:
    """The samples in the order of the bank, from the lowest key to the highest."""
    samples: list[Sample] = []
    at = 0
    for key in _KEYS:
        length = _frames(key)
        samples.append(Sample(key, at / RATE, length / RATE))
        at += length
    return tuple(samples)


def piano_bank(cache_dir: Path | None = None) -> bytes:
    """The bank as a WAV file (mono, 32 kHz, 16 bit, about 7 MB), rendered once and kept in the cache folder.

    Raises
    ------
    SoundError
        When the sound font or the renderer is not installed, or the renderer gives no sound.
    """
    font = sound_font()
    folder = (cache_dir or DataRoot.open().cache_dir) / "sound"
    path = folder / f"piano-{_MADE_BY}-{font.stat().st_size}.wav"
    with _making:
        try:
            return path.read_bytes()
        except OSError:
            bank = _wav(render_bank(font.read_bytes()))
        try:
            folder.mkdir(parents=True, exist_ok=True)
            write_atomically(path, bank)
        except OSError as error:
            # A full or read-only disk costs a second at the next start, not the sound.
            log.info("the piano's samples are not kept in %s: %s", folder, error.strerror or error)
        return bank


def sound_font() -> Path:
    """The sound font inside `pretty_midi`, found without importing that.

    Raises
    ------
    SoundError
        When it is not there.
    """
    found = importlib.util.find_spec("pretty_midi")
    path = Path(found.origin).parent / _SOUND_FONT if found and found.origin else None
    if path is None or not path.is_file():
        raise SoundError(f"the sound font {_SOUND_FONT} is not installed; `pip install pretty_midi` brings it")
    return path


def render_bank(font: bytes) -> npt.NDArray[np.int16]:
    """Every sample, one after another, at `RATE`; one factor for all, so that keys keep their loudness to each other.

    Raises
    ------
    SoundError
        When the renderer is not installed, refuses the sound font, or gives silence.
    """
    keys = [_resampled(_rendered(font, key), _frames(key)) for key in _KEYS]
    fade = np.linspace(1.0, 0.0, round(_FADE_S * RATE))
    for samples in keys:
        samples[-len(fade) :] *= fade
    bank = np.concatenate(keys)
    loudest = float(np.abs(bank).max())
    if loudest == 0:
        raise SoundError("the sound font gives no sound for a piano; reinstall pretty_midi")
    return np.rint(bank * (_PEAK * 32767 / loudest)).astype(np.int16)


def _frames(key: int) -> int:
    height = (key - _KEYS[0]) / (_KEYS[-1] - _KEYS[0])
    return round(RATE * (_LONGEST_S + height * (_SHORTEST_S - _LONGEST_S)))


def _rendered(font: bytes, key: int) -> tuple[npt.NDArray[np.float64], int]:
    """A key struck once and held, in mono, with its rate."""
    try:
        import midirenderer
    except ImportError as error:
        raise SoundError(
            "midirenderer is not installed; `pip install midirenderer` brings the piano's sound"
        ) from error
    try:
        rendered = midirenderer.render_wave_from(font, _held(key, _frames(key) / RATE))
        with wave.open(io.BytesIO(rendered)) as file:
            channels, rate = file.getnchannels(), file.getframerate()
            frames = np.frombuffer(file.readframes(file.getnframes()), np.int16)
    except (ValueError, RuntimeError, OSError, wave.Error) as error:
        raise SoundError(f"the sound font cannot be rendered ({error}); reinstall pretty_midi") from error
    return frames.reshape(-1, channels).mean(axis=1), rate


def _held(key: int, seconds: float) -> bytes:
    """A MIDI file of one key, struck as hard as can be on five channels at once.

    The renderer keeps room for an orchestra: a single note uses a few of the 16 bits, and its end would be noise.
    """
    import mido

    track = mido.MidiTrack()
    for channel in range(5):
        track.append(mido.Message("control_change", channel=channel, control=7, value=127))
        track.append(mido.Message("control_change", channel=channel, control=91, value=24))
    track += [mido.Message("note_on", channel=channel, note=key, velocity=127) for channel in range(5)]
    track.append(mido.Message("note_off", channel=0, note=key, time=round(960 * seconds)))
    buffer = io.BytesIO()
    mido.MidiFile(type=0, ticks_per_beat=480, tracks=[track]).save(file=buffer)
    return buffer.getvalue()


def _resampled(sound: tuple[npt.NDArray[np.float64], int], n: int) -> npt.NDArray[np.float64]:
    """The first n frames at `RATE`, by leaving out the frequencies that it cannot hold."""
    samples, rate = sound
    longer = -(-n // _FFT_STEP) * _FFT_STEP
    wanted = round(longer * rate / RATE)
    held = np.zeros(wanted)
    held[: min(wanted, len(samples))] = samples[:wanted]
    spectrum = np.fft.rfft(held)[: longer // 2 + 1]
    result: npt.NDArray[np.float64] = np.fft.irfft(spectrum, longer)[:n] * (longer / wanted)
    return result


def _wav(samples: npt.NDArray[np.int16]) -> bytes:
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(RATE)
        file.writeframes(samples.astype("<i2").tobytes())
    return buffer.getvalue()
