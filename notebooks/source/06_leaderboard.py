# %% [markdown]
# # Leaderboard
#
# *About 40 minutes. Before this chapter: 00.*
#
# A leaderboard tells a player: "you are number 214, and these players are just above you". Redis
# has a **sorted set**: members with a score each, kept in the order of the scores. A sorted set
# does nearly all of this.
#
# **The guarantee we want:**
#
# - the rank, the neighbours and the scores in one answer are from one moment;
# - equal scores are ranked by a rule that you choose;
# - a read returns a score exactly as it was submitted, or the submission is refused;
# - points that are submitted once count once, also when a reply is lost.

# %%
import pandas as pd
from IPython.display import display

from kvlab import Leaderboard, NaiveLeaderboard, Op
from kvlab.chapters.opening import open_chapter
from kvlab.core.server_url import server_url
from kvlab.errors import InvalidArgument
from kvlab.instruments import ALL_FAULTS, ClientCrashed, Faults, environment, explore

url = server_url()  # the embedded Valkey, or KVLAB_URL
kv = open_chapter("ch06", url)
pd.Series(environment(kv), name="the numbers below were measured on").to_frame()

# %% [markdown]
# ## The simple version
#
# `ZADD` submits a score, `ZREVRANK` answers a rank. "The players around me" needs two commands:
# first the player's rank, then the range around that rank.

# %%
import inspect

naive = NaiveLeaderboard(kv.client, kv.prefix)
print(inspect.getsource(NaiveLeaderboard.get_player_context))

# %% [markdown]
# ## Who is around me?
#
# `explore` runs the two programs on a private server in every order of their commands. One order,
# with its faults if it has some, is a **schedule**. At the end of each schedule `explore` checks
# our **invariant**, a sentence that must be true. The picture shows the shortest schedule that
# breaks the invariant. Time goes down, and the keys are on the right.

# %% tags=["predict"]
from kvlab.workshop import predict

missing = predict(
    "06-missing",
    "Ann is fourth of seven players. She asks for two neighbours on each side: two "
    "commands. Meanwhile three players pass her, one after the other: three "
    "commands. The five commands can run in 10 orders. In how many of the orders is "
    "Ann missing from her own list?",
)

# %%
START = {"Ada": 80, "Ben": 75, "Cho": 72, "Ann": 70, "Dee": 60, "Eli": 55, "Fay": 50}
PASSING = {"Dee": 99, "Eli": 98, "Fay": 97}


def naive_ann(kv):
    """Ann asks who is around her"""
    context = NaiveLeaderboard(kv).get_player_context("Ann")
    return [name.decode() for name, _ in context]


# %%
def naive_others(kv):
    """Dee, Eli and Fay pass Ann"""
    for name, score in PASSING.items():
        NaiveLeaderboard(kv).update_score(name, score)


def ann_is_listed(world):
    """Ann is in her own list"""
    return "Ann" in world.results[0]


# %%
def naive_start(kv):
    kv.zadd("leaderboard:global", START)


naive_story = explore(
    {"Ann": naive_ann, "others": naive_others},
    setup=naive_start,
    invariant=ann_is_listed,
)
naive_story

# %% tags=["predict"]
missing.measured(naive_story.violations)

# %% [markdown]
# Ann was number 4, so her client asks for the numbers 2 to 6. At that moment Ann is already number
# 7. The list has five players, and none of them is Ann. There is no error and no warning.
#
# ## The fix: one script
#
# `around` finds the position, reads the entries around that position and counts the rank of the
# first entry, all in one Lua script (`leaderboard/read.lua`). The server runs a script alone, so no
# other command runs between its steps. The script is also one round trip instead of two.
#
# The next cell prints the op. The table shows what the script answers at four moments: before any
# player passes Ann, and after each of the three players has passed her.

# %%
board = Leaderboard("game")
around_ann = board.around("Ann", 2)
print(around_ann)

kv.run(board.load(START.items()))
moments = {"before": kv.run(around_ann)}
for name, score in PASSING.items():
    kv.run(board.submit(name, score))
    moments[f"{name} passed"] = kv.run(around_ann)
lists = {when: [entry.member for entry in around] for when, around in moments.items()}
pd.Series(lists).to_frame("around Ann")

