// @ts-check
/**
 * How SSR-Net came to an age, as a figure that moves and answers to pointer, touch, and keyboard.
 *
 * Everything about faces is untrusted: text goes into text nodes, and what is no number is not drawn.
 */
import { translator } from './strings.js';

/**
 * A face as `Face.to_dict()` of Python has it; what was not finite is null.
 *
 * @typedef {{p: (number | null)[], eta: (number | null)[], delta: number | null, width: number | null,
 *   contribution: number | null}} Stage
 * @typedef {{age: number | null, interval: [number, number] | null, doubts: string[] | null, stages: Stage[],
 *   V?: number | null}} Face
 * @typedef {{weights: string, face: Face}} Entry
 * @typedef {{language?: string, number?: number, autoplay?: boolean}} Options
 *
 * @typedef {{p: number, eta: number, share: number, shown: number}} Bin
 * @typedef {{bins: Bin[], width: number, fixed: number, factor: number, start: number, contribution: number,
 *   shown: number}} Drawn
 * @typedef {{weights: string, age: number, interval: number[] | null, stages: Drawn[], total: number, shown: number,
 *   V: number}} Reading
 * @typedef {(t: number) => void} Draw
 * @typedef {[number, number]} Span
 * @typedef {{entry: number, stage: number, bin: number}} Place
 * @typedef {ReturnType<typeof translator>} Say
 */

const MOST_STAGES = 8;
const MOST_BINS = 400;
const FEW = 12; // bins that have room for a label each
const TITLE = 26, BARS = 62, LINK = 16, CELL = 28, RULER = 26, GAP = 20;
const LANE = TITLE + BARS + LINK + CELL + RULER;
const STEPS = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 50, 100, 200, 500];
const DOUBTS = ['blurred', 'small', 'covered', 'turned', 'profile', 'cut off', 'not a face', 'uncertain'];
const SECONDS_PER_STAGE = 2.6;

/** @param {unknown} value @returns {number} */
const number = (value) => (typeof value === 'number' && Number.isFinite(value) ? value : NaN);

/** @param {unknown} value @param {number} most @returns {any[]} */
const list = (value, most) => (Array.isArray(value) ? value.slice(0, most) : []);

/** @param {number} value @param {number} low @param {number} high */
const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

/** Rounds to a tenth as Python does, ties to even. @param {number} value */
const tenth = (value) =>
  (Math.abs((value * 4) % 2) === 1 ? (2 * Math.round(value * 5)) / 10 : Number(value.toFixed(1))) + 0;

/** @param {number} value */
const inTenths = (value) => (Number.isFinite(value) ? tenth(value).toFixed(1) : '?').replace('-', '−');

/** @param {number} value @param {number} digits */
const digits = (value, digits) => (Number.isFinite(value) ? value.toFixed(digits) : '?').replace('-', '−');

/** From a to b, and exactly a or b at the ends. @param {number} a @param {number} b @param {number} t */
const mix = (a, b, t) => (t <= 0 ? a : t >= 1 ? b : a + (b - a) * t);

/** Slow at both ends. @param {number} t */
const ease = (t) => ((t = clamp(t, 0, 1)), t * t * (3 - 2 * t));

/** How far a stage has moved its bins at a time. @param {number} t @param {number} k */
const movedAt = (t, k) => ease(2 * (t - k));

/** How far a stage is added to the sum at a time. @param {number} t @param {number} k */
const addedAt = (t, k) => ease(2 * (t - k) - 1);

/**
 * Parts of a sum to a tenth, such that they add up to the rounded sum; each is off by 0.1 at most.
 *
 * @param {number[]} parts
 * @param {number} start What the sum is before the first.
 * @param {number} end What it is after the last.
 */
function roundedParts(parts, start, end) {
  let total = start;
  return parts.map((part, i) => {
    const before = tenth(total);
    total = i === parts.length - 1 ? end : total + part;
    return tenth(tenth(total) - before);
  });
}

