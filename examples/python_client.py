"""Score images on an aigid server, and print p_ai and the source, or the error code, of each.

Usage: python examples/python_client.py HOST:PORT IMAGE PROMPT [IMAGE PROMPT ...]
"""

import sys
from pathlib import Path

import numpy as np
import tritonclient.grpc as triton

GENERATORS = ("sd21", "sdxl", "sd3", "dalle3", "midjourney")  # the labels after "real"

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
    answer = client.infer("aigid_pairs", inputs, client_timeout=60)
answers = zip(names, *map(answer.as_numpy, ("p_ai", "p_source", "error")), strict=True)
for name, (p_ai,), p_source, (error,) in answers:
    source = "real" if p_ai < 0.5 else GENERATORS[p_source[1:].argmax()]
    print(f"{name}: {error.decode() or f'{p_ai:.4f} {source}'}")
