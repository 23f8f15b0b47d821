-- Counts, for words to people and for the feeder.
--
-- input   {limits: number of limits, pools: [name], agents: [agent], positions: [[execution, task]], tasks: [task],
--          low: heads below which a truncated task is told; 0: none is}
-- answer  {1, [running by pool], [ready by pool], [running by limit], [running by agent], [position from 0, or -1],
--          [heads, number of truncation or '', by task], [truncated task that is low, number of truncation, …]}

if not holds() then return {0} end

local running, ready, limits, agents, positions, tasks, low = {}, {}, {}, {}, {}, {}, {}
for i, pool in ipairs(INPUT.pools) do
  running[i] = call('SCARD', SPACE .. 'pool:' .. pool)
  ready[i] = tonumber(call('HGET', SPACE .. 'ready', pool) or 0)
end
for limit = 0, INPUT.limits - 1 do
  limits[limit + 1] = call('SCARD', SPACE .. 'limit:' .. limit)
end
for i, agent in ipairs(INPUT.agents) do
  agents[i] = call('SCARD', SPACE .. 'agent:' .. agent)
end
for i, item in ipairs(INPUT.positions) do
  positions[i] = call('ZRANK', SPACE .. 'heads:' .. item[2], item[1]) or -1
end
for _, task in ipairs(INPUT.tasks) do
  tasks[#tasks + 1] = call('ZCARD', SPACE .. 'heads:' .. task)
  tasks[#tasks + 1] = call('HGET', SPACE .. 'truncated', task) or ''
end
if INPUT.low > 0 then
  local all = call('HGETALL', SPACE .. 'truncated')
  for i = 1, #all, 2 do
    if call('ZCARD', SPACE .. 'heads:' .. all[i]) < INPUT.low then
      low[#low + 1] = all[i]
      low[#low + 1] = all[i + 1]
    end
  end
end
return {1, running, ready, limits, agents, positions, tasks, low}
