import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { WORDS, wordsOf } from '../src/words.js';

const page = readFileSync(new URL('../index.html', import.meta.url), 'utf-8');
const script = readFileSync(new URL('../src/page.js', import.meta.url), 'utf-8');

test('both languages say everything', () => {
  assert.deepEqual(Object.keys(WORDS.zh), Object.keys(WORDS.en));
  const blanks = (words) => Object.values(words).map((text) => text.match(/\{\w+\}/g)?.sort().join() ?? '');
  assert.deepEqual(blanks(WORDS.zh), blanks(WORDS.en));
});

test('the page says in English what its words say', () => {
  const said = [...page.matchAll(/data-say="(\w+)"[^>]*>([^<]+)</g)];
  assert.ok(said.length > 5);
  for (const [, key, text] of said) assert.equal(text, wordsOf('en')(key));
  for (const [, key] of script.matchAll(/(?:tell|say)\('(\w+)'/g)) assert.ok(key in WORDS.en, key);
});
