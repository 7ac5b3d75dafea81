"""NumPy's default generator, compiled: the same numbers from the same seeds, drawn where the notes are.

`np.random.default_rng(seed)` is a SeedSequence that mixes the seed's 32-bit words, a PCG64 that it starts, and a
Generator that makes numbers of PCG64's 64 bits. All three are written down here, as far as a draw needs them, because
making a Generator costs 15 us, more than drawing a clip.

State: an array of six uint64, made by `new_state`: the high and low half of PCG64's 128-bit state, those of its
increment, and whether half of the last 64 bits is still to be used, and that half.

NumPy does not promise that its streams never change, so `drawing` compares before anything is drawn.

This module imports numba: import it where it is used, not at the top of a module.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numba
import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
_Function = TypeVar("_Function", bound=Callable[..., Any])


def compiled(function: _Function) -> _Function:
    """Compiles a function when it is first called, keeps it on disk, and lets other threads run beside it."""
    made: _Function = numba.njit(cache=True, nogil=True)(function)
    return made


_U = np.uint64
_LOW_32 = _U(0xFFFFFFFF)
_ONE, _SIXTEEN, _ELEVEN, _THIRTY_TWO, _SIXTY_FOUR, _SIXTY_THREE = (_U(n) for n in (1, 16, 11, 32, 64, 63))
_FIFTY_EIGHT = _U(58)
_POOL = 4

# The constants of SeedSequence and of PCG64.
_INIT_A, _MULT_A = _U(0x43B0D7E5), _U(0x931E8875)
_INIT_B, _MULT_B = _U(0x8B51F9DD), _U(0x58F38DED)
_MIX_LEFT, _MIX_RIGHT = _U(0xCA01F9DD), _U(0x4973F715)
_PCG_HIGH, _PCG_LOW = _U(0x2360ED051FC65DA4), _U(0x4385DF649FCCF645)


def words_of(*numbers: int) -> Words:
    """The 32-bit words of whole numbers, as SeedSequence reads them: each number's low word first, 0 one word."""
    words: list[int] = []
    for number in numbers:
        words.append(number & 0xFFFFFFFF)
        while number := number >> 32:
            words.append(number & 0xFFFFFFFF)
    return np.array(words, np.uint64)


@compiled
def new_state() -> Any:
    """Room for one generator; `seed` starts it."""
    return np.zeros(6, np.uint64)


@compiled
def _hashed(value: Any, constant: Any) -> Any:
    value = ((value ^ constant[0]) & _LOW_32) * ((constant[0] * _MULT_A) & _LOW_32) & _LOW_32
    constant[0] = (constant[0] * _MULT_A) & _LOW_32
    return value ^ (value >> _SIXTEEN)


@compiled
def _mixed(x: Any, y: Any) -> Any:
    value = (_MIX_LEFT * x - _MIX_RIGHT * y) & _LOW_32
    return value ^ (value >> _SIXTEEN)


@compiled
def seed(state: Any, words: Any, n_words: int) -> None:
    """Starts a generator as `np.random.default_rng` does from numbers whose 32-bit words are the first `n_words`."""
    constant = np.empty(1, np.uint64)
    constant[0] = _INIT_A
    pool = np.empty(_POOL, np.uint64)
    for i in range(_POOL):
        pool[i] = _hashed(words[i] if i < n_words else _U(0), constant)
    for source in range(_POOL):
        for target in range(_POOL):
            if source != target:
                pool[target] = _mixed(pool[target], _hashed(pool[source], constant))
    for source in range(_POOL, n_words):
        for target in range(_POOL):
            pool[target] = _mixed(pool[target], _hashed(words[source], constant))
    # The pool gives eight words: four numbers of 64 bits.
    drawn = np.empty(4, np.uint64)
    factor = _INIT_B
    for i in range(8):
        value = pool[i % _POOL] ^ factor
        factor = (factor * _MULT_B) & _LOW_32
        value = (value * factor) & _LOW_32
        value ^= value >> _SIXTEEN
        if i % 2 == 0:
            drawn[i // 2] = value
        else:
            drawn[i // 2] |= value << _THIRTY_TWO
    state[2] = (drawn[2] << _ONE) | (drawn[3] >> _SIXTY_THREE)
    state[3] = (drawn[3] << _ONE) | _ONE
    # PCG64 starts from 0, steps, adds the seed and steps again; the first step leaves the increment.
    state[1] = state[3] + drawn[1]
    state[0] = state[2] + drawn[0] + (_ONE if state[1] < state[3] else _U(0))
    _step(state)
    state[4] = _U(0)


@compiled
def _step(state: Any) -> None:
    """state * multiplier + increment, in 128 bits made of halves."""
    high, low = state[0], state[1]
    # low * _PCG_LOW in full, from halves of 32 bits.
    a, b = low & _LOW_32, low >> _THIRTY_TWO
    c, d = _PCG_LOW & _LOW_32, _PCG_LOW >> _THIRTY_TWO
    ac, bc, ad, bd = a * c, b * c, a * d, b * d
    middle = (ac >> _THIRTY_TWO) + (bc & _LOW_32) + (ad & _LOW_32)
    product_high = bd + (bc >> _THIRTY_TWO) + (ad >> _THIRTY_TWO) + (middle >> _THIRTY_TWO)
    product_low = low * _PCG_LOW
    product_high += high * _PCG_LOW + low * _PCG_HIGH
    state[1] = product_low + state[3]
    state[0] = product_high + state[2] + (_ONE if state[1] < product_low else _U(0))


@compiled
def next_64(state: Any) -> Any:
    """The next 64 bits."""
    _step(state)
    turn = state[0] >> _FIFTY_EIGHT
    folded = state[0] ^ state[1]
    return (folded >> turn) | (folded << ((_SIXTY_FOUR - turn) & _SIXTY_THREE))


@compiled
def next_32(state: Any) -> Any:
    """The next 32 bits: the low half of 64, then, whatever was drawn in between, the high half."""
    if state[4]:
        state[4] = _U(0)
        return state[5]
    drawn = next_64(state)
    state[4] = _ONE
    state[5] = drawn >> _THIRTY_TWO
    return drawn & _LOW_32


@compiled
def random(state: Any) -> float:
    """`Generator.random()`: a float in [0, 1)."""
    return float(next_64(state) >> _ELEVEN) * (1.0 / 9007199254740992.0)


@compiled
def uniform(state: Any, low: float, high: float) -> float:
    """`Generator.uniform(low, high)`."""
    return low + (high - low) * random(state)


@compiled
def integer(state: Any, low: int, high: int) -> int:
    """`Generator.integers(low, high)` for fewer than 2**32 values: Lemire's method on 32 bits."""
    values = _U(high - low)
    if values == _ONE:
        return low
    product = next_32(state) * values
    if (product & _LOW_32) < values:
        threshold = (_LOW_32 - (values - _ONE)) % values
        while (product & _LOW_32) < threshold:
            product = next_32(state) * values
    return low + int(product >> _THIRTY_TWO)
