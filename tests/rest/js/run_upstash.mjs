// @upstash/redis and @upstash/ratelimit against the gateway: prints what came out as JSON.

import { Ratelimit } from '@upstash/ratelimit';
import { Redis } from '@upstash/redis';

const redis = Redis.fromEnv({ enableAutoPipelining: false });
const plain = Redis.fromEnv({ responseEncoding: false, automaticDeserialization: false });
const reader = new Redis({
  url: process.env.UPSTASH_REDIS_REST_URL,
  token: process.env.READ_ONLY_TOKEN,
});
const stranger = new Redis({
  url: process.env.UPSTASH_REDIS_REST_URL,
  token: 'wrong',
  retry: { retries: 0 },
});
const failure = async (call) => {
  try {
    return `no error: ${JSON.stringify(await call())}`;
  } catch (error) {
    return `${error.name}: ${error.message}`;
  }
};

const found = {};
await redis.set('u:object', { name: 'Ann 😀', tags: ['OK', null, 1.5] }, { ex: 60 });
found.object = await redis.get('u:object');
found.text = [await redis.set('u:text', 'OK'), await redis.get('u:text'), await plain.get('u:text')];
found.none = await redis.get('u:none');
found.many = await redis.mset({ 'u:a': 1, 'u:b': 'two' }) && (await redis.mget('u:a', 'u:b', 'u:c'));
await redis.hset('u:hash', { field: 'value', n: 7 });
found.hash = await redis.hgetall('u:hash');
await redis.rpush('u:list', 'a', { b: 1 });
found.list = await redis.lrange('u:list', 0, -1);
await redis.zadd('u:zset', { score: 1.5, member: 'x' }, { score: 2, member: 'y' });
found.zset = await redis.zrange('u:zset', 0, -1, { withScores: true });
found.stream = typeof (await redis.xadd('u:stream', '*', { field: 'value' }));
found.script = await redis.eval('return {KEYS[1], ARGV[1], 3}', ['u:k'], ['v']);
const script = redis.createScript('return redis.call("INCRBY", KEYS[1], ARGV[1])');
found.evalsha = [await script.exec(['u:n'], ['2']), await script.exec(['u:n'], ['2'])];
found.pipeline = await redis.pipeline().set('u:p', 1).incr('u:p').get('u:p').exec();
found.multi = await redis.multi().set('u:p', 5).incr('u:p').exec();
found.auto = await Promise.all([1, 2, 3].map(() => Redis.fromEnv().incr('u:auto')));
const [cursor, keys] = await redis.scan(0, { match: 'u:*', count: 1000 });
found.scan = [cursor, keys.length > 5];
found.error = await failure(() => redis.lpush('u:text', 1));
found.blocked = await failure(() => redis.exec(['BLPOP', 'u:list', 0]));
found.partial = await redis.pipeline().incr('u:text').get('u:text').exec({ keepErrors: true });
found.reader = [await reader.get('u:text'), await failure(() => reader.set('u:text', 'pwned'))];
found.readOnlyScript = [
  await redis.evalRo('return redis.call("GET", KEYS[1])', ['u:text'], []),
  await failure(() => reader.evalRo('return redis.call("GET", KEYS[1])', ['u:text'], [])),
];
found.stranger = await failure(() => stranger.get('u:text'));

// Of a day: the windows of a minute begin and end at whole minutes, perhaps between two calls.
const kinds = {
  fixedWindow: Ratelimit.fixedWindow(3, '1 d'),
  slidingWindow: Ratelimit.slidingWindow(3, '1 d'),
  tokenBucket: Ratelimit.tokenBucket(1, '1 d', 3),
};
found.ratelimit = {};
for (const [name, limiter] of Object.entries(kinds)) {
  const limit = new Ratelimit({ redis, limiter, prefix: `u:${name}`, ephemeralCache: false });
  const answers = [];
  for (let i = 0; i < 5; i++) answers.push((await limit.limit('ann')).success);
  found.ratelimit[name] = answers;
}

console.log(JSON.stringify(found));
