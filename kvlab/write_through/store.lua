-- Store a committed row, unless a newer version is known. Ends every lease.
-- KEYS[1] entry, a hash: value, load, lease
-- KEYS[2] lease, a string
-- KEYS[3] newest known version, a string
-- ARGV[1] version
-- ARGV[2] value (JSON; null for a deleted row)
-- ARGV[3] life of the entry (ms)
-- ARGV[4] life of the version (ms), at least ARGV[3]
-- Returns 1 when the entry holds this version, 0 when it does not
local known = redis.pcall('GET', KEYS[3])
known = type(known) == 'string' and tonumber(known)
local version = tonumber(ARGV[1])
if known and known > version then return 0 end
if known == version then -- sent twice; after an invalidation the entry stays absent
  return redis.pcall('HEXISTS', KEYS[1], 'value') == 1 and 1 or 0
end

if type(redis.pcall('HLEN', KEYS[1])) ~= 'number' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'value', ARGV[2])
redis.call('HDEL', KEYS[1], 'lease') -- no longer the value of a fill
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('SET', KEYS[3], ARGV[1], 'PX', ARGV[4])
redis.call('DEL', KEYS[2])
return 1
