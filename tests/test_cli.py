"""The command line as a user meets it: what it prints, its exit codes, and bad input in one line."""

import csv
import json
import os
import subprocess
import sys
import time

import numpy as np
import pytest
from PIL import Image

from sr_zoo.cli import main
from sr_zoo.cli._common import of_an_option
from sr_zoo.cli._progress import Progress
from tests.test_picture import damaged


@pytest.fixture
def photo(tmp_path, picture):
    Image.fromarray(picture).save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def run(capsys, *arguments) -> tuple[int, str, str]:
    code = main([str(a) for a in arguments])
    out, err = capsys.readouterr()
    return code, out, err


def test_help_imports_nothing_heavy():
    command = (
        "import sys; sys.argv=['sr-zoo','--help']\nfrom sr_zoo.cli import main\ntry: main()\nfinally: print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, text=True)
    assert "upscale" in done.stdout
    assert not {"torch", "lightning", "PIL", "numpy", "fsspec", "tqdm"} & set(done.stdout.split())


def test_upscale_prints_its_proof(capsys, photo, checkpoint):
    code, out, err = run(capsys, "upscale", photo, "--model", checkpoint)
    assert code == 0 and not err
    assert Image.open(photo.with_name("photo_x4.png")).size == (224, 160)
    assert "56×40" in out and "224×160" in out and "gives back all 6,720 of the input's samples" in out and "dB" in out


def test_samples_differ_and_each_is_consistent(capsys, photo, tmp_path, picture):
    import torch

    from sr_zoo import AffGAN
    from sr_zoo.hub import save
    from sr_zoo.operators import Downsampler

    torch.manual_seed(0)
    model = AffGAN(generator={"name": "residual", "width": 16, "depth": 1}, noise_channels=2)
    save(model, tmp_path / "noisy")
    code, out, _ = run(capsys, "upscale", photo, "--model", tmp_path / "noisy", "--samples", 3, "--seed", 5)
    assert code == 0 and out.count("gives back all 6,720") == 3
    files = [tmp_path / f"photo_x4_{i}.png" for i in (1, 2, 3)]
    samples = np.stack([np.asarray(Image.open(f)) for f in files]).astype(float)
    assert f"differ by {samples.std(0).mean():.2f} of 255 levels" in out and samples.std(0).mean() > 0.1
    for sample in samples:
        again = Downsampler().A(torch.from_numpy(sample).permute(2, 0, 1)).add(0.5).floor().clamp(0, 255)
        assert np.array_equal(again.permute(1, 2, 0).numpy(), picture)

    # The second sample is the first of the next seed, alone and again.
    code, out, _ = run(capsys, "upscale", photo, "--model", tmp_path / "noisy", "--seed", 6)
    assert code == 0 and "differ by" not in out
    assert (tmp_path / "photo_x4.png").read_bytes() == files[1].read_bytes()


def test_upscale_into_a_folder(capsys, photo, checkpoint, tmp_path):
    Image.open(photo).convert("L").save(tmp_path / "grey.bmp")
    code, out, _ = run(capsys, "upscale", photo, tmp_path / "grey.bmp", "-o", tmp_path / "out", "--model", checkpoint)
    assert code == 0 and len(out.splitlines()) == 2
    assert Image.open(tmp_path / "out" / "grey_x4.png").mode == "L"
    code, _, _ = run(capsys, "upscale", photo, "-o", tmp_path / "named.webp", "--model", checkpoint)
    assert code == 0 and (tmp_path / "named.webp").exists()


def test_bad_pictures_are_one_line_each_and_do_not_stop_the_rest(capsys, photo, checkpoint, tmp_path, picture):
    reasons = damaged(tmp_path, picture)
    del reasons["folder.png"]  # a folder may be upscaled
    bad = [tmp_path / name for name in reasons]
    code, out, err = run(capsys, "upscale", *bad, photo, "-o", tmp_path / "out", "--model", checkpoint)
    assert code == 1 and len(out.splitlines()) == 1
    assert len(err.splitlines()) == len(bad)
    for line, (name, reason) in zip(err.splitlines(), reasons.items()):
        assert line.startswith("sr-zoo: ") and name in line and reason in line
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["photo_x4.png"]


def test_what_is_resized_is_not_said_to_give_the_input_back(capsys, folder, checkpoint, tmp_path):
    arguments = ["upscale", folder, "-o", tmp_path / "out", "--model", checkpoint, "--size", "100x"]
    code, out, _ = run(capsys, *arguments, "--report", tmp_path / "report.csv")
    assert code == 0 and "; before their resize, downsampled, they give back" in out and "saved" not in out
    with open(tmp_path / "report.csv", newline="") as file:
        row = next(csv.DictReader(file))
    assert [row[k] for k in ("width", "to_width", "network_width")] == ["112", "100", "448"]


def test_a_report_takes_the_place_of_no_picture(capsys, folder, checkpoint, tmp_path):
    before = (folder / "a.png").read_bytes()
    (tmp_path / "link.csv").symlink_to(folder / "a.png")
    for report in (folder / "a.png", tmp_path / "link.csv", tmp_path / "large.png"):
        arguments = ["upscale", folder / "a.png", "-o", tmp_path / "large.png", "--model", checkpoint]
        code, _, err = run(capsys, *arguments, "--report", report)
        assert code == 2 and f"--report {report}: is one of the pictures" in err
    assert (folder / "a.png").read_bytes() == before and not (tmp_path / "large.png").exists()


def test_a_folder_is_summed_up_in_one_line(capsys, folder, checkpoint, tmp_path):
    (folder / "more" / "bad.png").write_bytes(b"nonsense")
    (folder / "notes.txt").write_text("")
    arguments = ["upscale", folder, "-o", tmp_path / "out", "--model", checkpoint, "-r"]
    code, out, err = run(capsys, *arguments, "--report", tmp_path / "new" / "report.csv")
    assert code == 1 and len(out.splitlines()) == 1 and out.startswith("3 pictures upscaled in ")
    assert "1 failed, 1 other file left alone" in out and "give back" in out and "input's samples" in out
    assert err == f"sr-zoo: {folder}/more/bad.png: is not a picture that can be read\n"
    assert sorted(p.name for p in (tmp_path / "out").rglob("*.png")) == ["a_x4.png", "b_x4.png", "c_x4.png"]
    with open(tmp_path / "new" / "report.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [(r["source"], r["state"]) for r in rows] == [
        (f"{folder}/{name}", state)
        for name, state in (("a.png", "done"), ("b.bmp", "done"), ("more/bad.png", "failed"), ("more/c.png", "done"))
    ]
    assert rows[0]["width"] == "112" and float(rows[0]["lr_psnr_8bit"]) > 20 and rows[2]["reason"] in err

    code, out, err = run(capsys, *arguments, "--verbose", "--skip-existing")
    assert code == 1 and len(out.splitlines()) == 4 and out.count(": skipped, there is ") == 3 and "3 skipped" in out
    code, out, err = run(capsys, *arguments, "--verbose")
    assert len(out.splitlines()) == 4 and out.count("downsampled, the saved file gives back") == 3
    code, out, err = run(capsys, *arguments, "--quiet")
    assert code == 1 and not out and len(err.splitlines()) == 1
    (folder / "more" / "bad.png").unlink()
    assert run(capsys, *arguments, "--quiet") == (0, "", "")


def test_a_folder_tells_how_far_it_is(capsys, folder, checkpoint, tmp_path, monkeypatch):
    arguments = ["upscale", folder, "-o", tmp_path / "out", "--model", checkpoint, "-r"]
    monkeypatch.setattr("sr_zoo.cli._progress.EVERY", 0)
    code, _, err = run(capsys, *arguments)
    assert code == 0 and [line.split(" pictures")[0] for line in err.splitlines()] == ["sr-zoo: 1 of 3", "sr-zoo: 2 of 3"]
    assert all(" per second, 0:0" in line and line.endswith(" left") for line in err.splitlines())

    monkeypatch.setattr(type(sys.stderr), "isatty", lambda _: True, raising=False)
    (folder / "bad.png").write_bytes(b"nonsense")
    code, out, err = run(capsys, *arguments)
    assert code == 1 and "0/4" in err and "pictures/s" in err and len(out.splitlines()) == 1
    assert "sr-zoo: " in err and "bad.png" in err
    assert run(capsys, *arguments, "--quiet")[2] == f"sr-zoo: {folder}/bad.png: is not a picture that can be read\n"


def test_time_to_go_does_not_count_what_was_skipped():
    progress = Progress(100, shown=False)
    for worked in [False] * 60 + [True] * 20:
        progress.advance(worked)
    assert progress.line(seconds=1800) == "sr-zoo: 80 of 100 pictures, 0.0111 per second, 30:00 left"
    assert Progress(10, shown=False).line(5) == "sr-zoo: 0 of 10 pictures"


def test_an_interrupt_is_one_line(capsys, folder, checkpoint, tmp_path, monkeypatch):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("sr_zoo.folder.upscale_pictures", stop)
    code, out, err = run(capsys, "upscale", folder, "-o", tmp_path / "out", "--model", checkpoint)
    assert code == 130 and not out and len(err.splitlines()) == 1
    assert "0 of 2 pictures" in err and "--skip-existing goes on" in err


def test_an_error_that_nobody_foresaw_keeps_its_traceback(capsys, photo, checkpoint, monkeypatch):
    monkeypatch.setattr("sr_zoo.folder.upscale_pictures", lambda *_: 1 / 0)
    code, _, err = run(capsys, "upscale", photo, "--model", checkpoint)
    assert code == 1 and err == f"sr-zoo: {photo}: ZeroDivisionError: division by zero\n"
    code, _, err = run(capsys, "upscale", photo, "--model", checkpoint, "--verbose")
    assert code == 1 and "Traceback" in err and "in <lambda>" in err


def test_the_tile_goes_to_the_engine(capsys, photo, checkpoint, monkeypatch):
    from sr_zoo.engine import upscale_pictures

    seen = []
    monkeypatch.setattr(
        "sr_zoo.folder.upscale_pictures", lambda p, m, settings: seen.append(settings) or upscale_pictures(p, m, settings)
    )
    for arguments, tile in (([], None), (["--tile", "0"], 0), (["--tile", "48"], 48)):
        assert run(capsys, "upscale", photo, "--model", checkpoint, *arguments)[0] == 0 and seen[-1].tile == tile


def test_a_1x1_picture_works(capsys, checkpoint, tmp_path):
    Image.new("RGB", (1, 1), (255, 7, 0)).save(tmp_path / "dot.png")
    assert run(capsys, "upscale", tmp_path / "dot.png", "--model", checkpoint)[0] == 0
    assert Image.open(tmp_path / "dot_x4.png").size == (4, 4)


def test_nothing_is_overwritten_by_a_failure(capsys, checkpoint, tmp_path):
    (tmp_path / "bad.png").write_bytes(b"nonsense")
    (tmp_path / "old.png").write_bytes(b"precious")
    code, _, err = run(capsys, "upscale", tmp_path / "bad.png", "-o", tmp_path / "old.png", "--model", checkpoint)
    assert code == 1 and "bad.png" in err and (tmp_path / "old.png").read_bytes() == b"precious"


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["upscale", "{photo}", "--model", "afmse-x4"], 1, "did you mean 'affmse-x4'?"),
        (["upscale", "{photo}", "--model", "{photo}"], 1, "is a file, expected a checkpoint folder"),
        (["upscale", "{photo}", "-o", "{photo}", "--model", "{model}"], 2, "is an input and would be overwritten"),
        (["upscale", "{photo}", "{photo}", "-o", "{photo}", "--model", "{model}"], 2, "is a file; several pictures"),
        (["upscale", "{photo}", "x/photo.png", "-o", "{out}", "--model", "{model}"], 2, "both"),
        (["upscale", "{photo}", "--samples", "2", "--model", "{model}"], 2, "takes no noise"),
        (["upscale", "{photo}", "--samples", "2"], 2, "--samples: affmse-x4 takes no noise"),
        (["upscale", "{photo}", "{photo}.jpg", "--model", "{model}"], 1, "no such file"),
        (["upscale", "{dir}/photo.bmp", "{photo}", "--model", "{model}"], 2, "photo_x4.png: both"),
        (["upscale", "{photo}", "{dir}/photo_x4.png", "--model", "{model}"], 2, "is an input and would be overwritten"),
        (["upscale", "{dir}", "--model", "{model}"], 2, "is a folder; give --output"),
        (["upscale", "{dir}", "-o", "{dir}", "--model", "{model}"], 2, "is the input folder"),
        (["upscale", "{dir}/sets", "-o", "{out}", "--model", "{model}"], 1, "sets: is a directory without pictures"),
        (["upscale", "{sets}", "-o", "{photo}/x", "--model", "{model}", "-r"], 1, "x: cannot be made"),
        (["upscale", "{photo}", "-o", "nosuch://x/y", "--model", "{model}"], 1, "nosuch://x/y: cannot be reached"),
        (["upscale", "{photo}", "-o", "{out}", "--report", "{dir}", "--model", "{model}"], 2, "is a folder"),
        (["upscale", "{photo}", "-o", "{photo}/x.png", "--model", "{model}"], 1, "cannot be written"),
        (["upscale", "{photo}", "-o", "x.xyz", "--model", "{model}"], 1, "cannot save as .xyz"),
        (["benchmark", "bicubic", "--data", "{out}", "--output", "{out}"], 1, "Set5: no PNG files"),
        (["benchmark", "bicubic", "--scale", "1", "--sets", "Set5", "--data", "{sets}", "--output", "{out}"], 1, "scale: 1"),
        (["benchmark", "bicubc", "--data", "{out}", "--output", "{out}"], 1, "no such model or folder"),
    ],
)
def test_wrong_options_are_one_line(arguments, code, message, capsys, photo, checkpoint, tmp_path):
    (tmp_path / "sets" / "Set5").mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(tmp_path / "sets" / "Set5" / "a.png")
    (tmp_path / "photo_x4.png").write_bytes(photo.read_bytes())
    places = {"dir": tmp_path, "photo": photo, "model": checkpoint, "out": tmp_path / "out", "sets": tmp_path / "sets"}
    before = photo.read_bytes()
    got, _, err = run(capsys, *[a.format(**places) for a in arguments])
    lines = [line for line in err.splitlines() if line.startswith("sr-zoo: ")]
    assert got == code and len(lines) == 1 and message in lines[0] and "Traceback" not in err
    assert photo.read_bytes() == before
    if code == 2:
        assert (tmp_path / "photo_x4.png").read_bytes() == before


