"""The cache decodes once and again when a file changes; crops depend on their number alone."""

import json
import os
import pickle
import shutil
import types
import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from sr_zoo import cache as decoded
from sr_zoo.data import PictureCache, SRDataModule
from sr_zoo.picture import PictureError, read_picture


def module(folder, tmp_path, step=0, **options):
    made = SRDataModule(str(folder), str(folder), 2, 32, cache_dir=str(tmp_path / "cache"), **options)
    made.trainer = types.SimpleNamespace(max_steps=5, global_step=step)
    made.setup("fit")
    return made


def test_cache_holds_the_pictures(folder, tmp_path):
    cache = PictureCache(folder, tmp_path / "cache")
    assert len(cache) == 3 and cache[0].shape == (80, 112, 3)
    assert all(np.array_equal(cache[i], read_picture(folder / p)) for i, p in enumerate(("a.png", "b.bmp", "more/c.png")))


def test_cache_is_decoded_once_and_again_on_change(folder, tmp_path, monkeypatch):
    PictureCache(folder, tmp_path / "cache")
    read, calls = decoded.read_picture, []
    monkeypatch.setattr(decoded, "read_picture", lambda path: calls.append(path) or read(path))
    PictureCache(folder, tmp_path / "cache")
    assert not calls
    os.utime(folder / "a.png", (1, 1))
    PictureCache(folder, tmp_path / "cache")
    assert len(calls) == 3
    Image.new("RGB", (64, 64)).save(folder / "a.png", compress_level=0)
    os.utime(folder / "a.png", (1, 1))
    assert PictureCache(folder, tmp_path / "cache")[0].shape == (64, 64, 3), "the size alone says that it changed"
    Image.new("RGB", (50, 50)).save(folder / "d.png")
    assert len(PictureCache(folder, tmp_path / "cache")) == 4
    index = next((tmp_path / "cache").glob("*.json"))
    for damage in ("{", "[]", json.dumps({k: v for k, v in json.loads(index.read_text()).items() if k != "shapes"})):
        index.write_text(damage)
        assert len(PictureCache(folder, tmp_path / "cache")) == 4
    with open(PictureCache(folder, tmp_path / "cache").path, "ab") as file:
        file.truncate(100)
    assert np.array_equal(PictureCache(folder, tmp_path / "cache")[0], read(folder / "a.png"))


def test_unusable_files_are_named_skipped_and_counted(folder, tmp_path):
    (folder / "broken.png").write_bytes(b"nonsense")
    Image.new("RGB", (200, 20)).save(folder / "thin.png")
    with pytest.warns(UserWarning) as warned:
        cache = PictureCache(folder, tmp_path / "cache", smallest=32)
    assert len(cache) == 3 and len(cache.skipped) == 2
    text = " ".join(str(w.message) for w in warned)
    assert "photos: 3 pictures used, 2 skipped" in text
    assert "broken.png" in text and "thin.png: 200×20 pixels, at least 32" in text


def test_small_ones_are_left_out_of_what_was_decoded_once(folder, tmp_path, monkeypatch):
    Image.fromarray(np.full((20, 300, 3), 7, np.uint8)).save(folder / "a_small.png")  # before the others in the file
    whole = PictureCache(folder, tmp_path / "cache")
    monkeypatch.setattr("sr_zoo.cache._decode", None)
    with pytest.warns(UserWarning, match="a_small.png: 300×20 pixels, at least 32"):
        large = PictureCache(folder, tmp_path / "cache", smallest=32)
    assert len(large) == len(whole) - 1 and "a_small.png" not in large.names
    for name, picture in zip(large.names, large):
        assert np.array_equal(picture, whole[whole.names.index(name)])
    for i, (height, width) in enumerate(large.shapes):  # as crops on a device are cut
        start = large.starts[i]
        assert np.array_equal(large.pixels[start : start + height * width * 3], large[i].ravel())


def test_a_worker_does_not_read_what_was_decoded_meanwhile(folder, tmp_path):
    cache = pickle.loads(pickle.dumps(PictureCache(folder, tmp_path / "cache")))
    assert cache[0].size
    cache = pickle.loads(pickle.dumps(cache))
    cache.path.write_bytes(b"less")
    with pytest.raises(PictureError, match="decoded anew"):
        cache[0]


def test_no_usable_picture_is_an_error(tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "broken.png").write_bytes(b"nonsense")
    with pytest.warns(UserWarning), pytest.raises(PictureError, match=r"photos: no usable picture \(1 files, 1 skipped\)"):
        PictureCache(tmp_path / "photos", tmp_path / "cache")


