#!/usr/bin/env python3
"""Trains a mask codec (16 codes of 7 bits for a mask of 64 x 64: spec inference 6.4 to 6.7) on silhouettes and writes it with
the published key names, narrower than the published one, in f16:

    python tools/train_mask_codec.py vae-oid.npz                          # what models/tiny/vae-oid.npz began as
    python tools/train_mask_codec.py --masks DIR my-codec.npz             # the same for masks of your own
    python tools/train_mask_codec.py --report models/tiny/vae-oid.npz     # only measures a file; with --library, the C code

Needs PyTorch, numpy, Pillow, the fonts NotoColorEmoji.ttf (fonts-noto-color-emoji, OFL 1.1) and DejaVuSans-Bold.ttf
(fonts-dejavu-core). One core; doc/mask-codec.md has the figures and the commands.

What is learned is the silhouette of one thing as an annotation has it: glyphs of the emoji font (opacity above one half),
geometric shapes and printed words, turned, scaled, hidden in part by another, cut off by the picture's border, in a box that
is up to 2 pixels off; then cropped and resized exactly as the encoder's input is (bilinear with antialias, -1..1).

How: first without the codebook, whose first rows are then the centres of clusters of what the encoder gives; a codebook that
follows the mean of what each row stands for (no gradient) and whose unused rows are set anew; few dims, so that rows near one
another are shapes like one another; now and then a row next to the right one is decoded, so that a code that a language model
gets nearly right costs little; the codebook at rest in the end. --decoder-of then goes on with the decoder alone: the codes of
a mask stay, and so does training text made with them."""

import argparse
import ctypes
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import PIL
import torch
import torch.nn.functional as F
from PIL import Image, ImageDraw, ImageFont
from torch import nn

EMOJI_FONT = "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf"
EMOJI_PX = 109  # the only size the font's bitmaps have
WORD_FONTS = ["/usr/share/fonts/truetype/dejavu/DejaVuSans-Bold.ttf", "/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"]
SIDE, GRID, CODES = 64, 4, 128
SPLIT_SEED = 8  # of what is held out: the same in every run
EVERYDAY = (  # the kinds of tools/scenes get nearly half of the training
    "🐈🐕🐎🐖🐘🐢🐟🐧🦉🦋🐌🐙🐍🐸🦀🦒🐓🐼🍌🍍🍓🍋🍉🥕🍄"
    "🍕🍔🍩🎸🎺🔑🔔👑🕯🤖👻🏠🏆⚓🪑🚗🚲🚀✈⛵🚌🚜🌵🌻🌷"
)
NOVEL = "🐇🦆🦊🐬🍐🥐🎻🏍🕷🌋"  # those it keeps for learning something new are left out


# ---- Things: pictures [128, 128] of opacity, at three sizes, so that small ones are not aliased


class Thing:
    def __init__(self, name, picture):
        picture = picture.crop(picture.getbbox())
        scale = 128 / max(picture.size)
        if scale < 1:
            picture = picture.resize([max(1, round(s * scale)) for s in picture.size], Image.Resampling.BOX)
        self.name, self.levels = name, [picture]
        while len(self.levels) < 3:
            self.levels.append(self.levels[-1].reduce(2))


def emoji(characters):
    font = ImageFont.truetype(EMOJI_FONT, EMOJI_PX)
    things, nothing = [], font.getmask("\U000e0fff", mode="RGBA").getbbox()  # how a glyph that is missing looks
    for c in characters:
        picture = Image.new("RGBA", (160, 160))
        ImageDraw.Draw(picture).text((12, 12), c, font=font, embedded_color=True)
        alpha = picture.getchannel("A")
        if alpha.getbbox() and font.getmask(c, mode="RGBA").getbbox() != nothing:
            things.append(Thing(f"U+{ord(c):04X}", alpha))
    return things


def polygon(points):
    picture = Image.new("L", (512, 512))
    ImageDraw.Draw(picture).polygon([(256 + 250 * x, 256 + 250 * y) for x, y in points], fill=255)
    return picture.reduce(4)


