"""The pictures of folders, decoded once."""

import copy
import hashlib
import json
import os
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sr_zoo.files import expanded, whole
from sr_zoo.picture import PictureError, find_pictures, read_picture

__all__ = ["JoinedPictures", "PictureCache"]


class PictureCache:
    """The pictures of a folder, decoded once into a memory-mapped file; ``cache[i]`` is uint8 ``(height, width, 3)``.

    ``names[i]`` is its path below the folder.

    The cache is made anew when a file's size or time of change differs, and it is never seen half-written. Broken and too
    small files are named in a warning and skipped.

    Args:
        folder: searched recursively.
        cache_dir: made if missing.
        smallest: pixels that either side must have.

    Raises:
        PictureError: no such folder, or no usable picture in it.
    """

    def __init__(self, folder: str | Path, cache_dir: str | Path, smallest: int = 1):
        self.folder = folder = expanded(folder)
        cache_dir = expanded(cache_dir)
        files = find_pictures(folder)
        stamps = [[str(p.relative_to(folder)), p.stat().st_size, p.stat().st_mtime_ns] for p in files]
        key = hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:20]
        index, self.path = cache_dir / f"{key}.json", cache_dir / f"{key}.bin"
        known = _known(index)
        if known.get("stamps") != stamps or not self.path.is_file() or known.get("bytes") != self.path.stat().st_size:
            known = {"stamps": stamps, **_decode(folder, files, self.path)}
            with whole(index) as beside:
                beside.write_text(json.dumps(known))
        self.names, self.shapes, self.skipped, self.count = known["names"], known["shapes"], known["skipped"], len(files)
        self.starts = np.cumsum([0] + [h * w * 3 for h, w in known["shapes"]])
        self._leave_out(smallest)
        # Opened now: what another process decodes later into this path shall not be read with these offsets. Copy on write, as
        # torch wants what could be written to; nothing of it reaches the file.
        self._data, self._bytes = np.memmap(self.path, np.uint8, "c"), known["bytes"]

    def at_least(self, side: int) -> "PictureCache":
        """Those of the pictures with ``side`` pixels or more on either side; warnings and errors as when it was made."""
        part = self._part(range(len(self)))
        if any(min(shape) < side for shape in self.shapes):
            part._leave_out(side)
        return part

    def _leave_out(self, smallest: int) -> None:
        """Pictures that are too small; and say why each that is not there is not."""
        small = {i for i, shape in enumerate(self.shapes) if min(shape) < smallest}
        self.skipped = self.skipped + [
            f"{self.folder / self.names[i]}: {self.shapes[i][1]}×{self.shapes[i][0]} pixels, at least {smallest} on either side are "
            "needed"
            for i in sorted(small)
        ]
        large = [i for i in range(len(self.shapes)) if i not in small]
        self.names, self.shapes = [self.names[i] for i in large], [self.shapes[i] for i in large]
        self.starts = self.starts[large]
        for reason in self.skipped:
            warnings.warn(f"skipped {reason}", stacklevel=3)
        if self.skipped:
            warnings.warn(f"{self.folder}: {len(self.shapes)} pictures used, {len(self.skipped)} skipped", stacklevel=3)
        if not self.shapes:
            raise PictureError(f"{self.folder}: no usable picture ({self.count} files, {len(self.skipped)} skipped)")

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> np.ndarray:
        if self._data is None:  # in a worker process
            self._data = np.memmap(self.path, np.uint8, "c")
            if self._data.size != self._bytes:
                raise PictureError(f"{self.folder}: its pictures were decoded anew meanwhile; start the training again")
        start, (height, width) = self.starts[i], self.shapes[i]
        return self._data[start : start + height * width * 3].reshape(height, width, 3)

    @property
    def pixels(self) -> np.ndarray:
        """All samples of all pictures, one after the other; picture i begins at ``starts[i]``."""
        return self._data

    def split(self, count: int) -> tuple["PictureCache", "PictureCache"]:
        """All but ``count`` of the pictures, and these, out of the same file.

        Those are chosen by a hash of their names: neighbours in a folder are alike, and a picture more or less changes little.

        Raises:
            PictureError: nothing would be left.
        """
        if not 0 < count < len(self):
            raise PictureError(f"{self.folder}: {count} of {len(self)} usable pictures cannot be held out")
        order = sorted(range(len(self)), key=lambda i: hashlib.sha256(os.fsencode(self.names[i])).digest())
        return self._part(sorted(order[count:])), self._part(sorted(order[:count]))

    def _part(self, which) -> "PictureCache":
        part, which = copy.copy(self), list(which)
        part.names, part.shapes = [self.names[i] for i in which], [self.shapes[i] for i in which]
        part.starts, part._data = self.starts[which], self._data
        return part

    def __getstate__(self) -> dict:
        return {**self.__dict__, "_data": None}


class JoinedPictures:
    """The pictures of several caches as if of one, in the order of their names: ``FOLDER/NAME`` for all caches but the first."""

    def __init__(self, caches: list[PictureCache]):
        self.caches = caches
        named = [(name if cache is caches[0] else f"{cache.folder.name}/{name}", which, i)
                 for which, cache in enumerate(caches) for i, name in enumerate(cache.names)]  # fmt: skip
        named.sort(key=lambda entry: entry[0].split("/"))  # as the files of one folder are sorted
        self.names, self._places = [name for name, *_ in named], [place for _, *place in named]
        self.shapes = [caches[which].shapes[i] for which, i in self._places]
        begins = np.cumsum([0] + [len(cache.pixels) for cache in caches])
        self.starts = np.array([begins[which] + caches[which].starts[i] for which, i in self._places])

    def __len__(self) -> int:
        return len(self.shapes)

    def __getitem__(self, i: int) -> np.ndarray:
        which, own = self._places[i]
        return self.caches[which][own]

    @property
    def pixels(self) -> np.ndarray:
        """As :attr:`PictureCache.pixels`, copied together."""
        return np.concatenate([cache.pixels for cache in self.caches])


def _known(index: Path) -> dict:
    """What an earlier run wrote; a cache that cannot be read is made anew."""
    try:
        known = json.loads(index.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return known if isinstance(known, dict) and {"stamps", "names", "shapes", "skipped", "bytes"} <= set(known) else {}


def _decode(folder: Path, files: list[Path], target: Path) -> dict:
    names, shapes, skipped = [], [], []
    with whole(target) as beside, open(beside, "wb") as out:
        for path, picture in _read(files):
            if isinstance(picture, PictureError):
                skipped.append(str(picture))
                continue
            out.write(picture.data)
            names.append(path.relative_to(folder).as_posix())
            shapes.append([int(side) for side in picture.shape[:2]])
        size = out.tell()
    return {"names": names, "shapes": shapes, "skipped": skipped, "bytes": size}


def _read(files: list[Path]):
    """Each file and its picture, or why there is none; several are decoded at a time, few are held."""

    def read(path: Path):
        try:
            return path, read_picture(path)
        except PictureError as error:
            return path, error

    at_once = os.cpu_count() or 1
    with ThreadPoolExecutor(at_once) as pool:
        for i in range(0, len(files), 2 * at_once):
            yield from pool.map(read, files[i : i + 2 * at_once])
