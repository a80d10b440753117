"""From an ``ImageResponse`` to the headers of an HTTP answer."""

from http import HTTPStatus

from calotype.domain.model import ModelSpec
from calotype.domain.params import shown
from calotype.domain.request import ImageResponse

MAX_SHOWN = 512
"""Sets of parameters whose JSON is remembered, and models whose headers are."""

_NO_CONTENT = (b"content-type", b"content-length")

RawHeaders = list[tuple[bytes, bytes]]


class Answers:
    """Writes answers; remembers what many of them share."""

    def __init__(self) -> None:
        self._models: dict[tuple[str, str], RawHeaders] = {}
        self._shown: dict[tuple[object, ...], bytes] = {}

    def headers(
        self, response: ImageResponse, warnings: tuple[str, ...], total_s: float
    ) -> RawHeaders:
        """Describe a picture and how it came to be.

        Args:
            response: what the pipeline made.
            warnings: of the reading of the request; those of the run are in the response.
            total_s: from the first byte of the request to now.
        """
        headers = [
            (b"content-type", b"image/" + response.format.encode()),
            (b"content-length", b"%d" % len(response.body)),
            (b"etag", b'"%s"' % response.etag.encode()),
            (b"x-cache", response.cache.encode()),
            (b"x-compute-type", response.compute_type.encode()),
            (b"x-compute-time", b"%.3f" % response.compute_s),
            (b"x-queue-time", b"%d" % _ms(response.queue_s)),
            (b"x-inference-time", b"%d" % _ms(response.inference_s)),
            (b"x-total-time", b"%d" % _ms(total_s)),
            (b"x-batch-size", b"%d" % response.batch_size),
            *self._of_model(response.model),
            (b"x-parameters-applied", self._applied(response)),
        ]
        if response.seed is not None:
            headers.append((b"x-seed", b"%d" % response.seed))
        headers += [
            (b"x-" + name.encode("latin-1", "replace"), value.encode("latin-1", "replace"))
            for name, value in response.facts.items()
        ]
        headers += [
            (b"x-hf-warning", warning.encode("latin-1", "replace"))
            for warning in (*warnings, *response.warnings)
        ]
        return headers

    def _of_model(self, model: ModelSpec) -> RawHeaders:
        """Return the headers that name a model."""
        key = (model.id, model.revision)
        if (headers := self._models.get(key)) is None:
            if len(self._models) >= MAX_SHOWN:  # chains have names without end
                self._models.clear()
            headers = self._models[key] = [
                (b"x-model-id", model.id.encode("latin-1", "replace")),
                (b"x-model-revision", model.revision.encode("latin-1", "replace")),
            ]
        return headers

    def _applied(self, response: ImageResponse) -> bytes:
        """Return the JSON of what was really used."""
        model, stages = response.model, response.stages
        values = [item for stage in stages for item in stage.values.items()]
        if any(isinstance(value, bytes) for _, value in values):
            return shown(stages).encode()  # to remember whole pictures would cost memory
        key = (model.id, model.revision, *values)
        if (text := self._shown.get(key)) is None:
            if len(self._shown) >= MAX_SHOWN:
                self._shown.clear()
            text = self._shown[key] = shown(stages).encode()
        return text


def not_modified(if_none_match: bytes | None, etag: str) -> bool:
    """Tell whether a client says that it has the answer already.

    Args:
        if_none_match: value of the header, its lines joined: tags, weak ones too, or ``*``.
        etag: of the answer, without quotes.

    Source:
        RFC 9110, section 13.1.2.
    """
    if if_none_match is None:
        return False
    tags = (tag.strip() for tag in if_none_match.split(b","))
    ours = b'"%s"' % etag.encode()
    return any(tag == b"*" or tag.removeprefix(b"W/") == ours for tag in tags)


def conditional(
    if_none_match: bytes | None, etag: str, headers: RawHeaders, body: bytes
) -> tuple[HTTPStatus, RawHeaders, bytes]:
    """Return the status, the headers and the body for a client that may have the picture.

    Args:
        if_none_match: as for ``not_modified``.
        etag: of the picture, without quotes.
        headers: of an answer that has it.
        body: the picture.
    """
    if not_modified(if_none_match, etag):
        return HTTPStatus.NOT_MODIFIED, without_content(headers), b""
    return HTTPStatus.OK, headers, body


def without_content(headers: RawHeaders) -> RawHeaders:
    """Return the headers of an answer that has no body."""
    return [header for header in headers if header[0] not in _NO_CONTENT]


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
