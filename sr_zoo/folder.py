"""Many pictures: reading, computing and writing overlap, and a picture that fails does not stop the rest.

Each has threads of its own: readers fetch and decode ahead, the caller's computes and reports, writers encode and store.
Pictures go through the network one by one. Batches of small ones would save a few per cent of the processor's time
(benchmarks/folder.py), and a picture's bytes must not depend on which others are in the folder or were done already.
"""

import dataclasses
import os
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sr_zoo import distributed
from sr_zoo.delivery import Delivery
from sr_zoo.engine import Settings, Spread, upscale_pictures
from sr_zoo.errors import UserError, one_line
from sr_zoo.files import clear_stale
from sr_zoo.places import Local, PlaceError, place, split
from sr_zoo.plan import Job, plan
from sr_zoo.raster import Picture
from sr_zoo.summary import Result, Summary

__all__ = ["upscale_folder", "upscale_jobs"]

DEFAULTS, AS_IT_IS = Settings(), Delivery()

# Pictures read ahead and written behind, and the bytes of them beyond which no more are begun: of large ones few are held,
# of small ones many.
AHEAD, BYTES_AHEAD, BYTES_BEHIND = 8, 2**27, 2**30
# Threads of each kind: files are decoded and encoded by one; a service that answers slowly is asked several times at once.
THREADS, REMOTE_THREADS = 1, 4


def upscale_folder(
    source: str | Path,
    output: str | Path,
    model="affmse-x4",
    settings: Settings = DEFAULTS,
    *,
    recursive: bool = False,
    skip_existing: bool = False,
    samples: int | None = None,
    report: Callable[[Result], None] | None = None,
    delivery: Delivery = AS_IT_IS,
) -> Summary:
    """Upscale the pictures of a folder into another: ``a/b.jpg`` to ``a/b_x4.png``, see :func:`sr_zoo.plan.plan`.

    Args:
        source: a folder; a path or a URL that fsspec understands (``s3://``, ``gs://``, ``hf://``, …).
        output: a folder, likewise; made if there is none.
        model: a name, a checkpoint folder, a Hub repository or a model from :func:`sr_zoo.load`.
        recursive: take the pictures in the folders of the folder, too.
        skip_existing: leave out what is there already: so an interrupted run goes on.
        samples: number of samples of each picture, each with a seed of its own; None for one picture.
        report: called in this thread with what became of each picture, as soon as it is known.
        delivery: size, format and quality of what is saved.

    Returns:
        What became of all pictures, see :func:`upscale_jobs`.

    Raises:
        UserError: the folders cannot be used; a picture that cannot be used is in the summary instead.
        CheckpointError: the model cannot be loaded.
    """
    if not place(str(source)).is_folder(str(source)):
        raise PlaceError(f"{source}: no such folder")
    if isinstance(model, (str, Path)):
        from sr_zoo.hub import load

        model = load(model)
    planned = plan([str(source)], str(output), delivery.label(model.scale), samples, recursive)
    if planned.failures and not planned.jobs:
        raise PlaceError(planned.failures[0])
    summary = upscale_jobs(planned.jobs, model, settings, skip_existing, report, delivery)
    return dataclasses.replace(summary, others=planned.others, failures=tuple(planned.failures))


def upscale_jobs(
    jobs: Sequence[Job],
    model,
    settings: Settings = DEFAULTS,
    skip_existing: bool = False,
    report: Callable[[Result], None] | None = None,
    delivery: Delivery = AS_IT_IS,
) -> Summary:
    """Upscale what :func:`sr_zoo.plan.plan` found; arguments and result as of :func:`upscale_folder`.

    Where ``torchrun`` or ``srun`` started several processes, each does its share of the pictures and reports on it; the
    summary is of all of them, in each.

    An exception that is not a picture's own fault, such as KeyboardInterrupt, ends it: the writing that goes on is
    finished, what was not begun is left out, and the exception is raised.
    """
    if not distributed.launched():
        return _upscale_share(jobs, model, settings, skip_existing, report, delivery)
    shares = distributed.shared(jobs, lambda share: _upscale_share(share, model, settings, skip_existing, report, delivery))
    return Summary(tuple(r for s in shares for r in s.results), max(s.seconds for s in shares), model.exact)


def _upscale_share(
    jobs: Sequence[Job], model, settings: Settings, skip_existing: bool, report: Callable | None, delivery: Delivery
) -> Summary:
    results, started = [], time.perf_counter()

    def tell(result: Result) -> None:
        results.append(result)
        if report is not None:
            report(result)

    remote = any(not isinstance(place(path), Local) for job in jobs[:1] for path in (job.source, *job.targets))
    threads = REMOTE_THREADS if remote else THREADS
    with ThreadPoolExecutor(threads, "sr_zoo-read") as readers, ThreadPoolExecutor(threads, "sr_zoo-write") as writers:
        try:
            behind = _Behind(writers, tell, delivery)
            for job, numbers, reading in _ahead(readers, threads, _to_do(jobs, skip_existing, tell), delivery):
                _upscale(job, numbers, reading, model, settings, behind)
            behind.finish(0)
        except BaseException:  # Ctrl-C too: the pools would first work off all that waits; raised again
            for pool in (readers, writers):
                pool.shutdown(wait=False, cancel_futures=True)
            raise
    return Summary(tuple(results), time.perf_counter() - started, model.exact)


