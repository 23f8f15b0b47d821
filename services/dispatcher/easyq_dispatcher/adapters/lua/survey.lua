-- Counts, for words to people and for the feeder.
--
-- input   {limits: number of limits, pools: [name], agents: [agent], positions: [[execution, task, pool]], tasks: [task],
--          low: heads below which a truncated task is told; 0: none is; fronts: [pool]; breakers: true or false;
--          heads: [task]}
-- answer  {1, [running by pool], [ready by pool], [running by limit], [running by agent], [cpu millis, bytes, GPUs, asked
--          for all GPUs, by agent], [position in its task from 0, or -1; detail; ms since when there is no room, or '', by
--          execution], [heads, set aside, number of truncation or '', by task], [truncated task that is low, number of
--          truncation, heads set aside, …], [execution and task of the pool's head that is next in line, or '', by pool],
--          [breaker, its JSON, …], [[execution, epoch and detail, …] by task of `heads`]}

if not holds() then return {0} end

local running, ready, limits, agents, used, positions, tasks, low, fronts = {}, {}, {}, {}, {}, {}, {}, {}, {}
local function add(list, ...)
  for _, value in ipairs({...}) do list[#list + 1] = value end
end

-- Lower scores of a task, in all its lanes.
local function position_of(id, task, lane, score)
  local needs = call('SMEMBERS', SPACE .. 'lanes:' .. task)
  local own = call('ZRANK', SPACE .. 'heads:' .. lane, id)
  if #needs == 0 and own then return own end
  local before, bound = 0, '(' .. score
  add(needs, '')
  for _, each in ipairs(needs) do
    before = before + call('ZCOUNT', SPACE .. 'heads:' .. lane_of(task, each), '-inf', bound)
  end
  return before
end

local function about(id, task, pool)
  local value = call('HGET', SPACE .. 'epochs:' .. task, id)
  if not value then return -1, '', '' end
  local _, detail = cut(value)
  local image, needs = cut(detail)
  local lane = lane_of(task, needs)
  local score = call('ZSCORE', SPACE .. 'heads:' .. lane, id) or call('ZSCORE', aside_of(image, lane), id)
  if not score then return -1, '', '' end
  local since = needs ~= '' and call('HGET', SPACE .. 'waits:' .. pool, needs) or ''
  return position_of(id, task, lane, whole(score)), detail, since
end

-- The first head of the first lane of a pool: of those in a ring, else of those at a limit, else of those set aside.
local function front_of(pool)
  local best, lowest
  local function look(key)
    local first = call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[1] and (not lowest or tonumber(first[2]) < lowest) then best, lowest = first[1], tonumber(first[2]) end
  end
  look(SPACE .. 'ring:' .. pool)
  local rings = call('ZRANGE', SPACE .. 'rings:' .. pool, 0, 0)
  if rings[1] then look(ring_of(pool, rings[1])) end
  if not best then
    for limit = 0, INPUT.limits - 1 do look(SPACE .. 'parked:' .. limit .. ':' .. pool) end
  end
  local heads = best and SPACE .. 'heads:' .. best
  if not best then
    for _, member in ipairs(call('SRANDMEMBER', SPACE .. 'aside', 50)) do
      local image, lane = cut(member)
      if cut(call('HGET', SPACE .. 'aside_routes', member) or '') == pool then
        best, heads = lane, aside_of(image, lane)
        break
      end
    end
  end
  local id = best and call('ZRANGE', heads, 0, 0)[1]
  if not id then return '', '' end
  local task = cut(best)
  return id, task
end

for i, pool in ipairs(INPUT.pools) do
  running[i] = call('SCARD', SPACE .. 'pool:' .. pool)
  ready[i] = tonumber(call('HGET', SPACE .. 'ready', pool) or 0)
end
for limit = 0, INPUT.limits - 1 do
  limits[limit + 1] = call('SCARD', SPACE .. 'limit:' .. limit)
end
for i, agent in ipairs(INPUT.agents) do
  agents[i] = call('SCARD', SPACE .. 'agent:' .. agent)
  for _, value in ipairs(call('HMGET', SPACE .. 'used:' .. agent, 'c', 'm', 'g', 'w')) do add(used, value or '0') end
end
for _, item in ipairs(INPUT.positions) do add(positions, about(item[1], item[2], item[3])) end
for _, task in ipairs(INPUT.tasks) do
  local count = count_heads(task)
  add(tasks, count, count_aside(task), call('HGET', SPACE .. 'truncated', task) or '')
end
if INPUT.low > 0 then
  local all = call('HGETALL', SPACE .. 'truncated')
  for i = 1, #all, 2 do
    if count_heads(all[i]) < INPUT.low then add(low, all[i], all[i + 1], count_aside(all[i])) end
  end
end
for _, pool in ipairs(INPUT.fronts) do add(fronts, front_of(pool)) end
local breakers = INPUT.breakers and call('HGETALL', BREAKERS) or {}
local heads = {}
for i, task in ipairs(INPUT.heads) do heads[i] = call('HGETALL', SPACE .. 'epochs:' .. task) end
return {1, running, ready, limits, agents, used, positions, tasks, low, fronts, breakers, heads}
