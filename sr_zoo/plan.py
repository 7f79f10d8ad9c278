"""Which pictures are to be upscaled and where each goes, all settled before anything is computed."""

import dataclasses
import os
import posixpath
from collections import Counter
from collections.abc import Sequence

from sr_zoo.errors import UserError
from sr_zoo.places import Local, inside, joined, place

__all__ = ["Job", "Plan", "TargetError", "overwrites_nothing", "plan"]


class TargetError(UserError):
    """Pictures cannot all go where they should; the message names the option or file and says what to do."""


# Other suffixes of the formats that --format names.
ALIKE = {".jpeg": ".jpg", ".tiff": ".tif"}


@dataclasses.dataclass(frozen=True)
class Job:
    """One picture: where it is, and where it, or each of its samples, goes. Paths or URLs.

    ``frame`` is that of a file with several, counted from 0; None for the first.
    """

    source: str
    targets: tuple[str, ...]
    frame: int | None = None


@dataclasses.dataclass
class Plan:
    """What :func:`plan` found.

    Attributes:
        jobs: the pictures, in the order of the inputs, by name within a folder.
        failures: inputs of which nothing can come, a line each.
        notes: what a user may wonder about, a line each.
        folders: number of inputs that are folders.
        others: number of files in folders whose suffix is not a picture's.
    """

    jobs: list[Job] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)
    notes: list[str] = dataclasses.field(default_factory=list)
    folders: int = 0
    others: int = 0


def plan(
    inputs: Sequence[str],
    output: str | None,
    scale: int | str,
    samples: int | None = None,
    recursive: bool = False,
    suffix: str | None = None,
    all_frames: bool = False,
) -> Plan:
    """Find the pictures and give each its target.

    ``DIR/a/b.jpg`` goes to ``OUTPUT/a/b_x4.png``. Pictures of a folder that differ in their suffix alone keep it
    (``b.jpg_x4.png``, ``b.tif_x4.png``). Hidden files and what lies below ``output`` are no inputs.

    Args:
        inputs: pictures and folders of pictures; paths or URLs that fsspec understands.
        output: a file for one picture, else a folder; None to stay beside the input, which a folder may not.
        scale: of the model, for the names; or what is to stand there instead of ``x4``.
        samples: number of samples of each picture, ``NAME_x4_1.png`` and so on; None for one picture without number.
        recursive: take the pictures in the folders of a folder, too.
        suffix: of the targets, such as ``.webp``; by default see :func:`sr_zoo.picture.suffix_for`.
        all_frames: make each frame or page a picture of its own, ``NAME_x4_1.png`` and so on.

    Raises:
        TargetError: two pictures would go to one place, or one onto an input; ``output`` has another suffix than ``suffix``.
        PlaceError: an input or the output cannot be reached.
    """
    folders = {i for i in inputs if place(i).is_folder(i)}
    into = output is not None and (bool(folders) or len(inputs) > 1 or output.endswith(("/", os.sep)))
    into = into or (output is not None and place(output).is_folder(output))
    if folders and output is None:
        raise TargetError(f"{min(folders)}: is a folder; give --output, the folder for the upscaled pictures")
    if into and isinstance(place(output), Local) and os.path.isfile(output):
        raise TargetError(f"--output {output}: is a file; several pictures need a folder")
    own = posixpath.splitext(output or "")[1].lower()
    if suffix and output is not None and not into and ALIKE.get(own, own) != ALIKE.get(suffix, suffix):
        raise TargetError(f"--output {output}: is no {suffix} file, as --format says; leave one of the two out")
    planned, pairs = Plan(folders=len(folders)), []
    naming = _Naming(scale if isinstance(scale, str) else f"x{scale}", suffix)
    for source in inputs:
        if source in folders:
            pairs += _of_folder(source, output, naming, recursive, planned)
        else:
            cut = source.replace(os.sep, "/").rfind("/") + 1
            name = naming(source, source[cut:])
            pairs.append((source, source[:cut] + name if output is None else joined(output, name) if into else output))
    for source, target in pairs:
        count = _frames(source) if all_frames else 1
        frames = [(None, target)] if count == 1 else enumerate(_numbered(target, count))
        planned.jobs += [Job(source, _numbered(one, samples), frame) for frame, one in frames]
    _check(planned.jobs)
    if into:
        place(output).make(output)
    return planned


