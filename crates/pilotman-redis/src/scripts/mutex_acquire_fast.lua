-- The way of nearly every acquire, before anything that costs more is set up: nobody has the lock or waits for it. What
-- it does is `mint` and what `mutex_acquire` does, in fewer steps.
if redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  local time = redis.call('TIME')
  local token = time[1] .. string.sub('00000' .. time[2], -6)
  local last = redis.call('GETSET', KEYS[4], token)
  if last and (#last > #token or (#last == #token and last >= token)) then
    token = string.format('%.0f', last + 1)
    redis.call('SET', KEYS[4], token)
  end
  redis.call('SET', KEYS[1], ARGV[1] .. ':' .. token .. ':0:' .. ARGV[2], 'PX', ARGV[3])
  return token
end
