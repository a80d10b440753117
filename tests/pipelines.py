"""Pipelines of random weights, a few hundred kilobytes each, as diffusers saves them."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    DDIMScheduler,
    DDPMScheduler,
    EulerAncestralDiscreteScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxTransformer2DModel,
    LCMScheduler,
    PNDMScheduler,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from transformers import (
    CLIPImageProcessor,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    CLIPVisionConfig,
)

WORDS = ("a", "photo", "make", "it", "snow", "night", "red", "blue", "ugly", "blurry", "turn")


def tokenizer() -> CLIPTokenizer:
    """Make a tokenizer of single letters and a few words."""
    letters = [chr(code) for code in range(33, 127)]
    pieces = ["<|startoftext|>", "<|endoftext|>", *letters, *(f"{c}</w>" for c in letters)]
    merges: list[tuple[str, str]] = []
    for word in WORDS:
        left = word[0] if len(word) > 1 else f"{word[0]}</w>"
        for place, letter in enumerate(word[1:], start=1):
            right = letter if place < len(word) - 1 else f"{letter}</w>"
            if (left, right) not in merges:
                merges.append((left, right))
            left += right
            if left not in pieces:
                pieces.append(left)
    vocab = {piece: number for number, piece in enumerate(pieces)}
    return CLIPTokenizer(vocab=vocab, merges=merges, model_max_length=77)


def text_config(**changes: Any) -> CLIPTextConfig:
    return CLIPTextConfig(
        **{
            "vocab_size": 300,
            "hidden_size": 32,
            "intermediate_size": 37,
            "num_attention_heads": 4,
            "num_hidden_layers": 2,
            "max_position_embeddings": 77,
            "bos_token_id": 0,
            "eos_token_id": 1,
            "pad_token_id": 1,
            "projection_dim": 32,
            **changes,
        }
    )


def unet(**changes: Any) -> UNet2DConditionModel:
    torch.manual_seed(0)
    return UNet2DConditionModel(
        **{
            "block_out_channels": (8, 16),
            "layers_per_block": 1,
            "sample_size": 32,
            "in_channels": 4,
            "out_channels": 4,
            "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
            "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
            "cross_attention_dim": 32,
            "attention_head_dim": 4,
            "norm_num_groups": 2,
            **changes,
        }
    )


def vae(**changes: Any) -> AutoencoderKL:
    torch.manual_seed(1)
    return AutoencoderKL(
        **{
            "block_out_channels": (8, 16),
            "in_channels": 3,
            "out_channels": 3,
            "latent_channels": 4,
            "norm_num_groups": 2,
            "down_block_types": ("DownEncoderBlock2D",) * 2,
            "up_block_types": ("UpDecoderBlock2D",) * 2,
            **changes,
        }
    )


def text_encoder(**changes: Any) -> CLIPTextModel:
    torch.manual_seed(2)
    return CLIPTextModel(text_config(**changes))


def schedule(kind: Any, **changes: Any) -> Any:
    if kind in (DDIMScheduler, PNDMScheduler):
        changes = {"steps_offset": 1, **changes}
    if kind is PNDMScheduler:
        changes = {"skip_prk_steps": True, **changes}
    if kind is DDIMScheduler:
        changes = {"clip_sample": False, **changes}
    return kind(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        num_train_timesteps=1000,
        **changes,
    )


def checker() -> tuple[Any, CLIPImageProcessor]:
    """Make a safety checker whose one concept a test can make fit everything, or nothing."""
    from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
    from transformers import CLIPConfig

    torch.manual_seed(3)
    vision = CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=37,
        num_attention_heads=4,
        num_hidden_layers=2,
        image_size=30,
        patch_size=6,
        projection_dim=32,
    )
    config = CLIPConfig(
        vision_config=vision.to_dict(), text_config=text_config().to_dict(), projection_dim=32
    )
    size = {"height": 30, "width": 30}
    return StableDiffusionSafetyChecker(config), CLIPImageProcessor(size=size, crop_size=size)


def sd_parts(scheduler: Any = DDIMScheduler, **unet_changes: Any) -> dict[str, Any]:
    return {
        "unet": unet(**unet_changes),
        "vae": vae(),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "scheduler": schedule(scheduler),
        "safety_checker": None,
        "feature_extractor": None,
    }


def pix2pix(**changes: Any) -> Any:
    parts = sd_parts(EulerAncestralDiscreteScheduler, in_channels=8) | changes
    return diffusers.StableDiffusionInstructPix2PixPipeline(
        **parts, requires_safety_checker=parts["safety_checker"] is not None
    )


def img2img(**changes: Any) -> Any:
    return diffusers.StableDiffusionImg2ImgPipeline(
        **(sd_parts(PNDMScheduler) | changes), requires_safety_checker=False
    )


def text2img() -> Any:
    """What most checkpoints are saved as."""
    return diffusers.StableDiffusionPipeline(**sd_parts(), requires_safety_checker=False)


def inpaint(**changes: Any) -> Any:
    return diffusers.StableDiffusionInpaintPipeline(
        **(sd_parts(in_channels=9) | changes), requires_safety_checker=False
    )


def _xl_parts(**unet_changes: Any) -> dict[str, Any]:
    parts = sd_parts(
        EulerDiscreteScheduler,
        **{
            "addition_embed_type": "text_time",
            "addition_time_embed_dim": 8,
            "transformer_layers_per_block": (1, 2),
            "projection_class_embeddings_input_dim": 72,
            "cross_attention_dim": 64,
            **unet_changes,
        },
    )
    del parts["safety_checker"], parts["feature_extractor"]
    torch.manual_seed(4)
    second = CLIPTextModelWithProjection(text_config())
    return parts | {"text_encoder_2": second, "tokenizer_2": tokenizer()}


def xl_img2img(**changes: Any) -> Any:
    return diffusers.StableDiffusionXLImg2ImgPipeline(
        **(_xl_parts(projection_class_embeddings_input_dim=72) | changes),
        requires_aesthetics_score=True,
    )


def xl_inpaint() -> Any:
    return diffusers.StableDiffusionXLInpaintPipeline(**_xl_parts(), requires_aesthetics_score=True)


def xl_pix2pix() -> Any:
    # Sizes and their targets are 6 numbers here, without a score: 6 * 8 + 32.
    parts = _xl_parts(in_channels=8, projection_class_embeddings_input_dim=80)
    return diffusers.StableDiffusionXLInstructPix2PixPipeline(**parts)


def upscale() -> Any:
    parts = sd_parts(in_channels=7, num_class_embeds=1000)
    low = DDPMScheduler()
    return diffusers.StableDiffusionUpscalePipeline(
        vae=vae(
            block_out_channels=(8, 8, 16),
            down_block_types=("DownEncoderBlock2D",) * 3,
            up_block_types=("UpDecoderBlock2D",) * 3,
        ),
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        unet=parts["unet"],
        low_res_scheduler=low,
        scheduler=parts["scheduler"],
        max_noise_level=350,
    )


def latent_upscale() -> Any:
    torch.manual_seed(0)
    network = UNet2DConditionModel(
        act_fn="gelu",
        attention_head_dim=8,
        norm_num_groups=None,
        block_out_channels=[32, 32, 64, 64],
        time_cond_proj_dim=160,
        conv_in_kernel=1,
        conv_out_kernel=1,
        cross_attention_dim=32,
        down_block_types=(
            "KDownBlock2D",
            "KCrossAttnDownBlock2D",
            "KCrossAttnDownBlock2D",
            "KCrossAttnDownBlock2D",
        ),
        in_channels=8,
        mid_block_type=None,
        only_cross_attention=False,
        out_channels=5,
        resnet_time_scale_shift="scale_shift",
        time_embedding_type="fourier",
        timestep_post_act="gelu",
        up_block_types=(
            "KCrossAttnUpBlock2D",
            "KCrossAttnUpBlock2D",
            "KCrossAttnUpBlock2D",
            "KUpBlock2D",
        ),
    )
    return diffusers.StableDiffusionLatentUpscalePipeline(
        vae=vae(
            block_out_channels=(8, 8, 16, 16),
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
        ),
        text_encoder=text_encoder(),
        tokenizer=tokenizer(),
        unet=network,
        scheduler=EulerDiscreteScheduler(prediction_type="sample"),
    )


def lcm() -> Any:
    parts = sd_parts(LCMScheduler, time_cond_proj_dim=32)
    return diffusers.LatentConsistencyModelImg2ImgPipeline(**parts, requires_safety_checker=False)


def _t5(d_model: int = 32) -> tuple[Any, Any]:
    """Make a T5 encoder and a tokenizer for it."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, T5Config, T5EncoderModel

    torch.manual_seed(5)
    vocab = {piece: n for n, piece in enumerate(["<pad>", "</s>", "<unk>", *WORDS])}
    plain = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Whitespace()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=plain, pad_token="<pad>", eos_token="</s>", unk_token="<unk>"
    )
    config = T5Config(
        vocab_size=32,
        d_model=d_model,
        d_kv=8,
        d_ff=37,
        num_layers=2,
        num_heads=4,
        decoder_start_token_id=0,
    )
    return T5EncoderModel(config), fast


