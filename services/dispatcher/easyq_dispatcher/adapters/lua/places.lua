-- Executions that count.
--
-- input   {overdue: only those that were taken this many ms ago or earlier and that nobody confirmed; absent: all}
-- answer  {1, [execution, record, …], [execution that is not confirmed, …]}

if not holds() then return {0} end

if not INPUT.overdue then
  return {1, call('HGETALL', SPACE .. 'held'), call('ZRANGE', SPACE .. 'taken', 0, -1)}
end
local ids = call('ZRANGEBYSCORE', SPACE .. 'taken', '-inf', now_ms() - INPUT.overdue, 'LIMIT', 0, INPUT.most)
local found = {}
for _, id in ipairs(ids) do
  found[#found + 1] = id
  found[#found + 1] = call('HGET', SPACE .. 'held', id) or ''
end
return {1, found, ids}
