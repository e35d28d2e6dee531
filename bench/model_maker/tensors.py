"""What both kinds of file share: a tensor whose bytes come in pieces, and the
care that is taken when a model is written."""
import dataclasses
import os
import re
import shutil

from model_maker.shape import ModelError


@dataclasses.dataclass(frozen=True)
class Tensor:
    name: str
    dtype: object  # as the file's header has it
    shape: tuple
    size: int  # in bytes
    parts: tuple  # functions that give the bytes in pieces, one after another


def write_tensor(file, tensor, progress):
    written = 0
    for part in tensor.parts:
        for piece in part():
            written += file.write(memoryview(piece))
            progress(len(piece))
    if written != tensor.size:
        raise AssertionError(f"{tensor.name}: wrote {written} of {tensor.size} bytes")


def forget_pages(file):
    """A model just made is then as cold as one that was downloaded."""
    if hasattr(os, "posix_fadvise"):
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def check_room(folder, size):
    free = shutil.disk_usage(folder).free
    if size > free:
        raise ModelError(f"{folder}: the model takes {size / 1e9:.2f} GB and {free / 1e9:.2f} GB are free")


def check_same(model, tensors, places):
    """That a model has `tensors`, and no others of their kind in other layers."""
    fitting = {name: (dtype, tuple(shape)) for name, (dtype, shape, *_) in places.items()}
    wanted = {tensor.name: (tensor.dtype, tensor.shape) for tensor in tensors}
    kinds = {re.sub(r"\d+", "N", name) for name in wanted}
    there = {name: entry for name, entry in fitting.items() if re.sub(r"\d+", "N", name) in kinds}
    if not places:
        raise ModelError(f"{model}: holds no model to --reroute")
    if wanted != there:
        name = min(name for name, _ in wanted.items() ^ there.items())
        raise ModelError(f"{model}: differs from the model these options make, in {name}; --reroute needs the options "
                         "it was made with")


def rewrite(model, tensors, places, progress):
    """Writes `tensors` over those of the same name, where `places` maps names to
    (dtype, shape, file, offset). Returns (bytes, files)."""
    check_same(model, tensors, places)
    for tensor in tensors:
        path, offset = places[tensor.name][2:]
        with open(path, "r+b", buffering=0) as file:
            file.seek(offset)
            write_tensor(file, tensor, progress)
            forget_pages(file)
    return sum(tensor.size for tensor in tensors), len({places[tensor.name][2] for tensor in tensors})