def _of_folder(folder: str, output: str, naming: "_Naming", recursive: bool, planned: Plan) -> list[tuple[str, str]]:
    """Source and target of each picture; what else there is to tell is added to the plan."""
    own = inside(output, folder)
    if own == ".":
        raise TargetError(f"--output {output}: is the input folder; its pictures would be upscaled again next time")
    listing = place(folder).files(folder, recursive)
    names = [n for n in listing.names if own is None or not n.startswith(f"{own}/")]
    suffixes = _suffixes()
    pictures = [n for n in names if posixpath.splitext(n)[1].lower() in suffixes]
    planned.others += len(names) - len(pictures)
    planned.failures += listing.failures
    planned.notes += listing.notes
    if not pictures and not listing.failures:
        deeper = "" if recursive else "; --recursive looks into the folders in it"
        planned.failures.append(f"{folder}: is a directory without pictures{deeper}")
    # An output around the input folder mirrors into it where the input has a folder of its own name in it.
    around = own is None and inside(folder, output) is not None
    stems = Counter(posixpath.splitext(n)[0] for n in pictures)
    pairs = []
    for name in pictures:
        source = joined(folder, name)
        target = joined(output, naming(source, name, whole=stems[posixpath.splitext(name)[0]] > 1))
        if around and inside(target, folder) is not None:
            raise TargetError(f"{target}: would be an input next time, since it lies in {folder}; give another --output")
        pairs.append((source, target))
    return pairs


def overwrites_nothing(path: str, jobs: list[Job]) -> bool:
    """Whether a file written to ``path`` takes the place of no input and no output."""
    there = place(path).absolute(path)
    return all(there != place(other).absolute(other) for job in jobs for other in (job.source, *job.targets))


def _check(jobs: list[Job]) -> None:
    """No two pictures to one place, and none onto an input, whatever the names of both."""
    taken, inputs = {}, {place(job.source).identity(job.source) for job in jobs} - {None}
    for job in jobs:
        for target in job.targets:
            key = place(target).absolute(target)
            if key in taken:
                raise TargetError(
                    f"{target}: both {taken[key]} and {job.source} would go there; upscale them one by one with --output"
                )
            taken[key] = job.source
            if place(target).identity(target) in inputs:
                raise TargetError(f"{target}: is an input and would be overwritten; give another --output")


@dataclasses.dataclass
class _Naming:
    """``NAME_LABEL.SUFFIX`` for a picture; the suffix is the input's matter where none is given."""

    label: str
    suffix: str | None

    def __call__(self, source: str, name: str, whole: bool = False) -> str:
        from sr_zoo.picture import suffix_for

        stem, own = posixpath.splitext(name)
        suffix = self.suffix
        if suffix is None and isinstance(place(source), Local):
            suffix = suffix_for(source)
        elif suffix is None:  # to look into it, it would have to be fetched
            suffix = ".tif" if own.lower() in (".tif", ".tiff") else ".png"
        return f"{name if whole else stem}_{self.label}{suffix}"


def _frames(source: str) -> int:
    """1 also for what cannot be read: whoever reads it then says why."""
    from sr_zoo.picture import count_frames

    try:
        with place(source).fetched(source) as path:
            return count_frames(path)
    except UserError:
        return 1


def _numbered(target: str, samples: int | None) -> tuple[str, ...]:
    if not samples:
        return (target,)
    stem, suffix = posixpath.splitext(target)
    return tuple(f"{stem}_{i + 1:0{len(str(samples))}}{suffix}" for i in range(samples))


def _suffixes() -> set[str]:
    """Of all formats that are read as pictures."""
    from PIL import Image

    from sr_zoo.raster import NOT_PICTURES

    Image.init()
    return {s for s, f in Image.registered_extensions().items() if f in Image.OPEN and f not in NOT_PICTURES}
