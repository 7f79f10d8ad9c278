"""What is on the Hub loads by its name: any revision, private, offline; and is what was published, bit for bit."""

import json
import shutil

import pytest
import torch

import sr_zoo
from sr_zoo.errors import UserError
from sr_zoo.hub import PRIOR, CheckpointError, save, untrained
from sr_zoo.methods import AffDAE
from tests.conftest import ROOT
from tests.hub.conftest import files_of, log_in

UPSCALE = """
import sys, numpy as np, sr_zoo
picture = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
np.save(sys.argv[2], sr_zoo.upscale(picture, sys.argv[1], "float32"))
"""


def upscaled(model):
    import numpy as np

    picture = np.random.default_rng(0).integers(0, 256, (9, 11, 3), dtype=np.uint8)
    return np.asarray(sr_zoo.upscale(picture, model, "float32"))


def same(one, other) -> bool:
    lr = torch.rand(1, 3, 8, 9)
    return torch.equal(one(lr), other(lr))


def changed(folder, seed: int):
    """The folder with other weights."""
    torch.manual_seed(seed)
    model = sr_zoo.load(folder)
    for p in model.generator.parameters():
        p.data += 0.1 * torch.randn_like(p)
    save(model, folder)
    return sr_zoo.load(folder)


def test_shipped_weights_make_the_round_trip_to_another_process(hub, ada, elsewhere, tmp_path):
    import numpy as np

    address = sr_zoo.push("affmse-x4", "ada/affmse-x4", private=True)
    assert address.startswith(f"{hub.url}/ada/affmse-x4/commit/") and hub.count("PUT", "/lfs/") == 1
    for name, environment in (("online", {"HF_TOKEN": "hf_ada"}), ("offline", {"HF_HUB_OFFLINE": "1"})):
        process = elsewhere("-c", UPSCALE, "hf-hub:ada/affmse-x4", tmp_path / f"{name}.npy", **environment)
        _, err = process.communicate(timeout=600)
        assert process.returncode == 0, err
        assert np.array_equal(np.load(tmp_path / f"{name}.npy"), upscaled("affmse-x4"))
        hub.repos.clear()  # and nothing is asked of it any more
        asked = len(hub.requests)
    assert len(hub.requests) == asked


def test_only_what_is_needed_is_fetched_and_once(hub, cache, checkpoint, model):
    hub.add("ada/tiny", {**files_of(checkpoint), "pytorch_model.bin": b"x" * 99, "optimizer.safetensors": b"y" * 99})
    assert same(sr_zoo.load("ada/tiny"), model)
    assert next(path for m, path in hub.requests if m == "GET").endswith("config.json")
    assert hub.count("GET", "/storage/") == 1 and hub.count("GET", "README.md") == 0 and hub.count("GET", PRIOR) == 0
    hub.requests.clear()
    assert same(sr_zoo.load("ada/tiny"), model)
    assert [m for m, _ in hub.requests] == ["HEAD"]


def test_a_prior_is_fetched_with_its_generator(hub, cache, tmp_path):
    torch.manual_seed(1)
    model = AffDAE(generator={"name": "residual", "width": 16, "depth": 1})
    files = files_of(save(model, tmp_path / "dae"))
    hub.add("ada/dae", files)
    again = sr_zoo.load("ada/dae")
    wanted = model.objective.state_dict()
    assert wanted and all(torch.equal(value, wanted[k]) for k, value in again.objective.state_dict().items())
    # A model for upscaling may come without.
    del files[PRIOR]
    hub.add("ada/dae", files)
    sr_zoo.load("ada/dae")
    hub.__exit__()
    assert same(sr_zoo.load("ada/dae"), model.eval())


def test_a_pinned_revision_stays_what_it_was(hub, cache, checkpoint, model):
    first = hub.add("ada/tiny", files_of(checkpoint))
    hub.repos["ada/tiny"].refs["v1"] = first
    new = changed(checkpoint, 1)
    second = hub.add("ada/tiny", files_of(checkpoint))
    assert first != second and not same(new, model)
    assert same(sr_zoo.load("ada/tiny"), new)
    for pinned in (
        sr_zoo.load("ada/tiny", revision=first), sr_zoo.load(f"ada/tiny@{first}"), sr_zoo.load("hf-hub:ada/tiny@v1"),
        sr_zoo.load("ada/tiny", "v1"),
    ):  # fmt: skip
        assert same(pinned, model)
    with pytest.raises(CheckpointError, match="ada/tiny: has no revision 'v2'"):
        sr_zoo.load("ada/tiny", revision="v2")
    with pytest.raises(CheckpointError, match="names another revision than v1"):
        sr_zoo.load("ada/tiny@v2", revision="v1")


def test_a_push_while_fetching_is_not_mixed_in(hub, cache, checkpoint, model, monkeypatch):
    from sr_zoo import remote

    hub.add("ada/tiny", files_of(checkpoint))
    newer = changed(checkpoint, 2)

    def overtaken(folder):
        hub.add("ada/tiny", files_of(checkpoint))
        return untrained(folder)

    with monkeypatch.context() as patch:
        patch.setattr(remote, "untrained", overtaken)
        folder = remote.download("ada/tiny")
    assert same(sr_zoo.load(folder), model), "its config was the old one's"
    assert same(sr_zoo.load("ada/tiny"), newer)


