#!lua name=dgfs_v2
-- Rows of DGFS volumes. KEYS[1] is `dgfs:{volume}:writer`; every other key has the same prefix, so the same slot.
-- A partition is a sorted set of scores 0 whose members are sort (8 bytes, big-endian) .. value.
-- Nothing here knows what a row means. The writer hash is changed last: a commit cut off in the
-- middle is applied again by its repetition, which sets the same rows.

local NONE = '0000000000000000'

local function prefix_of(keys)
  return string.sub(keys[1], 1, -7)
end

-- The end of the range that holds exactly the members of this sort and the ones before.
local function up_to(sort)
  for i = #sort, 1, -1 do
    local byte = string.byte(sort, i)
    if byte < 255 then
      return '(' .. string.sub(sort, 1, i - 1) .. string.char(byte + 1)
    end
  end
  return '+'
end

local function now_ms()
  local time = redis.call('TIME')
  return tonumber(time[1]) * 1000 + math.floor(tonumber(time[2]) / 1000)
end

-- Refuses a writer whose epoch (16 hex digits, so they compare as text) is not the newest.
local function refusal(keys, epoch)
  local state = redis.call('HMGET', keys[1], 'epoch', 'batch')
  local newest, batch = state[1] or NONE, state[2] or NONE
  if newest > epoch then return {'fenced', newest}, batch end
  if newest < epoch then return {'regressed', batch}, batch end
  return nil, batch
end

-- holder, token, attempt, lease ms. The token names one engine object and holder; an attempt that
-- arrives behind a later one of the same token is stale (it waited in a socket).
local function acquire(keys, args)
  local state = redis.call('HMGET', keys[1], 'epoch', 'batch', 'token', 'attempt', 'until')
  local now = now_ms()
  if state[3] and state[3] == args[2] then
    if tonumber(state[4]) >= tonumber(args[3]) then return {'held'} end
  elseif state[5] and tonumber(state[5]) > now then
    return {'held'}
  end
  local epoch = string.format('%016x', tonumber(state[1] or NONE, 16) + 1)
  local batch = state[2] or NONE
  redis.call('HSET', keys[1], 'epoch', epoch, 'batch', batch, 'holder', args[1], 'token', args[2],
    'attempt', args[3], 'until', string.format('%.0f', now + tonumber(args[4])))
  return {'ok', epoch, batch}
end

-- epoch, lease ms
local function renew(keys, args)
  local refused = refusal(keys, args[1])
  if refused then return refused end
  redis.call('HSET', keys[1], 'until', string.format('%.0f', now_ms() + tonumber(args[2])))
  return {'ok'}
end

-- epoch
local function release(keys, args)
  local refused = refusal(keys, args[1])
  if refused then return refused end
  redis.call('HSET', keys[1], 'until', '0')
  return {'ok'}
end

-- The set in which a partition is listed, and its member.
local function part(prefix, name)
  local split = string.find(name, ':', 1, true)
  return prefix .. 'parts:' .. string.sub(name, 1, split - 1), string.sub(name, split + 1)
end

