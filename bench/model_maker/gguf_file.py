"""The file that llama.cpp reads: the same modules with the same spread, in its
own blocks of 4 bits.

Every matrix has the type asked for, the head too, so that a token costs as
many bytes as in an MLX folder of 4 bits. Routers and norms are float32, as
llama.cpp's converter leaves them.
"""
import dataclasses
import math
import pathlib
import re

import numpy as np

from model_maker.shape import ModelError, Norm, head_dim, is_router, is_sparse, need, number
from model_maker.tensors import Tensor, check_room, forget_pages, rewrite, write_tensor
from model_maker.values import (CHUNK_BYTES, Source, e2m1_constant, e8m0_scales, float_bytes, norm_weights, overlay,
                                uniform_weights)

CARRIER = 64  # two blocks of q4_0 and mxfp4, two sub-blocks of q4_k
ALIGNMENT = 32  # of every tensor, GGUF's default
BYTE_TOKENS = 256


@dataclasses.dataclass
class Options:
    type: str = "q4_0"
    seed: int = 0
    router: str = ""


def gguf_package():
    try:
        import gguf
    except ImportError:
        raise ModelError("--format gguf needs the gguf package: build/venv/bin/pip install gguf") from None
    return gguf


# ----------------------------------------------------------------------- blocks
def random_signs_and_sizes(block_scales, std_of_one):
    """Scales around `std_of_one` with random signs, from random 16 bits each."""
    sizes = std_of_one * (0.75 + 0.5 * (block_scales >> 1).astype("<f4") / 32768)
    return np.where(block_scales & 1, -sizes, sizes)


