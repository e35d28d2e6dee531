"""The folder that mlx-lm would write: safetensors files, their index, and a
config.json whose "quantization" says how each module is packed."""
import dataclasses
import fnmatch
import functools
import json
import pathlib
import random
import struct
import typing

import numpy as np

from model_maker.shape import Linear, ModelError, Norm, expert_path, is_router
from model_maker.tensors import Tensor, check_room, forget_pages, rewrite, write_tensor
from model_maker.values import (Source, e2m1_constant, e8m0_scales, float_bytes, group_biases, group_scales, norm_weights,
                                overlay, uniform_weights)

DTYPES = {"bf16": ("BF16", 2), "f16": ("F16", 2), "f32": ("F32", 4)}
TORCH_DTYPES = {"bf16": "bfloat16", "f16": "float16", "f32": "float32"}
BITS = (2, 3, 4, 5, 6, 8)
GROUP_SIZES = (32, 64, 128)


class Packing(typing.NamedTuple):
    bits: int
    group_size: int
    mode: str = "affine"

    def entry(self):
        """As config.json has it; without a mode it is affine."""
        entry = {"group_size": self.group_size, "bits": self.bits}
        return entry if self.mode == "affine" else {**entry, "mode": self.mode}


MXFP4 = Packing(4, 32, "mxfp4")


@dataclasses.dataclass
class Options:
    bits: int = 0  # 0: nothing is quantised
    group_size: int = 64
    mode: str = "affine"  # or mxfp4, with its bits and group size
    gate_bits: int = 8
    dtype: str = "bf16"
    overrides: tuple = ()  # (pattern, Packing or None)
    layout: str = "stacked"
    shard_bytes: int = 5 * 10**9
    seed: int = 0
    unaligned: bool = False
    router: str = ""  # a key of shape.POPULARITY, or empty: random like all the rest


# ------------------------------------------------------------------ quantisation
def check_quantization(bits, group_size):
    if bits not in BITS:
        raise ModelError(f"{bits} bits: must be one of {', '.join(map(str, BITS))}")
    if group_size not in GROUP_SIZES:
        raise ModelError(f"group size {group_size}: must be one of {', '.join(map(str, GROUP_SIZES))}")


def default_packing(options):
    return Packing(options.bits, options.group_size, options.mode)


def packing_of(linear, options):
    """A Packing, or None where the module stays as it is."""
    if not options.bits:
        return None
    for pattern, packing in reversed(options.overrides):
        if fnmatch.fnmatchcase(linear.path, pattern):
            if packing and linear.inputs % packing.group_size:
                raise ModelError(f"--override {pattern}: {linear.path} has {linear.inputs} inputs, "
                                 f"not a multiple of group size {packing.group_size}")
            return packing
    packing = default_packing(options)
    if is_router(linear):
        # mlx-lm packs routers in groups of 64 whatever the others have, and
        # always affine.
        packing = Packing(options.gate_bits, 64 if linear.inputs % 64 == 0 else options.group_size)
    return None if linear.inputs % packing.group_size else packing


def quantization_config(all_modules, options):
    """config.json's "quantization": the default, and each module that differs."""
    default = default_packing(options)
    result = {"group_size": default.group_size, "bits": default.bits, "mode": default.mode}
    for module in all_modules:
        if not isinstance(module, Linear):
            continue
        found = packing_of(module, options)
        if found == default:
            continue
        entry = found.entry() if found else False
        paths = [module.path]
        if module.experts and options.layout == "per-expert":
            paths = [expert_path(module.path, e) for e in range(module.experts)]
        result.update((path, entry) for path in paths)
    return result


def carrier_dims(options):
    """Whole groups, so that a group's bias alone can hold a constant."""
    sizes = [options.group_size] + [packing.group_size for _, packing in options.overrides if packing]
    return max(64, *sizes)


def carrier_columns(linear, value, count):
    """What overlay() puts into the columns over the carrier: `value`, `count` times."""
    return [] if linear.carrier is None else [value] * count


# ---------------------------------------------------------------------- tensors
def plain_parts(linear, key, options):
    dtype_name, dtype_size = DTYPES[options.dtype]
    count, name = linear.outputs * linear.inputs, f"{key}.weight"

    def weights():
        pieces = uniform_weights(Source(options.seed, name), count, linear.std)
        columns = carrier_columns(linear, linear.carrier, carrier_dims(options))
        for piece in overlay(pieces, linear.inputs, columns, linear.quiet_rows):
            yield float_bytes(piece, options.dtype)

    return {"weight": (dtype_name, (linear.outputs, linear.inputs), count * dtype_size, weights)}