def test_crops_depend_on_their_number_alone(folder, tmp_path):
    whole = [batch["hr"] for batch in module(folder, tmp_path).train_dataloader()]
    assert len(whole) == 5 and whole[0].shape == (2, 3, 32, 32) and whole[0].dtype == torch.uint8
    resumed = [batch["hr"] for batch in module(folder, tmp_path, step=3).train_dataloader()]
    assert len(resumed) == 2 and all(torch.equal(a, b) for a, b in zip(whole[3:], resumed))
    other = next(iter(module(folder, tmp_path, seed=1).train_dataloader()))["hr"]
    assert not torch.equal(whole[0], other)


@pytest.mark.parametrize("reduced, reductions", [(0.0, [2]), (0.5, [2]), (0.5, [2, 3])])
def test_crops_cut_on_the_device_are_the_same(folder, tmp_path, reduced, reductions):
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (99, 130, 3), dtype=np.uint8)).save(folder / "d.png")
    options = {"reduced": reduced, "reductions": reductions, "draw": "area"}
    one, other = (module(folder, tmp_path, on_device=o, **options) for o in (False, True))
    for made in (one, other):
        made.trainer.max_steps = 40
    turns, factors = set(), set()
    for there, here in zip(one.train_dataloader(), other.train_dataloader(), strict=True):
        turns |= set(here["place"][:, 2].tolist())
        factors |= set(here["place"][:, 3].tolist())
        assert torch.equal(other.transfer_batch_to_device(here, torch.device("cpu"), 0)["hr"], there["hr"])
    assert turns == set(range(8)) and factors == {1, *(reductions if reduced else ())}
    whole = next(iter(other.val_dataloader()))
    assert torch.equal(other.transfer_batch_to_device(whole, torch.device("cpu"), 0)["hr"], whole["hr"])


def test_unpaired_crops_are_not_cut_on_the_device():
    with pytest.raises(ValueError, match="data.on_device"):
        SRDataModule(on_device=True, train_lr="photos")


def test_crops_are_places_of_the_pictures(folder, tmp_path):
    made = module(folder, tmp_path)
    pictures = [made.train_pictures[i].transpose(2, 0, 1) for i in range(3)]
    windows = [np.lib.stride_tricks.sliding_window_view(p, (32, 32), (1, 2)) for p in pictures]
    crop = next(iter(made.train_dataloader()))["hr"][0].numpy()
    turns = [np.rot90(c, k, (1, 2)) for c in (crop, crop[:, ::-1]) for k in range(4)]
    assert any((w == t[:, None, None]).all((0, 3, 4)).any() for w in windows for t in turns)


def test_validation_shows_whole_pictures(folder, tmp_path):
    shapes = [tuple(batch["hr"].shape) for batch in module(folder, tmp_path).val_dataloader()]
    assert shapes == [(1, 3, 80, 112)] * 3


def test_folders_must_be_given(tmp_path):
    with pytest.raises(PictureError, match="data.train"):
        SRDataModule().setup("fit")
    with pytest.raises(PictureError, match="data.val"):
        SRDataModule().setup("validate")


def test_pictures_are_drawn_alike_or_by_area(tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (32, 32), "black").save(tmp_path / "photos" / "small.png")
    Image.new("RGB", (96, 96), "white").save(tmp_path / "photos" / "large.png")
    for draw, expected in (("picture", 1 / 2), ("area", 9 / 10)):
        made = module(tmp_path / "photos", tmp_path, draw=draw)
        made.trainer.max_steps = 200
        white = torch.cat([batch["hr"] for batch in made.train_dataloader()]).float().mean() / 255
        assert abs(float(white) - expected) < 0.08
    with pytest.raises(ValueError, match="data.draw"):
        SRDataModule(draw="size")


@pytest.mark.parametrize("augment, count", [("none", 1), ("mirror", 2), ("turns", 8)])
def test_augment_gives_the_turns_it_names_and_no_other(tmp_path, augment, count):
    (tmp_path / "photos").mkdir()
    random = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    Image.fromarray(random).save(tmp_path / "photos" / "a.png")
    made = module(tmp_path / "photos", tmp_path, augment=augment)
    made.trainer.max_steps = 60
    seen = {p.numpy().tobytes() for batch in made.train_dataloader() for p in batch["hr"]}
    assert len(seen) == count
    assert random.transpose(2, 0, 1).tobytes() in seen
    assert (augment == "none") or random[:, ::-1].transpose(2, 0, 1).tobytes() in seen


