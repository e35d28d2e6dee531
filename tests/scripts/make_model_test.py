"""bench/make_model: routers as skewed as they are said to be, GGUF that reads
back, and options that have an effect or are refused."""

import collections
import contextlib
import hashlib
import io
import json
import os
import pathlib
import subprocess
import tempfile
import types
import unittest

import support

support.need_module("numpy")
import numpy as np

make_model = support.load_script("bench", "make_model")
from model_maker import gguf_file, mlx_folder, shape

try:
    import gguf
except ImportError:
    gguf = None

SHAPES = pathlib.Path(support.ROOT, "bench", "shapes")
REAL = json.loads((SHAPES / "qwen3-30b-a3b.json").read_text())
SMALL = {**REAL, "hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4,
         "num_key_value_heads": 2, "head_dim": 64, "intermediate_size": 256,
         "moe_intermediate_size": 64, "num_experts": 64, "num_experts_per_tok": 4, "vocab_size": 4096}
# What an LRU with an eighth, a quarter and a half of all experts hits.
SHARES = (0.125, 0.25, 0.5)
HITS = {"uniform": SHARES, "skew": (0.42, 0.72, 0.94)}
BINARY = os.environ.get("MLX_FLASH_BINARY", "")


def tensor_bytes(tensor):
    return b"".join(bytes(piece) for part in tensor.parts for piece in part())


def bf16(data):
    return (np.frombuffer(data, "<u2").astype("<u4") << 16).view("<f4")


def decoded(tensors, path, inputs):
    """The float matrix of an 8-bit affine module, of groups of 64."""
    weight, scales, biases = (tensor_bytes(tensors[f"{path}.{part}"]) for part in ("weight", "scales", "biases"))
    values = np.frombuffer(weight, np.uint8).reshape(-1, inputs // 64, 64).astype("f4")
    grouped = [bf16(data).reshape(-1, inputs // 64, 1) for data in (scales, biases)]
    return (values * grouped[0] + grouped[1]).reshape(-1, inputs)


def decoded_mxfp4(tensors, path, inputs):
    """The float matrices of a module of mxfp4, written from the OCP specification."""
    numbers = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6, 0, -0.5, -1, -1.5, -2, -3, -4, -6], "f4")
    packed, scales = (np.frombuffer(tensor_bytes(tensors[f"{path}.{part}"]), np.uint8) for part in ("weight", "scales"))
    codes = np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1, 32)
    return (numbers[codes] * 2.0 ** (scales[:, None].astype(int) - 127)).reshape(-1, inputs)


def lru_hits(chosen, layers, slots):
    """The share of lookups that hit, from the second half of the tokens on.
    `chosen` is [token][layer][k]."""
    present, hits, lookups = collections.OrderedDict(), 0, 0
    for number, token in enumerate(chosen):
        for layer in range(layers):
            for expert in token[layer]:
                key = layer, int(expert)
                if 2 * number >= len(chosen):
                    lookups += 1
                    hits += key in present
                present[key] = None
                present.move_to_end(key)
                if len(present) > slots:
                    present.popitem(last=False)
    return hits / lookups


def routed(config, kind, tokens):
    """The experts that random tokens choose, [token][layer][k], in a model whose
    residual stream grows as the routers expect."""
    options = make_model.Options(bits=4, router=kind)
    routers = list(filter(shape.is_router, shape.modules(config, make_model.routing_of(options))))
    draw, hidden, k = np.random.RandomState(1), config["hidden_size"], config["num_experts_per_tok"]
    result = []
    for layer, linear in enumerate(routers):
        tensors = {tensor.name: tensor for tensor in mlx_folder.tensors([linear], options)}
        stream = draw.standard_normal((tokens, hidden)) * shape.stream_growth(config, layer)
        stream[:, :64] = 1
        logits = stream @ decoded(tensors, linear.path, hidden).T
        result.append(np.argpartition(-logits, k, axis=1)[:, :k])
    return np.stack(result, axis=1)