def around(radii, first=-0.25):
    angles = 2 * np.pi * (np.arange(len(radii)) / len(radii) + first)
    return list(zip(radii * np.cos(angles), radii * np.sin(angles)))


def shapes(rng):
    t = 2 * np.pi * np.arange(200) / 200
    heart = list(zip(np.sin(t) ** 3, -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16))
    circle, half = around(np.ones(200)), around(np.ones(200))[:100]
    crescent = half + [(0.45 * x, y) for x, y in half[::-1]]
    out = {"circle": circle, "half": half, "crescent": crescent, "heart": heart, "ellipse": [(x, 0.6 * y) for x, y in circle]}
    out |= {name: around(np.ones(n)) for name, n in (("triangle", 3), ("diamond", 4), ("pentagon", 5), ("hexagon", 6), ("octagon", 8))}
    out |= {"square": around(np.ones(4), 0.125), "bar": [(-1, -0.3), (1, -0.3), (1, 0.3), (-1, 0.3)]}
    out |= {f"star{n}": around(np.tile([1, inner], n)) for n, inner in ((4, 0.4), (5, 0.55), (6, 0.577), (8, 0.6))}
    out["cross"] = [(-0.3, -1), (0.3, -1), (0.3, -0.3), (1, -0.3), (1, 0.3), (0.3, 0.3), (0.3, 1), (-0.3, 1), (-0.3, 0.3), (-1, 0.3), (-1, -0.3), (-0.3, -0.3)]
    out["arrow"] = [(-1, -0.25), (0.1, -0.25), (0.1, -0.7), (1, 0), (0.1, 0.7), (0.1, 0.25), (-1, 0.25)]
    things = [Thing(name, polygon(points)) for name, points in out.items()]
    ring = polygon(circle)
    ring.paste(0, (36, 36), polygon(circle).resize((56, 56)))
    things.append(Thing("ring", ring))
    for i in range(120):  # smooth blobs and random polygons, for what no list has
        radius = 0.6 + sum(rng.normal(0, 0.22 / k) * np.cos(k * t + rng.uniform(0, 7)) for k in range(1, 6))
        things.append(Thing(f"blob{i}", polygon(around(np.clip(radius, 0.15, 1)))))
        things.append(Thing(f"polygon{i}", polygon(around(rng.uniform(0.4, 1, rng.integers(3, 9))))))
    return things


def words(rng, n):
    things = []
    for _ in range(n):
        text = "".join(rng.choice(list("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"), rng.integers(1, 6)))
        font = ImageFont.truetype(WORD_FONTS[rng.integers(len(WORD_FONTS))], 48)
        picture = Image.new("L", (400, 90))
        ImageDraw.Draw(picture).text((10, 10), text, font=font, fill=255)
        if rng.random() < 0.4:  # on a plate
            x0, y0, x1, y1 = picture.getbbox()
            picture.paste(255, (x0 - 9, y0 - 9, x1 + 9, y1 + 9))
        things.append(Thing(text, picture))
    return things


def masks_of(directory):
    """Grey pictures, 128 and above is inside: one thing each, as `paligemma segment --masks` writes them."""
    paths = sorted(p for p in Path(directory).rglob("*") if p.suffix.lower() in (".png", ".jpg", ".bmp"))
    pictures = [(str(p), Image.open(p).convert("L").point(lambda v: 255 * (v >= 128))) for p in paths]
    things = [Thing(name, picture) for name, picture in pictures if picture.getbbox()]
    fit = [thing for thing in things if placed(thing, SIDE, 0, 1, False, 0).sum() > 2 * LEAST_PX]
    if len(fit) < 10:
        raise SystemExit(f"{directory}: {len(paths)} pictures, {len(fit)} of them masks of more than a few pixels: expected 10 at least")
    return fit


# ---- Masks: a thing as it lies in a picture


