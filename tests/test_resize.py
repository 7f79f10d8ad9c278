"""Resizing is MATLAB's bicubic, to any size, without fringes; the plan for a size is what a user expects."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from sr_zoo.errors import UserError
from sr_zoo.hub import list_models
from sr_zoo.picture import Picture
from sr_zoo.resize import default_model, plan_outscale, resize


def noise(height, width, channels=3, dtype=np.uint8, seed=0):
    peak = np.iinfo(dtype).max
    return np.random.default_rng(seed).integers(0, peak + 1, (height, width, channels)).astype(dtype)


def reference(line: np.ndarray, out: int) -> np.ndarray:
    """imresize along the first axis, sample by sample, on a padded line."""
    size, pad = len(line), 4 * len(line) + 40
    padded = np.pad(line.astype(np.float64), [(pad, pad)] + [(0, 0)] * (line.ndim - 1), mode="symmetric")
    scale, result = out / size, np.empty((out, *line.shape[1:]))
    shrink = min(scale, 1.0)
    for i in range(out):
        u = (i + 1) / scale + 0.5 * (1 - 1 / scale) - 1
        total, weight = 0.0, 0.0
        for j in range(int(np.floor(u - 2 / shrink)) - 1, int(np.ceil(u + 2 / shrink)) + 2):
            t = abs(u - j) * shrink
            w = 1.5 * t**3 - 2.5 * t**2 + 1 if t <= 1 else -0.5 * t**3 + 2.5 * t**2 - 4 * t + 2 if t < 2 else 0.0
            total, weight = total + w * padded[pad + j], weight + w
        result[i] = total / weight
    return result


def plane(values: np.ndarray, width: int, height: int) -> np.ndarray:
    return reference(reference(values, height).swapaxes(0, 1), width).swapaxes(0, 1)


SIZES = [(1, 1), (7, 3), (33, 17), (50, 41), (75, 130), (200, 40), (131, 67)]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("width, height", SIZES)
def test_every_size_is_matlabs(width, height, dtype):
    colours = noise(41, 50, 3, dtype)
    done = resize(Picture(colours), width, height)
    expected = np.clip(np.floor(plane(colours, width, height) + 0.5), 0, np.iinfo(dtype).max)
    assert done.colours.shape == (height, width, 3) and done.colours.dtype == dtype and done.size == (width, height)
    wrong = np.abs(done.colours - expected)
    assert wrong.max() <= 1 and (wrong > 0).mean() < 1e-3, "all but ties"


@pytest.mark.parametrize("width, height", [(75, 130), (31, 29)])
def test_inside_it_is_what_torch_computes(width, height):
    colours = noise(41, 50)
    planes = torch.from_numpy(colours).permute(2, 0, 1)[None].double()
    library = F.interpolate(planes, size=(height, width), mode="bicubic", antialias=True, align_corners=False)
    expected = library[0].permute(1, 2, 0).numpy().clip(0, 255)
    difference = np.abs(resize(Picture(colours), width, height).colours - expected)
    assert difference[8:-8, 8:-8].max() <= 0.501 < difference.max(), "at the border torch cuts where MATLAB mirrors"


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (5, 1), (2, 3)])
def test_tiny_pictures(size):
    done = resize(Picture(noise(*size)), 70, 66)
    assert np.abs(done.colours - np.clip(plane(noise(*size), 70, 66), 0, 255)).max() <= 0.501


def test_a_constant_stays_constant():
    for width, height in SIZES:
        assert (resize(Picture(np.full((41, 50, 1), 77, np.uint8)), width, height).colours == 77).all()


def test_what_is_hidden_does_not_show_at_edges():
    colours, alpha = np.zeros((40, 40, 3), np.uint8), np.zeros((40, 40), np.uint8)
    colours[:, :20], alpha[:, :20] = (200, 100, 50), 255
    colours[:, 20:] = (0, 255, 255)
    for width, height in ((130, 40), (23, 31)):
        done = resize(Picture(colours, alpha), width, height)
        seen = done.alpha > 0
        assert 0.4 < seen.mean() < 0.6 and ((done.alpha > 0) & (done.alpha < 255)).any()
        assert np.abs(done.colours[seen].astype(int) - [200, 100, 50]).max() <= 1
        expected = np.clip(plane(alpha.astype(float), width, height), 0, 255)
        assert np.abs(done.alpha - expected).max() <= 0.501


def test_what_the_picture_carries_is_kept():
    picture = Picture(noise(8, 9, 1), None, b"icc", b"exif", (300.0, 150.0), ("note",))
    done = resize(picture, 5, 4)
    assert (done.icc, done.exif, done.dpi, done.notes) == (b"icc", b"exif", (300.0, 150.0), ("note",)) and done.alpha is None
    assert resize(picture, 9, 8) is picture
    with pytest.raises(ValueError, match="0×4"):
        resize(picture, 0, 4)


def test_memory_is_that_of_the_result(tmp_path):
    import tracemalloc

    picture = Picture(noise(500, 600))
    tracemalloc.start()
    try:
        done = resize(picture, 3000, 2500)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 1.6 * done.colours.nbytes, "as floats it would be four times as much"


@pytest.mark.parametrize(
    "arguments, expected",
    [
        ({"outscale": 3.3}, (4, (330, 165))), ({"outscale": 2}, (2, (200, 100))), ({"outscale": 2.02}, (3, (202, 101))),
        ({"outscale": 10}, (4, (1000, 500))), ({"outscale": 0.5}, (2, (50, 25))), ({"outscale": 0.001}, (2, (1, 1))),
        ({"size": "300x150"}, (3, (300, 150))), ({"size": "300X300"}, (4, (300, 300))), ({"size": "401x"}, (4, (401, 201))),
        ({"size": "x150"}, (3, (300, 150))), ({"size": "150×"}, (2, (150, 75))), ({"size": "x1"}, (2, (2, 1))),
    ],
)  # fmt: skip
def test_plans(arguments, expected):
    assert plan_outscale(100, 50, **arguments) == expected


def test_plans_take_the_networks_that_there_are():
    assert plan_outscale(100, 50, 3, scales=(2, 4)) == (4, (300, 150))
    shipped = {m["name"]: m["scale"] for m in list_models()}
    for scale in (2, 3, 4):
        assert shipped[default_model(scale)] == scale


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({}, "give one"), ({"outscale": 2, "size": "4x4"}, "give one"), ({"outscale": 0}, "above 0"),
        ({"outscale": float("nan")}, "above 0"), ({"outscale": float("inf")}, "above 0"), ({"size": "x"}, "'x' is not WIDTHx"),
        ({"size": "4k"}, "'4k' is not"), ({"size": "-3x4"}, "is not"), ({"size": "0x4"}, "is not"), ({"size": ""}, "is not"),
        ({"outscale": 1e9}, "more than"), ({"size": "99999999x"}, "more than"), ({"outscale": 1e308}, "more than"),
    ],
)  # fmt: skip
def test_plans_that_make_no_sense(arguments, message):
    with pytest.raises(UserError, match=message) as error:
        plan_outscale(100, 50, **arguments)
    assert "\n" not in str(error.value)
