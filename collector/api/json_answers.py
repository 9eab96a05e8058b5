"""JSON answers on their way out: long ones are compressed where the client takes that."""

import asyncio
import gzip

from starlette.requests import Request
from starlette.responses import Response

from collector.answers.encoding import EncodedJson

# below this a packet or two are all that is saved
MIN_COMPRESSED_BYTES = 32 * 1024
# a tenth of the time of the default, and 10,000 spans still shrink to a tenth
LEVEL = 1


async def json_answer(request: Request, encoded: EncodedJson) -> Response:
    """The document as an answer of status 200."""
    headers = {"Vary": "Accept-Encoding"}
    if len(encoded) >= MIN_COMPRESSED_BYTES and "gzip" in request.headers.get("Accept-Encoding", ""):
        headers["Content-Encoding"] = "gzip"
        compressed = await asyncio.to_thread(gzip.compress, encoded, LEVEL, mtime=0)
        return Response(compressed, media_type="application/json", headers=headers)
    return Response(encoded, media_type="application/json", headers=headers)
