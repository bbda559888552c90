"""Three images to try it on, made on the fly: a microscope's stack, a photograph, a scene.

Each is drawn several times as large and then reduced, so that there is something to find again.
"""

from typing import Any

import numpy as np

LayerData = tuple[np.ndarray, dict[str, Any], str]

_TIMES = 4  # what is drawn, for each pixel of the sample


def cells() -> list[LayerData]:
    """A stack (Z, Y, X) of nuclei and fibres in a fluorescence microscope, 16 bits, 0.2 µm."""
    numbers = np.random.default_rng(7)
    planes, side = 9, 192
    light = np.zeros((planes, side * _TIMES, side * _TIMES), np.float32)
    for _ in range(14):
        _nucleus(light, numbers)
    for _ in range(60):
        _fibre(light, numbers)
    seen = np.stack([_blurred(_reduced(plane, _TIMES), 0.7) for plane in light])
    seen = 0.6 * seen + 0.2 * (np.roll(seen, 1, 0) + np.roll(seen, -1, 0))
    photons = numbers.poisson(40 + 900 * seen).astype(np.float64)
    pixels = np.clip(photons * 3 + numbers.normal(100, 4, photons.shape), 0, 65535)
    about = {
        "name": "cells",
        "scale": (0.5, 0.2, 0.2),
        "units": ("micrometer",) * 3,
        "axis_labels": ("z", "y", "x"),
        "contrast_limits": (200.0, float(np.percentile(pixels, 99.9))),
        "colormap": "gray",
    }
    return [(pixels.astype(np.uint16), about, "image")]


def photo() -> list[LayerData]:
    """A photograph of a brick wall with a round sign, 8 bits, red, green and blue."""
    numbers = np.random.default_rng(3)
    height, width = 160 * _TIMES, 240 * _TIMES
    y, x = np.mgrid[:height, :width].astype(np.float32)
    picture = _bricks(y, x, numbers)
    _sign(picture, y - height * 0.5, x - width * 0.62)
    shade = 1.05 - 0.35 * (x / width) - 0.15 * (y / height)
    reduced = _reduced(picture * shade[..., None], _TIMES)
    pixels = np.rint(np.clip(reduced + numbers.normal(0, 0.006, reduced.shape), 0, 1) * 255)
    return [(pixels.astype(np.uint8), {"name": "wall", "rgb": True}, "image")]


def scene() -> list[LayerData]:
    """Fields, a river and roads from above: 16 bits, four bands, pixels of 10 m."""
    numbers = np.random.default_rng(11)
    side = 224 * _TIMES
    bands = _reduced(_land(side, numbers), _TIMES)
    pixels = np.rint(np.clip(bands + numbers.normal(0, 0.003, bands.shape), 0, 1) * 10000)
    look = (("red", 0.04, 0.24), ("green", 0.04, 0.22), ("blue", 0.03, 0.2), ("gray", 0.05, 0.55))
    names = ("red", "green", "blue", "near infrared")
    return [
        (
            pixels[..., band].astype(np.uint16),
            {
                "name": f"scene: {name}",
                "scale": (10.0, 10.0),
                "units": ("meter", "meter"),
                "axis_labels": ("y", "x"),
                "colormap": colour,
                "contrast_limits": (low * 10000, high * 10000),
                "blending": "additive",
                "visible": name != "near infrared",
            },
            "image",
        )
        for band, (name, (colour, low, high)) in enumerate(zip(names, look, strict=True))
    ]


def _nucleus(light: np.ndarray, numbers: np.random.Generator) -> None:
    """An ellipsoid with darker grains in it."""
    planes, side, _ = light.shape
    z0, (y0, x0) = numbers.uniform(1, planes - 1), numbers.uniform(0, side, 2)
    long, short = numbers.uniform(55, 80), numbers.uniform(40, 55)
    turn = numbers.uniform(0, np.pi)
    grains = _cloud(160, 10, numbers)
    y, x = np.mgrid[-80:80, -80:80]
    along = (y * np.cos(turn) + x * np.sin(turn)) / long
    across = (x * np.cos(turn) - y * np.sin(turn)) / short
    for z in range(planes):
        inside = np.clip((1 - along**2 - across**2 - ((z - z0) / 3) ** 2) * 6, 0, 1)
        _add(light[z], inside * (0.25 + 0.3 * grains), int(y0) - 80, int(x0) - 80)


def _fibre(light: np.ndarray, numbers: np.random.Generator) -> None:
    """A thin curved thread, a few pixels wide where it was drawn."""
    planes, side, _ = light.shape
    steps = 700
    turn = numbers.uniform(0, 2 * np.pi) + np.cumsum(numbers.normal(0, 0.018, steps))
    y = numbers.uniform(0, side) + np.cumsum(np.sin(turn))
    x = numbers.uniform(0, side) + np.cumsum(np.cos(turn))
    z = np.clip(numbers.uniform(0, planes) + np.cumsum(numbers.normal(0, 0.02, steps)), 0, 8)
    at = (y >= 1) & (y < side - 1) & (x >= 1) & (x < side - 1)
    for dy in (-1, 0, 1):
        for dx in (-1, 0, 1):
            weight = 0.9 / (1 + dy * dy + dx * dx)
            where = z[at].astype(int), y[at].astype(int) + dy, x[at].astype(int) + dx
            np.maximum.at(light, where, weight)


