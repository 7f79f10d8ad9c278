"""The options of ``sr-zoo upscale`` for size, format, blur, noise, frames and backends, as a user meets them."""

import re
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from sr_zoo.cli import main
from sr_zoo.delivery import Delivery
from sr_zoo.operators import Downsampler
from sr_zoo.picture import Picture


@pytest.fixture
def upscale(capsys, checkpoint, tmp_path, picture):
    """Runs the command on a photo; gives its exit code, what it printed, and the files that it made."""
    Image.fromarray(picture).save(tmp_path / "photo.png")

    def run(*options, source=tmp_path / "photo.png", model=checkpoint):
        words = ["upscale", str(source), "-o", f"{tmp_path}/out/", *map(str, options)]
        code = main(words + (["--model", str(model)] if model else []))
        made = sorted((tmp_path / "out").iterdir()) if (tmp_path / "out").is_dir() else []
        return code, *capsys.readouterr(), made

    return run


def share_of(path, picture, kernel="bicubic") -> float:
    large = torch.from_numpy(np.asarray(Image.open(path)).astype(float)).permute(2, 0, 1)
    again = Downsampler(kernel, 4).A(large).add(0.5).floor().clamp(0, 255).permute(1, 2, 0).numpy()
    return float((again == picture).mean())


def test_any_factor_and_any_size(upscale):
    code, out, _, (made,) = upscale("--outscale", 3.3)
    assert code == 0 and made.name == "photo_x3.3.png" and Image.open(made).size == (185, 132)
    assert "before its resize from 224×160, downsampled, it gives back all 6,720" in out
    made.unlink()
    for size, expected in (("100x", (100, 71)), ("x100", (140, 100)), ("64x64", (64, 64)), ("224x160", (224, 160))):
        _, out, _, (made,) = upscale("--size", size)
        assert Image.open(made).size == expected and ("resize" in out) == (expected != (224, 160))
        made.unlink()


def test_the_nearest_network_is_taken(picture):
    delivery = Delivery(size="x60", model_for=lambda scale: scale)
    assert [delivery.model(Picture(picture[:height]), "none") for height in (40, 25, 16, 4)] == [2, 3, 4, 4]
    assert Delivery(outscale=3.0).model(Picture(picture), "given") == "given"


def test_a_shipped_model_of_another_scale_by_itself(upscale, tmp_path, picture):
    Image.fromarray(picture[:12, :12]).save(tmp_path / "small.png")
    code, out, _, (made,) = upscale("--outscale", 2, source=tmp_path / "small.png", model=None)
    assert code == 0 and Image.open(made).size == (24, 24) and "resize" not in out and "gives back all 432" in out


@pytest.mark.parametrize("options", [("--format", "jpg"), ("--format", "webp", "--quality", 70)])
def test_the_proof_of_a_lossy_file_is_measured_from_it(options, upscale, picture):
    code, out, err, (made,) = upscale(*options)
    share = share_of(made, picture)
    assert code == 0 and 0.05 < share < 1 and "lossy" in err
    assert int(re.search(r"\((\d[\d,]*) of 6,720\)", out)[1].replace(",", "")) == round(share * 6720)


def test_of_another_kind_nothing_is_claimed(upscale, tmp_path, picture):
    Image.fromarray(picture).convert("CMYK").save(tmp_path / "print.tif")
    code, out, err, (made,) = upscale("--format", "png", "--report", tmp_path / "told.csv", source=tmp_path / "print.tif")
    assert code == 0 and Image.open(made).mode == "RGB" and "CMYK" in err
    assert "cannot be told" in out and "%" not in out and "all" not in out
    assert (tmp_path / "told.csv").read_text().splitlines()[1].split(",")[5:9] == ["0", "", "", ""]


def test_other_formats_are_lossless_unless_asked(upscale, picture):
    for name in ("webp", "tif", "bmp"):
        code, out, err, (made,) = upscale("--format", name)
        assert code == 0 and made.suffix == f".{name}" and not err
        assert share_of(made, picture) == 1 and "gives back all" in out
        made.unlink()


def test_every_frame_or_the_first(upscale, tmp_path, picture):
    pictures = picture, picture[::-1], picture[:, ::-1]
    frames = [Image.fromarray(p) for p in pictures]
    frames[0].save(tmp_path / "pages.tif", save_all=True, append_images=frames[1:])
    code, _, err, made = upscale(source=tmp_path / "pages.tif")
    assert code == 0 and [m.name for m in made] == ["pages_x4.tif"] and "frame 1 of 3" in err
    made[0].unlink()
    code, out, err, made = upscale("--all-frames", source=tmp_path / "pages.tif")
    assert code == 0 and [m.name for m in made] == [f"pages_x4_{i}.tif" for i in (1, 2, 3)] and not err
    assert all(share_of(m, p) == 1 for m, p in zip(made, pictures)) and out.count("gives back all") == 3


def test_another_blur(upscale, tmp_path, picture):
    large = Downsampler("bicubic", 4).pinv(torch.from_numpy(picture / 255.0).permute(2, 0, 1)).mul(255).round().clamp(0, 255)
    blurred = Downsampler("gaussian:1.2", 4).A(large.double()).add(0.5).floor().clamp(0, 255).byte().permute(1, 2, 0).numpy()
    Image.fromarray(blurred).save(tmp_path / "blurred.png")
    code, out, _, (made,) = upscale("--kernel", "gaussian:1.2", source=tmp_path / "blurred.png")
    assert code == 0 and "gives back" in out
    assert share_of(made, blurred, "gaussian:1.2") > 0.99 > 0.5 > share_of(made, blurred)