class Q4_0:
    """32 values d * (q - 8) in 18 bytes. The random signs balance that q - 8 is
    -0.5 on average."""

    name, values, size = "Q4_0", 32, 18
    deviation = math.sqrt((16**2 - 1) / 12 + 0.25)  # of q - 8

    def fill(self, blocks, linear, quiet):
        """Makes rows of random bytes, [rows, blocks, bytes], rows of weights."""
        scales = blocks[:, :, 0:2].copy().view("<u2")[:, :, 0]
        scales = random_signs_and_sizes(scales, linear.std / self.deviation)
        if linear.carrier is not None:
            scales[:, :CARRIER // self.values] = linear.carrier / 7
            blocks[:, :CARRIER // self.values, 2:] = 0xFF  # q = 15
        scales[:quiet] = 0
        blocks[:, :, 0:2] = scales.astype("<f2")[:, :, None].view(np.uint8)


class Q4_K:
    """256 values in 144 bytes: 8 sub-blocks of 32 values d * s * q - e * m with
    s and m of 6 bits. Here s = m = 8 and e = 7.5 d, which centres them."""

    name, values, size = "Q4_K", 256, 144
    deviation = 8 * math.sqrt((16**2 - 1) / 12)  # of 8 q
    packed = np.array([8, 8, 8, 8, 8, 8, 8, 8, 0x88, 0x88, 0x88, 0x88], np.uint8)

    def fill(self, blocks, linear, quiet):
        scales = blocks[:, :, 0:2].copy().view("<u2")[:, :, 0]
        scales = random_signs_and_sizes(scales, linear.std / self.deviation)
        blocks[:, :, 4:16] = self.packed
        if linear.carrier is not None:
            self.fill_carrier(blocks, scales, linear.carrier)
        scales[:quiet] = 0
        blocks[:, :, 0:2] = scales.astype("<f2")[:, :, None].view(np.uint8)
        blocks[:, :, 2:4] = (7.5 * scales).astype("<f2")[:, :, None].view(np.uint8)

    def fill_carrier(self, blocks, scales, value):
        """The first two sub-blocks of a row: m = 0, and s * q = 3 * 12, which is
        nearest to the deviation of the others."""
        blocks[:, 0, 4:6] = 3 if value else 0
        blocks[:, 0, 8:10] = 0
        blocks[:, 0, 16:48] = 0xCC
        if value:
            scales[:, 0] = value / 36


class Mxfp4:
    """32 numbers of E2M1 in 17 bytes: their scale, E8M0, and the codes, of which
    the first 16 are the low halves."""

    name, values, size = "MXFP4", 32, 17

    def fill(self, blocks, linear, quiet):
        blocks[:, :, 0] = e8m0_scales(blocks[:, :, 0] / 256, linear.std)
        if linear.carrier is not None:
            codes, scale = e2m1_constant(linear.carrier, self.values)
            blocks[:, :CARRIER // self.values, 0] = scale
            blocks[:, :CARRIER // self.values, 1:] = codes[:16] | codes[16:] << 4
        blocks[:quiet, :, 1:] = 0


TYPES = {"q4_0": Q4_0(), "q4_k": Q4_K(), "mxfp4": Mxfp4()}


def block_part(linear, key, options):
    """The bytes of one matrix, in pieces of whole rows."""
    kind = TYPES[options.type]
    blocks = linear.inputs // kind.values
    source, row_bytes = Source(options.seed, f"{key}.{options.type}"), blocks * kind.size
    step = max(CHUNK_BYTES // row_bytes, 1)
    for start in range(0, linear.outputs, step):
        rows = min(step, linear.outputs - start)
        piece = source.draw(rows * row_bytes).reshape(rows, blocks, kind.size)
        kind.fill(piece, linear, max(linear.quiet_rows - start, 0))
        yield piece.reshape(-1)


def router_part(linear, options):
    pieces = uniform_weights(Source(options.seed, f"{linear.path}.weight"), linear.outputs * linear.inputs, linear.std)
    columns = [] if linear.carrier is None else [linear.carrier] * CARRIER
    for piece in overlay(pieces, linear.inputs, columns, linear.quiet_rows):
        yield float_bytes(piece, "f32")


# ---------------------------------------------------------------------- tensors
NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate": "ffn_gate_inp",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.switch_mlp.gate_proj": "ffn_gate_exps",
    "mlp.switch_mlp.up_proj": "ffn_up_exps",
    "mlp.switch_mlp.down_proj": "ffn_down_exps",
}


def gguf_name(path):
    found = re.fullmatch(r"model\.layers\.(\d+)\.(.+)", path)
    return f"blk.{found[1]}.{NAMES[found[2]]}.weight" if found else f"{NAMES[path]}.weight"


def block_tensor(linear, options):
    kind = TYPES[options.type]
    if linear.inputs % kind.values:
        raise ModelError(f"--gguf-type {options.type}: {linear.path} has {linear.inputs} inputs, "
                         f"not a multiple of {kind.values}")
    keys = [f"{linear.path}.{expert}" for expert in range(linear.experts)] or [linear.path]
    shape = (linear.outputs, linear.inputs)
    return Tensor(gguf_name(linear.path), kind.name, (linear.experts, *shape) if linear.experts else shape,
                  len(keys) * linear.outputs * linear.inputs // kind.values * kind.size,
                  tuple(lambda key=key: block_part(linear, key, options) for key in keys))


def tensor_of(module, options):
    if isinstance(module, Norm):
        source = f"{module.path}.weight"
        return Tensor(gguf_name(module.path), "F32", (module.size,), 4 * module.size, (
            lambda: (float_bytes(piece, "f32") for piece in norm_weights(Source(options.seed, source), module)),))
    if is_router(module):
        return Tensor(gguf_name(module.path), "F32", (module.outputs, module.inputs),
                      4 * module.outputs * module.inputs, (lambda: router_part(module, options),))
    return block_tensor(module, options)


# ----------------------------------------------------------------------- header
def byte_symbols():
    """How a byte-level BPE writes each byte: printable ones as themselves, the
    others as the characters from 256 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    symbols = {byte: chr(byte) for byte in printable}
    symbols.update((byte, chr(256 + index)) for index, byte in enumerate(others))
    return [symbols[byte] for byte in range(256)]


def add_tokenizer(writer, gguf, vocab):
    """A byte-level BPE in which any text is as many tokens as bytes: the one merge,
    which the format asks for, joins two bytes that no text holds."""
    if vocab < BYTE_TOKENS + 2:
        raise ModelError(f"--format gguf: needs a vocab_size of at least {BYTE_TOKENS + 2}, this is {vocab}")
    symbols = byte_symbols()
    merged = symbols[0xFE] + symbols[0xFF]
    tokens = [*symbols, merged, "<|end|>"]
    tokens += [f"filler{index}" for index in range(len(tokens), vocab)]
    types = [gguf.TokenType.NORMAL] * vocab
    types[BYTE_TOKENS + 1] = gguf.TokenType.CONTROL
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types(types)
    writer.add_token_merges([f"{symbols[0xFE]} {symbols[0xFF]}"])
    writer.add_eos_token_id(BYTE_TOKENS + 1)
    writer.add_add_bos_token(False)


def architecture(config):
    sparse = [is_sparse(config, layer) for layer in range(need(config, "num_hidden_layers"))]
    if any(sparse) and not all(sparse):
        raise ModelError("--format gguf: llama.cpp's qwen3moe has experts in every layer, and this config has "
                         f"none in layer {sparse.index(False)}")
    return "qwen3moe" if all(sparse) else "qwen3"


def add_shape(writer, config):
    layers, heads = need(config, "num_hidden_layers"), need(config, "num_attention_heads")
    writer.add_block_count(layers)
    writer.add_context_length(need(config, "max_position_embeddings"))
    writer.add_embedding_length(need(config, "hidden_size"))
    writer.add_feed_forward_length(need(config, "intermediate_size"))
    writer.add_head_count(heads)
    writer.add_head_count_kv(need(config, "num_key_value_heads"))
    writer.add_key_length(head_dim(config))
    writer.add_value_length(head_dim(config))
    writer.add_rope_freq_base(number(config, "rope_theta", 10000))
    writer.add_layer_norm_rms_eps(number(config, "rms_norm_eps", 1e-6))
    writer.add_vocab_size(need(config, "vocab_size"))
    if architecture(config) == "qwen3moe":
        if not config.get("norm_topk_prob", False):
            raise ModelError("--format gguf: llama.cpp's qwen3moe has norm_topk_prob, and this config has not")
        writer.add_expert_count(need(config, "num_experts"))
        writer.add_expert_used_count(need(config, "num_experts_per_tok"))
        writer.add_expert_feed_forward_length(need(config, "moe_intermediate_size"))


def write_header(path, config, tensors, options):
    gguf = gguf_package()
    writer = gguf.GGUFWriter(path, architecture(config))
    writer.add_name(f"random weights, {options.type}")
    add_shape(writer, config)
    writer.add_file_type({"q4_0": gguf.LlamaFileType.MOSTLY_Q4_0, "q4_k": gguf.LlamaFileType.MOSTLY_Q4_K_S,
                          "mxfp4": gguf.LlamaFileType.MOSTLY_MXFP4_MOE}[options.type])
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    add_tokenizer(writer, gguf, need(config, "vocab_size"))
    for tensor in tensors:
        writer.add_tensor_info(tensor.name, tensor.shape, np.float32, tensor.size,
                               gguf.GGMLQuantizationType[tensor.dtype])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    writer.close()


# ------------------------------------------------------------------------- file
def write_file(config, all_modules, out, options, progress):
    """Writes the file `out`. Returns (bytes of all tensors, files written)."""
    out = pathlib.Path(out)
    tensors = [tensor_of(module, options) for module in all_modules]
    total = sum(tensor.size for tensor in tensors)
    if out.exists():
        raise ModelError(f"{out}: is there already; name another file or remove this one")
    out.parent.mkdir(parents=True, exist_ok=True)
    check_room(out.parent, total)
    # Renamed at the end: half a file is never taken for a whole one.
    part = out.with_name(out.name + ".part")
    write_header(part, config, tensors, options)
    with open(part, "r+b", buffering=0) as file:
        file.seek(0, 2)
        for tensor in tensors:
            file.write(bytes(-file.tell() % ALIGNMENT))
            write_tensor(file, tensor, progress)
        file.write(bytes(-file.tell() % ALIGNMENT))
        forget_pages(file)
    part.rename(out)
    return total, 1


def tensor_places(path):
    """name -> (type, shape, file, offset in it)."""
    reader = gguf_package().GGUFReader(path)
    return {tensor.name: (tensor.tensor_type.name, tuple(int(n) for n in reversed(tensor.shape)), path,
                          int(tensor.data_offset)) for tensor in reader.tensors}


def reroute_file(config, all_modules, out, options, progress):
    """Writes the routers anew into a file that is there."""
    if not pathlib.Path(out).is_file():
        raise ModelError(f"{out}: is no file, so there is nothing to --reroute")
    routers = [tensor_of(module, options) for module in filter(is_router, all_modules)]
    return rewrite(out, routers, tensor_places(out), progress)