/** @param {any} entry @returns {Reading} */
function read(entry) {
  const face = entry?.face ?? {};
  const given = list(face.stages, MOST_STAGES);
  const counts = given.map((stage) => list(stage?.p, MOST_BINS).length);
  // the range, which the first stage's width tells as well
  const range = number(given[0]?.width) * counts[0] * (1 + number(given[0]?.delta));
  const V = [number(face.V), range].find((value) => value > 0 && value < 1e6) ?? 101;
  let fixed = V, before = V, total = 0;
  const stages = given.map((stage, k) => {
    const width = number(stage?.width), contribution = number(stage?.contribution);
    fixed /= counts[k] || 1;
    const factor = width / (before / (counts[k] || 1));
    const etas = list(stage?.eta, MOST_BINS);
    const bins = list(stage?.p, MOST_BINS).map((value, i) => {
      const p = number(value), eta = number(etas[i]);
      return { p, eta, share: p * (i + eta) * width, shown: NaN };
    });
    const start = total;
    total += contribution;
    roundedParts(bins.map((bin) => bin.share), start, total).forEach((shown, i) => (bins[i].shown = shown));
    before = width;
    return { bins, width, fixed, factor, start, contribution, shown: NaN };
  });
  roundedParts(stages.map((stage) => stage.contribution), 0, total).forEach((shown, k) => (stages[k].shown = shown));
  const ends = list(face.interval, 2).map(number);
  const interval = ends.length === 2 && ends[0] <= ends[1] ? ends : null;
  const age = number(face.age);
  return { weights: String(entry?.weights ?? ''), age, interval, stages, total, shown: tenth(total), V };
}

/**
 * An HTML element.
 *
 * @template {keyof HTMLElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string)} children
 * @returns {HTMLElementTagNameMap[T]}
 */
function h(tag, attributes = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, String(value));
  element.append(...children);
  return element;
}

/**
 * An SVG element.
 *
 * @template {keyof SVGElementTagNameMap} T
 * @param {T} tag
 * @param {Record<string, unknown>} [attributes]
 * @param {...(Node | string)} children
 * @returns {SVGElementTagNameMap[T]}
 */
function s(tag, attributes = {}, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  set(element, attributes);
  element.append(...children);
  return element;
}

/** Sets attributes; what has one that is no number is not shown. @param {Element} element @param {Record<string, unknown>} attributes */
function set(element, attributes) {
  let whole = true;
  for (const [name, value] of Object.entries(attributes)) {
    if (typeof value === 'number' && !Number.isFinite(value)) whole = false;
    else element.setAttribute(name, typeof value === 'number' ? String(Math.round(value * 100) / 100) : String(value));
  }
  element.classList.toggle('ssrnet-hidden', !whole);
}

/** @param {number} a @param {number} b @param {(x: number) => number} x */
const between = (a, b, x) => ({ x: Math.min(x(a), x(b)), width: Math.abs(x(b) - x(a)) });

/**
 * The age of a face as text, its 90% interval on an axis of 0 to 100 years, and why not to trust it.
 *
 * @param {Face} face
 * @param {{language?: string}} [options]
 * @returns {HTMLElement}
 */
export function ageBar(face, { language = 'en' } = {}) {
  const say = translator(language);
  const { age, interval } = read({ face });
  const said = Number.isFinite(age) ? say('years', { age: inTenths(age) }) : say('no age');
  const [low, high] = interval ? interval.map((end) => digits(end, 0)) : ['', ''];
  const root = h('div', { class: 'ssrnet-age' }, h('p', { class: 'ssrnet-age-value' }, said));
  const label = interval ? say('interval.label', { age: said, low, high }) : say('interval.none', { age: said });
  /** @param {number} years */
  const x = (years) => `${clamp(years, 0, 100)}%`;
  const svg = s('svg', { class: 'ssrnet-age-bar', role: 'img', 'aria-label': label });
  svg.append(s('rect', { class: 'ssrnet-age-track', x: 0, y: 6, width: '100%', height: 8, rx: 4 }));
  if (interval) {
    const width = `${clamp(interval[1], 0, 100) - clamp(interval[0], 0, 100)}%`;
    svg.append(s('rect', { class: 'ssrnet-age-interval', x: x(interval[0]), y: 4, width, height: 12, rx: 4 }));
  }
  if (Number.isFinite(age)) svg.append(s('circle', { class: 'ssrnet-age-mark', cx: x(age), cy: 10, r: 7 }));
  for (const tick of [0, 25, 50, 75, 100]) {
    const anchor = tick === 0 ? 'start' : tick === 100 ? 'end' : 'middle';
    svg.append(s('text', { x: x(tick), y: 32, 'text-anchor': anchor }, String(tick)));
  }
  root.append(svg);
  if (interval) root.append(h('p', { class: 'ssrnet-age-says' }, say('interval', { low, high })));
  const doubts = list(face?.doubts, DOUBTS.length);
  if (doubts.length) {
    const known = doubts.filter((doubt) => DOUBTS.includes(doubt)).map((doubt) => say(`doubt.${doubt}`));
    const reasons = [...new Set(known)].join(say('doubts.separator'));
    const text = reasons ? say('doubts', { reasons }) : say('doubts.unknown');
    root.append(h('p', { class: 'ssrnet-age-doubts' }, text));
  }
  return root;
}

