"""Upscaling keeps the input: in float, in the saved file, in colour and grey, for any size."""

import numpy as np
import pytest
import torch
from PIL import Image

import sr_zoo
from sr_zoo import MSE
from sr_zoo.engine import Settings, upscale_array, upscale_pictures
from sr_zoo.operators import Downsampler
from sr_zoo.picture import Picture, PictureError
from sr_zoo.tiles import run_network


def downsampled(picture: np.ndarray, scale: int = 4) -> np.ndarray:
    planes = torch.from_numpy(np.atleast_3d(picture)).permute(2, 0, 1).double()
    again = torch.floor(Downsampler("bicubic", scale).A(planes) + 0.5).clamp(0, 255)
    return again.permute(1, 2, 0).numpy().astype(np.uint8).reshape(picture.shape[0] // scale, picture.shape[1] // scale, -1)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("size", [(1, 1), (1, 500), (500, 1), (3, 7), (40, 56)])
def test_saved_picture_gives_the_input_back(size, precision, model, picture):
    lr = np.pad(picture, [(0, 460), (0, 460), (0, 0)], "symmetric")[: size[0], : size[1]]
    done = upscale_array(lr, model, precision)
    assert done.array.shape == (4 * size[0], 4 * size[1], 3) and done.array.dtype == np.uint8
    assert np.array_equal(downsampled(done.array), lr)
    assert done.reproduced == 1 and done.lr_psnr > 120 and done.lr_psnr_8bit > 45


def test_grey_stays_grey(model, picture):
    done = upscale_array(picture[..., 0], model)
    assert done.array.shape == (160, 224) and done.reproduced == 1
    assert np.array_equal(downsampled(done.array)[..., 0], picture[..., 0])


def test_what_has_no_preimage_is_reported_honestly(model):
    """A checkerboard of 0 and 255 asks for an overshoot that no file can hold."""
    board = np.uint8(255 * (np.indices((12, 12)).sum(0) % 2))
    done = upscale_array(np.dstack([board] * 3), model)
    assert done.reproduced == np.mean(downsampled(done.array)[..., 0] == board)


def test_a_free_model_makes_no_promise(picture):
    torch.manual_seed(0)
    free = MSE(generator={"name": "residual", "width": 16, "depth": 1}).eval()
    assert not free.exact
    done = upscale_array(picture, free)
    assert done.reproduced < 1 and done.lr_psnr < 80


def test_upscale_takes_paths_pictures_arrays_and_names(checkpoint, picture, tmp_path):
    Image.fromarray(picture).save(tmp_path / "p.png")
    results = [
        sr_zoo.upscale(source, model)
        for source in (tmp_path / "p.png", Image.fromarray(picture), picture)
        for model in (str(checkpoint), sr_zoo.load(checkpoint))
    ]
    assert all(np.array_equal(np.array(r), np.array(results[0])) for r in results)
    assert sr_zoo.upscale(Image.fromarray(picture[..., 0]), checkpoint).mode == "L"
    clear = Image.new("RGBA", (4, 4), (0, 0, 0, 0))
    assert not np.array(sr_zoo.upscale(clear, checkpoint))[..., 3].any(), "what is transparent stays so"


def test_a_folder_that_was_trained_further_is_loaded_anew(model, checkpoint, picture):
    from sr_zoo.hub import save

    before = np.array(sr_zoo.upscale(picture, checkpoint))
    model.generator.tail.weight.data.mul_(3)
    save(model, checkpoint)
    assert not np.array_equal(np.array(sr_zoo.upscale(picture, checkpoint)), before)


@pytest.mark.parametrize(
    "array", [np.zeros((4, 4), np.float32), np.zeros((0, 4, 3), np.uint8), np.zeros((4, 4, 4), np.uint8)]
)
def test_other_arrays_are_refused(array, model):
    with pytest.raises(PictureError, match="expected uint8"):
        upscale_array(array, model)


def test_precisions(model, picture):
    lr = torch.from_numpy(picture).permute(2, 0, 1)[None] / 255
    full, low = run_network(model, lr, "float32"), run_network(model, lr, "bf16")
    assert full.dtype == low.dtype == torch.float32 and 0 < (full - low).abs().max() < 0.02
    with pytest.raises(ValueError, match="precision"):
        run_network(model, lr, "half")
    for settings in (Settings(precision="half"), Settings(backend="abacus")):
        with pytest.raises(ValueError, match="half|abacus"):
            upscale_pictures([Picture(picture)], model, settings)


def test_grey_is_the_mean_of_the_three_outputs(model, picture):
    lr = torch.from_numpy(picture[..., 0])[None, None] / 255
    three = model(lr.expand(-1, 3, -1, -1)).detach()
    assert (three - three.mean(1, keepdim=True)).abs().max() > 1e-3
    assert torch.allclose(run_network(model, lr, "float32"), three.mean(1, keepdim=True), atol=1e-6)


def test_a_picture_that_may_not_be_written_to_is_fine(model, picture, recwarn):
    picture.flags.writeable = False
    assert upscale_array(picture[::-1], model).array.shape == (160, 224, 3)
    assert not [w for w in recwarn if "writ" in str(w.message)]
