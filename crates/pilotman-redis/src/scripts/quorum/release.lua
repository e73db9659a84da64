-- Gives the lock back if it is ours on this node, to the first waiter if there is one, and leaves the queue.
-- ARGV: P, member, publish command, whether to leave the lock free for a moment, and if it may have waited: entry
-- Answers 1 if it was ours, 0 if not.
prune()
local waited = redis.call('EXISTS', QUEUE) == 1
local left_queue = waited and ARGV[5] and leave(ARGV[5])
local held = give_back(ARGV[2])
if waited and (held or left_queue) then
  if ARGV[4] == '1' then wake(ARGV[3]) else advance(ARGV[3]) end
end
return held and 1 or 0