def test_private_needs_its_owner(hub, cache, checkpoint, model, monkeypatch):
    hub.add("ada/secret", files_of(checkpoint), private=True)
    messages = {False: "no such folder or Hub repository; if it is private, log in",
                "hf_bob": "no such folder or Hub repository", "hf_eve": "with a token that the Hub does not accept"}  # fmt: skip
    for token, message in messages.items():
        log_in(monkeypatch, hub, token)
        with pytest.raises(CheckpointError, match=f"ada/secret: .*{message}"):
            sr_zoo.load("ada/secret")
        assert not list(cache.rglob("*.safetensors"))
    log_in(monkeypatch, hub, "hf_ada")
    assert same(sr_zoo.load("ada/secret"), model)


def test_loads_from_the_cache_with_the_server_gone(hub, cache, checkpoint, model, monkeypatch):
    commit = hub.add("ada/tiny", files_of(checkpoint))
    sr_zoo.load("ada/tiny")
    hub.__exit__()
    assert same(sr_zoo.load("ada/tiny"), model) and same(sr_zoo.load("ada/tiny", commit), model)
    with pytest.raises(CheckpointError, match="ada/other: not in the cache, and the Hub cannot be reached"):
        sr_zoo.load("ada/other")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    assert same(sr_zoo.load("ada/tiny"), model)
    for call in (
        lambda: sr_zoo.load("ada/tiny", "v2"),
        lambda: sr_zoo.load("ada/other"),
        lambda: sr_zoo.pull("ada/tiny", cache / "x"),
    ):
        with pytest.raises(CheckpointError, match="ada/.*HF_HUB_OFFLINE is set"):
            call()


def test_half_of_a_model_in_the_cache_is_no_model_offline(hub, cache, checkpoint, monkeypatch):
    hub.add("ada/tiny", files_of(checkpoint))
    sr_zoo.load("ada/tiny")
    (weights,) = cache.rglob("model.safetensors")
    weights.unlink()
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match="ada/tiny: not .wholly. in the cache"):
        sr_zoo.load("ada/tiny")


def test_pull_brings_the_whole_folder_or_nothing(hub, cache, checkpoint, tmp_path, monkeypatch):
    files = {**files_of(checkpoint), "before_after.png": b"picture", "recipe-1.yaml": b"x: 1"}
    hub.add("ada/tiny", {**files, ".gitattributes": b"", "pytorch_model.bin": b"x", "more/config.json": b"{}"})
    target = tmp_path / "new" / "here"
    assert sr_zoo.pull("ada/tiny", target) == target and files_of(target) == files
    assert [p.name for p in target.parent.iterdir()] == ["here"]
    with pytest.raises(UserError, match="here: cannot be written .*exists already"):
        sr_zoo.pull("ada/tiny", target)
    monkeypatch.chdir(tmp_path / "new")
    shutil.rmtree(target)
    (tmp_path / "new" / "tiny").mkdir()
    assert sr_zoo.pull("hf-hub:ada/tiny@main").name == "tiny" and files_of(tmp_path / "new" / "tiny") == files

    hub.add("ada/tiny", {**files, "model.safetensors": files["model.safetensors"][:-9]})
    with pytest.raises(CheckpointError, match="^ada/tiny/model.safetensors: damaged or truncated"):
        sr_zoo.pull("ada/tiny", target)
    assert [p.name for p in target.parent.iterdir()] == ["tiny"]


def test_where_there_are_no_links_hashes_are_checked_too(hub, cache, checkpoint, model, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_DISABLE_SYMLINKS", True)
    hub.add("ada/tiny", files_of(checkpoint))
    hub.fault("GET", "/storage/", "wrong")
    assert same(sr_zoo.load("ada/tiny"), model) and hub.count("GET", "/storage/") == 2
    (weights,) = cache.rglob("model.safetensors")
    assert not weights.is_symlink()


@pytest.mark.parametrize("source", ["tiny", "./ada/tiny", "ada/tiny/main", "~ada/tiny", "https://x/ada/tiny", "ada/.."])
def test_what_is_no_repository_is_not_asked_for(source, hub, cache):
    with pytest.raises(CheckpointError, match="no such model or folder|no such folder or Hub repository|Repo id"):
        sr_zoo.load(source)
    with pytest.raises(CheckpointError, match="not a Hub repository|Repo id"):
        sr_zoo.pull(source)


def test_only_the_hub_has_revisions(checkpoint):
    for source in ("affmse-x4", checkpoint):
        with pytest.raises(CheckpointError, match="only a Hub repository has a revision"):
            sr_zoo.load(source, revision="main")


def test_the_card_tells_the_hub_its_results():
    from huggingface_hub import ModelCard

    for name in ("affmse-x4", "mse-x4"):
        data = ModelCard((ROOT / "checkpoints" / name / "README.md").read_text(), ignore_metadata_errors=False).data
        assert (data.library_name, data.pipeline_tag, data.license) == ("sr_zoo", "image-to-image", "cc-by-nc-4.0")
        assert data.datasets and "super-resolution" in data.tags and data.model_name == name
        told = {(r.dataset_name, r.metric_type): r.metric_value for r in data.eval_results}
        for row in json.loads((ROOT / "checkpoints" / name / "results.json").read_text()):
            assert all(abs(told[row["set"], k] - row[k]) < 1e-4 for k in ("psnr", "ssim"))
