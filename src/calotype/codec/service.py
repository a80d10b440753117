"""The codec as the pipeline uses it: off the event loop, within the operator's limits."""

import asyncio
import hashlib
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from calotype.codec.decode import FileFormat, Header, decode, probe, sniff
from calotype.codec.encode import EncodeOptions, encode, fitting, keeps_pixels, unrepresentable
from calotype.codec.mask import (
    PARAM,
    Region,
    cut_out,
    find_region,
    put_back,
    unchanged_share,
    whiten_holes,
)
from calotype.codec.metadata import Metadata
from calotype.codec.resize import final_size, finished
from calotype.domain.image import Image, Size
from calotype.domain.request import FORMATS, ImageFormat, ParamValue, Stage
from calotype.domain.stage import naming
from calotype.errors import BadImageError, PayloadTooLargeError

OWN_FORMATS: dict[FileFormat, ImageFormat] = {"jpeg": "jpeg", "png": "png", "webp": "webp"}
"""What an input's own format is answered as; the rest become PNG."""


UNCHANGED = "unchanged-pixels"
"""Name of the fact that tells which share of the pixels is the input's own."""

COMPUTED_BITS = 8
"""Per sample, in every model so far."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What the operator lets through."""

    max_pixels: int
    max_output_pixels: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """Everything decoded that a request brought."""

    image: Image
    images: tuple[Mapping[str, Image], ...]
    """The image parameters of each stage, by name."""
    metadata: Metadata | None
    notes: tuple[str, ...] = ()
    """What of the upload is not in ``image``."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """What one stage works on."""

    original: Image
    """The upload, or what the stage before made of it."""
    image: Image
    """What of it the network gets: all, or a cut-out around the mask."""
    images: Mapping[str, Image]
    params: Mapping[str, ParamValue]
    """What the network is to be told."""
    region: Region | None
    """Where a mask says that the picture is repainted."""

    @property
    def is_done(self) -> bool:
        """Whether there is nothing to compute: the mask is empty."""
        return self.region is not None and self.region.is_empty


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What one stage made."""

    image: Image
    """At its exact size, with its alpha channel."""
    is_masked: bool = False
    """Whether a mask kept some pixels as they were."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What else is to be said of it, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """A finished file."""

    body: bytes
    format: ImageFormat
    etag: str
    """Digest of the body, without quotes."""
    notes: tuple[str, ...]
    """What the format could not hold."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec:
    """Bytes to images and back."""

    limits: Limits
    options: EncodeOptions = field(default_factory=EncodeOptions)
    keep_metadata: bool = False

    def choose_formats(
        self,
        upload: bytes,
        accepted: tuple[ImageFormat, ...],
        values: Mapping[str, ParamValue],
    ) -> tuple[ImageFormat, ...]:
        """Return what the answer may be written as: the first that can hold it is taken.

        That is the parameter's format, else what is accepted, else the input's own or PNG.

        Raises:
            BadImageError: the upload is no picture of a kind we read.
        """
        own = sniff(upload)
        if own is None:
            raise BadImageError(
                "cannot identify image file: it is none of JPEG, PNG, WebP, GIF, TIFF and AVIF"
            )
        wanted = values.get("output_format")
        if wanted in FORMATS:
            return (wanted,)
        return accepted or tuple(dict.fromkeys((OWN_FORMATS.get(own, "png"), "png")))

    async def decode(
        self, upload: bytes, stages: Sequence[Stage], formats: tuple[ImageFormat, ...]
    ) -> Upload:
        """Decode the picture and every image parameter.

        Raises:
            BadImageError: one of them is no picture.
            PayloadTooLargeError: one of them, or a result, has more pixels than allowed.
            InvalidParameterError: no format that is asked for can hold the result.
        """
        decoded = await asyncio.to_thread(
            decode, upload, self.limits.max_pixels, keep_metadata=self.keep_metadata
        )
        fitting(formats, self.result_size(decoded.image.size, stages))
        done: dict[bytes, Image] = {}  # stages may have a picture in common
        images = tuple([await self._decode_images(stage, done) for stage in stages])
        return Upload(
            image=decoded.image,
            images=images,
            metadata=decoded.metadata,
            notes=tuple(reductions(decoded.header)),
        )

    async def prepare(
        self, stages: Sequence[Stage], original: Image, images: Mapping[str, Image]
    ) -> Inputs:
        """Return what the first of the stages that are left works on.

        Args:
            stages: those left; now that the size of the picture is known, they are looked at anew.
            original: what it gets.
            images: its decoded image parameters.

        Raises:
            InvalidParameterError: its mask is missing, or of another size than the picture.
            PayloadTooLargeError: a result has more pixels than allowed.
        """
        self.result_size(original.size, stages)
        model, values, image = stages[0].model, stages[0].values, original
        if model.param(PARAM) is None:
            return Inputs(original=image, image=image, images=images, params=values, region=None)
        region = await asyncio.to_thread(find_region, model, original, images, values)
        if region is not None and not region.is_empty:
            image, mask = cut_out(original, region)
            images = {**images, PARAM: mask}
            # The size is that of the whole picture, which the network doesn't see.
            values = {name: value for name, value in values.items() if name != "target_size"}
        return Inputs(original=original, image=image, images=images, params=values, region=region)

    async def mask_of(self, holes: bytes, name: str) -> bytes:
        """Turn a picture whose transparent part is to be repainted into a mask.

        Args:
            holes: the file.
            name: of the field it was sent in, for messages.

        Returns:
            A PNG, white where the picture is transparent; equal pictures give equal bytes.

        Raises:
            BadImageError: it is no picture.
            PayloadTooLargeError: it has more pixels than allowed.
            InvalidParameterError: it has no alpha channel.
        """
        return await asyncio.to_thread(self._mask_of, holes, name)

    async def size_of(self, file: bytes) -> Size:
        """Return the size of a picture that was made here, from its header."""
        header = await asyncio.to_thread(probe, file, sys.maxsize)
        return header.size

    async def finish(self, stage: Stage, inputs: Inputs, pixels: Image) -> Made:
        """Lay the network's picture over what a mask keeps, and bring it to its final size."""
        original = inputs.original
        is_whole = inputs.region is None and (pixels.alpha is not None or original.alpha is None)
        if is_whole and pixels.size == final_size(original, pixels, stage):
            return Made(image=pixels)  # most often: not worth a thread
        return await asyncio.to_thread(_finish, stage, inputs, pixels)

    async def encode(self, made: Made, upload: Upload, formats: tuple[ImageFormat, ...]) -> Encoded:
        """Write the last stage's picture as a file."""
        return await asyncio.to_thread(self._encode, made, upload, formats)

    def _mask_of(self, holes: bytes, name: str) -> bytes:
        mask = whiten_holes(self._decode_parameter(name, holes), name)
        return encode(mask, "png", EncodeOptions(png_effort=1))  # two colours: small at any effort

    def _encode(self, made: Made, upload: Upload, formats: tuple[ImageFormat, ...]) -> Encoded:
        chosen = fitting(formats, made.image.size)
        lost = unrepresentable(made.image, chosen)
        if made.is_masked and not keeps_pixels(chosen, self.options):
            lost = f"{lost or f'{chosen} changes every pixel a little'}; output_format png doesn't"
        body = encode(made.image, chosen, self.options, upload.metadata)
        return Encoded(
            body=body,
            format=chosen,
            etag=hashlib.blake2b(body, digest_size=16).hexdigest(),
            notes=(*upload.notes, f"output; {lost}") if lost else upload.notes,
        )

    async def _decode_images(self, stage: Stage, done: dict[bytes, Image]) -> dict[str, Image]:
        """Decode the image parameters of a stage, but for those that are done."""
        images = {}
        with naming(stage):
            for name, value in stage.values.items():
                if not isinstance(value, bytes):
                    continue
                if value not in done:
                    done[value] = await asyncio.to_thread(self._decode_parameter, name, value)
                images[name] = done[value]
        return images

    def _decode_parameter(self, name: str, upload: bytes) -> Image:
        """Decode an image parameter; errors name it."""
        try:
            return decode(upload, self.limits.max_pixels).image
        except (BadImageError, PayloadTooLargeError) as error:
            raise type(error)(f"{error} (in {name})") from error

    def result_size(self, size: Size, stages: Sequence[Stage]) -> Size:
        """Tell what size will come out, and refuse what is too large before it is computed.

        Raises:
            PayloadTooLargeError: a result has more pixels than allowed.
        """
        for stage in stages:
            with naming(stage):
                size = self._stage_size(stage, size)
        return size

    def _stage_size(self, stage: Stage, size: Size) -> Size:
        """Tell what size one stage makes; a model that doesn't declare its scale counts as 1."""
        scale, target = stage.scale or 1, stage.values.get("target_size")
        limit = self.limits.max_output_pixels
        native = size.times(scale)
        if native.pixels > limit:
            raise PayloadTooLargeError(
                f"the result would be {native}, {native.pixels} pixels; at most {limit} are "
                f"allowed, which at x{scale} is a picture of {limit // scale**2} pixels, "
                f"got {size}"
            )
        if isinstance(target, Size) and target.pixels > limit:
            raise PayloadTooLargeError(
                f"target_size must have at most {limit} pixels, got {target}, "
                f"{target.pixels} pixels"
            )
        return target if isinstance(target, Size) else native


def reductions(header: Header) -> Iterator[str]:
    """Say what of a file was left out."""
    if header.frames > 1:
        yield f"input; only the first of {header.frames} frames is used"
    if header.bits > COMPUTED_BITS:
        yield f"input; {header.bits} bits a sample were rounded to {COMPUTED_BITS}"


def _finish(stage: Stage, inputs: Inputs, pixels: Image) -> Made:
    """As ``Codec.finish``, on this thread."""
    original, region = inputs.original, inputs.region
    whole = pixels if region is None else put_back(original, pixels, region)
    image = finished(original, whole, stage)
    share = None if region is None else unchanged_share(original, image)
    return Made(
        image=image,
        is_masked=region is not None,
        facts={} if share is None else {UNCHANGED: f"{share:.6g}"},
    )
