import assert from 'node:assert/strict';
import { test } from 'node:test';
import { AgeTracker } from '../src/track.js';

/** An estimator that finds, and follows, the faces of a script. */
function scripted(found, followed = []) {
  const asked = [];
  const next = (kind, list) => async () => (asked.push(kind), list.shift() ?? []);
  return { asked, estimator: Object.assign(next('search', found), { follow: next('follow', followed) }) };
}

const at = (x, age) => ({ box: [x, 0, x + 100, 100], age });

test('a search each second, and the faces are followed between', async () => {
  const { asked, estimator } = scripted([[at(0, 30)], [at(40, 30)]], [[at(10, 40)], [at(20, 30)]]);
  const tracker = new AgeTracker(estimator);
  const seen = [];
  for (const seconds of [0, 0.1, 0.2, 1.1]) seen.push(await tracker.track(null, seconds));
  assert.deepEqual(asked, ['search', 'follow', 'follow', 'search']);
  assert.deepEqual(seen.map(([{ person }]) => person), [1, 1, 1, 1]);
  const fade = Math.exp(-0.1 / 2);
  assert.ok(Math.abs(seen[1][0].age - (30 * fade + 40) / (fade + 1)) < 1e-9);
});

test('people who cross keep their numbers, and newcomers get another one', async () => {
  const { estimator } = scripted([[at(0, 20), at(200, 60)], [at(210, 60), at(5, 20), at(500, 40)]]);
  const tracker = new AgeTracker(estimator);
  await tracker.track(null, 0);
  const second = await tracker.track(null, 1);
  assert.deepEqual(second.map(({ person, age }) => [person, Math.round(age)]), [[2, 60], [1, 20], [3, 40]]);
});

test('who is lost is forgotten after a while', async () => {
  const { estimator } = scripted([[at(0, 20)], [], [at(0, 20)]], [[null]]);
  const tracker = new AgeTracker(estimator);
  await tracker.track(null, 0);
  assert.deepEqual(await tracker.track(null, 0.5), []);
  assert.deepEqual(await tracker.track(null, 1.6), []);
  assert.equal((await tracker.track(null, 2.6))[0].person, 2);
});

test('a face without an age is nobody', async () => {
  const { estimator } = scripted([[at(0, null)]]);
  assert.deepEqual(await new AgeTracker(estimator).track(null, 0), []);
});
