-- Answers {holds as {member or value, ms left, token:owner}, waiters that live}.
prune()
local count = 0
for _, waiter in ipairs(redis.call('HVALS', WAITERS)) do
  if string.match(waiter, '^%d+') + 0 > NOW then count = count + 1 end
end
return {holds(), count}
