from __future__ import annotations

import json

from workshop.answers.answer import Answers

ANSWERS = Answers()

# --- 13-short ---


@ANSWERS.right("13-short")
def ran_step_by_step(status, text):
    if status is None or 400 <= status < 500:
        return False
    if status != 200:
        return None
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return True if isinstance(said, dict) and "result" in said else None


@ANSWERS.right("13-short")
def ran_with_match(status, text):
    try:
        said = json.loads(text)
    except json.JSONDecodeError:
        said = None
    match status, said:
        case None | 400 | 401 | 403 | 429, _:
            return False
        case 200, {"result": _}:
            return True
    return None


@ANSWERS.right("13-short")
def ran_by_the_errors_of_kvlab(status, text):
    """The executor's own rules: what raises OutcomeUnknown may have run."""
    from kvlab.errors import OutcomeUnknown, ServerRefused

    def read():
        if status is None or status // 100 == 4:
            raise ServerRefused("ERR refused")
        try:
            return json.loads(text)["result"] if status == 200 else {}[status]
        except (ValueError, KeyError, TypeError):
            raise OutcomeUnknown("no result") from None

    try:
        read()
    except ServerRefused:
        return False
    except OutcomeUnknown:
        return None
    return True


@ANSWERS.wrong("13-short", "nobody knows, so None, not True")
def ran_by_its_status(status, text):
    """Believes a 200, whoever wrote the page."""
    if status is None or 400 <= status < 500:
        return False
    return True if status == 200 else None


@ANSWERS.wrong("13-short", "nobody knows, so None, not False")
def ran_unless_it_failed(status, text):
    """Takes each failure for a refusal: a gateway that gives up says nothing of the store."""
    return status == 200


@ANSWERS.wrong("13-short", "it did not run, so False, not None")
def ran_never_sure(status, text):
    """Knows nothing whenever there is no result: then nothing is ever retried."""
    return True if status == 200 and "result" in text else None


@ANSWERS.wrong("13-short", "JSONDecodeError")
def ran_reads_first(status, text):
    """Reads the text before the status: a page that is no JSON raises."""
    said = json.loads(text or "{}")
    if "result" in said:
        return True
    return False if status is None or status < 500 else None


@ANSWERS.wrong("13-short", "it ran, so True, not None")
def ran_by_its_value(status, text):
    """Takes the result null for no result: GET of an absent key ran."""
    if status is None or 400 <= status < 500:
        return False
    try:
        value = json.loads(text)["result"]
    except (ValueError, KeyError, TypeError):
        return None
    return True if value is not None and status == 200 else None


@ANSWERS.wrong("13-short", "it did not run, so False, not None")
def ran_too_many_is_unknown(status, text):
    """Takes 429 for a failure like 503: the request was refused before the store saw it."""
    return None if status == 429 else ran_step_by_step(status, text)


# --- 13 ---

MOVE = """
local before = redis.call('GET', KEYS[3])
if before then return tonumber(before) end
local enough = 0
if tonumber(redis.call('GET', KEYS[1])) >= tonumber(ARGV[1]) then
  redis.call('DECRBY', KEYS[1], ARGV[1])
  redis.call('INCRBY', KEYS[2], ARGV[1])
  enough = 1
end
redis.call('SET', KEYS[3], enough, 'EX', 86400)
return enough"""


@ANSWERS.right("13")
def transfer_in_a_script(post, number, amount):
    return post("EVAL", MOVE, 3, "ann", "bob", f"transfer:{number}", amount) == 1


@ANSWERS.right("13")
def transfer_noted_in_a_hash(post, number, amount):
    """Both accounts and the answers are in one script; the answers are fields with an end."""
    script = """
    if redis.call('HSETNX', KEYS[3], 'answer', 'no') == 1 then
      redis.call('EXPIRE', KEYS[3], 3600)
      if redis.call('DECRBY', KEYS[1], ARGV[1]) >= 0 then
        redis.call('INCRBY', KEYS[2], ARGV[1])
        redis.call('HSET', KEYS[3], 'answer', 'yes')
      else
        redis.call('INCRBY', KEYS[1], ARGV[1])
      end
    end
    return redis.call('HGET', KEYS[3], 'answer')"""
    return post("EVAL", script, 3, "ann", "bob", f"answers:{number}", amount) == "yes"