def test_usage_errors_exit_with_2(capsys):
    for arguments in (
        [],
        ["upscale"],
        ["upscale", "x", "--samples", "0"],
        ["upscale", "x", "--precision", "half"],
        ["upscale", "x", "--tile", "-1"],
        ["upscale", "x", "--quiet", "--verbose"],
        ["sharpen", "x"],
    ):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2


def test_damaged_checkpoints(capsys, photo, checkpoint):
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    code, _, err = run(capsys, "upscale", photo, "--model", checkpoint)
    assert code == 1 and "model.safetensors: damaged or truncated" in err and len(err.splitlines()) == 1
    weights.unlink()
    code, _, err = run(capsys, "upscale", photo, "--model", checkpoint)
    assert code == 1 and "model.safetensors: no such file" in err and len(err.splitlines()) == 1
    assert not photo.with_name("photo_x4.png").exists()


def test_benchmark_prints_the_protocol_and_writes_rows(capsys, tmp_path, picture):
    (tmp_path / "own").mkdir()
    Image.fromarray(picture).save(tmp_path / "own" / "a.png")
    code, out, _ = run(capsys, "benchmark", "pinv", "--sets", "own", "--data", tmp_path, "--output", tmp_path / "r")
    assert code == 0 and "MATLAB imresize" in out and "pinv" in out
    assert json.loads((tmp_path / "r" / "results.json").read_text())[0]["set"] == "own"


