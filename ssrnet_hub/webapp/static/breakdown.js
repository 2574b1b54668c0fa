// @ts-check
/**
 * How SSR-Net came to an age, as a figure that moves and answers to pointer, touch, and keyboard.
 *
 * Everything about faces is untrusted: text goes into text nodes, and what is no number is not drawn.
 */
import { digits, inTenths, list, mix, placesOf, readEntry, signed, stagesAt } from './stages.js';
import { translator } from './strings.js';

/**
 * @typedef {import('./stages.js').Face} Face
 * @typedef {import('./stages.js').Entry} Entry
 * @typedef {import('./stages.js').Reading} Reading
 * @typedef {{language?: string, number?: number, autoplay?: boolean}} Options
 * @typedef {ReturnType<typeof translator>} Say
 * @typedef {[number, number]} Span
 * @typedef {{entry: number, stage: number, bin: number}} Place
 */

const DOUBTS = ['blurred', 'small', 'covered', 'turned', 'profile', 'cut off', 'not a face', 'uncertain'];
const MOST_ENTRIES = 8, SECONDS_PER_STAGE = 2.4;
const FEW = 12; // bins that have room for a label each
const PAD = 12, TITLE = 24, BARS = 64, PEAK = 48, LINK = 16, CELL = 28, RULER = 36, GAP = 18; // pixels; LINK + CELL is a fingertip
const BASE = TITLE + BARS, GRID = BASE + LINK, AXIS = GRID + CELL, LANE = AXIS + RULER;

/** @template {Element} T @param {T} element @param {Record<string, unknown>} attributes @param {(Node | string)[]} children */
function fill(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag @param {Record<string, unknown>} [attributes] @param {...(Node | string)} children
 */
const h = (tag, attributes = {}, ...children) => fill(document.createElement(tag), attributes, children);

/**
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag @param {Record<string, unknown>} [attributes] @param {...(Node | string)} children
 */
const s = (tag, attributes = {}, ...children) =>
  fill(document.createElementNS('http://www.w3.org/2000/svg', tag), attributes, children);

/** Puts an element in its place; without numbers it has none. @param {Element} element @param {Record<string, number>} numbers */
function put(element, numbers) {
  const whole = Object.values(numbers).every(Number.isFinite);
  element.classList.toggle('ssrnet-hidden', !whole);
  if (whole) for (const name in numbers) element.setAttribute(name, numbers[name].toFixed(2));
}

/** @param {(years: number) => number} x @param {number} a @param {number} b */
const between = (x, a, b) => ({ x: Math.min(x(a), x(b)), width: Math.abs(x(b) - x(a)) });

/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** @param {number} k */
const colorOf = (k) => `ssrnet-stage-${(k % 4) + 1}`;

/** @param {Span} span Years. @param {number} width Pixels. @returns {(years: number) => number} */
const scale = ([low, high], width) => (years) => PAD + ((years - low) / (high - low)) * (width - 2 * PAD);

/** @param {Say} say @param {number} age */
const inYears = (say, age) => (Number.isFinite(age) ? say('years', { age: inTenths(age) }) : say('no age'));

/**
 * The age of a face as text, its 90% interval on an axis of 0 to 100 years, and why not to trust it.
 *
 * @param {Face} face
 * @param {{language?: string}} [options]
 * @returns {HTMLElement}
 */
export function ageBar(face, { language = 'en' } = {}) {
  const say = translator(language), { age, interval, doubts } = readEntry({ face });
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
  for (const [years, anchor] of /** @type {const} */ ([[0, 'start'], [25, 'middle'], [50, 'middle'], [75, 'middle'], [100, 'end']])) {
    svg.append(s('text', { x: x(years), y: 32, 'text-anchor': anchor }, String(years)));
  }
  const root = h('div', { class: 'ssrnet-age', lang: say('lang') }, h('p', { class: 'ssrnet-age-value' }, inYears(say, age)), svg);
  if (interval) root.append(h('p', { class: 'ssrnet-age-interval-text' }, say('interval', { low, high })));
  if (doubts.length) {
    const reasons = DOUBTS.filter((doubt) => doubts.includes(doubt)).map((doubt) => say(`doubt.${doubt}`));
    const text = say(reasons.length ? 'doubts' : 'doubts.unknown', { reasons: reasons.join(say('doubts.separator')) });
    root.append(h('p', { class: 'ssrnet-age-doubts' }, text));
  }
  return root;
}

/** What a stage of several faces is drawn on, years from where it starts. @param {Reading[]} readings @param {number} k @returns {Span} */
function spanOf(readings, k) {
  let low = 0, high = k === 0 ? 100 : 0;
  for (const stage of readings.flatMap((reading) => reading.stages[k] ?? [])) {
    const grid = stage.fixed * stage.bins.length;
    const ends = [...stage.bins.flatMap((_, i) => placesOf(stage, i).moved), stage.contribution].filter(Number.isFinite);
    // a network may move bins anywhere; what is too far off is not worth a smaller picture of the others
    low = Math.max(Math.min(low, ...ends), -grid);
    high = Math.max(high, grid, Math.min(Math.max(...ends), 2 * grid));
  }
  return [low, high || 1];
}

/**
 * A ruler of years that can roll.
 *
 * @param {Element} parent @param {number} y @param {Span} span @param {number} width Pixels.
 * @returns {(start: number) => void} Draws the ticks, with the span from a year.
 */
function drawRuler(parent, y, [low, high], width) {
  const x = scale([low, high], width), years = high - low;
  const step = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100].find((step) => (step / years) * width >= 54) ?? years;
  const ticks = Array.from({ length: Math.floor(years / step) + 2 }, () => ({
    line: s('line', { class: 'ssrnet-tick', y1: y, y2: y + 5 }),
    text: s('text', { class: 'ssrnet-tick-label', y: y + 18, 'text-anchor': 'middle' }),
  }));
  parent.append(...ticks.flatMap(({ line, text }) => [line, text]));
  return (start) => {
    const first = Math.ceil((start + low) / step - 1e-9);
    ticks.forEach(({ line, text }, i) => {
      const value = (first + i) * step, at = x(value - start);
      const seen = at < width - PAD + 1 ? at : NaN;
      put(line, { x1: seen, x2: seen });
      put(text, { x: seen });
      text.textContent = digits(value + 0, step < 1 ? 1 : 0);
    });
  };
}