SWAP = """
if redis.call('MGET', KEYS[1], KEYS[2])[1] ~= ARGV[1] then return 0 end
if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('MSET', KEYS[1], ARGV[2], KEYS[2], ARGV[3])
redis.call('SET', KEYS[3], ARGV[4], 'EX', 600)
return 1"""


@ANSWERS.right("13")
def transfer_by_compare_and_set(post, number, amount):
    """Its own WATCH: reads, computes here, and a script writes if nothing has changed."""
    note = f"note:{number}"
    while True:
        known = post("GET", note)
        if known is not None:
            return known == "moved"
        ann, bob = (int(value) for value in post("MGET", "ann", "bob"))
        if ann < amount:
            post("SET", note, "refused", "NX", "EX", 600)
            continue
        post("EVAL", SWAP, 3, "ann", "bob", note, ann, ann - amount, bob + amount, "moved")


@ANSWERS.wrong("13", "page raised NotOverHttp: WATCH needs a connection that stays open")
def transfer_with_watch(post, number, amount):
    """As over TCP: WATCH, then MULTI."""
    post("WATCH", "ann")
    if int(post("GET", "ann")) < amount:
        return False
    post("MULTI")
    post("DECRBY", "ann", amount)
    post("INCRBY", "bob", amount)
    return post("EXEC") is not None


@ANSWERS.wrong("13", "less than nothing")
def transfer_after_a_look(post, number, amount):
    """Looks, then moves: two requests of another client fit between."""
    if int(post("GET", "ann")) < amount:
        return False
    post("DECRBY", "ann", amount)
    post("INCRBY", "bob", amount)
    return True


@ANSWERS.wrong("13", "together they had 5")
def transfer_and_back(post, number, amount):
    """Takes first and gives back: a crash between two requests loses the money."""
    if int(post("DECRBY", "ann", amount)) < 0:
        post("INCRBY", "ann", amount)
        return False
    post("INCRBY", "bob", amount)
    return True


FORGETFUL = """
if tonumber(redis.call('GET', KEYS[1])) < tonumber(ARGV[1]) then return 0 end
redis.call('DECRBY', KEYS[1], ARGV[1])
redis.call('INCRBY', KEYS[2], ARGV[1])
return 1"""


@ANSWERS.wrong("13", "one transfer of 1, one lost answer, and Ann has 3 of 5")
def transfer_without_its_number(post, number, amount):
    """One script and no number: a request that is sent again moves the money again."""
    return post("EVAL", FORGETFUL, 2, "ann", "bob", amount) == 1


@ANSWERS.wrong("13", "one transfer of 1 was asked for twice")
def transfer_noted_before(post, number, amount):
    """Notes the number in a request of its own: a crash between loses the transfer."""
    if post("SET", f"transfer:{number}", 1, "NX", "EX", 600) is None:
        return True
    return post("EVAL", FORGETFUL, 2, "ann", "bob", amount) == 1


@ANSWERS.wrong("13", "has no TTL: one key more for each transfer")
def transfer_noted_for_ever(post, number, amount):
    """Keeps each number without an end."""
    script = MOVE.replace(", 'EX', 86400", "")
    return post("EVAL", script, 3, "ann", "bob", f"transfer:{number}", amount) == 1


@ANSWERS.wrong("13", "one transfer, two answers: [True, False]")
def transfer_answers_once(post, number, amount):
    """Notes the number in the script, and says no to the second request for it."""
    script = "if redis.call('EXISTS', KEYS[3]) == 1 then return 0 end\n" + MOVE
    return post("EVAL", script, 3, "ann", "bob", f"transfer:{number}", amount) == 1
