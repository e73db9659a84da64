-- Takes the lock from whoever has it on this node, and gives it to those who wait.
-- ARGV: P, publish command, prefix of the holders' channels
-- Answers {member or value, ms left, token:owner} of each hold.
prune()
local broken = holds()
redis.call('DEL', LOCK, DETAILS)
for _, hold in ipairs(broken) do
  local id, owner = string.match(hold[1], 'pq:%x+'), string.match(hold[3], '^%d+:(.*)$')
  if id and owner then redis.call(ARGV[2], ARGV[3] .. owner, 'lost ' .. id) end
end
if #broken > 0 then mint() end
advance(ARGV[2])
return broken