/**
 * The stages of a face, each a closer look at where the ones before ended.
 *
 * @param {Reading} reading @param {number} entry @param {Span[]} spans @param {number} highest p that has room.
 * @param {number} width Pixels. @param {Say} say @param {string} label
 */
function drawStages(reading, entry, spans, highest, width, say, label) {
  const { stages } = reading, height = Math.max(stages.length * (LANE + GAP) - GAP, 0);
  const svg = s('svg', { class: 'ssrnet-stages', width, height, role: 'group', 'aria-label': label });
  const lanes = stages.map((stage, k) => {
    const x = scale(spans[k], width), few = stage.bins.length <= FEW, y = k * (LANE + GAP);
    const kind = stages.length === 1 ? '' : say(k === 0 ? 'coarse' : k === stages.length - 1 ? 'finest' : 'finer');
    const title = s('text', { class: 'ssrnet-title', x: PAD, y: 18 }, say('stage', { k: k + 1 }));
    title.append(s('tspan', { class: 'ssrnet-kind', dx: 8 }, kind));
    const lane = s('svg', { class: colorOf(k), y, width, height: LANE });
    const says = s('text', { class: 'ssrnet-says', x: width - PAD, y: 18, 'text-anchor': 'end' });
    const lever = s('rect', { class: 'ssrnet-lever' }), reach = s('text', { class: 'ssrnet-reach' });
    const mark = s('circle', { class: 'ssrnet-mark', cy: AXIS + 8, r: 5.5 }), funnel = s('polygon', { class: `ssrnet-funnel ${colorOf(k)}` });
    const bins = stage.bins.map((bin, i) => {
      const [left, right] = placesOf(stage, i).fixed, cell = between(x, left, right);
      const said = describe(reading, k, i, say).label, address = { 'data-entry': entry, 'data-stage': k, 'data-bin': i };
      const node = s('g', { class: 'ssrnet-bin', role: 'button', 'aria-label': said, ...address });
      const bar = s('rect', { class: 'ssrnet-bar' }), link = s('path', { class: 'ssrnet-link' });
      link.setAttribute('opacity', String(clamp(bin.p / highest, 0.12, 1)));
      node.append(link, bar, s('rect', { class: few ? 'ssrnet-cell' : 'ssrnet-slot', ...cell, y: GRID, height: CELL, rx: few ? 6 : 0 }));
      if (few) {
        const text = s('text', { x: cell.x + cell.width / 2, y: GRID + 19, 'text-anchor': 'middle' });
        text.append(s('tspan', { class: 'ssrnet-index' }, cell.width > 96 ? say('bin.short', { i }) : String(i)), s('tspan', { dx: 8 }, signed(bin.shown)));
        node.append(text);
      }
      node.append(s('rect', { class: 'ssrnet-hit', ...cell, y: few ? BASE : TITLE, height: AXIS - (few ? BASE : TITLE) }));
      const p = s('text', { class: 'ssrnet-p', 'text-anchor': 'middle' }, `p ${digits(bin.p, 3)}`);
      return { node, bar, link, cell, p, part: s('rect', { class: 'ssrnet-part', y: AXIS + 5, height: 6 }) };
    });
    const group = s('g', { role: 'group', 'aria-label': `${say('stage', { k: k + 1 })}: ${inYears(say, stage.shown)}` });
    group.append(...bins.map((bin) => bin.node));
    lane.append(s('rect', { class: 'ssrnet-lane', width, height: LANE, rx: 10 }), title, says);
    lane.append(s('line', { class: 'ssrnet-origin', x1: x(0), x2: x(0), y1: TITLE + 4, y2: AXIS }), lever, group);
    lane.append(...bins.flatMap(({ part, p }) => [part, p]), mark, reach);
    svg.append(funnel, lane);
    return { stage, x, y, lane, says, lever, reach, mark, funnel, bins, roll: drawRuler(lane, AXIS + 15, spans[k], width) };
  });
  /** @type {Place | null} */
  let chosen = null;
  let now = 0;

  /** @param {number} t */
  function draw(t) {
    now = t;
    const at = stagesAt(reading, t);
    lanes.forEach(({ stage, x, y, lane, says, lever, reach, mark, funnel, bins, roll }, k) => {
      const { start, width: bin, moved, added, run } = at[k];
      lane.classList.toggle('ssrnet-waiting', t > 0 && t < k);
      for (const element of [lever, reach]) put(element, { x: NaN });
      let total = 0;
      bins.forEach(({ bar, link, cell, p: label, part }, i) => {
        const { p, eta, share } = stage.bins[i], left = (i + mix(0, eta, moved)) * bin, place = between(x, left, left + bin);
        const tall = (clamp(p, 0, highest) / highest) * PEAK, right = place.x + place.width;
        put(bar, { ...place, y: BASE - tall, height: tall });
        const middle = BASE + LINK / 2, end = cell.x + cell.width;
        const ribbon = `M${place.x} ${BASE}C${place.x} ${middle} ${cell.x} ${middle} ${cell.x} ${GRID}H${end}C${end} ${middle} ${right} ${middle} ${right} ${BASE}Z`;
        link.setAttribute('d', Number.isFinite(right) ? ribbon : '');
        put(part, between(x, total, (total += share * added)));
        const isChosen = chosen?.stage === k && chosen.bin === i;
        put(label, { x: isChosen ? clamp(place.x + place.width / 2, 32, x(spans[k][1]) - 20) : NaN, y: BASE - tall - 8 });
        if (!isChosen) return;
        const arm = between(x, 0, left);
        put(lever, { ...arm, y: BASE - tall, height: tall });
        reach.textContent = inYears(say, left);
        put(reach, { x: arm.width > 72 && tall > 18 ? arm.x + 8 : NaN, y: BASE - tall / 2 + 5 });
      });
      put(mark, { cx: x(run - start) });
      const said = mix(0, stage.shown, added);
      says.textContent = Number.isFinite(said) ? say('years', { age: k === 0 ? inTenths(said) : signed(said) }) : '';
      roll(start);
      const ends = k === 0 ? [NaN] : spans[k].map((end) => clamp(lanes[k - 1].x(start + end - at[k - 1].start), 0, width));
      const points = `${ends[0]},${y - GAP} ${ends[1]},${y - GAP} ${width - 10},${y} 10,${y}`;
      funnel.setAttribute('points', ends.every(Number.isFinite) ? points : '');
    });
  }

  /** @param {Place | null} place */
  function select(place) {
    chosen = place?.entry === entry ? place : null;
    lanes.forEach(({ bins }, k) =>
      bins.forEach(({ node, part }, i) => {
        const isChosen = chosen?.stage === k && chosen.bin === i, isFirst = !chosen && k === 0 && i === 0;
        node.setAttribute('aria-pressed', String(isChosen));
        node.setAttribute('tabindex', isChosen || isFirst ? '0' : '-1');
        part.classList.toggle('ssrnet-chosen', isChosen);
      }),
    );
    draw(now);
  }
  return { svg, draw, select, nodes: lanes.map(({ bins }) => bins.map(({ node }) => node)) };
}

