"""Write the trained network as Calotype reads it: OpenVINO's form, weights in half precision.

    python -m training.colorize.export --run /tmp/colorize/colorize.pt --to src/calotype/weights

The network that is written takes lightness and gives a* and b*: the mean of the cells under
sharpened odds.
"""

import argparse
import hashlib
from pathlib import Path

import openvino as ov
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from training.colorize.network import Colorizer, annealed

EXAMPLE = (2, 1, 128, 192)


class Painter(nn.Module):
    """Lightness in, a* and b* out."""

    def __init__(self, network: Colorizer, centres: Tensor, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.temperature = temperature
        self.centres = nn.Buffer(centres)

    def forward(self, lightness: Tensor) -> Tensor:
        """Return (n, 2, h/2, w/2) for (n, 1, h, w), L* / 50 - 1."""
        logits, _ = self.network(lightness)
        return annealed(logits, self.centres, self.temperature)


def load(kept: Path) -> tuple[Colorizer, Tensor]:
    """Return the averaged network of a run, and the cells of colour."""
    state = torch.load(kept, weights_only=True, map_location="cpu")
    centres = state["cells"]
    network = Colorizer(len(centres))
    averaged = {
        name.removeprefix("module."): value
        for name, value in state["average"].items()
        if name.startswith("module.")
    }
    network.load_state_dict(averaged)
    return network.eval(), centres


def main() -> None:
    """Export, and print the digests."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--run", type=Path, required=True, help="what train.py kept")
    parser.add_argument("--to", type=Path, required=True, help="folder to write to")
    parser.add_argument("--temperature", type=float, default=0.85)
    asked = parser.parse_args()
    network, centres = load(asked.run)
    painter = Painter(network, centres, asked.temperature).eval()
    example = torch.zeros(EXAMPLE)
    frontend = FrontEndManager().load_by_framework("pytorch")
    with torch.no_grad():
        traced = TorchScriptPythonDecoder(painter, example_input=(example,))
        model = frontend.convert(frontend.load(traced))
    model.reshape([-1, 1, -1, -1])
    asked.to.mkdir(parents=True, exist_ok=True)
    xml = asked.to / "colorize.xml"
    ov.save_model(model, xml, compress_to_fp16=True)
    for file in (xml, xml.with_suffix(".bin")):
        content = file.read_bytes()
        print(f"{file.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