def _bricks(y: np.ndarray, x: np.ndarray, numbers: np.random.Generator) -> np.ndarray:
    row = (y // 44).astype(int)
    column = ((x + 48 * (row % 2)) // 96).astype(int)
    tone = numbers.normal(0, 0.07, (64, 64))[row % 64, column % 64]
    grain = _cloud(max(y.shape), 3, numbers)[: y.shape[0], : y.shape[1]] - 0.5
    clay = np.stack([0.62 + tone, 0.31 + 0.7 * tone, 0.23 + 0.5 * tone], -1)
    joint = np.minimum(y % 44, (x + 48 * (row % 2)) % 96) < 6
    wall = np.where(joint[..., None], np.array([0.74, 0.71, 0.66]), clay)
    return wall + 0.16 * grain[..., None]


def _sign(picture: np.ndarray, y: np.ndarray, x: np.ndarray) -> None:
    """A white disc with a blue rim and a star whose rays become ever finer."""
    radius, angle = np.hypot(y, x), np.arctan2(y, x)
    picture[radius < 250] = (0.13, 0.25, 0.52)
    picture[radius < 228] = (0.95, 0.94, 0.9)
    rays = (radius < 205) & (np.sin(angle * 24) > 0)
    picture[rays] = (0.09, 0.1, 0.13)
    picture[radius < 26] = (0.78, 0.16, 0.13)


def _land(side: int, numbers: np.random.Generator) -> np.ndarray:
    y, x = np.mgrid[:side, :side].astype(np.float32)
    bend = 60 * np.sin(x / 130) + 25 * np.sin(x / 47)
    u, v = x * 0.94 + y * 0.34, y * 0.94 - x * 0.34
    field = ((v // 96) * 31 + (u // 150) * 17).astype(int) % 97
    green = numbers.uniform(0, 1, 97)[field]
    rows = 0.5 + 0.5 * np.sin(v * (0.5 + green))
    soil = np.array([0.17, 0.13, 0.1, 0.22])
    crop = np.array([0.05, 0.09, 0.05, 0.45])
    cover = np.clip(green + 0.18 * (rows - 0.5) + 0.2 * (_cloud(side, 24, numbers) - 0.5), 0, 1)
    land = soil + cover[..., None] * (crop - soil)
    edge = (np.minimum(v % 96, u % 150) < 5)[..., None]
    land = np.where(edge, np.array([0.05, 0.075, 0.045, 0.3]), land)
    road = np.abs(v - 0.35 * side - 0.12 * u) < 7
    land[road] = (0.2, 0.19, 0.185, 0.24)
    river = np.abs(y - 0.62 * side - bend) < 30
    land[river] = (0.05, 0.075, 0.08, 0.03)
    houses = (numbers.uniform(0, 1, (side // 14 + 1, side // 14 + 1)) > 0.45).repeat(14, 0)
    houses = houses.repeat(14, 1)[:side, :side] & (np.hypot(y - 210, x - 640) < 130)
    lots = houses & (y % 14 > 4) & (x % 14 > 4)
    land[lots] = np.array([0.21, 0.18, 0.16, 0.25])
    return land


def _cloud(side: int, grain: int, numbers: np.random.Generator) -> np.ndarray:
    """Smooth noise in [0, 1], with spots of about this size."""
    noise = _blurred(numbers.uniform(0, 1, (side, side)), grain / 2)
    low, high = np.percentile(noise, [1, 99])
    return np.clip((noise - low) / (high - low), 0, 1)


def _blurred(plane: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian blur, around the edges too."""
    wave = np.fft.rfft2(plane)
    fy = np.fft.fftfreq(plane.shape[0])[:, None]
    fx = np.fft.rfftfreq(plane.shape[1])
    wave *= np.exp(-2 * (np.pi * sigma) ** 2 * (fy**2 + fx**2))
    return np.fft.irfft2(wave, plane.shape)


def _reduced(picture: np.ndarray, times: int) -> np.ndarray:
    """Each pixel the mean of a square."""
    height, width = (n // times for n in picture.shape[:2])
    squares = picture.reshape(height, times, width, times, *picture.shape[2:])
    return squares.mean((1, 3), dtype=np.float64)


def _add(plane: np.ndarray, patch: np.ndarray, top: int, left: int) -> None:
    """Brighten part of a plane, as far as it goes."""
    height, width = patch.shape
    y0, x0 = max(top, 0), max(left, 0)
    y1, x1 = min(top + height, plane.shape[0]), min(left + width, plane.shape[1])
    if y1 > y0 and x1 > x0:
        part = patch[y0 - top : y1 - top, x0 - left : x1 - left]
        plane[y0:y1, x0:x1] = np.maximum(plane[y0:y1, x0:x1], part)
