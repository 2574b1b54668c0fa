/** The ages of the people of a video over time; a line follows the place that is played, and a click goes to another. */
import { h, s } from './dom.js';
import { follow } from './parts.js';
import { digits } from './stages.js';

const COLORS = 6, WIDTH = 900, HEIGHT = 300, LEFT = 34, BOTTOM = 26, TOP = 8, GAP = 1;

/** @param {HTMLElement} element @param {any} props @param {any} gradio */
export function mount(element, props, { watch }) {
  let stop = null;
  follow(props, watch, (value, language, say) => {
    stop?.();
    element.replaceChildren();
    if (!value?.people) return;
    const { people } = value;
    if (!people.length) {
      element.append(h('p', { class: 'ssr-hint' }, say('no people')));
      return;
    }
    const counted = say(people.length === 1 ? 'people.one' : 'people', { count: people.length });
    const { svg, at } = chart(people, say);
    element.append(h('figure', { class: 'ssr-chart' }, h('figcaption', {}, say('over', { people: counted })), svg));
    stop = play(svg, at);
  });
}

/** Ties the line to the video, whichever element that is by now. */
function play(svg, at) {
  let frame = 0;
  const video = () => document.querySelector('#copy video');
  const tick = () => {
    at.show(video()?.currentTime ?? 0);
    frame = requestAnimationFrame(tick);
  };
  tick();
  svg.addEventListener('click', (event) => {
    const box = svg.getBoundingClientRect();
    go(at.seconds(((event.clientX - box.left) / box.width) * WIDTH));
  });
  svg.addEventListener('keydown', (event) => {
    const step = { ArrowLeft: -0.5, ArrowRight: 0.5 }[event.key];
    if (!step) return;
    event.preventDefault();
    go((video()?.currentTime ?? 0) + step);
  });
  function go(seconds) {
    if (video()) video().currentTime = Math.max(seconds, 0);
  }
  return () => cancelAnimationFrame(frame);
}

function chart(people, say) {
  const points = people.flatMap((person) => person.points);
  const end = Math.max(...points.map(([seconds]) => seconds), 0.1);
  const ages = points.flatMap(([, raw, smooth]) => [raw, smooth]);
  const low = Math.max(Math.floor((Math.min(...ages) - 2) / 5) * 5, 0), high = Math.ceil((Math.max(...ages) + 2) / 5) * 5;
  const x = (seconds) => LEFT + (seconds / end) * (WIDTH - LEFT - 30);
  const y = (age) => TOP + ((high - age) / (high - low)) * (HEIGHT - TOP - BOTTOM);
  const svg = s('svg', {
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`, tabindex: 0, role: 'slider', 'aria-label': say('film axis'),
    'aria-valuemin': 0, 'aria-valuemax': Math.round(end * 10) / 10, 'aria-valuenow': 0,
  });
  const step = (high - low) / 5 > 10 ? 20 : (high - low) / 5 > 4 ? 10 : 5;
  for (let age = Math.ceil(low / step) * step; age <= high; age += step) {
    svg.append(s('line', { class: 'ssr-grid', x1: LEFT, x2: WIDTH, y1: y(age), y2: y(age) }),
      s('text', { x: LEFT - 6, y: y(age) + 4, 'text-anchor': 'end' }, String(age)));
  }
  const tick = [0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 30, 60].find((seconds) => end / seconds <= 8) ?? 120;
  for (let i = 0; i * tick <= end; i += 1) {
    const seconds = Math.round(i * tick * 10) / 10;
    svg.append(s('text', { x: x(seconds), y: HEIGHT - 6, 'text-anchor': 'middle' }, say('seconds', { seconds })));
  }
  for (const { person, points } of people) {
    const group = s('g', { class: `ssr-person ssr-person-${(person - 1) % COLORS}`, 'data-person': person });
    group.append(...points.map(([seconds, raw]) => s('circle', { cx: x(seconds), cy: y(raw), r: 2 })));
    const path = points.map(([seconds, , smooth], i) => {
      const gap = i === 0 || seconds - points[i - 1][0] > GAP;
      return `${gap ? 'M' : 'L'}${x(seconds).toFixed(1)} ${y(smooth).toFixed(1)}`;
    }).join('');
    const [seconds, , smooth] = points.at(-1);
    group.append(s('path', { d: path }), s('text', { x: x(seconds) + 8, y: y(smooth) + 5 }, String(person)));
    svg.append(group);
  }
  const line = s('line', { class: 'ssr-playhead', y1: TOP, y2: HEIGHT - BOTTOM });
  svg.append(line);
  return {
    svg,
    at: {
      seconds: (at) => ((at - LEFT) / (WIDTH - LEFT - 30)) * end,
      show(seconds) {
        const place = x(Math.min(seconds, end)).toFixed(1);
        if (line.getAttribute('x1') === place) return;
        line.setAttribute('x1', place);
        line.setAttribute('x2', place);
        svg.setAttribute('aria-valuenow', String(Math.round(seconds * 10) / 10));
        const now = people.flatMap(({ person, points }) => {
          const near = points.filter(([at]) => Math.abs(at - seconds) <= GAP / 2).at(-1);
          return near ? say('person', { person, age: digits(near[2], 0) }) : [];
        });
        svg.setAttribute('aria-valuetext', [say('seconds', { seconds: seconds.toFixed(1) }), ...now].join(say('comma')));
      },
    },
  };
}