def make(out, *options, config=SMALL):
    """Runs the script in this process; its exit status and what it said."""
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(config, file)
        file.flush()
        output, status = io.StringIO(), 0
        with contextlib.redirect_stdout(output), contextlib.redirect_stderr(output):
            try:
                make_model.main(["--config", file.name, "--out", str(out), *options])
            except SystemExit as error:
                status = error.code
        if isinstance(status, str):  # sys.exit prints it at the end of a process
            output.write(status)
            status = 1
        return types.SimpleNamespace(returncode=status, stderr=output.getvalue())


class Routers(unittest.TestCase):
    def test_random_tokens_hit_an_lru_as_often_as_the_router_option_says(self):
        layers, experts = REAL["num_hidden_layers"], REAL["num_experts"]
        for kind, wanted in HITS.items():
            chosen = routed(REAL, kind, 160)
            for share, hits in zip(SHARES, wanted):
                found = lru_hits(chosen, layers, int(layers * experts * share))
                # The popularity is one random draw, and the tokens are few.
                self.assertAlmostEqual(found, hits, delta=0.04, msg=f"{kind}, {share}")

    def test_the_carrier_is_constant_and_routers_alone_read_it(self):
        options = make_model.Options(bits=4, router="skew")
        constant = shape.carrier_value(SMALL)
        for module in shape.modules(SMALL, make_model.routing_of(options)):
            if isinstance(module, shape.Norm):
                continue
            tensors = {tensor.name.split(".")[-1]: tensor for tensor in mlx_folder.linear_tensors(module, options)}
            groups = tensors["scales"].shape[-1]
            scales, biases = (bf16(tensor_bytes(tensors[part])).reshape(-1, module.outputs, groups)
                              for part in ("scales", "biases"))
            if module.quiet_rows:
                self.assertFalse(scales[:, :64].any() or biases[:, :64].any(), module.path)
                self.assertTrue(scales[:, 64:].all(), module.path)
                continue
            self.assertFalse(scales[:, :, 0].any(), module.path)
            if shape.is_router(module):
                self.assertGreater(len(np.unique(biases[:, :, 0])), 50)
            else:
                expected = constant if module.path == "model.embed_tokens" else 0
                np.testing.assert_allclose(biases[:, :, 0], expected, rtol=0.01)

    def test_without_the_option_a_seed_gives_the_weights_it_always_gave(self):
        with tempfile.TemporaryDirectory() as folder:
            result = make(f"{folder}/model", "--bits", "4", "--seed", "3", "--layers", "1")
            self.assertEqual(result.returncode, 0, result.stderr)
            data = pathlib.Path(folder, "model", "model.safetensors").read_bytes()
        self.assertEqual(hashlib.sha256(data).hexdigest()[:16], "3bcee5ccc967fe0f")

    def test_reroute_makes_the_model_that_the_option_makes(self):
        with tempfile.TemporaryDirectory() as folder:
            for kind in ("uniform", "skew"):
                done = make(f"{folder}/{kind}", "--bits", "4", "--layers", "2", "--router", kind)
                self.assertEqual(done.returncode, 0, done.stderr)
            files = [pathlib.Path(folder, kind, "model.safetensors") for kind in ("uniform", "skew")]
            self.assertNotEqual(*(file.read_bytes() for file in files))
            done = make(f"{folder}/uniform", "--bits", "4", "--layers", "2", "--router", "skew", "--reroute")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(*(file.read_bytes() for file in files))
            for other in (("--bits", "4", "--layers", "1"), ("--bits", "4", "--layers", "2", "--gate-bits", "4"), ()):
                refused = make(f"{folder}/uniform", *other, "--router", "skew", "--reroute")
                self.assertIn("--reroute needs the options", refused.stderr)
                self.assertEqual(refused.returncode, 1)

    @unittest.skipUnless(os.path.exists(BINARY), "needs the program, in MLX_FLASH_BINARY")
    def test_the_program_hits_as_often_as_the_simulation(self):
        slots = SMALL["num_hidden_layers"] * SMALL["num_experts"] // 4
        for kind, wanted in HITS.items():
            with tempfile.TemporaryDirectory() as folder:
                model = pathlib.Path(folder, "model")
                self.assertEqual(make(model, "--bits", "4", "--router", kind).returncode, 0)
                ids = pathlib.Path(folder, "ids.json")
                ids.write_text("[1, 2, 3, 4]")
                # At temperature 1 the answer is near random, as the tokens above are.
                done = subprocess.run([BINARY, "run", str(model), "--ids", str(ids), "--json", "--temp", "1", "--seed",
                                       "5", "--max-tokens", "400", "--ignore-eos", "--policy", "lru", "--slots", str(slots)],
                                      capture_output=True, text=True)
                self.assertEqual(done.returncode, 0, done.stderr)
                stats = json.loads(done.stdout)["stats"]
                lookups = stats["decode_expert_hits"] + stats["decode_expert_misses"]
                self.assertAlmostEqual(stats["decode_expert_hits"] / lookups, wanted[1], delta=0.05, msg=kind)