def affine_parts(linear, key, packing, options):
    dtype_name, dtype_size = DTYPES[options.dtype]
    bits, group_size, _ = packing
    rows, seed = linear.outputs, options.seed
    words, groups = linear.inputs * bits // 32, linear.inputs // group_size
    count = rows * groups
    # A group without a scale holds its bias in every place.
    carrier_groups = carrier_dims(options) // group_size

    def scales():
        return group_scales(Source(seed, f"{key}.scales"), count, linear.std, bits)

    def biases():
        return group_biases(scales(), Source(seed, f"{key}.biases"), count, bits)

    def encoded(values, carrier):
        columns = carrier_columns(linear, carrier, carrier_groups)
        return lambda: (float_bytes(piece, options.dtype)
                        for piece in overlay(values(), groups, columns, linear.quiet_rows))

    return {
        "weight": ("U32", (rows, words), rows * words * 4,
                   lambda: Source(seed, f"{key}.weight").chunks(rows * words * 4)),
        "scales": (dtype_name, (rows, groups), count * dtype_size, encoded(scales, 0.0)),
        "biases": (dtype_name, (rows, groups), count * dtype_size, encoded(biases, linear.carrier)),
    }


def mxfp4_parts(linear, key, options):
    """Codes and scales; what is constant or zero is so by its codes."""
    rows, seed = linear.outputs, options.seed
    row_bytes, groups = linear.inputs // 2, linear.inputs // MXFP4.group_size
    carrier_groups = carrier_dims(options) // MXFP4.group_size
    codes, scale = [], []
    if linear.carrier is not None:
        if not np.isscalar(linear.carrier):
            raise ModelError(f"--router: {linear.path} cannot be of mxfp4: it holds a number for each expert")
        group, byte = e2m1_constant(linear.carrier, MXFP4.group_size)
        codes = list(group[0::2] | group[1::2] << 4) * carrier_groups
        scale = [byte] * carrier_groups

    def weights():
        return overlay(Source(seed, f"{key}.weight").chunks(rows * row_bytes), row_bytes, codes, linear.quiet_rows)

    def scales():
        pieces = (e8m0_scales(levels / 65536, linear.std)
                  for levels in Source(seed, f"{key}.scales").levels(rows * groups))
        return overlay(pieces, groups, scale, 0)

    return {
        "weight": ("U32", (rows, row_bytes // 4), rows * row_bytes, weights),
        "scales": ("U8", (rows, groups), rows * groups, scales),
    }


def linear_parts(linear, key, packing, options):
    """name suffix -> (dtype, shape, bytes, function) of one matrix, whose random
    numbers are drawn under `key`."""
    if not packing:
        return plain_parts(linear, key, options)
    if packing == MXFP4:
        return mxfp4_parts(linear, key, options)
    return affine_parts(linear, key, packing, options)


def linear_tensors(linear, options):
    packing = packing_of(linear, options)
    if not linear.experts:
        for suffix, (dtype, shape, size, part) in linear_parts(
                linear, linear.path, packing, options).items():
            yield Tensor(f"{linear.path}.{suffix}", dtype, shape, size, (part,))
        return
    paths = [expert_path(linear.path, e) for e in range(linear.experts)]
    each = [linear_parts(linear, path, packing, options) for path in paths]
    if options.layout == "per-expert":
        for path, parts in zip(paths, each):
            for suffix, (dtype, shape, size, part) in parts.items():
                yield Tensor(f"{path}.{suffix}", dtype, shape, size, (part,))
        return
    for suffix, (dtype, shape, size, _) in each[0].items():
        yield Tensor(f"{linear.path}.{suffix}", dtype, (linear.experts, *shape),
                     size * linear.experts, tuple(parts[suffix][3] for parts in each))


def norm_tensor(norm, options):
    name, (dtype_name, dtype_size) = f"{norm.path}.weight", DTYPES[options.dtype]

    def weights():
        return (float_bytes(piece, options.dtype) for piece in norm_weights(Source(options.seed, name), norm))

    return Tensor(name, dtype_name, (norm.size,), norm.size * dtype_size, (weights,))


def tensors(all_modules, options):
    for module in all_modules:
        if isinstance(module, Norm):
            yield norm_tensor(module, options)
        else:
            yield from linear_tensors(module, options)


# ------------------------------------------------------------------------ files
def shards_of(all_tensors, shard_bytes):
    """Groups of tensors in order, none over `shard_bytes` unless one tensor is."""
    shards, size = [[]], 0
    for tensor in all_tensors:
        if shards[-1] and size + tensor.size > shard_bytes:
            shards.append([])
            size = 0
        shards[-1].append(tensor)
        size += tensor.size
    return shards


def header_of(shard, unaligned):
    """The header's bytes. Most writers pad it with spaces to a multiple of 8;
    MLX's does not, which leaves tensors at any offset. `unaligned` makes the
    length odd, so that every tensor of the file starts at an odd offset."""
    header, offset = {"__metadata__": {"format": "mlx"}}, 0
    for tensor in shard:
        header[tensor.name] = {"dtype": tensor.dtype, "shape": list(tensor.shape),
                               "data_offsets": [offset, offset + tensor.size]}
        offset += tensor.size
    text = json.dumps(header, separators=(",", ":")).encode()
    if unaligned:
        text += b" " * (1 - len(text) % 2)
    else:
        text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text


def tensor_places(path):
    """name -> (dtype, shape, file, offset in it)."""
    with open(path, "rb") as file:
        size = struct.unpack("<Q", file.read(8))[0]
        header = json.loads(file.read(size))
    header.pop("__metadata__", None)
    return {name: (entry["dtype"], entry["shape"], path, 8 + size + entry["data_offsets"][0])
            for name, entry in header.items()}


def write_shard(path, shard, options, progress):
    if options.unaligned:
        # As out of a hash map, in an order that the seed fixes.
        random.Random(f"{options.seed}/{path.name}").shuffle(shard)
    with open(path, "xb", buffering=0) as file:
        file.write(header_of(shard, options.unaligned))
        for tensor in shard:
            write_tensor(file, tensor, progress)
        forget_pages(file)


def output_config(config, all_modules, options):
    result = {key: value for key, value in config.items()
              if key not in ("quantization", "quantization_config")}
    result["torch_dtype"] = TORCH_DTYPES[options.dtype]
    if options.bits:
        # mlx-lm writes both keys with the same contents.
        result["quantization"] = quantization_config(all_modules, options)
        result["quantization_config"] = result["quantization"]
    return result


def check_options(config, all_modules, options):
    if options.bits:
        check_quantization(options.bits, options.group_size)
        check_quantization(options.gate_bits, options.group_size)
        if config["hidden_size"] % options.group_size:
            raise ModelError(f"hidden_size {config['hidden_size']} is not a multiple of "
                             f"group size {options.group_size}")
    elif options.overrides:
        raise ModelError("--override has no effect without --bits or --mode mxfp4")
    paths = [module.path for module in all_modules if isinstance(module, Linear)]
    for pattern, _ in options.overrides:
        if not any(fnmatch.fnmatchcase(path, pattern) for path in paths):
            raise ModelError(f"--override {pattern}: no module has this name; one is {paths[-1]}")


def write_folder(config, all_modules, out, options, progress):
    """Writes the folder `out`. Returns (bytes of all tensors, files written)."""
    check_options(config, all_modules, options)
    all_tensors = list(tensors(all_modules, options))
    total = sum(tensor.size for tensor in all_tensors)

    out = pathlib.Path(out)
    out.mkdir(parents=True, exist_ok=True)
    left = sorted(out.glob("model*.safetensors")) + list(out.glob("config.json"))
    if left:
        raise ModelError(f"{out}: holds a model or part of one ({left[0].name}); "
                         "name another folder or remove this one")
    check_room(out, total)

    shards = shards_of(all_tensors, options.shard_bytes)
    weight_map = {}
    for number, shard in enumerate(shards, 1):
        name = ("model.safetensors" if len(shards) == 1
                else f"model-{number:05}-of-{len(shards):05}.safetensors")
        weight_map.update((tensor.name, name) for tensor in shard)
        write_shard(out / name, shard, options, progress)
    parameters = sum(
        (module.outputs * module.inputs * max(module.experts, 1) if isinstance(module, Linear)
         else module.size) for module in all_modules)
    index = {"metadata": {"total_size": total, "total_parameters": parameters},
             "weight_map": dict(sorted(weight_map.items()))}
    (out / "model.safetensors.index.json").write_text(json.dumps(index, indent=4))
    # Last: a folder without it is no model, so half of one is never taken for whole.
    (out / "config.json").write_text(
        json.dumps(output_config(config, all_modules, options), indent=4, sort_keys=True) + "\n")
    return total, len(shards)


def reroute_folder(config, all_modules, out, options, progress):
    """Writes the routers anew into a folder that is there."""
    check_options(config, all_modules, options)
    places = {}
    for path in sorted(pathlib.Path(out).glob("model*.safetensors")):
        places.update(tensor_places(path))
    return rewrite(out, list(tensors(filter(is_router, all_modules), options)), places, progress)