# %% [markdown]
# Ann is in each of the four lists.
#
# The next cells run the same two programs in every order again, with every fault that the explorer
# knows: one fault in each schedule, at every point. (The client that `explore` gives to a function
# is a redis-py client that can also `run` ops.) The invariant is stricter than before: ranks,
# neighbours and scores must **all be from one of these four moments**.


# %%
def ann(kv):
    return kv.run(around_ann)


def others(kv):
    for name, score in PASSING.items():
        kv.run(board.submit(name, score))


def start(kv):
    kv.run(board.load(START.items()))


# %%
def one_moment(world):
    """the answer is one of the four moments"""
    answer = world.results[0]
    return isinstance(answer, ClientCrashed) or answer in moments.values()


hardened_story = explore(
    {"Ann": ann, "others": others}, setup=start, invariant=one_moment, faults=ALL_FAULTS
)
print(hardened_story.summary)
display(naive_story.play(title="The naive leaderboard"))
display(hardened_story.play(title="The hardened leaderboard"))

# %% [markdown]
# No schedule breaks the invariant.
#
# **Play the scheduler** in the two frames: choose who moves next, and what fails. The first frame can
# be broken, and the second cannot.
#
# ## Points and a lost reply
#
# `redis.Redis(host, port)` of redis-py 8.1 retries a command up to ten times, also an increment. In
# each schedule the explorer loses at most one reply or one request.

# %% tags=["predict"]
points = predict(
    "06-lost-reply",
    "Ann wins a game: one point. The server adds the point, and the reply is lost. "
    "The client retries. How many points does Ann have?",
    ["none", "one", "two"],
)


# %%
def naive_win(kv):
    """Ann wins one point"""
    NaiveLeaderboard(kv).increment_score("Ann", 1)


def one_point(world):
    """Ann has one point"""
    return world.kv.zscore("leaderboard:global", "Ann") == 1


# %%
LOSSES = Faults(lost_replies=True, lost_requests=True)
counted_twice = explore({"Ann": naive_win}, invariant=one_point, faults=LOSSES)
counted_twice

# %% tags=["predict"]
points.measured("one" if counted_twice.holds else "two")

# %% [markdown]
# The second `ZINCRBY` is the retry, and Ann has two points for one game.
#
# A client that does not retry (`redis.Redis.from_url`) raises an error instead. Its caller cannot
# know whether the point was added. If this caller retries, the point may also count twice.
#
# `Leaderboard.submit` takes an `op_id`. The server keeps the answer under that id, and gives the
# same answer to a retry. In the next cell Ann plays two games on two devices, and two losses may
# happen in one schedule.


# %%
def phone(kv):
    return kv.run(board.submit("Ann", 1, "add", op_id="game 1")).entry.score


def laptop(kv):
    return kv.run(board.submit("Ann", 1, "add", op_id="game 2")).entry.score


def one_point_a_game(world):
    """two games, two points, and the answers were 1 and 2"""
    points = world.kv.run(board.rank("Ann")).score
    return points == 2 and sorted(world.results) == [1, 2]


# %%
counted_once = explore(
    [phone, laptop],
    invariant=one_point_a_game,
    faults=LOSSES,
    max_faults=2,
    progress=False,
)

# %% tags=["finding"]
print(
    f"Ann not in her own list: naive in {naive_story.violations} of "
    f"{naive_story.schedules} schedules, hardened in {hardened_story.violations} of "
    f"{hardened_story.schedules}; one game counted twice: naive in "
    f"{counted_twice.violations} of {counted_twice.schedules}, hardened in "
    f"{counted_once.violations} of {counted_once.schedules}"
)

# %% [markdown]
# With an `op_id` no lost message counts a game twice. (The README shows this line.)
#
# ## Ties

# %% tags=["predict"]
tie = predict(
    "06-tie",
    "Players 10, 2 and 9 reach the same score, in this order. Which of the three "
    "does a sorted set rank first?",
    ["10", "2", "9"],
)

# %%
scored = {"7": 9, "10": 5, "2": 5, "9": 5, "4": 3}  # in the order of arrival
for player, score in scored.items():
    naive.update_score(player, score)
ranks = {"score": scored.values(), "naive": map(naive.get_user_rank, scored)}