class Mxfp4(unittest.TestCase):
    def modules(self, router):
        options = make_model.options_of(make_model.parse_arguments(
            ["--config", "c", "--out", "o", "--mode", "mxfp4", *(["--router", router] if router else [])]))
        for module in shape.modules(SMALL, make_model.routing_of(options)):
            if isinstance(module, shape.Linear) and not shape.is_router(module):
                tensors = {tensor.name: tensor for tensor in mlx_folder.linear_tensors(module, options)}
                self.assertNotIn(f"{module.path}.biases", tensors)
                self.assertEqual(tensors[f"{module.path}.scales"].dtype, "U8")
                values = decoded_mxfp4(tensors, module.path, module.inputs)
                yield module, values.reshape(-1, module.outputs, module.inputs)

    def test_weights_have_the_spread_of_the_model(self):
        for module, values in self.modules(router=None):
            self.assertAlmostEqual(values.std() / module.std, 1, delta=0.05, msg=module.path)
            self.assertLess(abs(values.mean()) / module.std, 0.05, module.path)

    def test_the_carrier_has_a_constant_mean_and_layers_leave_it_alone(self):
        constant = shape.carrier_value(SMALL)
        for module, values in self.modules(router="skew"):
            if module.quiet_rows:
                self.assertFalse(values[:, :64].any(), module.path)
                self.assertTrue(values[:, 64:].any(axis=-1).all(), module.path)
                continue
            expected = constant if module.path == "model.embed_tokens" else 0
            np.testing.assert_allclose(values[..., :64].mean(axis=-1), expected, rtol=0.02)

    def test_config_says_what_each_module_is(self):
        with tempfile.TemporaryDirectory() as folder:
            result = make(f"{folder}/model", "--mode", "mxfp4", "--layers", "1", "--override", "lm_head=8:64",
                          "--override", "*.o_proj=false")
            self.assertEqual(result.returncode, 0, result.stderr)
            config = json.loads(pathlib.Path(folder, "model", "config.json").read_text())
        self.assertEqual(config["quantization"], {
            "group_size": 32, "bits": 4, "mode": "mxfp4", "lm_head": {"group_size": 64, "bits": 8},
            "model.layers.0.mlp.gate": {"group_size": 64, "bits": 8}, "model.layers.0.self_attn.o_proj": False})

    def test_one_module_of_an_affine_model_may_be_mxfp4(self):
        with tempfile.TemporaryDirectory() as folder:
            result = make(f"{folder}/model", "--bits", "4", "--layers", "1", "--override", "*.down_proj=mxfp4")
            self.assertEqual(result.returncode, 0, result.stderr)
            config = json.loads(pathlib.Path(folder, "model", "config.json").read_text())
        self.assertEqual(config["quantization"]["mode"], "affine")
        self.assertEqual(config["quantization"]["model.layers.0.mlp.switch_mlp.down_proj"],
                         {"group_size": 32, "bits": 4, "mode": "mxfp4"})


