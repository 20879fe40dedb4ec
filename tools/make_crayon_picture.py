#!/usr/bin/env python3
"""Draws models/tiny/demo/crayon.jpg: a child's drawing with wax crayons, composed by hand, for `make demo`. It has what the embedded model
knows (a yellow star, a red heart, a blue square), in a style that none of its training pictures has: lines instead of areas, grain of
paper, no clean edge. Needs Pillow 10 or later and numpy; seed 7."""
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


def crayon(rng, corners):
    """How much wax lies where, 0 to 1: strokes to and fro inside the corners, and along them."""
    inside = Image.new("L", (N, N))
    ImageDraw.Draw(inside).polygon([tuple(p) for p in corners * N], fill=255)
    strokes = Image.new("L", (N, N))
    draw = ImageDraw.Draw(strokes)
    middle, angle = corners.mean(0) * N, 0.9
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    points = []
    for k, d in enumerate(np.arange(-0.35 * N, 0.35 * N, 0.011 * N)):
        side = 1 if k % 2 else -1
        points += [tuple(middle + across * (d + rng.normal(0, 2)) + along * side * 0.35 * N)]
    draw.line(points, fill=205, width=int(0.009 * N), joint="curve")
    filled = np.minimum(np.asarray(inside), np.asarray(strokes)).astype(float)
    edge = Image.new("L", (N, N))
    draw = ImageDraw.Draw(edge)
    for _ in range(3):
        wobbly = corners * N + rng.normal(0, 2.2, corners.shape)
        draw.line([tuple(p) for p in np.vstack([wobbly, wobbly[:2]])], fill=235, width=int(0.011 * N), joint="curve")
    wax = Image.fromarray(np.maximum(filled, np.asarray(edge)).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.2))
    return np.asarray(wax) / 255.0


def main(path):
    rng = np.random.default_rng(7)
    grain = np.asarray(Image.fromarray(rng.normal(128, 60, (N, N)).clip(0, 255).astype(np.uint8)).filter(ImageFilter.GaussianBlur(1.6))) / 255.0
    grain = (grain - grain.mean()) / grain.std()
    paper = np.array([246, 240, 226]) + 3.0 * grain[..., None]
    for name, x, y, r, colour in (("square", 0.27, 0.68, 0.17, (38, 84, 196)), ("star", 0.36, 0.27, 0.21, (240, 200, 30)),
                                  ("heart", 0.73, 0.52, 0.20, (212, 36, 44))):
        wax = crayon(rng, outline(name, x, y, r)) * np.clip(0.9 + 0.25 * grain, 0, 1)  # it stays on what stands out of the paper
        paper = paper * (1 - wax[..., None]) + np.array(colour) * wax[..., None]
    picture = Image.fromarray(paper.clip(0, 255).astype(np.uint8)).resize((SIDE, SIDE), Image.LANCZOS)
    picture.save(path, quality=88)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "models/tiny/demo/crayon.jpg")
