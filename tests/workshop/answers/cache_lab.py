from __future__ import annotations

from collections import Counter, OrderedDict

from workshop.answers.answer import Answers

ANSWERS = Answers()

# --- 12-short ---


@ANSWERS.right("12-short")
def hits_with_a_list(asked, items):
    held, found = [], 0
    for key in asked:
        if key in held:
            found += 1
            held.remove(key)
        elif len(held) == items:
            held.pop(0)
        held.append(key)
    return found


@ANSWERS.right("12-short")
def hits_with_an_ordered_dict(asked, items):
    held, found = OrderedDict(), 0
    for key in asked:
        found += key in held
        held[key] = True
        held.move_to_end(key)
        if len(held) > items:
            held.popitem(last=False)
    return found


@ANSWERS.right("12-short")
def hits_by_distance(asked, items):
    """No cache at all: how many other keys came since the last request for this one?"""
    found, last = 0, {}
    for place, key in enumerate(asked):
        if key in last:
            found += len({*asked[last[key] + 1 : place]}) < items
        last[key] = place
    return found


@ANSWERS.wrong("12-short", "a was used after b, so c evicts b")
def hits_first_in_first_out(asked, items):
    """A hit changes nothing: the cache is first in, first out."""
    held, found = [], 0
    for key in asked:
        if key in held:
            found += 1
            continue
        if len(held) == items:
            held.pop(0)
        held.append(key)
    return found


@ANSWERS.wrong("12-short", "a is popular, and was used least recently: c evicts a")
def hits_of_the_popular(asked, items):
    """Counts uses and evicts the key with the fewest: LFU, not LRU."""
    held, counts, found = set(), Counter(), 0
    for key in asked:
        counts[key] += 1
        if key in held:
            found += 1
            continue
        if len(held) == items:
            held.remove(min(held, key=lambda one: (counts[one], one)))
        held.add(key)
    return found


@ANSWERS.wrong("12-short", "three keys in turn fit into no cache of two")
def hits_without_a_limit(asked, items):
    """Evicts nothing."""
    return len(asked) - len({*asked})


@ANSWERS.wrong("12-short", "three keys in turn fit into no cache of two")
def hits_with_one_too_many(asked, items):
    """Evicts when the cache has one item too many already."""
    held, found = [], 0
    for key in asked:
        if key in held:
            found += 1
            held.remove(key)
        elif len(held) > items:
            held.pop(0)
        held.append(key)
    return found


@ANSWERS.wrong("12-short", "a was used after b, so c evicts b")
def hits_of_the_most_recent(asked, items):
    """Evicts from the wrong end: the key that was used most recently."""
    held, found = [], 0
    for key in asked:
        if key in held:
            found += 1
            held.remove(key)
        elif len(held) == items:
            held.pop()
        held.append(key)
    return found


@ANSWERS.wrong("12-short", "three keys fit into three items")
def hits_after_an_eviction(asked, items):
    """Makes room before it looks: the key that is asked for may be gone."""
    held, found = [], 0
    for key in asked:
        if len(held) == items:
            held.pop(0)
        if key in held:
            found += 1
            held.remove(key)
        held.append(key)
    return found


# --- 12 ---


def _ratio(asked, items):
    return hits_with_a_list(asked, items) / len(asked)


@ANSWERS.right("12")
def items_one_size_after_the_other(asked, wanted):
    for items in range(1, len({*asked}) + 1):
        if _ratio(asked, items) >= wanted:
            return items
    return None


@ANSWERS.right("12")
def items_by_halving(asked, wanted):
    low, high = 1, len({*asked})
    if _ratio(asked, high) < wanted:
        return None
    while low < high:
        middle = (low + high) // 2
        if _ratio(asked, middle) >= wanted:
            high = middle
        else:
            low = middle + 1
    return low


@ANSWERS.right("12")
def items_in_one_pass(asked, wanted):
    stack, at_depth = [], Counter()
    for key in asked:
        if key in stack:
            at_depth[stack.index(key)] += 1
            stack.remove(key)
        stack.insert(0, key)
    found = 0
    for depth in range(len(stack)):
        found += at_depth[depth]
        if found >= wanted * len(asked) - 1e-9:
            return depth + 1
    return None


@ANSWERS.wrong("12", "a hit ratio of 0.6: None, not 2")
def items_among_the_repeated(asked, wanted):
    """Leaves the first request of each key out: the ratio is of repeated requests."""
    repeated = max(1, len(asked) - len({*asked}))
    for items in range(1, len({*asked}) + 1):
        if hits_with_a_list(asked, items) / repeated >= wanted:
            return items
    return None


@ANSWERS.wrong("12", "a hit ratio of 0.75: 1, not None")
def items_for_more_than_wanted(asked, wanted):
    """`>` where `>=` is right."""
    for items in range(1, len({*asked}) + 1):
        if _ratio(asked, items) > wanted:
            return items
    return None


@ANSWERS.wrong("12", "no key is asked for twice")
def items_all_of_them(asked, wanted):
    """No size is enough, and the answer is the number of keys."""
    return items_one_size_after_the_other(asked, wanted) or len({*asked})


@ANSWERS.wrong("12", "a hit ratio of 0.75: 1, not 0")
def items_from_zero(asked, wanted):
    """The distance of a request, without the key itself: one item too few."""
    needed = items_one_size_after_the_other(asked, wanted)
    return needed if needed is None else needed - 1


@ANSWERS.wrong("12", "with one item each request misses")
def items_by_popularity(asked, wanted):
    """Adds up the most popular keys: that is no LRU, which holds what came last."""
    found = 0
    for items, (_, count) in enumerate(Counter(asked).most_common(), start=1):
        found += count
        if found / len(asked) >= wanted:
            return items
    return None


@ANSWERS.wrong("12", "a random trace")
def items_first_in_first_out(asked, wanted):
    """Plays first in, first out in place of LRU."""
    for items in range(1, len({*asked}) + 1):
        if hits_first_in_first_out(asked, items) / len(asked) >= wanted:
            return items
    return None
