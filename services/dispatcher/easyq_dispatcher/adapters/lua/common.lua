-- The index of one farm in Redis. This header documents every key; this part stands before each of the scripts.
--
-- P is `{farm}:v1:`, braces included, so that all keys of a farm share one hash slot. S is `P<generation>:`: each filling
-- of Redis has a key space of its own, so that a late write to an older one can't touch the one that holds.
--
-- P state            hash    generation, run_id, config: the filling that holds; written last, once it is complete.
--                            `run_id` is the server's own: a server that started again (perhaps from an old file), or
--                            another one, is not the one that was filled. `config` is the fingerprint of pools and limits.
-- P rebuilder        string  id of the dispatcher that fills now; expires. Saves double work; what makes it right is the
--                            compare-and-set of the generation in the store.
-- P wake             channel id of a dispatcher that made work for others. An optimisation.
-- S loading          string  run_id of the server on which this filling began; gone once it holds.
-- S heads:<task>     zset    execution → score: ready heads, the lowest score first. At most 1,000.
-- S epochs:<task>    hash    execution → epoch, for the members of heads:<task>.
-- S truncated        hash    task → number of words on heads that were not taken in: the store has more than heads:<task>,
--                            and what is ready beyond it must not overtake.
-- S tasks            hash    task → pool \n limits, for tasks that have heads.
-- S ready            hash    pool → number of heads.
-- S ring:<pool>      zset    task → turn: tasks with heads, the lowest turn is served next and gets a new one.
-- S parked:<l>:<pool> zset   task → turn: tasks of the pool that met limit number l full; back to the ring as places fall
--                            free. A task with heads is in a ring or parked.
-- S turn, S tokens   counter
-- S pool:<pool>      set     executions that count in the pool
-- S limit:<l>        set     executions that count in limit number l
-- S agent:<agent>    set     executions that count in the agent's slots
-- S held             hash    execution → token \n epoch \n score \n session \n pool \n limits \n task \n agent, for all that
--                            count. `epoch` is that of the head; the store assigned it with a higher one. No expiry.
-- S taken            zset    execution → ms (Redis's clock): those of `held` that the store is not known to hold yet.
--
-- KEYS  1: P state
-- ARGV  1: P   2: generation   3: config   4: rules {pools: {name: max or 0}, limits: [max]}   5: dispatcher   6: input
-- Numbers that must stay exact (epochs, scores) travel as strings. Limits are numbered from 0; a list is `0,2`.
-- Scripts answer {0} where the generation does not hold, else {1, …}.

local PREFIX, GENERATION, CONFIG, DISPATCHER = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local RULES, INPUT = cjson.decode(ARGV[4]), cjson.decode(ARGV[6])
local SPACE = PREFIX .. GENERATION .. ':'
local MOST_HEADS = 1000

local call = redis.call
local woken = false  -- others may have something to take now
local revived = {}   -- pools whose ring got tasks back
local refused = {}   -- truncated tasks that did not take a head in

local function server_id()
  return string.match(call('INFO', 'server'), 'run_id:(%w+)')
end

local function holds()
  local state = call('HMGET', KEYS[1], 'generation', 'run_id', 'config')
  return state[1] == GENERATION and state[3] == CONFIG and state[2] == server_id()
end

local function now_ms()
  local time = call('TIME')
  return time[1] * 1000 + math.floor(time[2] / 1000)
end

local function split(text)
  local parts, from = {}, 1
  while true do
    local at = string.find(text, '\n', from, true)
    if not at then
      parts[#parts + 1] = string.sub(text, from)
      return parts
    end
    parts[#parts + 1] = string.sub(text, from, at - 1)
    from = at + 1
  end
end

-- Redis prints scores as doubles; ours are whole.
local function whole(score)
  return string.format('%.0f', tonumber(score))
end

local function each_limit(limits)
  return string.gmatch(limits, '%d+')
end

local function free_places(limit)
  return RULES.limits[tonumber(limit) + 1] - call('SCARD', SPACE .. 'limit:' .. limit)
end

local function full_limit(limits)
  for limit in each_limit(limits) do
    if free_places(limit) <= 0 then return limit end
  end
  return nil
end

local function pool_full(pool)
  local most = RULES.pools[pool]
  return most and most > 0 and call('SCARD', SPACE .. 'pool:' .. pool) >= most
end

local function enter_ring(pool, task, turn)
  local ring = SPACE .. 'ring:' .. pool
  if call('EXISTS', ring) == 0 then woken = true end
  call('ZADD', ring, 'NX', turn, task)
  revived[pool] = true
end

-- Lets up to `count` tasks of each pool that wait at the limit into their rings again, those first that waited longest.
-- Of each pool, since the first one's pool may have no agent that is free.
local function unpark(limit, count)
  for pool in pairs(RULES.pools) do
    local tasks = call('ZPOPMIN', SPACE .. 'parked:' .. limit .. ':' .. pool, count)
    for i = 1, #tasks, 2 do
      enter_ring(pool, tasks[i], tasks[i + 1])
    end
  end
end

-- A task left the ring without using the place that it may have been let in for: the next one may.
local function pass_on(limits)
  for limit in each_limit(limits) do
    if free_places(limit) > 0 then unpark(limit, 1) end
  end
end

local function line_up(task, pool, limits)
  local turn = call('INCR', SPACE .. 'turn')
  local full = full_limit(limits)
  if full then
    call('ZADD', SPACE .. 'parked:' .. full .. ':' .. pool, 'NX', turn, task)
  else
    enter_ring(pool, task, turn)
  end
end

local function in_line(task, pool, limits)
  if call('ZSCORE', SPACE .. 'ring:' .. pool, task) then return true end
  for limit in each_limit(limits) do
    if call('ZSCORE', SPACE .. 'parked:' .. limit .. ':' .. pool, task) then return true end
  end
  return false
end

-- Adds a head to its task's. `window`: it comes from a reading of the task's first heads, so that it may be taken in
-- although the store has more.
local function push(id, task, pool, limits, score, epoch, window)
  local heads, epochs = SPACE .. 'heads:' .. task, SPACE .. 'epochs:' .. task
  if call('HEXISTS', SPACE .. 'held', id) == 1 then return end
  local known = call('HGET', epochs, id)
  if known then
    if tonumber(epoch) >= tonumber(known) then
      call('HSET', epochs, id, epoch)
      call('ZADD', heads, score, id)
    end
    return
  end
  local count = call('ZCARD', heads)
  if not window and call('HEXISTS', SPACE .. 'truncated', task) == 1 then
    local worst = call('ZRANGE', heads, -1, -1, 'WITHSCORES')
    if count == 0 or tonumber(score) > tonumber(worst[2]) then
      call('HINCRBY', SPACE .. 'truncated', task, 1)
      refused[task] = true
      return
    end
  end
  call('ZADD', heads, score, id)
  call('HSET', epochs, id, epoch)
  call('HINCRBY', SPACE .. 'ready', pool, 1)
  if count == 0 then
    call('HSET', SPACE .. 'tasks', task, pool .. '\n' .. limits)
    line_up(task, pool, limits)
  elseif count >= MOST_HEADS then
    local worst = call('ZPOPMAX', heads)
    call('HDEL', epochs, worst[1])
    call('HINCRBY', SPACE .. 'ready', pool, -1)
    call('HINCRBY', SPACE .. 'truncated', task, 1)
  end
end

-- Counts an execution in its pool, its limits and its agent's slots; returns the token of this.
local function occupy(id, epoch, score, session, pool, limits, task, agent)
  local token = GENERATION .. '.' .. call('INCR', SPACE .. 'tokens')
  call('HSET', SPACE .. 'held', id, table.concat({token, epoch, score, session, pool, limits, task, agent}, '\n'))
  call('SADD', SPACE .. 'pool:' .. pool, id)
  call('SADD', SPACE .. 'agent:' .. agent, id)
  for limit in each_limit(limits) do
    call('SADD', SPACE .. 'limit:' .. limit, id)
  end
  return token
end

local function tell_others()
  if woken then call('PUBLISH', PREFIX .. 'wake', DISPATCHER) end
end

