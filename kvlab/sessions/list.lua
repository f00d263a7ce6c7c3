-- List the live sessions of a user, and remove the ended ones.
-- KEYS[1…] the user's sessions: hashes, one for each pepper
-- Returns {handle, record, handle, record, ...}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local live, dead = {}, {}
for _, key in ipairs(KEYS) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.sub(field, 1, 2) == 'm:' then
            local handle = string.sub(field, 3)
            local record = redis.call('HGET', key, field)
            if tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now then
                table.insert(live, handle)
                table.insert(live, record)
            else
                table.insert(dead, {key = key, handle = handle})
            end
        end
    end
end
for _, one in ipairs(dead) do
    redis.call('HDEL', one.key, 'm:' .. one.handle, 'd:' .. one.handle)
end
return live
