"""What :mod:`benchmarks.speed_peers` compares: each makes a function of a uint8 picture that returns one four times as large.

Imports happen in the makers: each contender runs in a process of its own, whose memory is measured, too.
"""

import sys
from pathlib import Path

import numpy as np

__all__ = ["OURS", "contenders"]

OURS = ("affmse-x4", "affmse-x4-fast")


def contenders(options) -> dict:
    """Name → what makes a function of a uint8 picture ``(h, w, 3)`` that returns one four times as large."""
    found = {
        "engine": lambda: engine("affmse-x4"),
        "engine (fast)": lambda: engine("affmse-x4-fast"),
        "eager float32": lambda: eager("affmse-x4"),
        "eager float32 (fast)": lambda: eager("affmse-x4-fast"),
        "super-image EDSR-baseline": lambda: edsr(options.super_image),
        "torch bicubic": torch_bicubic,
        "PIL bicubic": pil_bicubic,
    }
    for text in options.spandrel:
        name, _, file = text.partition("=")
        found[f"spandrel {name}"] = lambda f=file: foreign(f)
    for model in OURS:
        for kind in ("autocast bf16", "prepared bf16", "prepared float32", "onnxruntime", "compile bf16", "compile float32"):
            found[f"{model}: {kind}"] = lambda m=model, k=kind: alone(m, k)
        found[f"{model}: floor"] = lambda m=model: floor(m)
    return found


def engine(name: str):
    import sr_zoo
    from sr_zoo.engine import upscale_array

    model = sr_zoo.load(name)
    return lambda picture: upscale_array(picture, model).array


def eager(name: str):
    import torch

    import sr_zoo

    model = sr_zoo.load(name)
    network = model.inference_generator.to(memory_format=torch.contiguous_format)
    return tensors(lambda lr: model.consistency(network(lr), lr))


def edsr(folder: str | None):
    if folder is None:
        raise ImportError("super-image: give --super-image")
    sys.path.insert(0, folder)
    from super_image import EdsrConfig, EdsrModel

    return tensors(EdsrModel(EdsrConfig(scale=4)).eval())


def foreign(file: str):
    import spandrel

    if not Path(file).is_file():
        raise ImportError(f"{file}: no such file")
    return tensors(spandrel.ModelLoader("cpu").load_from_file(file).eval())


def torch_bicubic():
    from torch.nn import functional as F

    return tensors(lambda lr: F.interpolate(lr, scale_factor=4, mode="bicubic"))


def pil_bicubic():
    from PIL import Image

    def upscale(picture):
        height, width = picture.shape[:2]
        return np.asarray(Image.fromarray(picture).resize((4 * width, 4 * height), Image.Resampling.BICUBIC))

    return upscale


def alone(name: str, kind: str):
    """The generator's raw picture, as floats: what comes back is not looked at."""
    import torch

    import sr_zoo
    from sr_zoo.backends import compiled_generator, onnx_generator, prepared

    generator, (how, _, precision) = sr_zoo.load(name).inference_generator, kind.partition(" ")

    def autocast(lr):
        with torch.autocast("cpu", torch.bfloat16):
            return generator(lr.contiguous(memory_format=torch.channels_last)).float()

    makes = {
        "autocast": lambda: autocast, "onnxruntime": lambda: onnx_generator(generator),
        "prepared": lambda: prepared(generator, precision), "compile": lambda: compiled_generator(generator, precision),
    }  # fmt: skip
    return raw(makes[how]())


def floor(name: str):
    """The generator's convolutions alone, each on a picture of 256×256 and for as many pixels as there are."""
    import torch

    import sr_zoo

    pairs = []
    for layer in sr_zoo.load(name).inference_generator.modules():
        if isinstance(layer, torch.nn.Conv2d):
            x = torch.randn(1, layer.in_channels, 256, 256, dtype=torch.bfloat16)
            layer = layer.to(torch.bfloat16, memory_format=torch.channels_last)
            pairs.append((layer, x.contiguous(memory_format=torch.channels_last)))

    def convolve(lr):
        rows = max(1, 256 * lr.shape[-2] * lr.shape[-1] // 256**2)
        for start in range(0, rows, 256):
            for layer, x in pairs:
                layer(x[:, :, : min(256, rows - start)])

    return raw(convolve)


def raw(function):
    import torch

    def upscale(picture):
        function(torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255)
        return np.empty((4 * picture.shape[0], 4 * picture.shape[1], 3), np.uint8)

    return upscale


def tensors(function):
    """Around a network of floats: what a plain script does before and after."""
    import torch

    def upscale(picture):
        lr = torch.from_numpy(picture).permute(2, 0, 1)[None].float() / 255
        sr = function(lr)[0].permute(1, 2, 0).mul(255).round_().clamp_(0, 255)
        return sr.to(torch.uint8).numpy()

    return upscale
