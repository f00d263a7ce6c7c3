-- Merge fields into a session's data, and start its idle timeout again.
-- KEYS[1] the user's sessions: a hash
-- ARGV[1] handle (SHA-256 of the id, hex)
-- ARGV[2] idle timeout (ms)
-- ARGV[3] the most data (bytes)
-- ARGV[4] the fields (lines as in d:<handle>; an empty value removes the field)
-- Returns {record, data}; nil when there is no such session; the size (bytes) when it is too large

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

-- Names and values stay JSON texts: Lua's own JSON would change lists and whole numbers.
local names, values = {}, {}
for name, value in string.gmatch(found[2] .. ARGV[4], '("[^\t\n]*"):\t([^\n]*)\n') do
    if not values[name] then
        table.insert(names, name)
    end
    values[name] = value
end
local size, lines = #string.match(user, '^[^\t]*'), {}
for _, name in ipairs(names) do
    local value = values[name]
    if value ~= '' then
        size = size + #name + #value
        table.insert(lines, name .. ':\t' .. value .. '\n')
    end
end
if size > tonumber(ARGV[3]) then
    return size
end

local data = '{\n' .. table.concat(lines, ',') .. '}'
expires = math.min(now + ARGV[2], tonumber(deadline))
local record = string.format('%s %.0f %.0f %s %s', created, now, expires, deadline, user)
redis.call('HSET', KEYS[1], 'm:' .. ARGV[1], record, 'd:' .. ARGV[1], data)
if redis.call('PTTL', KEYS[1]) < expires - now + 1000 then
    redis.call('PEXPIREAT', KEYS[1], string.format('%.0f', expires + 1000))
end
return {record, data}
