-- Read a session and start its idle timeout again, never beyond the absolute timeout.
-- KEYS[1] the user's sessions: a hash
-- ARGV[1] handle (SHA-256 of the id, hex)
-- ARGV[2] idle timeout (ms)
-- Returns {record, data}, or nil when there is no such session

local found = redis.call('HMGET', KEYS[1], 'm:' .. ARGV[1], 'd:' .. ARGV[1])
if not found[1] then
    return false
end
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local created, expires, deadline, user =
    string.match(found[1], '^(%d+) %d+ (%d+) (%d+) (.*)$')
if tonumber(expires) <= now then
    return false
end

expires = math.min(now + ARGV[2], tonumber(deadline))
local record = string.format('%s %.0f %.0f %s %s', created, now, expires, deadline, user)
local written = redis.pcall('HSET', KEYS[1], 'm:' .. ARGV[1], record)
if type(written) == 'table' and written.err then
    -- The memory is full: the session is read, and its idle timeout does not start again.
    if string.find(written.err, 'OOM', 1, true) or string.find(written.err, 'maxmemory', 1, true) then
        return found
    end
    return written
end
if redis.call('PTTL', KEYS[1]) < expires - now + 1000 then
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires + 1000))
end
return {record, found[2]}
