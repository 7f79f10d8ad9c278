"""A Hub for each test, an empty cache, a client that talks to them, and a checkpoint that may be published."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.hub.server import Hub

RESULTS = [
    {"model": "tiny", "scale": 4, "set": "Set5", "images": 5, "psnr": 29.5, "ssim": 0.83, "lr_psnr": 143.1, "lr_psnr_8bit": 71.2,
     "reproduced": 1.0, "images_reproduced": 1.0, "high_frequency": 0.1, "seconds": 0.1, "megapixels_per_second": 1.0,
     "parameters": 1, "precision": "float32"},
]  # fmt: skip


@pytest.fixture
def hub():
    with Hub() as hub:
        yield hub


@pytest.fixture
def waits(monkeypatch) -> list[float]:
    """Nothing sleeps; how long it would have."""
    waits = []
    monkeypatch.setattr("time.sleep", waits.append)
    return waits


@pytest.fixture
def cache(hub, monkeypatch, tmp_path, waits) -> Path:
    """The client in this process talks to the Hub as nobody, its cache empty."""
    from huggingface_hub import constants, hf_api

    if hasattr(hf_api, "repo_type_and_id_from_hf_id"):  # older clients know an address of the Hub by this
        monkeypatch.setattr(constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True, raising=False)  # of older clients there is none
    log_in(monkeypatch, hub, False)
    return tmp_path / "cache"


def log_in(monkeypatch, hub, token) -> None:
    from huggingface_hub import HfApi

    monkeypatch.setattr("sr_zoo.remote.client", lambda: HfApi(endpoint=hub.url, token=token))
    monkeypatch.setattr("sr_zoo.publish.client", lambda: HfApi(endpoint=hub.url, token=token))


@pytest.fixture
def ada(hub, cache, monkeypatch) -> str:
    """Logged in as ada."""
    log_in(monkeypatch, hub, "hf_ada")
    return "hf_ada"


@pytest.fixture
def checkpoint(checkpoint) -> Path:
    """With all that a published one must have."""
    from sr_zoo.card import model_card

    (checkpoint / "results.json").write_text(json.dumps(RESULTS))
    (checkpoint / "recipe.yaml").write_bytes((ROOT / "checkpoints" / "mse-x4" / "recipe.yaml").read_bytes())
    (checkpoint / "README.md").write_text(model_card(checkpoint, "Nothing: its weights are random.", "cc0-1.0"))
    return checkpoint


@pytest.fixture
def elsewhere(hub, tmp_path):
    """Starts ``python ARGUMENTS`` as another user of the machine would: own cache, the environment alone says where the Hub is."""
    started = []

    def start(*arguments, **environment) -> subprocess.Popen:
        environment = {
            **{k: v for k, v in os.environ.items() if not k.startswith("HF_")}, "HF_ENDPOINT": hub.url, "PYTHONPATH": str(ROOT),
            "HF_HOME": str(tmp_path / "home"), "HF_HUB_DISABLE_XET": "1", "HF_HUB_DISABLE_TELEMETRY": "1", **environment,
        }  # fmt: skip
        command = [sys.executable, *map(str, arguments)]
        process = subprocess.Popen(
            command, env=environment, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def files_of(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}
