"""A local server for clients of Vercel KV and of Upstash Redis: their REST protocol over a Valkey.

    kvlab rest

prints an address and a token. ``@vercel/kv``, ``@upstash/redis``, ``upstash-redis`` (Python) and
``kvlab.connect("http://127.0.0.1:8079", token=…)`` develop and test against it, offline.

Guarantee:

* A request is a command in the path (``/set/key/value``) or as a JSON array in the body of
  ``POST /``; ``/pipeline`` and ``/multi-exec`` take an array of such arrays. The answer is
  ``{"result": …}`` or ``{"error": …}``, or an array of these. With ``Upstash-Encoding: base64``
  every string but "OK" is encoded.
* A number in a command reaches the store with the digits that were sent.
* Without a token of this gateway a request gets 401, and learns nothing else. Tokens are compared
  in constant time. The read-only token runs what the store itself lists in "@read" and not in
  "@dangerous": no write, no script (a script sees every key and database), no KEYS, and neither
  SCAN nor RANDOMKEY.
* A command that changes its connection or the server, waits, listens, or names another database
  is refused. So is what the store did not list when the gateway began.
* A request whose end two readers may see in two places (two lengths, Transfer-Encoding beside
  Content-Length or from HTTP/1.0) is refused, and its connection closed.
* A body has at most ``MAX_BODY`` bytes, and must come within ``PATIENCE`` seconds. An answer has
  at most ``MAX_ANSWER`` bytes: instead of a larger one comes an error, which says that the commands
  ran.
* A refused command is never repeated, and neither is a lost one: 503 means that nothing ran, 504
  that nobody knows.

Keys: the gateway has none. One token is one store: a second store is a second gateway.

Not promised: TLS; a limit on what the holder of the full token can do to the store's data, memory
and time (FLUSHALL, a script without an end, other databases by a script); less memory than the
store's own reply takes, which is read before the answer is measured; subscriptions; the RESP2
format of answers.
"""

from kvlab.rest.protocol import MAX_ANSWER
from kvlab.rest_gateway.child_process import ServedGateway, serving
from kvlab.rest_gateway.gateway import MAX_BODY, PATIENCE, Gateway
from kvlab.rest_gateway.tokens import Tokens

__all__ = ["MAX_ANSWER", "MAX_BODY", "PATIENCE", "Gateway", "ServedGateway", "Tokens", "serving"]
