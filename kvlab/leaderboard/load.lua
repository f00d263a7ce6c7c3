-- Set the scores of many members, in their order; each member is named once.
--
-- KEYS[1]   state (hash): `seq`, the last place; `<i>`, the period that board i holds
-- KEYS[2…]  a board: scores (zset), then places (hash, ties first) or levels (zset, ties dense)
--           with periods and without a period asked: boards 0 … keep+1, one after the other
-- ARGV[1]   order: desc (highest score first) or asc
-- ARGV[2]   ties: first, shared or dense
-- ARGV[3]   length of a period (ms), 0 for an all-time board
-- ARGV[4]   shift: added to the clock before the division into periods (ms)
-- ARGV[5]   keep: past periods that stay readable (count)
-- ARGV[6]   period asked (number of lengths since 1970), empty for the period of the clock
-- ARGV[7]   n: members (count, at most 1000)
-- ARGV[8…]  n members, then their n scores (decimal)
-- Returns {"ok", n} or {"closed", current period}
local order, ties = ARGV[1], ARGV[2]
local length, shift, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local asked, n = tonumber(ARGV[6]), tonumber(ARGV[7])
local MAX = 2 ^ 53 - 1

-- The board: of the period asked, else of the period of the server's clock.
local width, at = ties == 'shared' and 1 or 2, 2
local now, period, index, stale = 0, nil, nil, false
if length > 0 then
  local time = redis.call('TIME')
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  local current = math.floor((now + shift) / length)
  period = asked or current
  if period < current - keep or period > current + 1 then
    return {'closed', string.format('%.0f', current)}
  end
  index = period % (keep + 2)
  if not asked then at = 2 + index * width end
  period = string.format('%.0f', period)
  -- The keys may hold an older period, if the clock was once set far ahead.
  stale = redis.call('HGET', KEYS[1], index) ~= period
end
local scores, second = KEYS[at], KEYS[at + 1]

-- The places and scores that the members have: places[i], and as text held[i].
local places, held = {}, {}
if not stale and ties == 'first' then
  places = redis.call('HMGET', second, unpack(ARGV, 8, 7 + n))
  local known, whose = {}, {}
  for i = 1, n do
    if places[i] then
      known[#known + 1] = places[i] .. ARGV[7 + i]
      whose[#known] = i
    end
  end
  if #known > 0 then
    local found = redis.call('ZMSCORE', scores, unpack(known))
    for j = 1, #known do held[whose[j]] = found[j] end
  end
elseif not stale and ties == 'dense' then
  held = redis.call('ZMSCORE', scores, unpack(ARGV, 8, 7 + n))
end

-- Under `shared` all members are written; else the members whose score changes.
local adds, moves, gone, levels, left = {}, {}, {}, {}, {}
local changed, count = {}, 0
for i = 1, n do
  if ties == 'shared' or not held[i] or tonumber(held[i]) ~= tonumber(ARGV[7 + n + i]) then
    count = count + 1
    changed[count] = i
  end
end
if count == 0 then return {'ok', n} end

-- A server that is out of memory refuses the first write, so nothing is half done.
local seq = ties == 'first' and redis.call('HINCRBY', KEYS[1], 'seq', count) - count
if stale then
  redis.call('HSET', KEYS[1], index, period)
  redis.call('UNLINK', scores)
  if width == 2 then redis.call('UNLINK', second) end
end
for j, i in ipairs(changed) do
  local member, score = ARGV[7 + i], ARGV[7 + n + i]
  local element = member
  if ties == 'first' then
    local place = string.format('%016d', order == 'desc' and MAX - seq - j or seq + j)
    element = place .. member
    moves[2 * j - 1], moves[2 * j] = member, place
    if places[i] then gone[#gone + 1] = places[i] .. member end
  elseif ties == 'dense' then
    -- A whole number is its own text; formatting takes longer than storing.
    local level = score:find('^%-?%d+$') and score or string.format('%.17g', tonumber(score))
    levels[2 * j - 1], levels[2 * j] = level, level
    if held[i] then left[#left + 1] = held[i] end
  end
  adds[2 * j - 1], adds[2 * j] = score, element
end
if #gone > 0 then redis.call('ZREM', scores, unpack(gone)) end
redis.call('ZADD', scores, unpack(adds))
if ties == 'first' then
  redis.call('HSET', second, unpack(moves))
elseif ties == 'dense' then
  redis.call('ZADD', second, unpack(levels))
  for _, level in ipairs(left) do
    if redis.call('ZCOUNT', scores, level, level) == 0 then
      redis.call('ZREM', second, string.format('%.17g', tonumber(level)))
    end
  end
end
if length > 0 then
  local ends = (tonumber(period) + 1 + keep) * length - shift
  local expire = string.format('%.0f', ends)
  redis.call('PEXPIREAT', scores, expire)
  if width == 2 then redis.call('PEXPIREAT', second, expire) end
  if redis.call('PTTL', KEYS[1]) < ends - now then redis.call('PEXPIREAT', KEYS[1], expire) end
end
return {'ok', n}