def placed(thing, size, turn, stretch, mirror, margin):
    """The thing's binary mask, its longer side about `size` pixels, on a canvas with a margin."""
    level = thing.levels[min(2, max(0, int(np.log2(max(thing.levels[0].size) / size))))]
    scale = size / max(level.size)
    sx, sy = scale * stretch * (-1 if mirror else 1), scale / stretch
    c, s = np.cos(turn), np.sin(turn)
    w, h = abs(c * level.width * sx) + abs(s * level.height * sy), abs(s * level.width * sx) + abs(c * level.height * sy)
    out = int(np.ceil(w)) + 2 * margin, int(np.ceil(h)) + 2 * margin
    a, b, d, e = c / sx, s / sx, -s / sy, c / sy  # from the canvas back to the thing
    ox, oy = out[0] / 2, out[1] / 2
    whole = level.transform(out, Image.Transform.AFFINE, (a, b, level.width / 2 - a * ox - b * oy, d, e, level.height / 2 - d * ox - e * oy), Image.Resampling.BILINEAR)
    return np.asarray(whole) > 127


def box_of(mask):
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return [rows[0], columns[0], rows[-1] + 1, columns[-1] + 1] if len(rows) else [0, 0, 0, 0]


MARGIN = 6
LEAST_PX = 40  # of a mask worth learning


