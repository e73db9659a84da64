-- Gives the lock back if it is ours, to the first waiter if there is one, and leaves the queue.
-- ARGV: id, publish command, and if it may have waited: entry
-- Answers 1 if it was ours, 0 if nobody had it, 2 if somebody else has it.
-- After so many hand-offs in a row the lock is left free for a moment, for programs that don't stand in our queue.
local HAND_OFFS = 16

local value = redis.call('GET', LOCK)
local left = ARGV[3] and leave(ARGV[3])
if not value then
  -- Whoever left may have been told that the lock is free.
  if left then advance(ARGV[2], 0) end
  return 0
end
if string.sub(value, 1, #ARGV[1]) ~= ARGV[1] then return 2 end
-- First: after this write a full server lets the rest pass.
redis.call('DEL', LOCK)
if redis.call('EXISTS', QUEUE) == 1 then
  local count = string.match(value, '^pm:%x+:%d+:(%d+):') + 1
  if count >= HAND_OFFS then
    wake(ARGV[2])
  else
    advance(ARGV[2], count)
  end
end
return 1
