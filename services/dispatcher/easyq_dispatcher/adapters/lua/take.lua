-- Takes heads for seats. One round gives each seat that has room one head, so that work spreads over agents; a seat's
-- pools take turns, and in a pool its lanes: of the rings that the seat has room for, the one with the lowest turn. Nothing
-- is taken at or above a limit or beyond what a host has, at any instant: the script is atomic.
--
-- input   {seats: [{agent, session, slots, pools: [name], offer: [cpu millis, bytes, gpus], labels}], offers, most, budget,
--         low, reserve}
--         offers: seats have `offer` and `labels`; most: takings at most; budget: lanes looked at, so that a call stays
--         short; low: heads below which a truncated task is told; reserve: ms that a lane may be passed over for want of
--         room before an agent is kept free for it
-- answer  {1, more (1: a further call may take more), [free slots of each seat], [seat, execution, epoch [\n image [\n
--         needs]], score, task, pool, token, …], [task, number of truncation, heads set aside, …], troubled (1:
--         breakers count or are open), demanding (1: there are lanes with needs)}; or {2}: call again with offers

if not holds() then return {0} end

local seats, budget, more = INPUT.seats, INPUT.budget, 0
local takings, low, told = {}, {}, {}
local empty = {}    -- pools that have nothing to take now, for any seat
local demands = {}  -- needs → what they ask for
local gates = {}    -- breaker → closed, open, or probe: one may be tried
local popped, fresh = {}, {}  -- heads taken out by pool, executions taken: told to Redis at the end, in one go
-- Rare things: that there are none of them costs one question.
local troubled, demanding, truncating, time = false, false, false, nil
if call('EXISTS', BREAKERS, SPACE .. 'aside', SPACE .. 'demanding', SPACE .. 'truncated') > 0 then
  troubled = call('EXISTS', BREAKERS, SPACE .. 'aside') > 0
  demanding = call('EXISTS', SPACE .. 'demanding') == 1
  truncating = call('EXISTS', SPACE .. 'truncated') == 1
  time = now_ms()
end
local MOST_RINGS = 500

-- Most calls meet neither breakers nor lanes with needs, and need not make what deals with them.
local under_way, gate, begin_probe, set_aside, bring_back, bring_back_some
local demand, suits, used_by, has_room, keep_free, let_go, has_lane, kept_by, choose

