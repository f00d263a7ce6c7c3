-- Add to a counter that expires: INCRBY, and a TTL for a key that has none, in one step.
-- KEYS[1] counter, a string
-- ARGV[1] increment (integer)
-- ARGV[2] time to live from the first addition on (ms)
-- Returns the counter's new value (decimal digits: Lua rounds a number beyond 2^53)
local left = redis.call('PTTL', KEYS[1])
redis.call('INCRBY', KEYS[1], ARGV[1])
if left < 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[2])
end
return redis.call('GET', KEYS[1])
