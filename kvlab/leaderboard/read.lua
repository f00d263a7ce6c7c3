-- Read entries of the board, from a position or around a member, with ranks, in one instant.
--
-- KEYS[1]   state (hash): `<i>`, the period that board i holds
-- KEYS[2…]  a board: scores (zset), then places (hash, ties first) or levels (zset, ties dense)
--           with periods and without a period asked: boards 0 … keep+1, one after the other
-- ARGV[1]   order: desc (highest score first) or asc
-- ARGV[2]   ties: first, shared or dense
-- ARGV[3]   length of a period (ms), 0 for an all-time board
-- ARGV[4]   shift: added to the clock before the division into periods (ms)
-- ARGV[5]   keep: past periods that stay readable (count)
-- ARGV[6]   period asked (number of lengths since 1970), empty for the period of the clock
-- ARGV[7]   `from`, or `around`
-- ARGV[8]   from: the position of the first entry, from 0;  around: the member
-- ARGV[9]   from: entries (count);  around: neighbours on each side (count)
-- Returns {members on the board, position of the first entry, its rank, {name, score, …}};
--         nil when `around` finds no such member
local ties, length, shift = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local keep, period = tonumber(ARGV[5]), tonumber(ARGV[6])
local desc, around, count = ARGV[1] == 'desc', ARGV[7] == 'around', tonumber(ARGV[9])
local nothing = {0, 0, 0, {}}
if around then nothing = false end

local at = 2
if length > 0 then
  local asked = period
  if not asked then
    local time = redis.call('TIME')
    period = math.floor((time[1] * 1000 + math.floor(time[2] / 1000) + shift) / length)
  end
  local index = period % (keep + 2)
  if redis.call('HGET', KEYS[1], index) ~= string.format('%.0f', period) then return nothing end
  if not asked then at = 2 + index * (ties == 'shared' and 1 or 2) end
end
local scores, second = KEYS[at], KEYS[at + 1]

local first, last
if around then
  local name = ARGV[8]
  if ties == 'first' then
    local place = redis.call('HGET', second, name)
    if not place then return false end
    name = place .. name
  end
  local position = redis.call(desc and 'ZREVRANK' or 'ZRANK', scores, name)
  if not position then return false end
  first, last = math.max(0, position - count), position + count
else
  first = tonumber(ARGV[8])
  last = first + count - 1
end

local size = redis.call('ZCARD', scores)
local entries, rank = {}, first + 1
if count > 0 or around then
  entries = redis.call(desc and 'ZREVRANGE' or 'ZRANGE', scores, string.format('%.0f', first),
    string.format('%.0f', last), 'WITHSCORES')
end
if #entries > 0 and ties ~= 'first' then
  local counted, score = ties == 'dense' and second or scores, '(' .. entries[2]
  if desc then
    rank = redis.call('ZCOUNT', counted, score, '+inf') + 1
  else
    rank = redis.call('ZCOUNT', counted, '-inf', score) + 1
  end
end
return {size, first, rank, entries}
