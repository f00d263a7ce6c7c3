-- Start a session. Remove the user's ended sessions, and the one seen longest ago if too many live.
-- KEYS[1] the user's sessions: a hash
-- KEYS[2…] the user's sessions under old peppers: hashes
-- ARGV[1] handle of the new session (SHA-256 of its id, hex)
-- ARGV[2] idle timeout (ms)
-- ARGV[3] absolute timeout (ms)
-- ARGV[4] the most live sessions of a user (count)
-- ARGV[5] the user (JSON)
-- ARGV[6] data (JSON object, one field a line)
-- Returns {record, data}; when the session exists already, its first record and data

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)

local record = redis.call('HGET', KEYS[1], 'm:' .. ARGV[1])
if record and tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now then
    return {record, redis.call('HGET', KEYS[1], 'd:' .. ARGV[1])}
end

local live, dead = {}, {}
for _, key in ipairs(KEYS) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.sub(field, 1, 2) == 'm:' then
            local seen, expires = string.match(redis.call('HGET', key, field), '^%d+ (%d+) (%d+)')
            local one = {key = key, handle = string.sub(field, 3), seen = tonumber(seen)}
            table.insert(tonumber(expires) > now and live or dead, one)
        end
    end
end
table.sort(live, function(a, b) return a.seen < b.seen end)
for i = 1, #live - ARGV[4] + 1 do
    table.insert(dead, live[i])
end

local deadline = now + ARGV[3]
local expires = now + ARGV[2] -- the idle timeout is not the longer one
record = string.format('%.0f %.0f %.0f %.0f %s', now, now, expires, deadline, ARGV[5])
redis.call('HSET', KEYS[1], 'm:' .. ARGV[1], record, 'd:' .. ARGV[1], ARGV[6])
for _, one in ipairs(dead) do
    redis.call('HDEL', one.key, 'm:' .. one.handle, 'd:' .. one.handle)
end
-- One second longer than the session, so that its record decides.
if redis.call('PTTL', KEYS[1]) < expires - now + 1000 then
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires + 1000))
end
return {record, ARGV[6]}
