"""sr_zoo: super-resolution whose pictures downsample exactly to the input.

A method = generator × consistency × objective::

    x (LR) ─► generator ─► raw ỹ ─► consistency ─► ŷ ◄─ objective (the prior's pull)

Names are loaded when first used: ``import sr_zoo`` alone imports nothing heavy.
"""

import importlib

__version__ = "0.1.0"

_HOMES = {
    "load": "hub", "list_models": "hub", "pull": "remote", "push": "publish", "upscale": "engine",
    "upscale_folder": "folder", "consistent": "foreign",
    "SuperResolver": "methods", "MSE": "methods", "AffMSE": "methods",
    "SoftGAN": "methods", "AffGAN": "methods", "AffDAE": "methods", "AffLL": "methods",
    "SRDataModule": "data", "Downsampler": "operators",
}  # fmt: skip
__all__ = [*_HOMES, "__version__"]


def __getattr__(name: str):
    if name not in _HOMES:
        raise AttributeError(f"module 'sr_zoo' has no attribute {name!r}")
    return getattr(importlib.import_module(f"sr_zoo.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