-- ------------------------------------------------------------------------------------------------------------- breakers
if troubled or demanding then
  -- A probe that counts no longer said nothing, or is another host's by now.
  function under_way(name, probe)
    local record = probe ~= '' and call('HGET', SPACE .. 'held', probe)
    if not record then return false end
    local host = string.match(name, '^HOST (.*)$')
    return not host or split(record)[8] == host
  end

  function gate(name)
    local known = gates[name]
    if known then return known end
    local text, found = call('HGET', BREAKERS, name), 'closed'
    if text then
      local breaker = cjson.decode(text)
      if breaker['until'] > 0 then
        found = (time < breaker['until'] or under_way(name, breaker.probe)) and 'open' or 'probe'
      end
    end
    gates[name] = found
    return found
  end

  function begin_probe(name, id)
    local breaker = cjson.decode(call('HGET', BREAKERS, name))
    breaker.probe = id
    call('HSET', BREAKERS, name, cjson.encode(breaker))
    gates[name] = 'open'
  end

  function set_aside(lane, task, info, id, score, image)
    local member = image .. '\n' .. lane
    call('ZADD', aside_of(image, lane), score, id)
    call('SADD', SPACE .. 'aside', member)
    call('HSET', SPACE .. 'aside_routes', member, info)
    call('HINCRBY', SPACE .. 'asides', task, 1)
  end

  -- Puts the first heads that were set aside (up to `last`, from 0; -1: all) back into their lane.
  function bring_back(image, lane, last)
    local member, key, heads = image .. '\n' .. lane, aside_of(image, lane), SPACE .. 'heads:' .. lane
    local items = call('ZRANGE', key, 0, last, 'WITHSCORES')
    local begun = call('EXISTS', heads) == 1
    for i = 1, #items, 2 do call('ZADD', heads, items[i + 1], items[i]) end
    call('ZREMRANGEBYRANK', key, 0, last)
    local task = cut(lane)
    leave_aside(task, #items / 2)
    local info = call('HGET', SPACE .. 'aside_routes', member)
    if #items > 0 and not begun then
      local parts = split(info)
      begin_lane(lane, {parts[1], parts[2], info})
    end
    if call('EXISTS', key) == 0 then
      call('SREM', SPACE .. 'aside', member)
      call('HDEL', SPACE .. 'aside_routes', member)
    end
  end

  -- What was set aside comes back once its image's breaker is closed; where one may be tried, the first of each lane does,
  -- at most once a second. Some lanes a call, so that it stays short.
  function bring_back_some()
    local offered = {}
    for _, member in ipairs(call('SRANDMEMBER', SPACE .. 'aside', 20)) do
      local image, lane = cut(member)
      local name = 'IMAGE ' .. image
      local found = gate(name)
      if found == 'closed' then
        bring_back(image, lane, -1)
      elseif found == 'probe' then
        if offered[name] == nil then
          local breaker = cjson.decode(call('HGET', BREAKERS, name))
          offered[name] = time - breaker.offered >= 1000
          if offered[name] then
            breaker.offered = time
            call('HSET', BREAKERS, name, cjson.encode(breaker))
          end
        end
        if offered[name] then bring_back(image, lane, 0) end
      end
    end
  end
end

-- ----------------------------------------------------------------------------------------------------------------- room
local function hash(key)
  local flat, found = call('HGETALL', key), {}
  for i = 1, #flat, 2 do found[flat[i]] = flat[i + 1] end
  return found
end

-- The pool's rings with needs; false where there are none.
local function view_of(pool)
  if not demanding then return false end
  local view = views[pool]
  if view ~= nil then return view end
  view = false
  local key = SPACE .. 'rings:' .. pool
  local count = call('ZCARD', key)
  if count > 0 then
    -- More than can be looked at in a call: another part each time, since those that don't fit stay the first.
    local from = count > MOST_RINGS and tonumber(call('INCR', SPACE .. 'turn')) % count or 0
    local rings = call('ZRANGE', key, from, from + MOST_RINGS - 1, 'WITHSCORES')
    view = {turns = {}, waits = hash(SPACE .. 'waits:' .. pool), reserved = hash(SPACE .. 'reserved:' .. pool)}
    for i = 1, #rings, 2 do view.turns[rings[i]] = tonumber(rings[i + 1]) end
  end
  views[pool] = view
  return view
end

if troubled or demanding then
  function demand(needs)
    local known = demands[needs]
    if not known then
      local cpu, memory, gpus, labels = string.match(needs, '^(%d+):(%d+):(-?%d+):(.*)$')
      known = {cpu = tonumber(cpu), memory = tonumber(memory), gpus = tonumber(gpus), labels = cjson.decode(labels)}
      demands[needs] = known
    end
    return known
  end

  -- Whether the whole of the agent would do. An offer of 0 is not known; without GPUs only where nothing is known.
  function suits(seat, needs)
    local known = seat.suits[needs]
    if known ~= nil then return known end
    local asked, offer = demand(needs), seat.offer
    local cpu, memory, gpus = offer[1], offer[2], offer[3]
    local blind = cpu == 0 and memory == 0 and gpus == 0
    known = (cpu == 0 or asked.cpu <= cpu) and (memory == 0 or asked.memory <= memory)
    if asked.gpus ~= 0 and not blind then known = known and gpus > 0 and asked.gpus <= gpus end
    for name, value in pairs(asked.labels) do
      known = known and seat.labels[name] == value
    end
    seat.suits[needs] = known
    return known
  end

  function used_by(seat)
    if not seat.used then
      local used = call('HMGET', SPACE .. 'used:' .. seat.agent, 'c', 'm', 'g', 'w')
      for i = 1, 4 do used[i] = tonumber(used[i] or 0) end
      seat.used = used
    end
    return seat.used
  end

  -- Whether what is free of the agent does; it suits.
  function has_room(seat, needs)
    local asked, offer, used = demand(needs), seat.offer, used_by(seat)
    if asked.cpu > 0 and offer[1] > 0 and used[1] + asked.cpu > offer[1] then return false end
    if asked.memory > 0 and offer[2] > 0 and used[2] + asked.memory > offer[2] then return false end
    if asked.gpus == -1 then return used[3] == 0 and used[4] == 0 end
    if asked.gpus > 0 then return used[4] == 0 and (offer[3] == 0 or used[3] + asked.gpus <= offer[3]) end
    return true
  end
end

-- --------------------------------------------------------------------------------------------------------------- taking
local function tell_low(task)
  if not truncating or told[task] then return end
  local version = call('HGET', SPACE .. 'truncated', task)
  if version and count_heads(task) < INPUT.low then
    told[task] = true
    low[#low + 1] = task
    low[#low + 1] = version
    low[#low + 1] = count_aside(task)
  end
end

-- Takes the first lane that is not at a limit out of a ring: lane, turn, and [pool, limits, weight] of it.
local function pop_lane(pool, needs)
  local ring = ring_of(pool, needs)
  while true do
    if budget <= 0 then
      more = 1
      return nil
    end
    budget = budget - 1
    local first = call('ZPOPMIN', ring)
    local lane = first[1]
    if not lane then return nil end
    local info = call('HGET', SPACE .. 'tasks', lane)
    if info then
      local route = split(info)
      local full = full_limit(route[2])
      if not full then return lane, first[2], route, info end
      call('ZADD', SPACE .. 'parked:' .. full .. ':' .. pool, 'NX', first[2], lane)
      pass_on(route[2])
    end
  end
end

-- The lane's first head that does not count already. One that does is old news, and its places are not ours to give.
local function pop_head(lane, task, pool, info)
  local epochs = SPACE .. 'epochs:' .. task
  while budget > 0 do
    local first = call('ZPOPMIN', SPACE .. 'heads:' .. lane)
    local id = first[1]
    if not id then return nil end
    local value = call('HGET', epochs, id)
    local image = ''
    if troubled then
      local _, detail = cut(value)
      image = cut(detail)
    end
    if image ~= '' and gate('IMAGE ' .. image) == 'open' then
      set_aside(lane, task, info, id, first[2], image)
      budget = budget - 1
    else
      call('HDEL', epochs, id)
      popped[pool] = (popped[pool] or 0) + 1
      if call('HEXISTS', SPACE .. 'held', id) == 0 then return id, value, whole(first[2]), image end
    end
  end
  more = 1
  return nil
end

-- Gives a lane that was taken from its next turn, or, within the turn of a task that has weight, the same again.
local function next_turn(pool, needs, lane, task, turn, weight)
  if call('EXISTS', SPACE .. 'heads:' .. lane) == 1 then
    if weight then
      if call('HINCRBY', SPACE .. 'bursts', lane, 1) >= tonumber(weight) then
        call('HDEL', SPACE .. 'bursts', lane)
        weight = nil
      end
    end
    call('ZADD', ring_of(pool, needs), weight and turn or call('INCR', SPACE .. 'turn'), lane)
  else
    call('HDEL', SPACE .. 'tasks', lane)
    if weight then call('HDEL', SPACE .. 'bursts', lane) end
    if needs ~= '' then call('SREM', SPACE .. 'lanes:' .. task, needs) end
  end
end

local function take_of_ring(pool, needs, index, seat)
  while true do
    local lane, turn, route, info = pop_lane(pool, needs)
    if not lane then return false end
    local task = lane
    if needs ~= '' then task = cut(lane) end
    local id, value, score, image = pop_head(lane, task, pool, info)
    next_turn(pool, needs, lane, task, turn, route[3])
    tell_low(task)
    if id then
      local epoch, detail = cut(value)
      local token = occupy(id, epoch, score, seat.session, pool, route[2], task, seat.agent, detail)
      fresh[#fresh + 1] = id
      if troubled then
        if image ~= '' and gate('IMAGE ' .. image) == 'probe' then begin_probe('IMAGE ' .. image, id) end
        if seat.probe then begin_probe('HOST ' .. seat.agent, id) end
      end
      local count = #takings
      takings[count + 1], takings[count + 2], takings[count + 3], takings[count + 4] = index, id, value, score
      takings[count + 5], takings[count + 6], takings[count + 7] = task, pool, token
      return true
    end
    pass_on(route[2])
  end
end

if troubled or demanding then
  function keep_free(seat, pool, needs)
    seat.reserved = {pool = pool, needs = needs}
    local view = view_of(pool)
    view.reserved[needs] = seat.agent .. '\n' .. time
    call('HSET', SPACE .. 'reserved:' .. pool, needs, view.reserved[needs])
  end

  function let_go(pool, needs)
    local view = view_of(pool)
    if view.reserved[needs] then call('HDEL', SPACE .. 'reserved:' .. pool, needs) end
    if view.waits[needs] then call('HDEL', SPACE .. 'waits:' .. pool, needs) end
    view.reserved[needs], view.waits[needs] = nil, nil
  end

  -- Whether something of the ring could be taken if there were room: its first lane that is not at a limit stays the first.
  function has_lane(pool, needs)
    local lane, turn = pop_lane(pool, needs)
    if lane then call('ZADD', ring_of(pool, needs), turn, lane) end
    note_ring(pool, needs)
    return lane ~= nil
  end

  function kept_by(view, needs)
    local text = view.reserved[needs]
    if not text then return nil end
    local agent, seen = cut(text)
    -- Whoever is not looked at any more keeps nothing free.
    if time - tonumber(seen) > 10000 then return nil end
    return agent
  end

  -- The ring of the pool that this seat takes from next: that with the lowest turn of those it has room for. Where it
  -- passes one over for want of room that has waited for too long, it is kept free for that one from then on.
  function choose(pool, view, seat)
    local kept = seat.reserved
    if kept and kept_by(view_of(kept.pool) or {reserved = {}}, kept.needs) ~= seat.agent then
      seat.reserved, kept = nil, nil
    end
    if kept and kept.pool == pool then
      return has_room(seat, kept.needs) and kept.needs or nil
    end
    local first = call('ZRANGE', ring_of(pool, ''), 0, 0, 'WITHSCORES')
    local best, lowest = first[1] and '' or nil, first[1] and tonumber(first[2]) or math.huge
    if kept or not seat.offer then return best end
    local tight = {}
    for needs, turn in pairs(view.turns) do
      if turn < lowest and suits(seat, needs) then
        if has_room(seat, needs) then
          best, lowest = needs, turn
        else
          tight[#tight + 1] = needs
        end
      end
    end
    local due
    for _, needs in ipairs(tight) do
      local turn = view.turns[needs]
      if turn < lowest then
        local since = tonumber(view.waits[needs])
        if not since then
          view.waits[needs] = time
          call('HSET', SPACE .. 'waits:' .. pool, needs, time)
        elseif time - since >= INPUT.reserve and not kept_by(view, needs) and (not due or turn < view.turns[due]) then
          due = needs
        end
      end
    end
    if due and has_lane(pool, due) then
      keep_free(seat, pool, due)
      return nil
    end
    return best
  end
end

-- Takes one head of a pool. `seat.done` has pools that have nothing for this seat, `empty` those that have nothing at all.
local function take_from(pool, index, seat)
  if empty[pool] or (demanding and seat.done[pool]) then return false end
  if pool_full(pool) then
    empty[pool] = true
    return false
  end
  if not view_of(pool) then
    if take_of_ring(pool, '', index, seat) then return true end
    empty[pool] = true
    return false
  end
  while budget > 0 do
    local needs = choose(pool, view_of(pool), seat)
    if not needs then break end
    budget = budget - 1
    local took = take_of_ring(pool, needs, index, seat)
    if needs ~= '' then
      note_ring(pool, needs)
      if took then
        let_go(pool, needs)
        seat.used = nil
      end
    end
    if took then return true end
    if not view_of(pool) then return false end
  end
  if budget <= 0 then more = 1 end
  seat.done[pool] = true
  return false
end

local function serve(index, seat)
  local count = #seat.pools
  for i = 1, count do
    if take_from(seat.pools[(seat.first + i) % count + 1], index, seat) then
      seat.first = seat.first + i
      seat.room = seat.probe and 0 or seat.room - 1
      return true
    end
  end
  return false
end

-- -------------------------------------------------------------------------------------------------------------- a call
if demanding and not INPUT.offers then return {2} end

if troubled then bring_back_some() end
local start = tonumber(call('GET', SPACE .. 'turn') or 0)
for _, seat in ipairs(seats) do
  seat.room = seat.slots - call('SCARD', SPACE .. 'agent:' .. seat.agent)
  seat.first = start
  if troubled then
    local found = gate('HOST ' .. seat.agent)
    if found == 'open' then seat.room = 0 end
    if found == 'probe' and seat.room > 0 then seat.room, seat.probe = 1, true end
  end
  if demanding then
    seat.done, seat.suits = {}, {}
    for _, pool in ipairs(seat.pools) do
      local view = view_of(pool)
      for needs in pairs(view and view.reserved or {}) do
        if kept_by(view, needs) == seat.agent and not seat.reserved then
          if suits(seat, needs) and has_lane(pool, needs) then
            keep_free(seat, pool, needs)
          elseif view.reserved[needs] then
            let_go(pool, needs)
          end
        end
      end
    end
  end
end

local taken, progress = 0, true
while progress do
  progress = false
  for index, seat in ipairs(seats) do
    if seat.room > 0 and taken < INPUT.most and serve(index, seat) then
      taken = taken + 1
      progress = true
    end
  end
  for pool in pairs(revived) do
    if empty[pool] then progress = true end
    empty[pool] = nil
    for _, seat in ipairs(demanding and seats or {}) do
      if seat.done[pool] then
        seat.done[pool] = nil
        progress = true
      end
    end
    revived[pool] = nil
  end
end
if taken >= INPUT.most then more = 1 end

local rooms = {}
for index, seat in ipairs(seats) do rooms[index] = seat.room end
for pool, count in pairs(popped) do call('HINCRBY', SPACE .. 'ready', pool, -count) end
if #fresh > 0 then
  local marks = {}
  time = time or now_ms()
  for i, id in ipairs(fresh) do marks[2 * i - 1], marks[2 * i] = time, id end
  call('ZADD', SPACE .. 'taken', unpack(marks))
end
tell_others()
return {1, more, rooms, takings, low, troubled and 1 or 0, demanding and 1 or 0}
