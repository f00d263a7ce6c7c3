-- List the live sessions of a user, and remove the ended ones.
-- KEYS[1] the user's sessions: a hash
-- Returns {handle, record, handle, record, ...}

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local live, dead = {}, {}
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'm:' then
        local handle = string.sub(field, 3)
        local record = redis.call('HGET', KEYS[1], field)
        if tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now then
            table.insert(live, handle)
            table.insert(live, record)
        else
            table.insert(dead, handle)
        end
    end
end
for _, handle in ipairs(dead) do
    redis.call('HDEL', KEYS[1], 'm:' .. handle, 'd:' .. handle)
end
return live
