"""Score images on an aigid server, and print p_ai and the source, or the error code, of each.

Usage: python examples/python_client.py HOST:PORT IMAGE PROMPT [IMAGE PROMPT ...]
"""

import json
import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

if len(sys.argv) < 4 or len(sys.argv) % 2:
    sys.exit(__doc__)
address, names, prompts = sys.argv[1], sys.argv[2::2], sys.argv[3::2]
columns = {
    "image_bytes": [Path(name).read_bytes() for name in names],
    "prompt": [prompt.encode() for prompt in prompts],
}
inputs = []
for column, values in columns.items():
    inputs.append(triton.InferInput(column, [len(values), 1], "BYTES"))
    inputs[-1].set_data_from_numpy(np.array(values, dtype=object).reshape(-1, 1))
with triton.InferenceServerClient(address) as client:
    settings = client.get_model_config("aigid_pairs", client_timeout=60).config.parameters
    answer = client.infer("aigid_pairs", inputs, client_timeout=60)
real, *generators = json.loads(settings["labels"].string_value)
least_known = float(settings["open_set_threshold"].string_value or "-inf")
outputs = ("p_ai", "p_source", "known_score", "error")
for name, (p_ai,), p_source, (known_score,), (error,) in zip(
    names, *map(answer.as_numpy, outputs), strict=True
):
    generator = "other" if known_score < least_known else generators[p_source[1:].argmax()]
    source = real if p_ai < 0.5 else generator
    print(f"{name}: {error.decode() or f'{p_ai:.4f} {source}'}")
