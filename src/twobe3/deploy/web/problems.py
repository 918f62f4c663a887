"""What the page answers where something is refused: a code of twobe3, a reason and a remedy, under an HTTP status."""

from __future__ import annotations

from typing import Any

from fastapi.responses import JSONResponse
from pydantic import BaseModel

from twobe3.core.codes import Code
from twobe3.core.errors import ConfigurationError, TwoBe3Error

RETRY_AFTER_S = 5
STATUSES = {
    Code.TOKEN_REFUSED: 401,
    Code.ORIGIN_REFUSED: 403,
    Code.NOT_FOUND: 404,
    Code.UPLOAD_SLOW: 408,
    Code.TOO_LARGE: 413,
    Code.UPLOAD_INVALID: 422,
    Code.CORRUPT_FILE: 422,
    Code.QUEUE_FULL: 429,
    Code.INTERNAL_ERROR: 500,
    Code.WRITE_FAILED: 503,
}
DESCRIPTIONS = {
    401: "No token, or another one than the server's",
    403: "A foreign name of the host, or a page of somebody else",
    404: "Nothing is there, or no longer",
    405: "The address does not know the method",
    408: "The upload did not arrive in time",
    413: "More bytes or files than may be sent, or a zip file that unpacks to too much",
    422: "Not what the address takes",
    429: "As many predictions wait as may",
    500: "An error that nobody foresaw",
    503: "The disk is full or cannot be written",
}


class Problem(BaseModel):
    """Why a request was refused."""

    code: str
    reason: str
    remedy: str


def document_problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """What the OpenAPI document says of the statuses of a route, besides those that every route has."""
    return {
        status: {
            "model": Problem,
            "description": DESCRIPTIONS[status],
            **({"headers": {"Retry-After": {"schema": {"type": "string"}}}} if status in (429, 503) else {}),
        }
        for status in sorted({401, 403, 500, *statuses})
    }


def answer_problem(error: TwoBe3Error) -> JSONResponse:
    """The answer to a request that was refused."""
    status = STATUSES.get(error.code, 500)
    headers = {}
    if status in (429, 503):
        headers["Retry-After"] = str(RETRY_AFTER_S)
    if status == 401:
        headers["WWW-Authenticate"] = "Bearer"
    problem = Problem(code=error.code.name, reason=error.reason, remedy=error.remedy)
    return JSONResponse(problem.model_dump(), status, headers)


def not_found(reason: str = "nothing is there", *, remedy: str | None = None) -> ConfigurationError:
    """``NOT_FOUND``; the remedy is that of what was deleted after its time, unless another is given."""
    return ConfigurationError(Code.NOT_FOUND, reason, remedy=remedy)
