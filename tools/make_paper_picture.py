#!/usr/bin/env python3
"""Draws models/tiny/demo/paper.jpg: shapes cut out of coloured paper with scissors, composed by hand, for `make demo`. It has what the
embedded model knows (a yellow star, a red heart, a blue square), in a style that none of its training pictures has: edges cut by hand,
shadows on the sheet below, fibres in the paper. Needs Pillow 10 or later and numpy; seed 7."""
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

SIDE, SCALE = 384, 2
N = SIDE * SCALE


def outline(name, x, y, r):
    """Corners of a shape around (x, y), in fractions of the picture."""
    if name == "star":
        a, radius = np.arange(10) * np.pi / 5 - np.pi / 2, np.where(np.arange(10) % 2, 0.45 * r, r)
        return np.stack([x + radius * np.cos(a), y + radius * np.sin(a)], 1)
    if name == "heart":
        t = np.linspace(0, 2 * np.pi, 60)
        return np.stack([x + r * np.sin(t) ** 3, y - r / 16 * (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t))], 1)
    return np.array([(x - r, y - 0.95 * r), (x + 0.93 * r, y - r), (x + r, y + 0.96 * r), (x - 0.95 * r, y + r)])


def blurred(x, radius):
    return np.asarray(Image.fromarray(x.clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(radius))) / 255.0


def cut(rng, corners):
    """The shape as scissors leave it: short straight cuts that miss the line a little."""
    points = []
    for a, b in zip(corners, np.roll(corners, -1, 0)):
        n = max(1, int(np.hypot(*(b - a)) / 0.05))
        points += [a + (b - a) * k / n for k in range(n)]
    image = Image.new("L", (N, N))
    ImageDraw.Draw(image).polygon([tuple(p) for p in np.array(points) * N + rng.normal(0, 2.5, (len(points), 2))], fill=255)
    return np.asarray(image).astype(float)


def fibres(rng):
    x = blurred(rng.normal(128, 60, (N, N)), 1.6)
    return ((x - x.mean()) / x.std())[..., None]


def main(path):
    rng = np.random.default_rng(7)
    paper = np.array([232, 226, 212]) + 3.0 * fibres(rng) + np.linspace(6, -10, N)[:, None, None]
    for name, x, y, r, colour in (("square", 0.22, 0.66, 0.17, (38, 84, 196)), ("star", 0.47, 0.27, 0.23, (240, 200, 30)),
                                  ("heart", 0.76, 0.62, 0.19, (206, 34, 42))):
        sheet = cut(rng, outline(name, x, y, r))
        shadow = np.roll(blurred(sheet, 7), (9, 7), (0, 1))[..., None]
        there = blurred(sheet, 1.0)[..., None]
        paper = paper * (1 - 0.38 * shadow)
        paper = paper * (1 - there) + (np.array(colour) + 4.0 * fibres(rng)) * there
    picture = Image.fromarray(paper.clip(0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.LANCZOS)
    picture.save(path, quality=88)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "models/tiny/demo/paper.jpg")
