-- End one session. A session that was rotated a short time ago ends under its new handle.
-- KEYS[1…] the user's sessions: hashes, one for each pepper
-- ARGV[1] handle (SHA-256 of the id, hex)
-- Returns 1 when the session was alive, else 0

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local function ended(key, handle, record)
    redis.call('HDEL', key, 'm:' .. handle, 'd:' .. handle)
    return tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now and 1 or 0
end

for _, key in ipairs(KEYS) do
    local record = redis.call('HGET', key, 'm:' .. ARGV[1])
    if record then
        return ended(key, ARGV[1], record)
    end
end
-- A log-out that was sent before a rotation may arrive after it, and must win.
for _, key in ipairs(KEYS) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.sub(field, 1, 2) == 'm:' then
            local record = redis.call('HGET', key, field)
            local reach = string.match(record, '\t.*' .. ARGV[1] .. ' (%d+)')
            if reach and tonumber(reach) > now then
                return ended(key, string.sub(field, 3), record)
            end
        end
    end
end
return 0
