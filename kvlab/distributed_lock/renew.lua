-- Start the holder's TTL again.
-- KEYS[1] held  string "<fence> <token>", TTL: the lock's
-- ARGV[1] token
-- ARGV[2] TTL of the lock (ms)
-- Returns 1, or 0 when this token does not hold the lock
local held = redis.call('GET', KEYS[1])
if not held or string.match(held, '^%d+ (.+)$') ~= ARGV[1] then
  return 0
end
return redis.call('PEXPIRE', KEYS[1], ARGV[2])
