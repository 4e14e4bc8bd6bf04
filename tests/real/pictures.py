"""Pictures for Home Assistant's push camera."""

import base64

import aiohttp

# The smallest JPEG that a browser shows; a comment segment makes each picture another.
_JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEASABIAAD/2wBDAP//////////////////////////////////////////////////////////////////"
    "////////////////////wAALCAABAAEBAREA/8QAFAABAAAAAAAAAAAAAAAAAAAAA//EABQQAQAAAAAAAAAAAAAAAAAAAAD/2gAIAQEAAD8AN//Z"
)


def picture(number: int) -> bytes:
    """One JPEG, another for each number."""
    comment = f"picture {number}".encode()
    return _JPEG[:2] + b"\xff\xfe" + (len(comment) + 2).to_bytes(2) + comment + _JPEG[2:]


async def push(http: aiohttp.ClientSession, webhook: str, jpeg: bytes) -> None:
    """Sets the push camera's picture."""
    form = aiohttp.FormData()
    form.add_field("image", jpeg, filename="picture.jpg", content_type="image/jpeg")
    async with http.post(f"/api/webhook/{webhook}", data=form) as answer:
        assert answer.status == 200