def test_augment_that_does_not_exist_is_refused():
    with pytest.raises(ValueError, match="data.augment: 'all' is not 'turns', 'mirror' or 'none'"):
        SRDataModule(augment="all")


def test_pictures_are_held_out_always_the_same_and_never_trained_on(folder, tmp_path):
    for i in range(5):
        Image.fromarray(np.full((64, 64, 3), 40 * i, np.uint8)).save(folder / f"{i}.png")
    (folder / "broken.png").write_bytes(b"nonsense")
    made = SRDataModule(str(folder), hold_out=3, crop_size=32, cache_dir=str(tmp_path / "cache"))
    made.trainer = types.SimpleNamespace(max_steps=5, global_step=0)
    with pytest.warns(UserWarning, match="broken"):
        made.setup("fit")
    held, others = made.val_pictures.names, made.train_pictures.names
    assert len(held) == 3 and sorted(held + others) == sorted(
        ["a.png", "b.bmp", "more/c.png", *(f"{i}.png" for i in range(5))]
    )
    shown = [batch["hr"][0].permute(1, 2, 0).numpy() for batch in made.val_dataloader()]
    assert all(np.array_equal(one, read_picture(folder / name)) for one, name in zip(shown, held))
    pictures = made.train_pictures
    assert all(np.array_equal(pictures[i], read_picture(folder / name)) for i, name in enumerate(others))
    (folder / others[0]).unlink()
    again = SRDataModule(str(folder), hold_out=3, crop_size=32, cache_dir=str(tmp_path / "cache"))
    with pytest.warns(UserWarning, match="broken"):
        again.setup("validate")
    assert again.val_pictures.names == held
    assert SRDataModule(str(folder), str(folder), hold_out=3).val_dataloader() == []
    with pytest.warns(UserWarning), pytest.raises(PictureError, match="7 of 7 usable pictures cannot be held out"):
        SRDataModule(str(folder), hold_out=7, crop_size=32, cache_dir=str(tmp_path / "cache")).setup("fit")