local function add_rows(key, args, first, last)
  -- unpack is limited by Lua's stack.
  for start = first, last, 1000 do
    local pairs_ = {}
    for i = start, math.min(start + 999, last) do
      pairs_[#pairs_ + 1] = 0
      pairs_[#pairs_ + 1] = args[i]
    end
    redis.call('ZADD', key, unpack(pairs_))
  end
end

-- epoch, number, number before; then for each partition: `table:partition in hex`, '1' when the writer knows that it
-- has rows, the sorts to remove or replace in one string, how many members follow, the members.
local function commit(keys, args)
  local refused, batch = refusal(keys, args[1])
  if refused then return refused end
  if batch == args[2] then
    -- A write all the same, so that a WAIT behind it covers the batch also on another connection.
    redis.call('HSET', keys[1], 'batch', batch)
    return {'ok'}
  end
  if batch ~= args[3] then return {'regressed', batch} end
  local prefix = prefix_of(keys)
  local i, count = 4, #args
  while i <= count do
    local name, removed, added = args[i], args[i + 2], tonumber(args[i + 3])
    local key = prefix .. name
    local was_there = args[i + 1] == '1' or redis.call('EXISTS', key) == 1
    if was_there then
      for at = 1, #removed, 8 do
        local sort = string.sub(removed, at, at + 7)
        redis.call('ZREMRANGEBYLEX', key, '[' .. sort, up_to(sort))
      end
    end
    add_rows(key, args, i + 4, i + 3 + added)
    if added > 0 then
      if not was_there then
        local parts, partition = part(prefix, name)
        redis.call('ZADD', parts, 0, partition)
      end
    elseif was_there and redis.call('EXISTS', key) == 0 then
      redis.call('ZREM', part(prefix, name))
    end
    i = i + 4 + added
  end
  redis.call('HSET', keys[1], 'batch', args[2])
  return {'ok'}
end

-- name, sort, name, sort ...; answers members, nil where there is none.
local function load_rows(keys, args)
  local prefix = prefix_of(keys)
  local rows = {}
  for i = 1, #args, 2 do
    local sort = args[i + 1]
    local found = redis.call('ZRANGEBYLEX', prefix .. args[i], '[' .. sort, up_to(sort), 'LIMIT', 0, 1)
    rows[#rows + 1] = found[1] or false
  end
  return rows
end

-- name, first sort, last sort, limit; answers members.
local function list(keys, args)
  return redis.call('ZRANGEBYLEX', prefix_of(keys) .. args[1], '[' .. args[2], up_to(args[3]), 'LIMIT', 0, args[4])
end

-- table, first partition in hex, limit; answers partitions in hex.
local function partitions(keys, args)
  return redis.call('ZRANGEBYLEX', prefix_of(keys) .. 'parts:' .. args[1], '[' .. args[2], '+', 'LIMIT', 0, args[3])
end

-- A write that changes nothing, for a WAIT or WAITAOF behind it.
local function touch(keys, args)
  redis.call('HSET', keys[1], 'touched', args[1])
  return {'ok'}
end

-- token, text: a standby says that it waits. Answers the time (ms), and how far ahead of it the writer's clock is.
local function wait(keys, args)
  local key, now = prefix_of(keys) .. 'waiting', now_ms()
  if redis.call('HEXISTS', key, args[1]) == 1 or redis.call('HLEN', key) < 64 then
    redis.call('HSET', key, args[1], string.format('%.0f', now) .. ' ' .. args[2])
    redis.call('PEXPIRE', key, 60000)
  end
  return {string.format('%.0f', now), redis.call('HGET', keys[1], 'ahead') or ''}
end

-- how old (ms) a word may be, the writer's clock (ms); answers the texts of those who wait.
local function waiting(keys, args)
  local key, now = prefix_of(keys) .. 'waiting', now_ms()
  redis.call('HSET', keys[1], 'ahead', string.format('%.0f', tonumber(args[2]) - now))
  local all, texts = redis.call('HGETALL', key), {}
  for i = 1, #all, 2 do
    local at, text = string.match(all[i + 1], '^(%d+) (.*)$')
    if at and now - tonumber(at) <= tonumber(args[1]) then
      texts[#texts + 1] = text
    else
      redis.call('HDEL', key, all[i])
    end
  end
  return texts
end

-- The lease must be kept also when the memory is full: a writer that lost it could not even delete.
redis.register_function{function_name='dgfs_acquire_v2', callback=acquire, flags={'allow-oom'}}
redis.register_function{function_name='dgfs_renew_v2', callback=renew, flags={'allow-oom'}}
redis.register_function{function_name='dgfs_release_v2', callback=release, flags={'allow-oom'}}
redis.register_function{function_name='dgfs_touch_v2', callback=touch, flags={'allow-oom'}}
redis.register_function{function_name='dgfs_wait_v2', callback=wait, flags={'allow-oom'}}
redis.register_function{function_name='dgfs_waiting_v2', callback=waiting, flags={'allow-oom'}}
redis.register_function{function_name='dgfs_commit_v2', callback=commit}
redis.register_function{function_name='dgfs_load_v2', callback=load_rows, flags={'no-writes'}}
redis.register_function{function_name='dgfs_list_v2', callback=list, flags={'no-writes'}}
redis.register_function{function_name='dgfs_partitions_v2', callback=partitions, flags={'no-writes'}}
