import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from calotype.domain.base64 import decode_base64
from calotype.errors import MalformedRequestError

contents = st.binary(min_size=1, max_size=200)


@given(contents, st.booleans(), st.booleans(), st.booleans(), st.booleans())
def test_every_spelling_decodes_to_the_same_bytes(
    content: bytes, url_safe: bool, padded: bool, wrapped: bool, uri: bool
) -> None:
    encode = base64.urlsafe_b64encode if url_safe else base64.b64encode
    text = encode(content).decode()
    text = text if padded else text.rstrip("=")
    text = "\r\n".join(text[i : i + 7] for i in range(0, len(text), 7)) if wrapped else text
    text = f" data:image/png;charset=x;base64,{text}" if uri else text
    assert decode_base64(text, "inputs") == content


@given(st.text(max_size=60))
def test_any_text_decodes_or_is_refused_by_name(text: str) -> None:
    try:
        message = "" if decode_base64(text, "mask_image") else "nothing decoded"
    except MalformedRequestError as error:
        message = str(error)
    assert not message or message.startswith("mask_image ")
    assert message.isascii()


@pytest.mark.parametrize(
    "url",
    ["http://a/b.png", "https://a/b.png", " HTTPS://a", "ftp://a/b", "file:///etc/passwd"],
)
def test_a_url_is_not_fetched_and_the_message_says_so(url: str) -> None:
    expected = "inputs is a URL; URLs are not fetched; send the picture itself, base64-encoded"
    with pytest.raises(MalformedRequestError) as caught:
        decode_base64(url, "inputs")
    assert str(caught.value) == expected


@pytest.mark.parametrize("text", ["", "  \n", "=", "data:image/png;base64,"])
def test_nothing_is_refused_as_empty(text: str) -> None:
    with pytest.raises(MalformedRequestError, match="inputs is empty"):
        decode_base64(text, "inputs")


@pytest.mark.parametrize(
    "text",
    [
        "a",
        "cat.png",
        "AAAA=AAA",
        "====",
        "A===",
        "data:image/png,AAAA",
        "\u00e4\u00f6AA",
        "AA\x00A",
        "{}",
    ],
)
def test_other_text_is_refused(text: str) -> None:
    with pytest.raises(MalformedRequestError, match="inputs must be a picture, base64-encoded"):
        decode_base64(text, "inputs")


def test_a_message_does_not_repeat_the_whole_upload() -> None:
    with pytest.raises(MalformedRequestError) as caught:
        decode_base64("!" * 1_000_000, "inputs")
    assert len(str(caught.value)) < 200
