-- Write a value unless a higher fence has written before.
-- KEYS[1] hash: fence, value
-- ARGV[1] fence
-- ARGV[2] value
-- ARGV[3] TTL (ms)
-- Returns 1, or 0 when refused
local last = redis.call('HGET', KEYS[1], 'fence')
if last and tonumber(last) > tonumber(ARGV[1]) then
  return 0
end
redis.call('HSET', KEYS[1], 'fence', ARGV[1], 'value', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 1
