"""Whatever goes wrong on the way: the right model after another try, or one line; and never a wrong or half a model."""

import errno
import json
import shutil
import signal
import struct

import pytest

import sr_zoo
from sr_zoo.hub import CheckpointError
from tests.hub.conftest import files_of, log_in
from tests.hub.test_pull import changed, same

LATER = {"status": 429, "headers": {"Retry-After": "7"}}
PASSING = {
    "the connection breaks at half of the weights": [("GET", "/storage/", "drop", {})],
    "it breaks three times": [("GET", "/storage/", "drop", {"times": 3})],
    "it breaks before the weights": [("GET", "/storage/", "deaf", {})],
    "it breaks at half of the config": [("GET", "config.json", "drop", {})],
    "it breaks before the first answer": [("HEAD", "config.json", "deaf", {"times": 2})],
    "asked to wait for the first file": [("HEAD", "config.json", "status", {**LATER, "times": 2})],
    "asked to wait for the weights": [("GET", "/storage/", "status", LATER)],
    "500 twice for the first file": [("HEAD", "config.json", "status", {"times": 2})],
    "500 twice for the weights": [("GET", "/storage/", "status", {"times": 2})],
    "503 for the config": [("GET", "config.json", "status", {"status": 503})],
    "the weights are cut short": [("GET", "/storage/", "short", {})],
    "the config is, and said to be shorter": [("HEAD", "config.json", "short", {}), ("GET", "config.json", "short", {})],
    "other bytes than the hash says": [("GET", "/storage/", "wrong", {"times": 2})],
    "a config of other bytes": [("GET", "config.json", "wrong", {})],
}  # fmt: skip


@pytest.mark.parametrize("name", PASSING)
def test_another_try_succeeds(name, hub, cache, waits, checkpoint, model):
    hub.add("ada/tiny", files_of(checkpoint))
    for method, part, what, options in PASSING[name]:
        hub.fault(method, part, what, **options)
    assert same(sr_zoo.load("ada/tiny"), model)
    assert not any(fault.times for fault in hub.faults), "all of it happened"
    assert 0 < sum(waits) < 30 and (max(waits) >= 7) == ("asked to wait" in name)
    assert {p.name for p in cache.rglob("snapshots/*/*")} == {"config.json", "model.safetensors"}


def test_what_had_arrived_is_not_asked_for_again(hub, cache, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 4096)
    hub.add("ada/tiny", files_of(checkpoint))
    hub.fault("GET", "/storage/", "drop")
    sr_zoo.load("ada/tiny")
    size = len(files_of(checkpoint)["model.safetensors"])
    assert hub.ranges == [f"bytes={size // 2 // 4096 * 4096}-"]


LASTING = {
    "always broken": ("GET", "/storage/", "drop", {}, "the connection to the Hub failed .*; try again"),
    "always asked to wait": ("GET", "/storage/", "status", {"status": 429, "headers": {"Retry-After": "3"}},
                             "the Hub is asked too often; try again in 3 s"),
    "always 500": ("GET", "/storage/", "status", {}, "the Hub answers with error 500; try again later"),
    "always 500 at once": ("HEAD", "", "status", {}, "the Hub answers with error 500; try again later"),
    "always silent": ("HEAD", "", "deaf", {}, "the connection to the Hub failed .*; try again"),
    "always cut short": ("GET", "/storage/", "short", {}, "should be of size"),
    "always other bytes": ("GET", "/storage/", "wrong", {}, "model.safetensors arrived damaged: its hash is not"),
    "not allowed": ("HEAD", "", "status", {"status": 403}, "the token does not allow this"),
    "gated": ("HEAD", "", "status", {"status": 403, "headers": {"X-Error-Code": "GatedRepo"}}, "asks for consent to its terms"),
}  # fmt: skip


@pytest.mark.parametrize("name", LASTING)
def test_what_lasts_is_one_line_and_bounded(name, hub, cache, waits, checkpoint, model):
    hub.add("ada/tiny", files_of(checkpoint))
    method, part, what, options, message = LASTING[name]
    hub.fault(method, part, what, times=10**6, **options)
    with pytest.raises(CheckpointError, match=f"^ada/tiny: .*{message}") as error:
        sr_zoo.load("ada/tiny")
    assert "\n" not in str(error.value) and sum(waits) < 120 and len(hub.requests) < 150
    assert not list(cache.rglob("model.safetensors")) and not list(cache.rglob("*.incomplete"))
    hub.faults.clear()
    assert same(sr_zoo.load("ada/tiny"), model)


def header_lies(files: dict) -> dict:
    weights = files["model.safetensors"]
    (size,) = struct.unpack("<Q", weights[:8])
    return {**files, "model.safetensors": struct.pack("<Q", 2 * size) + weights[8:]}


def tensor_lies(files: dict) -> dict:
    """One tensor claims more rows than it has bytes."""
    weights = files["model.safetensors"]
    (size,) = struct.unpack("<Q", weights[:8])
    header = json.loads(weights[8 : 8 + size])
    header["tail.bias"]["shape"] = [10**12]
    text = json.dumps(header).encode()
    return {**files, "model.safetensors": struct.pack("<Q", len(text)) + text + weights[8 + size :]}


def config(**change):
    def changed(files: dict) -> dict:
        return {**files, "config.json": json.dumps({**json.loads(files["config.json"]), **change}).encode()}

    return changed


def without(*names, **more):
    return lambda files: {**{k: v for k, v in files.items() if k not in names}, **more}