/** What the stages of several faces are drawn on: years from where a stage starts. @param {Reading[]} readings @param {number} k @returns {Span} */
function windowOf(readings, k) {
  let low = 0, high = 0;
  for (const stage of readings.flatMap((reading) => reading.stages[k] ?? [])) {
    const span = stage.fixed * stage.bins.length;
    const places = stage.bins.map((bin, i) => (i + bin.eta) * stage.width).filter(Number.isFinite);
    const ends = [...places, ...places.map((place) => place + stage.width), stage.contribution].filter(Number.isFinite);
    low = Math.min(low, ...ends.map((end) => Math.max(end, -span)));
    high = Math.max(high, span, ...ends.map((end) => Math.min(end, 2 * span)));
  }
  return [low, k === 0 ? Math.max(high, 100) : high || 1];
}

/**
 * A ruler of years that can roll: draws ticks for a span.
 *
 * @param {SVGElement} parent @param {number} y @param {number} size Of the span, years. @param {number} width Pixels.
 * @returns {(low: number) => void}
 */
function ruler(parent, y, size, width) {
  const step = STEPS.find((step) => (step / size) * width >= 46) ?? 1000;
  const ticks = Array.from({ length: Math.floor(size / step) + 2 }, () => {
    const line = s('line', { class: 'ssrnet-tick' });
    const text = s('text', { class: 'ssrnet-tick-label', 'text-anchor': 'middle' });
    parent.append(line, text);
    return { line, text };
  });
  return (low) => {
    const first = Math.ceil(low / step - 1e-9);
    ticks.forEach(({ line, text }, i) => {
      const years = (first + i) * step, at = ((years - low) / size) * width;
      set(line, { x1: at, x2: at, y1: y, y2: y + 5 });
      // a label that would be cut in half is left out
      set(text, { x: at < 8 || at > width - 10 ? NaN : at, y: y + 17 });
      text.textContent = step < 1 ? inTenths(years) : digits(years, 0);
    });
  };
}

/**
 * The stages of a face, each looking closer at where the one before ended.
 *
 * @param {Reading} reading @param {number} entry @param {Span[]} windows @param {number} highest p.
 * @param {number} width Pixels. @param {Say} say @param {string} label
 * @returns {{svg: SVGSVGElement, draw: Draw, bins: SVGGElement[][], select: (place: Place) => void}}
 */
