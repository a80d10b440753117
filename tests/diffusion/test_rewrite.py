"""Layers said in another way compute the same."""

import pytest
import torch
from diffusers.models.activations import GEGLU
from diffusers.models.upsampling import Upsample2D
from torch import nn
from torch.nn import functional

from calotype.backends.diffusion.rewrite import merged, rewritten, translated


@pytest.mark.parametrize(("h", "w"), [(1, 1), (3, 5), (8, 8)])
@pytest.mark.parametrize("bias", [True, False])
def test_a_doubling_and_its_convolution(h: int, w: int, bias: bool) -> None:
    torch.manual_seed(0)
    layer = Upsample2D(6, use_conv=True, out_channels=10, bias=bias).double()
    x = torch.randn(2, 6, h, w, dtype=torch.float64)
    expected = layer(x)
    with rewritten(layer):
        layer.double()
        found = layer(x)
        assert "merged" in dict(layer.named_children())
    assert expected.shape == found.shape == (2, 10, 2 * h, 2 * w)
    assert (found - expected).abs().max() < 1e-6
    assert "merged" not in dict(layer.named_children()), "nothing is left behind"
    assert torch.equal(layer(x), expected)


def test_a_size_that_is_no_double_keeps_the_original() -> None:
    layer = Upsample2D(4, use_conv=True)
    x = torch.randn(1, 4, 3, 3)
    expected = layer(x, output_size=(5, 5))
    with rewritten(layer):
        assert torch.equal(layer(x, output_size=(5, 5)), expected)


def test_a_gated_layer() -> None:
    torch.manual_seed(0)
    layer = GEGLU(8, 12)
    x = torch.randn(2, 5, 8)
    expected = layer(x)
    with rewritten(layer):
        found = layer(x)
    assert (found - expected).abs().max() < 1e-6


def test_what_is_left_alone() -> None:
    for layer in (Upsample2D(4), Upsample2D(4, use_conv_transpose=True), nn.Conv2d(3, 3, 3)):
        x = torch.randn(1, 4 if isinstance(layer, Upsample2D) else 3, 4, 4)
        expected = layer(x)
        with rewritten(layer):
            assert torch.equal(layer(x), expected)


def test_merging_is_linear_so_adapters_are_merged_too() -> None:
    torch.manual_seed(0)
    kernel, delta = torch.randn(3, 2, 3, 3), torch.randn(3, 2, 3, 3)
    said = translated("up.0.conv.weight", delta)
    assert torch.allclose(
        merged(kernel) + said["up.0.merged.weight"], merged(kernel + delta), atol=1e-5
    )
    x = torch.randn(1, 2, 4, 4)
    quarter = functional.conv2d(x, merged(kernel), padding=1)[:, :3, :-1, :-1]
    whole = functional.conv2d(x.repeat_interleave(2, 2).repeat_interleave(2, 3), kernel, padding=1)
    assert torch.allclose(quarter, whole[:, :, ::2, ::2], atol=1e-5)