def _to_do(jobs: Iterable[Job], skip_existing: bool, tell: Callable) -> Iterator[tuple[Job, list[int]]]:
    """Each job with the numbers of the targets that are to be made; what killed processes have left there goes."""
    listed = {}
    for job in jobs:
        numbers = []
        for i, target in enumerate(job.targets):
            (folder, name), there = split(target), place(target)
            try:
                if folder not in listed:
                    names = there.names(folder)
                    listed[folder] = names, {n for n in names if n.startswith(".")}
                names, hidden = listed[folder]
                if skip_existing and name in names:
                    tell(Result(job.source, target, "skipped"))
                    continue
                if isinstance(there, Local):
                    clear_stale(target, hidden)
                numbers.append(i)
            except UserError as error:
                tell(_failed(job.source, target, error))
        if numbers:
            yield job, numbers


def _ahead(readers: ThreadPoolExecutor, threads: int, jobs: Iterable[tuple[Job, list[int]]], delivery: Delivery) -> Iterator:
    """Each job with the numbers of its targets and the reading of its picture, which is a few ahead of what is given out."""
    waiting, left = deque(), iter(jobs)

    def room() -> bool:
        # No more than every reader has at hand, and one: how large a picture is, is known when it was read.
        unknown = sum(not reading.done() for *_, reading in waiting)
        return len(waiting) < AHEAD and unknown <= threads and sum(_held(r) for *_, r in waiting) < BYTES_AHEAD

    while True:
        while room() and (following := next(left, None)) is not None:
            job, numbers = following
            waiting.append((job, numbers, readers.submit(_read, job, delivery)))
        if not waiting:
            return
        yield waiting.popleft()


def _upscale(job: Job, numbers: list[int], reading: Future, model, settings: Settings, behind: "_Behind") -> None:
    """All samples of one picture; they are on their way to be written when it returns."""
    spread, left = Spread(), list(numbers)
    while left:
        target = job.targets[left[0]]
        try:
            picture = reading.result()
            chosen = behind.delivery.model(picture, model)
            done = upscale_pictures([picture], chosen, _settings(settings, left[0], target))[0]
            final = behind.delivery.sized(done, picture)
            if len(job.targets) > 1:
                spread.add(done.array)
            levels = 255 / np.iinfo(done.array.dtype).max
            deviation = spread.deviation * levels if spread.count == len(job.targets) > 1 else None
            result = Result.of(job.source, target, picture, done, final, deviation)
        except Exception as error:
            if _no_memory(error) and behind.waiting:
                behind.finish(0)  # what waits to be written may be what is lacking
                continue
            for number in left:
                behind.tell(_failed(job.source, job.targets[number], error))
            return
        left.pop(0)
        behind.write(result, final, picture, chosen)


class _Behind:
    """Upscaled pictures on their way to their targets, and the telling of what became of them, in order."""

    def __init__(self, writers: ThreadPoolExecutor, tell: Callable[[Result], None], delivery: Delivery):
        self.writers, self.tell, self.delivery, self.waiting, self.bytes = writers, tell, delivery, deque(), 0

    def write(self, result: Result, picture: Picture, source: Picture, model) -> None:
        self.bytes += _bytes(picture)
        writing = self.writers.submit(_write, self.delivery, result, picture, source, model)
        self.waiting.append((result, _bytes(picture), writing))
        self.finish(BYTES_BEHIND)

    def finish(self, limit: int) -> None:
        """Wait until no more bytes than ``limit`` are to be written; tell of all that is."""
        while self.waiting and (self.bytes > limit or len(self.waiting) > AHEAD or self.waiting[0][2].done()):
            result, size, writing = self.waiting.popleft()
            error = writing.exception()
            self.bytes -= size
            self.tell(writing.result() if error is None else _failed(result.source, result.target, error))


def _read(job: Job, delivery: Delivery) -> Picture:
    with place(job.source).fetched(job.source) as path:
        return delivery.read(path, job.frame)


def _write(delivery: Delivery, result: Result, picture: Picture, source: Picture, model) -> Result:
    with place(result.target).stored(result.target) as path:
        figures, notes = delivery.save(Path(path), picture, source, model)
    return dataclasses.replace(result, **figures, notes=result.notes + notes)


def _settings(settings: Settings, sample: int, target: str) -> Settings:
    """Those of a sample; rows that do not fit into memory lie where the picture will, for there has to be room for it."""
    folder = os.path.dirname(target) or "."
    scratch = settings.scratch or (folder if isinstance(place(target), Local) and os.path.isdir(folder) else None)
    return dataclasses.replace(settings, seed=settings.seed + sample, scratch=scratch)


def _failed(source: str, target: str, error: BaseException) -> Result:
    reason, trace = one_line(error), ""
    if isinstance(error, MemoryError) or _no_memory(error):
        reason = reason if reason.startswith("not enough memory") else "not enough memory"
        reason = f"{source}: {reason}; cut the picture into smaller ones"
    elif not isinstance(error, UserError):
        reason = f"{source}: {type(error).__name__}: {reason}"
        trace = "".join(traceback.format_exception(error))
    elif source not in reason and target not in reason:
        reason = f"{source}: {reason}"
    return Result(source, target, "failed", reason=reason, trace=trace)


def _no_memory(error: BaseException) -> bool:
    return isinstance(error, MemoryError) or "allocate memory" in str(error)  # torch has no class of its own for it


def _held(reading: Future) -> int:
    """Bytes that are held by a picture that was read."""
    return _bytes(reading.result()) if reading.done() and reading.exception() is None else 0


def _bytes(picture: Picture) -> int:
    return picture.colours.nbytes + (0 if picture.alpha is None else picture.alpha.nbytes)
