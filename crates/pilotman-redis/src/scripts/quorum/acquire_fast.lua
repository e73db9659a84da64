-- The way of nearly every acquire of a mutex, before anything that costs more is set up: this is the node that the caller
-- takes it for, nobody has the lock there or waits for it, and the proposed token is good.
if #ARGV[1] > 0 and redis.call('EXISTS', KEYS[1], KEYS[2]) == 0 then
  local meta = redis.call('GET', KEYS[5])
  if meta and string.sub(meta, 1, #ARGV[1] + 2) == ARGV[1] .. '0|' then
    local time = redis.call('TIME')
    local token, last = ARGV[2], redis.call('GET', KEYS[4])
    if #token == 16 and string.sub(token, 1, 10) + 0 <= time[1] + 60 and (not last or #last == 16 and last < token) then
      redis.call('SET', KEYS[4], token, 'PX', 86400000)
      redis.call('SET', KEYS[1], ARGV[3] .. ':' .. token .. ':' .. ARGV[4], 'PX', ARGV[5])
      return {1, time[1], time[2], 0, token}
    end
  end
end
