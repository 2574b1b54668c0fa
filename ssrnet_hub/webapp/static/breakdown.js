// @ts-check
/**
 * How SSR-Net came to an age, as a figure that moves and answers to pointer, touch, and keyboard.
 *
 * Everything about faces is untrusted: text goes into text nodes, and what is no number is not drawn.
 */
import { clamp, h, s } from './dom.js';
import { colorOf, drawStages, drawSum, spanOf } from './drawing.js';
import { digits, list, readEntry } from './stages.js';
import { translator } from './strings.js';
import { describe, equation, inYears } from './words.js';

/**
 * @typedef {import('./stages.js').Face} Face
 * @typedef {import('./stages.js').Entry} Entry
 * @typedef {import('./stages.js').Reading} Reading
 * @typedef {{language?: string, number?: number, autoplay?: boolean}} Options
 * @typedef {import('./drawing.js').Place} Place
 */

const DOUBTS = ['blurred', 'small', 'covered', 'turned', 'profile', 'cut off', 'not a face', 'uncertain'];
const MOST_ENTRIES = 8;
const SECONDS_PER_STAGE = 2.4;

/**
 * The age of a face as text, its 90% interval on an axis of 0 to 100 years, and why not to trust it.
 *
 * @param {Face} face
 * @param {{language?: string}} [options]
 * @returns {HTMLElement}
 */
export function ageBar(face, { language = 'en' } = {}) {
  const say = translator(language);
  const { age, interval, doubts } = readEntry({ face });
  const [low, high] = (interval ?? []).map((end) => digits(end, 0));
  const label = say(interval ? 'interval.label' : 'interval.none', { age: inYears(say, age), low, high });
  /** @param {number} years */
  const x = (years) => `${clamp(years, 0, 100)}%`;
  const svg = s('svg', { class: 'ssrnet-age-bar', role: 'img', 'aria-label': label });
  svg.append(s('rect', { class: 'ssrnet-age-track', y: 6, width: '100%', height: 8, rx: 4 }));
  if (interval) {
    const width = `${clamp(interval[1], 0, 100) - clamp(interval[0], 0, 100)}%`;
    svg.append(s('rect', { class: 'ssrnet-age-interval', x: x(interval[0]), y: 4, width, height: 12, rx: 4 }));
  }
  if (Number.isFinite(age)) svg.append(s('circle', { class: 'ssrnet-age-mark', cx: x(age), cy: 10, r: 7 }));
  for (const [years, anchor] of /** @type {const} */ ([
    [0, 'start'],
    [25, 'middle'],
    [50, 'middle'],
    [75, 'middle'],
    [100, 'end'],
  ])) {
    svg.append(s('text', { x: x(years), y: 32, 'text-anchor': anchor }, String(years)));
  }
  const root = h(
    'div',
    { class: 'ssrnet-age', lang: say('lang') },
    h('p', { class: 'ssrnet-age-value' }, inYears(say, age)),
    svg,
  );
  if (interval) root.append(h('p', { class: 'ssrnet-age-interval-text' }, say('interval', { low, high })));
  if (doubts.length) {
    const reasons = DOUBTS.filter((doubt) => doubts.includes(doubt)).map((doubt) => say(`doubt.${doubt}`));
    const text = say(reasons.length ? 'doubts' : 'doubts.unknown', { reasons: reasons.join(say('doubts.separator')) });
    root.append(h('p', { class: 'ssrnet-age-doubts' }, text));
  }
  return root;
}

/**
 * Shows how one or more sets of weights came to the age of a face.
 *
 * @param {HTMLElement} element Its content is replaced.
 * @param {Entry[]} entries One for each set of weights.
 * @param {Options} [options] `language` as a tag; `number` of the face, from 1; `autoplay` plays at once, unless the
 *   visitor prefers less motion.
 * @returns {{update: (entries: Entry[], options?: Options) => void, destroy: () => void}} `update` keeps the options
 *   that it is not given.
 */
