"""What makes two requests the same request."""

import asyncio

from blake3 import blake3

from calotype.domain.model import ModelSpec

CACHE_VERSION = 2
"""Raise it when equal requests begin to give other bytes."""

HASHED_INLINE_BYTES = 4 * 1024 * 1024
"""Larger uploads are hashed on a thread, so that nobody else waits; it takes 1 ms or more."""


async def name_answer(upload: bytes, model: ModelSpec, parameters: str, kind: str) -> str:
    """Return the ``cache_key``, without keeping the event loop from its work."""
    if len(upload) <= HASHED_INLINE_BYTES:
        return cache_key(upload, model, parameters, kind)
    return await asyncio.to_thread(cache_key, upload, model, parameters, kind)


def cache_key(upload: bytes, model: ModelSpec, parameters: str, kind: str) -> str:
    """Name an answer.

    Args:
        upload: the encoded picture exactly as received.
        model: its id and revision count, so that new weights never meet old answers.
        parameters: canonical text of the validated parameters, defaults filled in.
        kind: what the answer may be encoded as, and how.

    Returns:
        64 hex digits.
    """
    digest = blake3(upload)
    head = (str(CACHE_VERSION), str(len(upload)), model.id, model.revision, kind, parameters)
    digest.update("\0".join(head).encode())
    return digest.hexdigest()
