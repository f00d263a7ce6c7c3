-- Give a lease back, so that somebody else may load at once.
-- KEYS[1] lease
-- ARGV[1] the lease, or the nonce that it begins with
-- Returns 1 when it was given back, 0 when it was no longer held
local held = redis.pcall('GET', KEYS[1])
if type(held) ~= 'string' or string.sub(held, 1, #ARGV[1]) ~= ARGV[1] then return 0 end
return redis.call('DEL', KEYS[1])
