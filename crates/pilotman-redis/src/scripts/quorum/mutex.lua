-- A mutex of a quorum is a string: pq:<id>:<token>:<owner>. Another program's plain string excludes as well.
local time = redis.call('TIME')
local NOW = time[1] * 1000 + math.floor(time[2] / 1000)

local function prune() end

local function admits()
  return redis.call('EXISTS', LOCK) == 0
end

local function grant(member, owner, ms, token)
  redis.call('SET', LOCK, member .. ':' .. token .. ':' .. owner, 'PX', ms)
end

-- The token of a hold, if it is there.
local function token_of(member)
  local value = redis.call('GET', LOCK)
  if value and string.sub(value, 1, #member) == member then return string.match(value, '^pq:%x+:(%d+):') end
end

local function set_token(member, token)
  local owner = string.match(redis.call('GET', LOCK), '^pq:%x+:%d+:(.*)$')
  redis.call('SET', LOCK, member .. ':' .. token .. ':' .. owner, 'KEEPTTL')
end

-- Never shortens: a question may come late, after the hold was renewed for longer.
local function extend(member, ms)
  redis.call('PEXPIRE', LOCK, math.max(redis.call('PTTL', LOCK), ms))
end

local function give_back(member)
  if not token_of(member) then return false end
  redis.call('DEL', LOCK)
  return true
end

-- How long it is until somebody else can have it: 0 if it is free, negative if that is not known.
local function left()
  local ms = redis.call('PTTL', LOCK)
  return ms == -2 and 0 or ms
end

-- What tells this holder from others and gives nothing away; and whether it is another program's.
local function holder()
  local value = redis.call('GET', LOCK)
  if not value then return '', 0 end
  local ours = string.match(value, '^pq:%x+')
  return string.sub(redis.sha1hex(ours or value), 1, 12), ours and 0 or 1
end

-- {member or value, ms left, token:owner} of each hold.
local function holds()
  local value = redis.call('GET', LOCK)
  if not value then return {} end
  local member, details = string.match(value, '^(pq:%x+):(%d+:.*)$')
  return {{member or value, redis.call('PTTL', LOCK), details or ''}}
end
