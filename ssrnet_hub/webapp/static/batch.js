/** Many photos: how many faces there are of each age, a row a face, and files to save. */
import { h, s } from './dom.js';
import { sayError } from './errors.js';
import { follow } from './parts.js';
import { digits, inTenths } from './stages.js';
import { translator } from './strings.js';

const STEP = 10;

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { watch }) {
  let links = [];
  follow(props, watch, (value, language, say) => {
    links.forEach((link) => URL.revokeObjectURL(link));
    links = [];
    element.replaceChildren();
    if (!value?.rows) return;
    const { rows, files } = value;
    if (files) element.append(summary(rows, files, say));
    const ages = rows.flatMap((row) => row.faces.map((face) => face.age)).filter((age) => typeof age === 'number');
    if (ages.length > 1) element.append(histogram(ages, say));
    element.append(table(rows, say, language));
  });

  function summary(rows, files, say) {
    const broken = rows.filter((row) => row.error !== null).length;
    const counted = say(rows.length === 1 ? 'photos.one' : 'photos', { count: rows.length });
    const photos = broken ? say('broken', { photos: counted, count: broken }) : counted;
    return h('p', { class: 'ssr-summary', id: 'files' }, say('save', { photos }),
      ...Object.entries(files).map(([name, content]) => {
        const type = name.endsWith('.csv') ? 'text/csv' : 'application/json';
        links.push(URL.createObjectURL(new Blob([content], { type })));
        return h('a', { class: 'ssr-file', download: name, href: links.at(-1) }, name);
      }));
  }
}

function histogram(ages, say) {
  const counts = Array(Math.max(10, Math.ceil(Math.max(...ages) / STEP))).fill(0);
  for (const age of ages) counts[Math.min(Math.floor(age / STEP), counts.length - 1)] += 1;
  const most = Math.max(...counts), width = 100 / counts.length;
  const bars = counts.flatMap((count, i) => {
    const label = say('histogram.bin', { low: i * STEP, high: (i + 1) * STEP, count });
    const height = (84 * count) / most;
    return [
      s('rect', { class: 'ssr-bar-of', x: `${i * width + 0.6}%`, width: `${width - 1.2}%`, y: 100 - height, height },
        s('title', {}, label)),
      s('text', { x: `${(i + 0.5) * width}%`, y: 94 - height, 'text-anchor': 'middle' }, count ? String(count) : ''),
      s('text', { x: `${i * width}%`, y: 118, 'text-anchor': i ? 'middle' : 'start' }, String(i * STEP)),
    ];
  });
  const said = counts.flatMap((count, i) =>
    count ? say('histogram.bin', { low: i * STEP, high: (i + 1) * STEP, count }) : []);
  return h('figure', { class: 'ssr-histogram' }, h('figcaption', {}, say('histogram')),
    s('svg', { role: 'img', 'aria-label': say('histogram.label', { bins: said.join(say('semicolon')) }) }, ...bars));
}

function table(rows, say, language) {
  const words = translator(language);
  const heads = ['picture', 'file', 'number', 'age', 'interval', 'score', 'note'];
  const cells = rows.flatMap((row) => {
    const faces = row.faces.length ? row.faces : [null];
    return faces.map((face, i) => {
      const first = i === 0;
      const picture = h('td', {}, first && row.picture ? h('img', { src: row.picture, alt: '' }) : '');
      const file = h('th', { scope: 'row' }, row.file);
      if (!face) return h('tr', {}, picture, file, h('td', { colspan: 5 }, row.error ? sayError(row.error, language) : say('no face found')));
      const turned = face.turned ? say('comma') + say('rotated', { degrees: face.turned }) : '';
      const ends = face.interval ? words('range', { low: digits(face.interval[0], 0), high: digits(face.interval[1], 0) }) : '';
      const reasons = (face.doubts ?? []).map((doubt) => words(`doubt.${doubt}`)).join(words('doubts.separator'));
      return h('tr', {}, picture, file,
        ...[i + 1, inTenths(face.age), ends, `${Math.round(100 * face.score)}%${turned}`,
          reasons && words('doubts', { reasons })].map((text) => h('td', {}, String(text))));
    });
  });
  return h('div', { class: 'ssr-scroll', tabindex: 0, role: 'region', 'aria-label': say('table') },
    h('table', { class: 'ssr-table' },
      h('thead', {}, h('tr', {}, ...heads.map((head) => h('th', { scope: 'col' }, say(head))))),
      h('tbody', {}, ...cells)));
}
