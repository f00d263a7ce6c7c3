# %% [markdown]
# # The same over HTTPS
#
# *About 25 minutes. Before this chapter: 00 and 07.*
#
# Some programs cannot open a TCP connection to a store: functions at the edge, or code in a place
# where only HTTPS leaves the network. For them Vercel KV and Upstash offer Redis **behind HTTPS**:
# a command is a request, and its reply is JSON. The tutorial of this workbook was written for such
# a store.
#
# An op is data. So the patterns do not change: another executor (`kv`, which runs ops) carries the
# same ops.
#
# **The guarantee we want:**
#
# - one `run` is one request, whatever the number of ops;
# - the results are those of TCP, and `atomic=True` is still all or nothing;
# - what HTTP cannot do is refused before it is sent, and each pattern says what it does instead.

# %% [markdown]
# ## A store behind HTTP, on this machine
#
# `kvlab rest` is a small server for the same protocol. It needs no account and no network. In a
# terminal it prints the address and the token that `@vercel/kv` and `@upstash/redis` read. The second
# cell below starts one for this notebook, over the same Valkey that the other chapters use.

# %%
import pandas as pd

import kvlab
from kvlab import Key, Op
from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.instruments import environment

url = server_url()  # the embedded Valkey, or KVLAB_URL
tcp = open_chapter("ch13", url)
pd.Series(environment(tcp), name="the numbers below were measured on").to_frame()

# %%
from kvlab.chapters.rest.gateway import open_gateway

gateway = open_gateway(url)
print(gateway.url)

# %% [markdown]
# In your program **one line is different**: the address, with its token.

# %%
http = kvlab.connect(gateway.url, token=gateway.token, prefix=tcp.prefix)
print(http)

# %% [markdown]
# Both executors have the same prefix, so they see the same keys. What one writes, the other reads.

# %%
tcp.run(Op("SET", Key("greeting"), "written over TCP", "EX", 60))
print(http.run(Op("GET", Key("greeting"))))

# %% [markdown]
# The next cell shows what travels. A client without kvlab sends the same request: the command is an
# array in the body.

# %%
import httpx

headers = {"Authorization": f"Bearer {gateway.token}"}
answer = httpx.post(gateway.url, json=["GET", f"{tcp.prefix}greeting"], headers=headers)
print(answer.status_code, answer.text)

# %% [markdown]
# ## The tutorial, over HTTP
#
# The tutorial's rate limiter awaits two commands: INCR, and then EXPIRE when the counter is new.
# Over HTTP each of the two is a request. A visit of a web page asks more than the limiter: who is
# logged in, which flags are on, and what is cached.

# %%
from kvlab import FeatureFlags, FixedWindow, SessionStore

limiter = FixedWindow("api", limit=1_000_000, window=60)
sessions = SessionStore(idle=1800, absolute=86_400)
session = tcp.run(sessions.create("ann"))
visit = [
    limiter.hit("203.0.113.7"),
    sessions.read(session.id),
    FeatureFlags("site", {"new-page": False}).read_all(),
    Op("GET", Key("greeting"), idempotent=True),
]

# %% tags=["predict"]
from kvlab.workshop import predict

requests = predict(
    "13-requests",
    "A visit asks all four patterns. How many requests does `http.run(*visit)` make?",
)

# %%
decision, ann, snapshot, greeting = http.run(*visit)  # loads the scripts
before = http.round_trips
again = http.run(*visit)
one_run = http.round_trips - before
print(f"{one_run} request: user {ann.user}, {decision.remaining:,} hits left")

# %% tags=["predict"]
requests.measured(one_run)

# %% [markdown]
# One request, to `/pipeline`. The first run needed a second request: the store did not know the
# scripts, so their texts were sent once.
#
# ## What a round trip costs

# %% tags=["predict"]
four_guess = predict(
    "13-four-runs",
    "Over HTTP, how many times as long do four runs take as one run of the four ops?",
)

# %%
from kvlab.chapters.rest.visits import time_of_visits, visits_chart

executors = {"TCP": tcp, "HTTP": http}
times = time_of_visits(executors, visit, turns=7)
visits_chart(times)

# %% tags=["predict"]
four_guess.measured(times.attrs["saved"].ratio)

# %% [markdown]
# Nearly all of the time over HTTP is the request itself: its head, its parsing, two processes that
# speak HTTP. The four ops cost little. So **over HTTP it matters more that one `run` is one
# request**. On this machine there is no distance and no TLS; both make each request longer, and the
# advice the same.

# %%
times.set_index(["through", "visit"]).round(2)

# %% [markdown]
# ## What HTTP cannot do
#
# A connection of TCP stays open. So a command can wait in the server (BLPOP), and the server can
# speak first (SUBSCRIBE). A request has one answer, and then it is over.

# %% tags=["predict"]
missing_guess = predict(
    "13-missing",
    "The next cell tries nine abilities on both executors. How many are missing "
    "over HTTP?",
)

# %%
from kvlab.chapters.rest.capabilities import capabilities

table = capabilities(executors)
table

# %% tags=["predict"]
missing_guess.measured(int((table["HTTP"] != "yes").sum()))

# %% [markdown]
# The table is computed: each cell was tried just now. The last two rows say that the patterns still
# hold. A lock waits by asking again, and a flag watcher reads again.
#
# What does that cost? The next cell measures how long a caller waits after the release of a lock
# until the caller has the lock.

# %%
from kvlab.chapters.rest.capabilities import wake_up

waits = {name: [wake_up(kv) * 1e3 for _ in range(5)] for name, kv in executors.items()}
pd.DataFrame(waits).median().round(1).rename("ms from release to the waiter").to_frame()