def sample(rng, thing, others, low=24, high=110):
    """A mask with a margin, of a thing turned, stretched, hidden in part, cut by a border."""
    while True:
        size = rng.uniform(low, high)
        mask = placed(thing, size, rng.uniform(-1, 1) * np.pi / 6, np.exp(rng.normal(0, 0.06)), rng.random() < 0.25, MARGIN)
        y0, x0, y1, x1 = box_of(mask)
        whole = mask.sum()
        if rng.random() < 0.25 and whole:
            other = placed(others[rng.integers(len(others))], size * rng.uniform(0.4, 1), rng.uniform(-1, 1) * np.pi / 6, 1, False, 0)
            oy, ox = rng.integers(y0 - other.shape[0] // 2, y1 - other.shape[0] // 2 + 1), rng.integers(x0 - other.shape[1] // 2, x1 - other.shape[1] // 2 + 1)
            ay, ax = max(oy, 0), max(ox, 0)
            part = other[ay - oy :, ax - ox :]
            seen = mask[ay : ay + part.shape[0], ax : ax + part.shape[1]]
            seen &= ~part[: seen.shape[0], : seen.shape[1]]
        if rng.random() < 0.15:  # beyond the border
            cut = rng.uniform(0.05, 0.4)
            side = rng.integers(4)
            y, x = cut * (y1 - y0), cut * (x1 - x0)
            mask[[np.s_[: int(y0 + y)], np.s_[int(y1 - y) :], np.s_[:, : int(x0 + x)], np.s_[:, int(x1 - x) :]][side]] = 0
        if mask.sum() > 0.25 * whole and mask.sum() > LEAST_PX:
            return mask


def crop(mask, box):
    """What the encoder gets, before 0..1 becomes -1..1."""
    y0, x0, y1, x1 = box
    part = Image.fromarray(mask[y0:y1, x0:x1].astype(np.float32))
    return np.asarray(part.resize((SIDE, SIDE), Image.Resampling.BILINEAR))


def paste(soft, box, shape):
    """What the program makes of a decoded mask, as in src/model/maskbox.c by the demo's rule; binary."""
    y0, x0, y1, x1 = box
    part = Image.fromarray((np.clip(soft * 0.5 + 0.5, 0, 1) * 255).astype(np.uint8)).resize((x1 - x0, y1 - y0))
    whole = np.zeros(shape, bool)
    whole[y0:y1, x0:x1] = np.asarray(part) >= 128
    return whole


def jittered(rng, mask):
    box = np.array(box_of(mask))
    if rng.random() < 0.6:
        box += np.clip(np.rint(rng.normal(0, 0.9, 4)), -2, 2).astype(int)
    return np.clip(box, 0, [*mask.shape, *mask.shape])


# ---- The network


class Block(nn.Module):
    def __init__(self, width, inner):
        super().__init__()
        self.net = nn.Sequential(nn.Conv2d(width, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, inner, 3, padding=1), nn.ReLU(), nn.Conv2d(inner, width, 1))

    def forward(self, x):
        return x + self.net(x)


class Codec(nn.Module):
    def __init__(self, down=(8, 24, 48, 96), inner=(40, 48), code=16, width=96, up=(64, 32, 16, 8)):
        super().__init__()
        layers, n = [], 1
        for d in down:
            layers += [nn.Conv2d(n, d, 4, stride=2, padding=1), nn.ReLU()]
            n = d
        self.encoder = nn.Sequential(*layers, Block(n, inner[0]), Block(n, inner[0]), nn.Conv2d(n, code, 1))
        layers, n = [nn.Conv2d(code, width, 1), nn.ReLU(), Block(width, inner[1]), Block(width, inner[1])], width
        for u in up:
            layers += [nn.ConvTranspose2d(n, u, 4, stride=2, padding=1), nn.ReLU()]
            n = u
        self.decoder = nn.Sequential(*layers, nn.Conv2d(n, 1, 1))
        self.register_buffer("book", torch.randn(CODES, code))
        for conv in self.modules():
            if isinstance(conv, (nn.Conv2d, nn.ConvTranspose2d)) and conv.out_channels > 1:
                inputs = conv.in_channels * (4 if isinstance(conv, nn.ConvTranspose2d) else conv.kernel_size[0] ** 2)
                nn.init.normal_(conv.weight, std=(2 / inputs) ** 0.5)
        for block in self.modules():  # each begins as nothing
            if isinstance(block, Block):
                nn.init.zeros_(block.net[4].weight)

    def encode(self, x):  # [B, 1, 64, 64] -> [B, 16, E]
        return self.encoder(x).flatten(2).transpose(1, 2)

    def nearest(self, z, k=1):
        distance = (self.book * self.book).sum(1) - 2 * z @ self.book.T
        return distance.argmin(-1) if k == 1 else distance.topk(k, largest=False).indices

    def decode(self, z):
        return self.decoder(z.transpose(1, 2).unflatten(2, (GRID, GRID)))[:, 0]

    def tensors(self):
        out = self.state_dict()
        return {"_vq_vae._embedding" if k == "book" else k: v.numpy().astype(np.float16) for k, v in out.items()}


def codec_write(codec, path):
    """With the same bytes for the same weights: numpy would put the time into the file."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as z:
        for name, array in codec.tensors().items():
            with z.open(zipfile.ZipInfo(name + ".npy"), "w") as f:
                np.lib.format.write_array(f, np.asanyarray(array))


def codec_read(path):
    t = {k: torch.from_numpy(v.astype(np.float32)) for k, v in np.load(path).items()}
    widths = lambda keys, axis: [t[k + ".weight"].shape[axis] for k in keys]
    codec = Codec(
        widths([f"encoder.{i}" for i in (0, 2, 4, 6)], 0), [t[f"{part}.net.0.weight"].shape[0] for part in ("encoder.8", "decoder.2")],
        t["_vq_vae._embedding"].shape[1], t["decoder.0.weight"].shape[0], widths([f"decoder.{i}" for i in (4, 6, 8, 10)], 1))
    t["book"] = t.pop("_vq_vae._embedding")
    codec.load_state_dict(t)
    return codec


# ---- Training


def loss_of(out, target):
    """Both per mask: cross entropy whose best output is within -1..1, and one minus a soft intersection over union."""
    t = target * 0.96 + 0.02
    cross = F.binary_cross_entropy_with_logits(4 * out, t, reduction="none").mean((1, 2))
    p = torch.sigmoid(6 * out)
    both = (p * target).sum((1, 2))
    return cross + 0.5 * (1 - both / (p.sum((1, 2)) + target.sum((1, 2)) - both))


class Book:
    """The codebook as running means of what each row stood for."""

    def __init__(self, codec, z, rng, decay=0.99):
        self.codec, self.decay, self.rng = codec, decay, rng
        z = z.reshape(-1, z.shape[-1])
        book = z[torch.from_numpy(rng.choice(len(z), CODES, replace=False))].clone()
        for _ in range(30):
            codec.book = book
            near = codec.nearest(z)
            n = torch.bincount(near, minlength=CODES)
            book = torch.where(n[:, None] > 0, torch.zeros_like(book).index_add_(0, near, z) / n.clamp(min=1)[:, None], z[torch.from_numpy(rng.choice(len(z), CODES))])
        codec.book = book
        self.n = n.float().clamp(min=1) * (1024 / len(z))
        self.sum = book * self.n[:, None]

    def follow(self, z, codes, revive):
        z, codes = z.detach().reshape(-1, z.shape[-1]), codes.reshape(-1)
        self.n = self.decay * self.n + (1 - self.decay) * torch.bincount(codes, minlength=CODES)
        self.sum = self.decay * self.sum + (1 - self.decay) * torch.zeros_like(self.sum).index_add_(0, codes, z)
        if revive:
            far = ((z - self.codec.book[codes]) ** 2).sum(1)
            for dead in torch.nonzero(self.n < 0.03 * self.n.mean())[:, 0]:
                to = torch.multinomial(far, 1)[0]
                self.n[dead], self.sum[dead], far[to] = self.n.mean() * 0.2, z[to] * (0.2 * self.n.mean()), 0
        self.codec.book = self.sum / self.n[:, None]


def replaced(codec, z, codes, share):
    """Now and then another of the four nearest rows."""
    if share == 0:
        return codes
    other = codec.nearest(z, 4).gather(2, torch.randint(1, 4, codes.shape)[..., None])[..., 0]
    return torch.where(torch.rand(codes.shape) < share, other, codes)


def train(codec, kinds, options, rng):
    """kinds: lists of things, each with its share of the masks."""
    share = np.array([w for _, w in kinds]) / sum(w for _, w in kinds)
    everything = [thing for things, _ in kinds for thing in things]
    learning = codec.decoder if options.decoder_of else codec
    optimizer = torch.optim.AdamW(learning.parameters(), betas=(0.9, 0.98), weight_decay=1e-3)
    start, book, seen = time.time(), None, []
    for step in range(options.steps):
        done = step / options.steps
        for group in optimizer.param_groups:
            group["lr"] = options.lr * min(1, (step + 1) / 200) * (0.02 + 0.98 * 0.5 * (1 + np.cos(np.pi * done)))
        batch = []
        for kind in rng.choice(len(kinds), options.batch, p=share):
            things = kinds[kind][0]
            mask = sample(rng, things[rng.integers(len(things))], everything)
            batch.append(crop(mask, jittered(rng, mask)))
        target = torch.from_numpy(np.stack(batch))
        with torch.set_grad_enabled(not options.decoder_of):
            z = codec.encode(2 * target[:, None] - 1)
        far = torch.zeros(())
        if options.decoder_of or done >= options.plain:
            if book is None and not options.decoder_of:
                book = Book(codec, torch.cat(seen), rng)
            codes = codec.nearest(z.detach())
            far = ((z - codec.book[codes]) ** 2).mean()
            q = z + (codec.book[replaced(codec, z.detach(), codes, options.noise)] - z).detach()
            if book and done < options.rest:
                book.follow(z, codes, done < 0.7 * options.rest and step % 50 == 0)
        else:
            q, seen = z, seen[-60:] + [z.detach()]
        loss = loss_of(codec.decode(q), target).mean()
        optimizer.zero_grad()
        (loss + options.commit * far).backward()
        nn.utils.clip_grad_norm_(learning.parameters(), 1.0)
        optimizer.step()
        if step % 200 == 199 or step + 1 == options.steps:
            print(f"step {step + 1}/{options.steps} loss {loss.item():.4f} to the codebook {far.item():.4f} {time.time() - start:.0f} s", flush=True)


# ---- Figures


def iou(a, b):
    return (a & b).sum() / max(1, (a | b).sum())


class WithTorch:
    def __init__(self, path):
        self.codec = codec_read(path)

    @torch.no_grad()
    def codes(self, masks, boxes):
        crops = torch.from_numpy(np.stack([crop(m, b) for m, b in zip(masks, boxes)]))
        return self.codec.nearest(self.codec.encode(2 * crops[:, None] - 1)).numpy()

    @torch.no_grad()
    def pasted(self, codes, boxes, shapes):
        soft = self.codec.decode(self.codec.book[torch.from_numpy(codes)]).numpy()
        return [paste(s, b, shape) for s, b, shape in zip(soft, boxes, shapes)]


class WithLibrary:
    """The same by libpaligemma.so."""

    def __init__(self, library, path):
        self.lib, self.codec = ctypes.CDLL(library), ctypes.c_void_p()
        self.done(self.lib.pali_mask_codec_load(ctypes.byref(self.codec), path.encode()))

    def done(self, status):
        self.lib.pali_last_error.restype = ctypes.c_char_p
        if status:
            raise RuntimeError(self.lib.pali_last_error().decode())

    def codes(self, masks, boxes):
        out = (ctypes.c_int32 * 16 * len(masks))()
        for codes, mask, box in zip(out, masks, boxes):
            (height, width), grey = mask.shape, np.uint8(255) * mask
            fraction = (ctypes.c_double * 4)(*np.divide(box, [height, width, height, width]))
            self.done(self.lib.pali_mask_codec_encode(self.codec, grey.ctypes.data_as(ctypes.c_void_p), width, height, ctypes.c_size_t(0), fraction, codes))
        return np.array(out, np.int64)

    def pasted(self, codes, boxes, shapes):
        out, soft, whole = [], (ctypes.c_float * SIDE**2)(), ctypes.c_void_p()
        for row, box, (height, width) in zip(codes, boxes, shapes):
            loc = np.minimum(1023, np.rint(np.multiply(box, 1024) / [height, width, height, width])).astype(int)
            self.done(self.lib.pali_mask_codec_decode(self.codec, (ctypes.c_int32 * 16)(*row), soft))
            self.done(self.lib.pali_mask_paste(soft, (ctypes.c_int32 * 4)(*loc), width, height, 0, ctypes.byref(whole)))
            out.append(np.frombuffer(ctypes.string_at(whole, width * height), np.uint8).reshape(height, width) >= 128)
            self.lib.pali_free(whole)
        return out


def snapped(box, at, side=128, steps=64):
    """The box with its ends on multiples of 1/64 of a picture of 128, the mask's canvas lying at `at` of it."""
    step = side // steps
    return [int(round((v + at[i % 2]) / step) * step - at[i % 2]) for i, v in enumerate(box)]


def report(codec, groups, n=1000):
    """For each group of things: IoU as pasted in the box itself, in the snapped box (coded from the exact one, from the snapped
    one), how much one pixel of the box changes."""
    rng, everything, used = np.random.default_rng(77), [t for things in groups.values() for t in things], []
    print(f"{'masks':>16} {'n':>5} {'IoU':>6} {'p10':>6} {'snapped':>8} {'coded so':>8} {'+-1 px: codes kept':>19} {'IoU':>6}")
    for name, things in groups.items():
        masks = [sample(rng, things[i % len(things)], everything, 30, 90) for i in range(n)]
        sides = [np.array([*m.shape, *m.shape]) for m in masks]
        exact = [np.array(box_of(m)) for m in masks]
        snap = [np.clip(snapped(b, rng.integers(0, 2, 2)), 0, side) for b, side in zip(exact, sides)]
        near = [np.clip(b + rng.integers(-1, 2, 4), 0, side) for b, side in zip(exact, sides)]
        codes, codes_snap, codes_near = (codec.codes(masks, boxes) for boxes in (exact, snap, near))
        score = lambda codes, boxes: np.array([iou(p, m) for p, m in zip(codec.pasted(codes, boxes, [m.shape for m in masks]), masks)])
        kept = score(codes, exact)
        print(f"{name:>16} {n:5} {kept.mean():6.3f} {np.quantile(kept, 0.1):6.3f} {score(codes, snap).mean():8.3f} {score(codes_snap, snap).mean():8.3f} "
              f"{(codes == codes_near).mean():19.3f} {score(codes_near, near).mean():6.3f}", flush=True)
        used.append(codes)
    used = np.concatenate(used)
    bits = lambda counts: -sum(p * np.log2(p) for p in counts[counts > 0] / counts.sum())
    by_position = [bits(np.bincount(used[:, k], minlength=CODES)) for k in range(GRID * GRID)]
    all_counts = np.bincount(used.reshape(-1), minlength=CODES)
    print("bits a code, by position:", " ".join(f"{b:.2f}" for b in by_position), f"mean {np.mean(by_position):.2f}; "
          f"rows used {np.count_nonzero(all_counts)}, perplexity {2 ** bits(all_counts):.0f}")


def main():
    parser = argparse.ArgumentParser(description="Trains a mask codec on silhouettes.")
    parser.add_argument("out")
    parser.add_argument("--masks", metavar="DIR", help="train on these masks (grey pictures, one thing each) and on shapes, not on emoji")
    parser.add_argument("--report", action="store_true", help="measure the file instead of training it")
    parser.add_argument("--decoder-of", metavar="FILE", help="go on with the decoder of this file; its codes of a mask stay as they are")
    parser.add_argument("--library", metavar="FILE", help="measure with this libpaligemma.so, not with PyTorch")
    parser.add_argument("--steps", type=int, default=3800)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--lr", type=float, default=2e-3)
    parser.add_argument("--code", type=int, default=16, help="dims of a row of the codebook")
    parser.add_argument("--plain", type=float, default=0.15, help="share of the steps without the codebook")
    parser.add_argument("--rest", type=float, default=0.85, help="share of the steps after which the codebook stays as it is")
    parser.add_argument("--commit", type=float, default=0.25)
    parser.add_argument("--noise", type=float, default=0.03, help="share of codes replaced by one of the next three")
    parser.add_argument("--seed", type=int, default=8)
    options = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(options.seed)
    rng = np.random.default_rng(options.seed)
    print(f"torch {torch.__version__}, numpy {np.__version__}, Pillow {PIL.__version__}, {' '.join(sys.argv[1:])}", flush=True)

    if options.masks:
        own = masks_of(options.masks)
        np.random.default_rng(SPLIT_SEED).shuffle(own)
        held = own[: max(1, len(own) // 10)]
        kinds = [(own[len(held):], 0.8), (shapes(rng), 0.2)]
        groups = {"held out": held, "shapes": kinds[1][0]}
    else:
        everyday = emoji(EVERYDAY)
        novel = emoji(NOVEL)
        names = {t.name for t in everyday + novel}
        rest = [t for t in emoji(chr(c) for c in [*range(0x203C, 0x3300), *range(0x1F000, 0x1FB00)]) if t.name not in names]
        np.random.default_rng(SPLIT_SEED).shuffle(rest)
        held, rest = rest[:150], rest[150:]
        kinds = [(everyday, 0.45), (rest, 0.3), (shapes(rng), 0.15), (words(rng, 400), 0.1)]
        groups = {"everyday emoji": everyday, "novel, held out": novel, "emoji held out": held, "shapes": shapes(np.random.default_rng(1)), "words": words(np.random.default_rng(1), 200)}
    print("things:", ", ".join(f"{name} {len(things)}" for name, things in groups.items()), "trained on", sum(len(k[0]) for k in kinds), flush=True)
    if not options.report:
        codec = codec_read(options.decoder_of) if options.decoder_of else Codec(code=options.code)
        codec = codec.to(memory_format=torch.channels_last)
        print("parameters:", sum(p.numel() for p in codec.parameters()) + codec.book.numel())
        train(codec, kinds, options, rng)
        codec_write(codec, options.out)
    report(WithLibrary(options.library, options.out) if options.library else WithTorch(options.out), groups)


main()