def _flux_parts(in_channels: int, out_channels: int | None = None) -> dict[str, Any]:
    torch.manual_seed(6)
    network = FluxTransformer2DModel(
        patch_size=1,
        in_channels=in_channels,
        out_channels=out_channels,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=32,
        pooled_projection_dim=32,
        axes_dims_rope=(4, 4, 8),
        guidance_embeds=True,
    )
    t5, t5_tokenizer = _t5()
    return {
        "transformer": network,
        "vae": vae(
            latent_channels=1,
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5035,
        ),
        "text_encoder": text_encoder(),
        "tokenizer": tokenizer(),
        "text_encoder_2": t5,
        "tokenizer_2": t5_tokenizer,
        "scheduler": FlowMatchEulerDiscreteScheduler(),
    }


def kontext() -> Any:
    return diffusers.FluxKontextPipeline(**_flux_parts(4))


def fill() -> Any:
    return diffusers.FluxFillPipeline(**_flux_parts(24, 4))


def sd3() -> Any:
    torch.manual_seed(7)
    network = SD3Transformer2DModel(
        sample_size=32,
        patch_size=2,
        in_channels=4,
        out_channels=4,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        caption_projection_dim=32,
        joint_attention_dim=72,
        pooled_projection_dim=64,
        pos_embed_max_size=32,
    )
    torch.manual_seed(8)
    first, second = (CLIPTextModelWithProjection(text_config()) for _ in range(2))
    t5, t5_tokenizer = _t5(72)
    return diffusers.StableDiffusion3Img2ImgPipeline(
        transformer=network,
        vae=vae(
            use_quant_conv=False,
            use_post_quant_conv=False,
            shift_factor=0.0609,
            scaling_factor=1.5035,
        ),
        text_encoder=first,
        tokenizer=tokenizer(),
        text_encoder_2=second,
        tokenizer_2=tokenizer(),
        text_encoder_3=t5,
        tokenizer_3=t5_tokenizer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
    )


FAMILIES: dict[str, Callable[[], Any]] = {
    "pix2pix": pix2pix,
    "img2img": img2img,
    "text2img": text2img,
    "inpaint": inpaint,
    "xl-img2img": xl_img2img,
    "xl-inpaint": xl_inpaint,
    "xl-pix2pix": xl_pix2pix,
    "upscale": upscale,
    "latent-upscale": latent_upscale,
    "lcm": lcm,
    "sd3": sd3,
    "kontext": kontext,
    "fill": fill,
}
"""One of each family that can be built small."""


def save(folder: Path, name: str, pipe: Any, **changes: Any) -> Path:
    """Save a pipeline as ``acme/NAME`` in a models folder; changes go into its index."""
    place = folder / "acme" / name
    pipe.save_pretrained(place, safe_serialization=True)
    if changes:
        index = place / "model_index.json"
        index.write_text(json.dumps(json.loads(index.read_text()) | changes))
    return place
