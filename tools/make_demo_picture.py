#!/usr/bin/env python3
"""Draws examples/pictures/house.jpg, the picture of `make demo` and of the README: a house, a tree and the sun, with
enough texture to look like a photograph to a JPEG coder. Needs Pillow 10 or later and numpy; seed 7."""
import sys

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

W, H, SCALE = 384, 288, 3


def main(path):
    rng = np.random.default_rng(7)
    w, h = W * SCALE, H * SCALE
    rows = np.linspace(0, 1, h)[:, None]
    sky = np.stack([150 + 80 * rows, 190 + 45 * rows, 240 - 10 * rows], -1).repeat(w, 1)
    picture = Image.fromarray(sky.astype(np.uint8))
    draw = ImageDraw.Draw(picture)

    def box(x0, y0, x1, y1, colour):
        draw.rectangle([x0 * w, y0 * h, x1 * w, y1 * h], fill=colour)

    def shape(points, colour):
        draw.polygon([(x * w, y * h) for x, y in points], fill=colour)

    draw.ellipse([0.78 * w, 0.07 * h, 0.9 * w, 0.23 * h], fill=(255, 226, 120))
    shape([(0, 0.62)] + [(x, 0.6 + 0.05 * np.sin(7 * x)) for x in np.linspace(0, 1, 40)] + [(1, 1), (0, 1)], (96, 142, 84))
    shape([(0, 0.72)] + [(x, 0.72 + 0.03 * np.cos(5 * x)) for x in np.linspace(0, 1, 40)] + [(1, 1), (0, 1)], (74, 120, 62))
    shape([(0.42, 1), (0.52, 1), (0.405, 0.8), (0.375, 0.8)], (196, 178, 140))
    box(0.22, 0.48, 0.56, 0.8, (214, 190, 160))
    shape([(0.18, 0.5), (0.39, 0.28), (0.6, 0.5)], (150, 62, 48))
    box(0.365, 0.62, 0.42, 0.8, (92, 58, 40))
    for x in (0.26, 0.46):
        box(x, 0.56, x + 0.07, 0.67, (244, 244, 238))
        box(x + 0.006, 0.568, x + 0.064, 0.662, (112, 150, 186))
    box(0.74, 0.52, 0.765, 0.8, (94, 66, 44))
    for x, y, r in ((0.75, 0.42, 0.1), (0.69, 0.5, 0.07), (0.81, 0.5, 0.075)):
        draw.ellipse([(x - r) * w, (y - 1.25 * r) * h, (x + r) * w, (y + 1.25 * r) * h], fill=(52, 104, 48))

    picture = picture.filter(ImageFilter.GaussianBlur(2)).resize((W, H), Image.LANCZOS)
    grain = rng.normal(0, 5, (H, W, 1)) + rng.normal(0, 2, (H, W, 3))
    pixels = np.clip(np.asarray(picture, np.float64) + grain, 0, 255).astype(np.uint8)
    Image.fromarray(pixels).save(path, quality=82)


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "examples/pictures/house.jpg")