def test_a_kernel_too_wide_takes_a_ridge(upscale):
    code, out, _, made = upscale("--kernel", "gaussian:9", "--ridge", "1e-3")
    assert code == 0 and "consistency is approximate" in out and made


def test_noise_is_not_kept_and_that_is_said(upscale, picture):
    code, out, _, (made,) = upscale("--noise-level", 10)
    assert code == 0 and "consistency is approximate, on purpose" in out and share_of(made, picture) < 0.9


def test_a_network_from_elsewhere(upscale, tmp_path, picture):
    spandrel = pytest.importorskip("spandrel")
    torch.manual_seed(0)
    network = spandrel.architectures.Compact.Compact(num_feat=8, num_conv=1, upscale=4)
    torch.save(network.state_dict(), tmp_path / "net.pth")
    code, out, _, (made,) = upscale(model=tmp_path / "net.pth")
    assert code == 0 and "gives back all" in out and share_of(made, picture) == 1


def test_another_backend(upscale):
    pytest.importorskip("onnxruntime")
    _, _, _, (made,) = upscale("--precision", "float32")
    torch_made = np.asarray(Image.open(made)).astype(int)
    code, _, _, (made,) = upscale("--backend", "onnxruntime")
    assert code == 0 and np.abs(np.asarray(Image.open(made)) - torch_made).max() <= 2


@pytest.mark.parametrize(
    "options, message",
    [
        (("--outscale", "100000"), "give less"),
        (("--max-pixels", "100"), "--max-pixels"),
    ],
)
def test_what_suits_not_this_picture_or_model_is_one_line(options, message, upscale):
    code, out, err, made = upscale(*options)
    assert code == 1 and not out and message in err and len(err.splitlines()) == 1 and not made


@pytest.mark.parametrize(
    "options, message",
    [
        (("--size", "0x5"), "sr-zoo: --size: '0x5' is not"),
        (("--size=100",), "sr-zoo: --size: '100' is not"),
        (("--size", "2000000x"), "sr-zoo: --size: '2000000x' is more than"),
        (("--outscale", "-2"), "sr-zoo: --outscale: -2 is not"),
        (("--outscale", "0"), "sr-zoo: --outscale: 0 is not"),
        (("--kernel", "fog"), "sr-zoo: --kernel: 'fog' is not"),
        (("--kernel", "gaussian:9"), "sr-zoo: --kernel gaussian:9 at scale 4"),
        (("--noise-level", "500"), "sr-zoo: --noise-level: 500 is not"),
        (("--ridge", "-1"), "sr-zoo: --ridge"),
        (("--quality", "90"), "sr-zoo: --quality 90: PNG and TIFF are always lossless"),
        (("--quality", "90", "--format", "tif"), "sr-zoo: --quality 90: TIFF is always lossless"),
        (("--seed", "1"), "sr-zoo: --seed: this model takes no noise"),
        (("--backend", "onnxruntime", "--precision", "bf16"), "sr-zoo: --precision bf16: onnxruntime"),
    ],
)
def test_what_suits_no_picture_is_a_matter_of_usage(options, message, upscale, tmp_path):
    (tmp_path / "two").mkdir()
    for name in ("a.png", "b.png"):  # what is told of each picture would be told twice
        shutil.copy(tmp_path / "photo.png", tmp_path / "two" / name)
    code, out, err, made = upscale(*options, source=tmp_path / "two")
    assert code == 2 and not out and err.startswith(message) and len(err.splitlines()) == 1 and not made


def test_a_report_that_cannot_be_written_is_said_before_the_work(upscale, tmp_path):
    (tmp_path / "file").touch()
    code, _, err, made = upscale("--report", tmp_path / "file" / "a" / "b.csv")
    assert code == 2 and "is no folder to write to" in err and not made


@pytest.mark.parametrize("tile", ["x", "-1", "1.5"])
def test_a_tile_that_is_no_number_of_pixels(tile, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["upscale", "a.png", "--tile", tile])
    assert stop.value.code == 2 and "0 or more" in capsys.readouterr().err


def test_an_abbreviated_option_is_none(capsys):
    """Whoever reads a message finds in it the option that was given."""
    with pytest.raises(SystemExit) as stop:
        main(["upscale", "a.png", "--outsc", "2"])
    assert stop.value.code == 2 and "unrecognized arguments: --outsc" in capsys.readouterr().err


def test_a_picture_that_is_no_kernel(upscale, tmp_path):
    Image.new("L", (5, 5)).save(tmp_path / "dark.png")
    code, _, err, made = upscale("--kernel", tmp_path / "dark.png")
    assert code == 2 and err.startswith("sr-zoo: --kernel: ") and "dark.png is none; expected" in err and not made


def test_a_folder_may_have_a_name_like_a_picture(upscale, tmp_path):
    (tmp_path / "out.webp").mkdir()
    code = main(["upscale", str(tmp_path / "photo.png"), "-o", str(tmp_path / "out.webp"), "--quality", "90"])
    assert code == 2 and not list((tmp_path / "out.webp").iterdir())


def test_what_is_called_as_an_option_is_none(upscale, tmp_path):
    code, _, err, made = upscale("--kernel", "box", model="kernel")
    assert code == 1 and err.startswith("sr-zoo: kernel: no such model or folder") and not made
