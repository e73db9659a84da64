-- Takes the lock if it is free and nobody is before us; asked with a first lease, stands in the queue otherwise.
-- ARGV: id, owner, lease in ms, publish command, and to wait: entry, first lease in ms
-- Answers a token, or {ms the holder has left, place, whether the holder is a plain one, ticket}.
local value = redis.call('GET', LOCK)
local waits = ARGV[5] ~= nil
local ticket
if not value then
  -- Free, but others came first.
  if waits then ticket = stand(ARGV[5], tonumber(ARGV[6])) end
  advance(ARGV[4], 0)
  value = redis.call('GET', LOCK)
  if not value and not waits then
    -- They are dead, or can't be told.
    local token = mint()
    redis.call('SET', LOCK, ARGV[1] .. ':' .. token .. ':0:' .. ARGV[2], 'PX', ARGV[3])
    return token
  end
  if not value and waits and redis.call('ZRANK', QUEUE, ARGV[5]) then
    -- Nobody can be told, we neither; but we are asking.
    leave(ARGV[5])
    local token = mint()
    redis.call('SET', LOCK, ARGV[1] .. ':' .. token .. ':0:' .. ARGV[2], 'PX', ARGV[3])
    return token
  end
end
if value and string.sub(value, 1, #ARGV[1]) == ARGV[1] then
  -- Ours: this was asked before and the answer, or the push, was lost or is on its way.
  redis.call('PEXPIRE', LOCK, ARGV[3])
  if waits then leave(ARGV[5]) end
  return string.match(value, '^pm:%x+:(%d+):')
end
local left = value and redis.call('PTTL', LOCK) or 0
if not waits then return {left, 0, 0, ''} end
ticket = stand(ARGV[5], tonumber(ARGV[6]))
local plain = (value and string.sub(value, 1, 3) ~= 'pm:') and 1 or 0
return {left, redis.call('ZRANK', QUEUE, ARGV[5]), plain, ticket}
