"""The embedded calibration set: images drawn by a seeded procedure, for exports without photographs at hand.

Static quantization takes each layer's range from what it sees, so the images must reach the ranges photographs reach
and not exceed them: noise does the one too little and the other too much. These are dead leaves, a usual model of
natural images: shapes of all sizes that cover one another, with edges, shading, texture and the colours of outdoor
scenes. No photograph is in them.

Only additions, multiplications, divisions and square roots of float32 and one frozen generator are used, elementwise:
IEEE 754 rounds them the same everywhere, so the set and its hash are the same on every platform.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

NAME = "embedded-v1"
SIZE = 256

Plane = npt.NDArray[np.float32]


def image(index: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Return image ``index`` of the set: uint8 [256, 256, 3], RGB. The same for the same index and seed."""
    # Unlike default_rng's, its stream never changes between releases; it takes no negative seed.
    random = np.random.RandomState([seed % 2**32, index])
    textures = [_noise(random, rough) for rough in (0.45, 0.6, 0.75)]
    scene = _Scene(random)
    canvas = scene.colour(random) + 0.1 * textures[0][..., None]
    for _ in range(scene.leaves):
        _leaf(canvas, random, scene, textures)
    rows, columns = _grid()
    slope = random.random_sample(2).astype(np.float32) - 0.5
    canvas *= (1 + 0.5 * (slope[0] * (rows / SIZE - 0.5) + slope[1] * (columns / SIZE - 0.5)))[..., None]  # light
    _lens(canvas, _between(random, -0.5, 0.9))
    canvas += _between(random, 0, 0.03) * (random.random_sample((SIZE, SIZE, 1)).astype(np.float32) * 2 - 1)  # grain
    pixels: npt.NDArray[np.uint8] = np.clip(canvas * 255 + 0.5, 0, 255).astype(np.uint8)
    return pixels


class _Scene:
    """What the leaves of one image have in common."""

    def __init__(self, random: np.random.RandomState) -> None:
        self.leaves = random.randint(40, 500)
        self.smallest = _between(random, 2, 10)
        self.largest = _between(random, 50, 110)
        self.saturation = _between(random, 0.08, 0.4)
        self.contrast = _between(random, 0.3, 0.5)
        self.texture = _between(random, 0.03, 0.2)

    def colour(self, random: np.random.RandomState) -> Plane:
        """Return an RGB colour: any brightness, and a hue that is rather blue or yellow than green or magenta."""
        light = 0.45 + self.contrast * _between(random, -1, 1)
        # Sums of uniform numbers are near enough to a normal distribution, whose own recipe needs a logarithm.
        blue, green = (float(random.random_sample(4).sum()) - 2 for _ in range(2))
        blue, green = blue * self.saturation, 0.35 * green * self.saturation
        return np.array(
            [light + 0.6 * blue + 0.5 * green, light + 0.1 * blue - 0.5 * green, light - 0.7 * blue + 0.5 * green],
            np.float32,
        )


def _leaf(canvas: Plane, random: np.random.RandomState, scene: _Scene, textures: list[Plane]) -> None:
    """Draw one leaf over what is there."""
    # Sizes follow a power law, as distances make them: many small, few large.
    share = random.random_sample()
    radius = 1 / (1 / scene.largest + share * (1 / scene.smallest - 1 / scene.largest))
    across = radius * _between(random, 0.35, 1)
    row, column = random.random_sample(2) * SIZE
    direction = random.random_sample(2) - 0.5
    direction /= np.sqrt(direction[0] * direction[0] + direction[1] * direction[1] + 1e-9)
    cos, sin = direction.astype(np.float32)
    reach = int(radius * 1.3) + 3
    top, bottom = max(0, int(row) - reach), min(SIZE, int(row) + reach)
    left, right = max(0, int(column) - reach), min(SIZE, int(column) + reach)
    y = np.arange(top, bottom, dtype=np.float32)[:, None] - np.float32(row)
    x = np.arange(left, right, dtype=np.float32)[None, :] - np.float32(column)
    along, aside = (x * cos + y * sin) / np.float32(radius), (y * cos - x * sin) / np.float32(across)
    shape = random.random_sample()
    if shape < 0.6:
        distance = np.sqrt(along * along + aside * aside)  # an ellipse
    elif shape < 0.85:
        distance = np.float32(1.15) * np.maximum(np.abs(along), np.abs(aside))  # a rectangle
    else:
        distance = np.maximum(np.float32(0.9) * np.abs(along) + np.float32(0.5) * aside, np.float32(-1.2) * aside)
    shift = random.randint(0, SIZE, 2)
    texture = textures[random.randint(len(textures))]
    texture = texture.take(np.arange(top, bottom) - shift[0], 0, mode="wrap")
    texture = texture.take(np.arange(left, right) - shift[1], 1, mode="wrap")
    distance = distance + np.float32(0.15) * texture  # a ragged outline
    softness = 0.5 + 2 * random.random_sample() ** 2
    cover = np.clip((1 - distance) * np.float32(across / softness) + np.float32(0.5), 0, 1)[..., None]
    shade = along * np.float32(_between(random, -0.15, 0.15)) + aside * np.float32(_between(random, -0.15, 0.15))
    surface = shade + texture * np.float32(scene.texture * _between(random, 0.3, 1.7))
    under = canvas[top:bottom, left:right]
    under += (scene.colour(random) + surface[..., None] - under) * cover


def _lens(canvas: Plane, sharpness: float) -> None:
    """Sharpen what is drawn, as cameras do, or blur it where ``sharpness`` is negative."""
    inner = canvas[1:-1, 1:-1]
    around = (canvas[:-2, 1:-1] + canvas[2:, 1:-1] + canvas[1:-1, :-2] + canvas[1:-1, 2:]) * np.float32(0.25)
    inner += (inner - around) * np.float32(sharpness)


def _noise(random: np.random.RandomState, rough: float) -> Plane:
    """Return a field in about -1..1 with detail at every scale: random grids, each finer one ``rough`` times weaker."""
    field = np.zeros((SIZE, SIZE), np.float32)
    cells, weight = 2, 0.5
    while cells <= SIZE:
        grid = random.random_sample((cells + 1, cells + 1)).astype(np.float32) * 2 - 1
        place = (np.arange(SIZE, dtype=np.float32) + np.float32(0.5)) * np.float32(cells / SIZE)
        cell = place.astype(np.intp)
        part = place - cell
        part = part * part * (3 - 2 * part)  # no creases at the grid's lines
        across = grid[:, cell] + (grid[:, cell + 1] - grid[:, cell]) * part[None, :]
        field += np.float32(weight) * (across[cell] + (across[cell + 1] - across[cell]) * part[:, None])
        cells, weight = cells * 2, weight * rough
    return field


def _grid() -> tuple[Plane, Plane]:
    ramp = np.arange(SIZE, dtype=np.float32)
    return ramp[:, None], ramp[None, :]


def _between(random: np.random.RandomState, low: float, high: float) -> float:
    return low + (high - low) * float(random.random_sample())
