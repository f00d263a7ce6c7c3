from __future__ import annotations

import hashlib
import random
import zlib

from workshop.answers.answer import Answers

from kvlab import Flag

ANSWERS = Answers()


@ANSWERS.right("08-short")
def in_rollout_by_sha(flag, user, percent):
    drawn = int(hashlib.sha256(f"{flag}:{user}".encode()).hexdigest(), 16) % 10_000
    return drawn < percent * 100


@ANSWERS.right("08-short")
def in_rollout_by_crc(flag, user, percent):
    return zlib.crc32(f"{user}|{flag}".encode()) / 2**32 * 100 < percent


@ANSWERS.right("08-short")
def in_rollout_by_a_seeded_draw(flag, user, percent):
    return random.Random(f"{flag}/{user}").uniform(0, 100) < percent


@ANSWERS.wrong("08-short", "users got another answer")
def in_rollout_by_lot(flag, user, percent):
    """Draws again in each call."""
    return random.random() * 100 < percent


@ANSWERS.wrong("08-short", "in another process")
def in_rollout_by_hash(flag, user, percent):
    """hash() of a text differs from process to process."""
    return hash(f"{flag}:{user}") % 100 < percent


@ANSWERS.wrong("08-short", "are in the other too; independent is 50 %")
def in_rollout_without_the_flag(flag, user, percent):
    """Leaves the flag out: the same users get every new thing first."""
    return zlib.crc32(user.encode()) % 100 < percent


@ANSWERS.wrong("08-short", "users leave")
def in_rollout_with_the_percent(flag, user, percent):
    """The percent is part of the draw: each step draws new users."""
    drawn = zlib.crc32(f"{flag}:{user}:{percent}".encode()) % 100
    return drawn < percent


@ANSWERS.wrong("08-short", "at 0 % there are")
def in_rollout_one_too_many(flag, user, percent):
    """`<=` lets one per cent in at 0 %."""
    return zlib.crc32(f"{flag}:{user}".encode()) % 100 <= percent


@ANSWERS.wrong("08-short", "% in, for the flag")
def in_rollout_by_letters(flag, user, percent):
    """Adds up the letters: that is not spread evenly."""
    return sum(map(ord, f"{flag}:{user}")) % 100 < percent


# --- 08 ---


@ANSWERS.right("08")
def roll_out_with_a_loop(kv, flags, flag, steps, healthy):
    version = None
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        try:
            fine = healthy(percent)
        except BaseException:
            kv.run(flags.set(flag, False))
            raise
        if not fine:
            return kv.run(flags.set(flag, False))
    return version


@ANSWERS.right("08")
def roll_out_to_zero(kv, flags, flag, steps, healthy):
    done = False
    try:
        for percent in steps:
            version = kv.run(flags.set(flag, Flag(percent)))
            if not healthy(percent):
                break
        else:
            done = True
    finally:
        if not done:
            version = kv.run(flags.set(flag, Flag(0)))
    return version


@ANSWERS.right("08")
def roll_out_by_recursion(kv, flags, flag, steps, healthy):
    first, *rest = steps
    version = kv.run(flags.set(flag, Flag(first)))
    try:
        fine = healthy(first)
    except Exception:
        kv.run(flags.set(flag, False))
        raise
    if not fine:
        return kv.run(flags.set(flag, False))
    return roll_out_by_recursion(kv, flags, flag, rest, healthy) if rest else version


@ANSWERS.wrong("08", "the share grows, and")
def roll_out_with_a_salt(kv, flags, flag, steps, healthy):
    """A new salt with each step: each step draws new users."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent, salt=f"step-{percent}")))
        if not healthy(percent):
            return kv.run(flags.set(flag, False))
    return version


@ANSWERS.wrong("08", "stop at the first unhealthy step: asked at")
def roll_out_deaf(kv, flags, flag, steps, healthy):
    """Asks, and does not use the answer."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        healthy(percent)
    return version


@ANSWERS.wrong("08", "20 % was unhealthy, and")
def roll_out_stops_halfway(kv, flags, flag, steps, healthy):
    """Stops, and leaves the flag where it is."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        if not healthy(percent):
            break
    return version


@ANSWERS.wrong("08", "healthy raised, and")
def roll_out_without_a_net(kv, flags, flag, steps, healthy):
    """When healthy raises, the flag stays where it is."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        if not healthy(percent):
            return kv.run(flags.set(flag, False))
    return version


@ANSWERS.wrong("08", "and roll_out returned None")
def roll_out_without_a_version(kv, flags, flag, steps, healthy):
    """Returns nothing after the kill switch."""
    for percent in steps:
        version = kv.run(flags.set(flag, Flag(percent)))
        try:
            fine = healthy(percent)
        except BaseException:
            kv.run(flags.set(flag, False))
            raise
        if not fine:
            kv.run(flags.set(flag, False))
            return None
    return version


@ANSWERS.wrong("08", "nobody was in yet")
def roll_out_asks_first(kv, flags, flag, steps, healthy):
    """Asks before the step: healthy sees the step before it."""
    for percent in steps:
        if not healthy(percent):
            return kv.run(flags.set(flag, False))
        version = kv.run(flags.set(flag, Flag(percent)))
    return version