for rule in ("first", "shared", "dense"):
    by_rule = Leaderboard("ties", ties=rule)
    kv.run(by_rule.load(scored.items()))
    entries = kv.run([by_rule.rank(player) for player in scored])
    ranks[rule] = [entry.rank for entry in entries]
tied = pd.DataFrame(ranks, index=pd.Index(scored, name="player"))
tied

# %% tags=["predict"]
tie.measured(tied.loc[["10", "2", "9"], "naive"].idxmin())

# %% [markdown]
# The naive board compares names as bytes: "9" is greater than "2", and "2" is greater than "10".
# The order of arrival does not matter to the naive board. The three rules of the hardened board
# are:
#
# - `first`: the player who reached the score first is ahead, and no two players share a rank;
# - `shared`: 1, 2, 2, 2, 5: equal scores share a rank, and the next ranks are skipped, as in
#   sports;
# - `dense`: 1, 2, 2, 2, 3: equal scores share a rank, and no rank is skipped.
#
# Turn the knobs. Give all players the same score. Let the last player win. Change the rule.

# %%
from ipywidgets import Text, interact

points = Text("5 9 5 5 3", description="A B C … got", continuous_update=False)


@interact(rule=["shared", "first", "dense"], scores=points)
def ranks_by_rule(rule, scores):
    turned = Leaderboard("turned", ties=rule)
    kv.run([turned.remove(name) for name in "ABCDEFGH"])
    for name, score in zip("ABCDEFGH", scores.split(), strict=False):
        kv.run(turned.submit(name, float(score)))
    return pd.DataFrame(kv.run(turned.top(8)))


# %% [markdown]
# ## Numbers that are not what was submitted
#
# A sorted set stores a score as a double. Beyond 2⁵³ a double cannot hold every whole number, and a
# double can be infinite. The next cells submit the score 2⁵³ + 1 and the score infinity to each board,
# and ask each board for the top 0 players.

# %% tags=["predict"]
top_zero = predict(
    "06-top-0",
    "How many players does the naive board return when you ask for the top 0?",
    ["none", "one", "all"],
)

# %%
for score in (2**53 + 1, float("inf")):
    naive.update_score("odd", score)
    print(f"submit {score}\n  naive: reads {naive.get_user_score('odd'):.0f}")
    try:
        board.submit("Ann", score)
    except InvalidArgument as refusal:
        print(f"  hardened: {refusal}")
print(f"top 0\n  naive: {len(naive.get_top_players(0))} players")
print(f"  hardened: {len(kv.run(board.top(0)))} players")

# %% tags=["predict"]
words = {0: "none", 1: "one", kv.client.zcard(naive.key): "all"}
top_zero.measured(words[len(naive.get_top_players(0))])

# %% [markdown]
# The naive board changes the first score and accepts the second score. When you ask for 0 players,
# the naive board returns *all* players.
#
# ## Today's board, this week's board
#
# With `period`, a score goes to the board of the day or of the ISO week (Monday to Sunday), by the
# **server's** clock. Each board expires by itself, `keep` periods after its end. A game can end
# before midnight, and its score can arrive after midnight. For such a score `at=` names the period.
# A period too far from now is refused.

# %%
from kvlab.chapters.leaderboard.periods import expires_in

now = int(kv.run(Op("TIME"))[0])
steps = (-2, -1, 0, 1, 2)
expiry = {}
for period, days in (("daily", 1), ("weekly", 7)):
    timed = Leaderboard("timed", ties="shared", period=period, keep=1)
    times = [now + step * days * 86_400 for step in steps]
    expiry[period] = [expires_in(kv, timed, at) for at in times]
pd.DataFrame(expiry, index=pd.Index(steps, name="periods from now"))

# %% [markdown]
# With `keep=1` the board of the last period still accepts scores, and older boards refuse scores.
#
# ## What it costs
#
# There are four questions: "submit, then my rank", "my rank and score", "around me", "the top ten".
# The first question is `update_score` and `get_user_rank` of the naive board, and one `submit` of the
# hardened board. A proxy between this notebook and the server counts the round trips.

# %% tags=["predict"]
trips_guess = predict(
    "06-trips",
    "How many round trips do the four questions take on the naive board, together?",
)

