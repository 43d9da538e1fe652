"""A web backend over the same memory as the voice agent's: what is remembered of whoever is signed in. No LiveKit.

MONGODB_URI=mongodb://localhost python web_backend.py
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable

from aiohttp import web

import lkmongo

MEMORY = web.AppKey("memory", lkmongo.Memory)
routes = web.RouteTableDef()
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


def signed_in(request: web.Request) -> str:
    """Who is signed in. Yours asks your login: never take an id that the browser can choose."""
    if user_id := request.headers.get("X-Signed-In"):  # set by a proxy that authenticates
        return user_id
    raise web.HTTPUnauthorized


@routes.get("/me")
async def remembered(request: web.Request) -> web.Response:
    """What is remembered of them: their name, and each fact."""
    people, user_id = request.app[MEMORY].people, signed_in(request)
    known = await people.show(user_id)
    facts = [{"label": fact.memory_type, "content": fact.content} for fact in await people.facts(user_id)]
    return web.json_response({"name": known.profile.name, "facts": facts})


@routes.get("/me/export")
async def export(request: web.Request) -> web.StreamResponse:
    """Everything that is stored about them, for an access request; piece by piece, as it may be much."""
    pieces = request.app[MEMORY].people.export(signed_in(request))
    first = await anext(pieces)  # whoever is unknown is told so before the answer has begun
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    await response.prepare(request)
    await response.write(first.encode())
    async for piece in pieces:
        await response.write(piece.encode())
    return response


@routes.delete("/me/facts/{label}")
async def forget(request: web.Request) -> web.Response:
    """Forget one fact, and what the last call was about."""
    await request.app[MEMORY].people.forget(signed_in(request), [request.match_info["label"]])
    return web.Response(status=204)


@routes.delete("/me")
async def erase(request: web.Request) -> web.Response:
    """Erase them: profile, facts, calls. The receipt names nobody; it proves that it was done, and when."""
    done = await request.app[MEMORY].people.erase(signed_in(request), by="the person, on our website")
    return web.json_response({"receipt": str(done.receipt.erase_id) if done.receipt else None})


@routes.get("/help")
async def search(request: web.Request) -> web.Response:
    """What the agent would quote from the knowledge base."""
    found = await request.app[MEMORY].knowledge.search(request.query.get("q", ""), limit=3)
    return web.json_response([{"title": hit.item.title, "content": hit.item.content} for hit in found.hits])


STATUS = (
    (lkmongo.NotFoundError, 404),
    (lkmongo.UsageError, 400),
    (lkmongo.NotReadyError, 409),  # they are in a call: try again
    (lkmongo.DatabaseError, 503),
)


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Answer with what is wrong: the messages of lkmongo hold no secret."""
    try:
        return await handler(request)
    except lkmongo.LkmongoError as error:
        status = next((status for kind, status in STATUS if isinstance(error, kind)), 500)
        return web.json_response({"error": error.message}, status=status)


async def opened(app: web.Application) -> AsyncIterator[None]:
    """One memory for the life of the process."""
    async with lkmongo.Memory() as memory:
        app[MEMORY] = memory
        yield


def create_app() -> web.Application:
    """The application, for a server of yours."""
    app = web.Application(middlewares=[errors])
    app.cleanup_ctx.append(opened)
    app.add_routes(routes)
    return app


if __name__ == "__main__":
    web.run_app(create_app(), host="127.0.0.1", port=8000)