/** A bin in words. @param {Reading} reading @param {number} k @param {number} i @param {Say} say */
function describe({ stages }, k, i, say) {
  const stage = stages[k], { p, eta, shown } = stage.bins[i], { fixed, moved } = placesOf(stage, i), { start } = stage;
  const weight = { p: digits(p, 3), eta: signed(eta, 3), delta: signed(stage.delta, 3) };
  const [onGrid, after] = [fixed, moved].map((ends) => {
    const [low, high] = ends.map((end) => inTenths(start + end));
    return say('range', { low, high });
  });
  const facts = { ...weight, fixed: onGrid, moved: after, share: say('years', { age: inTenths(shown) }) };
  const how = say(k === 0 ? 'share.first' : 'share.later', { p: weight.p, place: inTenths(start + moved[0]), start: inTenths(start) });
  return { facts, how, label: say('bin.label', { k: k + 1, i, ...facts }) };
}

/** The sum of the stages in numbers. @param {Reading} reading @param {Say} say */
function equation({ stages, total, shown, age }, say) {
  if (!stages.length) return say('no stages');
  if (!Number.isFinite(total)) return say('no age');
  const sum = stages.map(({ shown }, k) => (k === 0 ? inTenths(shown) : `${shown < 0 ? '−' : '+'} ${inTenths(Math.abs(shown))}`));
  const isClamped = Number.isFinite(age) && Math.abs(age - total) > 0.05;
  return say(isClamped ? 'clamped' : 'sum', { sum: sum.join(' '), total: inYears(say, shown), age: inTenths(age) });
}

