-- Remove a member from the board.
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
-- ARGV[7]   member
-- Returns 1 if the member was there, 0 if not
local ties, length, shift = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4])
local keep, period, member = tonumber(ARGV[5]), tonumber(ARGV[6]), ARGV[7]

local at = 2
if length > 0 then
  local asked = period
  if not asked then
    local time = redis.call('TIME')
    period = math.floor((time[1] * 1000 + math.floor(time[2] / 1000) + shift) / length)
  end
  local index = period % (keep + 2)
  if redis.call('HGET', KEYS[1], index) ~= string.format('%.0f', period) then return 0 end
  if not asked then at = 2 + index * (ties == 'shared' and 1 or 2) end
end
local scores, second = KEYS[at], KEYS[at + 1]

if ties == 'shared' then return redis.call('ZREM', scores, member) end
if ties == 'first' then
  local place = redis.call('HGET', second, member)
  if not place then return 0 end
  redis.call('HDEL', second, member)
  return redis.call('ZREM', scores, place .. member)
end
local level = redis.call('ZSCORE', scores, member)
if not level then return 0 end
redis.call('ZREM', scores, member)
if redis.call('ZCOUNT', scores, level, level) == 0 then
  redis.call('ZREM', second, string.format('%.17g', tonumber(level)))
end
return 1