def test_list(capsys):
    code, out, _ = run(capsys, "list")
    assert code == 0 and "affmse-x4" in out
    code, out, _ = run(capsys, "list", "--json")
    assert code == 0 and {"name", "method", "scale", "kernel", "results"} <= set(json.loads(out)[0])


@pytest.mark.shared
def test_shipped_model_beats_bicubic_by_far(shared):
    """The weights that a user gets: a real picture, upscaled, is much nearer to the truth than bicubic."""
    import torch

    import sr_zoo
    from sr_zoo import metrics
    from sr_zoo.picture import read_picture

    hr = read_picture(sorted((shared / "val").glob("cid22_t_33162*"))[0])[:256, :256]
    model = sr_zoo.load("affmse-x4")
    truth = torch.from_numpy(hr).permute(2, 0, 1)[None]
    lr = (model.degrade(truth / 255) * 255).round()[0].permute(1, 2, 0).byte().numpy()
    started = time.perf_counter()
    sr = torch.from_numpy(np.array(sr_zoo.upscale(lr, model))).permute(2, 0, 1)[None]
    assert time.perf_counter() - started < 60
    bicubic = metrics.quantize(16 * model.downsampler.adjoint(torch.from_numpy(lr).permute(2, 0, 1)[None] / 255))
    assert metrics.psnr_y(sr, truth, 4) > metrics.psnr_y(bicubic, truth, 4) + 0.8


