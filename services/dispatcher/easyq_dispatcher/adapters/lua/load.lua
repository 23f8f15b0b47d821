-- Counts executions that the store holds: while a filling is made, or as a repair of the one that holds. As a repair they
-- start unconfirmed, so that one which ended meanwhile is found soon. Their images are not known.
--
-- input   {repair, items: [[execution, epoch before its assignment, session, pool, limits, task, agent, detail]]}
-- answer  {1}

if INPUT.repair then
  if not holds() then return {0} end
elseif call('GET', SPACE .. 'loading') ~= server_id() then
  return {0}
end

local time = now_ms()
for _, item in ipairs(INPUT.items) do
  local id = item[1]
  if call('HEXISTS', SPACE .. 'held', id) == 0 then
    occupy(id, item[2], '0', item[3], item[4], item[5], item[6], item[7], item[8])
    if INPUT.repair then call('ZADD', SPACE .. 'taken', time, id) end
  end
end
return {1}
