-- Store a loaded value, unless the lease of the load is gone.
-- KEYS[1] entry, a hash: value, load, lease
-- KEYS[2] lease, a string
-- KEYS[3] newest known version, a string
-- ARGV[1] lease
-- ARGV[2] value (JSON)
-- ARGV[3] life of the entry (ms)
-- ARGV[4] least life of the version (ms)
-- ARGV[5] version of the value, '' if unknown
-- Returns 1 when the entry holds this fill, 0 when it does not
if redis.pcall('GET', KEYS[2]) ~= ARGV[1] then
  local filled = redis.pcall('HGET', KEYS[1], 'lease') -- by this same fill, sent twice?
  return filled == ARGV[1] and 1 or 0
end
local known = redis.pcall('GET', KEYS[3])
known = type(known) == 'string' and tonumber(known)
local version = tonumber(ARGV[5])
if known and version and version < known then
  redis.call('DEL', KEYS[2])
  return 0
end

local now = redis.call('TIME')
local since = string.match(ARGV[1], '%-(%d+)$')
local load = math.max(0, (now[1] * 1000000 + now[2] - since) / 1000)
if type(redis.pcall('HLEN', KEYS[1])) ~= 'number' then redis.call('DEL', KEYS[1]) end
redis.call('HSET', KEYS[1], 'value', ARGV[2], 'load', string.format('%.3f', load), 'lease', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
redis.call('DEL', KEYS[2])
if known or version then -- the version lives at least as long as the entry
  local life = math.max(redis.call('PTTL', KEYS[3]), tonumber(ARGV[4]))
  if version then
    redis.call('SET', KEYS[3], ARGV[5], 'PX', string.format('%.0f', life))
  else
    redis.call('PEXPIRE', KEYS[3], string.format('%.0f', life))
  end
end
return 1
