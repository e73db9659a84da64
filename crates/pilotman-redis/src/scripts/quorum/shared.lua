-- A reader-writer lock or a semaphore of a quorum is a sorted set: <mode>:pq:<id> by the node's time in ms at which the hold
-- ends. Modes: r(ead), w(rite), p(ermit). DETAILS has <token>:<owner> of each.
local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

-- Takes out the holds that have ended.
local function prune()
  for _, member in ipairs(redis.call('ZRANGEBYSCORE', LOCK, '-inf', NOW)) do
    redis.call('ZREM', LOCK, member)
    redis.call('HDEL', DETAILS, member)
  end
end

local function admits(member, permits)
  local count = redis.call('ZCARD', LOCK)
  if count == 0 then return true end
  local mode = string.sub(member, 1, 1)
  if mode == 'p' then return count < tonumber(permits) end
  if mode == 'r' then return string.sub(redis.call('ZRANGE', LOCK, 0, 0)[1], 1, 1) ~= 'w' end
  return false
end

local function last_for(key, ms)
  if redis.call('PTTL', key) < ms then redis.call('PEXPIRE', key, ms) end
end

local function grant(member, owner, ms, token)
  redis.call('ZADD', LOCK, string.format('%.0f', NOW + ms), member)
  redis.call('HSET', DETAILS, member, token .. ':' .. owner)
  last_for(LOCK, ms)
  last_for(DETAILS, ms)
end

-- The token of a hold, if it is there.
local function token_of(member)
  if not redis.call('ZSCORE', LOCK, member) then return nil end
  return string.match(redis.call('HGET', DETAILS, member) or '0:', '^%d+')
end

local function set_token(member, token)
  local details = redis.call('HGET', DETAILS, member) or '0:'
  redis.call('HSET', DETAILS, member, token .. ':' .. string.match(details, '^%d+:(.*)$'))
end

-- Never shortens: a question may come late, after the hold was renewed for longer.
local function extend(member, ms)
  -- A write that a full server allows comes first; it lets the next one pass.
  last_for(LOCK, ms)
  last_for(DETAILS, ms)
  local ends = math.max(redis.call('ZSCORE', LOCK, member) + 0, NOW + ms)
  redis.call('ZADD', LOCK, 'XX', string.format('%.0f', ends), member)
end

local function give_back(member)
  redis.call('HDEL', DETAILS, member)
  return redis.call('ZREM', LOCK, member) == 1
end

-- How long it is until the next hold ends: 0 if there is none.
local function left()
  local next = redis.call('ZRANGE', LOCK, 0, 0, 'WITHSCORES')[2]
  return next and math.max(next - NOW, 1) or 0
end

-- What tells the holder from others and gives nothing away, where there is but one.
local function holder()
  local first = redis.call('ZRANGE', LOCK, 0, 1)
  if not first[1] or first[2] then return '', 0 end
  return string.sub(redis.sha1hex(first[1]), 1, 12), 0
end

-- {member, ms left, token:owner} of each hold.
local function holds()
  local found = {}
  local all = redis.call('ZRANGE', LOCK, 0, -1, 'WITHSCORES')
  for i = 1, #all, 2 do
    found[#found + 1] = {all[i], all[i + 1] - NOW, redis.call('HGET', DETAILS, all[i]) or '0:'}
  end
  return found
end
