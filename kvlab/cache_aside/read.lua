-- Read a cached value. On a miss take the lease, or say how long another caller holds it.
-- KEYS[1] entry, a hash: value (JSON), load (ms that the load took), lease (of the fill)
-- KEYS[2] lease, a string
-- ARGV[1] the caller's nonce
-- ARGV[2] life of a lease (ms)
-- ARGV[3] early renewal: how many load times before its end an entry is due; 0 for never
-- ARGV[4] optional: a value that the caller cannot read; it counts as a miss
-- Returns {value or nil, lease or '', ms that another caller's lease still lives or 0}
local found = redis.pcall('HMGET', KEYS[1], 'value', 'load')
if found.err then
  if not string.find(tostring(found.err), 'WRONGTYPE', 1, true) then return found end
  found = {false, false} -- another type: the next fill replaces it
end
local value = found[1]
if value and value == ARGV[4] then value = false end
if value then
  local ahead = (tonumber(found[2]) or 0) * tonumber(ARGV[3])
  if ahead <= redis.call('PTTL', KEYS[1]) then return {value, '', 0} end
end

local held = redis.pcall('GET', KEYS[2])
if type(held) == 'string' then
  if string.sub(held, 1, #ARGV[1]) == ARGV[1] then return {value, held, 0} end
  local left = redis.call('PTTL', KEYS[2])
  if left > 0 then return {value, '', left} end
end
local now = redis.call('TIME')
local lease = ARGV[1] .. '-' .. string.format('%d%06d', now[1], now[2])
redis.call('SET', KEYS[2], lease, 'PX', ARGV[2])
return {value, lease, 0}
