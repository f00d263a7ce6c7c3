// Runs each pattern of the seed once, and prints what came out as one line of JSON.

import { kv } from '@vercel/kv';
import * as seed from './seed.mjs';
import { db } from './surroundings.mjs';

const repeated = async (times, call) => {
  const results = [];
  for (let i = 0; i < times; i++) results.push(await call());
  return results;
};
const failure = async (call) => {
  try {
    await call();
    return null;
  } catch (error) {
    return `${error.constructor.name}: ${error.message}`;
  }
};
// A busy machine may be some seconds late.
const about = (whole, ttl) => (ttl > whole - 10 && ttl <= whole ? whole : ttl);

const found = {};

db.fill({ 1: { id: 1, name: 'Ann 😀' }, 2: { id: 2, name: 'Bob' } });
found.cacheAside = [await seed.getUser(1), await kv.get('user:1'), about(300, await kv.ttl('user:1'))];
found.cacheAsideAbsent = [await seed.getUser(7), await kv.exists('user:7')];

found.writeThrough = [await seed.updateUser(2, { name: 'Rob' }), await kv.get('user:2')];
await seed.deleteUser(2);
found.writeThroughDeleted = [await kv.get('user:2'), await seed.getUser(2)];

found.fixedWindow = await repeated(12, () => seed.checkRateLimit('203.0.113.7'));
found.fixedWindowTtl = about(60, await kv.ttl('ratelimit:203.0.113.7'));
found.slidingWindow = await repeated(5, () => seed.slidingWindowRateLimit('sliding', 3, 60_000));

const sessionId = await seed.createSession(42);
found.session = [
  (await seed.getSession()).userId,
  about(604_800, await kv.ttl(`session:${sessionId}`)),
];
await seed.destroySession();
found.sessionDestroyed = [await seed.getSession(), await kv.exists(`session:${sessionId}`)];

const mine = await seed.acquireLock('orders', 30);
found.lock = [
  typeof mine,
  await seed.acquireLock('orders'),
  about(30, await kv.ttl('lock:orders')),
];
found.lockReleased = [
  await seed.releaseLock('orders', 'somebody'),
  await seed.releaseLock('orders', mine),
  await kv.exists('lock:orders'),
];

for (const [id, score] of [[1, 10], [2, 30], [3, 20]]) await seed.updateScore(id, score);
await seed.incrementScore(1, 15.5);
found.leaderboard = await seed.getTopPlayers(2);
found.leaderboardOf = [
  await seed.getUserRank(1),
  await seed.getUserScore(1),
  await seed.getUserRank(9),
  await seed.getPlayerContext(3, 1),
];

found.counters = await seed.batchUpdateCounters({ a: 1, b: 5 });
found.dashboard = await failure(() => seed.getUserDashboard(1));

await seed.setFlag('new-checkout-flow', true);
found.flags = [await seed.getFlag('new-checkout-flow'), await seed.getAllFlags()];
found.flagStored = await kv.hget('flags:global', 'new-checkout-flow');

console.log(JSON.stringify(found));