def test_other_crops_hold_out_the_same(tmp_path):
    """A second stage must not learn from what the first was judged by."""
    (tmp_path / "photos").mkdir()
    for i in range(12):
        Image.fromarray(np.full((40 + 8 * i, 64, 3), 20 * i, np.uint8)).save(tmp_path / "photos" / f"{i}.png")
    held = {}
    for crop in (32, 64):
        made = SRDataModule(str(tmp_path / "photos"), hold_out=3, crop_size=crop, cache_dir=str(tmp_path / "cache"))
        made.trainer = types.SimpleNamespace(max_steps=5, global_step=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            made.setup("fit")
        held[crop] = made.val_pictures.names
        assert not set(held[crop]) & set(made.train_pictures.names)
        assert all(min(shape) >= crop for shape in made.train_pictures.shapes)
        assert all(np.all(made.train_pictures[i] == 20 * int(name[:-4])) for i, name in enumerate(made.train_pictures.names))
    assert held[32] == held[64] and len(made.train_pictures) < 9


def test_pictures_below_those_to_learn_from_are_not_held_out(folder, tmp_path):
    with pytest.raises(PictureError, match=r"data.val: .*more lies in .*photos"):
        SRDataModule(str(folder), str(folder / "more"), cache_dir=str(tmp_path / "cache")).setup("fit")


def test_further_folders_are_as_if_they_lay_in_the_first(folder, tmp_path):
    """Crop for crop, in whichever order their names come, cut by processors, by a worker or on the device."""
    random = np.random.default_rng(3)
    for place in (tmp_path / "also" / "before", tmp_path / "also" / "zebra", tmp_path / "also" / "zebra-2"):
        place.mkdir(parents=True)
        for name in ("1.png", "2.png"):
            Image.fromarray(random.integers(0, 256, (70, 60, 3), dtype=np.uint8)).save(place / name)
    also = [str(tmp_path / "also" / name) for name in ("zebra-2", "zebra", "before")]
    apart = [module(folder, tmp_path, also=also, draw="area", **o) for o in ({}, {"num_workers": 1}, {"on_device": True})]
    for name in ("before", "zebra", "zebra-2"):
        shutil.copytree(tmp_path / "also" / name, folder / name)
    together = module(folder, tmp_path, draw="area")
    assert apart[0].train_pictures.names == together.train_pictures.names
    for made in (together, *apart):
        made.trainer.max_steps = 30
    for crops, *others, places in zip(*(made.train_dataloader() for made in (together, *apart)), strict=True):
        on_device = apart[2].transfer_batch_to_device(places, torch.device("cpu"), 0)
        assert all(torch.equal(other["hr"], crops["hr"]) for other in (*others, on_device))


def test_of_further_folders_none_is_held_out_and_none_holds_those_that_are(folder, tmp_path):
    (tmp_path / "also" / "val").mkdir(parents=True)
    for n in range(20):
        Image.new("RGB", (40, 40)).save(tmp_path / "also" / f"{n}.png")
    made = SRDataModule(
        str(folder), crop_size=32, also=[str(tmp_path / "also")], hold_out=2, cache_dir=str(tmp_path / "cache")
    )
    made.setup("fit")
    assert len(made.train_pictures) == 21 and not any(name.startswith("also") for name in made.val_pictures.names)
    with pytest.raises(PictureError, match=r"data.val: .*val lies in .*also"):
        SRDataModule(str(folder), str(tmp_path / "also" / "val"), also=[str(tmp_path / "also")]).setup("fit")


@pytest.mark.parametrize("also", ["photos", "photos/more", "."])
@pytest.mark.parametrize("held_out", ["val", "hold_out"])
def test_what_is_held_out_is_in_no_further_folder(held_out, also, folder, tmp_path):
    """The folder itself, one in it, and one around it."""
    elsewhere = tmp_path / "elsewhere"
    shutil.copytree(folder, elsewhere)
    where = {"val": str(folder), "train": str(elsewhere)} if held_out == "val" else {"train": str(folder), "hold_out": 1}
    made = SRDataModule(**where, crop_size=32, also=[str(tmp_path / also)], cache_dir=str(tmp_path / "cache"))
    with pytest.raises(PictureError, match="data.(also: .* shares pictures with|val: .* lies in)"):
        made.setup("fit")


def test_of_large_held_out_pictures_the_middle_is_shown(folder, tmp_path):
    made = module(folder, tmp_path, val_size=90)
    shown = next(iter(made.val_dataloader()))["hr"]
    assert shown.shape == (1, 3, 80, 90)
    assert np.array_equal(shown[0].permute(1, 2, 0).numpy(), read_picture(folder / "a.png")[:, 11:101])


def test_some_crops_are_cut_larger_and_reduced(tmp_path):
    """Where the picture is large enough; the others stay places of it."""
    from sr_zoo import metrics
    from sr_zoo.operators import Downsampler

    photo = np.random.default_rng(0).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    (tmp_path / "one").mkdir()
    Image.fromarray(photo).save(tmp_path / "one" / "a.png")

    def crops(size, share, *reductions):
        made = SRDataModule(
            str(tmp_path / "one"), crop_size=size, reduced=share, augment="none", cache_dir=str(tmp_path / "cache"),
            **({"reductions": reductions} if reductions else {}),
        )  # fmt: skip
        made.trainer = types.SimpleNamespace(max_steps=5, global_step=0)
        made.setup("fit")
        dataset = made.train_dataloader().dataset
        return [dataset[i]["hr"] for i in range(40)]

    def part(factor, size, top, left):
        side = factor * size
        cut = torch.from_numpy(photo[top : top + side, left : left + side].copy()).permute(2, 0, 1).float()
        return metrics.round_clip(Downsampler("bicubic", factor).A(cut), 255).to(torch.uint8)

    reduced = [part(2, 12, 0, left) for left in range(17)]
    places = [torch.from_numpy(photo[t : t + 12, x : x + 12].copy()).permute(2, 0, 1) for t in range(13) for x in range(29)]
    counts = [sum(any(torch.equal(c, p) for p in of) for c in crops(12, 0.5)) for of in (reduced, places)]
    assert sum(counts) == 40 and 10 < counts[0] < 30
    assert all(any(torch.equal(c, p) for p in reduced) for c in crops(12, 1.0))
    assert crops(13, 1.0)[0].shape == (3, 13, 13), "too small a picture to be cut twice as large"
    sorts = [[part(f, 8, t, x) for t in range(25 - 8 * f) for x in range(41 - 8 * f)] for f in (2, 3)]
    counts = [sum(any(torch.equal(c, p) for p in of) for c in crops(8, 1.0, 2, 3)) for of in sorts]
    assert sum(counts) == 40 and min(counts) > 10, "each reduction as likely as the other"
    assert all(any(torch.equal(c, p) for p in reduced) for c in crops(12, 1.0, 3, 2)), "of those that fit"
    with pytest.raises(ValueError, match="data.reduced"):
        SRDataModule(reduced=2)
    for wrong in ([], [1], [2.5]):
        with pytest.raises(ValueError, match="data.reductions"):
            SRDataModule(reductions=wrong)
