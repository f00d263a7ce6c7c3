-- Take the lock if it is free; the holder's own token gets the same answer again.
-- KEYS[1] held     string "<fence> <token>", TTL: the lock's
-- KEYS[2] fence    string, the last fence given out
-- KEYS[3] waiting  string, exists while somebody may be waiting
-- KEYS[4] wake     list of one item: somebody who waits should try
-- KEYS[5] spent    string, exists once this token was released
-- ARGV[1] token
-- ARGV[2] TTL of the lock (ms)
-- ARGV[3] how long the last fence is remembered (ms)
-- ARGV[4] 1 if the caller waits when refused, else 0
-- Returns {1, fence as a string} or {0, TTL left to the holder (ms)}
local held = redis.call('GET', KEYS[1])
if held then
  local fence, owner = string.match(held, '^(%d+) (.+)$')
  if owner == ARGV[1] then
    return {1, fence}
  end
  local left = redis.call('PTTL', KEYS[1])
  if left < 0 then
    left = 1000 -- not our value and no TTL: look again in a second
  end
  if ARGV[4] == '1' then
    local listening = left + 1000 -- a second for the BLPOP to arrive
    if redis.call('PTTL', KEYS[3]) < listening then
      redis.call('SET', KEYS[3], 1, 'PX', listening)
    end
  end
  return {0, left}
end
if redis.call('EXISTS', KEYS[5]) == 1 then
  return {0, 0}
end
local time = redis.call('TIME')
local last = tonumber(redis.call('GET', KEYS[2]) or 0)
local number = math.max(last + 1, time[1] * 1000000 + time[2])
if number >= 9007199254740992 then
  return redis.error_reply('ERR the fence has reached 2^53: remove its key')
end
local fence = string.format('%.0f', number)
redis.call('SET', KEYS[1], fence .. ' ' .. ARGV[1], 'PX', ARGV[2])
redis.call('SET', KEYS[2], fence, 'PX', ARGV[3])
redis.call('DEL', KEYS[4]) -- no longer free: a wake-up not yet taken would be for nothing
return {1, fence}
