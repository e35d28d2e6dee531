"""From a config.json of qwen3_moe to the modules of the model, and what makes
routing as uniform or as skewed as a benchmark wants it.

A random router chooses experts from a token's own direction, so its choice is
near uniform and tells nothing of popularity. With a Routing, some dimensions
of the residual stream are a carrier: every embedding holds the same constant
there, no layer writes there, and routers alone read there. A router's columns
over the carrier then add a fixed logit to each expert, on top of the logit
that depends on the token.
"""
import dataclasses
import math
import typing

import numpy as np

from model_maker.values import Source, normal_values


class ModelError(Exception):
    """A wrong option or config, in one line for the user."""


# The spread of the fixed logits, in deviations of those that depend on the
# token. With 1.0, 8 of 128 experts a token and random tokens, an LRU over all
# experts of all layers hits 42, 72 and 94 % when it holds 12.5, 25 and 50 % of
# them; with 0 it hits as many as it holds.
POPULARITY = {"uniform": 0.0, "skew": 1.0}

# With a Routing, layers write less than they do otherwise. Attention over random
# weights is an average that all tokens share; written as strongly as elsewhere,
# it alone would make some experts popular.
ATTENTION_GAIN, MLP_GAIN = 0.2, 0.75
# What a layer then adds to the variance of the stream, in variances of an
# embedding: the gain's square times the mean square of silu(g) * u (0.356 for
# normal g and u), and over k experts times the sum of their squared weights.
DENSE_ADDS = MLP_GAIN**2 * 0.356
EXPERTS_ADD = DENSE_ADDS * 0.14


@dataclasses.dataclass(frozen=True)
class Routing:
    kind: str  # of POPULARITY
    seed: int = 0
    carrier: int = 64  # dimensions; whole groups of every quantisation


@dataclasses.dataclass(frozen=True)
class Linear:
    """A matrix [outputs, inputs], or `experts` of them."""

    path: str
    outputs: int
    inputs: int
    std: float
    experts: int = 0
    # With a Routing: what the columns over the carrier hold (a number, or one
    # for each row; None: they are like the others), and how many rows are zero.
    carrier: typing.Any = None
    quiet_rows: int = 0


@dataclasses.dataclass(frozen=True)
class Norm:
    path: str
    size: int
    signed: bool = False
    ones: bool = False


def need(config, key, minimum=1):
    value = config.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or value < minimum:
        raise ModelError(f"config.json: {key} is {value!r}; it must be an integer of at least {minimum}")
    return value


def number(config, key, default):
    value = config.get(key, default)
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        raise ModelError(f"config.json: {key} is {value!r}; it must be a number")
    return float(value)


def head_dim(config):
    if config.get("head_dim"):
        return need(config, "head_dim")
    return need(config, "hidden_size") // need(config, "num_attention_heads")


def dense_layers(config):
    layers = config.get("mlp_only_layers") or []
    if not isinstance(layers, list):
        raise ModelError(f"config.json: mlp_only_layers is {layers!r}; it must be a list of layers")
    return layers


def is_sparse(config, layer):
    """Whether the layer has experts: the rule of qwen3_moe."""
    step = need(config, "decoder_sparse_step") if "decoder_sparse_step" in config else 1
    return (layer not in dense_layers(config)
            and config["num_experts"] > 0 and (layer + 1) % step == 0)


def check_config(config, routing):
    if config.get("model_type") != "qwen3_moe":
        raise ModelError(f"config.json: model_type is {config.get('model_type')!r}; "
                         "only qwen3_moe models can be made")
    experts = need(config, "num_experts", 0)
    if experts and need(config, "num_experts_per_tok") > experts:
        raise ModelError("config.json: num_experts_per_tok is more than num_experts")
    layers = range(need(config, "num_hidden_layers"))
    if routing and not any(is_sparse(config, layer) for layer in layers):
        raise ModelError("--router: this config has no layer with experts")
    if routing and need(config, "hidden_size") < 2 * routing.carrier:
        raise ModelError(f"--router: needs a hidden_size of at least {2 * routing.carrier}, "
                         f"this is {config['hidden_size']}")


