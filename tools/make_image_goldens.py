#!/usr/bin/env python3
"""Writes tests/golden/images: a zoo of tiny picture files, what the reference makes of each, and malformed files.

The reference is Pillow's open, ImageOps.exif_transpose, Transformers' convert_to_rgb (composites over white), and Pillow's
resize. manifest.txt holds per picture: name, width, height, FNV-1a 64 of the RGB bytes, and of the bicubic resize to each
size in its header. malformed.txt lists files that must be refused, with the expected kind of error. resize.txt holds
hashes of resizes of a picture that the test computes by formula: all filters, sizes on both sides of the pass order rule.

Run with Pillow 13 and Transformers 5: python tools/make_image_goldens.py [OUT_DIR]
"""

import io
import random
import struct
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import PIL
import transformers
from PIL import Image, ImageOps
from transformers.image_transforms import convert_to_rgb

SIZES = (28, 56, 224)
warnings.simplefilter("ignore")
rng = np.random.default_rng(3)


def fnv(data):
    h = 0xCBF29CE484222325
    for b in data:
        h = ((h ^ b) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{h:016x}"


def reference(data):
    image = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    return np.ascontiguousarray(convert_to_rgb(image, return_numpy=True))


# --- pictures to encode: smooth with edges, so that lossy codecs and filters both have something to do


def scene(width, height, channels=3):
    y, x = np.mgrid[0:height, 0:width]
    planes = [
        128 + 100 * np.sin(x / 5 + c) * np.cos(y / 7 - c) + 40 * ((x // 8 + y // 6) % 2) - 20 * c for c in range(channels)
    ]
    return np.clip(np.stack(planes, -1) + rng.normal(0, 6, (height, width, channels)), 0, 255).astype(np.uint8)


def alpha(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return np.clip((x * 9 + y * 5) % 300 - 20, 0, 255).astype(np.uint8)


def save(image, form, **options):
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


# --- EXIF


def tiff(value, kind=3, count=1, order="<", magic=None):
    data = {3: "H", 4: "I", 1: "B"}[kind]
    mark = magic or {"<": b"II*\0", ">": b"MM\0*"}[order]
    field = struct.pack(order + data, value).ljust(4, b"\0")
    entries = struct.pack(order + "HHI", 0x010F, 2, 1) + b"x\0\0\0" + struct.pack(order + "HHI", 0x0112, kind, count) + field
    return mark + struct.pack(order + "I", 8) + struct.pack(order + "H", 2) + entries + b"\0\0\0\0"


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="%d"/></x:xmpmeta>'


# --- PNG by hand, for what Pillow cannot write


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))


def png_rows(samples, depth):
    """One filter byte (None) and the packed row, for samples [height, width, channels]."""
    rows = b""
    for row in samples.reshape(samples.shape[0], -1):
        if depth == 16:
            packed = row.astype(">u2").tobytes()
        elif depth == 8:
            packed = row.astype(np.uint8).tobytes()
        else:
            bits = "".join(format(int(v), f"0{depth}b") for v in row)
            bits = bits.ljust(-(-len(bits) // 8) * 8, "0")
            packed = bytes(int(bits[i : i + 8], 2) for i in range(0, len(bits), 8))
        rows += b"\0" + packed
    return rows


def png(samples, depth, color_type, before=b"", after=b"", interlace=False, size=None):
    height, width = samples.shape[:2]
    if interlace:
        data = b""
        for x0, y0, dx, dy in ADAM7:
            part = samples[y0::dy, x0::dx]
            data += png_rows(part, depth) if part.size else b""
    else:
        data = png_rows(samples, depth)
    w, h = size or (width, height)
    head = struct.pack(">IIBBBBB", w, h, depth, color_type, 0, 0, int(interlace))
    idat = chunk(b"IDAT", zlib.compress(data, 9))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + before + idat + after + chunk(b"IEND", b"")


def png_samples(width, height, depth, channels):
    full = scene(width, height, channels).astype(np.uint32)
    if depth == 16:
        return full * 256 + rng.integers(0, 256, full.shape)
    return full >> (8 - depth)


# --- BMP by hand


def bmp(width, height, bits, rows, palette=b"", compression=0, masks=b"", header=40, colors=0, offset=None, top_down=False):
    size = struct.pack("<ii", width, -height if top_down else height)
    info = struct.pack("<I", header) + size + struct.pack("<HHIIiiII", 1, bits, compression, len(rows), 0, 0, colors, 0)
    if header == 12:
        info = struct.pack("<IHHHH", 12, width, height, 1, bits)
    body = info + masks
    body = body.ljust(header, b"\0") + palette
    at = 14 + len(body) if offset is None else offset
    return b"BM" + struct.pack("<IHHI", 14 + len(body) + len(rows), 0, 0, at) + body + rows


def bmp_rows(samples, bits):
    out = b""
    for row in samples:
        if bits < 8:
            text = "".join(format(int(v), f"0{bits}b") for v in row)
            text = text.ljust(-(-len(text) // 8) * 8, "0")
            data = bytes(int(text[i : i + 8], 2) for i in range(0, len(text), 8))
        else:
            data = row.tobytes()
        out += data.ljust(-(-len(data) // 4) * 4, b"\0")
    return out


def colors(n, size=4):
    return b"".join(bytes(rng.integers(0, 256, 3, dtype=np.uint8)) + b"\0" * (size - 3) for _ in range(n))


# --- GIF by hand: every pixel a literal code behind a clear code


def gif(screen, frame, pixels, palette=None, local=None, background=0, transparent=None, interlace=False):
    flags = 0xF1 if palette else 0x70
    out = b"GIF89a" + struct.pack("<HHBBB", *screen, flags, background, 0) + (palette or b"")
    if transparent is not None:
        out += b"!\xf9\x04" + bytes([1, 0, 0, transparent]) + b"\0"
    out += b"!\xfe\x03abc\0"
    out += b"," + struct.pack("<HHHHB", *frame, (0x40 if interlace else 0) | (0x81 if local else 0)) + (local or b"")
    bits = "".join(format(code, "03b")[::-1] for p in pixels for code in (4, p)) + format(5, "03b")[::-1]
    data = bytes(int(bits[i : i + 8].ljust(8, "0")[::-1], 2) for i in range(0, len(bits), 8))
    blocks = b"".join(bytes([len(data[i : i + 255])]) + data[i : i + 255] for i in range(0, len(data), 255))
    return out + b"\x02" + blocks + b"\0;"


def jpeg_zoo():
    rgb, grey = Image.fromarray(scene(45, 33)), Image.fromarray(scene(33, 45, 1)[..., 0])
    cmyk = Image.fromarray(scene(37, 29, 4), "CMYK")
    zoo = {
        "baseline_420.jpg": save(rgb, "JPEG", quality=85),
        "baseline_422.jpg": save(rgb, "JPEG", quality=90, subsampling=1),
        "baseline_444.jpg": save(rgb, "JPEG", quality=95, subsampling=0),
        "baseline_411.jpg": save(rgb, "JPEG", quality=70, subsampling="4:1:1"),
        "progressive.jpg": save(rgb, "JPEG", quality=85, progressive=True),
        "restart.jpg": save(rgb, "JPEG", quality=85, restart_marker_blocks=2),
        "low_quality.jpg": save(rgb, "JPEG", quality=3),
        "grey.jpg": save(grey, "JPEG", quality=85),
        "grey_progressive.jpg": save(grey, "JPEG", quality=60, progressive=True),
        "rgb_no_transform.jpg": save(rgb, "JPEG", quality=90, keep_rgb=True),
        "cmyk.jpg": save(cmyk, "JPEG", quality=90),
        "pixel.jpg": save(rgb.crop((0, 0, 1, 1)), "JPEG"),
        "tall.jpg": save(Image.fromarray(scene(9, 120)), "JPEG"),
        "wide.jpg": save(Image.fromarray(scene(120, 9)), "JPEG"),
        "exif_byte.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(6, kind=1)),
        "exif_long_be.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(8, kind=4, order=">")),
        "exif_two_values.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(6, count=2)),
        "exif_far_values.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(6, count=100)),
        "exif_value_9.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(9)),
        "exif_bad_magic.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(6, magic=b"II\0\0")),
        "exif_odd_magic.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(6, magic=b"II\0*")),
        "exif_cut.jpg": save(rgb, "JPEG", exif=b"Exif\0\0" + tiff(6)[:26]),
        "xmp_6.jpg": save(rgb, "JPEG", xmp=XMP % 6),
        "xmp_6_exif_3.jpg": save(rgb, "JPEG", xmp=XMP % 6, exif=b"Exif\0\0" + tiff(3)),
    }
    small = Image.fromarray(scene(21, 14))
    for value in range(1, 9):
        zoo[f"exif_{value}.jpg"] = save(small, "JPEG", quality=90, exif=b"Exif\0\0" + tiff(value))
    # The same data with Adobe's marker turned from CMYK to YCCK: a different colour transform on load.
    at = zoo["cmyk.jpg"].index(b"Adobe") + 11
    zoo["ycck.jpg"] = zoo["cmyk.jpg"][:at] + b"\x02" + zoo["cmyk.jpg"][at + 1 :]
    zoo["trailing.jpg"] = zoo["grey.jpg"] + b"after the end"
    split = b"Exif\0\0" + tiff(6)
    parts = split[:20], b"Exif\0\0" + split[20:]
    segments = b"".join(b"\xff\xe1" + struct.pack(">H", len(p) + 2) + p for p in parts)
    zoo["exif_split.jpg"] = zoo["grey.jpg"][:2] + segments + zoo["grey.jpg"][2:]
    return zoo


def png_zoo():
    zoo = {}
    for color_type, channels, depths in ((0, 1, (1, 2, 4, 8, 16)), (2, 3, (8, 16)), (4, 2, (8, 16)), (6, 4, (8, 16))):
        for depth in depths:
            samples = png_samples(29, 23, depth, channels)
            if channels in (2, 4):
                samples[..., -1] = alpha(29, 23) if depth == 8 else alpha(29, 23).astype(np.uint32) * 257 // 2
            if depth == 16 and color_type == 0:
                samples //= rng.choice([1, 200, 400], samples.shape)
            zoo[f"type{color_type}_{depth}.png"] = png(samples, depth, color_type)
            zoo[f"type{color_type}_{depth}_interlaced.png"] = png(samples, depth, color_type, interlace=True)
    for depth in (1, 2, 4, 8):
        samples = png_samples(31, 17, depth, 1)
        plte = chunk(b"PLTE", bytes(rng.integers(0, 256, 3 << depth, dtype=np.uint8)))
        alphas = chunk(b"tRNS", bytes(rng.integers(0, 256, (1 << depth) - 1, dtype=np.uint8)))
        zoo[f"type3_{depth}.png"] = png(samples, depth, 3, plte)
        zoo[f"type3_{depth}_trns.png"] = png(samples, depth, 3, plte + alphas, interlace=depth == 4)
    ramp = (np.arange(20 * 12).reshape(12, 20, 1) % 16).astype(np.uint32)
    plte = chunk(b"PLTE", bytes(range(30)))
    zoo["palette_short.png"] = png(ramp, 8, 3, plte)
    zoo["palette_one_transparent.png"] = png(ramp, 8, 3, plte + chunk(b"tRNS", b"\xff\xff\x00"))
    for depth, keys in ((1, (0, 1)), (2, (1, 85)), (4, (3, 51)), (8, (7, 0x107)), (16, (5, 0x1FF))):
        for key in keys:
            zoo[f"grey{depth}_key_{key}.png"] = png(ramp % (1 << min(depth, 4)), depth, 0, chunk(b"tRNS", struct.pack(">H", key)))
    rgb = np.concatenate([ramp, ramp + 1, ramp + 2], -1)
    zoo["rgb8_key.png"] = png(rgb, 8, 2, chunk(b"tRNS", struct.pack(">3H", 4, 5, 6)))
    zoo["rgb16_key.png"] = png(rgb * 256 + 9, 16, 2, chunk(b"tRNS", struct.pack(">3H", 4, 5, 6)))
    zoo["rgb16_key_exact.png"] = png(rgb * 256 + 9, 16, 2, chunk(b"tRNS", struct.pack(">3H", 4 * 256 + 9, 5 * 256 + 9, 6 * 256 + 9)))
    grey = png_samples(19, 11, 8, 1)
    zoo["exif.png"] = png(grey, 8, 0, chunk(b"eXIf", tiff(6)))
    zoo["exif_after.png"] = png(grey, 8, 0, after=chunk(b"eXIf", tiff(8)))
    zoo["xmp.png"] = png(grey, 8, 0, chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP % 5))
    profile = b"Exif\0\0" + tiff(7)
    text = f"\nexif\n{len(profile):8}\n".encode() + b"\n".join(profile.hex().encode()[i : i + 72] for i in range(0, 2 * len(profile), 72))
    zoo["raw_profile.png"] = png(grey, 8, 0, chunk(b"zTXt", b"Raw profile type exif\0\0" + zlib.compress(text + b"\n")))
    zoo["gamma.png"] = png(grey, 8, 0, chunk(b"gAMA", struct.pack(">I", 100000)))
    zoo["pillow_rgb.png"] = save(Image.fromarray(scene(60, 40)), "PNG")
    zoo["pillow_tall.png"] = save(Image.fromarray(scene(8, 150)), "PNG")
    frames = [Image.fromarray(scene(16, 12)) for _ in range(2)]
    zoo["apng.png"] = save(frames[0], "PNG", save_all=True, append_images=frames[1:])
    return zoo


def webp_zoo():
    rgb, rgba = scene(43, 31), np.dstack([scene(43, 31), alpha(43, 31)])
    picture, transparent = Image.fromarray(rgb), Image.fromarray(rgba)
    other = Image.fromarray(np.dstack([scene(43, 31), alpha(43, 31)[::-1]]))
    return {
        "lossy.webp": save(picture, "WEBP", quality=80),
        "lossy_alpha.webp": save(transparent, "WEBP", quality=60),
        "lossless.webp": save(picture, "WEBP", lossless=True),
        "lossless_alpha.webp": save(transparent, "WEBP", lossless=True, exact=True),
        "animated.webp": save(transparent, "WEBP", save_all=True, append_images=[other], lossless=True),
        "animated_opaque.webp": save(picture, "WEBP", save_all=True, append_images=[Image.fromarray(scene(43, 31))], quality=70),
        "exif.webp": save(picture, "WEBP", quality=80, exif=tiff(6)),
        "xmp.webp": save(picture, "WEBP", quality=80, xmp=XMP % 3),
    }


def bmp_zoo():
    zoo = {}
    for bits in (1, 4, 8):
        samples = png_samples(27, 13, bits, 1)[..., 0].astype(np.uint8)
        zoo[f"palette{bits}.bmp"] = bmp(27, 13, bits, bmp_rows(samples, bits), colors(1 << bits))
        zoo[f"palette{bits}_os2.bmp"] = bmp(27, 13, bits, bmp_rows(samples, bits), colors(1 << bits, 3), header=12)
    short = (np.arange(27 * 13).reshape(13, 27) % 10).astype(np.uint8)
    zoo["palette_short.bmp"] = bmp(27, 13, 8, bmp_rows(short, 8), colors(8), colors=8)
    zoo["no_offset.bmp"] = bmp(27, 13, 8, bmp_rows(short, 8), colors(10), colors=10, offset=0)
    zoo["offset_before_palette.bmp"] = bmp(27, 13, 8, bmp_rows(short, 8), colors(10), colors=10, offset=54)
    zoo["top_down.bmp"] = bmp(27, 13, 24, bmp_rows(scene(27, 13), 24), top_down=True)
    zoo["rgb24.bmp"] = bmp(27, 13, 24, bmp_rows(scene(27, 13), 24))
    zoo["grey.bmp"] = save(Image.fromarray(scene(30, 10, 1)[..., 0]), "BMP")
    zoo["bilevel.bmp"] = save(Image.fromarray(scene(30, 10, 1)[..., 0] > 128), "BMP")
    words = rng.integers(0, 65536, (13, 27), dtype=np.uint16)
    zoo["rgb16_555.bmp"] = bmp(27, 13, 16, bmp_rows(words, 16))
    masks565, masks888 = struct.pack("<III", 0xF800, 0x7E0, 0x1F), struct.pack("<III", 0xFF0000, 0xFF00, 0xFF)
    zoo["rgb16_565.bmp"] = bmp(27, 13, 16, bmp_rows(words, 16), masks=masks565, compression=3)
    four = np.dstack([scene(27, 13), alpha(27, 13)])
    zoo["rgbx32.bmp"] = bmp(27, 13, 32, bmp_rows(four, 32))
    zoo["rgbx32_masks.bmp"] = bmp(27, 13, 32, bmp_rows(four, 32), masks=masks888, compression=3)
    zoo["rgba32_v5.bmp"] = bmp(27, 13, 32, bmp_rows(four, 32), masks=masks888 + struct.pack("<I", 0xFF000000), compression=3, header=124)
    order = struct.pack("<IIII", 0xFF000000, 0xFF0000, 0xFF00, 0xFF)
    zoo["abgr32_v3.bmp"] = bmp(27, 13, 32, bmp_rows(four, 32), masks=order, compression=3, header=56)
    rle8 = b"\x05\x03\x02\x07\x00\x00" + b"\x00\x05abcde\0" + b"\x02\x01\x00\x00" + b"\x00\x02\x03\x01" + b"\x04\x09\x00\x00\x09\x02"
    zoo["rle8.bmp"] = bmp(7, 5, 8, rle8 + b"\x00\x01", colors(256), compression=1)
    rle4 = b"\x05\x3a\x02\x71\x00\x00" + b"\x00\x05\xab\xcd\xe0\0" + b"\x02\x12\x00\x00" + b"\x00\x02\x03\x01" + b"\x04\x9a\x00\x00\x09\x25"
    zoo["rle4.bmp"] = bmp(7, 5, 4, rle4 + b"\x00\x01", colors(16), compression=2)
    return zoo


def pnm_zoo():
    grey, rgb = scene(23, 15, 1)[..., 0], scene(23, 15)
    plain = lambda a: b" ".join(str(int(v)).encode() for v in a.reshape(-1))  # noqa: E731
    bits = (grey > 128).astype(np.uint8)
    wide = rng.integers(0, 1001, (15, 23)).astype(">u2")
    return {
        "p1.pbm": b"P1\n# comment\n23 15\n" + b"\n".join(b"".join(b"01"[v : v + 1] for v in row) for row in bits),
        "p2.pgm": b"P2 23 15 # size\n255\n" + plain(grey) + b"\n",
        "p2_max_1000.pgm": b"P2\n23 15\n1000\n" + plain(wide),
        "p3.ppm": b"P3\n23\n15\n255\n#c\n" + plain(rgb) + b"\n# end",
        "p3_comment_in_number.ppm": b"P3\n1 1\n255\n1#x\n2 3 4",
        "p3_max_100.ppm": b"P3\n23 15 100\n" + plain(rgb // 3),
        "p4.pbm": b"P4\n23 15\n" + np.packbits(bits, axis=1).tobytes(),
        "p5.pgm": b"P5\n#\n23 15\n255\n" + grey.tobytes(),
        "p5_max_100.pgm": b"P5\n23 15\n100\n" + (grey // 2).tobytes(),
        "p5_max_1000.pgm": b"P5\n23 15\n1000\n" + wide.tobytes(),
        "p5_max_65535.pgm": b"P5\n23 15\n65535\n" + (wide // 2).astype(">u2").tobytes(),
        "p6.ppm": b"P6 23 15 255\n" + rgb.tobytes(),
        "p6_max_31.ppm": b"P6\n23 15\n31\n" + (rgb // 8).tobytes(),
        "p6_max_1023.ppm": b"P6\n23 15\n1023\n" + (rgb.astype(">u2") * 4).tobytes(),
    }


def gif_zoo():
    four, pixels = bytes(range(10, 130, 10)), [0, 1, 2, 3, 3, 2, 1, 0, 1, 1, 2, 2]
    paletted = Image.fromarray(scene(50, 35)).quantize(200)
    frames = [Image.fromarray(scene(40, 25)).quantize(16) for _ in range(3)]
    return {
        "pillow.gif": save(paletted, "GIF"),
        "pillow_plain.gif": save(paletted, "GIF", interlace=0),
        "grey.gif": save(Image.fromarray(scene(20, 20, 1)[..., 0]), "GIF"),
        "transparent.gif": save(paletted, "GIF", transparency=7),
        "animated.gif": save(frames[0], "GIF", save_all=True, append_images=frames[1:], duration=50),
        "frame_inside.gif": gif((6, 5), (1, 1, 4, 3), pixels, four, background=3),
        "frame_inside_transparent.gif": gif((6, 5), (1, 1, 4, 3), pixels, four, background=3, transparent=2),
        "frame_beyond.gif": gif((2, 2), (1, 1, 4, 3), pixels, four),
        "local_palette.gif": gif((4, 3), (0, 0, 4, 3), pixels, four, local=four[::-1]),
        "no_palette.gif": gif((4, 3), (0, 0, 4, 3), pixels),
        "transparent_beyond_palette.gif": gif((6, 5), (1, 1, 4, 3), pixels, four, transparent=200),
        "interlaced.gif": gif((1, 12), (0, 0, 1, 12), pixels, four, interlace=True),
    }


def malformed(zoo):
    """name -> (data, kind of error)."""
    grey, jpg, webp = png_samples(8, 8, 8, 1), zoo["baseline_420.jpg"], zoo["lossy.webp"]
    good = png(grey, 8, 0)
    sof = jpg.index(b"\xff\xc0")
    flipped = bytearray(good)
    flipped[good.index(b"IDAT") + 10] ^= 0x10
    canvas = bytearray(zoo["animated.webp"])
    canvas[24:30] = (19999).to_bytes(3, "little") * 2
    scan = zoo["grey_progressive.jpg"]
    rgb = bmp_rows(scene(4, 4), 24)
    bad = {
        "empty.jpg": (b"", "unsupported"),
        "text.jpg": (b"<html>not found</html>", "unsupported"),
        "tiff.tif": (save(Image.fromarray(scene(4, 4)), "TIFF"), "unsupported"),
        "soi_only.jpg": (b"\xff\xd8\xff", "format"),
        "no_eoi.jpg": (jpg[:-2], "format"),
        "header_only.jpg": (jpg[:sof], "format"),
        "zero_height.jpg": (jpg[: sof + 5] + b"\0\0" + jpg[sof + 7 :], "format"),
        "gigantic.jpg": (jpg[: sof + 5] + b"\xff\xdc\xff\xdc" + jpg[sof + 9 :], "limit"),
        "two_components.jpg": (jpg[: sof + 9] + b"\2" + jpg[sof + 10 :], "format"),
        "twelve_bits.jpg": (jpg[: sof + 4] + b"\x0c" + jpg[sof + 5 :], "format"),
        "many_scans.jpg": (scan[:-2] + scan[scan.rindex(b"\xff\xda") : -2] * 300 + b"\xff\xd9", "limit"),
        "zero_width.png": (png(grey, 8, 0, size=(0, 8)), "format"),
        "gigantic.png": (png(grey, 8, 0, size=(0x7FFFFFFF, 0x7FFFFFFF)), "limit"),
        "too_many_pixels.png": (png(grey, 8, 0, size=(13378, 13378)), "limit"),
        "too_wide.png": (png(grey, 8, 0, size=(1000001, 1)), "limit"),
        "lying_height.png": (png(grey, 8, 0, size=(8, 4000)), "format"),
        "bad_ihdr_crc.png": (good[:29] + b"\0\0\0\0" + good[33:], "format"),
        "bad_idat.png": (bytes(flipped), "format"),
        "bad_trns_crc.png": (png(grey, 8, 0, chunk(b"tRNS", b"\0\1")[:-4] + b"abcd"), "format"),
        "bad_depth.png": (png(grey, 8, 2)[:24] + png(grey, 3, 0)[24:], "format"),
        "no_palette.png": (png(grey, 8, 3), "format"),
        "no_idat.png": (good[:33] + chunk(b"IEND", b""), "format"),
        "cut.webp": (webp[:-20], "format"),
        "riff_only.webp": (webp[:12], "format"),
        "gigantic.webp": (bytes(canvas), "limit"),
        "header_only.gif": (zoo["pillow.gif"][:13], "format"),
        "no_frame.gif": (zoo["pillow.gif"][:13] + bytes(3 * 256) + b";", "format"),
        "empty_frame.gif": (gif((4, 4), (0, 0, 0, 0), []), "format"),
        "gigantic.gif": (gif((65535, 65535), (0, 0, 2, 2), [0] * 4), "limit"),
        "missing_pixels.gif": (gif((4, 4), (0, 0, 4, 4), [0] * 8), "format"),
        "early_end.bmp": (bmp(4, 4, 24, rgb[:-1]), "format"),
        "zero.bmp": (bmp(0, 4, 24, rgb), "format"),
        "gigantic.bmp": (bmp(0x7FFFFFFF, 0x7FFFFFFF, 24, rgb), "limit"),
        "bits_3.bmp": (bmp(4, 4, 3, rgb), "unsupported"),
        "jpeg_inside.bmp": (bmp(4, 4, 24, rgb, compression=4), "unsupported"),
        "odd_masks.bmp": (bmp(4, 4, 16, rgb, masks=struct.pack("<III", 1, 2, 4), compression=3), "unsupported"),
        "header_99.bmp": (bmp(4, 4, 24, rgb, header=99), "unsupported"),
        "offset_beyond.bmp": (bmp(4, 4, 24, rgb, offset=0xFFFFFFFF), "format"),
        "palette_huge.bmp": (bmp(4, 4, 8, rgb, colors=0xFFFFFFFF), "unsupported"),
        "rle_ends.bmp": (bmp(7, 5, 8, b"\x05\x03\x00\x01", colors(256), compression=1), "format"),
        "no_space.ppm": (b"P6", "format"),
        "zero.ppm": (b"P6 0 4 255\n" + bytes(99), "format"),
        "gigantic.ppm": (b"P6 9999999999 9999999999 255\n", "limit"),
        "negative.ppm": (b"P6 -4 4 255\n" + bytes(99), "format"),
        "max_zero.pgm": (b"P5 4 4 0\n" + bytes(16), "format"),
        "max_65536.pgm": (b"P5 4 4 65536\n" + bytes(32), "format"),
        "early_end.ppm": (b"P6 4 4 255\n" + bytes(47), "format"),
        "above_max.pgm": (b"P2 2 1 9\n9 10", "format"),
        "letters.pgm": (b"P2 2 1 9\n9 x", "format"),
        "few_samples.pgm": (b"P2 2 2 9\n9 8 7", "format"),
        "bad_bit.pbm": (b"P1 2 2\n0 1 2 0", "format"),
    }
    return bad


def formula_picture(width, height):
    y, x = np.mgrid[0:height, 0:width]
    return np.stack([(7 * x + 3 * y) % 256, (x * x + 5 * y) % 256, (x * y) % 256], -1).astype(np.uint8)


def resize_cases():
    cases = [(64, 48, w, h, f) for f in range(6) for w, h in ((14, 14), (224, 224), (64, 20), (20, 48), (64, 48), (1, 1), (100, 30), (30, 100))]
    # Around the rule: vertical first where in_h - out_h > 2 * (in_w - out_w) and in_h > out_h.
    for in_w, in_h, out in ((50, 70, 40), (50, 61, 40), (50, 60, 40), (50, 59, 40), (41, 42, 40), (41, 43, 40), (39, 41, 40), (39, 39, 40), (30, 39, 40)):
        cases += [(in_w, in_h, out, out, f) for f in (1, 2, 3)]
    pick = random.Random(5)
    for _ in range(60):
        cases.append(tuple(int(2 ** pick.uniform(0, 8)) for _ in range(4)) + (pick.randrange(6),))
    return cases


def main():
    out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).resolve().parent.parent / "tests/golden/images")
    (out / "malformed").mkdir(parents=True, exist_ok=True)
    for old in [*out.glob("*.*"), *out.glob("malformed/*")]:
        old.unlink()
    note = f"# made by tools/make_image_goldens.py with Pillow {PIL.__version__}, Transformers {transformers.__version__}\n"
    zoo = {}
    for part in (jpeg_zoo(), png_zoo(), webp_zoo(), bmp_zoo(), pnm_zoo(), gif_zoo()):
        zoo.update(part)
    lines = []
    for name, data in zoo.items():
        rgb = reference(data)
        hashes = [fnv(rgb.tobytes())]
        hashes += [fnv(np.array(Image.fromarray(rgb).resize((n, n), Image.Resampling.BICUBIC)).tobytes()) for n in SIZES]
        lines.append(f"{name} {rgb.shape[1]} {rgb.shape[0]} {' '.join(hashes)}\n")
        (out / name).write_bytes(data)
    sizes = "".join(f" bicubic_{n}" for n in SIZES)
    (out / "manifest.txt").write_text(note + f"# name width height rgb{sizes}\n" + "".join(lines))

    lines = []
    for name, (data, kind) in malformed(zoo).items():
        (out / "malformed" / name).write_bytes(data)
        lines.append(f"{name} {kind}\n")
    (out / "malformed.txt").write_text(note + "# name error\n" + "".join(lines))

    lines = []
    for in_w, in_h, out_w, out_h, code in resize_cases():
        source = formula_picture(in_w, in_h)
        resized = np.array(Image.fromarray(source).resize((out_w, out_h), code))
        plane = Image.fromarray((source[..., 1].astype(np.float32) - 100) / 7).resize((out_w, out_h), code)
        lines.append(f"{in_w} {in_h} {out_w} {out_h} {code} {fnv(resized.tobytes())} {fnv(np.array(plane).tobytes())}\n")
    (out / "resize.txt").write_text(note + "# in_w in_h out_w out_h filter rgb float\n" + "".join(lines))


if __name__ == "__main__":
    main()
