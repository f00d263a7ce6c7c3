-- A token bucket, as GCRA in its leaky-bucket form: used units drain at a steady rate.
-- The level is counted in 1/scale units, so that every number here is whole.
-- KEYS[1] the bucket, a string: "<level> <at, µs> <scale>"
-- KEYS[2] optional: the answer to this op_id, a string: "<remaining> <reset, µs> <at, µs>"
-- ARGV[1] cost (units)
-- ARGV[2] 1 to use the units, 0 to look only
-- ARGV[3] life of the answer to an op_id (ms)
-- ARGV[4] burst (units)
-- ARGV[5] scale (level per unit)
-- ARGV[6] drain (level per µs)
-- Returns {allowed 1 or 0, remaining (units), retry after (µs, -1 never), reset after (µs), at (µs)}

if KEYS[2] then
  local answer = redis.call('GET', KEYS[2])
  if answer then
    local remaining, reset, at = string.match(answer, '^(%d+) (%d+) (%d+)$')
    return {1, tonumber(remaining), 0, tonumber(reset), tonumber(at)}
  end
end

local cost, counting, horizon = tonumber(ARGV[1]), ARGV[2] == '1', ARGV[3]
local burst, scale, drain = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local size = burst * scale

local level, reset = 0, 0
local function save()
  reset = math.ceil(level / drain)
  local value = string.format('%.0f %.0f %.0f', level, now, scale)
  redis.call('SET', KEYS[1], value, 'PX', math.ceil(reset / 1000) + 100)
end

local value = redis.call('GET', KEYS[1])
if value then
  local was, at, unit = string.match(value, '^(%d+) (%d+) (%d+)$')
  was, at, unit = tonumber(was), tonumber(at), tonumber(unit)
  if unit ~= scale then was = math.ceil(was / unit * scale) end  -- the limit was changed
  was = math.min(was, size)
  if at > now and at - now <= 1000000 then now = at end  -- up to 1 s back: time stands still
  level = math.max(0, was - drain * math.max(0, now - at))
  if at > now then save() end  -- the clock went back: the level stays, and drains from now
end
reset = math.ceil(level / drain)

local allowed, retry = cost * scale <= size - level, 0
if cost > burst then
  retry = -1
elseif not allowed then
  retry = math.ceil((cost * scale - (size - level)) / drain)
end
if counting and allowed then
  level = level + cost * scale
  save()
elseif counting and value and redis.call('PTTL', KEYS[1]) < 0 then
  redis.call('PEXPIRE', KEYS[1], math.ceil(reset / 1000) + 100)
end
local room = math.floor((size - level) / scale)
if KEYS[2] and allowed then
  redis.call('SET', KEYS[2], string.format('%.0f %.0f %.0f', room, reset, now), 'PX', horizon)
end
return {allowed and 1 or 0, room, retry, reset, now}
