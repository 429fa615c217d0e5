"""Heads in their right unit, and every way in which they can be wrong."""

import numpy as np

SHAPE = (26, 28, 24)


def ct(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """A head with skull in air, HU with a scanner's noise."""
    random = np.random.default_rng(seed)
    radius = _radius(shape)
    array = np.full(shape, -1000.0)
    for edge, value in ((0.9, -80), (0.82, 900), (0.7, 35), (0.25, 5)):
        array[radius < edge] = value
    return (array + random.normal(0, 8, shape)).clip(-1024, 3071).round().astype(np.float32)


def mr(seed: int = 0, shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    """The same head by MR: magnitude, dark outside."""
    random = np.random.default_rng(100 + seed)
    radius = _radius(shape)
    array = np.zeros(shape)
    for edge, value in ((0.9, 700), (0.82, 60), (0.7, 500), (0.25, 200)):
        array[radius < edge] = value
    return np.abs(array + random.normal(0, 15, shape)).round().astype(np.float32)


def body(shape: tuple[int, int, int] = SHAPE) -> np.ndarray:
    return _radius(shape) < 0.9


def _radius(shape: tuple[int, int, int]) -> np.ndarray:
    axes = np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij")
    return np.sqrt(sum(axis**2 for axis in axes))


NOT_HU = {
    "offset 1024": lambda a: a + 1024,
    "offset 1024, cut at 0": lambda a: (a + 1024).clip(0),
    "offset 1000": lambda a: a + 1000,
    "offset -1024": lambda a: a - 1024,
    "offset 32768": lambda a: a + 32768,
    "scaled to 0..1": lambda a: (a + 1024) / 4095,
    "scaled to -1..1": lambda a: a / 1000,
    "1/mm": lambda a: (a / 1000 + 1) * 0.0192,
    "1/cm": lambda a: (a / 1000 + 1) * 0.192,
    "times 10": lambda a: a * 10,
    "divided by 10": lambda a: a / 10,
    "divided by 10, whole numbers": lambda a: (a / 10).round(),
    "divided by 2": lambda a: a / 2,
    "eight bits": lambda a: ((a + 1024) / 4095 * 255).round(),
    "z-score": lambda a: (a - a.mean()) / a.std(),
    "a window": lambda a: a.clip(-160, 240),
    "a window as 0..1": lambda a: a.clip(-160, 240) / 400 + 0.4,
    "inverted": lambda a: -a,
    "bytes swapped": lambda a: a.astype(">i2").view("<i2"),
    "an MR": lambda a: mr(shape=a.shape),
    "air as 0": lambda a: np.where(a < -900, 0, a),
}