function drawStages(reading, entry, windows, highest, width, say, label) {
  const { stages } = reading;
  const height = stages.length * (LANE + GAP) - GAP;
  const svg = s('svg', { class: 'ssrnet-stages', width, height, viewBox: `0 0 ${width} ${height}` });
  svg.setAttribute('role', 'group');
  svg.setAttribute('aria-label', label);
  /** @type {SVGGElement[][]} */
  const groups = [];
  const base = TITLE + BARS, cellTop = base + LINK, axis = cellTop + CELL;
  const lanes = stages.map((stage, k) => {
    const [low, high] = windows[k], size = high - low, y = k * (LANE + GAP);
    /** @param {number} years From where the stage starts. */
    const x = (years) => ((years - low) / size) * width;
    const few = stage.bins.length <= FEW;
    const kind = stages.length === 1 ? '' : k === 0 ? 'coarse' : k === stages.length - 1 ? 'finest' : 'finer';
    const funnel = s('polygon', { class: 'ssrnet-funnel' });
    const title = s('text', { class: 'ssrnet-title', x: 10, y: 18 }, say('stage', { k: k + 1 }));
    if (kind) title.append(s('tspan', { class: 'ssrnet-kind', dx: 8 }, say(kind)));
    const says = s('text', { class: 'ssrnet-says', x: width - 10, y: 18, 'text-anchor': 'end' });
    const lane = s('svg', { y, width, height: LANE });
    const group = s('g', { role: 'group', class: `ssrnet-stage ssrnet-stage-${(k % 4) + 1}` });
    group.setAttribute('aria-label', `${say('stage', { k: k + 1 })}: ${say('years', { age: inTenths(stage.shown) })}`);
    const origin = s('line', { class: 'ssrnet-origin', x1: x(0), x2: x(0), y1: TITLE, y2: axis });
    const lever = s('rect', { class: 'ssrnet-lever' });
    const mark = s('line', { class: 'ssrnet-mark', y1: TITLE, y2: axis + 6 });
    lane.append(s('rect', { class: 'ssrnet-lane', width, height: LANE, rx: 8 }), title, says, origin, lever);
    const bins = stage.bins.map((bin, i) => {
      const cell = between(i * stage.fixed, (i + 1) * stage.fixed, x);
      const parts = {
        bar: s('rect', { class: 'ssrnet-bar' }),
        link: s('polygon', { class: 'ssrnet-link' }),
        part: s('rect', { class: 'ssrnet-part' }),
        p: s('text', { class: 'ssrnet-p', 'text-anchor': 'middle' }, digits(bin.p, 3)),
      };
      const hit = few ? { y: base, height: LINK + CELL } : { y: TITLE, height: axis - TITLE };
      const node = s('g', { class: 'ssrnet-bin', role: 'button', tabindex: -1, 'aria-pressed': false });
      node.setAttribute('aria-label', describe(reading, k, i, say).label);
      Object.assign(node.dataset, { entry, stage: k, bin: i });
      node.append(parts.link, parts.bar, s('rect', { class: 'ssrnet-cell', ...cell, y: cellTop, height: CELL, rx: few ? 5 : 0 }));
      if (few) {
        const text = s('text', { class: 'ssrnet-cell-label', x: cell.x + cell.width / 2, y: cellTop + 19 });
        text.setAttribute('text-anchor', 'middle');
        text.append(s('tspan', { class: 'ssrnet-index' }, String(i)), s('tspan', { dx: 7 }, signed(bin.shown)));
        node.append(text);
      }
      node.append(s('rect', { class: 'ssrnet-hit', ...cell, ...hit }));
      return { node, ...parts, cell };
    });
    group.append(...bins.map((bin) => bin.node));
    groups.push(bins.map((bin) => bin.node));
    lane.append(group, ...bins.flatMap((bin) => [bin.part, bin.p]), mark);
    lane.classList.add(`ssrnet-stage-${(k % 4) + 1}`);
    const roll = ruler(lane, axis + 6, size, width);
    svg.append(funnel, lane);
    return { stage, lane, funnel, says, lever, mark, bins, x, y, roll, low, high, size };
  });
  let now = 0;
  /** @type {Place | null} */
  let chosen = null;

  /** @type {Draw} */
  const draw = (t) => {
    now = t;
    let bin = reading.V, run = 0;
    lanes.forEach(({ stage, lane, funnel, says, lever, mark, bins, x, y, roll, low, size }, k) => {
      const moved = movedAt(t, k), added = addedAt(t, k), start = run;
      bin = (bin / (bins.length || 1)) * mix(1, stage.factor, moved);
      const here = t >= stages.length || Math.floor(t) === k || (t <= 0);
      lane.classList.toggle('ssrnet-waiting', !here && k > t);
      let sum = 0;
      set(lever, { x: NaN });
      bins.forEach((parts, i) => {
        const { p, eta, share } = stage.bins[i];
        const left = (i + mix(0, eta, moved)) * bin, bar = between(left, left + bin, x);
        const tall = (clamp(p, 0, highest) / highest) * BARS;
        set(parts.bar, { ...bar, y: base - tall, height: tall });
        const top = `${bar.x},${base} ${bar.x + bar.width},${base}`;
        const { cell } = parts, ends = [bar.x, bar.width].every(Number.isFinite);
        set(parts.link, { points: ends ? `${top} ${cell.x + cell.width},${cellTop} ${cell.x},${cellTop}` : NaN });
        set(parts.part, { ...between(sum, sum + share * added, x), y: axis, height: 6 });
        const isChosen = chosen?.stage === k && chosen.bin === i;
        set(parts.p, { x: isChosen ? bar.x + bar.width / 2 : NaN, y: Math.max(base - tall - 5, TITLE + 6) });
        if (isChosen) set(lever, { ...between(0, left, x), y: base - tall, height: tall });
        sum += share * added;
      });
      run += mix(0, stage.contribution, added);
      set(mark, { x1: x(run - start), x2: x(run - start) });
      const said = added >= 1 ? stage.shown : added > 0 ? stage.contribution * added : 0;
      says.textContent = say('years', { age: k === 0 ? inTenths(said) : signed(said) });
      roll(Number.isFinite(start) ? start + low : low);
      if (k > 0) {
        const above = lanes[k - 1], from = start - aboveStart(k - 1, t);
        const ends = [from + low, from + low + size].map((years) => clamp(above.x(years), 0, width));
        const points = `${ends[0]},${y - GAP} ${ends[1]},${y - GAP} ${width},${y} 0,${y}`;
        set(funnel, { points: ends.every(Number.isFinite) ? points : NaN });
      }
    });
  };
  /** Where a stage starts at a time. @param {number} k @param {number} t */
  const aboveStart = (k, t) =>
    stages.slice(0, k).reduce((sum, stage, j) => sum + mix(0, stage.contribution, addedAt(t, j)), 0);
  /** @param {Place} place */
  const select = (place) => {
    chosen = place.entry === entry ? place : null;
    groups.forEach((nodes, k) =>
      nodes.forEach((node, i) => {
        const isChosen = chosen?.stage === k && chosen.bin === i;
        node.setAttribute('aria-pressed', String(isChosen));
        node.setAttribute('tabindex', isChosen || (!chosen && k === 0 && i === 0) ? '0' : '-1');
        lanes[k].bins[i].part.classList.toggle('ssrnet-chosen', isChosen);
      }),
    );
    draw(now);
  };
  return { svg, draw, bins: groups, select };
}

