-- Acquire the lock if it is free; the holder's own token gets the same answer again.
-- KEYS[1] held     string "<fence> <token>", TTL: the lock's
-- KEYS[2] fence    string, the last fence
-- KEYS[3] waiting  string, exists while a caller may be waiting
-- KEYS[4] wake     list of one item: one waiter should try
-- KEYS[5] spent    string, exists after the release of this token
-- ARGV[1] token
-- ARGV[2] TTL of the lock (ms)
-- ARGV[3] TTL of the last fence (ms)
-- ARGV[4] 1 if a refused caller waits, else 0
-- Returns {1, fence as a string} or {0, rest of the holder's TTL (ms)}
-- One call for three keys; MGET answers nil for a key that is not a string, see below.
local held, last, spent = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[5]))
if held then
  local fence, owner = string.match(held, '^(%d+) (.+)$')
  if owner == ARGV[1] then
    return {1, fence}
  end
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then
    left = 1000 -- not our value and no TTL: the caller looks again in a second
  end
  if ARGV[4] == '1' then
    local listening = left + 1000 -- a second for the BLPOP to arrive
    if redis.call('PTTL', KEYS[3]) < listening then
      redis.call('SET', KEYS[3], 1, 'PX', listening)
    end
  end
  return {0, left}
end
if spent then
  return {0, 0}
end
if not last and redis.call('EXISTS', KEYS[2]) == 1 then
  return redis.error_reply('WRONGTYPE the fence is not a string')
end
local time = redis.call('TIME')
local number = math.max(tonumber(last or 0) + 1, time[1] * 1000000 + time[2])
if number >= 9007199254740992 then
  return redis.error_reply('ERR the fence has reached 2^53: remove its key')
end
local fence = string.format('%.0f', number)
if not redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'NX', 'PX', ARGV[2]) then
  return redis.error_reply('WRONGTYPE what is held is not a string')
end
redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
redis.call('DEL', KEYS[4]) -- the lock is no longer free: a waiter that woke now would wake for nothing
return {1, fence}
