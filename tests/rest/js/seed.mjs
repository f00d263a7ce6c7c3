// The eight patterns of the seed, "Vercel KV Common Patterns": the types are removed, nothing else.

import { kv } from '@vercel/kv';
import { cookies, db, eq, users } from './surroundings.mjs';

// Pattern 1: cache-aside

export async function getUser(id) {
  const cacheKey = `user:${id}`;

  // Check cache first
  const cached = await kv.get(cacheKey);
  if (cached) return cached;

  // Fetch from database
  const user = await db.query.users.findFirst({
    where: eq(users.id, id)
  });

  if (!user) return null;

  // Cache for 5 minutes
  await kv.setex(cacheKey, 300, user);

  return user;
}

// Pattern 2: write-through

export async function updateUser(id, data) {
  // Update database
  const updated = await db.update(users)
    .set(data)
    .where(eq(users.id, id))
    .returning();

  // Update cache immediately
  await kv.setex(`user:${id}`, 300, updated[0]);

  return updated[0];
}

export async function deleteUser(id) {
  // Delete from database
  await db.delete(users).where(eq(users.id, id));

  // Remove from cache
  await kv.del(`user:${id}`);
}

// Pattern 3: rate limiting

export async function checkRateLimit(ip) {
  const key = `ratelimit:${ip}`;
  const limit = 10; // 10 requests
  const window = 60; // per 60 seconds

  const current = await kv.incr(key);

  if (current === 1) {
    // First request, set TTL
    await kv.expire(key, window);
  }

  return current <= limit;
}

export async function slidingWindowRateLimit(key, limit, windowMs) {
  const now = Date.now();
  const windowStart = now - windowMs;

  // Remove old entries
  await kv.zremrangebyscore(key, 0, windowStart);

  // Count current entries
  const count = await kv.zcount(key, windowStart, now);

  if (count >= limit) {
    return false;
  }

  // Add current request
  await kv.zadd(key, { score: now, member: `${now}:${Math.random()}` });
  await kv.expire(key, Math.ceil(windowMs / 1000));

  return true;
}

// Pattern 4: sessions

const SESSION_TTL = 7 * 24 * 3600; // 7 days

export async function createSession(userId) {
  const sessionId = crypto.randomUUID();
  const sessionData = {
    userId,
    createdAt: Date.now(),
    lastActivity: Date.now()
  };

  // Store session
  await kv.setex(`session:${sessionId}`, SESSION_TTL, sessionData);

  // Set cookie
  (await cookies()).set('session', sessionId, {
    httpOnly: true,
    secure: process.env.NODE_ENV === 'production',
    sameSite: 'lax',
    maxAge: SESSION_TTL
  });

  return sessionId;
}

export async function getSession() {
  const sessionId = (await cookies()).get('session')?.value;
  if (!sessionId) return null;

  const session = await kv.get(`session:${sessionId}`);

  if (session) {
    // Refresh TTL on access (sliding window)
    await kv.expire(`session:${sessionId}`, SESSION_TTL);
  }

  return session;
}

export async function destroySession() {
  const sessionId = (await cookies()).get('session')?.value;
  if (sessionId) {
    await kv.del(`session:${sessionId}`);
    (await cookies()).delete('session');
  }
}

// Pattern 5: distributed lock

export async function acquireLock(resource, timeout = 10) {
  const lockKey = `lock:${resource}`;
  const lockValue = crypto.randomUUID();

  // Try to set lock (only if not exists)
  const acquired = await kv.setnx(lockKey, lockValue);

  if (acquired) {
    // Set TTL to prevent deadlock
    await kv.expire(lockKey, timeout);
    return lockValue;
  }

  return null;
}

export async function releaseLock(resource, lockValue) {
  const lockKey = `lock:${resource}`;
  const current = await kv.get(lockKey);

  // Only delete if we own the lock
  if (current === lockValue) {
    await kv.del(lockKey);
    return true;
  }

  return false;
}

// Pattern 6: leaderboard

const LEADERBOARD_KEY = 'leaderboard:global';

export async function updateScore(userId, score) {
  await kv.zadd(LEADERBOARD_KEY, { score, member: userId.toString() });
}

export async function incrementScore(userId, increment) {
  await kv.zincrby(LEADERBOARD_KEY, increment, userId.toString());
}

export async function getTopPlayers(limit = 10) {
  // Get top scores (descending order)
  const top = await kv.zrange(LEADERBOARD_KEY, 0, limit - 1, {
    rev: true,
    withScores: true
  });

  return top;
}

export async function getUserRank(userId) {
  // Get user's rank (0-based, so add 1 for 1-based)
  const rank = await kv.zrevrank(LEADERBOARD_KEY, userId.toString());
  return rank !== null ? rank + 1 : null;
}

export async function getUserScore(userId) {
  return await kv.zscore(LEADERBOARD_KEY, userId.toString());
}

export async function getPlayerContext(userId, range = 2) {
  // Get players around the user
  const rank = await kv.zrevrank(LEADERBOARD_KEY, userId.toString());
  if (rank === null) return null;

  const start = Math.max(0, rank - range);
  const end = rank + range;

  return await kv.zrange(LEADERBOARD_KEY, start, end, {
    rev: true,
    withScores: true
  });
}

// Pattern 7: pipeline

export async function getUserDashboard(userId) {
  const pipeline = kv.pipeline();

  pipeline.get(`user:${userId}:profile`);
  pipeline.get(`user:${userId}:settings`);
  pipeline.zrevrange(`user:${userId}:notifications`, 0, 4);
  pipeline.hgetall(`user:${userId}:stats`);

  const [profile, settings, notifications, stats] = await pipeline.exec();

  return { profile, settings, notifications, stats };
}

export async function batchUpdateCounters(counters) {
  const pipeline = kv.pipeline();

  for (const [key, increment] of Object.entries(counters)) {
    pipeline.incrby(key, increment);
  }

  return await pipeline.exec();
}

// Pattern 8: feature flags

const FLAGS_KEY = 'flags:global';

export async function setFlag(flag, enabled) {
  await kv.hset(FLAGS_KEY, { [flag]: enabled ? '1' : '0' });
}

export async function getFlag(flag) {
  const value = await kv.hget(FLAGS_KEY, flag);
  return value === '1';
}

export async function getAllFlags() {
  const flags = await kv.hgetall(FLAGS_KEY);
  if (!flags) return {};

  return Object.fromEntries(
    Object.entries(flags).map(([k, v]) => [k, v === '1'])
  );
}