# %%
from kvlab.chapters.leaderboard.round_trips import count_round_trips

trips = count_round_trips(url, kv.prefix)
trips

# %% tags=["predict"]
trips_guess.measured(sum(trips["naive"]))

# %% [markdown]
# The hardened board answers each question in one round trip.
#
# The next cells measure the time of a call during a quiz. With each question of the quiz the scores
# of all 200 players change. A thread writes the scores after each question, and sleeps 5 ms between
# two questions. Both variants read the **same** sorted set (a `shared` board is a plain sorted
# set), with five neighbours on each side. No order is forced this time.
#
# The load is a closed loop of one reader, seed 6. Each variant gets five turns of 400 calls, and
# the variants alternate. One turn is the warm-up, and each turn begins with 50 calls of warm-up.
# The ratio is the mean of the turns' ratios, with its interval. A violation is an answer without the player who
# asked.


# %%
def naive_names(board, player):
    same_set = NaiveLeaderboard(kv.client)
    same_set.key = kv.name(board.top(1).keys[1])
    return [name.decode() for name, _ in same_set.get_player_context(player, 5)]


def hardened_names(board, player):
    return [entry.member for entry in kv.run(board.around(player, 5))]


def hardened_rank(board, player):
    return [kv.run(board.rank(player)).member]


# %%
from kvlab.chapters.leaderboard.quiz import read_during_quiz
from kvlab.instruments import charts

quiz = Leaderboard("quiz", ties="shared")
readers = {"naive": naive_names, "hardened": hardened_names}
measured = read_during_quiz(kv, quiz, readers, turns=5)
charts.latency_percentiles(measured.runs, title=measured.finding)

# %% [markdown]
# Read the violations beside the curves first, and then the times. The naive answer mixes two
# moments. Reader and writer share one Python process, so in both variants a part of the time is
# waiting for the writer.
#
# ## What it earns: a million members
#
# Sending a million pairs from Python takes long. So `filled_board` makes the pairs in a script on
# the server, a thousand pairs in a call. Each score belongs to two members.

# %% tags=["predict"]
growth = predict(
    "06-million",
    "The board grows from a thousand members to a million. How many times as long "
    'does "around me" of the hardened board take then?',
)

# %%
from kvlab.chapters.leaderboard import charts as leaderboard_charts
from kvlab.chapters.leaderboard.growth import filled_board, time_by_size

SIZES = (1_000, 10_000, 100_000, 1_000_000)
boards = {size: filled_board(kv, size) for size in SIZES}
calls = {"naive: around": naive_names, "hardened: around": hardened_names}
calls |= {"hardened: rank": hardened_rank}
times = time_by_size(calls, boards, turns=9, calls_per_turn=40, seed=6)
leaderboard_charts.time_by_size(times)

# %% tags=["predict"]
from kvlab.chapters.leaderboard.growth import growth_ratios

growth.measured(growth_ratios(times)["hardened: around"].ratio)

# %% [markdown]
# A sorted set is a skip list: the server finds a rank in about log n steps. The dashed line assumes
# that these steps are *all* of the time. Then a million members take twice as long as a thousand
# members. **Measurement and theory differ here.** Most of the time of a call is the way to the
# server and back. This way does not become longer with the board, so a measured line below the
# dashes is what to expect.
#
# (Closed loop, one client, 40 calls a turn, one warm-up turn, seed 6. The size changes from call to
# call. Each answer must have the player who asked. No client writes during this measurement.)
#
# ## What a tie rule costs
#
# `shared` stores the sorted set only. `first` puts 16 digits before each name, and also stores a
# hash of places. `dense` also stores a second sorted set of the distinct scores.
#
# The next cell loads the same 10,000 members with plain pipelines of `ZADD` and with `board.load`.
# `board.load` sends 500 members in a script. So the fair comparison is a pipeline of `ZADD` with
# 500 members each. Each ratio compares two times of the same turn.

# %% tags=["predict"]
memory = predict(
    "06-memory",
    "Which rule needs the most memory for each member?",
    ["first", "shared", "dense"],
)

# %%
import random

from kvlab.chapters.leaderboard.loading import load_in_turns