def stream_growth(config, layer):
    """How much larger than an embedding's the deviation of the residual stream
    is where `layer` routes, outside the carrier."""
    added = sum(EXPERTS_ADD if is_sparse(config, below) else DENSE_ADDS for below in range(layer))
    return math.sqrt(1 + added)


def carrier_value(config):
    """What every embedding holds in the carrier: its deviation elsewhere."""
    return 1 / math.sqrt(config["hidden_size"])


def popularity_columns(config, layer, path, routing):
    """What the router of `layer` holds over the carrier, for each expert. The
    norm before the router shrinks the carrier as the stream grows."""
    fixed = normal_values(Source(routing.seed, f"{path}.popularity"), config["num_experts"])
    return fixed * np.float32(POPULARITY[routing.kind] * stream_growth(config, layer) / routing.carrier)


def router(config, layer, path, routing):
    hidden, experts = config["hidden_size"], config["num_experts"]
    if not routing:
        return Linear(path, experts, hidden, 1 / math.sqrt(hidden))
    return Linear(path, experts, hidden, 1 / math.sqrt(hidden - routing.carrier),
                  carrier=popularity_columns(config, layer, path, routing))


def modules(config, routing=None):
    """Every module with weights, in model order."""
    check_config(config, routing)
    hidden = need(config, "hidden_size")
    heads = need(config, "num_attention_heads")
    kv_heads = need(config, "num_key_value_heads")
    head = head_dim(config)
    experts = config["num_experts"]
    vocab = need(config, "vocab_size")
    attention_gain, mlp_gain = (ATTENTION_GAIN, MLP_GAIN) if routing else (0.5, 4)

    def norm(path, size=hidden, signed=False):
        return Norm(path, size, signed, ones=routing is not None)

    def reads(path, outputs, inputs, count=0):
        return Linear(path, outputs, inputs, 1 / math.sqrt(inputs), count, carrier=0.0 if routing else None)

    # What is added to the residual stream has about the size of an embedding.
    # Attention adds much the same to every token of a random model, so it adds
    # less than the experts: with equal shares, tokens grow alike from layer to
    # layer until the routers choose the same experts for all of them.
    def writes(path, inputs, gain, count=0):
        return Linear(path, hidden, inputs, gain / math.sqrt(inputs * hidden), count,
                      quiet_rows=routing.carrier if routing else 0)

    yield Linear("model.embed_tokens", vocab, hidden, 1 / math.sqrt(hidden),
                 carrier=carrier_value(config) if routing else None)
    for layer in range(need(config, "num_hidden_layers")):
        base = f"model.layers.{layer}"
        yield norm(f"{base}.input_layernorm")
        yield reads(f"{base}.self_attn.q_proj", heads * head, hidden)
        yield reads(f"{base}.self_attn.k_proj", kv_heads * head, hidden)
        yield reads(f"{base}.self_attn.v_proj", kv_heads * head, hidden)
        yield writes(f"{base}.self_attn.o_proj", heads * head, attention_gain)
        yield norm(f"{base}.self_attn.q_norm", head)
        yield norm(f"{base}.self_attn.k_norm", head)
        yield norm(f"{base}.post_attention_layernorm")
        if is_sparse(config, layer):
            inner = need(config, "moe_intermediate_size")
            yield router(config, layer, f"{base}.mlp.gate", routing)
            yield reads(f"{base}.mlp.switch_mlp.gate_proj", inner, hidden, experts)
            yield reads(f"{base}.mlp.switch_mlp.up_proj", inner, hidden, experts)
            yield writes(f"{base}.mlp.switch_mlp.down_proj", inner, mlp_gain, experts)
        else:
            inner = need(config, "intermediate_size")
            yield reads(f"{base}.mlp.gate_proj", inner, hidden)
            yield reads(f"{base}.mlp.up_proj", inner, hidden)
            yield writes(f"{base}.mlp.down_proj", inner, mlp_gain)
    yield norm("model.norm", signed=True)
    if not config.get("tie_word_embeddings", False):
        yield reads("lm_head", vocab, hidden)


def is_router(module):
    return isinstance(module, Linear) and module.path.endswith(".mlp.gate")


def expert_path(path, expert):
    return path.replace(".switch_mlp.", f".experts.{expert}.")
