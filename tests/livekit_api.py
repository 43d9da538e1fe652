"""A local server that answers LiveKit's room service as far as a signed look at its rooms goes, for tests."""

from __future__ import annotations

from aiohttp import web
from livekit import api

KEY, SECRET = "APIabcdefgh", "a-secret-that-is-long-enough-for-hmac-256"


async def _list_rooms(request: web.Request) -> web.Response:
    token = request.headers.get("Authorization", "").removeprefix("Bearer ")
    try:
        claims = api.TokenVerifier(KEY, request.app[_SECRET]).verify(token)
    except Exception:
        return web.json_response({"code": "unauthenticated", "msg": "invalid token"}, status=401)
    if not (claims.video and claims.video.room_list):
        return web.json_response({"code": "unauthenticated", "msg": "permissions denied"}, status=401)
    return web.Response(body=api.ListRoomsResponse().SerializeToString(), content_type="application/protobuf")


_SECRET = web.AppKey("secret", str)


def create_app(secret: str = SECRET) -> web.Application:
    """The server; its key is `KEY`."""
    app = web.Application()
    app[_SECRET] = secret
    app.router.add_post("/twirp/livekit.RoomService/ListRooms", _list_rooms)
    return app
