"""Measures mlx-lm: mlx_lm_bench.py MODEL IDS.json TOKENS. Prints a JSON object."""
import json
import pathlib
import sys
import time

import mlx.core as mx
from mlx_lm.generate import generate_step
from mlx_lm.utils import load_model


def main():
    folder, ids, count = pathlib.Path(sys.argv[1]), json.loads(pathlib.Path(sys.argv[2]).read_text()), int(sys.argv[3])
    mx.set_default_device(mx.cpu)
    model, _ = load_model(folder)
    start = time.monotonic()
    moments = []
    for _ in generate_step(mx.array(ids), model, max_tokens=count):
        moments.append(time.monotonic())
    print(json.dumps({
        "prefill_tokens": len(ids), "prefill_seconds": moments[0] - start,
        "decode_tokens": count - 1, "decode_seconds": moments[-1] - moments[0],
    }))


if __name__ == "__main__":
    main()