@unittest.skipUnless(gguf, "needs the gguf package")
class Gguf(unittest.TestCase):
    def read(self, kind, config=SMALL, *options):
        """(fields, name -> (type, values)) of a GGUF made and read back."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "model.gguf")
            result = make(path, "--format", "gguf", "--gguf-type", kind, *options, config=config)
            self.assertEqual(result.returncode, 0, result.stderr)
            reader = gguf.GGUFReader(path)
            tensors = {tensor.name: (tensor.tensor_type.name, gguf.quants.dequantize(
                tensor.data, tensor.tensor_type).reshape([int(n) for n in reversed(tensor.shape)]))
                for tensor in reader.tensors}
            self.assertEqual(reader.tensors[-1].data_offset + reader.tensors[-1].n_bytes, path.stat().st_size)
            return {name: field.contents() for name, field in reader.fields.items()}, tensors

    def test_shapes_types_and_spread_are_those_of_the_model(self):
        config = {**SMALL, "num_hidden_layers": 2, "num_experts": 8, "moe_intermediate_size": 256}
        for kind in ("q4_0", "q4_k", "mxfp4"):
            fields, tensors = self.read(kind, config, "--router", "skew")
            self.assertEqual(fields["general.architecture"], "qwen3moe")
            self.assertEqual(fields["qwen3moe.expert_used_count"], 4)
            self.assertEqual(fields["tokenizer.ggml.pre"], "qwen2")
            self.assertEqual(len(set(fields["tokenizer.ggml.tokens"])), 4096)
            modules = list(shape.modules(config, shape.Routing("skew")))
            self.assertEqual(list(tensors), [gguf_file.gguf_name(module.path) for module in modules])
            for module in modules:
                found, values = tensors[gguf_file.gguf_name(module.path)]
                if isinstance(module, shape.Norm) or shape.is_router(module):
                    self.assertEqual(found, "F32")
                    continue
                self.assertEqual(found, kind.upper())
                self.assertEqual(values.shape[-2:], (module.outputs, module.inputs))
                body = values[..., module.quiet_rows:, 64:]
                self.assertAlmostEqual(body.std() / module.std, 1, delta=0.05, msg=module.path)
                self.assertLess(abs(body.mean()) / module.std, 0.05, module.path)

    def test_the_carrier_is_constant_and_routers_alone_read_it(self):
        config = {**SMALL, "num_hidden_layers": 1, "num_experts": 8, "moe_intermediate_size": 256}
        for kind in ("q4_0", "q4_k", "mxfp4"):
            _, tensors = self.read(kind, config, "--router", "skew")
            carrier, constant = tensors["token_embd.weight"][1][:, :64], shape.carrier_value(config)
            if kind == "mxfp4":
                np.testing.assert_allclose(carrier.mean(axis=1), constant, rtol=0.02)
            else:
                np.testing.assert_allclose(carrier, constant, rtol=0.001)
            for name in ("output", "blk.0.attn_q", "blk.0.ffn_up_exps"):
                self.assertFalse(tensors[f"{name}.weight"][1][..., :64].any(), name)
            for name in ("blk.0.attn_output", "blk.0.ffn_down_exps"):
                self.assertFalse(tensors[f"{name}.weight"][1][..., :64, :].any(), name)
            router = tensors["blk.0.ffn_gate_inp.weight"][1]
            self.assertEqual(len(np.unique(router[:, :64])), 8)

    def test_popularity_is_the_same_as_in_the_mlx_folder(self):
        _, tensors = self.read("q4_0", {**SMALL, "num_hidden_layers": 1}, "--router", "skew")
        options = make_model.Options(bits=4, router="skew")
        router = next(filter(shape.is_router, shape.modules(SMALL, make_model.routing_of(options))))
        np.testing.assert_allclose(tensors["blk.0.ffn_gate_inp.weight"][1][:, 0], router.carrier)

    def test_a_dense_model_is_qwen3(self):
        config = json.loads((SHAPES / "qwen3-8b.json").read_text())
        config = {**config, **{key: SMALL[key] for key in ("hidden_size", "vocab_size", "intermediate_size")}}
        fields, tensors = self.read("q4_k", config, "--layers", "1")
        self.assertEqual(fields["general.architecture"], "qwen3")
        self.assertIn("blk.0.ffn_gate.weight", tensors)
        self.assertNotIn("qwen3.expert_count", fields)

    def test_reroute_makes_the_file_that_the_option_makes(self):
        with tempfile.TemporaryDirectory() as folder:
            files = [pathlib.Path(folder, f"{kind}.gguf") for kind in ("uniform", "skew")]
            for file in files:
                self.assertEqual(make(file, "--format", "gguf", "--router", file.stem, "--layers", "1").returncode, 0)
            done = make(files[0], "--format", "gguf", "--router", "skew", "--layers", "1", "--reroute")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(*(file.read_bytes() for file in files))


class Refusals(unittest.TestCase):
    def refused(self, words, *options, config=SMALL):
        with tempfile.TemporaryDirectory() as folder:
            result = make(f"{folder}/model", *options, config=config)
            self.assertNotEqual(result.returncode, 0)
            self.assertIn(words, result.stderr.splitlines()[-1])
            self.assertEqual(os.listdir(folder), [])

    def test_options_of_the_other_format(self):
        self.refused("--bits has no effect", "--format", "gguf", "--bits", "4")
        self.refused("--layout has no effect", "--format", "gguf", "--layout", "per-expert")
        self.refused("--gguf-type has no effect", "--gguf-type", "q4_k")
        self.refused("--group-size has no effect without --bits", "--group-size", "32")
        self.refused("--gate-bits has no effect without --bits", "--gate-bits", "4")

    def test_mxfp4_of_other_sizes(self):
        self.refused("mxfp4 has 4 bits", "--mode", "mxfp4", "--bits", "8")
        self.refused("mxfp4 has 4 bits", "--mode", "mxfp4", "--group-size", "64")
        self.refused("--mode has no effect", "--format", "gguf", "--mode", "mxfp4")
        self.refused("cannot be of mxfp4", "--mode", "mxfp4", "--router", "skew", "--override", "*.mlp.gate=mxfp4")

    def test_a_router_where_there_is_nothing_to_route(self):
        self.refused("no layer with experts", "--router", "skew",
                     config={**SMALL, "mlp_only_layers": list(range(SMALL["num_hidden_layers"]))})
        self.refused("needs a hidden_size", "--router", "skew", config={**SMALL, "hidden_size": 64})
        self.refused("--reroute needs --router", "--reroute")

    @unittest.skipUnless(gguf, "needs the gguf package")
    def test_what_llama_cpp_has_no_model_for(self):
        self.refused("mlp_only_layers is 3; it must be a list", config={**SMALL, "mlp_only_layers": 3})
        self.refused("rope_theta is None; it must be a number", "--format", "gguf", config={**SMALL, "rope_theta": None})
        self.refused("experts in every layer", "--format", "gguf", config={**SMALL, "mlp_only_layers": [1]})
        self.refused("norm_topk_prob", "--format", "gguf", config={**SMALL, "norm_topk_prob": False})
        self.refused("not a multiple of 256", "--format", "gguf", "--gguf-type", "q4_k")
        self.refused("vocab_size", "--format", "gguf", config={**SMALL, "vocab_size": 100})


if __name__ == "__main__":
    unittest.main()
