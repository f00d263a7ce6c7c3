-- Submit one member's score: receipt, check, write and rank, in one step.
--
-- KEYS[1]   state (hash): `seq`, the last place; `<i>`, the period that board i holds
-- KEYS[2…]  a board: scores (zset), then places (hash, ties first) or levels (zset, ties dense)
--           with periods and without a period asked: boards 0 … keep+1, one after the other
-- KEYS[#]   with a receipt time: the receipt (string) of the member's op_id
-- ARGV[1]   order: desc (highest score first) or asc
-- ARGV[2]   ties: first, shared or dense
-- ARGV[3]   length of a period (ms), 0 for an all-time board
-- ARGV[4]   shift: added to the clock before the division into periods (ms)
-- ARGV[5]   keep: past periods that stay readable (count)
-- ARGV[6]   period asked (number of lengths since 1970), empty for the period of the clock
-- ARGV[7]   member
-- ARGV[8]   score (decimal)
-- ARGV[9]   mode: set, best or add
-- ARGV[10]  receipt time (ms), 0 for none
-- Returns {"ok", rank, score, 1 if accepted}, {"closed", current period}, {"inexact", held score}
--         or {"reused", what the op_id stood for}
local order, ties = ARGV[1], ARGV[2]
local length, shift, keep = tonumber(ARGV[3]), tonumber(ARGV[4]), tonumber(ARGV[5])
local asked, member, score, mode = tonumber(ARGV[6]), ARGV[7], tonumber(ARGV[8]), ARGV[9]
local horizon = tonumber(ARGV[10])
local MAX = 2 ^ 53 - 1

local signature = mode .. ' ' .. ARGV[8] .. ' ' .. ARGV[6]
if horizon > 0 then
  local receipt = redis.call('GET', KEYS[#KEYS])
  if receipt then
    local rank, kept, accepted, first = receipt:match('^(%S+) (%S+) (%S+) (.*)$')
    if first ~= signature then return {'reused', first} end
    return {'ok', tonumber(rank), kept, tonumber(accepted)}
  end
end

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

-- The score that the member has. Under `first` its name in `scores` begins with its place.
local element, held, level = member, nil, nil
if not stale then
  if ties == 'first' then
    local place = redis.call('HGET', second, member)
    element = place and place .. member
  end
  level = element and redis.call('ZSCORE', scores, element)
  held = level and tonumber(level)
end

local wanted, accepted = score, 1
if held and mode == 'add' then
  wanted = held + score
  -- The exact error of the sum (Knuth's two-sum): not zero means that the sum was rounded.
  local part = wanted - held
  if math.abs(wanted) > MAX or (held - (wanted - part)) + (score - part) ~= 0 then
    return {'inexact', level}
  end
elseif held and mode == 'best' then
  if (order == 'desc' and held > score) or (order == 'asc' and held < score) then
    wanted, accepted = held, 0
  end
end

local text = string.format('%.17g', wanted)
if held ~= wanted then
  -- A server that is out of memory refuses the first write, so nothing is half done.
  local seq = ties == 'first' and redis.call('HINCRBY', KEYS[1], 'seq', 1)
  if stale then
    redis.call('HSET', KEYS[1], index, period)
    redis.call('UNLINK', scores)
    if width == 2 then redis.call('UNLINK', second) end
  end
  if ties == 'first' then
    if held then redis.call('ZREM', scores, element) end
    -- Equal scores are ordered by their text; the earlier member must come first.
    local place = string.format('%016d', order == 'desc' and MAX - seq or seq)
    element = place .. member
    redis.call('HSET', second, member, place)
  end
  redis.call('ZADD', scores, text, element)
  if ties == 'dense' then
    if held and redis.call('ZCOUNT', scores, level, level) == 0 then
      redis.call('ZREM', second, string.format('%.17g', held))
    end
    redis.call('ZADD', second, text, text)
  end
  if length > 0 then
    local ends = (tonumber(period) + 1 + keep) * length - shift
    local expire = string.format('%.0f', ends)
    redis.call('PEXPIREAT', scores, expire)
    if width == 2 then redis.call('PEXPIREAT', second, expire) end
    if redis.call('PTTL', KEYS[1]) < ends - now then redis.call('PEXPIREAT', KEYS[1], expire) end
  end
end

local rank
if ties == 'first' then
  rank = redis.call(order == 'desc' and 'ZREVRANK' or 'ZRANK', scores, element)
else
  local counted = ties == 'dense' and second or scores
  if order == 'desc' then
    rank = redis.call('ZCOUNT', counted, '(' .. text, '+inf')
  else
    rank = redis.call('ZCOUNT', counted, '-inf', '(' .. text)
  end
end
rank = rank + 1
if horizon > 0 then
  local receipt = table.concat({string.format('%.0f', rank), text, accepted, signature}, ' ')
  redis.call('SET', KEYS[#KEYS], receipt, 'PX', ARGV[10])
end
return {'ok', rank, text, accepted}
