-- The index of one farm in Redis. This header documents every key; this part stands before each of the scripts.
--
-- P is `{farm}:v1:`, braces included, so that all keys of a farm share one hash slot. S is `P<generation>:`: each filling
-- of Redis has a key space of its own, so that a late write to an older one can't touch the one that holds.
--
-- A head's NEEDS are `<cpu millis>:<bytes>:<gpus>:<labels as JSON>`, or empty where it asks for nothing but a slot.
-- Heads of one task with the same needs are a LANE: `<task>`, or `<task>\n<needs>`. A lane's ring is that of its pool and
-- needs.
--
-- P state            hash    generation, run_id, config, version: the filling that holds; written last, once complete.
--                            `run_id` is the server's own: a server that started again (perhaps from an old file), or
--                            another one, is not the one that was filled. `config` is the fingerprint of pools, limits and
--                            weights, `version` the age of these rules.
-- P rebuilder        string  id of the dispatcher that fills now; expires. Saves double work; what makes it right is the
--                            compare-and-set of the generation in the store.
-- P used             string  `config` of a dispatcher that works with it; expires.
-- P wake             channel id of a dispatcher that made work for others. An optimisation.
-- P breakers         hash    `HOST <agent>` or `IMAGE <image>` → JSON {failures, since, last, wait, until, probe, offered,
--                            cause}; times in ms. `until` 0: closed, and failures are counted. Else open; from that time
--                            on one probe at a time, `probe` being its execution; it is under way while it counts.
--                            Survives fillings, not an emptied server: breakers are then closed, and open again soon.
-- S loading          string  run_id of the server on which this filling began; gone once it holds.
-- S heads:<lane>     zset    execution → score: ready heads, the lowest score first. At most 1,000 a task.
-- S epochs:<task>    hash    execution → epoch [\n image [\n needs]], for all heads of the task, set aside or not.
-- S lanes:<task>     set     needs of the task's lanes, but the empty one.
-- S truncated        hash    task → number of words on heads that were not taken in: the store has more than the index,
--                            and what is ready beyond it must not overtake.
-- S tasks            hash    lane → pool \n limits [\n weight], for lanes that have heads.
-- S bursts           hash    lane → heads taken in its turn, where the task's weight is not 1.
-- S ready            hash    pool → number of heads.
-- S ring:<pool>[\n<needs>]   zset  lane → turn: lanes with heads, the lowest turn is served next and gets a new one.
-- S rings:<pool>     zset    needs → lowest turn: the pool's rings that have lanes, but the one of no needs.
-- S parked:<l>:<pool> zset   lane → turn: lanes of the pool that met limit number l full; back to the ring as places fall
--                            free. A lane with heads is in a ring or parked.
-- S demanding        set     pools that have `rings`.
-- S waits:<pool>     hash    needs → ms since when agents that could serve that ring have no room for it.
-- S reserved:<pool>  hash    needs → agent \n ms: the agent takes nothing else from the pool until it has room for these;
--                            ms: when it was last looked at.
-- S aside            set     image \n lane that has heads set aside, since the image's breaker is open.
-- S aside:<image>\n<lane>    zset  execution → score: the heads set aside.
-- S aside_routes     hash    image \n lane → as in `tasks`.
-- S asides           hash    task → number of its heads that are set aside.
-- S turn, S tokens   counter
-- S pool:<pool>      set     executions that count in the pool
-- S limit:<l>        set     executions that count in limit number l
-- S agent:<agent>    set     executions that count in the agent's slots
-- S used:<agent>     hash    c, m, g: cpu millis, bytes, GPUs that those asked for; w: how many asked for all GPUs
-- S held             hash    execution → token \n epoch \n score \n session \n pool \n limits \n task \n agent [\n image
--                            [\n needs]], for all that count. `epoch` is that of the head; the store assigned it with a
--                            higher one. No expiry.
-- S taken            zset    execution → ms (Redis's clock): those of `held` that the store is not known to hold yet.
--
-- KEYS  1: P state
-- ARGV  1: P   2: generation   3: config   4: rules {pools: {name: max or 0}, limits: [max]}   5: dispatcher   6: input
-- Numbers that must stay exact (epochs, scores) travel as strings. Limits are numbered from 0; a list is `0,2`.
-- A route is [pool, limits, what `tasks` has of it]; a head's detail is `image [\n needs]`.
-- Scripts answer {0} where the generation does not hold, else {1, …}.

local PREFIX, GENERATION, CONFIG, DISPATCHER = ARGV[1], ARGV[2], ARGV[3], ARGV[5]
local RULES, INPUT = cjson.decode(ARGV[4]), cjson.decode(ARGV[6])
local SPACE = PREFIX .. GENERATION .. ':'
local BREAKERS = PREFIX .. 'breakers'

local call = redis.call
local woken = false  -- others may have something to take now
local revived = {}   -- pools whose ring got lanes back
local views = {}     -- pool → what a script knows of its rings with needs; false: there are none

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

-- What stands before the first line's end, and what follows it.
local function cut(text)
  local at = string.find(text, '\n', 1, true)
  if not at then return text, '' end
  return string.sub(text, 1, at - 1), string.sub(text, at + 1)
end

-- Redis prints scores as doubles; ours are whole.
local function whole(score)
  return string.format('%.0f', tonumber(score))
end

local function lane_of(task, needs)
  if needs == '' then return task end
  return task .. '\n' .. needs
end

local function ring_of(pool, needs)
  return SPACE .. 'ring:' .. lane_of(pool, needs)
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

-- Brings `rings` up to date after a change of a ring with needs.
local function note_ring(pool, needs)
  local first = call('ZRANGE', ring_of(pool, needs), 0, 0, 'WITHSCORES')
  local view = views[pool]
  if first[1] then
    call('ZADD', SPACE .. 'rings:' .. pool, first[2], needs)
    call('SADD', SPACE .. 'demanding', pool)
    if view then view.turns[needs] = tonumber(first[2]) elseif view == false then views[pool] = nil end
  else
    call('ZREM', SPACE .. 'rings:' .. pool, needs)
    call('HDEL', SPACE .. 'waits:' .. pool, needs)
    call('HDEL', SPACE .. 'reserved:' .. pool, needs)
    if call('EXISTS', SPACE .. 'rings:' .. pool) == 0 then call('SREM', SPACE .. 'demanding', pool) end
    if view then view.turns[needs], view.waits[needs], view.reserved[needs] = nil, nil, nil end
  end
end

local function enter_ring(pool, lane, turn)
  local _, needs = cut(lane)
  local ring = ring_of(pool, needs)
  if call('EXISTS', ring) == 0 then woken = true end
  call('ZADD', ring, 'NX', turn, lane)
  if needs ~= '' then note_ring(pool, needs) end
  revived[pool] = true
end

-- Lets up to `count` lanes of each pool that wait at the limit into their rings again, those first that waited longest.
-- Of each pool, since the first one's pool may have no agent that is free.
local function unpark(limit, count)
  for pool in pairs(RULES.pools) do
    local lanes = call('ZPOPMIN', SPACE .. 'parked:' .. limit .. ':' .. pool, count)
    for i = 1, #lanes, 2 do
      enter_ring(pool, lanes[i], lanes[i + 1])
    end
  end
end

-- A lane left the ring without using the place that it may have been let in for: the next one may.
local function pass_on(limits)
  for limit in each_limit(limits) do
    if free_places(limit) > 0 then unpark(limit, 1) end
  end
end

local function line_up(lane, pool, limits)
  local turn = call('INCR', SPACE .. 'turn')
  local full = full_limit(limits)
  if full then
    call('ZADD', SPACE .. 'parked:' .. full .. ':' .. pool, 'NX', turn, lane)
  else
    enter_ring(pool, lane, turn)
  end
end

local function begin_lane(lane, route)
  local task, needs = cut(lane)
  call('HSET', SPACE .. 'tasks', lane, route[3])
  if needs ~= '' then call('SADD', SPACE .. 'lanes:' .. task, needs) end
  line_up(lane, route[1], route[2])
end

local function aside_of(image, lane)
  return SPACE .. 'aside:' .. image .. '\n' .. lane
end

local function leave_aside(task, count)
  if call('HINCRBY', SPACE .. 'asides', task, -count) <= 0 then call('HDEL', SPACE .. 'asides', task) end
end

local function count_aside(task)
  return tonumber(call('HGET', SPACE .. 'asides', task) or 0)
end

-- Heads of the task that are not set aside.
local function count_heads(task)
  return call('HLEN', SPACE .. 'epochs:' .. task) - count_aside(task)
end

-- Adds to (sign 1) or takes from (-1) what an agent's executions asked for.
local function use(agent, needs, sign)
  local cpu, memory, gpus = string.match(needs, '^(%d+):(%d+):(-?%d+):')
  local used = SPACE .. 'used:' .. agent
  if cpu ~= '0' then call('HINCRBY', used, 'c', whole(sign * cpu)) end
  if memory ~= '0' then call('HINCRBY', used, 'm', whole(sign * memory)) end
  if gpus == '-1' then
    call('HINCRBY', used, 'w', sign)
  elseif gpus ~= '0' then
    call('HINCRBY', used, 'g', whole(sign * gpus))
  end
end

-- One number for each run of a script, and one within it.
local series, occupied = nil, 0

-- Counts an execution in its pool, its limits and its agent's slots and room; returns the token of this.
local function occupy(id, epoch, score, session, pool, limits, task, agent, detail)
  series = series or call('INCR', SPACE .. 'tokens')
  occupied = occupied + 1
  local token = GENERATION .. '.' .. series .. '.' .. occupied
  local record = table.concat({token, epoch, score, session, pool, limits, task, agent}, '\n')
  if detail ~= '' then
    record = record .. '\n' .. detail
    local _, needs = cut(detail)
    if needs ~= '' then use(agent, needs, 1) end
  end
  call('HSET', SPACE .. 'held', id, record)
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