def test_an_output_that_cannot_spell_the_report(photo, checkpoint):
    """A Windows pipe, or a C locale: the picture is there, so the report must not fail."""
    command = [sys.executable, "-m", "sr_zoo", "upscale", str(photo), "--model", str(checkpoint)]
    done = subprocess.run(command, capture_output=True, env={**os.environ, "PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and not done.stderr and b"gives back all 6,720" in done.stdout


def test_no_memory_for_the_saving_is_one_line(capsys, photo, checkpoint, monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("sr_zoo.strips.to_values", full)
    code, _, err = run(capsys, "upscale", photo, "--model", checkpoint)
    assert code == 1 and "not enough memory" in err and len(err.splitlines()) == 1


def test_an_unknown_user_is_no_model(capsys, photo):
    code, _, err = run(capsys, "upscale", photo, "--model", "~nosuchuser/x")
    assert code == 1 and "no such model or folder" in err


def test_what_is_said_of_an_argument_is_said_of_its_option():
    arguments = ["finetune", "photos", "--crop-size=33", "--val", "val"]
    assert of_an_option("crop_size: 33 is odd", arguments) == "--crop-size: 33 is odd"
    assert of_an_option("val x: is odd", arguments) == "--val x: is odd"
    for other in ("val/a.png: is odd", "photos: is odd", "seed: is odd", "--val: is odd", ""):
        assert of_an_option(other, arguments) is None
