-- Renews holds of reader-writer locks and semaphores; makes none anew. KEYS are the holders and details of each.
-- ARGV: lease in ms, then the member for each
-- Answers the server's time in seconds and microseconds, then for each 1 (renewed) or 0 (gone).
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local lease = tonumber(ARGV[1])
local answer = {time[1], time[2]}
for i = 1, #KEYS / 2 do
  local holders, member = KEYS[2 * i - 1], ARGV[i + 1]
  local ends = redis.pcall('ZSCORE', holders, member)
  if type(ends) == 'string' and ends + 0 > now then
    -- A write that a full server allows comes first; it lets the next one pass.
    for _, key in ipairs({holders, KEYS[2 * i]}) do
      redis.call('PEXPIRE', key, math.max(redis.call('PTTL', key), lease))
    end
    redis.call('ZADD', holders, 'XX', string.format('%.0f', now + lease), member)
    answer[i + 2] = 1
  else
    answer[i + 2] = 0
  end
end
return answer