FOREIGN = json.dumps({"architectures": ["Swin2SRForImageSuperResolution"], "model_type": "swin2sr"}).encode()
REFUSED = {
    "no JSON": (without(**{"config.json": b"{"}), "ada/tiny/config.json: not JSON", False),
    "another architecture": (without(**{"config.json": FOREIGN}), "ada/tiny/config.json: method: None is not one of", False),
    "an unknown key": (config(colour=1), "config.json: unknown key 'colour'", False),
    "a wrong type": (config(scale="4"), "config.json: scale is '4'", False),
    "an absurd size": (config(generator={"name": "residual", "width": 1024, "depth": 256}), "config.json: .*out of range", False),
    "another size": (config(generator={"name": "residual", "width": 32, "depth": 1}), "model.safetensors: does not fit", True),
    "a header that lies": (header_lies, "ada/tiny/model.safetensors: damaged or truncated", True),
    "a tensor that lies": (tensor_lies, "ada/tiny/model.safetensors: damaged or truncated", True),
    "no weights": (without("model.safetensors"), "ada/tiny: has no model.safetensors", False),
    "no config": (without("config.json"), "ada/tiny: has no config.json", False),
    "a .bin only": (without("model.safetensors", **{"pytorch_model.bin": b"\x80"}),
                    "a pickle only .pytorch_model.bin., which can run any code", False),
    "a .pt of somebody else": (without("model.safetensors", **{"x.pt": b"\x80", "config.json": FOREIGN}),
                               "a pickle only .x.pt.", False),
    "a .pth and no config": (without("model.safetensors", "config.json", **{"x.pth": b"\x80"}), "a pickle only .x.pth.", False),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_checkpoint_is_refused(name, hub, cache, checkpoint):
    change, message, fetched = REFUSED[name]
    hub.add("ada/tiny", change(files_of(checkpoint)))
    with pytest.raises(CheckpointError, match=f"^.*{message}") as error:
        sr_zoo.load("ada/tiny")
    assert "\n" not in str(error.value) and "ada/tiny" in str(error.value)
    assert hub.count("GET", "/storage/") == fetched, "weights are asked for when the config makes sense, pickles never"


def test_a_file_that_rotted_in_the_cache_is_fetched_again(hub, cache, checkpoint, model, monkeypatch):
    hub.add("ada/tiny", files_of(checkpoint))
    sr_zoo.load("ada/tiny")
    (weights,) = cache.rglob("model.safetensors")
    rotten = bytearray(weights.read_bytes())
    rotten[-5] ^= 1
    weights.write_bytes(rotten)
    assert same(sr_zoo.load("ada/tiny"), model) and hub.count("GET", "/storage/") == 2
    weights.write_bytes(rotten)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="ada/tiny: "):
        sr_zoo.load("ada/tiny")


def test_a_full_disk_is_said_and_not_tried_again(hub, cache, checkpoint, model, waits, monkeypatch, tmp_path):
    from huggingface_hub import file_download

    hub.add("ada/tiny", files_of(checkpoint))
    fetch = file_download.http_get

    def full(url, temp_file, **options):
        if "/storage/" not in url:
            return fetch(url, temp_file, **options)
        temp_file.write(b"x" * 99)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(file_download, "http_get", full)
    for call in (lambda: sr_zoo.load("ada/tiny"), lambda: sr_zoo.pull("ada/tiny", tmp_path / "out")):
        with pytest.raises(CheckpointError, match="ada/tiny: the cache .*cache cannot be written .No space left on device"):
            call()
    assert not waits and not (tmp_path / "out").exists() and not list(cache.rglob("model.safetensors"))
    monkeypatch.setattr(file_download, "http_get", fetch)
    assert same(sr_zoo.load("ada/tiny"), model)

    monkeypatch.setattr(shutil, "copyfile", lambda source, target: full("/storage/", target.open("wb")))
    with pytest.raises(CheckpointError, match="out: cannot be written .No space left on device"):
        sr_zoo.pull("ada/tiny", tmp_path / "out")
    assert not (tmp_path / "out").exists() and not [p for p in tmp_path.iterdir() if p.name.startswith(".out")]


def test_killed_while_fetching_and_while_publishing(hub, cache, checkpoint, model, elsewhere, tmp_path, monkeypatch):
    """Both at once: a checkpoint that is fetched and another that is published."""
    before = hub.add("ada/tiny", files_of(checkpoint))
    new = changed(checkpoint, 6)
    hub.add("ada/new", {".gitattributes": b""})
    empty = dict(hub.repos["ada/new"].refs)
    hub.fault("GET", "/storage/", "stall")
    hub.fault("PUT", "/lfs/", "stall")
    home = {
        "HF_HOME": str(tmp_path / "killed"),
        "HF_HUB_DOWNLOAD_TIMEOUT": "600",
    }  # it shall not give up before the other is there
    processes = [
        elsewhere("-m", "sr_zoo", "pull", "ada/tiny", "-o", tmp_path / "out", **home),
        elsewhere("-m", "sr_zoo", "push", checkpoint, "ada/new", HF_TOKEN="hf_ada", **home),
    ]
    for _ in processes:
        while not hub.stalled.acquire(timeout=1):
            ended = [p.communicate() for p in processes if p.poll() is not None]
            assert not ended, "both wait for the Hub to go on"
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait()

    assert not (tmp_path / "out").exists()
    assert hub.repos["ada/new"].refs == empty and not hub.count("POST", "/commit/")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "killed" / "hub"))
    assert same(sr_zoo.load("ada/tiny"), model) and same(sr_zoo.load(sr_zoo.pull("ada/tiny", tmp_path / "out")), model)
    log_in(monkeypatch, hub, "hf_ada")
    sr_zoo.push(checkpoint, "ada/new")
    assert same(sr_zoo.load("ada/new"), new) and hub.repos["ada/tiny"].refs["main"] == before
