-- Renews the locks in KEYS that are still ours; makes none anew.
-- ARGV: lease in ms, then the id for each key
-- Answers the server's time in seconds and microseconds, then for each key 1 (renewed), 0 (gone), 2 (somebody else's).
local time = redis.call('TIME')
local answer = {time[1], time[2]}
for i, key in ipairs(KEYS) do
  local value = redis.pcall('GET', key)
  if not value then
    answer[i + 2] = 0
  elseif type(value) == 'string' and string.sub(value, 1, #ARGV[i + 1]) == ARGV[i + 1] then
    redis.call('PEXPIRE', key, ARGV[1])
    answer[i + 2] = 1
  else
    answer[i + 2] = 2
  end
end
return answer