/** @param {number} value */
const signed = (value) => (value >= 0 ? `+${inTenths(value)}` : inTenths(value));

/**
 * A bin in words.
 *
 * @param {Reading} reading @param {number} k @param {number} i @param {Say} say
 */
function describe(reading, k, i, say) {
  const stage = reading.stages[k], { p, eta, shown } = stage.bins[i];
  /** @param {number} low @param {number} high */
  const range = (low, high) => say('range', { low: inTenths(low), high: inTenths(high) });
  const left = stage.start + (i + eta) * stage.width, grid = stage.start + i * stage.fixed;
  const values = { p: digits(p, 3), left: inTenths(left), start: inTenths(stage.start) };
  const facts = {
    p: values.p,
    fixed: range(grid, grid + stage.fixed),
    moved: range(left, left + stage.width),
    share: say('years', { age: inTenths(shown) }),
  };
  const how = say(k === 0 ? 'share.how.first' : 'share.how', values);
  return { facts, how, label: say('bin.label', { k: k + 1, i, ...facts }) };
}

/**
 * The stages added up to the age, a row for each reading, on one axis of years.
 *
 * @param {Reading[]} readings @param {Span} span Years. @param {number} width Pixels. @param {Say} say
 * @returns {{svg: SVGSVGElement, draw: Draw}}
 */
