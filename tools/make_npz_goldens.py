#!/usr/bin/env python3
"""Writes tests/golden/npz: archives as numpy writes them, for the npz reader's test, which knows their content by formula:
element i of array number n is i * 3 + n in whatever type it has.

stored.npz      np.savez: every type, Fortran order, a scalar, an empty array, npy versions 1 to 3, a member that is no array
deflated.npz    np.savez_compressed of the same

Run with numpy 2: python tools/make_npz_goldens.py [OUT_DIR]
"""

import io
import sys
import zipfile
from pathlib import Path

import numpy as np

DATE = (2026, 1, 1, 0, 0, 0)  # so that the files do not change with the day


def values(number, shape, dtype):
    n = int(np.prod(shape))
    return (np.arange(n) * 3 + number).astype(dtype).reshape(shape)


def bfloat16(number, shape):
    bits = values(number, shape, np.float32).view(np.uint32) >> 16  # small whole numbers: nothing is lost
    return bits.astype(np.uint16).view("V2")


ARRAYS = [
    ("params/f32", values(0, (2, 3, 4), "<f4"), (1, 0)),
    ("params/f16", values(1, (5,), "<f2"), (1, 0)),
    ("params/bf16", bfloat16(2, (3, 2)), (1, 0)),
    ("i32", values(3, (4, 1), "<i4"), (2, 0)),
    ("i8", values(4, (7,), "i1"), (3, 0)),
    ("u8", values(5, (7,), "u1"), (1, 0)),
    ("f64", values(6, (2,), "<f8"), (1, 0)),
    ("i64", values(7, (2,), "<i8"), (1, 0)),
    ("bool", np.array([True, False, True]), (1, 0)),
    ("fortran", np.asfortranarray(values(9, (3, 4), "<f4")), (1, 0)),
    ("scalar", np.array(10, "<f4"), (1, 0)),
    ("empty", np.zeros((0, 5), "<f4"), (1, 0)),
    ("text", np.array(["label", "x"]), (1, 0)),
]


def write(path, compression):
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, array, version in ARRAYS:
            data = io.BytesIO()
            np.lib.format.write_array(data, array, version)
            info = zipfile.ZipInfo(name + ".npy", DATE)
            info.compress_type = compression
            with archive.open(info, "w", force_zip64=True) as member:  # as np.savez does
                member.write(data.getvalue())
        archive.writestr(zipfile.ZipInfo("README", DATE), "made by " + "numpy " + np.__version__)


out = Path(sys.argv[1] if len(sys.argv) > 1 else Path(__file__).parent.parent / "tests/golden/npz")
out.mkdir(parents=True, exist_ok=True)
write(out / "stored.npz", zipfile.ZIP_STORED)
write(out / "deflated.npz", zipfile.ZIP_DEFLATED)
