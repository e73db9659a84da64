-- As mutex_acquire, for a reader, a writer or a permit.
-- ARGV: member, owner, lease in ms, publish command, entry ('' to not wait), first lease in ms, permits
local member, owner, lease, entry = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[5]
local now = math.floor(micros_now() / 1000)
prune(now)
local mode, permits = string.sub(member, 1, 1), tonumber(ARGV[7])
if redis.call('ZSCORE', HOLDERS, member) then
  -- Ours: this was asked before and the answer, or the push, was lost or is on its way.
  if entry ~= '' then leave(entry) end
  local token = mint()
  hold(member, owner, lease, now, token)
  return token
end
local blocked = false
if redis.call('EXISTS', QUEUE) == 1 then
  if entry ~= '' then stand(entry, tonumber(ARGV[6])) end
  blocked = advance(ARGV[4], now)
  local details = entry ~= '' and redis.call('HGET', DETAILS, member)
  if details then
    hold(member, owner, lease, now, string.match(details, '^%d+'))
    return string.match(details, '^%d+')
  end
end
-- Nobody is before us, or only those who can't be told.
local first = not blocked or (entry ~= '' and living(0, now) == entry)
if first and admits(mode, permits) then
  if entry ~= '' then leave(entry) end
  local token = mint()
  hold(member, owner, lease, now, token)
  return token
end
local next = redis.call('ZRANGE', HOLDERS, 0, 0, 'WITHSCORES')[2]
local left = next and math.max(next - now, 1) or 0
if entry == '' then return {left, 0, 0, ''} end
local ticket = stand(entry, tonumber(ARGV[6]))
return {left, redis.call('ZRANK', QUEUE, entry), 0, ticket}