export function mountBreakdown(element, entries, options = {}) {
  let settings = { language: 'en', number: 1, autoplay: false };
  let say = translator('en');
  let last = 0;
  let time = Infinity;
  let frame = 0;
  let width = 0;
  /** @type {Reading[]} */
  let readings = [];
  /** @type {Place | null} */
  let chosen = null;
  /** @type {ReturnType<typeof drawStages>[]} */
  let figures = [];
  /** @type {ReturnType<typeof drawSum> | undefined} */
  let total;
  const calm = matchMedia('(prefers-reduced-motion: reduce)');

  const intro = h('p', { class: 'ssrnet-intro' });
  const now = h('p', { class: 'ssrnet-now' });
  const play = h('button', { type: 'button', class: 'ssrnet-play' });
  const slider = h('input', { type: 'range', min: 0, step: 0.05, class: 'ssrnet-slider' });
  const label = h('span');
  const controls = h('div', { class: 'ssrnet-controls' }, play, h('label', {}, label, slider), now);
  const drawings = h('div', { class: 'ssrnet-figures' });
  const sum = h('figure', { class: 'ssrnet-sums' });
  const details = h('div', { class: 'ssrnet-details', 'aria-live': 'polite' });
  const body = h('div', { class: 'ssrnet-body' }, drawings, sum, details);
  const root = h('section', { class: 'ssrnet-breakdown' }, intro, controls, body);
  element.replaceChildren(root);

  /** @param {number} t */
  function show(t) {
    time = clamp(t, 0, last);
    const k = Math.floor(time);
    const isOne = last === 1 ? '.one' : '';
    now.textContent =
      time === last
        ? readings.length === 1
          ? equation(readings[0], say)
          : say('done')
        : time === 0
          ? say('grid')
          : say((time - k < 0.5 ? 'moving' : 'adding') + isOne, { k: k + 1 });
    slider.value = String(time);
    slider.setAttribute('aria-valuetext', now.textContent);
    for (const { draw } of figures) draw(time);
    total?.draw(time);
  }

  /** @param {boolean} isOn */
  function setPlaying(isOn) {
    cancelAnimationFrame(frame);
    frame = 0;
    play.classList.toggle('ssrnet-playing', isOn);
    play.textContent = say(isOn ? 'pause' : 'play');
    if (!isOn) return;
    const from = time >= last ? 0 : time;
    const since = performance.now();
    const step = () => {
      const t = from + (performance.now() - since) / 1000 / SECONDS_PER_STAGE;
      show(calm.matches ? Math.floor(2 * t) / 2 : t); // less motion: from one picture to the next
      if (time < last) frame = requestAnimationFrame(step);
      else setPlaying(false);
    };
    step();
  }

  /** @param {Place | null} place */
  function select(place) {
    chosen = place && readings[place.entry]?.stages[place.stage]?.bins[place.bin] ? place : null;
    for (const figure of figures) figure.select(chosen);
    details.replaceChildren();
    if (!chosen) return;
    const { entry, stage: k, bin: i } = chosen;
    const { facts, how } = describe(readings[entry], k, i, say);
    /** @param {(keyof typeof facts)[]} keys */
    const row = (...keys) =>
      h('div', {}, ...keys.flatMap((key) => [h('dt', {}, say(key)), h('dd', { 'data-fact': key }, facts[key])]));
    const share = row('share');
    share.lastElementChild?.before(h('dd', { class: 'ssrnet-how' }, how));
    const title = h('p', { class: `ssrnet-details-title ${colorOf(k)}` }, say('bin', { k: k + 1, i }));
    if (readings.length > 1) title.append(h('small', {}, readings[entry].weights));
    details.append(title, h('dl', {}, row('p', 'eta', 'delta'), row('fixed'), row('moved'), share));
    details.append(h('p', { class: 'ssrnet-hint' }, say('hint')));
  }

  function layOut() {
    const hadFocus = drawings.contains(document.activeElement);
    const several = readings.length > 1;
    width = Math.max(Math.floor(drawings.clientWidth), 240);
    const columns = clamp(Math.floor((width + 24) / (340 + 24)), 1, readings.length || 1); // as the grid has
    const spans = Array.from({ length: last }, (_, k) => spanOf(readings, k));
    const weights = readings.flatMap(({ stages }) => stages.flatMap(({ bins }) => bins.map(({ p }) => p)));
    const highest = Math.max(...weights.filter(Number.isFinite), 0) || 1;
    figures = readings.map((reading, e) => {
      const name = say(reading.weights ? 'figure.weights' : 'figure', {
        number: settings.number,
        weights: reading.weights,
      });
      const each = Math.floor((width - 24 * (columns - 1)) / columns);
      return drawStages(reading, e, spans, highest, each, say, `${name}. ${say('figure.keys')}`);
    });
    const shown = figures.map(({ svg }, e) => {
      const name = say(readings[e].weights ? 'figure.weights' : 'figure', {
        number: settings.number,
        weights: readings[e].weights,
      });
      const caption = h('figcaption', {}, h('b', {}, name));
      if (several || !readings[e].stages.length) caption.append(h('span', {}, equation(readings[e], say)));
      return h('figure', {}, caption, svg);
    });
    drawings.replaceChildren(...shown);
    total = drawSum(readings, spans[0] ?? [0, 100], width, say);
    sum.replaceChildren(h('figcaption', {}, say('axis')), total.svg);
    select(chosen);
    show(time);
    if (hadFocus && chosen) figures[chosen.entry].nodes[chosen.stage][chosen.bin].focus();
  }

  /** @param {Entry[]} given @param {Options} [more] */
  function update(given, more = {}) {
    const wasAtEnd = time >= last;
    settings = { ...settings, ...more };
    say = translator(settings.language);
    readings = list(given, MOST_ENTRIES).map(readEntry);
    last = Math.max(0, ...readings.map(({ stages }) => stages.length));
    root.lang = say('lang');
    root.classList.toggle('ssrnet-empty', !last);
    root.classList.toggle('ssrnet-several', readings.length > 1);
    intro.textContent =
      last === 1 ? say('intro.one') : say('intro', { stages: say(`stages.${last}`) || say('stages.several') });
    label.textContent = say('slider');
    slider.max = String(last);
    if (!chosen || !readings[chosen.entry]?.stages[chosen.stage]?.bins[chosen.bin]) chosen = largest(readings);
    time = wasAtEnd ? last : Math.min(time, last);
    setPlaying(false);
    layOut();
    if (settings.autoplay && last && !calm.matches) setPlaying(true);
  }

  /** @param {Element | EventTarget | null} target @returns {Place | null} */
  function placeOf(target) {
    const data = target instanceof Element ? target.closest('.ssrnet-bin')?.attributes : null;
    /** @param {string} name */
    const read = (name) => Number(data?.getNamedItem(`data-${name}`)?.value);
    return data ? { entry: read('entry'), stage: read('stage'), bin: read('bin') } : null;
  }

  /** @param {Event} event */
  function pick(event) {
    // a finger stays with what it touched first, whatever it is over
    const finger = event instanceof PointerEvent && event.pointerType === 'touch' ? event : null;
    const place = placeOf(finger ? document.elementFromPoint(finger.clientX, finger.clientY) : event.target);
    if (place && JSON.stringify(place) !== JSON.stringify(chosen)) select(place);
  }

  for (const kind of ['pointerover', 'pointerdown', 'pointermove', 'focusin']) drawings.addEventListener(kind, pick);
  drawings.addEventListener('keydown', (event) => {
    const at = placeOf(event.target);
    if (!at) return;
    const lanes = figures[at.entry].nodes;
    const all = lanes.flat();
    const index = all.indexOf(lanes[at.stage][at.bin]);
    /** @param {number} stage */
    const inStage = (stage) => lanes[stage]?.[Math.min(at.bin, lanes[stage].length - 1)];
    const target = new Map([
      ['ArrowRight', all[index + 1]],
      ['ArrowLeft', all[index - 1]],
      ['ArrowDown', inStage(at.stage + 1)],
      ['ArrowUp', inStage(at.stage - 1)],
      ['Home', all[0]],
      ['End', all[all.length - 1]],
    ]).get(event.key);
    if (/^(Arrow|Home|End)/.test(event.key)) event.preventDefault();
    target?.focus();
  });
  slider.addEventListener('input', () => {
    const t = Number(slider.value);
    setPlaying(false);
    show(t);
  });
  play.addEventListener('click', () => setPlaying(!frame));
  const observer = new ResizeObserver(() => {
    if (drawings.clientWidth && Math.abs(drawings.clientWidth - width) >= 1) layOut();
  });
  update(entries, options);
  observer.observe(drawings);
  return {
    update,
    destroy() {
      setPlaying(false);
      observer.disconnect();
      root.remove();
    },
  };
}

/** The bin with the largest share of the first age. @param {Reading[]} readings @returns {Place | null} */
function largest([reading]) {
  const bins = (reading?.stages ?? []).flatMap(({ bins }, stage) =>
    bins.map(({ share }, bin) => ({ share, stage, bin })),
  );
  if (!bins.length) return null;
  const { stage, bin } = bins.reduce((most, other) => (Math.abs(other.share) > Math.abs(most.share) ? other : most));
  return { entry: 0, stage, bin };
}
