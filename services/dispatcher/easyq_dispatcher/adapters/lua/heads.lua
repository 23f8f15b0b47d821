-- How heads come in: stands between common.lua and the scripts that take some in.

local MOST_HEADS = 1000

local refused = {}  -- truncated tasks that did not take a head in

local function in_line(lane, pool, limits)
  local _, needs = cut(lane)
  if call('ZSCORE', ring_of(pool, needs), lane) then return true end
  for limit in each_limit(limits) do
    if call('ZSCORE', SPACE .. 'parked:' .. limit .. ':' .. pool, lane) then return true end
  end
  return false
end

-- The task's last head: its lane and score.
local function last_head(task)
  local lane, score
  local function look(candidate)
    local last = call('ZRANGE', SPACE .. 'heads:' .. candidate, -1, -1, 'WITHSCORES')
    if last[1] and (not score or tonumber(last[2]) > score) then lane, score = candidate, tonumber(last[2]) end
  end
  look(task)
  for _, needs in ipairs(call('SMEMBERS', SPACE .. 'lanes:' .. task)) do look(lane_of(task, needs)) end
  return lane, score
end

-- Takes out a head that has changed what it asks for, or its image, or that waits no more. Its lane may stay in line without heads, harmlessly.
local function withdraw(id, task, pool, detail)
  local image, needs = cut(detail)
  local lane = lane_of(task, needs)
  if call('ZREM', SPACE .. 'heads:' .. lane, id) == 0 then
    leave_aside(task, call('ZREM', aside_of(image, lane), id))
  end
  call('HDEL', SPACE .. 'epochs:' .. task, id)
  call('HINCRBY', SPACE .. 'ready', pool, -1)
end

-- Adds a head to its task's. `window`: it comes from a reading of the task's first heads, so that it may be taken in
-- although the store has more.
local function push(id, task, route, score, epoch, detail, window)
  local epochs = SPACE .. 'epochs:' .. task
  if call('HEXISTS', SPACE .. 'held', id) == 1 then return end
  local image, needs = cut(detail)
  local lane = lane_of(task, needs)
  local heads, value = SPACE .. 'heads:' .. lane, epoch
  if detail ~= '' then value = epoch .. '\n' .. detail end
  local known = call('HGET', epochs, id)
  if known then
    local older, before = cut(known)
    if tonumber(epoch) < tonumber(older) then return end
    if before == detail then
      call('HSET', epochs, id, value)
      local set_aside = image ~= '' and call('ZSCORE', aside_of(image, lane), id)
      call('ZADD', set_aside and aside_of(image, lane) or heads, score, id)
      return
    end
    withdraw(id, task, route[1], before)
  end
  if not window and call('HEXISTS', SPACE .. 'truncated', task) == 1 then
    local _, worst = last_head(task)
    if not worst or tonumber(score) > worst then
      call('HINCRBY', SPACE .. 'truncated', task, 1)
      refused[task] = true
      return
    end
  end
  call('ZADD', heads, score, id)
  call('HSET', epochs, id, value)
  call('HINCRBY', SPACE .. 'ready', route[1], 1)
  if call('ZCARD', heads) == 1 then begin_lane(lane, route) end
  if call('HLEN', epochs) > MOST_HEADS and count_heads(task) > MOST_HEADS then
    local worst = call('ZPOPMAX', SPACE .. 'heads:' .. last_head(task))
    call('HDEL', epochs, worst[1])
    call('HINCRBY', SPACE .. 'ready', route[1], -1)
    call('HINCRBY', SPACE .. 'truncated', task, 1)
  end
end