# %% [markdown]
# Over TCP the release wakes the waiter. Over HTTP the waiter comes at its next question: up to
# 100 ms later. A waiter that must be faster needs TCP.
#
# ## What a failure is called
#
# Between the client and the store stand more machines than over TCP: a gateway, a load balancer, a
# limit of the plan. Each of them may answer. The executor asks one question: **may the op have
# run?**

# %%
from kvlab.errors import KvlabError

reader = kvlab.connect(gateway.url, token=gateway.read_only_token, prefix=tcp.prefix)
stranger = kvlab.connect(gateway.url, token="a-wrong-token", prefix=tcp.prefix)
for who in (reader, stranger):
    for op in (Op("GET", Key("greeting")), Op("INCR", Key("n"))):
        try:
            print(who.run(op))
        except KvlabError as problem:
            print(f"{type(problem).__name__}: {problem}")

# %% [markdown]
# The read-only token reads, and a wrong token does nothing. Both are refusals: nothing ran.
#
# | answer | error | may the op have run? |
# | --- | --- | --- |
# | no connection | `ServerUnavailable` | no |
# | 401, a wrong or expired token | `ServerRefused`, code WRONGPASS | no |
# | 429, too many requests, until `deadline` (the seconds that one `run` may take) | `CannotServe`, code TOOMANYREQUESTS | no |
# | 500, 502, 503, 504, or a page that is not JSON | `OutcomeUnknown` | yes |
# | the answer is lost | `OutcomeUnknown` | yes |
#
# As over TCP, an op that is idempotent is retried when its answer is lost, and no other op is. After
# a 429 every op is retried, since nothing ran. The pauses between retries grow. And
# `outage=` of a limiter covers every row but the second.
#
# ## The limits that remain
#
# - **Each request is paid for twice**: in time, and on the products in money. Count `round_trips`.
# - **A waiter asks again, and each question is a request.** Prefer `wait=0` where you can.
# - **The client of the tutorial guesses.** `@vercel/kv` turns the text `1` into the number 1 and
#   then compares it with `'1'`, so the tutorial's flag is never true. An op has its own `decode`.
# - **A token is a password.** The executor never shows its token, and speaks `http://` to this
#   machine only. A read-only token may be given to a browser; it can still read every key.

# %% tags=["finding"]
from kvlab.instruments.charts.ratios import in_words

cost = in_words(
    times.attrs["http"], "a run over HTTP takes {} times as long as over TCP"
)
missing = int((table["HTTP"] != "yes").sum())
print(
    f"four patterns in one request; {cost}; {missing} of {len(table)} abilities are "
    "missing, and every pattern holds without them"
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/13_rest.ipynb` has a short exercise (10 minutes) and a longer one.
#
# 1. `ran`: what an answer says about a command.
# 2. `transfer`: a transfer that needs no connection of its own.

# %% tags=["exercise-setup"]
import json

from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: did it run?
#
# Write `ran(status, text)`. A command was sent to the store, and this came back: the HTTP status, or
# `None` if there was no connection; and the text of the body. Return `True` if the command ran, `False` if
# it did not, and `None` if nobody knows.
#
# - The store answers a command with status 200 and a JSON object that has a `result`.
# - Status 400 to 499 is a refusal: the command was not carried out.
# - Every other answer may come from a machine between you and the store.
#
# If you need help, run `hint("13-short")`: three hints, then a solution.


# %% tags=["stub"]
def ran(status, text):
    return status == 200  # who wrote the text? and what does a 503 say?


# %% tags=["solution"]
def ran(status, text):
    if status is None or 400 <= status < 500:
        return False
    try:
        said = json.loads(text)
    except ValueError:
        return None
    if status == 200 and isinstance(said, dict) and "result" in said:
        return True
    return None


# %% tags=["check"]
check("13-short", ran)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a transfer in one request
#
# Write `transfer(post, number, amount)`. It moves `amount` from the counter `ann` to the counter `bob` and
# returns `True`, or it returns `False` if Ann has less. `post("GET", "ann")` sends one command as one
# request, and returns its reply; replies are text. Each request may come by another connection, so
# WATCH and MULTI are refused. `number` is the transfer's own: who asks again asks with the same number.
#
# 1. No order of two clients loses money, makes money, or leaves Ann with less than nothing.
# 2. The same number moves once, and gets the same answer again.
# 3. A request whose answer is lost is sent again, and a page that crashed asks again.
# 4. Each further key that you write has a TTL.
#
# If you need help, run `hint("13")`: three hints, then a solution.


# %% tags=["stub"]
def transfer(post, number, amount):
    if int(post("GET", "ann")) < amount:
        return False
    post("DECRBY", "ann", amount)  # what happens between two requests?
    post("INCRBY", "bob", amount)
    return True


# %% tags=["solution"]
MOVE = """
local before = redis.call('GET', KEYS[3])
if before then return tonumber(before) end
local moved = 0
if tonumber(redis.call('GET', KEYS[1])) >= tonumber(ARGV[1]) then
  redis.call('DECRBY', KEYS[1], ARGV[1])
  redis.call('INCRBY', KEYS[2], ARGV[1])
  moved = 1
end
redis.call('SET', KEYS[3], moved, 'EX', 86400)
return moved"""


# %% tags=["solution"]
def transfer(post, number, amount):
    answer = f"transfer:{number}"
    return post("EVAL", MOVE, 3, "ann", "bob", answer, amount) == 1


# %% tags=["check"]
check("13", transfer)
