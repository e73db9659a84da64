-- Takes the lock on this node if it is free and nobody is before us; asked with an entry, stands in the queue otherwise.
-- ARGV: SET, P, member, owner, lease in ms, publish command, permits, and to wait: entry, ticket, number of this question,
-- until when in ms, by this node's clock, to yield to who came before: a question that comes late must not yield what is
-- ours by a later one
-- Answers {-1} if this is not the node that we take it for; {1, time, its micros, aside, token} if the lock is ours;
-- {0, time, its micros, aside, ms the holder has left, place, whether the holder is another program, holder, position}.
local member, owner, ms, publish, permits, entry = ARGV[3], ARGV[4], tonumber(ARGV[5]), ARGV[6], ARGV[7], ARGV[8]
local ticket = entry and tonumber(ARGV[9])

local function before_us(other, its_ticket)
  return its_ticket < ticket or its_ticket == ticket and other < entry
end

prune()
local token = token_of(member)
local place = '0'
if entry and not token then place = stand(entry, ticket, ARGV[10], ms) end
local blocked, its_ticket
if redis.call('EXISTS', QUEUE) == 1 then
  blocked, its_ticket = advance(publish)
  if token and entry and tonumber(ARGV[11]) >= NOW and blocked and before_us(blocked, its_ticket) then
    -- Neither of us has a quorum, or the other one has one and is filling it up.
    give_back(member)
    place = stand(entry, ticket, ARGV[10], ms)
    advance(publish)
  end
  token = token_of(member)
end
if token then
  -- Also if this was asked before and the answer, or the push, was lost or is on its way.
  extend(member, ms)
  if entry then leave(entry) end
  return {1, time[1], time[2], aside, token}
end
-- Nobody is before us, or only those who can't be told.
if (not blocked or entry and not before_us(blocked, its_ticket)) and admits(member, permits) then
  if entry then leave(entry) end
  token = mint()
  grant(member, owner, ms, token)
  return {1, time[1], time[2], aside, token}
end
local tag, plain = holder()
return {0, time[1], time[2], aside, left(), place, plain, tag, entry and redis.call('ZRANK', QUEUE, entry) or 0}
