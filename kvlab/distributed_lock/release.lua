-- Free the lock if this token holds it. If the lock is free then, wake one waiter.
-- The token is spent from now on: a late acquire with it gets nothing.
-- KEYS[1] held     string "<fence> <token>", TTL: the lock's
-- KEYS[2] waiting  string, exists while a caller may be waiting
-- KEYS[3] wake     list of one item: one waiter should try
-- KEYS[4] spent    string, exists after the release of this token: its first answer, 0 or 1
-- ARGV[1] token
-- ARGV[2] TTL of the spent token (ms)
-- Returns 1 if the token held the lock until its (first) release, else 0
local held, waiting, said = unpack(redis.call('MGET', KEYS[1], KEYS[2], KEYS[4]))
if said then
  return tonumber(said)
end
local released = 0
if held and string.match(held, '^%d+ (.+)$') == ARGV[1] then
  redis.call('DEL', KEYS[1]) -- before every command that needs memory
  held, released = false, 1
end
redis.pcall('SET', KEYS[4], released, 'PX', ARGV[2])
if waiting and not held and redis.call('EXISTS', KEYS[3]) == 0 then
  redis.pcall('LPUSH', KEYS[3], 1)
  redis.call('PEXPIRE', KEYS[3], redis.call('PTTL', KEYS[2]))
end
return released