function drawSum(readings, [low, high], width, say) {
  const several = readings.length > 1, row = several ? 62 : 44, top = 6;
  const height = top + row * readings.length + 26;
  const svg = s('svg', { class: 'ssrnet-sum', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img' });
  svg.setAttribute('aria-label', `${say('axis')}: ${readings.map((reading) => equation(reading, say)).join('; ')}`);
  /** @param {number} years */
  const x = (years) => ((years - low) / (high - low)) * width;
  const rows = readings.map((reading, r) => {
    const y = top + r * row + (several ? 20 : 0);
    if (several) svg.append(s('text', { class: 'ssrnet-row', x: 0, y: y - 6 }, reading.weights));
    if (reading.interval) {
      svg.append(s('rect', { class: 'ssrnet-band', ...between(reading.interval[0], reading.interval[1], x), y, height: 34, rx: 4 }));
    }
    const parts = reading.stages.map((_, k) => s('rect', { class: `ssrnet-term ssrnet-stage-${(k % 4) + 1}` }));
    const mark = s('line', { class: 'ssrnet-total', y1: y, y2: y + 34 });
    const text = s('text', { class: 'ssrnet-total-label', y: y + 22 });
    svg.append(...parts, mark, text);
    return { reading, y, parts, mark, text };
  });
  ruler(svg, height - 24, high - low, width)(low);
  /** @type {Draw} */
  const draw = (t) => {
    for (const { reading, y, parts, mark, text } of rows) {
      let run = 0;
      reading.stages.forEach(({ contribution }, k) => {
        const next = run + mix(0, contribution, addedAt(t, k));
        set(parts[k], { ...between(run, next, x), y: y + 9, height: 16 });
        run = next;
      });
      const at = x(run), end = reading.interval ? Math.max(x(reading.interval[1]), at) : at;
      set(mark, { x1: at, x2: at });
      const right = end + 110 < width;
      set(text, { x: right ? end + 8 : Math.min(at, x(reading.interval?.[0] ?? run)) - 8, 'text-anchor': right ? 'start' : 'end' });
      text.textContent = say('years', { age: inTenths(t >= reading.stages.length ? reading.shown : run) });
    }
  };
  return { svg, draw };
}

/** The sum of the stages in numbers. @param {Reading} reading @param {Say} say */
function equation({ stages, total, shown, age }, say) {
  if (!stages.length) return say('no stages');
  if (!Number.isFinite(total)) return say('no age');
  const terms = stages.map(({ shown }, k) => `${k === 0 ? '' : shown < 0 ? ' − ' : ' + '}${inTenths(k === 0 ? shown : Math.abs(shown))}`);
  const values = { sum: terms.join(''), total: say('years', { age: inTenths(shown) }) };
  const clamped = Number.isFinite(age) && Math.abs(age - total) > 0.05;
  return clamped ? say('clamped', { ...values, age: inTenths(age) }) : say('sum', values);
}

/**
 * Shows how one or more sets of weights came to the age of a face.
 *
 * @param {HTMLElement} element Its content is replaced.
 * @param {Entry[]} entries One for each set of weights.
 * @param {Options} [options] `language` as a tag; `number` of the face, from 1; `autoplay` plays once, unless the
 *   visitor prefers less motion.
 * @returns {{update: (entries: Entry[], options?: Options) => void, destroy: () => void}} `update` keeps the options
 *   that it is not given.
 */
export function mountBreakdown(element, entries, options = {}) {
  /** @type {Required<Options>} */
  let settings = { language: 'en', number: 1, autoplay: false, ...options };
  /** @type {Reading[]} */
  let readings = [];
  let say = translator('en');
  let stages = 0, time = 0, frame = 0, width = 0;
  /** @type {Place | null} */
  let chosen = null;
  /** @type {ReturnType<typeof drawStages>[]} */
  let figures = [];
  /** @type {Draw[]} */
  let draws = [];

  const intro = h('p', { class: 'ssrnet-intro' });
  const play = h('button', { type: 'button', class: 'ssrnet-play' });
  const slider = h('input', { type: 'range', min: 0, step: 0.05, class: 'ssrnet-slider' });
  const label = h('span', { class: 'ssrnet-slider-label' });
  const now = h('p', { class: 'ssrnet-now' });
  const controls = h('div', { class: 'ssrnet-controls' }, play, h('label', {}, label, slider), now);
  const drawings = h('div', { class: 'ssrnet-figures' });
  const sum = h('figure', { class: 'ssrnet-sums' });
  const details = h('div', { class: 'ssrnet-details', 'aria-live': 'polite' });
  const body = h('div', { class: 'ssrnet-body' }, intro, controls, drawings, sum, details);
  const root = h('section', { class: 'ssrnet-breakdown' }, body);
  element.replaceChildren(root);

  /** @param {number} t */
  function show(t) {
    time = clamp(t, 0, stages);
    slider.value = String(time);
    const k = Math.min(Math.floor(time), stages - 1), single = readings.length === 1;
    const text =
      time <= 0 ? say(stages === 1 ? 'grid.one' : 'grid')
      : time >= stages ? (single ? equation(readings[0], say) : say('axis'))
      : say(time - k < 0.5 ? 'moving' : 'adding', { k: k + 1 });
    now.textContent = text;
    slider.setAttribute('aria-valuetext', text);
    draws.forEach((draw) => draw(time));
  }

  function stop() {
    cancelAnimationFrame(frame);
    frame = 0;
    play.classList.remove('ssrnet-playing');
    play.textContent = say('play');
  }

  function start() {
    const calm = matchMedia('(prefers-reduced-motion: reduce)').matches;
    const from = time >= stages ? 0 : time;
    /** @type {number | null} */
    let since = null;
    play.classList.add('ssrnet-playing');
    play.textContent = say('pause');
    /** @param {number} at */
    const step = (at) => {
      since ??= at;
      const t = from + (at - since) / 1000 / SECONDS_PER_STAGE;
      show(calm ? Math.floor(2 * t) / 2 : t);
      if (time < stages) frame = requestAnimationFrame(step);
      else stop();
    };
    frame = requestAnimationFrame(step);
  }

  /** @param {Place} place */
  function select(place) {
    const reading = readings[place.entry], stage = reading?.stages[place.stage];
    if (!stage?.bins[place.bin]) return;
    chosen = place;
    figures.forEach((figure) => figure.select(place));
    const { facts, how } = describe(reading, place.stage, place.bin, say);
    const title = h('p', { class: `ssrnet-details-title ssrnet-stage-${(place.stage % 4) + 1}` });
    title.append(say('bin', { k: place.stage + 1, i: place.bin }));
    if (readings.length > 1) title.append(h('small', {}, reading.weights));
    const rows = Object.entries(facts).map(([key, value]) => {
      const dd = h('dd', { 'data-fact': key }, h('span', {}, value));
      if (key === 'share') dd.prepend(h('small', {}, `${how} = `));
      return h('div', {}, h('dt', {}, say(key)), dd);
    });
    details.replaceChildren(title, h('dl', {}, ...rows), h('p', { class: 'ssrnet-hint' }, say('hint')));
  }

  function layOut() {
    const focused = drawings.contains(document.activeElement);
    width = Math.max(Math.floor(drawings.clientWidth), 260);
    const columns = Math.max(Math.min(readings.length, Math.floor(width / 340)), 1);
    const each = Math.floor((width - 24 * (columns - 1)) / columns);
    const windows = Array.from({ length: stages }, (_, k) => windowOf(readings, k));
    const weights = readings.flatMap((reading) => reading.stages.flatMap((stage) => stage.bins.map((bin) => bin.p)));
    const highest = Math.max(...weights.filter(Number.isFinite), 0) || 1;
    const several = readings.length > 1;
    figures = readings.map((reading, e) => {
      const values = { number: settings.number, weights: reading.weights };
      return drawStages(reading, e, windows, highest, each, say, say(several ? 'figure.named' : 'figure', values));
    });
    drawings.replaceChildren(
      ...figures.map(({ svg }, e) => {
        const figure = h('figure', {}, svg);
        if (several || !readings[e].stages.length) {
          const caption = h('figcaption', {}, h('b', {}, readings[e].weights), h('span', {}, equation(readings[e], say)));
          figure.prepend(caption);
        }
        return figure;
      }),
    );
    const total = drawSum(readings, windows[0] ?? [0, 100], width, say);
    sum.replaceChildren(h('figcaption', {}, say('axis')), total.svg);
    draws = [...figures.map((figure) => figure.draw), total.draw];
    if (chosen) select(chosen);
    show(time);
    if (focused && chosen) figures[chosen.entry]?.bins[chosen.stage]?.[chosen.bin]?.focus();
  }

  /** @param {Entry[]} given @param {Options} [more] */
  function update(given, more = {}) {
    stop();
    const first = stages === 0;
    const atEnd = first || time >= stages;
    settings = { ...settings, ...more };
    say = translator(settings.language);
    readings = list(given, 8).map(read);
    stages = Math.max(0, ...readings.map((reading) => reading.stages.length));
    const counts = new Set(readings.map((reading) => reading.stages.length));
    const count = say(`stages.${stages}`) || say('stages.several');
    intro.textContent = stages > 1 || counts.size > 1 ? say('intro', { stages: count }) : say('intro.one');
    root.lang = settings.language;
    root.classList.toggle('ssrnet-empty', stages === 0);
    slider.max = String(stages);
    label.textContent = say('slider');
    stop();
    if (!chosen || !readings[chosen.entry]?.stages[chosen.stage]?.bins[chosen.bin]) chosen = largest(readings);
    time = atEnd ? stages : Math.min(time, stages);
    layOut();
    if (!chosen) details.replaceChildren();
    if (settings.autoplay && !matchMedia('(prefers-reduced-motion: reduce)').matches && stages) {
      show(0);
      start();
    }
  }

  /** @param {EventTarget | null} target @returns {Place | null} */
  function placeOf(target) {
    const node = target instanceof Element ? target.closest('.ssrnet-bin') : null;
    if (!(node instanceof SVGElement) || !drawings.contains(node)) return null;
    return { entry: Number(node.dataset.entry), stage: Number(node.dataset.stage), bin: Number(node.dataset.bin) };
  }

  /** @param {Place | null} place */
  function pick(place) {
    if (place && (place.entry !== chosen?.entry || place.stage !== chosen.stage || place.bin !== chosen.bin)) select(place);
  }

  for (const kind of /** @type {const} */ (['pointerover', 'pointerdown', 'pointermove'])) {
    drawings.addEventListener(kind, (event) => {
      // a finger stays with the bin that it touched first, whatever it is over
      const under = event.pointerType === 'touch' ? document.elementFromPoint(event.clientX, event.clientY) : null;
      pick(placeOf(under ?? event.target));
    });
  }
  drawings.addEventListener('focusin', (event) => pick(placeOf(event.target)));
  drawings.addEventListener('keydown', (event) => {
    const at = placeOf(event.target);
    if (!at) return;
    const lanes = figures[at.entry].bins, lane = lanes[at.stage];
    const flat = lanes.flat(), index = flat.indexOf(lane[at.bin]);
    const other = lanes[at.stage + (event.key === 'ArrowDown' ? 1 : event.key === 'ArrowUp' ? -1 : 0)];
    /** @type {Record<string, SVGGElement | undefined>} */
    const targets = {
      ArrowRight: flat[index + 1],
      ArrowLeft: flat[index - 1],
      ArrowDown: other?.[Math.min(at.bin, other.length - 1)],
      ArrowUp: other?.[Math.min(at.bin, other.length - 1)],
      Home: flat[0],
      End: flat.at(-1),
    };
    if (!Object.hasOwn(targets, event.key)) return;
    event.preventDefault();
    targets[event.key]?.focus();
  });
  slider.addEventListener('input', () => {
    stop();
    show(Number(slider.value));
  });
  play.addEventListener('click', () => (frame ? stop() : start()));
  const observer = new ResizeObserver(() => {
    if (Math.abs(drawings.clientWidth - width) >= 1 && drawings.clientWidth) layOut();
  });
  update(entries);
  observer.observe(drawings);

  return {
    update,
    destroy() {
      stop();
      observer.disconnect();
      root.remove();
    },
  };
}

/** The bin with the largest share of any age. @param {Reading[]} readings @returns {Place | null} */
function largest(readings) {
  /** @type {Place | null} */
  let place = null;
  let most = -1;
  readings.slice(0, 1).forEach((reading, entry) =>
    reading.stages.forEach((stage, k) =>
      stage.bins.forEach(({ share }, i) => {
        const size = Number.isFinite(share) ? Math.abs(share) : 0;
        if (size > most) [most, place] = [size, { entry, stage: k, bin: i }];
      }),
    ),
  );
  return place;
}
