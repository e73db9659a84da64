-- Looks which set of nodes this one belongs to, and enters it if it belongs to none.
-- ARGV: set, run id, longest lease in ms, how: look, first (nobody can have a lock yet), new (locks may be forgotten here)
-- Answers {what, ms the quarantine lasts, longest lease in ms, time, its micros}; what: ok, absent, other (it belongs to
-- another set, for so many ms still), longer (the nodes have agreed on a shorter lease), reset (the quarantine was begun).
local set, run, longest, how = ARGV[1], ARGV[2], tonumber(ARGV[3]), ARGV[4]
local time = redis.call('TIME')
local now = time[1] * 1000 + math.floor(time[2] / 1000)
local meta = redis.call('GET', KEYS[1])
local ends, was = 0, 'ok'
if meta then
  local its_set, its_run, its_end, its_longest, seen = string.match(meta, '^([^|]*)|([^|]*)|(%d+)|(%d+)|(%d+)$')
  if not its_set then return {'other', 0, 0, time[1], time[2]} end
  its_end, its_longest, seen = tonumber(its_end), tonumber(its_longest), tonumber(seen)
  -- While the other set is in use, or its locks can be.
  local used = math.abs(now - seen) <= its_longest + 1000
  if its_set ~= set and used then return {'other', seen + its_longest + 1000 - now, its_longest, time[1], time[2]} end
  if longest > its_longest and used then return {'longer', 0, its_longest, time[1], time[2]} end
  if used then longest = its_longest end
  -- The clock may have been set back.
  if its_end > now then ends = math.min(its_end, now + longest) end
  if how == 'new' or its_set == set and its_run ~= run then
    ends = now + longest
    was = 'reset'
  end
elseif how == 'look' then
  return {'absent', 0, longest, time[1], time[2]}
elseif how == 'new' then
  ends = now + longest
  was = 'reset'
end
redis.call('SET', KEYS[1], string.format('%s|%s|%.0f|%.0f|%.0f', set, run, ends, longest, now))
return {was, ends > now and ends - now or 0, longest, time[1], time[2]}
