-- Give a lease back, so that another caller may load at once.
-- KEYS[1] lease, a string
-- ARGV[1] the lease, or the nonce at its beginning
-- Returns 1 when the lease was given back, 0 when it was held no longer
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
