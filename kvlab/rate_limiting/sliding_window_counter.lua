-- A sliding counter: this window's units, and those of the last window that still overlap.
-- KEYS[1] the counts, a string: "<start of the window, µs> <units in it> <units in the one before>"
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

local value, from, current, previous = redis.call('GET', KEYS[1]), 0, 0, 0
if value then
  local start, newer, older = string.match(value, '^(%d+) (%d+) (%d+)$')
  from, current, previous = tonumber(start), tonumber(newer), tonumber(older)
  if from > now and from - now <= 1000000 then now = from end  -- up to 1 s back: time stands still
end
local elapsed = now % window
local start = now - elapsed
local ttl = math.ceil((2 * window - elapsed) / 1000) + 100  -- never expire early

local function save()
  local value = string.format('%.0f %.0f %.0f', start, current, previous)
  redis.call('SET', KEYS[1], value, 'PX', ttl)
end

if from > start then  -- the clock went back: both counts count in this window
  current, previous = math.min(limit, current + previous), 0
  save()
elseif from < start then
  current, previous = 0, from == start - window and current or 0
end

-- How far into a window `count`, from the window before, has faded to `room` (µs). Products above
-- 2^53 are rounded, by one part in 10^15.
local function faded(count, room)
  return count <= room and 0 or window - math.floor(room * window / count)
end

local weighted = previous * (window - elapsed) / window
local allowed, retry = weighted <= limit - current - cost, 0
if cost > limit then
  allowed, retry = false, -1
elseif not allowed and cost <= limit - current then  -- the sum may be beyond 2^53
  retry = faded(previous, limit - current - cost) - elapsed
elseif not allowed then
  retry = window - elapsed + faded(current, limit - cost)
end
if counting and allowed then
  current = current + cost
  save()
elseif counting and value and redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], ttl)
end
local room = math.max(0, math.floor(limit - current - weighted))
local reset = 0
if current > 0 then
  reset = 2 * window - elapsed
elseif previous > 0 then
  reset = window - elapsed
end
if KEYS[2] and allowed then
  redis.call('SET', KEYS[2], string.format('%.0f %.0f %.0f', room, reset, now), 'PX', horizon)
end
return {allowed and 1 or 0, room, retry, reset, now}
