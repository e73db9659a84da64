-- The way of nearly every release, before anything that costs more is set up: it is ours, and nobody waits.
if not ARGV[3] and redis.call('EXISTS', KEYS[2]) == 0 then
  local value = redis.call('GET', KEYS[1])
  if not value then return 0 end
  if string.sub(value, 1, 35) ~= ARGV[1] then return 2 end
  redis.call('DEL', KEYS[1])
  return 1
end
