-- Takes heads for seats. One round gives each seat that has room one head, so that work spreads over agents; a seat's
-- pools take turns, and in a pool its tasks. Nothing is taken at or above a limit, at any instant: the script is atomic.
--
-- input   {seats: [{agent, session, slots, pools: [name]}], most, budget, low}
--         most: takings at most; budget: tasks looked at, so that a call stays short; low: heads below which a truncated
--         task is told
-- answer  {1, more (1: a further call may take more), [free slots of each seat], [seat, execution, epoch, score, task,
--         pool, token, …], [task, number of truncation, …]}

if not holds() then return {0} end

local seats, budget, more = INPUT.seats, INPUT.budget, 0
local takings, low, told = {}, {}, {}
local empty = {}  -- pools that have nothing to take now
local time = now_ms()

local function tell_low(task)
  if told[task] then return end
  local version = call('HGET', SPACE .. 'truncated', task)
  if version and call('ZCARD', SPACE .. 'heads:' .. task) < INPUT.low then
    told[task] = true
    low[#low + 1] = task
    low[#low + 1] = version
  end
end

-- The task's first head that does not count already. One that does is old news, and its places are not ours to give.
local function pop_head(task, pool)
  while true do
    local first = call('ZPOPMIN', SPACE .. 'heads:' .. task)
    if not first[1] then return nil end
    local id, epochs = first[1], SPACE .. 'epochs:' .. task
    local epoch = call('HGET', epochs, id)
    call('HDEL', epochs, id)
    call('HINCRBY', SPACE .. 'ready', pool, -1)
    if call('HEXISTS', SPACE .. 'held', id) == 0 then return id, epoch, whole(first[2]) end
  end
end

local function take_from(pool, index, seat)
  local ring = SPACE .. 'ring:' .. pool
  while not pool_full(pool) do
    if budget <= 0 then
      more = 1
      return false
    end
    budget = budget - 1
    local first = call('ZPOPMIN', ring)
    if not first[1] then return false end
    local task = first[1]
    local info = call('HGET', SPACE .. 'tasks', task)
    if info then
      local limits = split(info)[2]
      local full = full_limit(limits)
      if full then
        call('ZADD', SPACE .. 'parked:' .. full .. ':' .. pool, 'NX', first[2], task)
        pass_on(limits)
      else
        local id, epoch, score = pop_head(task, pool)
        if call('EXISTS', SPACE .. 'heads:' .. task) == 1 then
          call('ZADD', ring, call('INCR', SPACE .. 'turn'), task)
        else
          call('HDEL', SPACE .. 'tasks', task)
        end
        tell_low(task)
        if id then
          local token = occupy(id, epoch, score, seat.session, pool, limits, task, seat.agent)
          call('ZADD', SPACE .. 'taken', time, id)
          for _, value in ipairs({index, id, epoch, score, task, pool, token}) do
            takings[#takings + 1] = value
          end
          return true
        end
        pass_on(limits)
      end
    end
  end
  return false
end

local function serve(index, seat)
  local count = #seat.pools
  for i = 1, count do
    local pool = seat.pools[(seat.first + i) % count + 1]
    if not empty[pool] then
      if take_from(pool, index, seat) then
        seat.first = seat.first + i
        seat.room = seat.room - 1
        return true
      end
      empty[pool] = true
    end
  end
  return false
end

local start = tonumber(call('GET', SPACE .. 'turn') or 0)
for _, seat in ipairs(seats) do
  seat.room = seat.slots - call('SCARD', SPACE .. 'agent:' .. seat.agent)
  seat.first = start
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
    if empty[pool] then
      empty[pool] = nil
      progress = true
    end
    revived[pool] = nil
  end
end
if taken >= INPUT.most then more = 1 end

local rooms = {}
for index, seat in ipairs(seats) do rooms[index] = seat.room end
tell_others()
return {1, more, rooms, takings, low}
