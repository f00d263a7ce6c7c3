-- End every session of a user.
-- KEYS[1…] the user's sessions: hashes, one for each pepper
-- Returns how many sessions were alive (count)

local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local alive = 0
for _, key in ipairs(KEYS) do
    for _, field in ipairs(redis.call('HKEYS', key)) do
        if string.sub(field, 1, 2) == 'm:' then
            local record = redis.call('HGET', key, field)
            if tonumber(string.match(record, '^%d+ %d+ (%d+)')) > now then
                alive = alive + 1
            end
        end
    end
    redis.call('DEL', key)
end
return alive
