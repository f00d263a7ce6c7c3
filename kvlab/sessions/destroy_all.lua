-- End every session of a user.
-- KEYS[1] the user's sessions: a hash
-- Returns how many sessions were alive (count)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local alive = 0
for _, field in ipairs(redis.call('HKEYS', KEYS[1])) do
    if string.sub(field, 1, 2) == 'm:' then
        local record = redis.call('HGET', KEYS[1], field)
        if tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now then
            alive = alive + 1
        end
    end
end
redis.call('DEL', KEYS[1])
return alive
