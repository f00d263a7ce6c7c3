"""A store behind HTTPS (Vercel KV, Upstash Redis, ``kvlab rest``) for both executors.

    kv = kvlab.connect("https://NAME.upstash.io", token=…)     # or KV_REST_API_URL and _TOKEN
    kv.run(limiter.hit("203.0.113.7"), sessions.read(sid))     # one request

The store is a redis-py client whose connections speak HTTP. So ops, batches, transactions,
scripts, retries, deadlines, outages, prefixes and traces are those of the executors, and
``kv.client`` works.

Guarantee:

* One round trip is one request: a command, ``/pipeline``, or ``/multi-exec`` with ``atomic=True``.
  Connections are kept open.
* Replies are binary-safe (base64), as on TCP.
* The answer says what happened. 401: :class:`~kvlab.errors.ServerRefused` with the code WRONGPASS.
  429: nothing ran, so every op is retried until ``deadline``, after ``Retry-After`` if the store
  says so; then :class:`~kvlab.errors.CannotServe` with the code TOOMANYREQUESTS. Any other status
  below 500: ``ServerRefused``, nothing ran. 500 and more, a page that is not JSON, a lost answer:
  :class:`~kvlab.errors.OutcomeUnknown`, since a proxy may have answered for the store.
* The pauses between retries grow to a second, each with a random part.
* An answer of more than ``MAX_ANSWER`` bytes is not read to its end:
  :class:`~kvlab.errors.AnswerTooLarge`, an ``OutcomeUnknown``, without a retry. The
  next call has a new connection.
* What needs a connection that stays open (BLPOP, SUBSCRIBE, WATCH, SELECT …), and an argument that
  JSON cannot carry (bytes that are not UTF-8), is refused with
  :class:`~kvlab.errors.NotOverHttp` before it is sent; its neighbours in a batch run. A lock waits
  by asking again, and a flag watcher polls.
* No message, repr or log has the token. Redirects are not followed. Only loopback is spoken to
  without TLS.

Not promised: a way through an HTTP proxy; arguments that are not UTF-8. The first call on a new
connection pays for TCP and TLS.

Needs the extra ``rest``: ``pip install "kvlab[rest]"``.
"""

from kvlab.rest.address import RestAddress

__all__ = ["RestAddress"]