/**
 * The stages added up to the ages, a row for each reading, on one axis.
 *
 * @param {Reading[]} readings @param {Span} span @param {number} width Pixels. @param {Say} say
 */
function drawSum(readings, span, width, say) {
  const several = readings.length > 1, head = several ? 20 : 0, row = 40 + head, x = scale(span, width);
  const height = row * readings.length + 24, said = readings.map((reading) => equation(reading, say)).join('; ');
  const svg = s('svg', { class: 'ssrnet-sum', width, height, role: 'img', 'aria-label': `${say('axis')}: ${said}` });
  const rows = readings.map(({ weights, stages, interval }, r) => {
    const y = r * row + head;
    if (several) svg.append(s('text', { class: 'ssrnet-row', x: PAD, y: y - 5 }, weights));
    const band = s('rect', { class: 'ssrnet-band', y, height: 34, rx: 5 }), mark = s('line', { class: 'ssrnet-total', y1: y, y2: y + 34 });
    put(band, between(x, ...(interval ?? [NaN, NaN])));
    const terms = stages.map((_, k) => s('rect', { class: `ssrnet-term ${colorOf(k)}`, y: y + 9, height: 16 }));
    const text = s('text', { class: 'ssrnet-total-label', y: y + 23 });
    svg.append(band, ...terms, mark, text);
    return { terms, mark, text };
  });
  drawRuler(svg, height - 23, span, width)(0);
  /** @param {number} t */
  const draw = (t) =>
    readings.forEach((reading, r) => {
      const { terms, mark, text } = rows[r], at = stagesAt(reading, t);
      at.forEach(({ start, run }, k) => put(terms[k], between(x, start, run)));
      const run = at.at(-1)?.run ?? reading.age, ends = [run, ...(reading.interval ?? [])].map(x);
      const right = Math.max(...ends), fits = right + 110 < width;
      put(mark, { x1: x(run), x2: x(run) });
      put(text, { x: fits ? right + 8 : Math.min(...ends) - 8 });
      text.setAttribute('text-anchor', fits ? 'start' : 'end');
      text.textContent = inYears(say, run);
    });
  return { svg, draw };
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
  let say = translator('en'), last = 0, time = Infinity, frame = 0, width = 0;
  /** @type {Reading[]} */
  let readings = [];
  /** @type {Place | null} */
  let chosen = null;
  /** @type {ReturnType<typeof drawStages>[]} */
  let figures = [];
  /** @type {ReturnType<typeof drawSum> | undefined} */
  let total;
  const calm = matchMedia('(prefers-reduced-motion: reduce)');

  const intro = h('p', { class: 'ssrnet-intro' }), now = h('p', { class: 'ssrnet-now' });
  const play = h('button', { type: 'button', class: 'ssrnet-play' });
  const slider = h('input', { type: 'range', min: 0, step: 0.05, class: 'ssrnet-slider' }), label = h('span');
  const controls = h('div', { class: 'ssrnet-controls' }, play, h('label', {}, label, slider), now);
  const drawings = h('div', { class: 'ssrnet-figures' }), sum = h('figure', { class: 'ssrnet-sums' });
  const details = h('div', { class: 'ssrnet-details', 'aria-live': 'polite' });
  const body = h('div', { class: 'ssrnet-body' }, drawings, sum, details);
  const root = h('section', { class: 'ssrnet-breakdown' }, intro, controls, body);
  element.replaceChildren(root);

  /** @param {number} t */
  function show(t) {
    time = clamp(t, 0, last);
    const k = Math.floor(time), isOne = last === 1 ? '.one' : '';
    now.textContent =
      time === last ? (readings.length === 1 ? equation(readings[0], say) : say('axis'))
      : time === 0 ? say('grid')
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
    const from = time >= last ? 0 : time, since = performance.now();
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
    const { entry, stage: k, bin: i } = chosen, { facts, how } = describe(readings[entry], k, i, say);
    /** @param {(keyof typeof facts)[]} keys */
    const row = (...keys) => h('div', {}, ...keys.flatMap((key) => [h('dt', {}, say(key)), h('dd', { 'data-fact': key }, facts[key])]));
    const share = row('share');
    share.lastElementChild?.before(h('dd', { class: 'ssrnet-how' }, how));
    const title = h('p', { class: `ssrnet-details-title ${colorOf(k)}` }, say('bin', { k: k + 1, i }));
    if (readings.length > 1) title.append(h('small', {}, readings[entry].weights));
    details.append(title, h('dl', {}, row('p', 'eta', 'delta'), row('fixed'), row('moved'), share));
    details.append(h('p', { class: 'ssrnet-hint' }, say('hint')));
  }

  function layOut() {
    const hadFocus = drawings.contains(document.activeElement), several = readings.length > 1;
    width = Math.max(Math.floor(drawings.clientWidth), 240);
    const columns = clamp(Math.floor((width + 24) / (340 + 24)), 1, readings.length || 1); // as the grid has
    const spans = Array.from({ length: last }, (_, k) => spanOf(readings, k));
    const weights = readings.flatMap(({ stages }) => stages.flatMap(({ bins }) => bins.map(({ p }) => p)));
    const highest = Math.max(...weights.filter(Number.isFinite), 0) || 1;
    figures = readings.map((reading, e) => {
      const name = say(reading.weights ? 'figure.weights' : 'figure', { number: settings.number, weights: reading.weights });
      const each = Math.floor((width - 24 * (columns - 1)) / columns);
      return drawStages(reading, e, spans, highest, each, say, `${name}. ${say('figure.keys')}`);
    });
    const shown = figures.map(({ svg }, e) => {
      const name = say(readings[e].weights ? 'figure.weights' : 'figure', { number: settings.number, weights: readings[e].weights });
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
    intro.textContent = last === 1 ? say('intro.one') : say('intro', { stages: say(`stages.${last}`) || say('stages.several') });
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
    const lanes = figures[at.entry].nodes, all = lanes.flat(), index = all.indexOf(lanes[at.stage][at.bin]);
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
  const bins = (reading?.stages ?? []).flatMap(({ bins }, stage) => bins.map(({ share }, bin) => ({ share, stage, bin })));
  if (!bins.length) return null;
  const { stage, bin } = bins.reduce((most, other) => (Math.abs(other.share) > Math.abs(most.share) ? other : most));
  return { entry: 0, stage, bin };
}
