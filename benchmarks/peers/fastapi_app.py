"""FastAPI under uvicorn with one process a core, as "Using the Request directly" of its documentation reads a body.

It has no batching. The photo is worked on inside the coroutine: with one process a core, handing it to FastAPI's
thread pool would only let threads fight over one interpreter lock.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import uvicorn
from fastapi import FastAPI, Request, Response

from benchmarks.peers.stack import PORT, WORKERS, Stack, make_stack

stacks: dict[str, Stack] = {}


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    """Load the model once in each process."""
    stacks["model"] = make_stack()
    yield


app = FastAPI(lifespan=lifespan)


@app.post("/predict")
async def predict(request: Request) -> Response:
    """Photo in, PNG out."""
    stack = stacks["model"]
    square, about = stack.decode(await request.body())
    (mask,) = stack.predict([square])
    return Response(stack.encode(mask, about), media_type="image/png")


if __name__ == "__main__":
    uvicorn.run("benchmarks.peers.fastapi_app:app", host="127.0.0.1", port=PORT, workers=WORKERS, log_level="warning")
