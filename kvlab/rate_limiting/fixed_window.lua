-- A fixed window: at most `limit` units in each window of the server's clock.
-- KEYS[1] the count, a string: "<start of the window, µs> <units used>"
-- KEYS[2] optional: the answer to this op_id, a string: "<remaining> <reset, µs> <at, µs>"
-- ARGV[1] cost (units)
-- ARGV[2] 1 to use the units, 0 to look only
-- ARGV[3] life of the answer to an op_id (ms)
-- ARGV[4] limit (units)
-- ARGV[5] window (µs)
-- Returns {allowed 1 or 0, remaining (units), retry after (µs, -1 never), reset after (µs), at (µs)}

if KEYS[2] then
  local answer = redis.call('GET', KEYS[2])
  if answer then
    local remaining, reset, at = string.match(answer, '^(%d+) (%d+) (%d+)$')
    return {1, tonumber(remaining), 0, tonumber(reset), tonumber(at)}
  end
end

local cost, counting, horizon = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local limit, window = tonumber(ARGV[4]), tonumber(ARGV[5])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]

local value, from, used = redis.call('GET', KEYS[1]), 0, 0
if value then
  local start, count = string.match(value, '^(%d+) (%d+)$')
  from, used = tonumber(start), tonumber(count)
  if from > now and from - now <= 1000000 then now = from end  -- up to 1 s back: time stands still
end
local start = now - now % window
local left = start + window - now
local ttl = math.ceil(left / 1000) + 100  -- the value says when it is stale; its TTL ends later

local function save()
  redis.call('SET', KEYS[1], string.format('%.0f %.0f', start, used), 'PX', ttl)
end

if from < start then
  used = 0
elseif from > start then
  save()  -- the clock went back: the used units count in this window
end

local room = math.max(0, limit - used)
local allowed, retry = cost <= room, 0
if not allowed then
  retry = cost > limit and -1 or left
end
if counting and allowed then
  used = used + cost
  room = room - cost
  save()
elseif counting and value and redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
local reset = used > 0 and left or 0
if KEYS[2] and allowed then
  redis.call('SET', KEYS[2], string.format('%.0f %.0f %.0f', room, reset, now), 'PX', horizon)
end
return {allowed and 1 or 0, room, retry, reset, now}
