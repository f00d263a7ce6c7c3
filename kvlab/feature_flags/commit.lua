-- Set and remove flags in one version, and publish the version.
-- KEYS[1] the flags: a hash of flag -> JSON; the field '' is the version
-- KEYS[2] channel of changes
-- ARGV    pairs of flag and JSON; an empty JSON removes the flag
-- Returns the new version (decimal digits)

local version = tonumber(redis.call('HGET', KEYS[1], '') or 0) or 0
if not (version >= 0 and version < 9007199254740991 and version % 1 == 0) then
    version = 0 -- not written by this script
end
local text = string.format('%.0f', version + 1)
local written, removed = { '', text }, {}
for i = 1, #ARGV, 2 do
    if ARGV[i + 1] == '' then
        table.insert(removed, ARGV[i])
    else
        table.insert(written, ARGV[i])
        table.insert(written, ARGV[i + 1])
    end
end
-- First: a user who may not publish has then changed nothing. Readers read after the whole script.
redis.call('PUBLISH', KEYS[2], text)
redis.call('HSET', KEYS[1], unpack(written))
if #removed > 0 then
    redis.call('HDEL', KEYS[1], unpack(removed))
end
return text
