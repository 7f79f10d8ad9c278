"""What several tests share: small pictures, a small trained-looking model, a folder of pictures."""

from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).resolve().parent.parent
SHARED = ROOT.parent / "shared" / "data"


def pytest_collection_modifyitems(items):
    missing = pytest.mark.skip(reason="needs the research pictures beside the checkout")
    for item in items:
        if "shared" in item.keywords and not SHARED.is_dir():
            item.add_marker(missing)


@pytest.fixture
def shared() -> Path:
    return SHARED


@pytest.fixture
def picture() -> np.ndarray:
    """A colourful 40×56 picture with smooth parts, edges, noise and saturated places, downsampled from a larger one."""
    import torch

    from sr_zoo.operators import Downsampler

    y, x = np.mgrid[:160, :224]
    waves = np.stack([128 + 127 * np.sin(x / 20 + y / 36), 255.0 * ((x // 28 + y // 28) % 2), 1.0 * x + y / 4], -1)
    noise = np.random.default_rng(0).normal(0, 40, waves.shape)
    large = torch.from_numpy((waves + noise).clip(0, 255)).permute(2, 0, 1)
    return Downsampler("bicubic", 4).A(large).round().clamp(0, 255).permute(1, 2, 0).byte().numpy()


@pytest.fixture
def folder(tmp_path, picture) -> Path:
    """Three pictures, one of them in a nested folder."""
    from PIL import Image

    (tmp_path / "photos" / "more").mkdir(parents=True)
    for i, name in enumerate(("a.png", "b.bmp", "more/c.png")):
        Image.fromarray(np.roll(np.tile(picture, (2, 2, 1)), 9 * i, 0)).save(tmp_path / "photos" / name)
    return tmp_path / "photos"


@pytest.fixture
def model():
    """An AffMSE with random weights that does change the picture."""
    import torch

    from sr_zoo import AffMSE

    torch.manual_seed(0)
    model = AffMSE(generator={"name": "residual", "width": 16, "depth": 1})
    return model.eval()


@pytest.fixture
def checkpoint(model, tmp_path) -> Path:
    from sr_zoo.hub import save

    return save(model, tmp_path / "tiny")
