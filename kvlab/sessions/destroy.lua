-- End one session.
-- KEYS[1] the user's sessions: a hash
-- ARGV[1] handle (SHA-256 of the id, hex)
-- Returns 1 when the session was alive, else 0

local record = redis.call('HGET', KEYS[1], 'm:' .. ARGV[1])
if not record then
    return 0
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
redis.call('HDEL', KEYS[1], 'm:' .. ARGV[1], 'd:' .. ARGV[1])
return tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now and 1 or 0
