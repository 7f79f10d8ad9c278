"""wandb: an offline run holds figures, pictures, configuration and weights; it never asks; other loggers are left alone."""

import http.server
import json
import shlex
import struct
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from sr_zoo import tracking
from sr_zoo.cli import main
from sr_zoo.errors import UserError
from sr_zoo.tracking import Tracking, Wandb, side_by_side


@pytest.fixture(autouse=True)
def nobody(tmp_path, monkeypatch):
    """No key, no settings of whoever runs the tests, and nothing written outside of them."""
    for name in ("WANDB_API_KEY", "WANDB_MODE", "WANDB_BASE_URL", "WANDB_IDENTITY_TOKEN_FILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    for name in ("DATA", "CACHE", "CONFIG", "ARTIFACT"):
        monkeypatch.setenv(f"WANDB_{name}_DIR", str(tmp_path / "wandb-own"))


def records(path: Path) -> list:
    """The records of a .wandb file: a header of 7 bytes, blocks of 32 KiB, pieces as in a LevelDB log."""
    from wandb.proto import wandb_internal_pb2 as pb

    data, at, piece, found = path.read_bytes(), 7, b"", []
    while at + 7 <= len(data):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        piece += data[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last piece
            found.append(pb.Record.FromString(piece))
            piece = b""
    return found


def items(entries) -> dict:
    return {".".join(e.nested_key) or e.key: json.loads(e.value_json) for e in entries}


def read(run: Path) -> tuple[list[dict], dict, list[str]]:
    """History, configuration and names of artifacts of an offline run."""
    (path,) = run.glob("*.wandb")
    history, config, artifacts = [], {}, []
    for _ in range(200):  # the process that writes it may still be at it
        if any(record.HasField("exit") for record in records(path)):
            break
        time.sleep(0.1)
    for record in records(path):
        history += [items(record.history.item)] if record.HasField("history") else []
        for update in [record.run.config, record.config]:
            config |= items(update.update)
        if record.HasField("artifact"):
            artifacts.append(record.artifact)
        if record.HasField("request") and record.request.HasField("log_artifact"):
            artifacts.append(record.request.log_artifact.artifact)
    return history, config, artifacts


def test_an_offline_run_holds_it_all(checkpoint, folder, tmp_path, capfd):
    out = tmp_path / "mine"
    options = ["--steps", "10", "--batch-size", "2", "--learning-rate", "2e-3", "--logger", "wandb", "--artifact"]
    assert main(["finetune", str(checkpoint), str(folder), "-o", str(out), *options]) == 0
    said = capfd.readouterr()
    (line,) = [x for x in said.out.splitlines() if "wandb sync" in x]
    assert "no key" in line
    run = Path(shlex.split(line.split("to send it: ")[1])[2])
    assert run.parent == out / "work" / "wandb" and run.name.startswith("offline-run-")

    history, config, artifacts = read(run)
    record = json.loads((out / "finetune.json").read_text())
    reached = [h["val/psnr"] for h in history if "val/psnr" in h]
    assert reached[0] == pytest.approx(record["before"]["psnr"]) and reached[-1] == pytest.approx(record["after"]["psnr"])
    assert len(reached) == 1 + 5 + 1
    assert all(np.isfinite([h["loss/generator"] for h in history if "loss/generator" in h]))
    assert any("loss/generator" in h and "psnr" in h for h in history)
    assert config["method"] == "AffMSE" and config["learning_rate"] == 2e-3 and config["crop_size"] == 80

    panels = [h["val/panel.filenames"] for h in history if "val/panel.filenames" in h]
    assert len(panels) == 7
    pictures = [np.asarray(Image.open(run / "files" / name)) for names in panels for name in names]
    assert len(pictures) == 7 and all(p.shape == (80, 3 * 112, 3) for p in pictures)
    first, last = pictures[0], pictures[-1]
    low, sr, hr = (slice(112 * i, 112 * (i + 1)) for i in range(3))
    assert np.array_equal(first[:, hr], last[:, hr]) and np.array_equal(first[:, low], last[:, low])
    assert not np.array_equal(first[:, sr], last[:, sr])
    assert len(artifacts) == 1 and artifacts[0].type == "model"
    named = {entry.path for entry in artifacts[0].manifest.contents}
    assert {"config.json", "model.safetensors", "recipe.yaml", "finetune.json"} <= named


def test_a_recipe_may_name_it(checkpoint, folder, tmp_path, capfd):
    """Through LightningCLI; the weights that SaveFolder leaves become an artifact."""
    from tests.test_training import ROOT

    config = yaml.safe_load((ROOT / "checkpoints/affmse-x4/recipe.yaml").read_text())
    rate = config["model"]["init_args"]["learning_rate"]
    config["weights"] = str(checkpoint)
    config["model"]["init_args"]["generator"] = {"name": "residual", "width": 16, "depth": 1}
    config["data"].update(
        train=str(folder), hold_out=1, crop_size=32, batch_size=1, cache_dir=str(tmp_path / "cache"), also=[]
    )
    best = str(tmp_path / "best")
    config["trainer"].update(
        max_steps=2, val_check_interval=1,
        callbacks=[{"class_path": "sr_zoo.training.SaveFolder", "init_args": {"folder": best}},
                   {"class_path": "sr_zoo.tracking.Tracking", "init_args": {"pictures": 1, "size": 30, "weights": best}}],
        logger={"class_path": "sr_zoo.tracking.Wandb", "init_args": {"save_dir": str(tmp_path), "name": "mine"}},
    )  # fmt: skip
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(config))
    assert main(["fit", "--config", str(tmp_path / "recipe.yaml")]) == 0
    assert capfd.readouterr().out.count("wandb sync") == 1
    (run,) = (tmp_path / "wandb").glob("offline-run-*")
    history, config, artifacts = read(run)
    assert config["learning_rate"] == rate and len(artifacts) == 1
    files = [name for h in history for name in h.get("val/panel.filenames", [])]
    assert len(files) == 2 and Image.open(run / "files" / files[0]).size == (84, 28)


def test_the_panel_shows_what_it_says(model):
    hr = torch.randint(0, 256, (1, 3, 50, 70), dtype=torch.uint8)
    row = side_by_side(model, hr, 32)
    assert row.shape == (32, 96, 3)
    assert np.array_equal(row[:, 64:], hr[0, :, 9:41, 19:51].permute(1, 2, 0).numpy())
    blocks = row[:, :32].reshape(8, 4, 8, 4, 3)
    assert (blocks == blocks[:, :1, :, :1]).all()
    lr = torch.from_numpy(blocks[:, 0, :, 0].copy()).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        sr = (model(lr) * 255 + 0.5).clamp(0, 255).byte()[0].permute(1, 2, 0).numpy()
    assert np.array_equal(row[:, 32:64], sr) and not np.array_equal(sr, row[:, 64:])


def test_other_loggers_are_left_alone(checkpoint, folder, tmp_path, monkeypatch):
    monkeypatch.setattr(tracking, "side_by_side", lambda *_: pytest.fail("nobody would see it"))
    from lightning.pytorch import Trainer
    from lightning.pytorch.loggers import CSVLogger

    import sr_zoo

    data = sr_zoo.SRDataModule(str(folder), hold_out=1, crop_size=32, batch_size=1, cache_dir=str(tmp_path / "cache"))
    options = {"enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    trainer = Trainer(
        max_steps=1,
        accelerator="cpu",
        logger=CSVLogger(str(tmp_path)),
        callbacks=[Tracking(weights=str(checkpoint))],
        **options,
    )
    trainer.fit(sr_zoo.load(checkpoint), data)
    assert not (tmp_path / "wandb").exists()


class Answers(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(404)
        self.end_headers()

    def log_message(self, *_):
        pass


def test_it_is_online_only_with_key_and_network(tmp_path, monkeypatch, capsys):
    server = http.server.HTTPServer(("127.0.0.1", 0), Answers)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    host = f"127.0.0.1:{server.server_port}"
    monkeypatch.setenv("WANDB_BASE_URL", f"http://{host}")
    assert "no key" in Wandb(str(tmp_path)).why_offline
    (tmp_path / "netrc").write_text(f"machine {host} login user password {'0' * 40}\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    made = Wandb(str(tmp_path))
    assert made.why_offline is None and made._wandb_init["mode"] == "online"
    for mode in ("offline", "disabled"):
        monkeypatch.setenv("WANDB_MODE", mode)
        made = Wandb(str(tmp_path))
        assert made._wandb_init["mode"] == mode
    made.log_metrics({"psnr": 1.0}, 0)
    made.finish()
    assert not list(tmp_path.glob("wandb/*run-*")) and "wandb sync" not in capsys.readouterr().out
    monkeypatch.delenv("WANDB_MODE")
    server.shutdown()
    server.server_close()
    assert "does not answer" in Wandb(str(tmp_path)).why_offline


def test_a_refused_key_is_no_error(tmp_path, monkeypatch, capsys):
    import wandb

    begin, modes = wandb.init, []

    def refuses(**options):
        modes.append(options["mode"])
        if options["mode"] == "online":
            raise wandb.errors.AuthenticationError("invalid key")
        return begin(**options)

    monkeypatch.setattr(wandb, "init", refuses)
    monkeypatch.setattr(tracking, "_why_offline", lambda: None)
    logger = Wandb(str(tmp_path))
    logger.log_metrics({"psnr": 1.0}, 0)
    logger.finish()
    assert modes == ["online", "offline"] and "not sent (invalid key)" in capsys.readouterr().out


def test_without_the_package_it_is_one_line(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(UserError, match="wandb is not installed"):
        Wandb()