draw = random.Random(6)
pairs = [(f"p{i}", draw.randrange(5_000)) for i in range(10_000)]
loads = load_in_turns(kv, pairs, rules=("first", "shared", "dense"), turns=5)
leaderboard_charts.price_of_ties(loads)

# %% tags=["predict"]
memory.measured(loads.groupby("load")["bytes"].median().idxmax())

# %% [markdown]
# `shared` needs the memory of a plain sorted set. `first` needs the most memory, because it
# remembers who was first. The ratios say how much longer each rule loads than the fair comparison:
# a script does more work than `ZADD`.
#
# ## The limits that remain
#
# - **One answer is from one moment. Two answers are from two moments.** Page 2 may repeat an entry
#   of page 1.
# - **Once within an hour.** The server remembers an `op_id` for `op_horizon` seconds (3,600). A retry
#   after that time counts again.
# - **A board is one key on one server.** A cluster does not split a board.
# - **The board does not check the score.** Your game must check whether Ann really has a million
#   points.
# - **A board without a period never expires.** A server that evicts keys may evict this board.
#   Store the scores in a database too.
#
# ## Your own board
#
# Replace the body of `my_best` by your own code that keeps a player's best score. `kv` is your
# redis-py client. Two games of one player end at the same time. Is the better score stored at the
# end?


# %%
def my_best(kv, score):
    best = kv.zscore("my:board", "Ann")
    if best is None or score > best:
        kv.zadd("my:board", {"Ann": score})


explore(
    {"got 5": lambda kv: my_best(kv, 5), "got 9": lambda kv: my_best(kv, 9)},
    invariant=lambda world: world.kv.zscore("my:board", "Ann") == 9,
)

# %% [markdown] tags=["exercise"]
# ## Exercises
#
# `exercises/06_leaderboard.ipynb` has a short exercise (10 minutes) and a longer one. You write one function
# for each. `check` tries your function in every order of its commands, and with crashes, lost replies and
# TTLs that end. When a promise breaks, `check` draws the shortest run in which your own code is wrong.
#
# 1. `win`: the points of a game count once.
# 2. `finish`: the new score and the neighbours, from one instant.

# %% tags=["exercise-setup"]
from kvlab.workshop import check, hint

# %% [markdown] tags=["exercise-setup"]
# ## The short one: points that count once
#
# Write `win(kv, board, player, points, game)`. It adds the points and returns the player's new score. `board`
# is a `Leaderboard`, and `kv` an executor: `kv.run(op)`.
#
# 1. The points of a game count once: when it is reported twice, when a reply is lost, after a crash.
# 2. Another game counts too, and so does the same game for another player.
#
# The answer is an argument of `board.submit(player, points, "add", …)`.
#
# If you need help, run `hint("06-short")`: three hints, then a solution.


# %% tags=["stub"]
def win(kv, board, player, points, game):
    done = kv.run(board.submit(player, points, "add"))  # and if the reply is lost?
    return done.entry.score


# %% tags=["solution"]
def win(kv, board, player, points, game):
    return kv.run(board.submit(player, points, "add", op_id=game)).entry.score


# %% tags=["check"]
check("06-short", win)

# %% [markdown] tags=["exercise-setup"]
# ## The longer one: a score and its neighbours
#
# A game ends. The screen shows the player's new score and the players around her. Write
# `finish(kv, board, player, points, game)`. It returns a tuple: the new score, and what
# `board.around(player, 1)` answers.
#
# 1. The points of a game count once, also when the reply is lost and the client retries.
# 2. The score and the neighbours are from one instant, also when others play at the same moment.
# 3. One round trip.
#
# If you need help, run `hint("06")`: three hints, then a solution.


# %% tags=["stub"]
def finish(kv, board, player, points, game):
    """(the player's new score, the entries around her)"""
    done = kv.run(board.submit(player, points, "add"))  # and if the reply is lost?
    around = kv.run(board.around(player, 1))  # a second trip, a second instant
    return done.entry.score, around


# %% tags=["solution"]
def finish(kv, board, player, points, game):
    """(the player's new score, the entries around her)"""
    submit = board.submit(player, points, "add", op_id=game)
    done, around = kv.run(submit, board.around(player, 1), atomic=True)
    return done.entry.score, around


# %% tags=["check"]
check("06", finish)
