-- Give a session a new handle. The old handle ends at once; data and deadline stay.
-- KEYS[1] the user's sessions: a hash
-- ARGV[1] the old handle (SHA-256 of the id, hex)
-- ARGV[2] the new handle (SHA-256 of the new id, hex)
-- ARGV[3] idle timeout (ms)
-- ARGV[4] how long a log-out by the old id ends the session (ms)
-- Returns {record, data}; after an earlier rotation to this handle its record and data; nil when
-- there is no such session

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local new = redis.call('HMGET', KEYS[1], 'm:' .. ARGV[2], 'd:' .. ARGV[2])
if new[1] then
    local alive = tonumber(string.match(new[1], '^%d+ %d+ (%d+)')) > now
    return alive and new
end
local found = redis.call('HMGET', KEYS[1], 'm:' .. ARGV[1], 'd:' .. ARGV[1])
if not found[1] then
    return false
end
local created, expires, deadline, user =
    string.match(found[1], '^(%d+) %d+ (%d+) (%d+) (.*)$')
if tonumber(expires) <= now then
    return false
end

-- After the user and a tab the record has its last handles, each with the end of its reach.
local who, before = string.match(user, '^([^\t]*)\t?(.*)$')
local last = {}
for one in string.gmatch(before, '%x+ %d+') do table.insert(last, one) end
if #last >= 10 then table.remove(last, 1) end
table.insert(last, string.format('%s %.0f', ARGV[1], now + ARGV[4]))
user = who .. '\t' .. table.concat(last, ' ')

expires = math.min(now + ARGV[3], tonumber(deadline))
local record = string.format('%s %.0f %.0f %s %s', created, now, expires, deadline, user)
redis.call('HSET', KEYS[1], 'm:' .. ARGV[2], record, 'd:' .. ARGV[2], found[2])
redis.call('HDEL', KEYS[1], 'm:' .. ARGV[1], 'd:' .. ARGV[1])
if redis.call('PTTL', KEYS[1]) < expires - now + 1000 then
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires + 1000))
end
return {record, found[2]}
