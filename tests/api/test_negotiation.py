import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.api.negotiation import accepted_formats
from calotype.errors import NotAcceptableError


@pytest.mark.parametrize(
    ("accept", "formats"),
    [
        ("", ()),
        ("*/*", ()),
        ("image/*", ()),
        ("*", ()),
        ("*/*;q=0.3", ()),
        (" , ,", ()),
        ("text/html, */*;q=0.8", ()),
        ("image/avif,image/apng,image/*,*/*;q=0.8", ()),
        ("image/png", ("png",)),
        ("IMAGE/PNG", ("png",)),
        ("image/jpg", ("jpeg",)),
        ("image/webp, image/png", ("webp", "png")),
        ("image/webp;q=0.2, image/png;q=0.3", ("png", "webp")),
        ("image/webp;q=0.2;level=1, image/png;level=1;q=0.3", ("png", "webp")),
        ("image/webp, */*", ("webp", "png", "jpeg")),
        ("image/webp;q=0.5, */*", ("png", "jpeg", "webp")),
        ("image/png;q=0, */*", ("jpeg", "webp")),
        ("image/*;q=0, image/webp;q=0.001", ("webp",)),
        ("image/*;q=0, */*, image/jpeg", ("jpeg",)),
        ("image/png;q=0, image/png", ("png",)),
        ("image/png;q=high, image/webp", ("webp",)),
        ("image/png;q=1.5, image/webp", ("webp",)),
        ("image/avif,image/webp,image/apng,image/*,*/*;q=0.8", ("webp", "png", "jpeg")),
    ],
)
def test_ranks_what_we_write(accept: str, formats: tuple[str, ...]) -> None:
    assert accepted_formats(accept.encode()) == formats


@pytest.mark.parametrize(
    "accept", ["application/json", "image/gif", "image/png;q=0", "*/*;q=0", "text/*", "image/*;q=0"]
)
def test_refuses_what_leaves_nothing(accept: str) -> None:
    with pytest.raises(NotAcceptableError, match=r"Accept must allow one of image/png, "):
        accepted_formats(accept.encode())


@given(st.binary(max_size=200))
def test_any_bytes_are_an_answer_or_a_refusal(accept: bytes) -> None:
    try:
        formats = accepted_formats(accept)
    except NotAcceptableError:
        return
    assert len(set(formats)) == len(formats)
    assert set(formats) <= {"png", "jpeg", "webp"}
